//! Racks: what is asked of whom.

use std::sync::Arc;

use super::rig::Rig;
use crate::id::PeerId;
use crate::layout::PieceIndex;
use crate::time::Duration;
use crate::torrent::{CoreToShard, Errands, Lan, PeerKey, Policy, ShardMessage, SharedPieces};
use crate::wire::{Message, RawSpan};
use proptest::prelude::*;

const PIECES: u32 = 40;

/// Of us, among two others.
fn errands() -> Arc<Errands> {
    Arc::new(Errands::new(PeerId([1; 20]), [2, 3].map(|id| PeerId([id; 20])).into_iter()))
}

fn rig(shards: u8) -> Rig {
    let policy = Policy { lan: Some(Lan::default()), ..Policy::default() };
    Rig::with_policy(shards, PIECES, 2, SharedPieces::free(PIECES), 1 << 20, policy)
}

/// Those of the peers are in our rack, on whatever shard.
fn share_out(rig: &mut Rig, near: &[PeerKey]) {
    for shard in 0..rig.shards.len() {
        let near = near.iter().copied().filter(|key| usize::from(key.shard.0) == shard).collect();
        rig.core(shard, CoreToShard::Rack { near, errands: errands() });
    }
}

fn all() -> Vec<u32> {
    (0..PIECES).collect()
}

fn pieces_of(asked: &[RawSpan]) -> Vec<u32> {
    let mut pieces: Vec<u32> = asked.iter().map(|span| span.piece).collect();
    pieces.dedup();
    pieces
}

fn ours(rig: &Rig) -> Vec<u32> {
    rig.layout.pieces().filter(|&piece| errands().include(piece)).map(PieceIndex::number).collect()
}

#[test]
fn a_far_peer_is_asked_for_what_is_on_us_to_bring() {
    let mut rig = rig(1);
    let (near, far) = (rig.giver_of(0, 1, &[]), rig.join(0, 2));
    share_out(&mut rig, &[near]);
    rig.says(far, rig.bitfield(&all()[..39]));
    rig.says(far, Message::Unchoke);
    let mut got = Vec::new();
    loop {
        let asked = rig.requests(far);
        if asked.is_empty() {
            break;
        }
        assert!(pieces_of(&asked).len() <= 10, "few at a time: {asked:?}");
        got.extend(pieces_of(&asked));
        rig.gives_each(far, &asked);
        rig.pieces_are_right();
    }
    got.sort_unstable();
    let mut expected = ours(&rig);
    expected.retain(|&piece| piece < 39);
    assert_eq!(got, expected);
    assert!(got.len() > 5 && got.len() < 25, "about a third: {got:?}");
}

#[test]
fn what_somebody_near_has_is_not_brought() {
    let mut rig = rig(1);
    let near = rig.join(0, 1);
    share_out(&mut rig, &[near]);
    rig.says(near, rig.bitfield(&all()[..39]));
    let far = rig.giver(0, 2);
    let asked = pieces_of(&rig.requests(far));
    assert!(asked.iter().all(|&piece| piece == 39), "{asked:?}");
    rig.leaves(near);
    rig.wait(Duration::from_secs(2));
    assert!(!rig.requests(far).is_empty(), "until it goes");
}

#[test]
fn what_a_far_seed_suggests_is_taken() {
    let mut rig = rig(1);
    let (near, far) = (rig.join(0, 1), rig.join(0, 2));
    share_out(&mut rig, &[near]);
    let other = (0..PIECES).find(|number| !ours(&rig).contains(number)).unwrap();
    rig.says(far, Message::HaveAll);
    rig.says(far, Message::SuggestPiece { piece: other });
    rig.says(far, Message::Unchoke);
    assert!(pieces_of(&rig.requests(far)).contains(&other));
}

/// Those who were to bring the rest do not: it is asked of anybody in the end.
#[test]
fn who_starves_asks_anybody_for_anything() {
    let mut rig = rig(1);
    let (near, far) = (rig.join(0, 1), rig.giver(0, 2));
    share_out(&mut rig, &[near]);
    let mut got = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let asked = rig.requests(far);
        got.extend(pieces_of(&asked));
        rig.gives_each(far, &asked);
        rig.pieces_are_right();
        rig.wait(Duration::from_secs(1));
    }
    assert!(rig.pieces.is_complete(), "{got:?}");
}

/// A near peer that has what we lack and is slow: what it gives keeps nobody from asking the far one for the same.
#[test]
fn slow_neighbours_do_not_shut_out_who_is_fast() {
    let mut rig = rig(1);
    let (near, far) = (rig.giver_of(0, 1, &all()[..39]), rig.giver(0, 2));
    share_out(&mut rig, &[near]);
    let mut seconds = 0;
    while !rig.pieces.is_complete() {
        // The far one gives what it is asked for within a tenth of a second, the near one a block a second.
        for _ in 0..10 {
            let asked = rig.requests(far);
            rig.wait(Duration::from_millis(100));
            rig.gives_each(far, &asked);
            rig.pieces_are_right();
        }
        let asked = rig.requests(near);
        rig.gives_each(near, &asked[..asked.len().min(1)]);
        seconds += 1;
        assert!(seconds < 25, "{seconds} s for {} blocks", 2 * PIECES);
    }
}

/// A piece that only far peers could go on with, and must not, is offered to the other shards like any other.
#[test]
fn what_may_not_cross_is_not_waited_for() {
    let mut rig = rig(2);
    let near = rig.giver_of(0, 1, &all()[..39]);
    let other = rig.join(0, 4);
    share_out(&mut rig, &[near, other]);
    let asked = rig.requests(near);
    rig.gives(near, asked[0]);
    rig.says(other, rig.bitfield(&all()[..39]));
    rig.giver(0, 3);
    rig.says(near, Message::Choke);
    for &span in &asked[1..] {
        rig.says(near, Message::RejectRequest(span));
    }
    rig.mail.clear();
    rig.wait(Duration::from_millis(1_900));
    let offered = |(_, _, message): &(usize, usize, ShardMessage)| matches!(message, ShardMessage::Offer(piece) if piece.number() == asked[0].piece);
    assert!(rig.mail.iter().any(offered), "{:?}", rig.mail);
}

/// Two far givers with room for eight blocks between them, all of which the first was asked for; a near one that has a piece.
fn full_trunk() -> (Rig, PeerKey, PeerKey, Vec<RawSpan>) {
    let mut rig = rig(1);
    let near = rig.giver_of(0, 1, &[]);
    share_out(&mut rig, &[near]);
    rig.shards[0].rack.as_mut().unwrap().trunk.set_window(8 * u64::from(super::rig::BLOCK));
    let silent = rig.giver(0, 2);
    let asked = rig.requests(silent);
    assert_eq!(asked.len(), 8);
    let other = rig.giver(0, 3);
    assert_eq!(rig.requests(other), []);
    (rig, near, other, asked)
}

#[test]
fn who_is_silent_shuts_no_far_peer_out() {
    let (mut rig, _, other, asked) = full_trunk();
    rig.wait(Duration::from_secs(5));
    assert!(rig.requests(other).len() >= asked.len());
}

/// It leaves as much asked of far peers as there was: nobody is asked for more.
#[test]
fn what_comes_from_near_stirs_nobody_far() {
    let (mut rig, near, other, asked) = full_trunk();
    let piece = (0..PIECES).find(|&piece| asked.iter().all(|span| span.piece != piece)).unwrap();
    rig.says(near, Message::Have { piece });
    let asked = rig.requests(near);
    assert_eq!(asked.len(), 2);
    rig.wait(Duration::from_millis(1_500));
    let stirred = rig.shards[0].stir_at;
    rig.gives(near, asked[0]);
    assert_eq!((rig.shards[0].stir_at, rig.requests(other)), (stirred, vec![]));
}

#[test]
fn a_host_alone_in_its_rack_asks_as_ever() {
    let mut rig = rig(1);
    let far = rig.giver(0, 2);
    let alone = Arc::new(Errands::new(PeerId([1; 20]), std::iter::empty()));
    rig.core(0, CoreToShard::Rack { near: Vec::new(), errands: alone });
    assert!(pieces_of(&rig.requests(far)).len() > 4);
}

/// What peers of one shard have counts on the others, too.
#[test]
fn shards_know_what_is_near() {
    for told_first in [true, false] {
        let mut rig = rig(2);
        let (near, far) = (rig.join(0, 1), rig.join(1, 2));
        if told_first {
            share_out(&mut rig, &[near]);
        }
        rig.says(near, rig.bitfield(&all()[..39]));
        rig.wait(Duration::from_millis(200));
        rig.deliver();
        if !told_first {
            share_out(&mut rig, &[near]);
            rig.wait(Duration::from_millis(200));
            rig.deliver();
        }
        rig.says(far, Message::HaveAll);
        rig.says(far, Message::Unchoke);
        let asked = pieces_of(&rig.requests(far));
        assert!(asked.iter().all(|&piece| piece == 39), "{told_first}: {asked:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Have(usize, u32),
    Near(u8),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..6, 0..PIECES).prop_map(|(peer, piece)| Step::Have(peer, piece)),
        2 => any::<u8>().prop_map(Step::Near),
        1 => (0usize..6).prop_map(Step::Leave),
    ]
}

proptest! {
    /// Whoever comes to be near or far, has or leaves: counts agree with counting, which the rig checks after each step.
    #[test]
    fn what_is_near_is_counted(steps in prop::collection::vec(step(), 0..60)) {
        let mut rig = rig(1);
        let peers: Vec<PeerKey> = (1..7).map(|last| rig.join(0, last)).collect();
        let mut here = vec![true; peers.len()];
        for step in steps {
            match step {
                Step::Have(peer, piece) if here[peer] => rig.says(peers[peer], Message::Have { piece }),
                Step::Near(bits) => {
                    let near: Vec<PeerKey> =
                        (0..6).filter(|&n| here[n] && bits >> n & 1 == 1).map(|n| peers[n]).collect();
                    share_out(&mut rig, &near);
                }
                Step::Leave(peer) if std::mem::take(&mut here[peer]) => rig.leaves(peers[peer]),
                _ => {}
            }
        }
    }
}
