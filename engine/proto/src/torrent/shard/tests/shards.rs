//! Two shards and more: what they lend each other, hand over and tell.

use super::rig::{BLOCK, Rig, ip};
use crate::limits::AVAILABILITY_BATCH;
use crate::time::Duration;
use crate::torrent::{PieceState, ShardId, ShardInput, ShardMessage, SharedPieces, Sink};
use crate::wire::Message;

const SECOND: Duration = Duration::from_secs(1);

fn owner(rig: &Rig, number: u32) -> Option<u8> {
    match rig.pieces.state(rig.piece(number)) {
        PieceState::Claimed(shard) => Some(shard.0),
        _ => None,
    }
}

#[test]
fn a_piece_is_assembled_by_one_shard_only() {
    let mut rig = Rig::new(2, 30, 1);
    let (a, b) = (rig.giver(0, 1), rig.giver(1, 2));
    let (of_a, of_b) = (rig.requests(a), rig.requests(b));
    assert!(!of_a.is_empty() && of_a.iter().all(|span| !of_b.contains(span)));
    rig.gives_each(a, &of_a);
    rig.gives_each(b, &of_b);
    for _ in 0..100 {
        rig.gives_all(a);
        rig.gives_all(b);
        rig.pieces_are_right();
        rig.deliver();
        if rig.pieces.is_complete() {
            break;
        }
        rig.wait(Duration::from_millis(100));
    }
    assert!(rig.pieces.is_complete());
    assert_eq!(rig.heard(a).len(), 0, "parted with as a seed");
    assert_eq!(rig.budget.used(), 0);
}

#[test]
fn an_idle_shard_borrows_blocks_and_returns_them() {
    let mut rig = Rig::new(2, 1, 20);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    assert_eq!(owner(&rig, 0), Some(0));
    let fast = rig.giver(1, 2);
    assert_eq!(rig.mail.len(), 1, "{:?}", rig.mail);
    rig.deliver();
    let borrowed = rig.requests(fast);
    assert_eq!(&borrowed[..4], [16, 17, 18, 19].map(|block| rig.span(0, block)), "missing ones first");
    for span in borrowed.clone() {
        let sink = rig.gives(fast, span);
        assert!(matches!(sink, Sink::Lent(_)), "{sink:?}");
    }
    rig.deliver();
    let cancelled = rig.heard(slow);
    for span in borrowed.iter().filter(|span| asked.contains(span)) {
        assert!(cancelled.contains(&Message::Cancel(*span)));
    }
    rig.gives_all(fast);
    rig.deliver();
    let rest: Vec<_> = asked.into_iter().filter(|span| !borrowed.contains(span)).collect();
    rig.gives_each(slow, &rest);
    rig.gives_all(slow);
    rig.deliver();
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn a_lent_block_that_the_owner_got_meanwhile_is_cancelled() {
    let mut rig = Rig::new(2, 1, 2);
    let a = rig.giver(0, 1);
    let asked = rig.requests(a);
    let b = rig.giver(1, 2);
    rig.deliver();
    assert_eq!(rig.requests(b), asked);
    rig.gives(a, asked[0]);
    rig.deliver();
    assert_eq!(rig.heard(b), [Message::Cancel(asked[0])]);
}

#[test]
fn lent_blocks_that_cannot_be_fetched_come_back() {
    let mut rig = Rig::new(2, 1, 20);
    let slow = rig.giver(0, 1);
    let first = rig.requests(slow);
    let helper = rig.giver(1, 2);
    rig.deliver();
    rig.requests(helper);
    rig.leaves(helper);
    rig.wait(SECOND);
    rig.deliver();
    rig.gives_each(slow, &first);
    assert_eq!(first.len() + rig.gives_all(slow), 20);
}

#[test]
fn blocks_lent_to_a_shard_whose_peer_is_gone_come_back() {
    let mut rig = Rig::new(2, 1, 20);
    let slow = rig.giver(0, 1);
    let first = rig.requests(slow);
    let helper = rig.giver(1, 2);
    rig.leaves(helper);
    // Now comes the answer to what was asked for the one who left.
    rig.deliver();
    let other = rig.join(1, 3);
    rig.says(other, Message::HaveNone);
    rig.wait(SECOND * 3);
    rig.deliver();
    rig.gives_each(slow, &first);
    assert_eq!(first.len() + rig.gives_all(slow), 20);
}

#[test]
fn blocks_lent_to_a_shard_whose_peer_stalls_come_back() {
    let mut rig = Rig::new(2, 1, 20);
    let slow = rig.giver(0, 1);
    let first = rig.requests(slow);
    let helper = rig.giver(1, 2);
    rig.deliver();
    rig.requests(helper);
    for span in &first[..6] {
        rig.wait(SECOND);
        rig.gives(slow, *span);
    }
    rig.deliver();
    rig.gives_each(slow, &first[6..]);
    assert_eq!(first.len() + rig.gives_all(slow), 20);
}

#[test]
fn a_borrowed_block_that_comes_twice_is_taken_once() {
    let mut rig = Rig::new(2, 1, 1);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    let helper = rig.giver(1, 2);
    rig.deliver();
    assert_eq!(rig.requests(helper), asked);
    rig.gives(helper, asked[0]);
    rig.begins(slow, asked[0]);
    // The lent one comes while the owner's own peer is sending, which then stops in the middle.
    rig.deliver();
    rig.leaves(slow);
    rig.wait(SECOND * 2);
    rig.deliver();
    rig.gives_all(helper);
    rig.deliver();
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn a_piece_goes_to_the_shard_whose_peers_can_finish_it() {
    // Nobody has the second piece, so there is no endgame, and nothing is borrowed.
    let mut rig = Rig::new(3, 2, 4);
    let gone = rig.giver_of(0, 1, &[0]);
    let asked = rig.requests(gone);
    rig.gives(gone, asked[0]);
    rig.leaves(gone);
    let heir = rig.giver_of(2, 3, &[0]);
    rig.deliver();
    rig.wait(SECOND * 3);
    rig.deliver();
    assert_eq!(owner(&rig, 0), Some(2));
    assert_eq!(rig.requests(heir).len(), 3, "what is here came along");
    for span in &asked[1..] {
        rig.gives(heir, *span);
    }
    rig.pieces_are_right();
    rig.deliver();
    assert_eq!((rig.pieces.have_count(), rig.budget.used()), (1, 0));
}

#[test]
fn a_claim_of_a_shard_that_lost_its_peers_is_no_trap() {
    let mut rig = Rig::with(2, 8, 4, SharedPieces::free(8), 2 * 64);
    let gone = rig.giver_of(0, 1, &[0, 1]);
    let asked = rig.requests(gone);
    rig.gives(gone, asked[0]);
    rig.gives(gone, asked[4]);
    rig.leaves(gone);
    // The memory is shard 0's; shard 1 has no use for its pieces, only for the memory.
    let other = rig.giver_of(1, 2, &[5]);
    for _ in 0..30 {
        rig.wait(SECOND);
        rig.deliver();
    }
    assert_eq!(rig.requests(other).len(), 4);
}

#[test]
fn who_stalls_on_one_shard_does_not_hold_up_who_has_it_on_another() {
    let mut rig = Rig::new(2, 2, 4);
    let liar = rig.giver(0, 1);
    assert_eq!(rig.requests(liar).len(), 8);
    let honest = rig.giver(1, 2);
    let mut given = 0;
    for _ in 0..10 {
        rig.deliver();
        given += rig.gives_all(honest);
        rig.deliver();
        rig.pieces_are_right();
        rig.wait(SECOND);
    }
    assert!(rig.pieces.is_complete(), "{given} blocks given");
}

#[test]
fn a_handed_over_piece_keeps_its_givers() {
    let mut rig = Rig::new(2, 2, 4);
    let gone = rig.giver_of(0, 1, &[0]);
    let asked = rig.requests(gone);
    rig.gives(gone, asked[0]);
    rig.leaves(gone);
    let heir = rig.giver_of(1, 3, &[0]);
    rig.wait(SECOND * 3);
    rig.deliver();
    assert_eq!(rig.gives_all(heir), 3);
    rig.piece_is_wrong(&[0]);
    assert!(rig.poisoners().is_empty(), "two gave it");
    rig.gives_all(heir);
    rig.pieces_are_right();
    assert_eq!(rig.poisoners(), [ip(0, 1)]);
}

#[test]
fn availability_crosses_in_batches() {
    let mut rig = Rig::new(2, 4, 1);
    let key = rig.join(0, 1);
    rig.says(key, rig.bitfield(&[1, 2]));
    rig.says(key, Message::Have { piece: 3 });
    assert!(rig.mail.is_empty());
    rig.wait(AVAILABILITY_BATCH);
    let (0, 1, ShardMessage::Availability(deltas)) = &rig.mail[0] else { panic!("{:?}", rig.mail) };
    assert_eq!(deltas[..], [1, 2, 3].map(|number| (rig.piece(number), 1)));
    rig.deliver();
    let counts = |rig: &Rig| [0, 1, 2, 3].map(|number| rig.shards[1].picker.availability(rig.piece(number)));
    assert_eq!(counts(&rig), [0, 1, 1, 1]);
    rig.leaves(key);
    rig.wait(AVAILABILITY_BATCH);
    rig.deliver();
    assert_eq!(counts(&rig), [0; 4]);
    let come_and_gone = rig.join(0, 1);
    rig.says(come_and_gone, rig.bitfield(&[1, 2]));
    rig.leaves(come_and_gone);
    rig.wait(SECOND);
    assert!(rig.mail.is_empty(), "what cancels out is not told");
}

#[test]
fn what_one_shard_writes_all_shards_have() {
    let mut rig = Rig::new(2, 2, 1);
    let a = rig.giver_of(0, 1, &[0]);
    let (b, c) = (rig.join(1, 2), rig.join(1, 3));
    rig.says(c, rig.bitfield(&[0]));
    rig.heard(b);
    rig.heard(c);
    rig.gives_all(a);
    rig.pieces_are_right();
    rig.deliver();
    assert_eq!(rig.heard(b), [Message::Have { piece: 0 }]);
    assert_eq!(rig.heard(c), [Message::NotInterested]);
}

#[test]
fn what_was_borrowed_for_one_that_left_does_not_keep_others_from_borrowing() {
    let mut rig = Rig::new(2, 2, 4);
    let slow = rig.giver(0, 1);
    assert_eq!(rig.requests(slow).len(), 8);
    let first = rig.giver_of(1, 2, &[0]);
    rig.deliver();
    assert_eq!(rig.requests(first).len(), 4);
    rig.leaves(first);
    let second = rig.giver_of(1, 3, &[1]);
    for _ in 0..3 {
        rig.wait(SECOND);
        rig.deliver();
    }
    assert_eq!(rig.requests(second), [0, 1, 2, 3].map(|block| rig.span(1, block)));
}

/// The state is free before the message says so: what was borrowed of the piece is fetched for ourselves now.
#[test]
fn a_piece_claimed_before_its_release_is_heard_of_is_ours() {
    let mut rig = Rig::new(2, 1, 40);
    let gone = rig.giver(0, 1);
    rig.requests(gone);
    let helper = rig.giver(1, 2);
    let piece = rig.piece(0);
    // An earlier release is heard of while nobody can be asked, so the piece may be tried; then come blocks of it.
    rig.says(helper, Message::Choke);
    rig.input(1, ShardInput::FromShard(ShardId(0), ShardMessage::Released(piece)));
    rig.deliver();
    rig.says(helper, Message::Unchoke);
    rig.wait(SECOND);
    rig.deliver();
    assert_eq!(rig.requests(helper).len(), 16, "its pipeline is full of what was borrowed");
    rig.shards[0].give_up(piece);
    rig.leaves(gone);
    rig.deliver();
    assert_eq!(owner(&rig, 0), Some(1));
    rig.gives_all(helper);
    assert_eq!(rig.verifies.len(), 1);
}

#[test]
fn what_one_shard_gives_up_another_may_claim() {
    let mut rig = Rig::with(2, 2, 2, SharedPieces::free(2), 64 - 1);
    let gone = rig.giver_of(0, 1, &[0]);
    assert_eq!(rig.requests(gone).len(), 2);
    rig.leaves(gone);
    rig.wait(SECOND * 15);
    rig.deliver();
    assert_eq!((owner(&rig, 0), rig.budget.used(), rig.shards[0].open_count()), (None, 0, 0));
    let later = rig.giver_of(1, 2, &[0]);
    assert_eq!(rig.gives_all(later), 2);
    assert_eq!(rig.verifies.len(), 1);
    assert_eq!(rig.budget.used(), u64::from(2 * BLOCK));
}

#[test]
fn memory_that_another_shard_frees_is_noticed_at_once() {
    let mut rig = Rig::with(2, 8, 4, SharedPieces::free(8), u64::from(4 * BLOCK));
    let a = rig.giver_of(0, 1, &[0]);
    let asked = rig.requests(a);
    let b = rig.giver_of(1, 2, &[1, 2]);
    rig.wait(SECOND * 5);
    rig.gives_each(a, &asked);
    rig.pieces_are_right();
    assert_eq!(rig.requests(b), []);
    rig.deliver();
    assert_eq!(rig.requests(b).len(), 4);
}
