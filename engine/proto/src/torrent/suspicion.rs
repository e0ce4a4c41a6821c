//! Who gave what to pieces that failed their hash. When such a piece is right at last, the blocks of the failed
//! tries are held against it by digest: who gave a differing block lied, and nobody else did.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::layout::PieceIndex;
use crate::limits::{MAX_FAILED_TRIES, MAX_SUSPECT_PIECES, keep};

/// A digest of one block, made by the driver: SHA-1, so that no liar can find a block of equal digest.
pub type BlockDigest = [u8; 20];

/// A piece that failed its hash: the giver and the digest of each block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedTry {
    /// In the order of the blocks.
    pub blocks: Vec<(IpAddr, BlockDigest)>,
}

/// The failed tries that are not yet explained.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    tries: BTreeMap<PieceIndex, Vec<Arc<FailedTry>>>,
}

impl Suspicion {
    /// Whether a try of the piece is unexplained.
    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.tries.contains_key(&piece)
    }

    /// Whether the address gave a block to an unexplained try of the piece.
    pub(super) fn suspects(&self, piece: PieceIndex, addr: IpAddr) -> bool {
        let tries = self.tries.get(&piece).into_iter().flatten();
        tries.flat_map(|failed| &failed.blocks).any(|(giver, _)| *giver == addr)
    }

    /// Remembers a failed try; the oldest piece is forgotten where there are too many.
    pub(super) fn remember(&mut self, piece: PieceIndex, failed: Arc<FailedTry>) {
        if !self.contains(piece) && self.tries.len() == MAX_SUSPECT_PIECES {
            self.tries.pop_first();
        }
        let tries = self.tries.entry(piece).or_default();
        if tries.len() < MAX_FAILED_TRIES {
            tries.push(failed);
        }
    }

    /// The piece is right and these are its blocks: who lied about it, each once, in order of address.
    pub(super) fn resolve(&mut self, piece: PieceIndex, digests: &[BlockDigest]) -> Vec<IpAddr> {
        let tries = self.tries.remove(&piece).unwrap_or_default();
        let mut liars: Vec<IpAddr> = tries
            .iter()
            .flat_map(|failed| failed.blocks.iter().zip(digests))
            .filter(|((_, given), right)| given != *right)
            .map(|((giver, _), _)| *giver)
            .collect();
        liars.sort_unstable();
        liars.dedup();
        liars
    }

    /// Panics with the name of a bound that is not kept.
    pub(super) fn check_bounds(&self) {
        keep("MAX_SUSPECT_PIECES", self.tries.len(), MAX_SUSPECT_PIECES);
        let most = self.tries.values().map(Vec::len).max().unwrap_or(0);
        keep("MAX_FAILED_TRIES", most, MAX_FAILED_TRIES);
    }

    /// The piece was explained elsewhere.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.tries.remove(&piece);
    }
}

#[cfg(test)]
impl Suspicion {
    /// Remembers so many empty tries, past all bounds.
    pub(super) fn insert_for_tests(&mut self, piece: PieceIndex, tries: usize) {
        let failed = Arc::new(FailedTry { blocks: vec![] });
        self.tries.insert(piece, vec![failed; tries]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn only_the_liar_is_found() {
        let piece = PieceLayout::new(1, 1).unwrap().piece(0).unwrap();
        let mut suspicion = Suspicion::default();
        let first = vec![(addr(1), [1; 20]), (addr(2), [66; 20]), (addr(3), [3; 20])];
        let second = vec![(addr(2), [1; 20]), (addr(3), [2; 20]), (addr(2), [66; 20])];
        for blocks in [first, second] {
            suspicion.remember(piece, Arc::new(FailedTry { blocks }));
        }
        assert!(suspicion.suspects(piece, addr(3)) && !suspicion.suspects(piece, addr(4)));
        assert_eq!(suspicion.resolve(piece, &[[1; 20], [2; 20], [3; 20]]), [addr(2)]);
        assert!(!suspicion.contains(piece));
    }

    proptest::proptest! {
        /// Each try has its givers and, here and there, a wrong block: right is zero.
        #[test]
        fn whoever_gave_a_wrong_block_and_nobody_else(
            tries in proptest::collection::vec(proptest::collection::vec((0u8..6, 0u8..4), 5), 1..=MAX_FAILED_TRIES),
        ) {
            let piece = PieceLayout::new(1, 1).unwrap().piece(0).unwrap();
            let mut suspicion = Suspicion::default();
            for given in &tries {
                let blocks = given.iter().map(|&(giver, lie)| (addr(giver), [lie; 20])).collect();
                suspicion.remember(piece, Arc::new(FailedTry { blocks }));
            }
            let lied = tries.iter().flatten().filter(|(_, lie)| *lie != 0);
            let liars: std::collections::BTreeSet<IpAddr> = lied.map(|&(giver, _)| addr(giver)).collect();
            let found = suspicion.resolve(piece, &[[0; 20]; 5]);
            proptest::prop_assert_eq!(found, liars.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn memory_is_bounded() {
        let layout = PieceLayout::with_block_len(1000, 1, 1).unwrap();
        let mut suspicion = Suspicion::default();
        for piece in layout.pieces() {
            for _ in 0..20 {
                suspicion.remember(piece, Arc::new(FailedTry { blocks: vec![] }));
            }
        }
        assert_eq!(suspicion.tries.len(), MAX_SUSPECT_PIECES);
        assert!(suspicion.tries.values().all(|tries| tries.len() == MAX_FAILED_TRIES));
    }
}
