//! Pieces in order of availability, rarest first, ties in random order. Owns the count of peers that have each
//! piece (those that have everything are counted apart, by the caller) and the order of the pieces that may be
//! picked. Does not know who claimed what.

use crate::layout::PieceIndex;
use crate::rng::Rng;

/// Not in the order.
const NOWHERE: u32 = u32::MAX;

/// Counts and order: 10 bytes a piece.
#[derive(Debug)]
pub struct Rarity {
    /// Pieces that may be picked, by rising availability, random within the same.
    order: Vec<u32>,
    /// Where each piece stands in `order`, or [`NOWHERE`].
    position: Vec<u32>,
    /// How many partial peers have each piece, on this shard and, up to a batch ago, on the others.
    availability: Vec<u16>,
    /// `order[starts[a]..starts[a + 1]]` are the pieces of availability `a`; the last entry is `order.len()`.
    starts: Vec<u32>,
}

impl Rarity {
    /// All of `count` pieces may be picked, nobody has any.
    pub fn new(count: u32, rng: &mut Rng) -> Self {
        let mut order: Vec<u32> = (0..count).collect();
        rng.shuffle(&mut order);
        let mut position = vec![0; count as usize];
        for (at, &piece) in order.iter().enumerate() {
            position[piece as usize] = at as u32;
        }
        Self { order, position, availability: vec![0; count as usize], starts: vec![0, count] }
    }

    /// The pieces that may be picked, rarest first, as numbers.
    pub fn order(&self) -> &[u32] {
        &self.order
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
        for _ in 0..delta.unsigned_abs() {
            if delta > 0 { self.raise(piece, rng) } else { self.lower(piece, rng) }
        }
    }

    /// Takes the piece out of the order; nothing where it is not in it.
    pub fn remove(&mut self, piece: PieceIndex) {
        let mut hole = self.position[piece.index()];
        if hole == NOWHERE {
            return;
        }
        // The hole travels to the end: each bucket above gives its last to the hole and begins one earlier.
        for bucket in usize::from(self.availability(piece)) + 1..self.starts.len() {
            self.starts[bucket] -= 1;
            let last = self.starts[bucket];
            // An empty bucket's last is the hole itself.
            if last != hole {
                self.place(self.order[last as usize], hole);
            }
            hole = last;
        }
        self.order.pop();
        self.position[piece.index()] = NOWHERE;
    }

    /// Puts the piece back into the order; nothing where it is in it.
    pub fn restore(&mut self, piece: PieceIndex, rng: &mut Rng) {
        if self.contains(piece) {
            return;
        }
        let bucket = usize::from(self.availability(piece));
        self.grow(bucket);
        let mut hole = self.order.len() as u32;
        self.order.push(piece.number());
        // The hole travels down: each bucket above gives its first to its own end.
        for above in (bucket + 1..self.starts.len()).rev() {
            let first = self.starts[above];
            if first != hole {
                self.place(self.order[first as usize], hole);
            }
            hole = first;
            self.starts[above] += 1;
        }
        self.place(piece.number(), hole);
        self.mix(hole, bucket, rng);
    }

    /// Bytes that the tables take.
    pub fn memory(&self) -> usize {
        self.order.capacity() * 4 + self.position.capacity() * 4 + self.availability.capacity() * 2
    }

    fn raise(&mut self, piece: PieceIndex, rng: &mut Rng) {
        let bucket = usize::from(self.availability[piece.index()]);
        if bucket == usize::from(u16::MAX) {
            return;
        }
        self.availability[piece.index()] += 1;
        if self.contains(piece) {
            self.grow(bucket + 1);
            self.starts[bucket + 1] -= 1;
            let edge = self.starts[bucket + 1];
            self.swap(self.position[piece.index()], edge);
            self.mix(edge, bucket + 1, rng);
        }
    }

    fn lower(&mut self, piece: PieceIndex, rng: &mut Rng) {
        let bucket = usize::from(self.availability[piece.index()]);
        if bucket == 0 {
            return;
        }
        self.availability[piece.index()] -= 1;
        if self.contains(piece) {
            let edge = self.starts[bucket];
            self.swap(self.position[piece.index()], edge);
            self.starts[bucket] += 1;
            self.mix(edge, bucket - 1, rng);
        }
    }

    /// Makes sure that the bucket has a beginning and an end.
    fn grow(&mut self, bucket: usize) {
        let end = self.order.len() as u32;
        if self.starts.len() < bucket + 2 {
            self.starts.resize(bucket + 2, end);
        }
    }

    /// Swaps the piece at `at` with a random one of its bucket, so that ties stay in random order.
    fn mix(&mut self, at: u32, bucket: usize, rng: &mut Rng) {
        let (from, to) = (self.starts[bucket], self.starts[bucket + 1]);
        let other = from + rng.below((to - from) as usize) as u32;
        self.swap(at, other);
    }

    fn swap(&mut self, a: u32, b: u32) {
        let (first, second) = (self.order[a as usize], self.order[b as usize]);
        self.place(first, b);
        self.place(second, a);
    }

    fn place(&mut self, piece: u32, at: u32) {
        self.order[at as usize] = piece;
        self.position[piece as usize] = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;
    use crate::rng::Rng;
    use proptest::prelude::*;

    fn check(rarity: &Rarity, model: &[(u16, bool)]) {
        let expected = model.iter().filter(|(_, inside)| *inside).count();
        assert_eq!(rarity.order.len(), expected);
        assert_eq!((rarity.starts[0], *rarity.starts.last().unwrap() as usize), (0, expected));
        for (piece, &(availability, inside)) in model.iter().enumerate() {
            assert_eq!(rarity.availability[piece], availability);
            assert_eq!(rarity.position[piece] != NOWHERE, inside);
        }
        for (at, &piece) in rarity.order.iter().enumerate() {
            assert_eq!(rarity.position[piece as usize] as usize, at);
            let bucket = usize::from(model[piece as usize].0);
            assert!((rarity.starts[bucket] as usize..rarity.starts[bucket + 1] as usize).contains(&at));
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

    #[test]
    fn ties_are_broken_at_random() {
        let layout = PieceLayout::with_block_len(8, 1, 1).unwrap();
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut rarity = Rarity::new(8, &mut rng);
            layout.pieces().for_each(|piece| rarity.adjust(piece, 2, &mut rng));
            layout.pieces().skip(4).for_each(|piece| rarity.adjust(piece, -1, &mut rng));
            assert!(rarity.order()[..4].iter().all(|&piece| piece >= 4), "rarer pieces come first");
            firsts.insert(rarity.order()[0]);
        }
        assert_eq!(firsts.len(), 4, "each of the rarest leads sometimes");
    }
}
