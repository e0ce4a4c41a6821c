//! What is asked of whom, and blocks as they come.

use super::rig::{BLOCK, Rig};
use crate::limits::{INITIAL_REQUESTS, MAX_COPIES, REQUEST_TIMEOUT, SNUB_AFTER, SNUB_PART_AFTER};
use crate::time::{Duration, Instant};
use crate::torrent::{CoreToShard, PartReason, PieceState, ShardId, ShardInput, SharedPieces, Sink, Verdict};
use crate::wire::{Message, RawSpan};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_piece_is_filled_in_order_verified_and_written() {
    let mut rig = Rig::new(1, 1, 4);
    let key = rig.giver(0, 1);
    let asked = rig.requests(key);
    assert_eq!(asked, [0, 1, 2, 3].map(|block| rig.span(0, block)));
    for span in asked {
        let block = rig.layout.block_at(span.piece, span.begin, span.length).unwrap();
        assert_eq!(rig.gives(key, span), Sink::Piece(block));
    }
    let piece = rig.piece(0);
    assert_eq!(rig.verifies, [(0, piece, false)]);
    assert_eq!(rig.pieces.state(piece), PieceState::Verifying(ShardId(0)));
    assert_eq!(rig.budget.used(), 64);
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
    assert_eq!((rig.budget.used(), rig.shards[0].open_count(), rig.shards[0].wasted()), (0, 0, 0));
    assert_eq!(rig.why_parted(key), Some(PartReason::BothSeeds));
}

#[test]
fn a_whole_torrent_comes_from_two_peers() {
    let mut rig = Rig::new(1, 40, 3);
    let (a, b) = (rig.giver(0, 1), rig.join_as(0, 2, false, false));
    rig.says(b, rig.bitfield(&(0..39).collect::<Vec<_>>()));
    rig.says(b, Message::Unchoke);
    while !rig.pieces.is_complete() {
        let given = rig.gives_all(a) + rig.gives_all(b);
        assert!(given > 0 || !rig.verifies.is_empty());
        rig.pieces_are_right();
    }
    assert_eq!(rig.budget.used(), 0);
}

#[test]
fn the_pipeline_begins_small_and_grows() {
    let mut rig = Rig::new(1, 20, 16);
    let key = rig.giver(0, 1);
    let first = rig.requests(key);
    assert_eq!(first.len(), INITIAL_REQUESTS as usize);
    let mut outstanding = first.len();
    for span in first {
        rig.gives(key, span);
        outstanding += rig.requests(key).len();
        outstanding -= 1;
    }
    assert_eq!(outstanding, 4 * INITIAL_REQUESTS as usize);
}

#[test]
fn the_rarest_piece_comes_first() {
    let mut rig = Rig::having(9, 1, &[0]);
    let commons: Vec<u32> = (0..9).filter(|&number| number != 5).collect();
    for last in 2..6 {
        let key = rig.join(0, last);
        rig.says(key, rig.bitfield(&commons));
    }
    let key = rig.giver(0, 1);
    assert_eq!(rig.requests(key)[0], rig.span(5, 0));
}

#[test]
fn nothing_is_asked_while_choked_but_what_is_allowed() {
    let mut rig = Rig::new(1, 9, 2);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveAll);
    assert_eq!(rig.requests(key), []);
    rig.says(key, Message::AllowedFast { piece: 4 });
    assert_eq!(rig.requests(key), [rig.span(4, 0), rig.span(4, 1)]);
    assert_eq!(rig.gives_all(key), 0);
}

#[test]
fn a_choke_without_the_fast_extension_takes_all_back() {
    let mut rig = Rig::new(1, 1, 4);
    let key = rig.join_as(0, 1, false, true);
    rig.says(key, rig.bitfield(&[0]));
    rig.says(key, Message::Unchoke);
    let asked = rig.requests(key);
    rig.says(key, Message::Choke);
    let other = rig.giver(0, 2);
    assert_eq!(rig.requests(other), asked, "asked of another at once");
    assert_eq!(rig.gives(key, asked[1]), Sink::Discard, "what was in flight may come, and is not needed");
    rig.says(key, Message::Unchoke);
    rig.gives(other, asked[0]);
    rig.gives_each(other, &asked[1..]);
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn a_choke_with_the_fast_extension_keeps_what_is_not_rejected() {
    let mut rig = Rig::new(1, 1, 4);
    let key = rig.giver(0, 1);
    let asked = rig.requests(key);
    rig.says(key, Message::Choke);
    let other = rig.giver(0, 2);
    rig.heard(other);
    rig.says(key, Message::RejectRequest(asked[1]));
    assert!(rig.requests(other).is_empty(), "it is asked for that block already, in the endgame");
    assert!(matches!(rig.gives(key, asked[0]), Sink::Piece(_)), "a promise kept");
}

#[test]
fn a_rejected_block_is_not_asked_of_the_same_peer_at_once() {
    let mut rig = Rig::new(1, 10, 4);
    let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
    let asked = rig.requests(a);
    rig.heard(b);
    for &span in &asked {
        rig.says(a, Message::RejectRequest(span));
    }
    assert_eq!(rig.requests(a), [], "it would reject it again, as fast as the wire allows");
    rig.wait(SECOND * 2);
    assert!(!rig.requests(a).is_empty(), "but it is given another chance");
}

#[test]
fn in_the_endgame_others_are_asked_too_and_told_when_it_came() {
    let mut rig = Rig::new(1, 1, 2);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    let helpers: Vec<_> = (2..7).map(|last| rig.giver(0, last)).collect();
    let copies: Vec<_> = helpers.iter().map(|&key| rig.requests(key)).collect();
    let count = copies.iter().flatten().filter(|&&span| span == asked[1]).count();
    assert_eq!(count, usize::from(MAX_COPIES) - 1);
    rig.gives(helpers[0], asked[1]);
    for key in [slow, helpers[1]] {
        assert!(rig.heard(key).contains(&Message::Cancel(asked[1])));
    }
    assert_eq!(rig.gives(slow, asked[1]), Sink::Discard, "it had left already");
    assert_eq!(rig.shards[0].wasted(), u64::from(BLOCK));
    assert_eq!(rig.why_parted(slow), None);
}

#[test]
fn what_a_peer_alone_gives_is_expected_in_order() {
    let mut rig = Rig::new(1, 2, 4);
    let key = rig.giver(0, 1);
    let asked = rig.requests(key);
    let expected = |rig: &Rig| -> Vec<RawSpan> {
        let shard = &rig.shards[0];
        shard.expected(key).map(|block| shard.raw_span(block)).collect()
    };
    assert_eq!((expected(&rig), asked.len()), (asked.clone(), 8));
    rig.begins(key, asked[0]);
    assert_eq!(expected(&rig), asked, "what is arriving comes first");
    rig.ends(key);
    assert_eq!(expected(&rig), asked[1..]);
    rig.begins(key, rig.span(1, 3));
    assert_eq!(expected(&rig).first(), Some(&rig.span(1, 3)), "out of order");
    rig.ends(key);
    // In the endgame another is asked, for as much as it may: what both may give is nobody's alone.
    let helper = rig.giver(0, 2);
    let shared = rig.requests(helper);
    assert!(shared.contains(&asked[1]));
    assert_eq!(expected(&rig), []);
    rig.says(helper, Message::Choke);
    let rejects = shared.iter().map(|&span| Message::RejectRequest(span));
    rejects.for_each(|message| rig.says(helper, message));
    assert_eq!(expected(&rig), asked[1..7]);
}

#[test]
fn what_a_late_peer_may_yet_give_is_nobodys_alone() {
    let mut rig = Rig::new(1, 1, 4);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    rig.wait(Duration::from_secs(5));
    let fast = rig.giver(0, 2);
    let again = rig.requests(fast);
    assert!(!again.is_empty() && again.iter().all(|span| asked.contains(span)), "{again:?}");
    assert_eq!(rig.shards[0].expected(fast).count(), 0);
    assert_eq!(rig.shards[0].expected(slow).count(), 0);
}

#[test]
fn a_request_that_has_not_left_is_not_cancelled_on_the_wire() {
    let mut rig = Rig::new(1, 1, 1);
    let a = rig.giver(0, 1);
    let asked = rig.requests(a);
    let b = rig.giver(0, 2);
    rig.gives(a, asked[0]);
    let heard = rig.heard(b);
    assert!(
        !heard.iter().any(|message| matches!(message, Message::Request(_) | Message::Cancel(_))),
        "{heard:?}"
    );
}

#[test]
fn of_two_that_send_the_same_block_one_is_kept_and_the_other_counts_no_more() {
    let mut rig = Rig::new(1, 1, 1);
    let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
    let span = rig.requests(a)[0];
    assert_eq!(rig.requests(b), [span]);
    assert!(matches!(rig.begins(a, span), Sink::Piece(_)));
    assert_eq!(rig.begins(b, span), Sink::Discard);
    rig.leaves(a);
    rig.ends(b);
    // Nobody is sending it and nobody was asked: it must be asked again.
    assert_eq!(rig.requests(b), [span]);
    rig.gives(b, span);
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn strays_are_suffered_for_a_while() {
    let mut rig = Rig::new(1, 9, 2);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveAll);
    let span = rig.span(3, 1);
    for _ in 0..64 {
        assert_eq!(rig.gives(key, span), Sink::Discard);
    }
    assert_eq!(rig.why_parted(key), None);
    rig.begins(key, span);
    assert_eq!(rig.why_parted(key), Some(PartReason::Misbehaved));
}

#[test]
fn a_block_that_stalls_in_the_middle_is_fetched_elsewhere() {
    let mut rig = Rig::new(1, 1, 2);
    let (staller, other) = (rig.giver(0, 1), rig.giver(0, 2));
    let asked = rig.requests(staller);
    assert!(matches!(rig.begins(staller, asked[0]), Sink::Piece(_)));
    rig.wait(SECOND * 5);
    assert_eq!(rig.shards[0].arriving_sink(rig.now, staller), Sink::Discard);
    assert_eq!(rig.gives_all(other), 2);
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn a_slow_block_that_keeps_coming_is_not_a_stalled_one() {
    let mut rig = Rig::new(1, 1, 2);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    for span in asked {
        rig.begins(slow, span);
        for _ in 0..20 {
            rig.wait(SECOND);
            assert!(matches!(rig.shards[0].arriving_sink(rig.now, slow), Sink::Piece(_)), "{:?}", rig.now);
        }
        rig.ends(slow);
    }
    assert_eq!(rig.shards[0].wasted(), 0);
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn a_peer_that_answers_late_is_not_robbed_of_its_work() {
    let mut rig = Rig::new(1, 2, 2);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    rig.wait(SECOND * 15);
    for span in asked {
        assert!(matches!(rig.gives(slow, span), Sink::Piece(_)), "the only one who has it");
    }
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn late_blocks_are_asked_of_others_and_taken_all_the_same() {
    let mut rig = Rig::new(1, 2, 40);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    // It trickles: never stalled, but what was asked first comes too late.
    let (trickled, rest) = asked.split_at(10);
    for &span in trickled {
        rig.wait(Duration::from_millis(2_500));
        rig.gives(slow, span);
        rig.heard(slow);
    }
    assert!(REQUEST_TIMEOUT < Duration::from_millis(2_500) * 10);
    let other = rig.giver(0, 2);
    let of_other = rig.requests(other);
    assert!(of_other.contains(&rest[0]), "{of_other:?}");
    assert!(matches!(rig.gives(slow, rest[0]), Sink::Piece(_)));
    assert!(rig.heard(other).contains(&Message::Cancel(rest[0])));
}

/// Once a request is late, all who are asked for its block are noted: not any longer than they are asked.
#[test]
fn who_is_no_longer_asked_is_not_remembered_beside_a_late_one() {
    let mut rig = Rig::new(1, 2, 4);
    let silent = rig.giver(0, 1);
    let asked = rig.requests(silent);
    rig.wait(SECOND * 5);
    let noted = |rig: &Rig| rig.shards[0].copies.iter().count();
    assert_eq!(noted(&rig), asked.len());
    for last in 2..50 {
        let (leaver, rejecter, choker) =
            (rig.giver(0, last), rig.giver(0, last + 50), rig.join_as(0, last + 100, false, true));
        rig.says(choker, rig.bitfield(&[0, 1]));
        rig.says(choker, Message::Unchoke);
        rig.says(choker, Message::Choke);
        assert!(!rig.requests(leaver).is_empty());
        rig.leaves(leaver);
        for span in rig.requests(rejecter) {
            rig.says(rejecter, Message::RejectRequest(span));
        }
        rig.leaves(rejecter);
        rig.leaves(choker);
        assert_eq!(noted(&rig), asked.len(), "after {last}");
    }
    rig.leaves(silent);
    assert_eq!(noted(&rig), 0);
}

#[test]
fn a_snubbing_peer_is_parted_with_in_the_end() {
    let mut rig = Rig::new(1, 2, 2);
    let key = rig.giver(0, 1);
    rig.heard(key);
    for _ in 0..9 {
        rig.wait(SNUB_AFTER + SECOND * 2);
        rig.core(0, CoreToShard::ReportRates(1));
        rig.says(key, Message::KeepAlive);
    }
    assert!(rig.now.nanos() > (SNUB_AFTER + SNUB_PART_AFTER).as_nanos() as u64);
    assert_eq!(rig.why_parted(key), Some(PartReason::Snubbed));
}

#[test]
fn others_fetching_what_it_holds_back_does_not_clear_a_staller() {
    let mut rig = Rig::new(1, 400, 2);
    let (staller, giver) = (rig.giver(0, 1), rig.giver(0, 2));
    let mut asked = Vec::new();
    for _ in 0..SNUB_AFTER.as_secs() + SNUB_PART_AFTER.as_secs() + 90 {
        rig.heard(staller);
        asked.extend(rig.requests(giver));
        let few = asked.len().min(2);
        rig.gives_each(giver, &asked.drain(..few).collect::<Vec<_>>());
        rig.pieces_are_right();
        rig.says(staller, Message::KeepAlive);
        rig.wait(SECOND);
    }
    assert_eq!(rig.why_parted(staller), Some(PartReason::Snubbed));
}

#[test]
fn who_leaves_takes_nothing_along() {
    let mut rig = Rig::new(1, 3, 3);
    let gone = rig.giver(0, 1);
    let asked = rig.requests(gone);
    rig.gives(gone, asked[0]);
    rig.begins(gone, asked[1]);
    rig.leaves(gone);
    let heir = rig.giver(0, 2);
    assert_eq!(rig.gives_all(heir), 8);
    rig.pieces_are_right();
    assert!(rig.pieces.is_complete());
}

#[test]
fn without_memory_no_piece_is_begun_until_there_is_some() {
    let mut rig = Rig::with(1, 8, 4, SharedPieces::free(8), 3 * 64);
    let a = rig.giver(0, 1);
    let asked = rig.requests(a);
    assert_eq!((asked.len(), rig.budget.used()), (12, 192));
    rig.gives_each(a, &asked);
    assert_eq!(rig.requests(a), []);
    rig.pieces_are_right();
    assert_eq!(rig.requests(a).len(), 12, "what was written freed memory");
}

#[test]
fn memory_that_others_free_is_noticed() {
    let mut rig = Rig::with(1, 8, 4, SharedPieces::free(8), 64);
    assert!(rig.budget.lease(10));
    let a = rig.giver(0, 1);
    assert_eq!(rig.requests(a), []);
    rig.budget.release(10);
    rig.wait(Duration::from_millis(100));
    assert_eq!(rig.requests(a).len(), 4);
}

/// For hours, where a slow peer of another shard has all of it.
#[test]
fn waiting_for_memory_keeps_nobody_awake() {
    let mut rig = Rig::with(1, 8, 4, SharedPieces::free(8), 64);
    assert!(rig.budget.lease(10));
    let a = rig.giver(0, 1);
    let mut wakes = 0;
    while let Some(at) = rig.shards[0].poll_timeout().filter(|at| at.since(Instant::ZERO) < SECOND * 60) {
        rig.now = at.max(rig.now);
        rig.shards[0].handle_timeout(rig.now);
        wakes += 1;
    }
    assert!(wakes < 60 * 7, "{wakes} in a minute");
    rig.budget.release(10);
    rig.wait(Duration::from_millis(300));
    assert_eq!(rig.requests(a).len(), 4);
}

/// What others began is not looked through for each block of a peer that waits for memory.
#[test]
fn a_peer_that_waits_for_memory_is_not_looked_after_at_every_block() {
    let mut rig = Rig::with(1, 1_000, 1, SharedPieces::free(1_000), 80 * u64::from(BLOCK));
    for last in 1..=4 {
        let first = u32::from(last) * 16;
        let key = rig.giver_of(0, last, &(first..first + 16).collect::<Vec<_>>());
        assert_eq!(rig.requests(key).len(), 16);
        rig.leaves(key);
    }
    let key = rig.giver_of(0, 5, &(500..600).collect::<Vec<_>>());
    let asked = rig.requests(key);
    assert_eq!((asked.len(), rig.budget.used()), (16, rig.budget.limit()));
    rig.gives(key, asked[0]);
    let before = crate::work::steps();
    let (last, others) = asked[1..].split_last().unwrap();
    rig.gives_each(key, others);
    let steps = crate::work::steps() - before;
    assert!(steps < 15, "{steps} steps for 14 blocks");
    rig.gives(key, *last);
    rig.pieces_are_right();
    assert_eq!(rig.requests(key).len(), 16, "what was written freed memory");
}

/// Another shard's, say: memory is there before anything happens here but the next block.
#[test]
fn a_peer_that_waits_for_memory_gets_it_at_the_next_block() {
    let mut rig = Rig::with(1, 100, 1, SharedPieces::free(100), 20 * u64::from(BLOCK));
    assert!(rig.budget.lease(10 * u64::from(BLOCK)));
    let key = rig.giver(0, 1);
    let asked = rig.requests(key);
    rig.gives(key, asked[0]);
    assert_eq!(rig.requests(key), []);
    rig.budget.release(10 * u64::from(BLOCK));
    rig.gives(key, asked[1]);
    assert!(!rig.requests(key).is_empty());
}

#[test]
fn pieces_that_nobody_gives_any_more_release_memory_that_is_wanted() {
    let mut rig = Rig::with(1, 8, 4, SharedPieces::free(8), 2 * 64);
    let gone = rig.giver_of(0, 1, &[0, 1]);
    let asked = rig.requests(gone);
    rig.gives(gone, asked[0]);
    rig.gives(gone, asked[4]);
    rig.leaves(gone);
    let other = rig.giver_of(0, 2, &[5]);
    assert_eq!(rig.requests(other), []);
    rig.wait(SECOND * 15);
    assert_eq!(rig.requests(other).len(), 4);
}

/// With the fast extension requests outlive a choke, and must not outlive the piece.
#[test]
fn requests_for_a_piece_that_was_given_up_are_taken_back() {
    let mut rig = Rig::with(1, 2, 4, SharedPieces::free(2), 64);
    let first = rig.giver_of(0, 1, &[0]);
    let asked = rig.requests(first);
    rig.says(first, Message::Choke);
    let other = rig.giver_of(0, 2, &[1]);
    rig.wait(SECOND * 20);
    assert_eq!(rig.requests(other).len(), 4, "the memory is the other piece's now");
    assert_eq!(rig.heard(first), asked.iter().map(|&span| Message::Cancel(span)).collect::<Vec<_>>());
    asked.iter().for_each(|&span| rig.says(first, Message::RejectRequest(span)));
    rig.says(first, Message::Unchoke);
    for block in 0..4 {
        let span = rig.span(1, block);
        rig.gives(other, span);
    }
    rig.pieces_are_right();
    assert_eq!(rig.requests(first), asked);
    assert_eq!(rig.why_parted(first), None);
}

#[test]
fn what_is_not_looked_for_yet_is_not_asked() {
    let mut rig = Rig::with(1, 4, 1, SharedPieces::unchecked(4), 1 << 20);
    let key = rig.giver(0, 1);
    assert_eq!(rig.requests(key), []);
    let (found, lacking) = (rig.piece(2), rig.piece(3));
    assert!(rig.pieces.checked(found, true) && rig.pieces.checked(lacking, false));
    rig.core(0, CoreToShard::Found(vec![found]));
    rig.core(0, CoreToShard::Lacking(vec![lacking]));
    assert_eq!(rig.requests(key), [rig.span(3, 0)]);
}

#[test]
fn what_cannot_be_written_is_fetched_again() {
    let mut rig = Rig::new(1, 1, 1);
    let key = rig.giver(0, 1);
    rig.gives_all(key);
    let (_, piece, _) = rig.verifies.remove(0);
    rig.input(0, ShardInput::Verified(piece, Verdict::Right(None)));
    rig.input(0, ShardInput::Written(piece, false));
    assert_eq!(rig.requests(key), [RawSpan { piece: 0, begin: 0, length: BLOCK }]);
}
