//! Pieces in order of availability, rarest first, ties in random order. Owns the count of peers that have each
//! piece (those that have everything are counted apart, by the caller) and the order of the pieces that may be
//! picked. Does not know who claimed what.

use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;
use crate::rng::Rng;

/// Not in a bucket.
const NOWHERE: u32 = u32::MAX;

/// A bucket that has room for this many times what is in it gives memory back: pieces wander from bucket to bucket.
const SPARE: usize = 4;

/// Buckets below this size keep their memory.
const SMALL_BUCKET: usize = 64;

/// Buckets to a word of bits.
const WORD: usize = u64::BITS as usize;

/// Counts and order: 10 to 22 bytes a piece, and 24 for each peer that has some. No step of it looks at more than a few
/// pieces and a word for 64 peers, however many pieces and peers there are.
#[derive(Debug)]
pub struct Rarity {
    /// Under each availability, the pieces of it that may be picked, in random order.
    buckets: Vec<Vec<u32>>,
    /// A bit for each bucket that is not empty: few are where all peers have nearly everything, or nearly nothing.
    filled: Vec<u64>,
    /// Where each piece stands in its bucket, or [`NOWHERE`].
    position: Vec<u32>,
    /// How many partial peers have each piece, on this shard and, up to a batch ago, on the others.
    availability: Vec<u16>,
}

impl Rarity {
    /// All of `count` pieces may be picked, nobody has any.
    pub fn new(count: u32, rng: &mut Rng) -> Self {
        Self::of(&Bitfield::full(count), rng)
    }

    /// Those pieces may be picked, nobody has any.
    pub fn of(pieces: &Bitfield, rng: &mut Rng) -> Self {
        let mut all = Vec::with_capacity(pieces.count() as usize);
        all.extend(pieces.numbers());
        rng.shuffle(&mut all);
        let mut position = vec![NOWHERE; pieces.len() as usize];
        for (at, &piece) in all.iter().enumerate() {
            position[piece as usize] = at as u32;
        }
        Self {
            filled: vec![u64::from(!all.is_empty())],
            buckets: vec![all],
            position,
            availability: vec![0; pieces.len() as usize],
        }
    }

    /// The pieces that may be picked, rarest first, as numbers.
    pub fn order(&self) -> impl Iterator<Item = u32> + '_ {
        self.filled_buckets().flatten().copied()
    }

    fn filled_buckets(&self) -> impl Iterator<Item = &Vec<u32>> + '_ {
        let words = self.filled.iter().inspect(|_| crate::work::step());
        words.zip(self.buckets.chunks(WORD)).flat_map(|(&word, buckets)| {
            let rests = std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)));
            rests.take_while(|&rest| rest != 0).map(|rest| &buckets[rest.trailing_zeros() as usize])
        })
    }

    /// Whether the piece may be picked.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.position[piece.index()] != NOWHERE
    }

    /// How many partial peers have the piece.
    pub fn availability(&self, piece: PieceIndex) -> u16 {
        self.availability[piece.index()]
    }

    /// `delta` more (or fewer) peers have the piece.
    pub fn adjust(&mut self, piece: PieceIndex, delta: i32, rng: &mut Rng) {
        let before = self.availability(piece);
        let bounded = (i32::from(before).saturating_add(delta)).clamp(0, i32::from(u16::MAX));
        let after = u16::try_from(bounded).unwrap_or(u16::MAX);
        if self.contains(piece) && after != before {
            self.take(piece);
            self.availability[piece.index()] = after;
            self.put(piece, rng);
        } else {
            self.availability[piece.index()] = after;
        }
    }

    /// Takes the piece out of the order; nothing where it is not in it.
    pub fn remove(&mut self, piece: PieceIndex) {
        if self.contains(piece) {
            self.take(piece);
        }
    }

    /// Puts the piece back into the order; nothing where it is in it.
    pub fn restore(&mut self, piece: PieceIndex, rng: &mut Rng) {
        if !self.contains(piece) {
            self.put(piece, rng);
        }
    }

    /// Bytes that the tables take.
    pub fn memory(&self) -> usize {
        let buckets: usize = self.buckets.iter().map(|bucket| bucket.capacity() * 4 + 24).sum();
        buckets + self.filled.capacity() * 8 + self.position.capacity() * 4 + self.availability.capacity() * 2
    }

    /// Takes the piece out of its bucket; the last one there takes its place.
    fn take(&mut self, piece: PieceIndex) {
        let at = std::mem::replace(&mut self.position[piece.index()], NOWHERE);
        let number = usize::from(self.availability[piece.index()]);
        let bucket = &mut self.buckets[number];
        bucket.swap_remove(at as usize);
        if bucket.is_empty() {
            self.filled[number / WORD] &= !(1 << (number % WORD));
        }
        if let Some(&moved) = bucket.get(at as usize) {
            self.position[moved as usize] = at;
        }
        if bucket.capacity() > (bucket.len() * SPARE).max(SMALL_BUCKET) {
            bucket.shrink_to(bucket.len() * 2);
        }
    }

    /// Puts the piece at a random place of its bucket, so that ties stay in random order.
    fn put(&mut self, piece: PieceIndex, rng: &mut Rng) {
        let number = usize::from(self.availability(piece));
        if self.buckets.len() <= number {
            self.buckets.resize_with(number + 1, Vec::new);
            self.filled.resize(number / WORD + 1, 0);
        }
        self.filled[number / WORD] |= 1 << (number % WORD);
        let bucket = &mut self.buckets[number];
        bucket.push(piece.number());
        let (last, at) = (bucket.len() - 1, rng.below(bucket.len()));
        bucket.swap(last, at);
        self.position[bucket[last] as usize] = last as u32;
        self.position[piece.index()] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;
    use crate::rng::Rng;
    use proptest::prelude::*;

    fn check(rarity: &Rarity, model: &[(u16, bool)]) {
        for (number, bucket) in rarity.buckets.iter().enumerate() {
            assert_eq!(rarity.filled[number / WORD] >> (number % WORD) & 1 == 1, !bucket.is_empty());
        }
        let expected = model.iter().filter(|(_, inside)| *inside).count();
        assert_eq!(rarity.order().count(), expected);
        for (piece, &(availability, inside)) in model.iter().enumerate() {
            assert_eq!(rarity.availability[piece], availability);
            assert_eq!(rarity.position[piece] != NOWHERE, inside);
            if inside {
                let bucket = &rarity.buckets[usize::from(availability)];
                assert_eq!(bucket[rarity.position[piece] as usize] as usize, piece);
            }
        }
    }

    #[test]
    fn memory_follows_the_pieces_from_bucket_to_bucket() {
        let (count, mut rng) = (10_000, Rng::new(1));
        let layout = PieceLayout::with_block_len(u64::from(count), 1, 1).unwrap();
        let mut rarity = Rarity::new(count, &mut rng);
        for _ in 0..50 {
            layout.pieces().for_each(|piece| rarity.adjust(piece, 1, &mut rng));
            assert!(rarity.memory() < 24 * count as usize, "{} bytes", rarity.memory());
        }
    }

    proptest! {
        #[test]
        fn agrees_with_counting(count in 1u32..40, seed: u64, steps in prop::collection::vec((0u32..40, 0u8..4), 0..300)) {
            let layout = PieceLayout::with_block_len(u64::from(count), 1, 1).unwrap();
            let mut rng = Rng::new(seed);
            let mut rarity = Rarity::new(count, &mut rng);
            let mut model = vec![(0u16, true); count as usize];
            for (number, what) in steps {
                let piece = layout.piece(number % count).unwrap();
                let entry = &mut model[piece.index()];
                match what {
                    0 => { rarity.adjust(piece, 1, &mut rng); entry.0 += 1; }
                    1 => { rarity.adjust(piece, -1, &mut rng); entry.0 = entry.0.saturating_sub(1); }
                    2 => { rarity.remove(piece); entry.1 = false; }
                    _ => { rarity.restore(piece, &mut rng); entry.1 = true; }
                }
                check(&rarity, &model);
            }
        }
    }

    /// In a swarm of nearly complete peers.
    #[test]
    fn empty_buckets_below_the_rarest_are_not_walked() {
        let layout = PieceLayout::with_block_len(8, 1, 1).unwrap();
        let mut rng = Rng::new(1);
        let mut rarity = Rarity::new(8, &mut rng);
        layout.pieces().for_each(|piece| rarity.adjust(piece, 6_400, &mut rng));
        rarity.adjust(layout.piece(3).unwrap(), -1, &mut rng);
        let before = crate::work::steps();
        assert_eq!(rarity.order().next(), Some(3));
        let steps = crate::work::steps() - before;
        assert!(steps <= 6_400 / 64 + 1, "{steps} steps");
        assert!(rarity.memory() >= 6_400 / 8 + 6_400 * 24);
    }

    #[test]
    fn ties_are_broken_at_random() {
        let layout = PieceLayout::with_block_len(8, 1, 1).unwrap();
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut rarity = Rarity::new(8, &mut rng);
            layout.pieces().for_each(|piece| rarity.adjust(piece, 2, &mut rng));
            layout.pieces().skip(4).for_each(|piece| rarity.adjust(piece, -1, &mut rng));
            assert!(rarity.order().take(4).all(|piece| piece >= 4), "rarer pieces come first");
            firsts.insert(rarity.order().next().unwrap());
        }
        assert_eq!(firsts.len(), 4, "each of the rarest leads sometimes");
    }
}
