//! Pieces that fail their hash: who lied is found, and nobody else is.

use super::rig::{Rig, ip};
use crate::limits::{SNUB_AFTER, SNUB_PART_AFTER};
use crate::time::Duration;
use crate::torrent::{PeerKey, PieceState, ShardToCore};
use crate::wire::{Message, RawSpan};

/// Three peers give one block each of the only piece, and the middle one lies. The peers with what each was asked.
fn three_givers(rig: &mut Rig) -> Vec<PeerKey> {
    let keys: Vec<PeerKey> = (1..4).map(|last| rig.giver(0, last)).collect();
    for key in &keys {
        rig.heard(*key);
    }
    for (block, &key) in keys.iter().enumerate() {
        let span = rig.span(0, block as u32);
        rig.gives(key, span);
        rig.heard(key);
    }
    rig.piece_is_wrong(&[1]);
    keys
}

/// The one peer that is asked for the piece now, and what for.
fn sole_giver(rig: &mut Rig, keys: &[PeerKey]) -> (PeerKey, Vec<RawSpan>) {
    let asked: Vec<_> = keys
        .iter()
        .map(|&key| (key, rig.requests(key)))
        .filter(|(_, requests)| !requests.is_empty())
        .collect();
    let [(sole, requests)] = &asked[..] else { panic!("{asked:?}") };
    (*sole, requests.clone())
}

#[test]
fn one_that_gave_all_of_it_is_a_liar() {
    let mut rig = Rig::new(1, 1, 3);
    let key = rig.giver(0, 1);
    rig.gives_all(key);
    let piece = rig.piece_is_wrong(&[2]);
    assert_eq!(rig.poisoners(), [ip(0, 1)]);
    assert!(
        rig.reports
            .iter()
            .any(|report| matches!(report, ShardToCore::HashFailed(failed) if *failed == piece))
    );
}

#[test]
fn of_three_givers_the_liar_is_found() {
    for seed in 0..6 {
        let mut rig = Rig::new(1, 1, 3);
        for _ in 0..seed {
            rig.join(0, 99);
        }
        let mut keys = three_givers(&mut rig);
        assert!(rig.poisoners().is_empty(), "not known yet");
        let (mut sole, mut asked) = sole_giver(&mut rig, &keys);
        if sole == keys[1] {
            rig.gives_each(sole, &asked);
            rig.piece_is_wrong(&[0]);
            assert_eq!(rig.poisoners(), [ip(0, 2)], "gave all of a wrong piece");
            rig.leaves(keys.remove(1));
            rig.wait(Duration::from_secs(3));
            (sole, asked) = sole_giver(&mut rig, &keys);
        }
        rig.gives_each(sole, &asked);
        assert!(rig.verifies[0].2, "digests are wanted");
        rig.pieces_are_right();
        assert!(rig.pieces.is_complete());
        assert!(rig.poisoners().iter().all(|&liar| liar == ip(0, 2)) && !rig.poisoners().is_empty());
    }
}

#[test]
fn a_stranger_to_the_failure_is_asked_first() {
    let mut rig = Rig::new(1, 1, 3);
    let stranger = rig.join(0, 9);
    rig.says(stranger, Message::HaveAll);
    let mut keys: Vec<PeerKey> = Vec::new();
    for last in 1..4 {
        keys.push(rig.giver(0, last));
    }
    for &key in &keys {
        rig.heard(key);
    }
    for (block, &key) in keys.iter().enumerate().take(2) {
        let span = rig.span(0, block as u32);
        rig.gives(key, span);
    }
    rig.says(stranger, Message::Unchoke);
    rig.heard(stranger);
    let last = rig.span(0, 2);
    rig.gives(keys[2], last);
    rig.piece_is_wrong(&[1]);
    keys.push(stranger);
    assert_eq!(sole_giver(&mut rig, &keys).0, stranger);
}

#[test]
fn no_one_else_helps_a_sole_giver() {
    let mut rig = Rig::new(1, 1, 3);
    let keys = three_givers(&mut rig);
    let (sole, asked) = sole_giver(&mut rig, &keys);
    let late = rig.giver(0, 9);
    assert_eq!(rig.requests(late), []);
    rig.gives(sole, asked[0]);
    rig.gives(late, asked[1]);
    rig.gives(sole, asked[1]);
    rig.gives(sole, asked[2]);
    assert_eq!(rig.verifies.len(), 1);
}

#[test]
fn a_sole_giver_that_stalls_or_leaves_is_replaced() {
    for leaves in [false, true] {
        let mut rig = Rig::new(1, 1, 3);
        let keys = three_givers(&mut rig);
        let (sole, asked) = sole_giver(&mut rig, &keys);
        rig.gives(sole, asked[0]);
        if leaves {
            rig.leaves(sole);
        }
        rig.wait(Duration::from_secs(8));
        let rest: Vec<PeerKey> = keys.iter().copied().filter(|&key| key != sole).collect();
        let (heir, asked) = sole_giver(&mut rig, &rest);
        assert_ne!(heir, sole);
        assert_eq!(asked.len(), 3, "it gives all of it, what was here is forgotten");
    }
}

#[test]
fn a_staller_does_not_remain_the_sole_giver_for_ever() {
    let mut rig = Rig::new(1, 1, 3);
    let keys = three_givers(&mut rig);
    // The only stranger to the failure, so preferred; but it never gives anything.
    let staller = rig.giver(0, 9);
    let mut honest = 0;
    for _ in 0..(SNUB_AFTER + SNUB_PART_AFTER).as_secs() * 2 {
        rig.heard(staller);
        rig.says(staller, Message::KeepAlive);
        for key in [keys[0], keys[2]] {
            rig.says(key, Message::KeepAlive);
            honest += rig.gives_all(key);
        }
        rig.heard(keys[1]);
        rig.wait(Duration::from_secs(1));
        rig.pieces_are_right();
    }
    assert!(honest >= 3 && rig.pieces.is_complete());
    assert_eq!(rig.poisoners(), [ip(0, 2)]);
}

#[test]
fn a_failure_of_another_shard_is_known_here() {
    let mut rig = Rig::new(2, 1, 3);
    let keys = three_givers(&mut rig);
    rig.deliver();
    // All of shard 0 leave: the piece is released, and shard 1 begins it with one giver.
    keys.iter().for_each(|&key| rig.leaves(key));
    let (a, b) = (rig.giver(1, 1), rig.giver(1, 2));
    rig.wait(Duration::from_secs(3));
    rig.deliver();
    rig.wait(Duration::from_secs(1));
    rig.deliver();
    assert!(matches!(rig.pieces.state(rig.piece(0)), PieceState::Claimed(owner) if owner.0 == 1));
    let (sole, asked) = sole_giver(&mut rig, &[a, b]);
    rig.gives_each(sole, &asked);
    rig.pieces_are_right();
    assert_eq!(rig.poisoners(), [ip(0, 2)], "the liar of shard 0, found by shard 1");
}

#[test]
fn failures_of_what_we_have_are_not_kept() {
    let mut rig = Rig::new(2, 1, 3);
    let _keys = three_givers(&mut rig);
    let late = std::mem::take(&mut rig.mail);
    let piece = rig.piece(0);
    let have = crate::torrent::ShardMessage::Have(piece);
    rig.input(1, crate::torrent::ShardInput::FromShard(crate::torrent::ShardId(0), have));
    rig.mail = late;
    rig.deliver();
    assert!(!rig.shards[1].suspicion.contains(piece));
}
