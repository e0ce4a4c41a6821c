//! `Landing`: bytes of a piece buffer that the kernel may fill with what a peer sends.
//!
//! Owns the agreement between a buffer and an operation about who may touch which bytes: from
//! [`PieceBuffer::land`] on, the kernel alone writes them; once the operation is over the buffer is told
//! ([`PieceBuffer::settle`]), and they may be read and frozen; given back ([`PieceBuffer::release`]), they are written
//! like any others. What arrives in them is the shard's business.

use std::fmt;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use super::buffer::PieceBuffer;
use super::pool::Slot;

/// Bytes of a [`PieceBuffer`] that only an operation may write. Keeps the memory, also when the buffer is gone.
pub struct Landing {
    slot: Arc<Slot>,
    start: usize,
    len: usize,
    /// The operation is over: nothing writes these bytes any more.
    settled: bool,
}

/// The part of a buffer that a landing has.
#[derive(Clone)]
pub(super) struct Zone {
    range: Range<usize>,
    settled: bool,
}

impl Zone {
    pub(super) fn meets(&self, other: &Range<usize>) -> bool {
        self.range.start < other.end && other.start < self.range.end
    }
}

impl Landing {
    /// Bytes that fit.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a landing is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where in the piece it ends.
    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.len
    }

    /// Where the kernel may write so many bytes, from `offset` on.
    ///
    /// # Panics
    /// When that reaches beyond the landing, or its buffer was told that the operation is over.
    pub(crate) fn region(&mut self, range: Range<usize>) -> (*mut u8, usize) {
        assert!(!self.settled && range.start <= range.end && range.end <= self.len, "{range:?} of {self:?}");
        // SAFETY: inside the slot: `start + len` is (`PieceBuffer::land`), and the range is inside that.
        let at = unsafe { self.slot.base().add(self.start + range.start) };
        (at.as_ptr(), range.len())
    }

    /// The bytes, whatever arrived in them. An operation owns its landings, so who has one knows that it is over.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: inside the slot, whose memory is always initialised. No operation writes it (it would own `self`),
        // and the buffer refuses to (`PieceBuffer::write`) until it gets `self` back.
        unsafe { slice::from_raw_parts(self.slot.base().add(self.start).as_ptr(), self.len) }
    }
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Landing({} bytes from {})", self.len, self.start)
    }
}

impl PieceBuffer {
    /// Bytes for an operation to fill. None where they reach beyond the piece, some of them are frozen, or another
    /// landing has them.
    pub fn land(&mut self, range: Range<usize>) -> Option<Landing> {
        if !self.may_land(&range) {
            return None;
        }
        let landing =
            Landing { slot: Arc::clone(self.slot()), start: range.start, len: range.len(), settled: false };
        self.zones.push(Zone { range, settled: false });
        Some(landing)
    }

    /// Adds the bytes behind a landing to it. False where they may not be had, as in [`PieceBuffer::land`], or it is not
    /// of this buffer.
    pub fn land_more(&mut self, landing: &mut Landing, len: usize) -> bool {
        let end = landing.start + landing.len;
        let Some(at) = self.zone_of(landing).filter(|_| !landing.settled) else { return false };
        if !self.may_land(&(end..end + len)) {
            return false;
        }
        self.zones[at].range.end += len;
        landing.len += len;
        true
    }

    /// The operation is over: the bytes may be read and frozen, and are not written. False where the landing is not of
    /// this buffer.
    pub fn settle(&mut self, landing: &mut Landing) -> bool {
        landing.settled = true;
        let zone = self.zone_of(landing);
        zone.map(|at| self.zones[at].settled = true).is_some()
    }

    /// Takes the bytes back.
    #[expect(clippy::needless_pass_by_value, reason = "who has a landing may read it, which is over")]
    pub fn release(&mut self, landing: Landing) {
        if let Some(at) = self.zone_of(&landing) {
            self.zones.swap_remove(at);
        }
    }

    /// Whether these bytes are where they belong already: in this buffer, there, by way of a landing.
    pub(super) fn has_landed(&self, offset: usize, bytes: &[u8]) -> bool {
        let range = offset..offset.saturating_add(bytes.len());
        let within =
            |zone: &Zone| zone.settled && zone.range.start <= range.start && range.end <= zone.range.end;
        self.zones.iter().any(within) && self.address_of(offset) == bytes.as_ptr()
    }

    /// Whether an operation may be writing some of these bytes.
    #[must_use]
    pub fn is_landing(&self, range: &Range<usize>) -> bool {
        self.zones.iter().any(|zone| !zone.settled && zone.meets(range))
    }

    /// Leaves this memory to the operations that write it: all else is copied to `fresh`, which takes its place.
    ///
    /// # Panics
    /// When `fresh` is of another length or was used already.
    pub fn leave_to_landings(&mut self, mut fresh: PieceBuffer) {
        assert!(
            fresh.len() == self.len() && fresh.frozen() == 0 && fresh.zones.is_empty(),
            "not a fresh one"
        );
        let mut open: Vec<Range<usize>> = self.zones.iter().map(|zone| zone.range.clone()).collect();
        open.sort_by_key(|range| range.start);
        let mut from = 0;
        for range in open.into_iter().chain(std::iter::once(self.len()..self.len())) {
            fresh.write(from, self.quiet_bytes(from..range.start));
            from = range.end;
        }
        fresh.freeze_to(self.frozen());
        *self = fresh;
    }

    /// Bytes that no landing has.
    fn quiet_bytes(&self, range: Range<usize>) -> &[u8] {
        debug_assert!(!self.zones.iter().any(|zone| zone.meets(&range)));
        // SAFETY: inside the slot, initialised, and the only writer of bytes outside the landings is `&mut self`.
        unsafe { slice::from_raw_parts(self.address_of(range.start), range.len()) }
    }

    fn address_of(&self, offset: usize) -> *const u8 {
        self.slot().base().as_ptr().wrapping_add(offset)
    }

    fn may_land(&self, range: &Range<usize>) -> bool {
        let fits = self.frozen() <= range.start && range.start < range.end && range.end <= self.len();
        fits && !self.zones.iter().any(|zone| zone.meets(range))
    }

    fn zone_of(&self, landing: &Landing) -> Option<usize> {
        let ours = Arc::ptr_eq(self.slot(), &landing.slot);
        let same = |zone: &Zone| zone.range == (landing.start..landing.start + landing.len);
        if ours { self.zones.iter().position(same) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::{BUFFER_ALIGN, BufferPool};
    use super::*;

    const PAGE: usize = BUFFER_ALIGN;

    fn buffer() -> PieceBuffer {
        BufferPool::new(4 * PAGE).try_take(PAGE).expect("within the limit")
    }

    /// What the kernel does.
    fn fill(landing: &mut Landing, byte: u8) {
        let (at, len) = landing.region(0..landing.len());
        // SAFETY: the region is inside the buffer, and nobody looks at it now.
        unsafe { at.write_bytes(byte, len) };
    }

    #[test]
    fn what_landed_is_accepted_where_it_is() {
        let mut buffer = buffer();
        let mut landing = buffer.land(100..200).expect("free");
        assert!(buffer.land_more(&mut landing, 50));
        fill(&mut landing, 7);
        assert!(buffer.is_landing(&(249..300)) && !buffer.is_landing(&(250..300)));
        assert!(buffer.settle(&mut landing) && !buffer.is_landing(&(0..PAGE)));
        buffer.write(100, landing.as_slice());
        assert_eq!(buffer.freeze_to(250).as_slice()[100..], [7; 150]);
        buffer.release(landing);
        buffer.write(250, &[1; 10]);
    }

    #[test]
    #[should_panic(expected = "that a landing has")]
    fn others_do_not_write_there() {
        let mut buffer = buffer();
        let _landing = buffer.land(100..200).expect("free");
        buffer.write(90, &[0; 11]);
    }

    #[test]
    #[should_panic(expected = "that the kernel may be writing")]
    fn what_is_being_written_cannot_be_frozen() {
        let mut buffer = buffer();
        let _landing = buffer.land(100..200).expect("free");
        buffer.freeze_to(101);
    }

    #[test]
    fn bytes_are_lent_once_and_not_when_frozen() {
        let mut buffer = buffer();
        let _frozen = buffer.freeze_to(10);
        assert!(buffer.land(9..20).is_none() && buffer.land(PAGE - 1..PAGE + 1).is_none());
        let mut landing = buffer.land(10..20).expect("free");
        assert!(buffer.land(19..30).is_none());
        let other = buffer.land(25..30).expect("free");
        assert!(!buffer.land_more(&mut landing, 6) && buffer.land_more(&mut landing, 5));
        buffer.release(other);
        assert!(buffer.land_more(&mut landing, 6));
    }

    #[test]
    fn a_buffer_leaves_its_memory_to_what_is_under_way() {
        let mut buffer = buffer();
        buffer.write(0, &[1; 100]);
        let frozen = buffer.freeze_to(50);
        buffer.write(200, &[2; 100]);
        let mut landing = buffer.land(100..200).expect("free");
        buffer.leave_to_landings(self::buffer());
        buffer.write(100, &[3; 100]);
        fill(&mut landing, 9);
        assert!(!buffer.settle(&mut landing));
        buffer.release(landing);
        assert_eq!((buffer.frozen(), frozen.as_slice()), (50, &[1; 50][..]));
        let whole = buffer.freeze();
        assert_eq!(whole.as_slice()[..300], [[1; 100], [3; 100], [2; 100]].concat());
    }
}
