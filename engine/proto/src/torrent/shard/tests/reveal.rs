//! Super-seeding (BEP 16).

use super::rig::Rig;
use crate::time::Duration;
use crate::torrent::{CoreToShard, Outgoing, PeerKey, Policy, SharedPieces};
use crate::wire::Message;

fn told(rig: &mut Rig, key: PeerKey) -> Vec<u32> {
    let number = |message| match message {
        Message::Have { piece } => Some(piece),
        _ => None,
    };
    rig.heard(key).into_iter().filter_map(number).collect()
}

fn rig(pieces: u32, shards: u8) -> Rig {
    let policy = Policy { super_seed: true, ..Policy::default() };
    Rig::with_policy(shards, pieces, 1, SharedPieces::complete(pieces), 1 << 20, policy)
}

fn joins(rig: &mut Rig, shard: usize, last: u8) -> PeerKey {
    let key = rig.join(shard, last);
    assert!(rig.heard(key).contains(&Message::HaveNone), "it says that it has nothing");
    rig.says(key, Message::HaveNone);
    key
}

#[test]
fn the_next_piece_is_told_once_another_peer_has_the_former() {
    let mut rig = rig(9, 1);
    let (a, b) = (joins(&mut rig, 0, 1), joins(&mut rig, 0, 2));
    let (first, second) = (told(&mut rig, a), told(&mut rig, b));
    assert!(first.len() == 1 && second.len() == 1 && first != second);
    rig.says(a, Message::Have { piece: first[0] });
    assert_eq!(told(&mut rig, a), [], "b lacks it");
    rig.says(b, Message::Have { piece: first[0] });
    assert_eq!(told(&mut rig, a).len(), 1);
    assert_eq!(told(&mut rig, b), []);
}

#[test]
fn a_single_peer_does_not_starve_and_all_is_told_in_the_end() {
    let mut rig = rig(9, 1);
    let only = joins(&mut rig, 0, 1);
    let mut all = Vec::new();
    while let [piece] = told(&mut rig, only)[..] {
        all.push(piece);
        rig.says(only, Message::Have { piece });
    }
    all.sort_unstable();
    assert_eq!(all, (0..9).collect::<Vec<u32>>());
}

#[test]
fn who_got_a_piece_has_it_though_it_does_not_say_so() {
    let mut rig = rig(9, 1);
    let only = joins(&mut rig, 0, 1);
    rig.core(0, CoreToShard::Slots { unchoke: vec![only], choke: vec![] });
    let mut all = told(&mut rig, only);
    while let Some(&piece) = all.last() {
        rig.says(only, Message::Request(rig.span(piece, 0)));
        let sent = rig.sent(only);
        assert!(sent.iter().any(|sent| matches!(sent, Outgoing::Block(_))));
        let next = sent.iter().find_map(|sent| match sent {
            Outgoing::Message(Message::Have { piece }) => Some(*piece),
            _ => None,
        });
        let Some(next) = next else { break };
        all.push(next);
    }
    all.sort_unstable();
    assert_eq!(all, (0..9).collect::<Vec<u32>>());
}

#[test]
fn it_ends_once_every_piece_is_elsewhere() {
    let mut rig = rig(4, 1);
    let (a, b) = (joins(&mut rig, 0, 1), joins(&mut rig, 0, 2));
    rig.says(a, Message::Have { piece: 0 });
    rig.says(a, Message::Have { piece: 1 });
    rig.says(b, Message::Have { piece: 2 });
    rig.wait(Duration::from_secs(2));
    assert!(told(&mut rig, b).len() < 3);
    rig.says(b, Message::Have { piece: 3 });
    rig.wait(Duration::from_secs(2));
    let told_b = told(&mut rig, b);
    assert!([0, 1].iter().all(|piece| told_b.contains(piece)), "an ordinary seed: {told_b:?}");
    let late = rig.join(0, 3);
    assert!(rig.heard(late).contains(&Message::HaveAll));
}

#[test]
fn what_nobody_takes_ends_it() {
    let mut rig = rig(3, 1);
    let keys: Vec<PeerKey> = (1..4).map(|last| joins(&mut rig, 0, last)).collect();
    rig.leaves(keys[0]);
    rig.wait(Duration::from_secs(130));
    let late = rig.join(0, 9);
    assert!(rig.heard(late).contains(&Message::HaveAll));
}

#[test]
fn a_peer_that_has_nearly_everything_loses_nobody_a_piece() {
    let mut rig = rig(9, 2);
    let resumer = rig.join(0, 1);
    rig.says(resumer, rig.bitfield(&[0, 1, 2, 3, 4, 5, 6, 7]));
    rig.leaves(resumer);
    let other = joins(&mut rig, 0, 2);
    rig.core(0, CoreToShard::Slots { unchoke: vec![other], choke: vec![] });
    rig.wait(Duration::from_secs(100));
    // It takes nothing, and does not fall silent.
    rig.says(other, Message::KeepAlive);
    rig.wait(Duration::from_secs(100));
    rig.says(other, Message::KeepAlive);
    rig.wait(Duration::from_secs(100));
    let mut all = told(&mut rig, other);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..9).collect::<Vec<u32>>(), "it is an ordinary seed in the end");
    let elsewhere = rig.join(1, 3);
    assert!(rig.heard(elsewhere).contains(&Message::HaveAll), "on all shards");
}

#[test]
fn a_slow_piece_is_not_told_anew() {
    let mut rig = Rig::with_policy(
        1,
        9,
        8,
        SharedPieces::complete(9),
        1 << 20,
        Policy { super_seed: true, ..Policy::default() },
    );
    let only = joins(&mut rig, 0, 1);
    rig.core(0, CoreToShard::Slots { unchoke: vec![only], choke: vec![] });
    let piece = told(&mut rig, only)[0];
    for block in 0..8 {
        rig.says(only, Message::Request(rig.span(piece, block)));
        let sent = rig.sent(only);
        let told = sent.iter().any(|sent| matches!(sent, Outgoing::Message(Message::Have { .. })));
        assert_eq!(told, block == 7, "block {block}");
        rig.wait(Duration::from_secs(15));
    }
}

#[test]
fn two_shards_do_not_tell_of_the_same_piece() {
    let mut rig = rig(6, 2);
    let keys: Vec<PeerKey> = (0..6).map(|n| joins(&mut rig, usize::from(n % 2), n + 1)).collect();
    let mut all: Vec<u32> = keys.into_iter().flat_map(|key| told(&mut rig, key)).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn what_one_peer_keeps_another_is_told_of() {
    let mut rig = rig(2, 1);
    let (a, b) = (joins(&mut rig, 0, 1), joins(&mut rig, 0, 2));
    let (first, second) = (told(&mut rig, a), told(&mut rig, b));
    rig.leaves(a);
    let c = joins(&mut rig, 0, 3);
    assert_eq!(told(&mut rig, c), first);
    rig.core(0, CoreToShard::Slots { unchoke: vec![b, c], choke: vec![] });
    rig.wait(Duration::from_secs(25));
    let (next_b, next_c) = (told(&mut rig, b), told(&mut rig, c));
    assert!(next_b == first || next_c == second, "{next_b:?} {next_c:?}");
}

#[test]
fn who_had_what_it_was_told_of_is_told_of_another() {
    let mut rig = rig(8, 1);
    let key = rig.join(0, 1);
    rig.wait(Duration::from_secs(2));
    let first = told(&mut rig, key);
    assert_eq!(first.len(), 1, "it said nothing, so it may have nothing");
    let bitfield = rig.bitfield(&first);
    rig.says(key, bitfield);
    let next = told(&mut rig, key);
    assert!(next.len() == 1 && next != first, "{first:?}, {next:?}");
}
