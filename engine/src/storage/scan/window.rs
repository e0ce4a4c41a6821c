//! `Window`: a part of a file in the page cache, mapped to be read without a copy.
//!
//! Owns the mapping and that it survives a file that shrinks. Which parts are mapped is decided by `source`.

use std::ops::Range;
use std::os::fd::OwnedFd;

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};

use super::sigbus::Watch;

/// Size and alignment of what the kernel maps by one entry where it can.
const HUGE_PAGE: u64 = 2 << 20;

/// A mapped range of a file. Used by the thread that made it alone.
pub(super) struct Window {
    /// Dropped before the mapping.
    watch: Watch,
    map: Mmap,
    /// Where in the file it begins.
    start: u64,
}

impl Window {
    /// Maps `range` of the file, which the file has now. `None` when that cannot be done: the file is then to be read.
    ///
    /// The pages are left to fault in, 16 at a time: populating them (MADV_POPULATE_READ) was measured to cost as
    /// much, and would fill holes of files in memory.
    pub(super) fn open(fd: &OwnedFd, range: &Range<u64>) -> Option<Window> {
        let page = rustix::param::page_size() as u64;
        let start = range.start / page * page;
        let len = usize::try_from(range.end - start).ok()?;
        // SAFETY: the bytes may change or vanish while they are mapped. They are only ever hashed: whatever was
        // read, no more follows than that a digest is right or wrong. What vanishes is the watch's business.
        let map = unsafe { MmapOptions::new().offset(start).len(len).map(fd) }.ok()?;
        // SAFETY: the mapping is this window's alone, is only read, and is unmapped after the watch is dropped.
        let watch = unsafe { Watch::over(map.as_ptr(), len) }?;
        // Only advice: what turns out not to be cached is read ahead.
        let _ = map.advise(Advice::Sequential);
        Some(Window { watch, map, start })
    }

    /// Those bytes of the file, which lie in the window. Worthless when the window is broken afterwards.
    pub(super) fn bytes(&self, range: &Range<u64>) -> &[u8] {
        &self.map[self.offset(range.start)..self.offset(range.end)]
    }

    /// Whether something that was looked at was not there.
    pub(super) fn is_broken(&self) -> bool {
        self.watch.is_broken()
    }

    /// Takes the page table entries of a strip back, so that a large window does not count as memory of this
    /// process. Goes by huge pages, which the page cache may consist of: what lies in one that the strip ends in
    /// stays until the next strip, unless the window ends there, too.
    pub(super) fn release(&self, strip: &Range<u64>) {
        let start = (strip.start / HUGE_PAGE * HUGE_PAGE).max(self.start);
        let last = self.start + self.map.len() as u64;
        let end = if strip.end == last { last } else { strip.end / HUGE_PAGE * HUGE_PAGE };
        if start < end {
            let (at, len) = (self.offset(start), self.offset(end) - self.offset(start));
            // SAFETY: what is mapped is a file, or zeros once broken; both read the same afterwards.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, at, len) };
        }
    }

    fn offset(&self, at: u64) -> usize {
        usize::try_from(at - self.start).expect("inside the window")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn file(len: usize) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![7; len]).expect("is written");
        file
    }

    fn window(file: &File, range: Range<u64>) -> Window {
        let fd = file.try_clone().expect("another descriptor").into();
        Window::open(&fd, &range).expect("is mapped")
    }

    #[test]
    fn a_part_that_begins_anywhere_is_seen() {
        let mut file = tempfile::tempfile().expect("a file");
        let bytes: Vec<u8> = (0..100_000_u32).map(|index| (index % 251) as u8).collect();
        file.write_all(&bytes).expect("is written");
        let window = window(&file, 10_001..90_000);
        assert_eq!(window.bytes(&(20_000..30_000)), &bytes[20_000..30_000]);
        window.release(&(20_000..30_000));
        assert_eq!(window.bytes(&(10_001..90_000)), &bytes[10_001..90_000]);
        assert!(!window.is_broken());
    }

    #[test]
    fn a_file_that_shrinks_breaks_its_windows_and_no_others() {
        let (shrinks, stays) = (file(1 << 20), file(1 << 20));
        let (broken, whole) = (window(&shrinks, 0..1 << 20), window(&stays, 0..1 << 20));
        assert_eq!(broken.bytes(&(0..1)), [7]);
        shrinks.set_len(0).expect("is cut");
        assert!(!broken.is_broken(), "nobody has looked");
        assert!(broken.bytes(&(4096..1 << 20)).iter().all(|byte| *byte == 0));
        assert!(broken.is_broken());
        assert!(whole.bytes(&(0..1 << 20)).iter().all(|byte| *byte == 7));
        assert!(!whole.is_broken());
    }

    #[test]
    fn many_threads_watch_and_break_at_the_same_time() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..200 {
                        let file = file(64 << 10);
                        let window = window(&file, 0..64 << 10);
                        let shrinks = round % 2 == 0;
                        file.set_len(if shrinks { 8192 } else { 64 << 10 }).expect("is set");
                        let sum: u64 = window.bytes(&(0..64 << 10)).iter().map(|byte| u64::from(*byte)).sum();
                        assert_eq!(window.is_broken(), shrinks);
                        assert!(shrinks || sum == 7 * (64 << 10));
                    }
                });
            }
        });
    }
}
