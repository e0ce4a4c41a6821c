//! `ZeroDigests`: the digests of pieces of zeros, which is what holes and padding read as.

use std::sync::OnceLock;

use ringtide_hasher::{Sha1Digest, Sha1State};
use ringtide_proto::layout::{PieceIndex, PieceLayout};

/// Digests of a torrent's pieces when all of their bytes are zero; each is worked out once, when it is needed.
#[derive(Debug)]
pub struct ZeroDigests {
    layout: PieceLayout,
    /// Of a full piece, and of a shorter last one.
    known: [OnceLock<Sha1Digest>; 2],
}

impl ZeroDigests {
    /// For pieces of that layout.
    #[must_use]
    pub fn new(layout: PieceLayout) -> ZeroDigests {
        ZeroDigests { layout, known: Default::default() }
    }

    /// The digest of that many zeros as the piece has bytes.
    pub fn of(&self, piece: PieceIndex) -> Sha1Digest {
        let len = self.layout.piece_len(piece);
        let is_last = len < self.layout.nominal_piece_len();
        *self.known[usize::from(is_last)].get_or_init(|| digest_of_zeros(len as usize))
    }
}

fn digest_of_zeros(mut len: usize) -> Sha1Digest {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut state = Sha1State::new();
    while len > 0 {
        let part = len.min(ZEROS.len());
        state.update(&ZEROS[..part]);
        len -= part;
    }
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_are_right() {
        let layout = PieceLayout::new(200_001, 100_000).expect("a layout");
        let zeros = ZeroDigests::new(layout);
        for piece in layout.pieces() {
            let bytes = vec![0; layout.piece_len(piece) as usize];
            assert_eq!(zeros.of(piece), ringtide_hasher::sha1(&bytes), "{piece:?}");
        }
    }
}
