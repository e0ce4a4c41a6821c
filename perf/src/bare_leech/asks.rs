//! `Asks`: which blocks are asked of one peer, in which order, and how many at a time.
//!
//! Owns the order and the depth. Does not touch the socket.

use std::collections::VecDeque;
use std::ops::Range;

use ringtide_proto::layout::{PieceLayout, Span};
use ringtide_proto::limits::DEFAULT_REQQ;
use ringtide_proto::wire::{Message, RawSpan};

/// The blocks of a range of pieces, from the first to the last.
#[derive(Debug)]
pub(super) struct Asks {
    layout: PieceLayout,
    /// Blocks that were never asked for.
    next: Range<u64>,
    /// To be asked for again, before the others: a choke took them back.
    again: VecDeque<Span>,
    /// Asked for and not begun to arrive, in the order of asking.
    asked: VecDeque<Span>,
    /// Most blocks to have asked for.
    depth: usize,
    choked: bool,
}

impl Asks {
    pub(super) fn new(layout: PieceLayout, pieces: Range<u32>, depth: usize) -> Self {
        let per_piece = u64::from(layout.nominal_block_count());
        let blocks = block_count(&layout, pieces.end, per_piece);
        let next = block_count(&layout, pieces.start, per_piece)..blocks;
        Self { layout, next, again: VecDeque::new(), asked: VecDeque::new(), depth, choked: true }
    }

    /// Nothing is left to ask for or to wait for.
    pub(super) fn are_done(&self) -> bool {
        self.asked.is_empty() && self.again.is_empty() && self.next.is_empty()
    }

    pub(super) fn unchoke(&mut self) {
        self.choked = false;
    }

    /// BEP 3: what was asked for will not come.
    pub(super) fn choke(&mut self) {
        self.choked = true;
        self.asked.append(&mut self.again);
        self.again = std::mem::take(&mut self.asked);
    }

    /// The peer keeps no more than `reqq` requests (BEP 10).
    pub(super) fn limit(&mut self, reqq: u32) {
        self.depth = self.depth.min(reqq.max(1) as usize);
    }

    /// BEP 10: a peer that does not say how much it keeps is taken to keep the usual number.
    pub(super) fn limit_to_usual(&mut self) {
        self.limit(DEFAULT_REQQ);
    }

    /// Appends requests to `out` once half the depth is free: few writes, large ones.
    pub(super) fn refill(&mut self, out: &mut Vec<u8>) {
        if self.choked || self.asked.len() > self.depth / 2 {
            return;
        }
        while self.asked.len() < self.depth
            && let Some(span) = self.again.pop_front().or_else(|| self.next_span())
        {
            Message::Request(on_wire(span)).encode(out);
            self.asked.push_back(span);
        }
    }

    /// What should come next, in order.
    pub(super) fn expected(&self) -> impl Iterator<Item = Span> {
        self.asked.iter().copied()
    }

    /// A block begins to arrive: whether it was asked for. It is not expected any more.
    pub(super) fn begun(&mut self, block: RawSpan) -> Option<Span> {
        let position = self.asked.iter().position(|&span| on_wire(span) == block)?;
        self.asked.remove(position)
    }

    fn next_span(&mut self) -> Option<Span> {
        let block = self.next.next()?;
        let per_piece = u64::from(self.layout.nominal_block_count());
        let piece = self.layout.piece((block / per_piece) as u32)?;
        let block = self.layout.block(piece, (block % per_piece) as u32)?;
        Some(self.layout.block_span(block))
    }
}

/// The blocks of the first so many pieces; only the torrent's last piece has fewer than the others.
fn block_count(layout: &PieceLayout, pieces: u32, per_piece: u64) -> u64 {
    match pieces.checked_sub(1).and_then(|last| layout.piece(last)) {
        Some(last) => u64::from(pieces - 1) * per_piece + u64::from(layout.block_count(last)),
        None => 0,
    }
}

pub(super) fn on_wire(span: Span) -> RawSpan {
    RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 16384;

    /// Two whole pieces of four blocks, and one of a block and a byte.
    fn layout() -> PieceLayout {
        PieceLayout::new(u64::from(9 * BLOCK + 1), 4 * BLOCK).expect("fits")
    }

    fn spans(asks: &mut Asks) -> Vec<(u32, u32, u32)> {
        asks.refill(&mut Vec::new());
        asks.expected().map(|span| (span.piece().number(), span.begin(), span.len())).collect()
    }

    #[test]
    fn a_share_is_asked_for_from_its_first_block_to_its_last() {
        let mut asks = Asks::new(layout(), 1..3, 100);
        assert_eq!(spans(&mut asks), [], "choked");
        asks.unchoke();
        let blocks = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)];
        let wanted =
            blocks.map(|(piece, at)| (piece, at * BLOCK, if (piece, at) == (2, 1) { 1 } else { BLOCK }));
        assert_eq!(spans(&mut asks), wanted);
        for (piece, begin, length) in wanted {
            assert!(asks.begun(RawSpan { piece, begin, length }).is_some());
        }
        assert!(asks.are_done());
    }

    #[test]
    fn the_depth_is_filled_when_half_of_it_is_free() {
        let mut asks = Asks::new(layout(), 0..3, 100);
        asks.limit(4);
        asks.unchoke();
        assert_eq!(spans(&mut asks).len(), 4);
        assert!(asks.begun(RawSpan { piece: 0, begin: 0, length: BLOCK }).is_some());
        assert_eq!(spans(&mut asks).len(), 3);
        assert!(asks.begun(RawSpan { piece: 0, begin: BLOCK, length: BLOCK }).is_some());
        assert_eq!(spans(&mut asks).len(), 4);
    }

    #[test]
    fn what_a_choke_takes_back_is_asked_for_again_first() {
        let mut asks = Asks::new(layout(), 0..3, 3);
        asks.unchoke();
        let first = spans(&mut asks);
        asks.choke();
        assert_eq!(spans(&mut asks), []);
        assert!(!asks.are_done());
        asks.unchoke();
        assert_eq!(spans(&mut asks), first);
    }

    #[test]
    fn what_was_not_asked_for_is_not_wanted() {
        let mut asks = Asks::new(layout(), 0..3, 3);
        asks.unchoke();
        spans(&mut asks);
        assert!(asks.begun(RawSpan { piece: 2, begin: 0, length: BLOCK }).is_none());
        assert!(asks.begun(RawSpan { piece: 0, begin: BLOCK, length: BLOCK }).is_some(), "out of order");
        assert!(asks.begun(RawSpan { piece: 0, begin: BLOCK, length: BLOCK }).is_none(), "a second time");
    }
}
