//! Reading what is on disk, for uploads.
//!
//! Owns where bytes of a piece are read from. Whether they were verified is the caller's knowledge.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ringtide_proto::layout::PieceIndex;
use rustix::fs::{Advice, fadvise};

use super::content::{FileId, FileSpan};
use super::error::{Cause, StorageError};
use super::fd_cache::Access;
use super::mapped::{MappedRange, fills_holes};
use super::positioned::read_up_to;
use super::target::Target;
use super::{Mode, Storage};

/// A part of a read: the next `len` bytes of what was asked for come from `source`.
#[derive(Clone, Debug)]
pub struct ReadPart {
    /// How many bytes; never none.
    pub len: usize,
    /// Where they come from.
    pub source: ReadSource,
}

/// Where the bytes of a [`ReadPart`] come from.
#[derive(Clone, Debug)]
pub enum ReadSource {
    /// A file, opened for the page cache.
    File {
        /// The descriptor.
        fd: Arc<OwnedFd>,
        /// First byte within the file.
        offset: u64,
        /// Which file, for messages.
        file: FileId,
    },
    /// A file whose bytes are in the page cache: the kernel can send them from there.
    Mapped(MappedRange),
    /// Padding: the bytes are zeros.
    Zeros,
    /// These very bytes: the content is made up.
    Memory(Bytes),
}

impl Storage {
    /// Where to read `len` bytes from `begin` in the piece, added to `plan`. Opens files that are not open: microseconds,
    /// but on a slow filesystem that blocks.
    ///
    /// # Errors
    /// When a file cannot be opened; `plan` is then of no use.
    ///
    /// # Panics
    /// When the range leaves the piece.
    pub fn read_plan(
        &self,
        piece: PieceIndex,
        begin: u32,
        len: u32,
        plan: &mut Vec<ReadPart>,
    ) -> Result<(), StorageError> {
        if let Target::Synthetic(synthetic) = &self.target {
            let parts = synthetic.parts(piece, begin, len).into_iter();
            plan.extend(parts.map(|bytes| ReadPart { len: bytes.len(), source: ReadSource::Memory(bytes) }));
            return Ok(());
        }
        for span in self.content.spans(piece, begin, len) {
            let len = span.range.len();
            if span.pad {
                plan.push(ReadPart { len, source: ReadSource::Zeros });
                continue;
            }
            let fd = self.read_fd(span.file)?;
            if !self.map(&fd, &span, plan) {
                let source = ReadSource::File { fd, offset: span.file_offset, file: span.file };
                plan.push(ReadPart { len, source });
            }
        }
        Ok(())
    }

    /// Has the kernel bring `len` bytes from `begin` in the piece into the page cache, where that is how they are read.
    /// Blocks while the reads are queued. What goes wrong shows when the bytes are read.
    ///
    /// # Panics
    /// When the range leaves the piece.
    pub(crate) fn will_need(&self, piece: PieceIndex, begin: u32, len: u32) {
        if matches!(self.target, Target::Synthetic(_)) || self.bypasses_cache() {
            return;
        }
        for span in self.content.spans(piece, begin, len).filter(|span| !span.pad) {
            if let Ok(fd) = self.read_fd(span.file) {
                let len = std::num::NonZeroU64::new(span.range.len() as u64);
                let _ = fadvise(&fd, span.file_offset, len, Advice::WillNeed);
            }
        }
    }

    /// Adds what is in the page cache. Not while pieces are written past it, see `split`.
    fn map(&self, fd: &OwnedFd, span: &FileSpan, plan: &mut Vec<ReadPart>) -> bool {
        let given = self.mode == Mode::Seed;
        if !self.reads_ahead() || given && fills_holes(fd) {
            return false;
        }
        self.mappings.find(fd, span, self.content.file(span.file).len, |range| {
            plan.push(ReadPart { len: range.len(), source: ReadSource::Mapped(range) });
        })
    }

    /// Whether what was written has to be read back from the disk, for it does not go through the page cache.
    pub(crate) fn bypasses_cache(&self) -> bool {
        !self.reads_ahead()
    }

    /// Whether more of a file than was asked for may be brought into the page cache.
    fn reads_ahead(&self) -> bool {
        self.finished.load(Ordering::Relaxed) || self.alignment.is_none()
    }

    /// In how many parts a [`read_plan`](Self::read_plan) reads that from files. Opens nothing.
    ///
    /// # Panics
    /// When the range leaves the piece.
    pub fn file_parts(&self, piece: PieceIndex, begin: u32, len: u32) -> usize {
        match self.target {
            Target::Synthetic(_) => 0,
            _ => self.content.spans(piece, begin, len).filter(|span| !span.pad).count(),
        }
    }

    /// Reads `buf.len()` bytes from `begin` in the piece. Blocks.
    ///
    /// # Errors
    /// When a file cannot be opened or read, or is too short.
    ///
    /// # Panics
    /// When the range leaves the piece.
    pub fn read_blocking(&self, piece: PieceIndex, begin: u32, buf: &mut [u8]) -> Result<(), StorageError> {
        let len = u32::try_from(buf.len()).expect("a range within a piece");
        if let Target::Synthetic(synthetic) = &self.target {
            buf.copy_from_slice(&synthetic.parts(piece, begin, len).concat());
            return Ok(());
        }
        for span in self.content.spans(piece, begin, len) {
            let part = &mut buf[span.range];
            if span.pad {
                part.fill(0);
                continue;
            }
            let fd = self.read_fd(span.file)?;
            let read = read_up_to(&fd, part, span.file_offset)
                .map_err(|errno| StorageError::os("read", self.path(span.file), errno))?;
            if read < part.len() {
                return Err(self.too_short(span.file));
            }
        }
        Ok(())
    }

    /// What to report when a read of a [`ReadPart`] met the end of the file.
    #[must_use]
    pub fn too_short(&self, file: FileId) -> StorageError {
        StorageError::new("read", self.path(file), Cause::TooShort)
    }

    fn read_fd(&self, file: FileId) -> Result<Arc<OwnedFd>, StorageError> {
        self.fds.get_or_open((file, Access::Read), || {
            let fd = self.target.open(&self.content, file, Access::Read)?;
            if !self.reads_ahead() && matches!(self.target, Target::Directory(_)) {
                // Reading ahead would bring bytes into the page cache that a direct write is replacing (see
                // `split`). Advice that is refused changes nothing.
                let _ = fadvise(&fd, 0, None, Advice::Random);
            }
            Ok(fd)
        })
    }
}
