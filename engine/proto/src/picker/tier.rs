//! Pieces that are wanted equally: those that may be begun, by rarity. Which tier goes first is the picker's to say.

use super::{Order, Rarity};
use crate::bitfield::Bitfield;
use crate::layout::{PieceIndex, PieceLayout};
use crate::peer::PeerPieces;
use crate::rng::Rng;

/// How many pieces are tried in order of rarity for a peer that lacks most of them, before the two sets are met
/// word by word: no pick looks at all pieces one by one.
const RARITY_TRIES: usize = 256;

/// The pieces of one priority.
#[derive(Debug)]
pub(super) struct Tier {
    layout: PieceLayout,
    rarity: Rarity,
    /// The pieces in `rarity`'s order.
    pickable: Bitfield,
    /// No piece before this number may be begun.
    first: u32,
}

impl Tier {
    /// Those pieces of the layout may be begun.
    pub(super) fn new(layout: PieceLayout, pickable: Bitfield, rng: &mut Rng) -> Self {
        Self { layout, rarity: Rarity::of(&pickable, rng), pickable, first: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pickable.is_empty()
    }

    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.pickable.contains(piece)
    }

    /// The first that may be begun, by number.
    pub(super) fn first(&self) -> Option<u32> {
        self.first_of(&self.pickable)
    }

    pub(super) fn availability(&self, piece: PieceIndex) -> u16 {
        self.rarity.availability(piece)
    }

    pub(super) fn adjust(&mut self, piece: PieceIndex, delta: i32, rng: &mut Rng) {
        self.rarity.adjust(piece, delta, rng);
    }

    pub(super) fn remove(&mut self, piece: PieceIndex) {
        if self.pickable.remove(piece) {
            self.rarity.remove(piece);
            self.first += u32::from(self.first == piece.number());
        }
    }

    pub(super) fn restore(&mut self, piece: PieceIndex, rng: &mut Rng) {
        if self.pickable.insert(piece) {
            self.rarity.restore(piece, rng);
            self.first = self.first.min(piece.number());
        }
    }

    /// Bytes that the tables take.
    pub(super) fn memory(&self) -> usize {
        self.rarity.memory() + self.pickable.len() as usize / 8
    }

    /// The best piece that `pieces` has; of those that are equally good, one of the `suggested`.
    pub(super) fn choose(
        &self,
        pieces: &PeerPieces,
        suggested: &[PieceIndex],
        order: Order,
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let best = self.best(pieces, order, rng)?;
        Some(self.as_good(best, pieces, suggested, order).unwrap_or(best))
    }

    /// Any piece that `pieces` has and that is `wanted`.
    pub(super) fn any_wanted(
        &self,
        pieces: &PeerPieces,
        wanted: &Bitfield,
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let start = rng.below(wanted.len().max(1) as usize) as u32;
        let number = match pieces {
            PeerPieces::None => None,
            PeerPieces::All => wanted.first_common(&self.pickable, start),
            PeerPieces::Some(set) => wanted.first_common_of([&self.pickable, set], start),
        };
        self.layout.piece(number?)
    }

    fn best(&self, pieces: &PeerPieces, order: Order, rng: &mut Rng) -> Option<PieceIndex> {
        let number = match (pieces, order) {
            (PeerPieces::None, _) => None,
            (PeerPieces::All, Order::Random) => self.any_of(&self.pickable, rng),
            (PeerPieces::All, Order::RarestFirst) => self.rarity.order().next(),
            (PeerPieces::Some(set), Order::Random) => self.any_of(set, rng),
            (PeerPieces::All, Order::Sequential) => self.first_of(&self.pickable),
            (PeerPieces::Some(set), Order::Sequential) => self.first_of(set),
            (PeerPieces::Some(set), Order::RarestFirst) => {
                self.rarest_of(set).or_else(|| self.any_of(set, rng))
            }
        };
        self.layout.piece(number?)
    }

    /// A suggested piece that is as good as the one that was found.
    fn as_good(
        &self,
        best: PieceIndex,
        pieces: &PeerPieces,
        suggested: &[PieceIndex],
        order: Order,
    ) -> Option<PieceIndex> {
        let there = |piece: &PieceIndex| self.contains(*piece) && pieces.contains(*piece);
        let good = |piece: &PieceIndex| match order {
            Order::Random => true,
            Order::RarestFirst => self.availability(*piece) <= self.availability(best),
            Order::Sequential => false,
        };
        suggested.iter().copied().find(|piece| there(piece) && good(piece))
    }

    fn rarest_of(&self, set: &Bitfield) -> Option<u32> {
        let candidates = self.rarity.order().take(RARITY_TRIES);
        candidates
            .filter_map(|number| self.layout.piece(number))
            .inspect(|_| crate::work::step())
            .find(|&piece| set.contains(piece))
            .map(PieceIndex::number)
    }

    fn first_of(&self, set: &Bitfield) -> Option<u32> {
        set.first_common(&self.pickable, self.first)
    }

    fn any_of(&self, set: &Bitfield, rng: &mut Rng) -> Option<u32> {
        let start = rng.below(set.len().max(1) as usize) as u32;
        set.first_common(&self.pickable, start)
    }
}
