//! `Upload`: the blocks of one send, and where their bytes come from: files of which the page cache has them, buffers
//! that they are read into, padding. Which reads they need is planned here; `send` has them carried out.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use ringtide_proto::layout::{PieceIndex, Span};
use ringtide_proto::limits::MAX_REQUEST_LEN;
use ringtide_proto::wire::{Message, RawSpan};

use crate::driver::SendBatch;
use crate::storage::{
    AlignedBuf, BufferPool, FrozenRange, MappedRange, ReadPart, ReadSource, Storage, StorageError,
};

/// Most files of one send that are read by an operation each: beyond it their descriptors and whole pages of
/// buffers are too many, and a worker reads them one after the other into one buffer.
const MAX_FILE_PARTS: usize = 64;

/// What padding reads as.
static ZEROS: [u8; MAX_REQUEST_LEN as usize] = [0; MAX_REQUEST_LEN as usize];

/// Blocks on their way to the peer. Emptied and used again, so that a send allocates nothing in steady state.
#[derive(Default)]
pub(super) struct Upload {
    pub(super) spans: Vec<Span>,
    /// In the order of the spans, without gaps.
    parts: Vec<Part>,
    /// Parts that are being read.
    pub(super) reads: usize,
    pub(super) failed: bool,
    /// Of use while the parts are planned.
    plan: Vec<ReadPart>,
    /// Buffers for the parts that are to be read, the last one first.
    buffers: Vec<AlignedBuf>,
}

/// A part of the bytes.
struct Part {
    len: usize,
    source: Source,
}

/// Where the bytes of a part are.
pub(super) enum Source {
    /// To be read from a file, at an offset.
    File(Arc<OwnedFd>, u64),
    /// To be read from so many files that a worker does it: piece, begin.
    Scattered(PieceIndex, u32),
    /// To be copied from a piece that was just verified: sent from there, one block that a peer does not take would hold
    /// the memory of the whole piece.
    Hot(FrozenRange),
    /// Being read.
    Reading,
    Read(FrozenRange),
    Mapped(MappedRange),
    Memory(Bytes),
    Zeros,
}

/// A read that an upload needs.
pub(super) struct Read {
    /// Of which part.
    pub(super) number: usize,
    pub(super) len: usize,
    pub(super) source: Source,
    pub(super) buffer: AlignedBuf,
}

impl Upload {
    /// Finds out where the bytes of the spans are. `hot` knows the pieces that are in memory still.
    pub(super) fn plan(
        &mut self,
        storage: &Storage,
        hot: impl Fn(PieceIndex) -> Option<FrozenRange>,
    ) -> Result<(), StorageError> {
        self.parts.clear();
        let (mut file_parts, mut next) = (0, 0);
        while let Some((piece, range, count)) = run(&self.spans[next..]) {
            next += count;
            let (begin, len) = (range.start, range.end - range.start);
            if let Some(data) = hot(piece) {
                let data = data.slice(range.start as usize..range.end as usize);
                self.parts.push(Part { len: data.len(), source: Source::Hot(data) });
                continue;
            }
            file_parts += storage.file_parts(piece, begin, len);
            if file_parts > MAX_FILE_PARTS {
                self.parts.push(Part { len: len as usize, source: Source::Scattered(piece, begin) });
                continue;
            }
            storage.read_plan(piece, begin, len, &mut self.plan)?;
            self.parts.extend(self.plan.drain(..).flat_map(parts));
        }
        Ok(())
    }

    /// Whether it waits for buffers: it is planned anew when it gets some, and holds nothing meanwhile.
    pub(super) fn is_waiting(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it needs buffers to be read into.
    pub(super) fn needs_buffers(&self) -> bool {
        self.parts.iter().any(Part::is_unread)
    }

    /// Whether everything is here.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_waiting() && self.reads == 0 && !self.needs_buffers()
    }

    /// Gives up what was planned.
    pub(super) fn wait(&mut self) {
        self.parts.clear();
        self.buffers.clear();
    }

    /// Whether something has to come from a disk.
    pub(super) fn is_cold(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.source, Source::File(..)))
    }

    /// Takes a buffer for each part that is to be read; `false` where there are not enough.
    pub(super) fn take_buffers(&mut self, pool: &BufferPool) -> bool {
        for part in self.parts.iter().filter(|part| part.is_unread()) {
            match pool.try_take_aligned(part.len) {
                Some(buffer) => self.buffers.push(buffer),
                None => return false,
            }
        }
        // They are handed out from the end.
        self.buffers.reverse();
        true
    }

    /// The next part that is to be read, for which there is a buffer, from number `from` on. It is being read now.
    pub(super) fn begin_read(&mut self, from: usize) -> Option<Read> {
        let number = from + self.parts[from..].iter().position(Part::is_unread)?;
        let buffer = self.buffers.pop()?;
        let part = &mut self.parts[number];
        self.reads += 1;
        let source = std::mem::replace(&mut part.source, Source::Reading);
        Some(Read { number, len: part.len, source, buffer })
    }

    /// A part was read, or could not be.
    pub(super) fn end_read(&mut self, number: usize, data: Option<FrozenRange>) {
        self.reads -= 1;
        let part = self.parts.get_mut(number);
        match part.zip(data) {
            Some((part, data)) if data.len() == part.len => part.source = Source::Read(data),
            _ => self.failed = true,
        }
    }

    /// Appends the blocks with their headers to the batch, and is empty then. Returns the bytes of blocks.
    pub(super) fn fill(&mut self, batch: &mut SendBatch) -> u64 {
        let mut total = 0;
        let mut parts = self.parts.iter();
        let (mut part, mut at) = (parts.next(), 0);
        for span in self.spans.drain(..) {
            let raw = RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() };
            Message::Piece(raw).encode(batch.bytes_mut());
            let mut missing = span.len() as usize;
            total += u64::from(span.len());
            while let Some(from) = part.filter(|_| missing > 0) {
                let len = missing.min(from.len - at);
                from.append(batch, at..at + len);
                (missing, at) = (missing - len, at + len);
                if at == from.len {
                    (part, at) = (parts.next(), 0);
                }
            }
        }
        self.parts.clear();
        total
    }
}

impl Part {
    fn is_unread(&self) -> bool {
        matches!(self.source, Source::File(..) | Source::Scattered(..) | Source::Hot(_))
    }

    fn append(&self, batch: &mut SendBatch, range: Range<usize>) {
        match &self.source {
            Source::Read(data) => batch.push_payload(data.clone(), range),
            Source::Mapped(data) => batch.push_mapped(data.slice(range)),
            Source::Memory(bytes) => batch.push_payload(bytes.clone(), range),
            Source::Zeros => batch.push_payload(Bytes::from_static(&ZEROS), range),
            Source::File(..) | Source::Scattered(..) | Source::Hot(_) | Source::Reading => {
                unreachable!("sent before it was read")
            }
        }
    }
}

/// The spans at the front that follow each other in one piece, as one range, and how many they are.
pub(super) fn run(spans: &[Span]) -> Option<(PieceIndex, Range<u32>, usize)> {
    let first = spans.first()?;
    let (piece, mut range) = (first.piece(), first.begin()..first.begin());
    let follows = |span: &&Span| {
        let follows = span.piece() == piece && span.begin() == range.end;
        range.end += if follows { span.len() } else { 0 };
        follows
    };
    let count = spans.iter().take_while(follows).count();
    Some((piece, range, count))
}

/// A part of the plan; padding in as many as the static zeros cover.
fn parts(planned: ReadPart) -> impl Iterator<Item = Part> {
    let ReadPart { len, source } = planned;
    let step = if matches!(source, ReadSource::Zeros) { ZEROS.len() } else { len };
    (0..len).step_by(step.max(1)).map(move |from| {
        let source = match &source {
            ReadSource::File { fd, offset, .. } => Source::File(Arc::clone(fd), *offset),
            ReadSource::Mapped(range) => Source::Mapped(range.clone()),
            ReadSource::Memory(bytes) => Source::Memory(bytes.clone()),
            ReadSource::Zeros => Source::Zeros,
        };
        Part { len: step.min(len - from), source }
    })
}
