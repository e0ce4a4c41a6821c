//! Making a download durable, and ending it.
//!
//! Owns fsync: after it returns, everything whose write had completed before is on the disk, under its name.

use std::sync::atomic::Ordering;

use rustix::fs::{fsync, ftruncate, syncfs};

use super::content::FileId;
use super::error::StorageError;
use super::fd_cache::Access;
use super::target::Target;
use super::{FILE_WRITTEN, Storage};

/// From so many files on, one syncfs is faster than an fsync for each, though it also writes what others left.
const SYNCFS_FROM: usize = 128;

impl Storage {
    /// Makes everything that was written durable: data, lengths and names. Blocks, perhaps for seconds.
    ///
    /// # Errors
    /// When the disk could not take everything; what was written since the last flush may be lost then.
    pub fn flush(&self) -> Result<(), StorageError> {
        let written = self.written_files();
        match &self.target {
            Target::Directory(place) if written.len() >= SYNCFS_FROM => syncfs(place.tree.root())
                .map_err(|errno| StorageError::os("flush", place.tree.full("".as_ref()), errno))?,
            _ => written.into_iter().try_for_each(|file| self.sync(file))?,
        }
        self.sync_directories()
    }

    /// Ends a download of which every piece is verified and written: cuts files that are too long, makes the
    /// torrent's links, flushes, and from now on reads ahead. Blocks.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn finish(&self) -> Result<(), StorageError> {
        self.cut_long_files()?;
        self.make_links()?;
        self.flush()?;
        self.finished.store(true, Ordering::Relaxed);
        self.fds.clear();
        Ok(())
    }

    fn written_files(&self) -> Vec<FileId> {
        let files = self.content.real_files().map(|(id, _)| id);
        files.filter(|id| self.states[id.index()].load(Ordering::Acquire) & FILE_WRITTEN != 0).collect()
    }

    fn sync(&self, file: FileId) -> Result<(), StorageError> {
        let fd = self.fd(file, Access::Write)?;
        fsync(&fd).map_err(|errno| StorageError::os("flush", self.path(file), errno))
    }

    fn sync_directories(&self) -> Result<(), StorageError> {
        let Target::Directory(place) = &self.target else { return Ok(()) };
        let changed = std::mem::take(&mut *self.changed_directories.lock());
        let result = changed.iter().try_for_each(|directory| place.tree.sync_directory(directory));
        if result.is_err() {
            self.changed_directories.lock().extend(changed);
        }
        result
    }

    /// A file that was there before may have been longer: what lies behind its end is not the torrent's.
    fn cut_long_files(&self) -> Result<(), StorageError> {
        let Target::Directory(place) = &self.target else { return Ok(()) };
        for (id, file) in self.content.wanted_files() {
            let stat = place.tree.stat(&place.path(&self.content, id))?;
            if stat.is_some_and(|stat| u64::try_from(stat.st_size).is_ok_and(|size| size > file.len)) {
                let fd = self.fd(id, Access::Write)?;
                let cut = ftruncate(&fd, file.len);
                cut.map_err(|errno| StorageError::os("shorten", self.path(id), errno))?;
                self.states[id.index()].fetch_or(FILE_WRITTEN, Ordering::Release);
            }
        }
        Ok(())
    }

    fn make_links(&self) -> Result<(), StorageError> {
        let Target::Directory(place) = &self.target else { return Ok(()) };
        self.content.links().try_for_each(|(path, target)| {
            place.tree.create_link(&place.below(path), &place.below(target), |directory| {
                self.changed_directories.lock().insert(directory.to_owned());
            })
        })
    }
}
