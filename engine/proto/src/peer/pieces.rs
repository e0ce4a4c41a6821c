//! Which pieces a peer says it has.

use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;

/// What a peer has. One that has everything costs no memory and no counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPieces {
    /// It said nothing yet, or that it has nothing.
    None,
    /// Some.
    Some(Bitfield),
    /// All.
    All,
}

impl PeerPieces {
    /// Whether it has the piece.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        match self {
            Self::None => false,
            Self::Some(set) => set.contains(piece),
            Self::All => true,
        }
    }

    /// How many of `total` pieces it has.
    pub const fn count(&self, total: u32) -> u32 {
        match self {
            Self::None => 0,
            Self::Some(set) => set.count(),
            Self::All => total,
        }
    }

    /// How many it has that are not in `have`.
    pub fn count_without(&self, have: &Bitfield) -> u32 {
        match self {
            Self::None => 0,
            Self::Some(set) => set.count_without(have),
            Self::All => have.len() - have.count(),
        }
    }
}
