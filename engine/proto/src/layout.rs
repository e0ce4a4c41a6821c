//! How a torrent's bytes divide into pieces, and pieces into blocks. [`PieceIndex`] and [`Block`] can be made
//! only by a [`PieceLayout`], so an index from the wire is checked once, by construction. Files are not known
//! here.

use std::fmt;
use std::ops::Range;

use crate::limits::{BLOCK_LEN, MAX_PIECES};

/// A piece that exists in the layout that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The index as a number, below the layout's piece count.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The index, for slices.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {}", self.0)
    }
}

/// A block of a piece: what one of our requests asks for, 16 KiB but for the last of a torrent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    piece: PieceIndex,
    /// Position within the piece, counted in blocks.
    number: u32,
}

impl Block {
    /// The piece that holds it.
    pub const fn piece(self) -> PieceIndex {
        self.piece
    }

    /// Position within the piece, counted in blocks.
    pub const fn number(self) -> u32 {
        self.number
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}.{}", self.piece.0, self.number)
    }
}

/// A range within a piece, as a peer may ask for it: any alignment, not empty, within the piece.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    piece: PieceIndex,
    begin: u32,
    len: u32,
}

impl Span {
    /// The piece that holds it.
    pub const fn piece(self) -> PieceIndex {
        self.piece
    }

    /// First byte within the piece.
    pub const fn begin(self) -> u32 {
        self.begin
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "a span is never empty")]
    pub const fn len(self) -> u32 {
        self.len
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {} [{}; {}]", self.piece.0, self.begin, self.len)
    }
}

/// The division of `total_len` bytes into pieces and blocks (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceLayout {
    total_len: u64,
    piece_len: u32,
    block_len: u32,
    piece_count: u32,
}

/// Why a layout cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// A piece or block length of zero.
    ZeroPieceLength,
    /// More pieces than [`MAX_PIECES`].
    TooManyPieces(u64),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroPieceLength => f.write_str("the piece length is zero"),
            Self::TooManyPieces(count) => {
                write!(f, "{count} pieces are more than the {MAX_PIECES} supported")
            }
        }
    }
}

impl std::error::Error for LayoutError {}

impl PieceLayout {
    /// Pieces of `piece_len` bytes in blocks of 16 KiB; the last piece may be shorter.
    pub fn new(total_len: u64, piece_len: u32) -> Result<Self, LayoutError> {
        Self::with_block_len(total_len, piece_len, BLOCK_LEN)
    }

    /// As [`new`](Self::new) with blocks of `block_len` bytes, so that a simulation of a large image need not
    /// count every 16 KiB.
    pub fn with_block_len(total_len: u64, piece_len: u32, block_len: u32) -> Result<Self, LayoutError> {
        if piece_len == 0 || block_len == 0 {
            return Err(LayoutError::ZeroPieceLength);
        }
        let count = total_len.div_ceil(u64::from(piece_len));
        match u32::try_from(count) {
            Ok(piece_count) if piece_count <= MAX_PIECES => {
                Ok(Self { total_len, piece_len, block_len, piece_count })
            }
            _ => Err(LayoutError::TooManyPieces(count)),
        }
    }

    /// Bytes of all pieces together.
    pub const fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Bytes of every piece but the last.
    pub const fn nominal_piece_len(&self) -> u32 {
        self.piece_len
    }

    /// Bytes of every block but a piece's last.
    pub const fn block_len(&self) -> u32 {
        self.block_len
    }

    /// Number of pieces.
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// The piece of that number, where there is one.
    pub const fn piece(&self, number: u32) -> Option<PieceIndex> {
        if number < self.piece_count { Some(PieceIndex(number)) } else { None }
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        (0..self.piece_count).map(PieceIndex)
    }

    /// The pieces that hold some of these bytes of the torrent, in order.
    pub fn pieces_of(&self, bytes: Range<u64>) -> impl Iterator<Item = PieceIndex> + use<> {
        let end = bytes.end.min(self.total_len);
        let len = u64::from(self.piece_len);
        let numbers = if bytes.start < end { bytes.start / len..end.div_ceil(len) } else { 0..0 };
        // Piece counts fit, so what is within the torrent does.
        numbers.map(|number| PieceIndex(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// Where the piece begins in the torrent, in bytes.
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_len)
    }

    /// Bytes of the piece.
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        let rest = self.total_len - self.piece_offset(piece);
        u32::try_from(rest).unwrap_or(u32::MAX).min(self.piece_len)
    }

    /// Number of blocks in the piece.
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(self.block_len)
    }

    /// Number of blocks in a piece of nominal length.
    pub const fn nominal_block_count(&self) -> u32 {
        self.piece_len.div_ceil(self.block_len)
    }

    /// The block at that position of the piece, where there is one.
    pub fn block(&self, piece: PieceIndex, number: u32) -> Option<Block> {
        (number < self.block_count(piece)).then_some(Block { piece, number })
    }

    /// The piece's blocks in order.
    pub fn blocks(&self, piece: PieceIndex) -> impl ExactSizeIterator<Item = Block> + use<> {
        (0..self.block_count(piece)).map(move |number| Block { piece, number })
    }

    /// The block that lies exactly at `begin` with `length` bytes: what we ask for and nothing else.
    pub fn block_at(&self, piece: u32, begin: u32, length: u32) -> Option<Block> {
        let block = self.block(self.piece(piece)?, begin / self.block_len)?;
        (self.block_begin(block) == begin && self.block_size(block) == length).then_some(block)
    }

    /// First byte of the block within its piece.
    pub const fn block_begin(&self, block: Block) -> u32 {
        block.number * self.block_len
    }

    /// Bytes of the block.
    pub fn block_size(&self, block: Block) -> u32 {
        (self.piece_len(block.piece) - self.block_begin(block)).min(self.block_len)
    }

    /// The range a peer asks for, where it is not empty and lies within the piece.
    pub fn span(&self, piece: u32, begin: u32, len: u32) -> Option<Span> {
        let piece = self.piece(piece)?;
        let end = begin.checked_add(len)?;
        (len > 0 && end <= self.piece_len(piece)).then_some(Span { piece, begin, len })
    }

    /// The block as a range.
    pub fn block_span(&self, block: Block) -> Span {
        Span { piece: block.piece, begin: self.block_begin(block), len: self.block_size(block) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_piece_and_block_are_short() {
        let layout = PieceLayout::new(2 * 65536 + 16385, 65536).unwrap();
        let last = layout.piece(2).unwrap();
        assert_eq!((layout.piece_count(), layout.piece_len(last), layout.block_count(last)), (3, 16385, 2));
        let tail = layout.block_at(2, 16384, 1).unwrap();
        assert_eq!((tail.number(), layout.block_size(tail)), (1, 1));
        assert_eq!(layout.piece(3), None);
        assert_eq!(layout.block(last, 2), None);
        assert_eq!(layout.block_at(2, 16384, 16384), None, "longer than the block is");
        assert_eq!(layout.block_at(0, 1, 16384), None, "not where a block begins");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(PieceLayout::new(1, 0), Err(LayoutError::ZeroPieceLength));
        assert_eq!(PieceLayout::new(u64::MAX, 1), Err(LayoutError::TooManyPieces(u64::MAX)));
        assert_eq!(PieceLayout::new(0, 16384).unwrap().piece_count(), 0);
    }

    #[test]
    fn spans_lie_within_their_piece() {
        let layout = PieceLayout::new(100, 60).unwrap();
        assert!(layout.span(1, 39, 1).is_some());
        for (piece, begin, len) in
            [(1, 40, 1), (1, 0, 41), (0, 0, 0), (2, 0, 1), (0, u32::MAX, 2), (0, 2, u32::MAX)]
        {
            assert_eq!(layout.span(piece, begin, len), None, "{piece} {begin} {len}");
        }
    }

    #[test]
    fn bytes_lie_in_their_pieces() {
        let layout = PieceLayout::new(100, 30).unwrap();
        let of = |bytes| layout.pieces_of(bytes).map(PieceIndex::number).collect::<Vec<_>>();
        assert_eq!(of(0..1), [0]);
        assert_eq!((of(29..31), of(30..60)), (vec![0, 1], vec![1]));
        assert_eq!(of(95..u64::MAX), [3]);
        assert_eq!([of(5..5), of(100..101), of(200..300)], [const { Vec::<u32>::new() }; 3]);
    }

    proptest! {
        #[test]
        fn blocks_tile_the_torrent(total in 0u64..2_000_000, piece_len in 1u32..200_000, block_len in 1u32..20_000) {
            prop_assume!(total / u64::from(piece_len) < 5_000 && piece_len / block_len < 5_000);
            let layout = PieceLayout::with_block_len(total, piece_len, block_len).unwrap();
            let mut next = 0;
            for block in layout.pieces().flat_map(|piece| layout.blocks(piece)) {
                prop_assert_eq!(layout.piece_offset(block.piece()) + u64::from(layout.block_begin(block)), next);
                let span = layout.block_span(block);
                prop_assert_eq!(layout.block_at(span.piece().number(), span.begin(), span.len()), Some(block));
                next += u64::from(layout.block_size(block));
            }
            prop_assert_eq!(next, total);
        }
    }
}
