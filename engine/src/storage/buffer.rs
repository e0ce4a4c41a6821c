//! `PieceBuffer`, `FrozenRange` and `AlignedBuf`: who may write a pooled buffer, and who may read it.
//!
//! Owns the one rule of the data path: **buffers freeze**. A piece under assembly has one writer; a prefix
//! of it that is complete freezes (the watermark rises, never falls) and can then be read by any thread
//! while later blocks are still being written; the whole buffer freezes in the end. Memory returns to the
//! pool when the writer and all ranges are gone. Where the memory comes from is [`super::pool`]'s business.

use std::fmt;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use super::landing::Zone;
use super::pool::Slot;

/// The unique writer of one piece being assembled. Can be sent to another thread, which then is the writer.
pub struct PieceBuffer {
    slot: Arc<Slot>,
    /// Bytes of the piece; the slot has at least as many.
    len: usize,
    /// Invariant: every `FrozenRange` of this slot ends at or before here, and no byte before here is ever
    /// written again.
    frozen: usize,
    /// Invariant: what a [`Landing`](super::Landing) has of this buffer is in here until it is released, and the bytes of
    /// one that is not settled are not frozen.
    pub(super) zones: Vec<Zone>,
}

impl PieceBuffer {
    pub(super) fn new(slot: Slot, len: usize) -> PieceBuffer {
        debug_assert!(len <= slot.len());
        PieceBuffer { slot: Arc::new(slot), len, frozen: 0, zones: Vec::new() }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Copies a block to its place, unless it has [landed](super::Landing) there.
    ///
    /// # Panics
    /// When it would reach beyond the piece, touch a frozen byte (blocks are written once) or one that a landing has.
    pub fn write(&mut self, offset: usize, block: &[u8]) {
        if self.has_landed(offset, block) {
            return;
        }
        assert!(offset >= self.frozen, "a write at {offset} into bytes frozen up to {}", self.frozen);
        let range = offset..offset.saturating_add(block.len());
        assert!(!self.zones.iter().any(|zone| zone.meets(&range)), "a write of {range:?} that a landing has");
        assert!(
            offset.checked_add(block.len()).is_some_and(|end| end <= self.len),
            "a write beyond the piece"
        );
        // SAFETY: the destination is inside the slot (asserted; `len <= slot.len()`), above the watermark and in no
        // landing, so no reader can see it, and `&mut self` is the only writer. `block` cannot overlap it: every
        // reference that can exist into this slot lies below the watermark or in a landing.
        unsafe {
            self.slot.base().add(offset).as_ptr().copy_from_nonoverlapping(block.as_ptr(), block.len());
        };
    }

    /// Freezes the first `end` bytes and returns them. Bytes never written read as whatever the memory held
    /// (zeros or an earlier piece): freeze what is complete.
    ///
    /// # Panics
    /// When `end` is beyond the piece.
    pub fn freeze_to(&mut self, end: usize) -> FrozenRange {
        assert!(end <= self.len, "a freeze beyond the piece");
        assert!(!self.is_landing(&(0..end)), "a freeze up to {end} of bytes that the kernel may be writing");
        self.frozen = self.frozen.max(end);
        FrozenRange { slot: Arc::clone(&self.slot), start: 0, len: end }
    }

    /// Freezes the whole piece: there is no writer any more.
    ///
    /// # Panics
    /// When the kernel may be writing some of it.
    #[must_use]
    pub fn freeze(self) -> FrozenRange {
        assert!(!self.is_landing(&(0..self.len)), "a freeze of bytes that the kernel may be writing");
        FrozenRange { slot: self.slot, start: 0, len: self.len }
    }

    /// Bytes of the piece.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a piece is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are frozen, from the start.
    #[must_use]
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    /// The whole buffer, written or not.
    ///
    /// # Panics
    /// When the kernel may be writing some of it.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        assert!(!self.is_landing(&(0..self.len)), "a look at bytes that the kernel may be writing");
        // SAFETY: inside the slot, whose memory is always initialised (zeros at first). The kernel writes nothing of
        // it (asserted), and the only other writer is `&mut self`, which cannot exist while the slice borrows `self`.
        unsafe { slice::from_raw_parts(self.slot.base().as_ptr(), self.len) }
    }
}

impl fmt::Debug for PieceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceBuffer({} of {} bytes frozen)", self.frozen, self.len)
    }
}

/// Immutable shared bytes of a pooled buffer, readable by every thread. Clones are cheap.
#[derive(Clone)]
pub struct FrozenRange {
    slot: Arc<Slot>,
    start: usize,
    /// Invariant: `start + len` is at or below the watermark of the buffer this came from.
    len: usize,
}

impl FrozenRange {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: inside the slot and below the watermark: no writer touches these bytes as long as a
        // `FrozenRange` (which keeps the slot from its pool) exists.
        unsafe { slice::from_raw_parts(self.slot.base().add(self.start).as_ptr(), self.len) }
    }

    /// A part of these bytes; keeps the whole buffer from its pool.
    ///
    /// # Panics
    /// When `range` is not inside this one.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> FrozenRange {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} frozen bytes", self.len);
        FrozenRange { slot: Arc::clone(&self.slot), start: self.start + range.start, len: range.len() }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsRef<[u8]> for FrozenRange {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for FrozenRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenRange({} bytes from {})", self.len, self.start)
    }
}

/// A page-aligned buffer with one owner, for reads from disk: the kernel may write all of `capacity()` while
/// an operation owns it.
pub struct AlignedBuf {
    slot: Slot,
    /// Invariant: at most `slot.len()`.
    len: usize,
}

impl AlignedBuf {
    pub(super) fn new(slot: Slot) -> AlignedBuf {
        AlignedBuf { slot, len: 0 }
    }

    /// Where the bytes begin; aligned to [`super::BUFFER_ALIGN`]. Stays the same when the value moves.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.slot.base().as_ptr()
    }

    /// Where the bytes begin, for reading.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.slot.base().as_ptr()
    }

    /// Bytes that fit: at least what was asked for, in whole pages.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slot.len()
    }

    /// Says how many bytes are valid, after a read. All of the memory is initialised, so any length up to the
    /// capacity is sound.
    ///
    /// # Panics
    /// When `len` is more than the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "{len} bytes in a buffer of {}", self.capacity());
        self.len = len;
    }

    /// How many bytes are valid.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read into it yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The valid bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: inside the slot, initialised, and `&mut self` is the only way to write.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The valid bytes, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and this borrow is unique.
        unsafe { slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) }
    }

    /// The valid bytes as an immutable range that can be shared.
    #[must_use]
    pub fn into_frozen(self) -> FrozenRange {
        FrozenRange { len: self.len, slot: Arc::new(self.slot), start: 0 }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use proptest::prelude::*;

    use super::super::pool::{BUFFER_ALIGN, BufferPool};
    use super::*;

    const PAGE: usize = BUFFER_ALIGN;

    #[test]
    fn buffers_are_aligned_and_hold_what_was_written() {
        let pool = BufferPool::new(64 * PAGE);
        let mut buffer = pool.try_take(3 * PAGE + 5).expect("within the limit");
        buffer.write(PAGE, &[2; PAGE]);
        buffer.write(0, &[1; PAGE]);
        buffer.write(2 * PAGE, &[3; PAGE + 5]);
        let whole = buffer.freeze();
        assert_eq!(whole.as_slice().as_ptr().align_offset(BUFFER_ALIGN), 0);
        assert_eq!(whole.len(), 3 * PAGE + 5);
        assert_eq!(whole.slice(PAGE..2 * PAGE).as_slice(), &[2; PAGE]);
        assert_eq!(whole.slice(3 * PAGE..3 * PAGE + 5).slice(1..3).as_slice(), &[3; 2]);
    }

    #[test]
    #[should_panic(expected = "into bytes frozen up to")]
    fn a_frozen_byte_cannot_be_written() {
        let mut buffer = BufferPool::new(PAGE).try_take(PAGE).expect("within the limit");
        let _frozen = buffer.freeze_to(16);
        buffer.write(15, &[0]);
    }

    #[test]
    #[should_panic(expected = "a write beyond the piece")]
    fn a_write_stays_inside_the_piece() {
        let mut buffer = BufferPool::new(PAGE).try_take(100).expect("within the limit");
        buffer.write(99, &[0; 2]);
    }

    #[test]
    #[should_panic(expected = "of 10 frozen bytes")]
    fn a_slice_stays_inside_the_range() {
        let mut buffer = BufferPool::new(PAGE).try_take(100).expect("within the limit");
        let _ = buffer.freeze_to(10).slice(5..11);
    }

    #[test]
    fn one_thread_reads_the_prefix_while_another_writes_the_rest() {
        const BLOCK: usize = 64;
        const BLOCKS: usize = if cfg!(miri) { 8 } else { 512 };
        let pool = BufferPool::new((BLOCK * BLOCKS).max(PAGE));
        let mut buffer = pool.try_take(BLOCK * BLOCKS).expect("within the limit");
        let (sender, receiver) = mpsc::channel::<FrozenRange>();
        let reader = thread::spawn(move || {
            receiver
                .iter()
                .map(|range| range.as_slice().iter().map(|&byte| u64::from(byte)).sum::<u64>())
                .collect()
        });
        let mut expected = Vec::new();
        for index in 0..BLOCKS {
            let byte = u8::try_from(index % 251).expect("below 251");
            buffer.write(index * BLOCK, &[byte; BLOCK]);
            expected.push(expected.last().copied().unwrap_or(0) + BLOCK as u64 * u64::from(byte));
            sender.send(buffer.freeze_to((index + 1) * BLOCK)).expect("the reader lives");
        }
        drop((sender, buffer));
        let sums: Vec<u64> = reader.join().expect("the reader ends");
        assert_eq!(sums, expected);
        assert_eq!(pool.used_bytes(), 0);
    }

    #[test]
    fn a_writer_can_move_to_another_thread() {
        let pool = BufferPool::new(2 * PAGE);
        let mut buffer = pool.try_take(PAGE).expect("within the limit");
        buffer.write(0, &[1; 8]);
        let prefix = buffer.freeze_to(8);
        let whole = thread::spawn(move || {
            buffer.write(8, &[2; 8]);
            buffer.freeze()
        });
        let whole = whole.join().expect("the writer ends");
        assert_eq!(prefix.as_slice(), &[1; 8]);
        assert_eq!(whole.slice(0..16).as_slice()[8..], [2; 8]);
    }

    #[test]
    fn a_read_buffer_becomes_a_shared_range() {
        let pool = BufferPool::new(4 * PAGE);
        let mut buffer = pool.try_take_aligned(100).expect("within the limit");
        assert_eq!((buffer.capacity(), buffer.len()), (PAGE, 0));
        buffer.set_len(100);
        buffer.as_mut_slice().fill(9);
        let frozen = buffer.into_frozen();
        assert_eq!(frozen.as_slice(), &[9; 100]);
        assert_eq!(pool.used_bytes(), PAGE);
        drop(frozen);
        assert_eq!(pool.used_bytes(), 0);
    }

    /// What a test does with the pool.
    #[derive(Debug, Clone)]
    enum Step {
        Take(usize),
        Write(usize, usize, u8),
        FreezeTo(usize, usize),
        Freeze(usize),
        Slice(usize, usize, usize),
        DropRange(usize),
        DropBuffer(usize),
        Trim,
    }

    fn step() -> impl Strategy<Value = Step> {
        let any = 0..1000_usize;
        prop_oneof![
            (1..40_000_usize).prop_map(Step::Take),
            (any.clone(), any.clone(), 1..255_u8).prop_map(|(which, at, byte)| Step::Write(which, at, byte)),
            (any.clone(), any.clone()).prop_map(|(which, end)| Step::FreezeTo(which, end)),
            any.clone().prop_map(Step::Freeze),
            (any.clone(), any.clone(), any.clone()).prop_map(|(which, a, b)| Step::Slice(which, a, b)),
            any.clone().prop_map(Step::DropRange),
            any.prop_map(Step::DropBuffer),
            Just(Step::Trim),
        ]
    }

    /// The obvious implementation: every buffer and every range is a vector of its own.
    #[derive(Default)]
    struct Model {
        buffers: Vec<(PieceBuffer, Vec<u8>)>,
        ranges: Vec<(FrozenRange, Vec<u8>)>,
    }

    impl Model {
        fn apply(&mut self, pool: &BufferPool, step: &Step) {
            let buffers = self.buffers.len();
            let ranges = self.ranges.len();
            match *step {
                Step::Take(len) => self.take(pool, len),
                Step::Trim => pool.trim(),
                Step::Write(which, at, byte) if buffers > 0 => {
                    let (buffer, bytes) = &mut self.buffers[which % buffers];
                    let at = at.max(buffer.frozen()).min(bytes.len());
                    bytes[at..].fill(byte);
                    buffer.write(at, &bytes[at..]);
                }
                Step::FreezeTo(which, end) if buffers > 0 => {
                    let (buffer, bytes) = &mut self.buffers[which % buffers];
                    let end = end.min(bytes.len());
                    self.ranges.push((buffer.freeze_to(end), bytes[..end].to_vec()));
                }
                Step::Freeze(which) if buffers > 0 => {
                    let (buffer, bytes) = self.buffers.swap_remove(which % buffers);
                    self.ranges.push((buffer.freeze(), bytes));
                }
                Step::Slice(which, a, b) if ranges > 0 => {
                    let (range, bytes) = &self.ranges[which % ranges];
                    let (a, b) = (a.min(bytes.len()), b.min(bytes.len()));
                    let part = a.min(b)..a.max(b);
                    self.ranges.push((range.slice(part.clone()), bytes[part].to_vec()));
                }
                Step::DropRange(which) if ranges > 0 => drop(self.ranges.swap_remove(which % ranges)),
                Step::DropBuffer(which) if buffers > 0 => drop(self.buffers.swap_remove(which % buffers)),
                _ => {}
            }
        }

        fn take(&mut self, pool: &BufferPool, len: usize) {
            let fits = len.div_ceil(PAGE) * PAGE <= pool.free_bytes();
            let taken = pool.try_take(len);
            assert_eq!(taken.is_some(), fits);
            if let Some(mut buffer) = taken {
                buffer.write(0, &vec![0; len]);
                self.buffers.push((buffer, vec![0; len]));
            }
        }

        fn check(&self, pool: &BufferPool) {
            for (range, bytes) in &self.ranges {
                assert_eq!(range.as_slice(), bytes);
            }
            for (buffer, bytes) in &self.buffers {
                assert_eq!(buffer.as_slice(), bytes);
            }
            pool.check_invariants();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn any_order_of_takes_freezes_and_drops_behaves_like_separate_vectors(
            steps in prop::collection::vec(step(), 1..if cfg!(miri) { 16 } else { 80 })
        ) {
            let pool = BufferPool::new(32 * PAGE);
            let mut model = Model::default();
            for step in &steps {
                model.apply(&pool, step);
                model.check(&pool);
            }
            drop(model);
            prop_assert_eq!(pool.used_bytes(), 0);
        }
    }
}
