//! Which pieces are wanted, and which of them first: what a selection of files comes to. Settled before a torrent runs.

use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::layout::{PieceIndex, PieceLayout};

/// How much something is wanted. The later, the more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Not at all.
    Skip,
    /// As most.
    #[default]
    Normal,
    /// Before what is wanted as most.
    High,
}

/// How much each piece of a torrent is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    wanted: Bitfield,
    /// Among the wanted.
    high: Bitfield,
    /// Bytes of the wanted.
    bytes: u64,
}

impl Selection {
    /// Nothing is wanted: for whoever only gives what is there.
    pub fn nothing(count: u32) -> Self {
        Self { wanted: Bitfield::empty(count), high: Bitfield::empty(count), bytes: 0 }
    }

    /// What files of these lengths come to, which follow each other from the first byte of the torrent on. A piece with
    /// parts of several is wanted as much as the one that is wanted most, for it can be verified as a whole only.
    pub fn of_files(layout: &PieceLayout, files: impl IntoIterator<Item = (u64, Priority)>) -> Self {
        let mut selection = Self::nothing(layout.piece_count());
        let mut begin = 0_u64;
        for (len, priority) in files {
            let end = begin.saturating_add(len);
            selection.add(layout, begin..end, priority);
            begin = end;
        }
        selection
    }

    /// Of how many pieces it says something.
    pub const fn piece_count(&self) -> u32 {
        self.wanted.len()
    }

    /// How much the piece is wanted.
    pub fn priority(&self, piece: PieceIndex) -> Priority {
        match (self.wanted.contains(piece), self.high.contains(piece)) {
            (false, _) => Priority::Skip,
            (true, false) => Priority::Normal,
            (true, true) => Priority::High,
        }
    }

    /// Whether the piece is wanted.
    pub fn wants(&self, piece: PieceIndex) -> bool {
        self.wanted.contains(piece)
    }

    /// How many pieces are wanted.
    pub const fn wanted_count(&self) -> u32 {
        self.wanted.count()
    }

    /// How many pieces are wanted that are not in `have`.
    pub fn count_without(&self, have: &Bitfield) -> u32 {
        self.wanted.count_without(have)
    }

    /// Whether some are wanted before others.
    pub const fn has_high(&self) -> bool {
        !self.high.is_empty()
    }

    /// Bytes of the pieces that are wanted.
    pub const fn wanted_bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, layout: &PieceLayout, bytes: Range<u64>, priority: Priority) {
        if priority == Priority::Skip {
            return;
        }
        for piece in layout.pieces_of(bytes) {
            let added = self.wanted.insert(piece);
            self.bytes += if added { u64::from(layout.piece_len(piece)) } else { 0 };
            if priority == Priority::High {
                self.high.insert(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn priorities(selection: &Selection, layout: &PieceLayout) -> Vec<Priority> {
        layout.pieces().map(|piece| selection.priority(piece)).collect()
    }

    #[test]
    fn a_piece_is_wanted_as_much_as_the_best_of_its_files() {
        use Priority::{High, Normal, Skip};
        let layout = PieceLayout::with_block_len(50, 10, 5).unwrap();
        let files = [(12, Skip), (0, High), (3, Normal), (5, Skip), (15, High), (10, Skip), (5, Skip)];
        let selection = Selection::of_files(&layout, files);
        assert_eq!(priorities(&selection, &layout), [Skip, Normal, High, High, Skip]);
        assert_eq!((selection.wanted_count(), selection.wanted_bytes()), (3, 30));
        assert!(selection.has_high() && !Selection::nothing(5).has_high());
        assert_eq!(priorities(&Selection::nothing(5), &layout), [Skip; 5]);
    }

    #[test]
    fn the_last_piece_counts_its_own_bytes() {
        let layout = PieceLayout::with_block_len(25, 10, 5).unwrap();
        let selection = Selection::of_files(&layout, [(24, Priority::Skip), (1, Priority::Normal)]);
        assert_eq!((selection.wanted_count(), selection.wanted_bytes()), (1, 5));
    }

    proptest! {
        /// The obvious implementation: a table of every byte.
        #[test]
        fn agrees_with_a_table_of_all_bytes(
            files in prop::collection::vec((0u64..40, 0usize..3), 1..15), piece_len in 1u32..50,
        ) {
            let all = [Priority::Skip, Priority::Normal, Priority::High];
            let files: Vec<_> = files.into_iter().map(|(len, which)| (len, all[which])).collect();
            let table: Vec<Priority> =
                files.iter().flat_map(|&(len, priority)| (0..len).map(move |_| priority)).collect();
            let layout = PieceLayout::new(table.len() as u64, piece_len).unwrap();
            let selection = Selection::of_files(&layout, files);
            let expected: Vec<Priority> = table
                .chunks(piece_len as usize)
                .map(|piece| piece.iter().copied().max().unwrap())
                .collect();
            prop_assert_eq!(priorities(&selection, &layout), expected);
        }
    }
}
