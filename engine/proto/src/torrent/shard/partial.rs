//! Which open pieces have missing blocks, the oldest first. Owns the list; what to ask whom for is `download`'s.

use std::collections::VecDeque;

use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;

/// Open pieces with missing blocks.
#[derive(Debug)]
pub(super) struct Partial {
    /// In the order of age; those that came back, as a request was taken back, stand first.
    order: VecDeque<PieceIndex>,
    /// The same as a set.
    members: Bitfield,
}

impl Partial {
    /// Of a torrent of `count` pieces, none.
    pub(super) fn new(count: u32) -> Self {
        Self { order: VecDeque::new(), members: Bitfield::empty(count) }
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.order.iter().copied()
    }

    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.members.contains(piece)
    }

    /// The piece was begun.
    pub(super) fn push(&mut self, piece: PieceIndex) {
        if self.members.insert(piece) {
            self.order.push_back(piece);
        }
    }

    /// The piece has missing blocks again.
    pub(super) fn push_again(&mut self, piece: PieceIndex) {
        if self.members.insert(piece) {
            self.order.push_front(piece);
        }
    }

    /// The piece has none any more; nothing where it is not here.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        if self.members.remove(piece) {
            self.order.retain(|&other| other != piece);
        }
    }

    /// Bytes that list and set take.
    pub(super) fn memory(&self) -> usize {
        self.order.capacity() * size_of::<PieceIndex>() + self.members.len() as usize / 8
    }

    /// Holds list and set against each other.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.order.len(), self.members.count() as usize);
        assert!(self.order.iter().all(|&piece| self.members.contains(piece)));
    }
}
