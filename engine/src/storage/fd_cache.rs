//! `FdCache`: a bounded number of open files, the least recently used of which is closed first.
//!
//! Owns how many descriptors a torrent keeps. A descriptor that is handed out stays open for whoever holds
//! it, also after it left the cache.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use super::content::FileId;

/// How a file is opened; each way has a descriptor of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// Through the page cache, to read.
    Read,
    /// Through the page cache, to write.
    Write,
    /// Past the page cache, to write.
    Direct,
}

type Key = (FileId, Access);

/// Most descriptors one torrent keeps open: beyond it, reopening is cheaper than what else they cost.
const MAX_OPEN: usize = 512;

/// Share of the process's limit that one torrent may keep: the rest is for sockets and other torrents.
const SHARE_OF_LIMIT: u64 = 8;

pub(super) struct FdCache {
    capacity: usize,
    lru: Mutex<Lru>,
}

impl FdCache {
    /// Keeps at most `capacity` descriptors, at least one.
    pub(super) fn new(capacity: usize) -> FdCache {
        FdCache { capacity: capacity.max(1), lru: Mutex::new(Lru::default()) }
    }

    /// What suits the limit of open files of this process.
    pub(super) fn default_capacity() -> usize {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        usize::try_from(limit / SHARE_OF_LIMIT).unwrap_or(MAX_OPEN).clamp(8, MAX_OPEN)
    }

    /// The descriptor of that file, opened with `open` when it is not there. Two threads may open at once; both
    /// get a descriptor that works.
    pub(super) fn get_or_open<E>(
        &self,
        key: Key,
        open: impl FnOnce() -> Result<Arc<OwnedFd>, E>,
    ) -> Result<Arc<OwnedFd>, E> {
        if let Some(fd) = self.lru.lock().touch(key) {
            return Ok(fd);
        }
        let fd = open()?;
        self.insert(key, Arc::clone(&fd));
        Ok(fd)
    }

    pub(super) fn insert(&self, key: Key, fd: Arc<OwnedFd>) {
        // Closed after the lock is released: closing can be slow.
        let _evicted = self.lru.lock().insert(key, fd, self.capacity);
    }

    /// Closes all that nobody holds.
    pub(super) fn clear(&self) {
        let _closed = std::mem::take(&mut *self.lru.lock());
    }

    pub(super) fn len(&self) -> usize {
        self.lru.lock().entries.len()
    }
}

/// Invariant: `entries` and `order` hold the same keys; the stamps are equal and unique.
#[derive(Default)]
struct Lru {
    entries: HashMap<Key, (Arc<OwnedFd>, u64)>,
    order: BTreeMap<u64, Key>,
    clock: u64,
}

impl Lru {
    fn touch(&mut self, key: Key) -> Option<Arc<OwnedFd>> {
        let (fd, stamp) = self.entries.get_mut(&key)?;
        self.clock += 1;
        self.order.remove(stamp);
        self.order.insert(self.clock, key);
        *stamp = self.clock;
        Some(Arc::clone(fd))
    }

    fn insert(&mut self, key: Key, fd: Arc<OwnedFd>, capacity: usize) -> [Option<Arc<OwnedFd>>; 2] {
        self.clock += 1;
        self.order.insert(self.clock, key);
        let replaced = self.entries.insert(key, (fd, self.clock)).map(|(fd, stamp)| {
            self.order.remove(&stamp);
            fd
        });
        let evicted = (self.entries.len() > capacity).then(|| self.order.pop_first()).flatten();
        let evicted = evicted.and_then(|(_, key)| self.entries.remove(&key)).map(|(fd, _)| fd);
        [replaced, evicted]
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::super::content::{Content, ContentFile};
    use super::*;

    fn ids(count: usize) -> Vec<FileId> {
        let file = ContentFile::new("x", 1);
        let content = Content::directory("d", vec![file; count], 1).expect("a layout");
        content.real_files().map(|(id, _)| id).collect()
    }

    fn open() -> Result<Arc<OwnedFd>, std::io::Error> {
        std::fs::File::open("/dev/null").map(|file| Arc::new(OwnedFd::from(file)))
    }

    #[test]
    fn the_least_recently_used_is_closed_first() {
        let cache = FdCache::new(2);
        let ids = ids(3);
        let held = cache.get_or_open((ids[0], Access::Read), open).expect("opens");
        cache.get_or_open((ids[1], Access::Read), open).expect("opens");
        cache
            .get_or_open((ids[0], Access::Read), || -> Result<_, ()> { panic!("is open") })
            .expect("is open");
        cache.get_or_open((ids[2], Access::Read), open).expect("opens");
        assert_eq!(cache.len(), 2);
        let same = cache.get_or_open((ids[0], Access::Read), open).expect("is open");
        assert_eq!(same.as_raw_fd(), held.as_raw_fd());
        let mut opened_again = false;
        let again = cache.get_or_open((ids[1], Access::Read), || {
            opened_again = true;
            open()
        });
        assert!(again.is_ok() && opened_again);
    }

    #[test]
    fn each_way_of_access_has_its_own_descriptor() {
        let cache = FdCache::new(8);
        let id = ids(1)[0];
        let read = cache.get_or_open((id, Access::Read), open).expect("opens");
        let write = cache.get_or_open((id, Access::Write), open).expect("opens");
        assert_ne!(read.as_raw_fd(), write.as_raw_fd());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_failed_open_leaves_nothing_behind() {
        let cache = FdCache::new(8);
        assert_eq!(cache.get_or_open((ids(1)[0], Access::Read), || Err("no")).err(), Some("no"));
        assert_eq!(cache.len(), 0);
    }
}
