//! Pieces come whole from one peer, and who helps with a piece that another is on.

use super::rig::Rig;
use crate::wire::{Message, RawSpan};

/// The pieces that the requests are for, each once.
fn pieces(requests: &[RawSpan]) -> Vec<u32> {
    let mut pieces: Vec<u32> = requests.iter().map(|span| span.piece).collect();
    pieces.sort_unstable();
    pieces.dedup();
    pieces
}

/// With one piece of several on disk, and pieces longer than any first pipeline.
fn rig() -> Rig {
    Rig::having(6, 200, &[0])
}

#[test]
fn each_peer_is_on_a_piece_of_its_own() {
    let mut rig = rig();
    let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
    let (first, second) = (rig.requests(a), rig.requests(b));
    assert_eq!((pieces(&first).len(), pieces(&second).len()), (1, 1));
    assert_ne!(pieces(&first), pieces(&second), "b is not asked for the rest of a's piece");
    rig.gives_each(a, &first);
    assert_eq!(pieces(&rig.requests(a)), pieces(&first), "a goes on with its own");
}

#[test]
fn everybody_helps_with_the_first_piece() {
    let mut rig = Rig::new(1, 6, 40);
    let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
    let (first, second) = (rig.requests(a), rig.requests(b));
    assert_eq!(pieces(&first), pieces(&second));
    assert!(!first.iter().any(|span| second.contains(span)), "no block twice");
}

/// BEP 3's strict priority: what was begun is finished before something else is begun.
#[test]
fn what_a_peer_leaves_behind_comes_before_a_new_piece() {
    for goes in [true, false] {
        let mut rig = rig();
        let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
        let (left, mut asked) = (rig.requests(a), rig.requests(b));
        // A choked peer may still answer what it was asked for: that is not asked of others yet.
        if goes {
            rig.leaves(a)
        } else {
            rig.says(a, Message::Choke)
        }
        let own = asked[0].piece;
        while asked.iter().all(|span| span.piece == own) {
            rig.gives_each(b, &asked);
            asked = rig.requests(b);
        }
        assert!(asked.iter().all(|span| [own, left[0].piece].contains(&span.piece)), "{asked:?}");
        assert_eq!(asked.contains(&left[0]), goes);
    }
}

#[test]
fn once_nothing_is_left_to_begin_others_help() {
    let mut rig = Rig::having(2, 40, &[0]);
    let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
    let (first, second) = (rig.requests(a), rig.requests(b));
    assert_eq!((pieces(&first), pieces(&second)), (vec![1], vec![1]));
}

#[test]
fn without_memory_for_another_piece_others_help() {
    let mut rig = rig();
    assert!(rig.budget.lease((1 << 20) - 3_200), "one piece is left");
    let (a, b) = (rig.giver(0, 1), rig.giver(0, 2));
    let (first, second) = (rig.requests(a), rig.requests(b));
    assert_eq!(pieces(&first), pieces(&second));
}
