//! Slow peers, and fast ones that wait for memory.

use super::rig::{BLOCK, Rig};
use crate::time::Duration;
use crate::torrent::{PeerKey, SharedPieces};
use crate::wire::{Message, RawSpan};

const SECOND: Duration = Duration::from_secs(1);

/// Pieces of 16 blocks, and memory for so many.
fn tight(shards: u8, memory: u64) -> Rig {
    Rig::with(shards, 40, 16, SharedPieces::free(40), memory * 16 * u64::from(BLOCK))
}

/// The peer gives so many of those blocks, one a `pace`.
fn paced(rig: &mut Rig, key: PeerKey, spans: &[RawSpan], pace: Duration) {
    for &span in spans {
        rig.wait(pace);
        rig.gives(key, span);
    }
}

fn cancels(rig: &mut Rig, key: PeerKey) -> usize {
    rig.heard(key).into_iter().filter(|message| matches!(message, Message::Cancel(_))).count()
}

#[test]
fn a_fast_peer_takes_over_what_a_slow_one_holds() {
    let mut rig = tight(1, 1);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    assert_eq!(asked.len(), 16, "all of the piece that there is memory for");
    paced(&mut rig, slow, &asked[..2], SECOND / 2);
    rig.begins(slow, asked[2]);
    let fast = rig.giver(0, 2);
    let taken = rig.requests(fast);
    assert_eq!(taken, asked[3..], "what is not begun, as it is not known how fast it is");
    rig.gives_each(fast, &taken);
    assert_eq!(cancels(&mut rig, slow), 13);
    assert_eq!(rig.requests(fast), [asked[2]], "now it is");
    rig.gives(fast, asked[2]);
    rig.pieces_are_right();
    assert_eq!(rig.shards[0].have_count(), 1);
    assert_eq!(rig.requests(fast).len(), 16, "and goes on with the next");
    rig.ends(slow);
    assert_eq!(rig.shards[0].wasted(), u64::from(BLOCK), "no more than that comes twice");
}

#[test]
fn one_that_is_known_to_be_fast_does_not_wait_for_a_block_either() {
    let mut rig = tight(1, 2);
    let (slow, fast) = (rig.giver(0, 1), rig.giver(0, 2));
    let (of_slow, of_fast) = (rig.requests(slow), rig.requests(fast));
    paced(&mut rig, slow, &of_slow[..1], SECOND);
    rig.begins(slow, of_slow[1]);
    paced(&mut rig, fast, &of_fast, SECOND / 10);
    let taken = rig.requests(fast);
    assert_eq!(taken, of_slow[1..], "what is arriving, too");
    rig.gives_each(fast, &taken);
    rig.pieces_are_right();
    assert_eq!(rig.shards[0].have_count(), 2);
    let mut next = rig.requests(fast);
    assert!(next.len() >= 16, "it begins what there is memory for");
    rig.ends(slow);
    assert_eq!(rig.shards[0].wasted(), u64::from(BLOCK), "no more than that comes twice");
    assert_eq!(rig.requests(slow), [], "and the slow one begins nothing");
    for _ in 0..2 {
        rig.wait(SECOND * 2);
        rig.gives_each(fast, &next);
        rig.pieces_are_right();
        next = rig.requests(fast);
        assert_eq!(rig.requests(slow), []);
    }
    rig.wait(SECOND * 2);
    assert!(!rig.requests(slow).is_empty(), "for a while");
}

/// Three ways in which a fast one is of no more use.
#[test]
fn nobody_gives_way_to_one_that_is_gone_or_gives_nothing() {
    let ends: [fn(&mut Rig, PeerKey); 3] = [
        |rig, fast| rig.leaves(fast),
        |rig, fast| rig.says(fast, Message::Choke),
        |rig, _| rig.wait(SECOND * 4),
    ];
    for end in ends {
        let mut rig = tight(1, 2);
        let (slow, fast) = (rig.giver(0, 1), rig.giver(0, 2));
        let (of_slow, of_fast) = (rig.requests(slow), rig.requests(fast));
        paced(&mut rig, slow, &of_slow[..1], SECOND);
        paced(&mut rig, fast, &of_fast, SECOND / 10);
        assert!(!rig.requests(fast).is_empty(), "it took over");
        of_slow[1..].iter().for_each(|&span| _ = rig.gives(slow, span));
        rig.pieces_are_right();
        assert_eq!(rig.requests(slow), [], "it gives way");
        end(&mut rig, fast);
        rig.wait(SECOND / 10);
        assert!(!rig.requests(slow).is_empty());
    }
}

/// A newcomer may be anything: what it is tried with is little, and nobody gives way to it.
#[test]
fn a_fast_peer_does_not_give_way_to_a_newcomer() {
    let mut rig = Rig::with(1, 40, 64, SharedPieces::free(40), 64 * u64::from(BLOCK));
    let fast = rig.giver(0, 1);
    let mut asked = rig.requests(fast);
    for _ in 0..24 {
        rig.wait(SECOND / 100);
        let span = asked.remove(0);
        rig.gives(fast, span);
        asked.extend(rig.requests(fast));
    }
    let new = rig.giver(0, 2);
    let tried = rig.requests(new);
    assert!((1..=16).contains(&tried.len()), "{}", tried.len());
    rig.gives_each(fast, &asked);
    assert!(rig.shards[0].peer(fast).is_some_and(|peer| peer.may_be_asked(rig.now)));
}

/// It gives one quick block after the other, and chokes and unchokes in between: each time that it takes over costs it one.
#[test]
fn whoever_takes_over_gives_something_before_it_does_so_again() {
    let mut rig = tight(1, 3);
    let (slow, other, liar) = (rig.giver(0, 1), rig.giver(0, 2), rig.giver(0, 3));
    let (of_slow, of_other, of_liar) = (rig.requests(slow), rig.requests(other), rig.requests(liar));
    paced(&mut rig, liar, &of_liar, SECOND / 100);
    rig.pieces_are_right();
    rig.requests(liar);
    for key in [slow, other] {
        let span = if key == slow { of_slow[0] } else { of_other[0] };
        paced(&mut rig, key, &[span], SECOND);
    }
    let silent = |rig: &mut Rig| [slow, other].iter().filter(|&&key| cancels(rig, key) > 0).count();
    for _ in 0..6 {
        rig.says(liar, Message::Choke);
        rig.requests(liar).into_iter().for_each(|span| rig.says(liar, Message::RejectRequest(span)));
        rig.says(liar, Message::Unchoke);
    }
    assert_eq!(silent(&mut rig), 0);
    let late = |key: PeerKey| {
        rig.shards[0].peer(key).map(|peer| peer.asked.iter().filter(|asked| asked.late).count())
    };
    assert!([slow, other].into_iter().filter(|&key| late(key) > Some(0)).count() <= 1, "one at most");
}

#[test]
fn what_one_peer_must_give_alone_is_not_taken_over() {
    let mut rig = tight(2, 1);
    let liar = rig.giver(0, 1);
    rig.gives_all(liar);
    let piece = rig.piece_is_wrong(&[0]);
    let asked = rig.requests(liar);
    assert!(!asked.is_empty() && asked.iter().all(|span| span.piece == piece.number()));
    rig.wait(SECOND * 2);
    let fast = rig.giver(1, 2);
    rig.deliver();
    assert_eq!(rig.requests(fast), []);
    rig.gives_each(liar, &asked);
    rig.pieces_are_right();
    assert_eq!(rig.shards[0].have_count(), 1, "nothing of it was thrown away");
}

#[test]
fn nothing_is_taken_over_while_there_is_memory() {
    let mut rig = tight(1, 8);
    let slow = rig.giver_of(0, 1, &[0]);
    let asked = rig.requests(slow);
    paced(&mut rig, slow, &asked[..1], SECOND);
    let fast = rig.giver_of(0, 2, &[0, 1]);
    let of_fast = rig.requests(fast);
    paced(&mut rig, fast, &of_fast, SECOND / 10);
    rig.wait(SECOND);
    assert_eq!((rig.requests(fast), cancels(&mut rig, slow)), (vec![], 0));
}

#[test]
fn peers_of_one_speed_take_nothing_over() {
    let mut rig = tight(1, 2);
    let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
    let (of_a, of_b) = (rig.requests(a), rig.requests(b));
    for (&of_a, &of_b) in of_a.iter().zip(&of_b).take(15) {
        rig.wait(SECOND / 2);
        rig.gives(a, of_a);
        rig.gives(b, of_b);
    }
    rig.gives(b, of_b[15]);
    assert_eq!((rig.requests(b), cancels(&mut rig, a)), (vec![], 0));
}

/// It takes over once, and gives nothing: what the slow one gives is taken, and it is not taken over from again.
#[test]
fn one_that_rejects_holds_nobody_up() {
    let mut rig = tight(1, 1);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    let rejecter = rig.giver(0, 2);
    for &span in &asked {
        rig.begins(slow, span);
        for _ in 0..4 {
            rig.shards[0].arriving_sink(rig.now, slow);
            rig.wait(SECOND / 2);
            let requests = rig.requests(rejecter);
            requests.into_iter().for_each(|span| rig.says(rejecter, Message::RejectRequest(span)));
        }
        rig.ends(slow);
    }
    rig.pieces_are_right();
    assert_eq!((rig.shards[0].have_count(), rig.shards[0].wasted()), (1, 0));
}

#[test]
fn a_fast_peer_of_another_shard_is_lent_what_slow_ones_hold() {
    let mut rig = tight(2, 1);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    paced(&mut rig, slow, &asked[..2], SECOND / 2);
    let fast = rig.giver(1, 2);
    rig.deliver();
    let taken = rig.requests(fast);
    assert_eq!(taken, asked[2..]);
    rig.gives_each(fast, &taken);
    rig.deliver();
    assert_eq!(cancels(&mut rig, slow), 14);
    rig.pieces_are_right();
    rig.deliver();
    assert_eq!(rig.shards[0].have_count(), 1);
    // The slow one may have begun the next, but now it is known who is fast.
    for _ in 0..10 {
        rig.wait(SECOND / 10);
        rig.deliver();
        rig.gives_all(fast);
        rig.deliver();
        rig.pieces_are_right();
        rig.deliver();
    }
    assert!(rig.shards[1].have_count() >= 5, "{}", rig.shards[1].have_count());
}
