//! `BufferPool`: the memory that pieces and disk reads live in, under one byte budget.
//!
//! Owns the mappings, the budget's arithmetic and the reuse of memory. It does not know what is written
//! into a buffer or who may read it: that is [`super::buffer`]'s contract.
//!
//! Memory is reserved per size class (four classes to a doubling, so an odd length wastes at most a
//! quarter of its slot) as one sparse mapping large enough for the whole budget; only pages that were
//! touched cost anything. A returned slot stays warm for the next buffer of its class and is given back to
//! the kernel only when another class needs the room, so a steady download never faults a page.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::buffer::{AlignedBuf, PieceBuffer};

/// Alignment and granularity of every buffer: a page, which every O_DIRECT target accepts.
pub const BUFFER_ALIGN: usize = 4096;

/// Mappings start on a huge page's boundary, so that the kernel can back them with huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// Hands out aligned buffers while the bytes in use stay within its limit. Clones share the memory.
///
/// The limit is exact for lengths that are multiples of 4 KiB; memory of the process can exceed it by the
/// unused tail of odd-sized slots (at most a quarter) and one partly used huge page per size class.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

impl BufferPool {
    /// A pool that hands out at most `limit_bytes` at a time. Reserves no memory yet.
    #[must_use]
    pub fn new(limit_bytes: usize) -> BufferPool {
        let state = Mutex::new(State { used: 0, warm: 0, regions: BTreeMap::new() });
        BufferPool { shared: Arc::new(Shared { limit: limit_bytes, used: AtomicUsize::new(0), state }) }
    }

    /// A buffer to assemble a piece of `len` bytes in, or `None` when the budget is used up.
    #[must_use]
    pub fn try_take(&self, len: usize) -> Option<PieceBuffer> {
        Some(PieceBuffer::new(self.take_slot(len)?, len))
    }

    /// A buffer of at least `capacity` bytes to read from disk into, or `None` when the budget is used up.
    #[must_use]
    pub fn try_take_aligned(&self, capacity: usize) -> Option<AlignedBuf> {
        Some(AlignedBuf::new(self.take_slot(capacity)?))
    }

    /// Bytes that can still be taken.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.shared.limit - self.used_bytes()
    }

    /// Bytes in buffers that are in use, in whole pages. Waits for nobody.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// The most bytes that can be in use at a time.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.shared.limit
    }

    /// Gives all memory that is kept for reuse back to the kernel: for a process that became idle.
    pub fn trim(&self) {
        let mut state = self.shared.state.lock();
        while state.purge_one() {}
    }

    /// Counts everything again and compares; for tests.
    ///
    /// # Panics
    /// When a cached sum is wrong.
    pub fn check_invariants(&self) {
        let state = self.shared.state.lock();
        let warm: usize = state.regions.iter().map(|(stride, region)| stride * region.warm.len()).sum();
        assert_eq!(warm, state.warm, "warm bytes");
        assert_eq!(self.used_bytes(), state.used, "bytes in use, as told");
        let handed_out: usize = state.regions.iter().map(|(stride, region)| stride * region.in_use()).sum();
        assert!(state.used <= handed_out && handed_out <= state.used + state.used / 4, "bytes in use");
        assert!(state.used <= self.shared.limit, "within the budget");
    }

    fn take_slot(&self, len: usize) -> Option<Slot> {
        let len = round_up(len.max(1), BUFFER_ALIGN);
        let mut state = self.shared.state.lock();
        if len > self.shared.limit - state.used {
            return None;
        }
        let stride = stride_of(len);
        let (index, base) = state.take(stride, len, self.shared.limit)?;
        self.shared.used.store(state.used, Ordering::Relaxed);
        Some(Slot { base, len, stride, index, pool: Arc::clone(&self.shared) })
    }
}

struct Shared {
    limit: usize,
    /// `State::used`, for those who only ask: the lock may be held while memory goes back to the kernel. Stored under
    /// the lock.
    used: AtomicUsize,
    state: Mutex<State>,
}

/// Invariants: `used` is the sum of the rounded lengths handed out and at most the limit; `warm` is the sum
/// of the strides of all warm slots.
struct State {
    used: usize,
    warm: usize,
    /// Keyed by stride, the size of every slot of the region.
    regions: BTreeMap<usize, Region>,
}

impl State {
    fn take(&mut self, stride: usize, len: usize, limit: usize) -> Option<(u32, NonNull<u8>)> {
        if let Entry::Vacant(entry) = self.regions.entry(stride) {
            entry.insert(Region::reserve(stride, limit)?);
        }
        if let Some(index) = self.region(stride).warm.pop() {
            self.warm -= stride;
            self.used += len;
            return Some((index, self.region(stride).slot(stride, index)));
        }
        // This class has nothing warm, so whatever is purged here belongs to another class.
        while self.used + self.warm + len > limit && self.purge_one() {}
        self.used += len;
        let region = self.region(stride);
        let index = region.take_cold();
        Some((index, region.slot(stride, index)))
    }

    fn put_back(&mut self, stride: usize, len: usize, index: u32) {
        self.used -= len;
        self.warm += stride;
        self.region(stride).warm.push(index);
    }

    /// Gives the pages of one warm slot back to the kernel; false when nothing is warm.
    fn purge_one(&mut self) -> bool {
        let Some((&stride, region)) = self.regions.iter_mut().find(|(_, region)| !region.warm.is_empty())
        else {
            return false;
        };
        // The longest unused one: `take` works from the other end.
        let index = region.warm.remove(0);
        region.mapping.purge(index as usize * stride, stride);
        region.cold.push(index);
        self.warm -= stride;
        true
    }

    fn region(&mut self, stride: usize) -> &mut Region {
        self.regions.get_mut(&stride).expect("a slot's region lives as long as the pool")
    }
}

/// All slots of one size. A slot is fresh (never handed out), in use, warm (its pages are kept) or cold
/// (its pages went back to the kernel).
struct Region {
    mapping: Mapping,
    /// How many slots the mapping has room for: as many as the budget can ever pay for.
    slots: u32,
    /// Slots from here on are fresh.
    fresh_from: u32,
    warm: Vec<u32>,
    cold: Vec<u32>,
}

impl Region {
    fn reserve(stride: usize, limit: usize) -> Option<Region> {
        let slots = limit / shortest_of(stride);
        let mapping = Mapping::reserve(slots * stride)?;
        let slots = u32::try_from(slots).ok()?;
        Some(Region { mapping, slots, fresh_from: 0, warm: Vec::new(), cold: Vec::new() })
    }

    fn take_cold(&mut self) -> u32 {
        self.cold.pop().unwrap_or_else(|| {
            assert!(self.fresh_from < self.slots, "more slots in use than the budget can pay for");
            self.fresh_from += 1;
            self.fresh_from - 1
        })
    }

    fn slot(&self, stride: usize, index: u32) -> NonNull<u8> {
        self.mapping.at(index as usize * stride)
    }

    fn in_use(&self) -> usize {
        self.fresh_from as usize - self.warm.len() - self.cold.len()
    }
}

/// A run of pooled memory that nobody else has; dropped, it goes back to its pool.
pub(super) struct Slot {
    base: NonNull<u8>,
    /// Usable bytes: what was asked for, rounded up to whole pages.
    len: usize,
    stride: usize,
    index: u32,
    /// Keeps the mapping alive.
    pool: Arc<Shared>,
}

impl Slot {
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.put_back(self.stride, self.len, self.index);
        self.pool.used.store(state.used, Ordering::Relaxed);
    }
}

// SAFETY: a Slot is the only handle to its bytes (the pool hands an index out once until it is dropped), and
// the bytes stay mapped while `pool` is alive; nothing in it is tied to a thread.
unsafe impl Send for Slot {}
// SAFETY: a shared Slot only tells its address and length; whoever dereferences them answers for it.
unsafe impl Sync for Slot {}

/// Slots of `len` bytes are cut in this size: `len` rounded up to a quarter of the power of two below it.
fn stride_of(len: usize) -> usize {
    round_up(len, class_step(len))
}

/// The shortest (rounded) length that is cut in slots of `stride`: no shorter one can be in this class, so
/// the limit divided by it is the most slots that can ever be in use.
fn shortest_of(stride: usize) -> usize {
    stride - class_step(stride) + BUFFER_ALIGN
}

fn class_step(len: usize) -> usize {
    let power = 1_usize << (usize::BITS - 1 - (len - 1).leading_zeros());
    (power / 4).max(BUFFER_ALIGN)
}

fn round_up(value: usize, step: usize) -> usize {
    value.div_ceil(step) * step
}

/// A run of zeroed memory that starts at a page (or huge page) boundary; costs nothing until touched.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory, reachable from any thread; only its owner unmaps or purges it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len);
        // SAFETY: `offset` is inside the mapping, as asserted.
        unsafe { self.base.add(offset) }
    }
}

#[cfg(not(miri))]
impl Mapping {
    /// `None` when the kernel refuses (an address-space limit, strict overcommit): the caller then runs with
    /// what it has.
    fn reserve(len: usize) -> Option<Mapping> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
        let padded = len + HUGE_PAGE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                padded,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let start =
            start.inspect_err(|error| tracing::error!(%error, len, "cannot reserve buffer memory")).ok()?;
        let lead = start.align_offset(HUGE_PAGE);
        let tail = HUGE_PAGE - lead;
        // SAFETY: head and tail lie inside the mapping just made, in whole pages, and nobody knows them yet.
        // A refusal leaves address space reserved and is harmless, as is one of the advice.
        let base = unsafe {
            if lead > 0 {
                let _ = munmap(start, lead);
            }
            let base = start.byte_add(lead);
            let end = round_up(len, BUFFER_ALIGN);
            let _ = munmap(base.byte_add(end), tail - (end - len));
            let _ = madvise(base, end, Advice::LinuxHugepage);
            base
        };
        NonNull::new(base.cast()).map(|base| Mapping { base, len })
    }

    /// Gives the pages back; they read as zeros when touched again.
    fn purge(&mut self, offset: usize, len: usize) {
        use rustix::mm::{Advice, madvise};
        let start = self.at(offset).as_ptr();
        // SAFETY: whole pages of a free slot inside this mapping: nobody holds a reference to them.
        let _ = unsafe { madvise(start.cast(), len, Advice::LinuxDontNeed) };
    }
}

#[cfg(not(miri))]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `reserve` with this length; the pool drops its regions after the last slot.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Miri knows no `madvise`: there the same memory comes from the allocator.
#[cfg(miri)]
impl Mapping {
    fn layout(len: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(len, BUFFER_ALIGN).expect("a budget fits the address space")
    }

    fn reserve(len: usize) -> Option<Mapping> {
        // SAFETY: the budget is at least one page, so the length is not zero.
        let base = unsafe { std::alloc::alloc_zeroed(Mapping::layout(len)) };
        NonNull::new(base).map(|base| Mapping { base, len })
    }

    fn purge(&mut self, offset: usize, len: usize) {
        // SAFETY: a free slot inside this mapping: nobody holds a reference to it.
        unsafe { self.at(offset).write_bytes(0, len) };
    }
}

#[cfg(miri)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: allocated by `reserve` with this layout.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Mapping::layout(self.len)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn classes_waste_at_most_a_quarter() {
        for len in (1..=2048).map(|pages| pages * BUFFER_ALIGN) {
            let stride = stride_of(len);
            assert!(stride >= len && stride <= len + len / 4, "{len} in {stride}");
            assert!(shortest_of(stride) <= len);
            assert_eq!(stride_of(shortest_of(stride)), stride);
        }
        assert_eq!(stride_of(1024 * KIB), 1024 * KIB);
    }

    #[test]
    fn the_limit_is_exact_and_memory_comes_back() {
        let pool = BufferPool::new(64 * KIB);
        let held: Vec<_> = (0..4).map(|_| pool.try_take(16 * KIB).expect("within the limit")).collect();
        assert!(pool.try_take(1).is_none());
        assert_eq!(pool.free_bytes(), 0);
        drop(held);
        assert_eq!(pool.free_bytes(), 64 * KIB);
        pool.check_invariants();
    }

    #[test]
    fn the_same_memory_is_used_again() {
        let pool = BufferPool::new(64 * KIB);
        let first = pool.try_take_aligned(20 * KIB).expect("within the limit").as_ptr();
        let second = pool.try_take_aligned(20 * KIB).expect("within the limit").as_ptr();
        assert_eq!(first, second);
    }

    #[test]
    fn another_class_gets_the_room_of_a_free_one() {
        let pool = BufferPool::new(64 * KIB);
        for len in [64 * KIB, 16 * KIB, 64 * KIB, 4 * KIB, 36 * KIB] {
            drop(pool.try_take(len).expect("an empty pool has room"));
            pool.check_invariants();
            let state = pool.shared.state.lock();
            assert!(state.used + state.warm <= 64 * KIB, "memory kept beyond the budget");
        }
        pool.trim();
        assert_eq!(pool.shared.state.lock().warm, 0);
    }

    #[test]
    fn purged_memory_is_zero_and_usable() {
        let pool = BufferPool::new(16 * KIB);
        let mut buffer = pool.try_take(16 * KIB).expect("within the limit");
        buffer.write(0, &[7; 16 * KIB]);
        drop(buffer);
        pool.trim();
        let mut buffer = pool.try_take_aligned(16 * KIB).expect("within the limit");
        buffer.set_len(16 * KIB);
        assert!(buffer.as_slice().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_request_beyond_the_limit_is_refused() {
        assert!(BufferPool::new(0).try_take(1).is_none());
        assert!(BufferPool::new(8 * KIB).try_take(9 * KIB).is_none());
    }
}
