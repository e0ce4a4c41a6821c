//! `BufferRing`: the receive buffers a ring shares with the kernel, and `RingBuf`, one of them filled.
//!
//! Owns the memory of both the buffers and the queue of free ones. The kernel takes buffers from the queue's head
//! when data arrives; a dropped [`RingBuf`] puts its own back at the tail, without a system call.

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags};

/// The most buffers a ring can have: ids are 16 bits, and the kernel allows half of that.
const COUNT_MAX: u16 = 1 << 15;

/// Anonymous memory of whole pages, freed on drop.
struct Pages {
    base: NonNull<u8>,
    len: usize,
}

impl Pages {
    fn new(len: usize) -> io::Result<Pages> {
        // SAFETY: a fresh private anonymous mapping at an address of the kernel's choice touches nothing else.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Pages { base, len })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and whoever owns the `Pages` lets nothing refer to it any more. Cannot fail
        // for a range that is mapped.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Receive buffers and the queue of free ones, shared with the kernel.
pub(super) struct BufferRing {
    /// `BufRingEntry` times `slots`; the queue's tail lies in the unused field of the first.
    queue: Pages,
    /// A power of two, at least `count`.
    slots: u16,
    buffers: Pages,
    buffer_bytes: u32,
    count: u16,
    /// What the kernel sees as the tail. Only this thread changes it.
    tail: Cell<u16>,
    /// Buffers in the queue, as far as completions seen so far tell.
    free: Cell<u16>,
}

impl BufferRing {
    /// Allocates `count` buffers and queues them all. The kernel does not know of them yet.
    pub(super) fn new(count: u16, buffer_bytes: u32) -> io::Result<BufferRing> {
        if count == 0 || count > COUNT_MAX || buffer_bytes == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "1 to 32,768 buffers of at least a byte",
            ));
        }
        let slots = count.next_power_of_two();
        let ring = BufferRing {
            queue: Pages::new(usize::from(slots) * size_of::<BufRingEntry>())?,
            slots,
            buffers: Pages::new(usize::from(count) * buffer_bytes as usize)?,
            buffer_bytes,
            count,
            tail: Cell::new(0),
            free: Cell::new(0),
        };
        for id in 0..count {
            ring.put_back(id);
        }
        Ok(ring)
    }

    /// Where the queue begins and how many slots it has, for registration.
    pub(super) fn queue(&self) -> (u64, u16) {
        (self.queue.base.as_ptr() as u64, self.slots)
    }

    /// Buffers in the queue, as far as completions seen so far tell.
    pub(super) fn free(&self) -> u16 {
        self.free.get()
    }

    /// Notes that the kernel took buffer `id` out of the queue and filled `len` bytes of it.
    ///
    /// # Safety
    /// A completion must have said so, and be the only one that did since the buffer was last put back.
    pub(super) unsafe fn taken(self: &Rc<Self>, id: u16, len: usize) -> RingBuf {
        debug_assert!(id < self.count && len <= self.buffer_bytes as usize);
        self.free.set(self.free.get() - 1);
        RingBuf { ring: Rc::clone(self), id, len: len.min(self.buffer_bytes as usize) }
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < self.count);
        // SAFETY: `id` is below `count` (ids come from `new` and from the kernel, which repeats ours), so this
        // is inside the mapping.
        unsafe { self.buffers.base.add(usize::from(id) * self.buffer_bytes as usize) }
    }

    fn put_back(&self, id: u16) {
        let entries = self.queue.base.as_ptr().cast::<BufRingEntry>();
        let tail = self.tail.get();
        // SAFETY: the slot is inside the mapping (masked), and between the kernel's head and the tail it was
        // told there are at most `count - 1 < slots` others, so the kernel does not read this slot now. The
        // setters do not touch the field in which the first entry holds the tail.
        let entry = unsafe { &mut *entries.add(usize::from(tail & (self.slots - 1))) };
        entry.set_addr(self.buffer(id).as_ptr() as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        self.free.set(self.free.get() + 1);
        // SAFETY: the tail lies in the mapping, is aligned, and is only ever accessed atomically by us; release
        // makes the entry visible to the kernel before the tail that covers it.
        unsafe {
            let shared = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(shared).store(self.tail.get(), Ordering::Release);
        }
    }
}

/// A provided buffer with received bytes in it. Dropping it returns it to the kernel.
pub(crate) struct RingBuf {
    /// Keeps the memory, also when the driver is gone.
    ring: Rc<BufferRing>,
    id: u16,
    len: usize,
}

impl RingBuf {
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: inside the buffer, which the kernel gave up when it posted the completion and gets back only
        // on drop; the mapping is always initialised.
        unsafe { slice::from_raw_parts(self.ring.buffer(self.id).as_ptr(), self.len) }
    }
}

impl RingBuf {
    pub(crate) fn is_filled(&self) -> bool {
        self.len == self.ring.buffer_bytes as usize
    }
}

impl Drop for RingBuf {
    fn drop(&mut self) {
        self.ring.put_back(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_the_kernel_would_refuse_are_refused() {
        assert!(BufferRing::new(0, 4096).is_err());
        assert!(BufferRing::new(COUNT_MAX + 1, 4096).is_err());
        assert!(BufferRing::new(1, 0).is_err());
    }

    #[test]
    fn buffers_are_counted_out_and_in() {
        let ring = Rc::new(BufferRing::new(3, 16).expect("fits"));
        assert_eq!((ring.free(), ring.queue().1), (3, 4));
        // SAFETY: stands in for the kernel, which takes each buffer once.
        let (first, second) = unsafe { (ring.taken(2, 16), ring.taken(0, 5)) };
        assert_eq!((ring.free(), first.as_slice().len(), second.as_slice().len()), (1, 16, 5));
        drop((first, second));
        assert_eq!((ring.free(), ring.tail.get()), (3, 5));
    }
}
