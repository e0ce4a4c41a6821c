//! `Alignment`: which bytes of a write can go past the page cache.
//!
//! Owns the decision and its traps:
//!
//! - A direct write covers whole pages that belong to one piece and one file alone. A page that is shared by
//!   two pieces, or that holds the end of a file, is written through the page cache by both sides, so a
//!   direct and a cached write never touch the same page, and neither can lose the other's bytes.
//! - The kernel writes back and drops cached pages under a direct write, also such as are being read. What it
//!   cannot drop is a page in one folio with a page that somebody dirties at that moment, and before Linux 6.6
//!   some filesystems then write back the whole folio, old bytes included. So uploads do not read ahead while
//!   a download runs (POSIX_FADV_RANDOM in `Storage::read_plan`): bytes that are not there yet stay out of the
//!   cache.
//! - Neither kind is durable before fsync; `Storage::flush` does it for both.

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, fstatfs, statx};

use super::content::FileSpan;

/// Below this a direct write costs more than a copy into the page cache.
const LEAST_DIRECT: usize = 16 << 10;

/// A piece makes at most this many direct writes, so that a piece of many files does not hold many
/// descriptors: shorter runs than this share of the piece go through the page cache.
const MOST_DIRECT_PER_PIECE: usize = 8;

/// What a file asks of a direct write, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alignment {
    memory: usize,
    /// At least a page: smaller direct writes would share pages with the page cache.
    offset: u64,
}

impl Alignment {
    pub(super) fn new(memory: u32, offset: u32) -> Alignment {
        let page = rustix::param::page_size() as u64;
        Alignment { memory: memory.max(1) as usize, offset: u64::from(offset).max(page) }
    }

    /// What offsets and lengths must be multiples of: at least a page.
    pub(super) fn offset(self) -> u64 {
        self.offset
    }

    /// Whether memory that starts on a page will do.
    pub(super) fn allows_pages(self) -> bool {
        rustix::param::page_size().is_multiple_of(self.memory)
    }

    /// What the kernel says about an open file; `None` when direct writes do not pay or are not possible.
    pub(super) fn of_file(fd: impl AsFd) -> Option<Alignment> {
        let flags = AtFlags::EMPTY_PATH;
        let found = statx(fd.as_fd(), "", flags, StatxFlags::DIOALIGN).ok();
        match found.filter(|found| found.stx_mask & StatxFlags::DIOALIGN.bits() != 0) {
            Some(found) if found.stx_dio_offset_align == 0 => None,
            Some(found) => Some(Alignment::new(found.stx_dio_mem_align, found.stx_dio_offset_align)),
            None => Alignment::of_old_kernel(fd),
        }
    }

    /// Before Linux 6.1 nothing says it; these filesystems are known to take whole pages.
    fn of_old_kernel(fd: impl AsFd) -> Option<Alignment> {
        const EXT4: u64 = 0xEF53;
        const XFS: u64 = 0x5846_5342;
        let filesystem = fstatfs(fd).ok()?.f_type;
        [EXT4, XFS].contains(&u64::try_from(filesystem).ok()?).then(|| Alignment::new(4096, 4096))
    }

    /// The part of a span that can be written past the page cache, as a range of the piece of `piece_len`
    /// bytes; empty when none can. The rest, on either side, goes through the cache.
    pub(super) fn direct_part(self, span: &FileSpan, piece_len: usize) -> Range<usize> {
        let none = span.range.start..span.range.start;
        let first = span.file_offset.next_multiple_of(self.offset);
        let end = span.file_end() / self.offset * self.offset;
        let least = LEAST_DIRECT.max(piece_len / MOST_DIRECT_PER_PIECE) as u64;
        if first + least > end {
            return none;
        }
        let at =
            |offset: u64| span.range.start + usize::try_from(offset - span.file_offset).unwrap_or(usize::MAX);
        let part = at(first)..at(end);
        // Buffers start on a page, so the position in the piece decides the alignment in memory.
        if part.start.is_multiple_of(self.memory) { part } else { none }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::content::{Content, ContentFile};
    use super::*;

    const PAGE: u64 = 4096;

    fn span(file_offset: u64, range: Range<usize>) -> FileSpan {
        let file = ContentFile::new("x", 1);
        let content = Content::directory("d", vec![file], 1).expect("a layout");
        let (file, _) = content.real_files().next().expect("one file");
        FileSpan { file, file_offset, range, pad: false }
    }

    #[test]
    fn an_aligned_piece_is_written_whole() {
        let alignment = Alignment::new(512, 512);
        assert_eq!(alignment.direct_part(&span(1 << 20, 0..1 << 20), 1 << 20), 0..1 << 20);
    }

    #[test]
    fn the_tail_of_a_file_goes_through_the_cache() {
        let part = Alignment::new(512, 512).direct_part(&span(0, 0..100_000), 100_000);
        assert_eq!(part, 0..98_304);
    }

    #[test]
    fn misaligned_memory_and_small_spans_go_through_the_cache() {
        let alignment = Alignment::new(512, 512);
        assert!(alignment.direct_part(&span(0, 100..1 << 20), 1 << 20).is_empty(), "misaligned memory");
        assert!(alignment.direct_part(&span(0, 0..12_288), 12_288).is_empty(), "small");
        assert!(alignment.direct_part(&span(0, 0..32_768), 1 << 20).is_empty(), "a small part of its piece");
    }

    proptest! {
        #[test]
        fn a_direct_part_is_whole_pages_inside_the_span(
            file_offset in 0_u64..200_000, start in 0_usize..10_000, len in 1_usize..200_000, memory in 0_u32..3
        ) {
            let memory = [1, 512, 4096][memory as usize];
            let span = span(file_offset, start..start + len);
            let part = Alignment::new(memory, 512).direct_part(&span, 300_000);
            prop_assert!(part.start >= span.range.start && part.end <= span.range.end);
            if !part.is_empty() {
                let offset = span.file_offset + (part.start - start) as u64;
                prop_assert_eq!(offset % PAGE, 0);
                prop_assert_eq!(part.len() as u64 % PAGE, 0);
                prop_assert_eq!(part.start % memory as usize, 0);
            }
        }
    }
}
