//! Reading what is on disk, for uploads.
//!
//! Owns where bytes of a piece are read from. Whether they were verified is the caller's knowledge.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ringtide_proto::layout::PieceIndex;
use rustix::fs::{Advice, fadvise};

use super::Storage;
use super::content::FileId;
use super::error::{Cause, StorageError};
use super::fd_cache::Access;
use super::positioned::read_up_to;
use super::target::Target;

/// A part of a read: `range` of the caller's buffer comes from `source`.
#[derive(Clone, Debug)]
pub struct ReadPart {
    /// Which bytes of what was asked for; parts follow each other without gaps.
    pub range: Range<usize>,
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
    /// Padding: the bytes are zeros.
    Zeros,
    /// These very bytes: the content is made up.
    Memory(Bytes),
}

impl Storage {
    /// Where to read `len` bytes from `begin` in the piece. Opens files that are not open: microseconds, but
    /// on a slow filesystem that blocks.
    ///
    /// # Errors
    /// When a file cannot be opened.
    ///
    /// # Panics
    /// When the range leaves the piece.
    pub fn read_plan(&self, piece: PieceIndex, begin: u32, len: u32) -> Result<Vec<ReadPart>, StorageError> {
        if let Target::Synthetic(synthetic) = &self.target {
            return Ok(in_memory(synthetic.parts(piece, begin, len)));
        }
        let spans = self.content.spans(piece, begin, len);
        spans
            .map(|span| {
                let source = match span.pad {
                    true => ReadSource::Zeros,
                    false => ReadSource::File {
                        fd: self.read_fd(span.file)?,
                        offset: span.file_offset,
                        file: span.file,
                    },
                };
                Ok(ReadPart { range: span.range, source })
            })
            .collect()
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
            let reads_ahead = self.finished.load(Ordering::Relaxed) || self.alignment.is_none();
            if !reads_ahead && matches!(self.target, Target::Directory(_)) {
                // Reading ahead would bring bytes into the page cache that a direct write is replacing (see
                // `split`). Advice that is refused changes nothing.
                let _ = fadvise(&fd, 0, None, Advice::Random);
            }
            Ok(fd)
        })
    }
}

fn in_memory(parts: Vec<Bytes>) -> Vec<ReadPart> {
    let mut at = 0;
    let part = |bytes: Bytes| {
        let range = at..at + bytes.len();
        at = range.end;
        ReadPart { range, source: ReadSource::Memory(bytes) }
    };
    parts.into_iter().map(part).collect()
}
