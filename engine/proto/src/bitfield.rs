//! A set of pieces, one bit each, in the wire's order (BEP 3: the high bit of the first byte is piece 0), with
//! its size counted along. Stored as words so that two sets meet 64 pieces at a time.

use std::fmt;

use crate::layout::{PieceIndex, PieceLayout};

/// Which pieces of a torrent somebody has.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    /// Piece `i` is bit `63 - i % 64` of word `i / 64`; bits past the last piece are zero.
    words: Box<[u64]>,
    len: u32,
    /// How many bits are set.
    count: u32,
}

/// Why bytes from the wire are no bitfield of this torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitfieldError {
    /// Not as many bytes as the torrent's pieces need.
    WrongLength {
        /// Bytes received.
        bytes: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// A bit past the last piece is set.
    SpareBitSet,
}

impl fmt::Display for BitfieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLength { bytes, expected } => {
                write!(f, "a bitfield of {bytes} bytes where the torrent's pieces need {expected}")
            }
            Self::SpareBitSet => f.write_str("a bitfield with a bit set past the last piece"),
        }
    }
}

impl std::error::Error for BitfieldError {}

impl Bitfield {
    /// No pieces of `len`.
    pub fn empty(len: u32) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize].into(), len, count: 0 }
    }

    /// All pieces of `len`.
    pub fn full(len: u32) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64) as usize];
        if let (Some(last), 1..) = (words.last_mut(), len % 64) {
            *last = u64::MAX << (64 - len % 64);
        }
        Self { words: words.into(), len, count: len }
    }

    /// The set a peer sent.
    pub fn from_wire(bytes: &[u8], layout: &PieceLayout) -> Result<Self, BitfieldError> {
        let mut set = Self::empty(layout.piece_count());
        let expected = wire_len(set.len);
        if bytes.len() != expected {
            return Err(BitfieldError::WrongLength { bytes: bytes.len(), expected });
        }
        for (word, chunk) in set.words.iter_mut().zip(bytes.chunks(8)) {
            let mut raw = [0; 8];
            raw[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_be_bytes(raw);
        }
        // BEP 3: spare bits at the end are set to zero.
        if let (Some(last), spare @ 1..) = (set.words.last(), set.len % 64)
            && last << spare != 0
        {
            return Err(BitfieldError::SpareBitSet);
        }
        set.count = set.words.iter().map(|word| word.count_ones()).sum();
        Ok(set)
    }

    /// The set as the wire carries it.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.truncate(wire_len(self.len));
        bytes
    }

    /// How many pieces the torrent has.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many pieces are in the set.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether no piece is in the set.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether all pieces are in the set.
    pub const fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Whether the piece is in the set.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.words[piece.index() / 64] & mask(piece.number()) != 0
    }

    /// Adds the piece; false where it was there already.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let word = &mut self.words[piece.index() / 64];
        let before = *word;
        *word |= mask(piece.number());
        // Words are compared, not the bit: rustc 1.95 loses the count in optimised callers where the bit is tested.
        let added = *word != before;
        self.count += u32::from(added);
        added
    }

    /// Takes the piece out; false where it was not there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let word = &mut self.words[piece.index() / 64];
        let before = *word;
        *word &= !mask(piece.number());
        // As in `insert`.
        let removed = *word != before;
        self.count -= u32::from(removed);
        removed
    }

    /// The numbers of the pieces in the set, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| ones(i as u32 * 64, word))
    }

    /// The pieces in the set, in order; `layout` must have as many pieces as this set was made for.
    pub fn pieces<'a>(&'a self, layout: &'a PieceLayout) -> impl Iterator<Item = PieceIndex> + 'a {
        self.numbers().filter_map(|number| layout.piece(number))
    }

    /// How many pieces are in this set and not in `other`.
    pub fn count_without(&self, other: &Self) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & !b).count_ones()).sum()
    }

    /// The first piece at or after `from`, going round, that is in this set and in `other`.
    pub fn first_common(&self, other: &Self, from: u32) -> Option<u32> {
        self.first_where(from, |i| self.words[i] & other.words[i])
    }

    /// The first piece at or after `from`, going round, that is in this set and in both others.
    pub fn first_common_of(&self, others: [&Self; 2], from: u32) -> Option<u32> {
        self.first_where(from, |i| self.words[i] & others[0].words[i] & others[1].words[i])
    }

    /// The first piece at or after `from`, going round, that is in this set and not in `other`.
    pub fn first_without(&self, other: &Self, from: u32) -> Option<u32> {
        self.first_where(from, |i| self.words[i] & !other.words[i])
    }

    fn first_where(&self, from: u32, meet: impl Fn(usize) -> u64) -> Option<u32> {
        let words = self.words.len();
        let start = (from / 64) as usize % words.max(1);
        let found = |i: usize, keep: u64| {
            crate::work::step();
            let word = meet(i) & keep;
            (word != 0).then(|| i as u32 * 64 + word.leading_zeros())
        };
        if words == 0 {
            return None;
        }
        let after = u64::MAX >> (from % 64);
        found(start, after)
            .or_else(|| (1..words).find_map(|step| found((start + step) % words, u64::MAX)))
            .or_else(|| found(start, !after))
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.count, self.len)
    }
}

/// Bytes that a set of `len` pieces takes on the wire.
pub const fn wire_len(len: u32) -> usize {
    len.div_ceil(8) as usize
}

const fn mask(number: u32) -> u64 {
    1 << (63 - number % 64)
}

fn ones(base: u32, mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let lead = word.leading_zeros();
        (lead < 64).then(|| {
            word &= !(1 << (63 - lead));
            base + lead
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn layout(len: u32) -> PieceLayout {
        PieceLayout::with_block_len(u64::from(len), 1, 1).unwrap()
    }

    #[test]
    fn wire_order_is_high_bit_first() {
        let set = Bitfield::from_wire(&[0b1000_0001, 0b0100_0000], &layout(10)).unwrap();
        assert_eq!(set.numbers().collect::<Vec<_>>(), [0, 7, 9]);
        assert_eq!(set.to_wire(), [0b1000_0001, 0b0100_0000]);
    }

    #[test]
    fn hostile_bitfields_are_refused() {
        assert_eq!(Bitfield::from_wire(&[0, 0x20], &layout(10)), Err(BitfieldError::SpareBitSet));
        for bytes in [0, 1, 3] {
            let found = Bitfield::from_wire(&vec![0; bytes], &layout(10));
            assert_eq!(found, Err(BitfieldError::WrongLength { bytes, expected: 2 }));
        }
        assert!(Bitfield::from_wire(&[0xff; 8], &layout(64)).unwrap().is_full());
    }

    #[test]
    fn full_sets_of_all_sizes() {
        for len in 0..200 {
            let full = Bitfield::full(len);
            assert_eq!(full.numbers().count(), len as usize);
            assert_eq!(Bitfield::from_wire(&full.to_wire(), &layout(len)), Ok(full));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(len in 1u32..300, steps in prop::collection::vec((any::<bool>(), any::<u32>()), 0..200), from: u32) {
            let layout = layout(len);
            let (mut set, mut model) = (Bitfield::empty(len), BTreeSet::new());
            for (insert, number) in steps {
                let piece = layout.piece(number % len).unwrap();
                let changed = if insert { set.insert(piece) } else { set.remove(piece) };
                prop_assert_eq!(changed, if insert { model.insert(piece.number()) } else { model.remove(&piece.number()) });
            }
            prop_assert_eq!(set.count() as usize, model.len());
            prop_assert!(set.numbers().eq(model.iter().copied()));
            prop_assert_eq!(&Bitfield::from_wire(&set.to_wire(), &layout).unwrap(), &set);
            let from = from % len;
            let expected = model.range(from..).next().or_else(|| model.iter().next()).copied();
            prop_assert_eq!(set.first_common(&Bitfield::full(len), from), expected);
            prop_assert_eq!(Bitfield::full(len).count_without(&set), len - set.count());
            let lacking: BTreeSet<u32> = (0..len).filter(|number| !model.contains(number)).collect();
            let expected = lacking.range(from..).next().or_else(|| lacking.first()).copied();
            prop_assert_eq!(Bitfield::full(len).first_without(&set, from), expected);
        }
    }
}
