//! Which piece to begin next: at random for the first, then rarest first (BEP 3's "Downloading" and B. Cohen,
//! "Incentives Build Robustness in BitTorrent", 2003, section 2.4). Blocks within a piece, and which open piece
//! to go on with, are [`OpenPiece`]'s and the shard's.

mod open;
mod rarity;

#[cfg(test)]
mod model;

pub use open::OpenPiece;
pub use rarity::Rarity;

use crate::bitfield::Bitfield;
use crate::layout::{PieceIndex, PieceLayout};
use crate::peer::PeerPieces;
use crate::rng::Rng;

/// How many pieces are tried in order of rarity for a peer that lacks most of them, before the two sets are met
/// word by word: no pick looks at all pieces one by one.
const RARITY_TRIES: usize = 256;

/// How to choose among the pieces that may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any: for the first piece, which is wanted soon, to have something to give.
    Random,
    /// The rarest.
    RarestFirst,
}

/// The pieces that may be begun, by rarity.
#[derive(Debug)]
pub struct Picker {
    layout: PieceLayout,
    rarity: Rarity,
    /// The pieces in `rarity`'s order.
    pickable: Bitfield,
}

impl Picker {
    /// Every piece of the layout may be begun.
    pub fn new(layout: PieceLayout, rng: &mut Rng) -> Self {
        let count = layout.piece_count();
        Self { layout, rarity: Rarity::new(count, rng), pickable: Bitfield::full(count) }
    }

    /// Whether no piece may be begun.
    pub fn is_empty(&self) -> bool {
        self.pickable.is_empty()
    }

    /// Whether the piece may be begun.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.pickable.contains(piece)
    }

    /// How many partial peers have the piece.
    pub fn availability(&self, piece: PieceIndex) -> u16 {
        self.rarity.availability(piece)
    }

    /// `delta` more (or fewer) partial peers have the piece.
    pub fn adjust(&mut self, piece: PieceIndex, delta: i32, rng: &mut Rng) {
        self.rarity.adjust(piece, delta, rng);
    }

    /// The piece may not be begun: it is had, or somebody assembles it.
    pub fn remove(&mut self, piece: PieceIndex) {
        if self.pickable.remove(piece) {
            self.rarity.remove(piece);
        }
    }

    /// The piece may be begun again.
    pub fn restore(&mut self, piece: PieceIndex, rng: &mut Rng) {
        if self.pickable.insert(piece) {
            self.rarity.restore(piece, rng);
        }
    }

    /// Takes the best piece among those that `pieces` has and that `claim` succeeds on. Every piece that `claim`
    /// was tried on is out of the order afterwards: claimed by us now, or found to be claimed by others.
    pub fn pick(
        &mut self,
        pieces: &PeerPieces,
        order: Order,
        rng: &mut Rng,
        mut claim: impl FnMut(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        loop {
            let piece = self.best(pieces, order, rng)?;
            self.remove(piece);
            if claim(piece) {
                return Some(piece);
            }
        }
    }

    /// Bytes that the tables take.
    pub fn memory(&self) -> usize {
        self.rarity.memory() + self.pickable.len() as usize / 8
    }

    fn best(&self, pieces: &PeerPieces, order: Order, rng: &mut Rng) -> Option<PieceIndex> {
        let number = match (pieces, order) {
            (PeerPieces::None, _) => None,
            (PeerPieces::All, Order::Random) => self.any_of(&self.pickable, rng),
            (PeerPieces::All, Order::RarestFirst) => self.rarity.order().next(),
            (PeerPieces::Some(set), Order::Random) => self.any_of(set, rng),
            (PeerPieces::Some(set), Order::RarestFirst) => {
                self.rarest_of(set).or_else(|| self.any_of(set, rng))
            }
        };
        self.layout.piece(number?)
    }

    fn rarest_of(&self, set: &Bitfield) -> Option<u32> {
        let candidates = self.rarity.order().take(RARITY_TRIES);
        candidates
            .filter_map(|number| self.layout.piece(number))
            .inspect(|_| crate::work::step())
            .find(|&piece| set.contains(piece))
            .map(PieceIndex::number)
    }

    fn any_of(&self, set: &Bitfield, rng: &mut Rng) -> Option<u32> {
        let start = rng.below(set.len().max(1) as usize) as u32;
        set.first_common(&self.pickable, start)
    }
}
