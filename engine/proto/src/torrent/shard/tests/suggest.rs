//! What a seed suggests, and what is made of suggestions (BEP 6).

use std::collections::BTreeSet;

use super::super::Outgoing;
use super::rig::{BLOCK, Rig};
use crate::picker::Order;
use crate::time::Duration;
use crate::torrent::{CoreToShard, PeerKey, PeerRates, Policy, ShardToCore, SharedPieces};
use crate::wire::{Message, RawSpan};

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
    assert_eq!((a.len(), b.len()), (2, 2));
    let all: BTreeSet<u32> = a.iter().chain(&b).copied().collect();
    assert_eq!(all.len(), 4);
    rig.says(keys[0], Message::Request(rig.span(a[1], 0)));
    rig.says(keys[0], Message::Request(rig.span(a[1], 1)));
    let next = suggested(&mut rig, keys[0]);
    assert!(
        next.len() == 2 && next.iter().all(|piece| !all.contains(piece)),
        "the more, the faster they go: {next:?}"
    );
}

#[test]
fn two_shards_of_a_seed_do_not_suggest_the_same() {
    let mut rig = Rig::with(2, 30, 1, SharedPieces::complete(30), 1 << 20);
    let keys = [takers(&mut rig, 0, 1..3), takers(&mut rig, 1, 3..5)].concat();
    let all: Vec<u32> = keys.into_iter().flat_map(|key| suggested(&mut rig, key)).collect();
    assert_eq!((all.len(), all.into_iter().collect::<BTreeSet<u32>>().len()), (8, 8));
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
    for way in 0..3 {
        let mut rig = Rig::seed(2, 1);
        let first = takers(&mut rig, 0, 1..2)[0];
        assert_eq!(suggested(&mut rig, first).len(), 2);
        let second = takers(&mut rig, 0, 2..3)[0];
        assert_eq!(suggested(&mut rig, second), []);
        match way {
            0 => rig.leaves(first),
            1 => rig.says(first, Message::NotInterested),
            _ => rig.core(0, CoreToShard::Slots { unchoke: vec![], choke: vec![first] }),
        }
        let third = takers(&mut rig, 0, 3..4)[0];
        assert_eq!(suggested(&mut rig, third).len(), 2);
    }
}

/// What a peer got and nobody else did leaves with it.
#[test]
fn what_left_with_its_only_holder_is_suggested_to_others() {
    let mut rig = Rig::seed(2, 1);
    let first = takers(&mut rig, 0, 1..2)[0];
    for number in suggested(&mut rig, first) {
        rig.says(first, Message::Request(rig.span(number, 0)));
        rig.sent(first);
    }
    rig.leaves(first);
    let second = takers(&mut rig, 0, 2..3)[0];
    assert_eq!(suggested(&mut rig, second).len(), 2);
}

/// However often it changes hands: each piece that came back is remembered once.
#[test]
fn what_comes_back_again_and_again_takes_no_more_memory() {
    let mut rig = Rig::seed(4, 1);
    let key = takers(&mut rig, 0, 1..2)[0];
    let number = suggested(&mut rig, key)[0];
    for _ in 0..200 {
        rig.says(key, Message::Request(rig.span(number, 0)));
        rig.says(key, Message::Cancel(rig.span(number, 0)));
        rig.sent(key);
    }
    assert!(rig.shards[0].memory() < 2_000, "{}", rig.shards[0].memory());
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

/// A seed knows better what is elsewhere, and one that has not everything only hints.
#[test]
fn a_hint_does_not_come_before_what_is_rarer() {
    let mut rig = Rig::having(9, 40, &[0]);
    let other = rig.join(0, 2);
    rig.says(other, rig.bitfield(&[1, 2, 3, 4, 5, 6, 8]));
    let key = rig.join(0, 1);
    rig.says(key, rig.bitfield(&[1, 2, 3, 4, 5, 6, 7, 8]));
    for piece in (1..9).filter(|&piece| piece != 7).chain([0, 99]) {
        rig.says(key, Message::SuggestPiece { piece });
    }
    rig.says(key, Message::Unchoke);
    assert_eq!(rig.requests(key)[0], rig.span(7, 0));
}

/// A seed that serves us, of a torrent of `pieces` pieces of 2 blocks, having suggested these.
fn advised(pieces: u32, fast: bool, numbers: &[u32]) -> (Rig, PeerKey) {
    let mut rig = Rig::having(pieces, 2, &[0]);
    let key = rig.join_as(0, 1, fast, true);
    rig.says(key, if fast { Message::HaveAll } else { rig.bitfield(&(0..pieces).collect::<Vec<_>>()) });
    for &piece in numbers {
        rig.says(key, Message::SuggestPiece { piece });
    }
    rig.says(key, Message::Unchoke);
    (rig, key)
}

fn pieces_of(requests: &[RawSpan]) -> BTreeSet<u32> {
    requests.iter().map(|span| span.piece).collect()
}

#[test]
fn a_seed_that_suggests_is_asked_for_nothing_else_for_a_while() {
    let (mut rig, key) = advised(90, true, &[7, 8]);
    let requests = rig.requests(key);
    assert_eq!(pieces_of(&requests), BTreeSet::from([7, 8]));
    rig.says(key, Message::SuggestPiece { piece: 9 });
    assert_eq!(pieces_of(&rig.requests(key)), BTreeSet::from([9]), "at once");
    rig.wait(Duration::from_secs(1));
    for span in requests.into_iter().chain([rig.span(9, 0), rig.span(9, 1)]) {
        rig.gives(key, span);
    }
    assert_eq!(rig.requests(key), []);
    rig.wait(Duration::from_secs(4));
    assert_ne!(rig.requests(key), [], "it suggests nothing more");
}

/// Some clients suggest what they have in memory, for others asked for it.
#[test]
fn a_seed_that_suggests_what_others_have_is_asked_for_the_rest_at_once() {
    for suggested in [vec![0, 0, 0], vec![0, 7, 8, 9], vec![20, 7, 8, 9]] {
        let mut rig = Rig::having(90, 2, &[0]);
        let other = rig.join(0, 9);
        rig.says(other, rig.bitfield(&[7, 8, 9]));
        let key = rig.join(0, 1);
        rig.says(key, Message::HaveAll);
        suggested.iter().for_each(|&piece| rig.says(key, Message::SuggestPiece { piece }));
        rig.says(key, Message::Unchoke);
        assert!(
            pieces_of(&rig.requests(key)).iter().any(|piece| !suggested.contains(piece)),
            "{suggested:?}"
        );
    }
}

/// Who wants to read the content as it comes is not led astray.
#[test]
fn in_order_suggestions_are_hints() {
    let policy = Policy { order: Order::Sequential, ..Policy::default() };
    let mut rig = Rig::with_policy(1, 90, 2, SharedPieces::free(90), 1 << 20, policy);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveAll);
    rig.says(key, Message::SuggestPiece { piece: 50 });
    rig.says(key, Message::Unchoke);
    assert_eq!(rig.requests(key)[0], rig.span(0, 0));
}

/// One who wants the content in order, served by a seed that suggests these.
fn in_order(numbers: &[u32]) -> BTreeSet<u32> {
    let policy = Policy { order: Order::Sequential, ..Policy::default() };
    let mut rig = Rig::with_policy(1, 900, 2, SharedPieces::free(900), 1 << 20, policy);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveAll);
    numbers.iter().for_each(|&piece| rig.says(key, Message::SuggestPiece { piece }));
    rig.says(key, Message::Unchoke);
    pieces_of(&rig.requests(key))
}

/// Else all of a swarm would ask a seed for the same: it gives each piece to one, who passes it on.
#[test]
fn a_seed_that_suggests_in_order_may_be_some_pieces_ahead() {
    assert_eq!(in_order(&[40, 47, 90]), BTreeSet::from([40, 47, 90]));
    assert!(in_order(&[210, 47]).is_disjoint(&BTreeSet::from([210, 47])), "in no order");
    assert!(in_order(&[600, 610]).is_disjoint(&BTreeSet::from([600, 610])), "too far ahead");
}

#[test]
fn who_wants_the_content_in_order_is_suggested_the_next_that_is_new() {
    let mut rig = Rig::seed(600, 1);
    let keys = takers(&mut rig, 0, 1..4);
    keys.iter().for_each(|&key| _ = suggested(&mut rig, key));
    let mut all = Vec::new();
    for &key in &keys {
        for number in 0..3 {
            rig.says(key, Message::Request(rig.span(number, 0)));
        }
        all.extend(suggested(&mut rig, key));
    }
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted_by(|a, b| a < b) && all.iter().all(|number| (3..12).contains(number)), "{all:?}");
    rig.wait(Duration::from_secs(1));
    let newcomer = takers(&mut rig, 0, 4..5)[0];
    assert!(suggested(&mut rig, newcomer).iter().all(|number| (9..20).contains(number)), "as most want it");
    rig.says(keys[0], Message::NotInterested);
    let another = takers(&mut rig, 0, 5..6)[0];
    assert_eq!(suggested(&mut rig, another), all[..2], "what came back is waited for by all");
}

/// What a choked peer was suggested goes to others.
#[test]
fn a_choke_ends_what_was_suggested() {
    let (mut rig, key) = advised(90, true, &[7]);
    rig.says(key, Message::Choke);
    rig.says(key, Message::SuggestPiece { piece: 11 });
    rig.says(key, Message::Choke);
    for (piece, block) in [(7, 0), (7, 1)] {
        rig.says(key, Message::RejectRequest(rig.span(piece, block)));
    }
    rig.requests(key);
    rig.says(key, Message::Unchoke);
    rig.wait(Duration::from_secs(2));
    assert!(pieces_of(&rig.requests(key)).len() > 2);
}

/// Else it could not know what is elsewhere.
#[test]
fn a_seed_that_suggests_is_told_what_we_have() {
    for suggests in [false, true] {
        let mut rig = Rig::having(9, 1, &[0]);
        let key = rig.giver(0, 1);
        rig.core(0, CoreToShard::Found(vec![rig.piece(4)]));
        rig.wait(Duration::from_millis(200));
        let told = |rig: &mut Rig, number| rig.heard(key).contains(&Message::Have { piece: number });
        assert!(!told(&mut rig, 4));
        if suggests {
            rig.says(key, Message::SuggestPiece { piece: 3 });
            assert!(told(&mut rig, 4), "what came before it suggested anything");
            rig.says(key, Message::SuggestPiece { piece: 6 });
            assert!(!told(&mut rig, 4), "once");
        }
        rig.core(0, CoreToShard::Found(vec![rig.piece(5)]));
        rig.wait(Duration::from_millis(200));
        assert_eq!(told(&mut rig, 5), suggests);
    }
}

/// What only takes gets a few new pieces, and others get them instead; once all were passed on, nobody is held to anything.
#[test]
fn what_is_kept_is_suggested_to_others() {
    let mut rig = Rig::seed(60, 1);
    let keys = takers(&mut rig, 0, 1..3);
    let (keeps, gives, witness) = (keys[0], keys[1], rig.join(0, 3));
    let (mut kept, mut given) = (BTreeSet::new(), Vec::new());
    let mut next = [suggested(&mut rig, keeps), suggested(&mut rig, gives)];
    for _ in 0..40 {
        let [to_keep, to_give] = std::mem::take(&mut next);
        for number in to_keep {
            kept.insert(number);
            rig.says(keeps, Message::Request(rig.span(number, 0)));
            next[0].extend(suggested(&mut rig, keeps));
            rig.says(keeps, Message::Have { piece: number });
        }
        for number in to_give {
            given.push(number);
            rig.says(gives, Message::Request(rig.span(number, 0)));
            next[1].extend(suggested(&mut rig, gives));
            rig.says(gives, Message::Have { piece: number });
            rig.says(witness, Message::Have { piece: number });
        }
        rig.wait(Duration::from_secs(1));
        next[0].extend(suggested(&mut rig, keeps));
        next[1].extend(suggested(&mut rig, gives));
    }
    assert!((3..=8).contains(&kept.len()), "{kept:?}");
    let all: BTreeSet<u32> = given.iter().copied().collect();
    assert_eq!((given.len(), all.len()), (60, 60), "each once, those that were kept too");
}

/// Clients that follow their own mind, and pass on what they get: once all is elsewhere, nobody is held to anything.
#[test]
fn what_nobody_was_suggested_is_spread_as_well() {
    let mut rig = Rig::seed(30, 1);
    let (taker, witness) = (takers(&mut rig, 0, 1..2)[0], rig.join(0, 2));
    let ours = suggested(&mut rig, taker);
    let others = (0..30).rev().filter(|number| !ours.contains(number));
    for number in others.chain(ours.iter().copied()) {
        assert!(!rates_of(&mut rig, taker).heeds, "it has not taken {number}");
        rig.says(taker, Message::Request(rig.span(number, 0)));
        rig.sent(taker);
        rig.says(witness, Message::Have { piece: number });
    }
    assert!(rates_of(&mut rig, taker).heeds, "there is nothing to suggest");
}

/// A client that knows suggestions and follows its own mind.
#[test]
fn what_nobody_follows_is_suggested_to_others() {
    let mut rig = Rig::seed(60, 1);
    let keys = takers(&mut rig, 0, 1..3);
    let own_mind = suggested(&mut rig, keys[0]);
    let others = (0..60).filter(|number| !own_mind.contains(number)).take(8);
    let mut all = suggested(&mut rig, keys[1]);
    for number in others {
        rig.says(keys[0], Message::Request(rig.span(number, 0)));
        assert!(rig.sent(keys[0]).iter().any(|sent| matches!(sent, Outgoing::Block(_))), "it is served");
    }
    for at in 0.. {
        let Some(&number) = all.get(at) else { break };
        rig.says(keys[1], Message::Request(rig.span(number, 0)));
        all.extend(suggested(&mut rig, keys[1]));
    }
    assert!(own_mind.iter().all(|number| all.contains(number)), "{own_mind:?} {all:?}");
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
        (0..2).for_each(|block| rig.says(gives, Message::Request(rig.span(number, block))));
        rig.sent(gives);
        rig.says(gives, Message::Have { piece: number });
        rig.says(other, Message::Have { piece: number });
    }
    rig.wait(Duration::from_millis(200));
    rig.deliver();
    let passed_on = [keeps, gives, near].map(|key| passed_on(&mut rig, key));
    assert_eq!(passed_on, [0, 2 * u64::from(2 * BLOCK), 0]);
}

/// Bytes that the peer of the first shard passed on.
fn passed_on(rig: &mut Rig, key: PeerKey) -> u64 {
    rates_of(rig, key).passed_on
}

fn rates_of(rig: &mut Rig, key: PeerKey) -> PeerRates {
    rig.core(0, CoreToShard::ReportRates(1));
    let Some(ShardToCore::Rates(1, rates)) = rig.reports.pop() else { panic!("{:?}", rig.reports) };
    *rates.iter().find(|rates| rates.peer == key).unwrap()
}

/// Two who work together, of one address or of two, earn nothing for what did not leave.
#[test]
fn what_did_not_leave_whole_earns_nothing() {
    for sent in 0..=2 {
        let mut rig = Rig::seed(30, 2);
        let (taker, accomplice) = (takers(&mut rig, 0, 1..2)[0], rig.join(0, 2));
        let number = suggested(&mut rig, taker)[0];
        (0..sent).for_each(|block| rig.says(taker, Message::Request(rig.span(number, block))));
        rig.sent(taker);
        rig.says(taker, Message::Request(rig.span(number, 1)));
        rig.says(accomplice, Message::Have { piece: number });
        rig.says(taker, Message::Cancel(rig.span(number, 1)));
        assert_eq!(passed_on(&mut rig, taker) > 0, sent == 2);
    }
}

#[test]
fn a_witness_of_the_same_address_is_none() {
    for same in [false, true] {
        let mut rig = Rig::seed(30, 1);
        let taker = takers(&mut rig, 0, 1..2)[0];
        let witness = rig.join_from(0, if same { 1 } else { 2 }, 7_000);
        let number = suggested(&mut rig, taker)[0];
        rig.says(taker, Message::Request(rig.span(number, 0)));
        rig.sent(taker);
        rig.says(witness, Message::Have { piece: number });
        assert_eq!(passed_on(&mut rig, taker) > 0, !same);
    }
}

/// Else nobody would get what one asked for and took back.
#[test]
fn what_is_asked_for_and_taken_back_is_suggested_to_others() {
    let mut rig = Rig::seed(2, 1);
    let first = takers(&mut rig, 0, 1..2)[0];
    for number in suggested(&mut rig, first) {
        rig.says(first, Message::Request(rig.span(number, 0)));
        rig.says(first, Message::Cancel(rig.span(number, 0)));
    }
    let second = takers(&mut rig, 0, 2..3)[0];
    assert_eq!(suggested(&mut rig, second).len() + suggested(&mut rig, first).len(), 2);
}
