//! `Verified`: a piece whose bytes have the hash that the torrent states. Only such a piece can be written.
//!
//! Owns that guarantee and nothing else.

use ringtide_hasher::{Sha1Digest, sha1};
use ringtide_proto::layout::PieceIndex;

use super::buffer::FrozenRange;

/// A piece that passed its hash check. Its bytes are frozen, so they are still what was checked.
#[derive(Clone, Debug)]
pub struct Verified {
    piece: PieceIndex,
    data: FrozenRange,
}

impl Verified {
    /// Hashes a whole piece and compares; `None` when the digests differ.
    #[must_use]
    pub fn check(piece: PieceIndex, data: FrozenRange, expected: &Sha1Digest) -> Option<Verified> {
        (sha1(data.as_slice()) == *expected).then_some(Verified { piece, data })
    }

    /// For the hash pool, which has hashed every byte of `data` already, perhaps as it arrived.
    pub(crate) fn by_digest(
        piece: PieceIndex,
        data: FrozenRange,
        digest: &Sha1Digest,
        expected: &Sha1Digest,
    ) -> Option<Verified> {
        (digest == expected).then_some(Verified { piece, data })
    }

    /// Which piece.
    #[must_use]
    pub fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// Its bytes.
    #[must_use]
    pub fn data(&self) -> &FrozenRange {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use ringtide_proto::layout::PieceLayout;

    use super::super::BufferPool;
    use super::*;

    #[test]
    fn only_the_right_bytes_are_verified() {
        let piece = PieceLayout::new(4, 4).expect("a layout").piece(0).expect("a piece");
        let frozen = |bytes: &[u8; 4]| {
            let mut buffer = BufferPool::new(4096).try_take(4).expect("has room");
            buffer.write(0, bytes);
            buffer.freeze()
        };
        let expected = sha1(b"good");
        assert!(Verified::check(piece, frozen(b"good"), &expected).is_some());
        assert!(Verified::check(piece, frozen(b"evil"), &expected).is_none());
    }
}
