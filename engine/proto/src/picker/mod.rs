//! Which piece to begin next: at random for the first, then rarest first (BEP 3's "Downloading" and B. Cohen,
//! "Incentives Build Robustness in BitTorrent", 2003, section 2.4), or in order for whoever wants the content so. Of files, those that the user wants
//! first come first, and those that he does not want never. Blocks within a piece, and which open piece
//! to go on with, are [`OpenPiece`]'s and the shard's.

mod open;
mod rarity;
mod selection;
mod tier;

#[cfg(test)]
mod model;

pub use open::OpenPiece;
pub use rarity::Rarity;
pub use selection::{Priority, Selection};

use crate::bitfield::Bitfield;
use crate::layout::{PieceIndex, PieceLayout};
use crate::peer::PeerPieces;
use crate::rng::Rng;
use tier::Tier;

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

/// The pieces that may be begun, by priority and rarity.
#[derive(Debug)]
pub struct Picker {
    /// Those of high priority, where there are such.
    high: Option<High>,
    /// All others that are wanted. Counts for the others, too, how many peers have them.
    normal: Tier,
    /// Pieces that are not wanted: they are in no tier, ever.
    unwanted: Option<Bitfield>,
}

/// Pieces of high priority.
#[derive(Debug)]
struct High {
    members: Bitfield,
    tier: Tier,
}

impl Picker {
    /// Every piece of the layout may be begun.
    pub fn new(layout: PieceLayout, rng: &mut Rng) -> Self {
        let all = Bitfield::full(layout.piece_count());
        Self { high: None, normal: Tier::new(layout, all, rng), unwanted: None }
    }

    /// Every piece that is wanted may be begun, those of high priority before all others.
    pub fn selecting(layout: PieceLayout, selection: &Selection, rng: &mut Rng) -> Self {
        let [mut unwanted, mut normal, mut members] = [(); 3].map(|()| Bitfield::empty(layout.piece_count()));
        for piece in layout.pieces() {
            let set = match selection.priority(piece) {
                Priority::Skip => &mut unwanted,
                Priority::Normal => &mut normal,
                Priority::High => &mut members,
            };
            set.insert(piece);
        }
        let high = selection.has_high().then(|| {
            let tier = Tier::new(layout, members.clone(), rng);
            High { members, tier }
        });
        Self { high, normal: Tier::new(layout, normal, rng), unwanted: Some(unwanted) }
    }

    /// Whether no piece may be begun.
    pub fn is_empty(&self) -> bool {
        self.tiers().all(Tier::is_empty)
    }

    /// Whether a piece of high priority may be begun.
    pub fn is_urgent(&self) -> bool {
        self.high.as_ref().is_some_and(|high| !high.tier.is_empty())
    }

    /// Whether less than `ahead` pieces lie between the first that may be begun and that one.
    pub fn is_soon(&self, piece: PieceIndex, ahead: u32) -> bool {
        let first = self.tiers().filter_map(Tier::first).min();
        first.is_some_and(|first| piece.number() < first.saturating_add(ahead))
    }

    /// Whether the piece may be begun.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.tiers().any(|tier| tier.contains(piece))
    }

    /// How many partial peers have the piece.
    pub fn availability(&self, piece: PieceIndex) -> u16 {
        self.normal.availability(piece)
    }

    /// `delta` more (or fewer) partial peers have the piece.
    pub fn adjust(&mut self, piece: PieceIndex, delta: i32, rng: &mut Rng) {
        self.normal.adjust(piece, delta, rng);
        if let Some(high) = &mut self.high {
            high.tier.adjust(piece, delta, rng);
        }
    }

    /// The piece may not be begun: it is had, or somebody assembles it.
    pub fn remove(&mut self, piece: PieceIndex) {
        self.tier_of(piece).remove(piece);
    }

    /// The piece may be begun again; nothing where it is not wanted.
    pub fn restore(&mut self, piece: PieceIndex, rng: &mut Rng) {
        if !self.unwanted.as_ref().is_some_and(|unwanted| unwanted.contains(piece)) {
            self.tier_of(piece).restore(piece, rng);
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
            let piece = self.tiers().find_map(|tier| tier.choose(pieces, suggested, order, rng))?;
            self.remove(piece);
            if claim(piece) {
                return Some(piece);
            }
        }
    }

    /// The same of those `suggested` only, in that order, however rare they are.
    pub fn pick_suggested(
        &mut self,
        pieces: &PeerPieces,
        suggested: &[PieceIndex],
        mut claim: impl FnMut(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        for &piece in suggested {
            if self.contains(piece) && pieces.contains(piece) {
                self.remove(piece);
                if claim(piece) {
                    return Some(piece);
                }
            }
        }
        None
    }

    /// As [`pick`](Self::pick), any of those pieces that are `wanted`, too.
    pub fn pick_wanted(
        &mut self,
        pieces: &PeerPieces,
        wanted: &Bitfield,
        rng: &mut Rng,
        mut claim: impl FnMut(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        loop {
            let piece = self.tiers().find_map(|tier| tier.any_wanted(pieces, wanted, rng))?;
            self.remove(piece);
            if claim(piece) {
                return Some(piece);
            }
        }
    }

    /// Bytes that the tables take.
    pub fn memory(&self) -> usize {
        let sets = self.unwanted.iter().chain(self.high.iter().map(|high| &high.members));
        let bits: usize = sets.map(|set| set.len() as usize / 8).sum();
        self.tiers().map(Tier::memory).sum::<usize>() + bits
    }

    /// The highest first.
    fn tiers(&self) -> impl Iterator<Item = &Tier> {
        self.high.iter().map(|high| &high.tier).chain([&self.normal])
    }

    fn tier_of(&mut self, piece: PieceIndex) -> &mut Tier {
        match &mut self.high {
            Some(high) if high.members.contains(piece) => &mut high.tier,
            _ => &mut self.normal,
        }
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
