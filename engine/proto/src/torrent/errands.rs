//! Which pieces a host is to bring into its rack: a ring on which hosts and pieces have places. Knows no peers and no
//! pieces; who uses it is `core::rack`.

use crate::id::PeerId;
use crate::layout::PieceIndex;

/// Places of each host on the ring: the more, the more even are the shares. With 32, the largest is half more than the mean.
const PLACES: u64 = 32;

/// The parts of the ring that are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errands {
    /// From just behind another's place up to ours, in order; the first may begin behind the second's end: it goes round.
    arcs: Vec<(u64, u64)>,
    /// Of our rack, we included.
    hosts: usize,
}

impl Errands {
    /// Of us, among those others of our rack.
    pub fn new(ours: PeerId, others: impl Iterator<Item = PeerId>) -> Self {
        let places = |id: PeerId, is_ours: bool| (0..PLACES).map(move |number| (place(id, number), is_ours));
        let mut ring: Vec<(u64, bool)> = places(ours, true).collect();
        ring.extend(others.flat_map(|id| places(id, false)));
        let hosts = ring.len() / PLACES as usize;
        ring.sort_unstable();
        let before = ring.iter().cycle().skip(ring.len() - 1);
        let arcs = ring.iter().zip(before).filter(|((_, ours), _)| *ours);
        Self { arcs: arcs.map(|(&(end, _), &(begin, _))| (begin, end)).collect(), hosts }
    }

    /// Whether nobody else is in our rack.
    pub const fn are_alone(&self) -> bool {
        self.hosts == 1
    }

    /// How many hosts are in our rack, we included.
    pub const fn hosts(&self) -> usize {
        self.hosts
    }

    /// Whether it is on us to bring the piece.
    pub fn include(&self, piece: PieceIndex) -> bool {
        let place = mix(u64::from(piece.number()));
        let next = self.arcs.partition_point(|&(_, end)| end < place);
        // Behind the last end it goes round to the first.
        let (begin, end) = self.arcs[next % self.arcs.len()];
        if begin < end { begin < place && place <= end } else { place > begin || place <= end }
    }
}

fn place(id: PeerId, number: u64) -> u64 {
    let words = id.0.chunks(8).map(|bytes| bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
    mix(words.fold(number, |hash, word| mix(hash) ^ word))
}

/// S. Vigna's finaliser of splitmix64: every bit of what goes in decides every bit of what comes out.
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;
    use proptest::prelude::*;

    fn ids(count: usize, salt: u8) -> Vec<PeerId> {
        let id = |number: usize| {
            let mut id = [salt; 20];
            id[16..].copy_from_slice(&(number as u32).to_be_bytes());
            PeerId(id)
        };
        (0..count).map(id).collect()
    }

    /// Of each host: what it has to bring, by what it knows.
    fn shares(ids: &[PeerId], layout: &PieceLayout) -> Vec<Vec<u32>> {
        let share = |&ours: &PeerId| {
            let errands = Errands::new(ours, ids.iter().copied().filter(|&id| id != ours));
            layout.pieces().filter(|&piece| errands.include(piece)).map(PieceIndex::number).collect()
        };
        ids.iter().map(share).collect()
    }

    proptest! {
        #[test]
        fn each_piece_is_brought_by_one(count in 1usize..40, salt: u8) {
            let layout = PieceLayout::with_block_len(300, 1, 1).unwrap();
            let mut all: Vec<u32> = shares(&ids(count, salt), &layout).concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..300).collect::<Vec<_>>());
        }
    }

    #[test]
    fn shares_are_about_even_and_stay_when_others_come() {
        let layout = PieceLayout::with_block_len(20_000, 1, 1).unwrap();
        let before = shares(&ids(50, 1), &layout);
        let lens = before.iter().map(Vec::len);
        let (least, most) = (lens.clone().min().unwrap(), lens.max().unwrap());
        assert!(least > 200 && most < 700, "{least} to {most} of 400 on average");
        let after = shares(&ids(51, 1), &layout);
        let moved = before.iter().flatten().count()
            - before
                .iter()
                .zip(&after)
                .map(|(before, after)| before.iter().filter(|piece| after.contains(piece)).count())
                .sum::<usize>();
        assert_eq!(moved, after[50].len(), "what is not the new one's stays where it was");
    }

    #[test]
    fn one_alone_brings_everything() {
        let layout = PieceLayout::with_block_len(100, 1, 1).unwrap();
        assert!(Errands::new(ids(1, 0)[0], std::iter::empty()).are_alone());
        assert_eq!(shares(&ids(1, 0), &layout)[0].len(), 100);
        assert!(!Errands::new(ids(1, 0)[0], ids(2, 0).into_iter().skip(1)).are_alone());
    }
}
