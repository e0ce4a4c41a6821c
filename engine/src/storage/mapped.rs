//! `Mappings`: parts of files that are in the page cache, mapped so that the kernel can send from them without a copy
//! to a buffer of ours first.
//!
//! Owns what stays mapped. This process never looks at the bytes, so a file that shrinks is no danger: the kernel
//! finds no page there and fails the send (EFAULT). What is not cached is read as ever, for a page fault makes the
//! shard wait for the disk. That remains possible, but rare: not every page is asked for, and one may be dropped before
//! it is sent.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::fstat;

use super::content::{FileId, FileSpan};
use super::positioned::is_memory;
use super::scan::is_cached;

/// Bytes of a mapping, and what its offset is a multiple of.
const WINDOW: u64 = 4 << 20;

/// Mappings that the process keeps: 64 MiB, so that what is mapped hardly shows in its memory. Peers ask for a few
/// neighbouring blocks at a time; a new mapping for each piece costs some 5 % of sending it.
const MOST_WINDOWS: usize = 16;

/// Files shorter than this are read: mapping them takes as long.
const LEAST_FILE: u64 = 256 << 10;

/// A range of a mapped file, for the kernel to send. Keeps the mapping.
#[derive(Clone)]
pub struct MappedRange {
    mapping: Arc<Mapping>,
    start: usize,
    len: usize,
}

impl MappedRange {
    /// Where the bytes are in memory. Not to be read through: they may change or vanish at any time.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.mapping.map.as_ptr().wrapping_add(self.start)
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of it.
    ///
    /// # Panics
    /// When `range` is not inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> MappedRange {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} mapped bytes", self.len);
        MappedRange { mapping: Arc::clone(&self.mapping), start: self.start + range.start, len: range.len() }
    }
}

impl fmt::Debug for MappedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedRange({} bytes from {})", self.len, self.start)
    }
}

/// One window of a file.
struct Mapping {
    /// Of whom.
    serial: u64,
    file: FileId,
    number: u64,
    map: MmapRaw,
}

/// The windows that are mapped, of all torrents: the most recently used first.
struct Windows(Mutex<VecDeque<Arc<Mapping>>>);

static WINDOWS: Windows = Windows::new();

impl Windows {
    const fn new() -> Windows {
        Windows(Mutex::new(VecDeque::new()))
    }
}

/// The windows of a torrent's files that are mapped.
pub(super) struct Mappings {
    serial: u64,
    windows: &'static Windows,
}

impl Default for Mappings {
    fn default() -> Mappings {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Mappings { serial: NEXT.fetch_add(1, Ordering::Relaxed), windows: &WINDOWS }
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        self.windows.0.lock().retain(|kept| kept.serial != self.serial);
    }
}

impl Mappings {
    /// The bytes of `span`, of a file of `file_len` bytes, if they are all in the page cache: told to `each` as one
    /// range, or two where windows meet. Nothing is told where the answer is `false`, as for spans longer than a window.
    pub(super) fn find(
        &self,
        fd: &OwnedFd,
        span: &FileSpan,
        file_len: u64,
        mut each: impl FnMut(MappedRange),
    ) -> bool {
        let bytes = span.file_offset..span.file_end();
        let (first, last) = (bytes.start / WINDOW, (bytes.end - 1) / WINDOW);
        if file_len < LEAST_FILE || last > first + 1 || !is_cached(fd, &bytes) {
            return false;
        }
        let window = |number| self.window(fd, span.file, number, file_len);
        let Some(head) = window(first) else { return false };
        if first == last {
            each(head.range(bytes));
            return true;
        }
        let Some(tail) = window(last) else { return false };
        let border = last * WINDOW;
        each(head.range(bytes.start..border));
        each(tail.range(border..bytes.end));
        true
    }

    fn window(&self, fd: &OwnedFd, file: FileId, number: u64, file_len: u64) -> Option<Arc<Mapping>> {
        let mut kept = self.windows.0.lock();
        let same = |kept: &Arc<Mapping>| (kept.serial, kept.file, kept.number) == (self.serial, file, number);
        if let Some(at) = kept.iter().position(same) {
            let found = kept.remove(at)?;
            kept.push_front(Arc::clone(&found));
            return Some(found);
        }
        drop(kept);
        let mapping = Arc::new(Mapping::open(self.serial, fd, file, number, file_len)?);
        let mut kept = self.windows.0.lock();
        kept.push_front(Arc::clone(&mapping));
        let _oldest = if kept.len() > MOST_WINDOWS { kept.pop_back() } else { None };
        // Unmapping takes a while: nobody is to wait for it.
        drop(kept);
        Some(mapping)
    }
}

impl Mapping {
    fn open(serial: u64, fd: &OwnedFd, file: FileId, number: u64, file_len: u64) -> Option<Mapping> {
        let start = number * WINDOW;
        let len = usize::try_from(WINDOW.min(file_len - start)).ok()?;
        let map = MmapOptions::new().offset(start).len(len).map_raw_read_only(fd).ok()?;
        Some(Mapping { serial, file, number, map })
    }

    /// Those bytes of the file, which are in the window.
    fn range(self: Arc<Self>, bytes: Range<u64>) -> MappedRange {
        let start = self.number * WINDOW;
        let (from, to) = ((bytes.start - start) as usize, (bytes.end - start) as usize);
        MappedRange { mapping: self, start: from, len: to - from }
    }
}

/// Whether looking at a mapping of the file may cost memory: one in memory has no pages where it has holes, and gets them.
pub(super) fn fills_holes(fd: &OwnedFd) -> bool {
    is_memory(fd) && fstat(fd).is_ok_and(|stat| stat.st_blocks.saturating_mul(512) < stat.st_size)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::content::{Content, ContentFile};
    use super::*;
    use crate::driver::{Driver, DriverConfig, IoKind, Op, Outcome, SendBatch, Token, probe};

    /// More windows than are kept, and a part of one.
    const LEN: u64 = (MOST_WINDOWS as u64 + 1) * WINDOW + (1 << 20);

    fn pattern(offset: u64) -> u8 {
        (offset % 251) as u8
    }

    /// A file in memory and the ways to name parts of it.
    struct Rig {
        file: OwnedFd,
        id: FileId,
        mappings: Mappings,
    }

    impl Rig {
        fn new() -> Rig {
            let mut file = tempfile::tempfile_in("/dev/shm").expect("a file");
            file.write_all(&(0..LEN).map(pattern).collect::<Vec<_>>()).expect("is written");
            let content =
                Content::directory("d", vec![ContentFile::new("x", LEN)], 1 << 14).expect("a layout");
            let (id, _) = content.real_files().next().expect("one file");
            // Windows of its own: other tests run at the same time.
            let mappings = Mappings { serial: 0, windows: Box::leak(Box::new(Windows::new())) };
            Rig { file: file.into(), id, mappings }
        }

        fn find(&self, bytes: Range<u64>) -> Option<Vec<MappedRange>> {
            let range = 0..(bytes.end - bytes.start) as usize;
            let span = FileSpan { file: self.id, file_offset: bytes.start, range, pad: false };
            let mut found = Vec::new();
            let all = self.mappings.find(&self.file, &span, LEN, |range| found.push(range));
            all.then_some(found)
        }

        fn cut(&self, len: u64) {
            rustix::fs::ftruncate(&self.file, len).expect("is cut");
        }
    }

    /// Sends the ranges through a socket of each driver that there is; returns what became of it.
    fn send(ranges: &[MappedRange], kind: IoKind) -> (std::io::Result<()>, Vec<u8>) {
        let mut driver = Driver::new(kind, &DriverConfig::default()).expect("a driver");
        let (near, mut far) = UnixStream::pair().expect("sockets");
        let socket = driver.adopt(near.into()).expect("is adopted");
        let mut batch = SendBatch::new();
        batch.push_bytes(b"head");
        ranges.iter().for_each(|range| batch.push_mapped(range.clone()));
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            let _ = far.read_to_end(&mut got);
            got
        });
        driver.push(Token(1), Op::Send { socket, batch });
        let result = loop {
            driver.wait(None).expect("waits");
            if let Some(completion) = driver.poll()
                && let Outcome::Sent(batch, result) = completion.outcome
            {
                drop(batch);
                break result;
            }
        };
        drop(driver);
        (result, reader.join().expect("reads"))
    }

    fn kinds() -> Vec<IoKind> {
        let ring = probe(crate::driver::IoChoice::Uring).is_ok().then_some(IoKind::Uring);
        ring.into_iter().chain([IoKind::Epoll]).collect()
    }

    #[test]
    fn what_is_cached_is_sent_as_it_is_in_the_file_within_windows_and_across() {
        let rig = Rig::new();
        for kind in kinds() {
            for bytes in [0..1 << 20, WINDOW - 12_345..WINDOW + 777, LEN - 100_000..LEN] {
                let ranges = rig.find(bytes.clone()).expect("is in memory");
                let (result, got) = send(&ranges, kind);
                result.expect("is sent");
                assert!(got[..4] == *b"head" && got[4..].iter().copied().eq(bytes.map(pattern)));
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_fails_the_send_and_nothing_else() {
        for kind in kinds() {
            let rig = Rig::new();
            let ranges = rig.find(0..1 << 20).expect("is in memory");
            rig.cut(4096);
            let (result, got) = send(&ranges, kind);
            assert_eq!(result.expect_err("no such bytes").raw_os_error(), Some(libc::EFAULT), "{kind}");
            assert!(got.len() <= 4 + 4096);
        }
    }

    #[test]
    fn spans_longer_than_a_window_and_short_files_are_read() {
        let rig = Rig::new();
        assert!(rig.find(0..WINDOW + 1).is_some());
        assert!(rig.find(WINDOW - 1..2 * WINDOW + 1).is_none());
        let span = FileSpan { file: rig.id, file_offset: 0, range: 0..1000, pad: false };
        assert!(!rig.mappings.find(&rig.file, &span, LEAST_FILE - 1, |_| panic!("is not mapped")));
    }

    #[test]
    fn so_many_windows_are_kept_and_no_more() {
        let rig = Rig::new();
        let held = rig.find(0..1).expect("is in memory");
        for number in 0..LEN.div_ceil(WINDOW) {
            rig.find(number * WINDOW..number * WINDOW + 1).expect("is in memory");
        }
        assert_eq!(rig.mappings.windows.0.lock().len(), MOST_WINDOWS);
        let (result, got) = send(&held, IoKind::Epoll);
        result.expect("what is held stays mapped");
        assert_eq!(got, [b'h', b'e', b'a', b'd', pattern(0)]);
    }

    #[test]
    fn a_file_in_memory_with_holes_is_known() {
        let file = tempfile::tempfile_in("/dev/shm").expect("a file");
        file.set_len(1 << 20).expect("is made long");
        assert!(fills_holes(&file.into()));
        assert!(!fills_holes(&Rig::new().file));
        assert!(!fills_holes(&File::open("/dev/null").expect("opens").into()));
    }
}
