//! `Synthetic`: content that is made up, for measuring a network without a disk.
//!
//! Owns the bytes: every piece is one pseudo-random pattern that ends in the piece's number. So a sender needs the memory of
//! one piece, which it sends without copying, and the hashes of all pieces are known from one: but no two pieces are
//! alike, and whoever receives one must hash all of it.

use bytes::Bytes;
use ringtide_hasher::{Sha1Digest, Sha1State};
use ringtide_proto::layout::{PieceIndex, PieceLayout};
use ringtide_proto::metainfo::{BuildError, TorrentBuilder};

/// Bytes of a piece's number, at its end.
const TRAILER: usize = 8;

/// Content that is made up. The same size, piece length and seed make the same content everywhere.
#[derive(Clone, Debug)]
pub struct Synthetic {
    piece_count: u32,
    piece_len: u32,
    pattern: Bytes,
}

impl Synthetic {
    /// Content of at least `len` bytes, rounded up to whole pieces (and at least one) of `piece_len` bytes, which are more
    /// than a handful.
    ///
    /// # Panics
    /// For pieces of fewer than 64 bytes, or too many of them to be counted in 32 bits.
    #[must_use]
    pub fn new(len: u64, piece_len: u32, seed: u64) -> Self {
        assert!(piece_len >= 64, "a piece holds its number and more");
        let pieces = len.div_ceil(u64::from(piece_len)).max(1);
        let mut pattern = vec![0; piece_len as usize];
        fill(&mut pattern, seed);
        Self {
            piece_count: u32::try_from(pieces).expect("the caller bounds the number of pieces"),
            piece_len,
            pattern: pattern.into(),
        }
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from(self.piece_count) * u64::from(self.piece_len)
    }

    /// Never: there is at least one piece.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of each piece.
    #[must_use]
    pub fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// The torrent file that describes it: one file of that name. Hashes the pattern once, whatever the size.
    ///
    /// # Errors
    /// When there are too many pieces.
    pub fn torrent(&self, name: &str) -> Result<Vec<u8>, BuildError> {
        TorrentBuilder::single_file(name, self.len(), self.piece_len).build(&self.hashes())
    }

    /// The hash of every piece.
    #[must_use]
    pub fn hashes(&self) -> Vec<Sha1Digest> {
        let mut body = Sha1State::new();
        body.update(&self.pattern[..self.body_len()]);
        let digest = |number| {
            let mut state = body.clone();
            state.update(&trailer(number));
            state.finish()
        };
        (0..self.piece_count).map(digest).collect()
    }

    /// The bytes from `begin` in the piece, in one or two parts that share memory with the pattern.
    ///
    /// # Panics
    /// When the range leaves the piece.
    #[must_use]
    pub fn parts(&self, piece: PieceIndex, begin: u32, len: u32) -> Vec<Bytes> {
        let (begin, end) = (begin as usize, begin as usize + len as usize);
        assert!(end <= self.piece_len as usize, "bytes {begin} to {end} are not all in {piece:?}");
        let body = self.body_len();
        let mut parts = Vec::with_capacity(2);
        if begin < body {
            parts.push(self.pattern.slice(begin..end.min(body)));
        }
        if end > body {
            let number = trailer(piece.number());
            parts.push(Bytes::copy_from_slice(&number[begin.max(body) - body..end - body]));
        }
        parts
    }

    /// Where the number begins.
    fn body_len(&self) -> usize {
        self.piece_len as usize - TRAILER
    }

    /// Whether the torrent divides as this does.
    pub(crate) fn fits(&self, layout: &PieceLayout) -> bool {
        layout.total_len() == self.len() && layout.nominal_piece_len() == self.piece_len
    }
}

fn trailer(number: u32) -> [u8; TRAILER] {
    u64::from(number).to_le_bytes()
}

/// SplitMix64 (Steele, Lea and Flood 2014).
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for bytes in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..bytes.len()]);
    }
}

#[cfg(test)]
mod tests {
    use ringtide_hasher::sha1;

    use super::*;

    fn content() -> (Synthetic, PieceLayout) {
        let synthetic = Synthetic::new(250, 100, 1);
        let layout = PieceLayout::new(synthetic.len(), synthetic.piece_len()).expect("a layout");
        (synthetic, layout)
    }

    fn bytes(synthetic: &Synthetic, piece: PieceIndex, begin: u32, len: u32) -> Vec<u8> {
        synthetic.parts(piece, begin, len).concat()
    }

    #[test]
    fn hashes_are_those_of_the_bytes() {
        let (synthetic, layout) = content();
        assert_eq!((synthetic.len(), synthetic.hashes().len()), (300, 3));
        for (piece, hash) in layout.pieces().zip(synthetic.hashes()) {
            assert_eq!(sha1(&bytes(&synthetic, piece, 0, 100)), hash);
        }
        assert_ne!(synthetic.hashes()[0], synthetic.hashes()[1], "no two pieces are alike");
    }

    #[test]
    fn any_range_is_that_part_of_the_piece() {
        let (synthetic, layout) = content();
        let piece = layout.piece(2).expect("there are three");
        let whole = bytes(&synthetic, piece, 0, 100);
        for begin in 0..=100_u32 {
            for len in 0..=100 - begin {
                let range = begin as usize..(begin + len) as usize;
                assert_eq!(bytes(&synthetic, piece, begin, len), whole[range], "{begin} + {len}");
            }
        }
    }

    #[test]
    fn the_seed_decides_the_bytes() {
        let hashes = |seed| Synthetic::new(1000, 100, seed).hashes();
        assert_eq!(hashes(5), hashes(5));
        assert_ne!(hashes(5), hashes(6));
    }
}
