//! What a seed suggests, and what is made of suggestions (BEP 6).

use std::collections::BTreeSet;

use super::rig::{BLOCK, Rig};
use crate::time::Duration;
use crate::torrent::{CoreToShard, PeerKey, ShardToCore, SharedPieces};
use crate::wire::Message;

fn suggested(rig: &mut Rig, key: PeerKey) -> Vec<u32> {
    let number = |message| match message {
        Message::SuggestPiece { piece } => Some(piece),
        _ => None,
    };
    rig.heard(key).into_iter().filter_map(number).collect()
}

/// Peers of that shard which have nothing, want everything and are served.
fn takers(rig: &mut Rig, shard: usize, lasts: std::ops::Range<u8>) -> Vec<PeerKey> {
    let keys: Vec<PeerKey> = lasts.map(|last| rig.join(shard, last)).collect();
    for &key in &keys {
        rig.says(key, Message::HaveNone);
        rig.says(key, Message::Interested);
    }
    rig.core(shard, CoreToShard::Slots { unchoke: keys.clone(), choke: vec![] });
    keys
}

#[test]
fn a_seed_suggests_each_piece_to_one() {
    let mut rig = Rig::seed(30, 2);
    let keys = takers(&mut rig, 0, 1..3);
    let (a, b) = (suggested(&mut rig, keys[0]), suggested(&mut rig, keys[1]));
    assert_eq!((a.len(), b.len()), (8, 8));
    let all: BTreeSet<u32> = a.iter().chain(&b).copied().collect();
    assert_eq!(all.len(), 16);
    rig.says(keys[0], Message::Request(rig.span(a[3], 0)));
    rig.says(keys[0], Message::Request(rig.span(a[3], 1)));
    let next = suggested(&mut rig, keys[0]);
    assert!(next.len() == 1 && !all.contains(&next[0]), "one more for each that is taken up: {next:?}");
}

#[test]
fn two_shards_of_a_seed_do_not_suggest_the_same() {
    let mut rig = Rig::with(2, 30, 1, SharedPieces::complete(30), 1 << 20);
    let keys = [takers(&mut rig, 0, 1..3), takers(&mut rig, 1, 3..5)].concat();
    let all: Vec<u32> = keys.into_iter().flat_map(|key| suggested(&mut rig, key)).collect();
    assert_eq!((all.len(), all.into_iter().collect::<BTreeSet<u32>>().len()), (30, 30));
}

#[test]
fn what_others_have_or_asked_for_is_not_suggested() {
    let mut rig = Rig::seed(20, 1);
    let other = rig.join(0, 1);
    rig.says(other, rig.bitfield(&[0, 1, 2, 3, 4]));
    let keys = takers(&mut rig, 0, 2..3);
    let mut all = suggested(&mut rig, keys[0]);
    let spontaneous = (5..20).find(|number| !all.contains(number)).unwrap();
    rig.says(keys[0], Message::Request(rig.span(spontaneous, 0)));
    for at in 0.. {
        let Some(&number) = all.get(at) else { break };
        rig.says(keys[0], Message::Request(rig.span(number, 0)));
        all.extend(suggested(&mut rig, keys[0]));
    }
    let all: BTreeSet<u32> = all.into_iter().collect();
    assert!(all.len() == 14 && all.iter().all(|&number| number >= 5 && number != spontaneous), "{all:?}");
}

#[test]
fn what_is_not_taken_up_is_suggested_to_others() {
    for leaves in [true, false] {
        let mut rig = Rig::seed(8, 1);
        let first = takers(&mut rig, 0, 1..2)[0];
        assert_eq!(suggested(&mut rig, first).len(), 8);
        let second = takers(&mut rig, 0, 2..3)[0];
        assert_eq!(suggested(&mut rig, second), []);
        if leaves {
            rig.leaves(first);
        } else {
            rig.core(0, CoreToShard::Slots { unchoke: vec![], choke: vec![first] });
        }
        let third = takers(&mut rig, 0, 3..4)[0];
        assert_eq!(suggested(&mut rig, third).len(), 8);
    }
}

#[test]
fn only_a_seed_suggests_and_only_to_those_who_understand() {
    let mut rig = Rig::having(9, 1, &[0, 1, 2]);
    let key = takers(&mut rig, 0, 1..2)[0];
    assert_eq!(suggested(&mut rig, key), []);
    let mut rig = Rig::seed(9, 1);
    let old = rig.join_as(0, 1, false, true);
    rig.says(old, Message::Interested);
    rig.core(0, CoreToShard::Slots { unchoke: vec![old], choke: vec![] });
    assert_eq!(suggested(&mut rig, old), []);
}

#[test]
fn of_equally_rare_pieces_the_suggested_one_is_taken() {
    for number in 1..9 {
        let mut rig = Rig::having(9, 40, &[0]);
        let key = rig.join(0, 1);
        rig.says(key, Message::HaveAll);
        rig.says(key, Message::SuggestPiece { piece: number });
        rig.says(key, Message::Unchoke);
        assert_eq!(rig.requests(key)[0], rig.span(number, 0));
    }
}

#[test]
fn a_suggestion_does_not_come_before_what_is_rarer() {
    let mut rig = Rig::having(9, 40, &[0]);
    let other = rig.join(0, 2);
    rig.says(other, rig.bitfield(&[1, 2, 3, 4, 5, 6, 8]));
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveAll);
    for piece in (1..9).filter(|&piece| piece != 7).chain([0, 99]) {
        rig.says(key, Message::SuggestPiece { piece });
    }
    rig.says(key, Message::Unchoke);
    assert_eq!(rig.requests(key)[0], rig.span(7, 0));
}

/// What a peer had of us first counts once another has it, wherever that one is connected.
#[test]
fn who_passes_on_a_new_piece_is_noted() {
    let mut rig = Rig::with(2, 30, 2, SharedPieces::complete(30), 1 << 20);
    let (keeps, gives) = (takers(&mut rig, 0, 1..2)[0], takers(&mut rig, 0, 2..3)[0]);
    let (near, far) = (rig.join(0, 3), rig.join(1, 4));
    let kept = suggested(&mut rig, keeps);
    let given = suggested(&mut rig, gives);
    rig.says(keeps, Message::Request(rig.span(kept[0], 0)));
    rig.says(keeps, Message::Have { piece: kept[0] });
    for (&number, other) in given.iter().zip([near, far]) {
        rig.says(gives, Message::Request(rig.span(number, 0)));
        rig.says(gives, Message::Have { piece: number });
        rig.says(other, Message::Have { piece: number });
    }
    rig.wait(Duration::from_millis(200));
    rig.deliver();
    rig.core(0, CoreToShard::ReportRates(1));
    let Some(ShardToCore::Rates(1, rates)) = rig.reports.pop() else { panic!("{:?}", rig.reports) };
    let passed_on = |key| rates.iter().find(|rates| rates.peer == key).unwrap().passed_on;
    assert_eq!((passed_on(keeps), passed_on(gives), passed_on(near)), (0, 2 * u64::from(2 * BLOCK), 0));
}
