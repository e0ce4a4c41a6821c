//! `Pieces`: the pieces that one receiving thread has open, and the buffers it has for them.
//!
//! Owns the buffers on their way from being free through being filled to being sent off as a batch; `verify` sends
//! them back. Does not know of peers.

use std::io::{self, ErrorKind};

use crossbeam::channel::{Receiver, Sender};
use ringtide_proto::layout::{PieceIndex, PieceLayout, Span};

/// Memory for one piece.
pub(super) type Buffer<'b> = &'b mut [u8];

/// A complete piece, not verified.
pub(super) struct Filled<'b> {
    pub(super) piece: PieceIndex,
    pub(super) len: usize,
    pub(super) buffer: Buffer<'b>,
}

impl Filled<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// Pieces to verify together.
pub(super) struct Batch<'b> {
    /// By which thread they were received: the buffers go back there.
    pub(super) receiver: usize,
    pub(super) pieces: Vec<Filled<'b>>,
}

/// The pieces and buffers of one receiving thread.
pub(super) struct Pieces<'b> {
    receiver: usize,
    layout: PieceLayout,
    batch_len: usize,
    free: Vec<Buffer<'b>>,
    /// Begun and not complete, with the bytes that are missing.
    open: Vec<(Filled<'b>, usize)>,
    full: Vec<Filled<'b>>,
    filled: Sender<Batch<'b>>,
    emptied: Receiver<Vec<Buffer<'b>>>,
}

impl<'b> Pieces<'b> {
    pub(super) fn new(
        receiver: usize,
        layout: PieceLayout,
        batch_len: usize,
        free: Vec<Buffer<'b>>,
        filled: Sender<Batch<'b>>,
        emptied: Receiver<Vec<Buffer<'b>>>,
    ) -> Self {
        Self { receiver, layout, batch_len, free, open: Vec::new(), full: Vec::new(), filled, emptied }
    }

    /// The memory of a piece, which is opened if it is not open.
    pub(super) fn memory(&mut self, piece: PieceIndex) -> io::Result<&mut [u8]> {
        let at = match self.open.iter().position(|(open, _)| open.piece == piece) {
            Some(at) => at,
            None => self.open(piece)?,
        };
        let (open, _) = &mut self.open[at];
        Ok(&mut open.buffer[..open.len])
    }

    /// Takes in a part of a block, `at` bytes behind its beginning.
    pub(super) fn put(&mut self, span: Span, at: usize, bytes: &[u8]) -> io::Result<()> {
        let begin = span.begin() as usize + at;
        self.memory(span.piece())?[begin..begin + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// All bytes of a block have come.
    pub(super) fn complete(&mut self, span: Span) -> io::Result<()> {
        let Some(at) = self.open.iter().position(|(open, _)| open.piece == span.piece()) else {
            return Ok(());
        };
        self.open[at].1 -= span.len() as usize;
        if self.open[at].1 == 0 {
            self.full.push(self.open.swap_remove(at).0);
            if self.full.len() >= self.batch_len {
                self.send_off()?;
            }
        }
        Ok(())
    }

    /// Sends off what is complete, be it a whole batch or not.
    pub(super) fn send_off(&mut self) -> io::Result<()> {
        let pieces = std::mem::replace(&mut self.full, Vec::with_capacity(self.batch_len));
        if pieces.is_empty() {
            return Ok(());
        }
        self.filled.send(Batch { receiver: self.receiver, pieces }).map_err(|_| stopped())
    }

    fn open(&mut self, piece: PieceIndex) -> io::Result<usize> {
        let len = self.layout.piece_len(piece) as usize;
        let buffer = self.free_buffer()?;
        self.open.push((Filled { piece, len, buffer }, len));
        Ok(self.open.len() - 1)
    }

    /// The one that was emptied last, which is the likeliest to be in a cache.
    fn free_buffer(&mut self) -> io::Result<Buffer<'b>> {
        self.free.extend(self.emptied.try_iter().flatten());
        loop {
            if let Some(buffer) = self.free.pop() {
                return Ok(buffer);
            }
            self.send_off()?;
            self.free = self.emptied.recv().map_err(|_| stopped())?;
        }
    }
}

/// Of no interest to anybody: the verifying thread says why it ended.
fn stopped() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "nobody verifies any more")
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::unbounded;

    use super::*;

    const BLOCK: u32 = 16384;

    #[test]
    fn pieces_go_off_in_batches_and_their_buffers_come_back() {
        let layout = PieceLayout::new(u64::from(4 * BLOCK + 1), BLOCK).expect("fits");
        let mut memory = vec![0; 3 * BLOCK as usize];
        let (filled, batches) = unbounded();
        let (back, emptied) = unbounded();
        let free = memory.chunks_mut(BLOCK as usize).collect();
        let mut pieces = Pieces::new(7, layout, 2, free, filled, emptied);
        for piece in layout.pieces() {
            let span = layout.block_span(layout.block(piece, 0).expect("is there"));
            let payload = vec![piece.number() as u8; span.len() as usize];
            let (front, tail) = payload.split_at(payload.len() / 2);
            pieces.put(span, front.len(), tail).expect("has room");
            pieces.put(span, 0, front).expect("has room");
            pieces.complete(span).expect("is taken");
            for batch in batches.try_iter() {
                check(batch, &back, 2);
            }
        }
        pieces.send_off().expect("is taken");
        check(batches.try_recv().expect("the rest"), &back, 1);
        drop(batches);
        pieces.memory(layout.piece(0).expect("is there")).expect("has room");
    }

    fn check<'b>(batch: Batch<'b>, back: &Sender<Vec<Buffer<'b>>>, len: usize) {
        assert_eq!((batch.receiver, batch.pieces.len()), (7, len));
        for filled in &batch.pieces {
            let number = filled.piece.number();
            assert_eq!(filled.bytes().len(), if number == 4 { 1 } else { BLOCK as usize });
            assert!(filled.bytes().iter().all(|&byte| u32::from(byte) == number));
        }
        back.send(batch.pieces.into_iter().map(|filled| filled.buffer).collect()).expect("is awaited");
    }

    #[test]
    fn the_end_of_verification_ends_the_wait_for_buffers() {
        let layout = PieceLayout::new(u64::from(BLOCK), BLOCK).expect("fits");
        let (filled, batches) = unbounded();
        let (back, emptied) = unbounded();
        let mut pieces = Pieces::new(0, layout, 2, Vec::new(), filled, emptied);
        drop((batches, back));
        assert!(pieces.memory(layout.piece(0).expect("is there")).is_err());
    }
}
