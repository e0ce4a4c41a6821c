//! Which piece to begin next: at random for the first, then rarest first (BEP 3's "Downloading" and B. Cohen,
//! "Incentives Build Robustness in BitTorrent", 2003, section 2.4), or in order for whoever wants the content so. Blocks within a piece, and which open piece
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Any: for the first piece, which is wanted soon, to have something to give.
    Random,
    /// The rarest, so that peers soon have something to give each other and no piece is lost with whoever leaves.
    #[default]
    RarestFirst,
    /// The first that is missing: for a user who reads the content as it comes. All peers of such a swarm have the same
    /// pieces, and nothing to give each other but what came last.
    Sequential,
}

/// The pieces that may be begun, by rarity.
#[derive(Debug)]
pub struct Picker {
    layout: PieceLayout,
    rarity: Rarity,
    /// The pieces in `rarity`'s order.
    pickable: Bitfield,
    /// No piece before this number may be begun.
    first: u32,
}

impl Picker {
    /// Every piece of the layout may be begun.
    pub fn new(layout: PieceLayout, rng: &mut Rng) -> Self {
        let count = layout.piece_count();
        Self { layout, rarity: Rarity::new(count, rng), pickable: Bitfield::full(count), first: 0 }
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
            self.first += u32::from(self.first == piece.number());
        }
    }

    /// The piece may be begun again.
    pub fn restore(&mut self, piece: PieceIndex, rng: &mut Rng) {
        if self.pickable.insert(piece) {
            self.rarity.restore(piece, rng);
            self.first = self.first.min(piece.number());
        }
    }

    /// Takes the best piece among those that `pieces` has and that `claim` succeeds on. Every piece that `claim`
    /// was tried on is out of the order afterwards: claimed by us now, or found to be claimed by others. Among pieces
    /// that are equally good, those `suggested` by the peer come first (BEP 6).
    pub fn pick(
        &mut self,
        pieces: &PeerPieces,
        suggested: &[PieceIndex],
        order: Order,
        rng: &mut Rng,
        mut claim: impl FnMut(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        loop {
            let best = self.best(pieces, order, rng)?;
            let piece = self.as_good(best, pieces, suggested, order).unwrap_or(best);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_the_first_that_may_be_begun_comes_first() {
        let layout = PieceLayout::with_block_len(200, 1, 1).unwrap();
        let mut rng = Rng::new(1);
        let mut picker = Picker::new(layout, &mut rng);
        layout.pieces().skip(100).for_each(|piece| picker.adjust(piece, 1, &mut rng));
        let mut upper = Bitfield::empty(200);
        layout.pieces().skip(150).for_each(|piece| assert!(upper.insert(piece)));
        let upper = PeerPieces::Some(upper);
        let next = |picker: &mut Picker, pieces: &PeerPieces, taken: u32| {
            let claim = |piece: PieceIndex| piece.number() != taken;
            picker.pick(pieces, &[], Order::Sequential, &mut Rng::new(1), claim).map(PieceIndex::number)
        };
        assert_eq!(next(&mut picker, &PeerPieces::All, 0), Some(1), "0 is claimed elsewhere");
        assert_eq!(next(&mut picker, &upper, 0), Some(150), "the first that it has");
        assert_eq!(next(&mut picker, &PeerPieces::All, 0), Some(2));
        picker.restore(layout.piece(0).unwrap(), &mut rng);
        assert_eq!(next(&mut picker, &PeerPieces::All, 199), Some(0), "what came back is first again");
        let rest: Vec<u32> = std::iter::from_fn(|| next(&mut picker, &PeerPieces::All, 199)).collect();
        assert!(rest.is_sorted() && rest.len() == 200 - 5, "{rest:?}");
    }
}
