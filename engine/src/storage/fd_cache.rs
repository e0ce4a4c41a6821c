//! `FdCache`: a bounded number of open files, the least recently used of which is closed first.
//!
//! Owns how many descriptors are kept for files: the process's limit is one for all torrents, so what they keep is one
//! pool. A descriptor that is handed out stays open for whoever holds it, also after it left the cache.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

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

/// A file of one torrent, opened in one way.
type Key = (FileId, Access);

/// Descriptors that are for files where there are many; else half of them. More are hardly of use: reopening is cheaper
/// than what else they cost.
const MOST_FOR_FILES: u64 = 4096;

/// How many of `descriptors`, which the process may have, are for files.
pub(crate) fn descriptors_for_files(descriptors: u64) -> u64 {
    (descriptors / 2).min(MOST_FOR_FILES)
}

/// How many of those are kept: a quarter is for what is handed out, or open for a moment.
fn kept_of(descriptors: u64) -> usize {
    usize::try_from(descriptors_for_files(descriptors) / 4 * 3).unwrap_or(usize::MAX)
}

/// What all torrents of the process keep, as its limit of open files was when the first was opened.
static OF_PROCESS: LazyLock<Arc<Pool>> = LazyLock::new(|| {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Arc::new(Pool::new(kept_of(limit)))
});

/// Tells the torrents of a pool apart.
static NEXT_OWNER: AtomicU64 = AtomicU64::new(0);

/// What several torrents keep open together.
pub(super) struct Pool {
    capacity: usize,
    lru: Mutex<Lru>,
}

impl Pool {
    fn new(capacity: usize) -> Pool {
        Pool { capacity: capacity.max(1), lru: Mutex::default() }
    }
}

/// One torrent's part of a pool. Dropped, it closes what it kept.
pub(super) struct FdCache {
    pool: Arc<Pool>,
    owner: u64,
}

impl FdCache {
    /// Keeps at most `capacity` descriptors, at least one, whatever others keep.
    pub(super) fn new(capacity: usize) -> FdCache {
        FdCache::of(Arc::new(Pool::new(capacity)))
    }

    /// Keeps what suits the limit of open files of this process, together with all others of this kind.
    pub(super) fn of_process() -> FdCache {
        FdCache::of(Arc::clone(&OF_PROCESS))
    }

    fn of(pool: Arc<Pool>) -> FdCache {
        FdCache { pool, owner: NEXT_OWNER.fetch_add(1, Ordering::Relaxed) }
    }

    /// The descriptor of that file, opened with `open` when it is not there. Two threads may open at once; both
    /// get a descriptor that works.
    pub(super) fn get_or_open<E>(
        &self,
        key: Key,
        open: impl FnOnce() -> Result<Arc<OwnedFd>, E>,
    ) -> Result<Arc<OwnedFd>, E> {
        if let Some(fd) = self.pool.lru.lock().touch((self.owner, key)) {
            return Ok(fd);
        }
        let fd = open()?;
        self.insert(key, Arc::clone(&fd));
        Ok(fd)
    }

    pub(super) fn insert(&self, key: Key, fd: Arc<OwnedFd>) {
        // Closed after the lock is released: closing can be slow.
        let _evicted = self.pool.lru.lock().insert((self.owner, key), fd, self.pool.capacity);
    }

    /// Closes all of this torrent's that nobody holds.
    pub(super) fn clear(&self) {
        let _closed = self.pool.lru.lock().remove_all(self.owner);
    }

    /// How many this torrent keeps.
    pub(super) fn len(&self) -> usize {
        self.pool.lru.lock().entries.keys().filter(|(owner, _)| *owner == self.owner).count()
    }
}

impl Drop for FdCache {
    fn drop(&mut self) {
        self.clear();
    }
}

/// By the owner first.
type OwnedKey = (u64, Key);

/// Invariant: `entries` and `order` hold the same keys; the stamps are equal and unique.
#[derive(Default)]
struct Lru {
    entries: HashMap<OwnedKey, (Arc<OwnedFd>, u64)>,
    order: BTreeMap<u64, OwnedKey>,
    clock: u64,
}

impl Lru {
    fn touch(&mut self, key: OwnedKey) -> Option<Arc<OwnedFd>> {
        let (fd, stamp) = self.entries.get_mut(&key)?;
        self.clock += 1;
        self.order.remove(stamp);
        self.order.insert(self.clock, key);
        *stamp = self.clock;
        Some(Arc::clone(fd))
    }

    fn insert(&mut self, key: OwnedKey, fd: Arc<OwnedFd>, capacity: usize) -> [Option<Arc<OwnedFd>>; 2] {
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

    fn remove_all(&mut self, owner: u64) -> Vec<Arc<OwnedFd>> {
        let removed = self.entries.extract_if(|(of, _), _| *of == owner);
        removed
            .map(|(_, (fd, stamp))| {
                self.order.remove(&stamp);
                fd
            })
            .collect()
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
    fn torrents_share_what_is_kept() {
        let pool = Arc::new(Pool::new(3));
        let (first, second) = (FdCache::of(Arc::clone(&pool)), FdCache::of(Arc::clone(&pool)));
        let ids = ids(3);
        for &id in &ids {
            first.get_or_open((id, Access::Read), open).expect("opens");
        }
        let of_second = second.get_or_open((ids[2], Access::Read), open).expect("opens");
        assert_eq!((first.len(), second.len()), (2, 1), "together they keep three");
        let of_first = first.get_or_open((ids[2], Access::Read), open).expect("is open");
        assert_ne!(of_first.as_raw_fd(), of_second.as_raw_fd(), "each has files of its own");
        first.clear();
        assert_eq!((first.len(), second.len()), (0, 1));
        drop(second);
        let lru = pool.lru.lock();
        assert!(lru.entries.is_empty() && lru.order.is_empty());
    }

    #[test]
    fn what_is_kept_leaves_room_for_what_is_in_use() {
        assert_eq!([16, 1024, 1 << 20].map(descriptors_for_files), [8, 512, 4096]);
        assert_eq!([16, 1024, u64::MAX].map(kept_of), [6, 384, 3072]);
    }

    #[test]
    fn a_failed_open_leaves_nothing_behind() {
        let cache = FdCache::new(8);
        assert_eq!(cache.get_or_open((ids(1)[0], Access::Read), || Err("no")).err(), Some("no"));
        assert_eq!(cache.len(), 0);
    }
}
