//! Reading and hashing all pieces of a content at the speed of the memory or the disk: what a check of a
//! download, `ringtide verify` and `ringtide create` have in common.
//!
//! Each thread takes groups of neighbouring pieces and hashes up to [`LANES`] of them at a time, side by side.
//! A group is worked through in steps of at most [`STEP_BYTES`]: whole short pieces, or a strip of each long one.
//! Bytes that are in the page cache are mapped, not copied (`window`, `sigbus`); others are read past it, a step
//! ahead of the hashing (`direct`); what is small, spans files, or is a part of 4 GiB and more, is read in the
//! ordinary way (`files`). `source` decides which, `worker` is the thread. This file owns the division into groups and
//! what a scan is made for.
//!
//! Memory of a thread, whatever the sizes of pieces and files: 1 MiB to read into, 20 MiB of slabs once it meets a
//! large file that is not in the page cache, and 160 descriptors, fewer where the process may have few. Beside
//! that about 80 MiB of the page cache are mapped at a time, 2 MiB and a strip for each lane, which cost no memory
//! but count as resident.

mod direct;
mod files;
mod probe;
mod sigbus;
mod source;
mod window;
mod worker;
mod zeros;

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{Builder, ScopedJoinHandle};

use ringtide_hasher::Sha1Digest;
use ringtide_proto::layout::PieceIndex;
use rustix::io::Errno;

pub use zeros::ZeroDigests;

use super::content::{Content, FileId};
use worker::Worker;

/// Whether all of that range of an open file, which is not empty, seems to be in the page cache.
pub(super) fn is_cached(fd: &OwnedFd, range: &Range<u64>) -> bool {
    probe::probe_closely(fd, range) == probe::Cache::Warm
}

/// Pieces that are hashed side by side: as many as the widest kernel has lanes.
const LANES: usize = 32;

/// Bytes of a step, and of what is read ahead of the hashing.
const STEP_BYTES: usize = 8 << 20;

/// Most pieces of a group, where pieces are tiny.
const MOST_PIECES: usize = 1024;

/// What a scan is made for: it says where files are, and is told what is found. Called from all of its threads.
pub trait Scan: Sync {
    /// Opens a file to be read, with a descriptor that nobody else has, and says how many bytes it has now. `None`
    /// when that is not possible; why is for the callee to note. May be asked again for the same file.
    fn open(&self, file: FileId) -> Option<(OwnedFd, u64)>;

    /// Bytes of a file that was opened cannot be had. Each piece that they belong to is found `NotThere`.
    fn failed(&self, file: FileId, fault: Fault);

    /// A piece is found. Each is told once, in any order.
    fn found(&self, piece: PieceIndex, found: Found);

    /// So many bytes of the torrent were dealt with since this thread's last call, `read` of which come from files and not
    /// from holes and padding. For progress: pieces are told in groups.
    fn passed(&self, bytes: u64, read: u64);

    /// Whether to end as soon as may be, which is within a few MiB.
    fn is_cancelled(&self) -> bool;
}

/// What a scan finds out about a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its bytes have this digest.
    Digest(Sha1Digest),
    /// Nothing was ever written there: it reads as zeros ([`ZeroDigests`]).
    Hole,
    /// Not all of its bytes can be had.
    NotThere,
}

/// Why bytes of an open file could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel's answer.
    Os(Errno),
    /// The file ends before them.
    TooShort,
}

/// How a scan reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadWay {
    /// As suits each group of pieces: mapped where it is in the page cache, direct where it is not.
    #[default]
    Auto,
    /// Mapped, wherever that is possible.
    Mapped,
    /// Read through the page cache.
    Cached,
    /// Past the page cache, wherever that is possible.
    Direct,
}

/// Reads and hashes all pieces of `content` by `threads` threads, of which the caller's is one, or fewer where the
/// system has no more; returns when they are done. False when it was cancelled before all pieces were found.
///
/// # Panics
/// When `scan` does, in any thread; the others then end with the group they are at.
pub fn scan_pieces(content: &Content, scan: &dyn Scan, threads: usize, way: ReadWay) -> bool {
    let shared = Shared::new(content, scan, threads.max(1), way);
    std::thread::scope(|scope| {
        let work = || {
            let _guard = EndAllOnPanic(&shared);
            Worker::new(&shared).run()
        };
        let spawn = |_| Builder::new().name("scan".to_owned()).spawn_scoped(scope, work);
        let others: Vec<_> = (1..threads).map_while(|number| spawn(number).ok()).collect();
        let complete = work();
        let join = |thread: ScopedJoinHandle<'_, bool>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        others.into_iter().map(join).fold(complete, |all, complete| all && complete)
    })
}

/// Leaves no more pieces to the other threads when this one panics.
struct EndAllOnPanic<'a>(&'a Shared<'a>);

impl Drop for EndAllOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.next.store(self.0.content.layout().piece_count(), Ordering::Relaxed);
        }
    }
}

/// What the threads of a scan share.
struct Shared<'a> {
    content: &'a Content,
    scan: &'a dyn Scan,
    threads: usize,
    way: ReadWay,
    /// The next piece that no thread has taken.
    next: AtomicU32,
}

impl<'a> Shared<'a> {
    fn new(content: &'a Content, scan: &'a dyn Scan, threads: usize, way: ReadWay) -> Shared<'a> {
        Shared { content, scan, threads, way, next: AtomicU32::new(0) }
    }

    /// The next group of pieces, which is the caller's.
    fn take(&self) -> Option<Range<u32>> {
        let layout = self.content.layout();
        let (count, piece_len) = (layout.piece_count(), layout.nominal_piece_len());
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            let share = share(count as usize, (count - next) as usize, self.threads, piece_len);
            (share > 0).then(|| next + share as u32)
        });
        let first = taken.ok()?;
        let share = share(count as usize, (count - first) as usize, self.threads, piece_len);
        Some(first..first + share as u32)
    }
}

/// How many pieces a thread takes when `left` of `count` are left: full lanes, as many as make a step, but so
/// that no thread is idle for long in the end. Less than half the lanes only where there are too few pieces.
fn share(count: usize, left: usize, threads: usize, piece_len: u32) -> usize {
    const LEAST: usize = LANES / 2;
    let most = (STEP_BYTES / piece_len as usize / LANES * LANES).clamp(LANES, MOST_PIECES);
    let fair = match count.div_ceil(threads) {
        few if few <= LEAST => few,
        _ => left.div_ceil(2 * threads).next_multiple_of(LEAST),
    };
    fair.min(most).min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(count: usize, threads: usize, piece_len: u32) -> Vec<usize> {
        let mut left = count;
        let next = || {
            let taken = share(count, left, threads, piece_len);
            left -= taken;
            (taken > 0).then_some(taken)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn few_pieces_keep_all_threads_busy() {
        assert_eq!(shares(8, 2, 64 << 20), [4, 4]);
        assert_eq!(shares(3, 2, 1 << 20), [2, 1]);
        assert_eq!(shares(1, 8, 1 << 20), [1]);
        assert_eq!(shares(0, 8, 1 << 20), [0; 0]);
    }

    #[test]
    fn many_pieces_fill_lanes_and_steps_and_end_evenly() {
        assert_eq!(shares(128, 2, 16 << 20), [32, 32, 16, 16, 16, 16]);
        let tiny = shares(100_000, 4, 16 << 10);
        assert_eq!((tiny[0], *tiny.last().expect("some")), (512, 16));
        assert!(tiny.iter().all(|share| *share <= 512));
        assert_eq!(tiny.iter().sum::<usize>(), 100_000);
        assert_eq!(shares(5000, 1, 1)[0], MOST_PIECES, "pieces of a byte");
    }

    struct Nothing;

    impl Scan for Nothing {
        fn open(&self, _: FileId) -> Option<(OwnedFd, u64)> {
            None
        }

        fn failed(&self, _: FileId, _: Fault) {}

        fn found(&self, _: PieceIndex, _: Found) {}

        fn passed(&self, _: u64, _: u64) {}

        fn is_cancelled(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_panic_leaves_no_pieces_to_the_others() {
        let content = Content::single("image", 1000 * 65_536, 65_536).expect("a layout");
        let shared = Shared::new(&content, &Nothing, 2, ReadWay::Auto);
        drop(EndAllOnPanic(&shared));
        assert_eq!(shared.take(), Some(0..128));
        let work = || {
            let _guard = EndAllOnPanic(&shared);
            panic!("what a callback may do");
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).expect_err("is not caught before");
        assert_eq!(shared.take(), None);
    }
}
