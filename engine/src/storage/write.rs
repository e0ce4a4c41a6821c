//! Writing verified pieces.
//!
//! Owns making and allocating files on their first write and which thread writes what: the caller of
//! [`Storage::begin_write`] (a hash worker) writes what goes through the page cache at once, and gets a list
//! of what a shard's driver then writes past it.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{fstat, ftruncate};
use rustix::io::Errno;

use super::content::FileId;
use super::error::{Cause, StorageError};
use super::fd_cache::Access;
use super::positioned::{allocate, write_all_at};
use super::target::Target;
use super::verified::Verified;
use super::{FILE_PREPARED, FILE_WRITTEN, Mode, Storage};

/// A write past the page cache that is yet to be done: `data[range]` of the piece goes to `offset` of `fd`.
/// All of it is aligned as the file asks for.
#[derive(Clone, Debug)]
pub struct DirectWrite {
    /// Opened with O_DIRECT.
    pub fd: Arc<OwnedFd>,
    /// First byte within the file.
    pub offset: u64,
    /// Which bytes of the piece.
    pub range: Range<usize>,
    file: FileId,
}

impl DirectWrite {
    /// Which file it goes to.
    #[must_use]
    pub fn file(&self) -> FileId {
        self.file
    }
}

impl Storage {
    /// Writes what has to go through the page cache and returns what is left to be written past it, at most
    /// a few writes: nothing when [`write_policy`](Self::write_policy) is `Cached`. The piece is on disk (but
    /// not durable) when those are done. Blocks.
    ///
    /// # Errors
    /// When a file cannot be made, allocated or written.
    ///
    /// # Panics
    /// When the storage was opened to seed.
    pub fn begin_write(&self, piece: &Verified) -> Result<Vec<DirectWrite>, StorageError> {
        assert_eq!(self.mode, Mode::Download, "only a download writes");
        if matches!(self.target, Target::Synthetic(_)) {
            return Ok(Vec::new());
        }
        let data = piece.data().as_slice();
        let mut direct = Vec::new();
        for span in self.content.piece_spans(piece.piece()).filter(|span| !span.pad) {
            self.prepare(span.file)?;
            if !self.content.file(span.file).wanted {
                self.write_cached(span.file, span.file_offset, &data[span.range])?;
                continue;
            }
            let offset_of = |at: usize| span.file_offset + (at - span.range.start) as u64;
            let middle = self.alignment.map_or(0..0, |alignment| alignment.direct_part(&span, data.len()));
            if middle.is_empty() {
                self.write_cached(span.file, span.file_offset, &data[span.range.clone()])?;
                continue;
            }
            self.write_cached(span.file, span.file_offset, &data[span.range.start..middle.start])?;
            self.write_cached(span.file, offset_of(middle.end), &data[middle.end..span.range.end])?;
            let offset = offset_of(middle.start);
            match self.plan_direct(span.file, offset, middle.clone())? {
                Some(write) => direct.push(write),
                None => self.write_cached(span.file, offset, &data[middle])?,
            }
        }
        Ok(direct)
    }

    /// Writes a piece to the end in this thread: what a driver would do is done with blocking system calls.
    ///
    /// # Errors
    /// As [`begin_write`](Self::begin_write).
    ///
    /// # Panics
    /// When the storage was opened to seed.
    pub fn write_blocking(&self, piece: &Verified) -> Result<(), StorageError> {
        for write in self.begin_write(piece)? {
            let data = &piece.data().as_slice()[write.range.clone()];
            match write_all_at(&write.fd, data, write.offset) {
                Err(Errno::INVAL) => self.write_through_cache(&write, piece)?,
                result => result.map_err(|errno| self.write_error(write.file, errno))?,
            }
        }
        Ok(())
    }

    /// Writes through the page cache what was meant to go past it: for a direct write that the kernel refused
    /// (EINVAL: a filesystem that did not say what it wants). Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_through_cache(&self, write: &DirectWrite, piece: &Verified) -> Result<(), StorageError> {
        self.write_cached(write.file, write.offset, &piece.data().as_slice()[write.range.clone()])
    }

    /// What to report when a [`DirectWrite`] failed with that errno.
    #[must_use]
    pub fn write_error(&self, file: FileId, errno: Errno) -> StorageError {
        StorageError::os("write", self.path(file), errno)
    }

    /// Makes the file, its directories and its length, once. One that is not wanted is left as short and sparse as what it
    /// shares with others makes it.
    pub(super) fn prepare(&self, file: FileId) -> Result<(), StorageError> {
        let state = &self.states[file.index()];
        if state.load(Ordering::Acquire) & FILE_PREPARED != 0 {
            return Ok(());
        }
        let _once = self.preparing.lock();
        if state.load(Ordering::Acquire) & FILE_PREPARED == 0 {
            let fd = self.create(file)?;
            if matches!(self.target, Target::Directory(_)) && self.content.file(file).wanted {
                self.set_len(file, &fd)?;
            }
            self.fds.insert((file, Access::Write), fd);
            state.fetch_or(FILE_PREPARED, Ordering::Release);
        }
        Ok(())
    }

    /// Opens the file to write, and makes it where it is not there.
    pub(super) fn create(&self, file: FileId) -> Result<Arc<OwnedFd>, StorageError> {
        let Target::Directory(place) = &self.target else { return self.fd(file, Access::Write) };
        let path = place.path(&self.content, file);
        let executable = self.content.file(file).executable;
        let changed = |directory: &std::path::Path| {
            self.changed_directories.lock().insert(directory.to_owned());
        };
        place.tree.create_file(&path, executable, changed).map(Arc::new)
    }

    fn set_len(&self, file: FileId, fd: &OwnedFd) -> Result<(), StorageError> {
        let len = self.content.file(file).len;
        let stat = fstat(fd).map_err(|errno| StorageError::os("examine", self.path(file), errno))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let result = match size.cmp(&len) {
            std::cmp::Ordering::Less => allocate(fd, len),
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => ftruncate(fd, len),
        };
        self.mark_written(file);
        result.map_err(|errno| self.allocation_error(file, errno))
    }

    fn allocation_error(&self, file: FileId, errno: Errno) -> StorageError {
        match (errno, self.free_bytes()) {
            (Errno::NOSPC, Some(free)) => {
                let needed = self.content.file(file).len;
                StorageError::new("allocate", self.path(file), Cause::NoSpace { needed, free })
            }
            _ => StorageError::os("allocate", self.path(file), errno),
        }
    }

    fn plan_direct(
        &self,
        file: FileId,
        offset: u64,
        range: Range<usize>,
    ) -> Result<Option<DirectWrite>, StorageError> {
        let fd = match self.fd(file, Access::Direct) {
            // A filesystem mounted somewhere below, or one that said yes and means no.
            Err(error) if *error.cause() == Cause::Os(Errno::INVAL) => return Ok(None),
            result => result?,
        };
        self.mark_written(file);
        self.direct.add(range.len());
        Ok(Some(DirectWrite { fd, offset, range, file }))
    }

    fn write_cached(&self, file: FileId, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        if data.is_empty() {
            return Ok(());
        }
        let fd = self.fd(file, Access::Write)?;
        self.mark_written(file);
        self.cached.add(data.len());
        write_all_at(&fd, data, offset).map_err(|errno| self.write_error(file, errno))
    }

    fn mark_written(&self, file: FileId) {
        self.states[file.index()].fetch_or(FILE_WRITTEN, Ordering::Release);
    }
}
