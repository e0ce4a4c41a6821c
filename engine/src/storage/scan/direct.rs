//! `DirectReader`: many reads past the page cache at once, for content that is not in it.
//!
//! Owns a ring of its own and two slabs of memory: while the bytes of one are hashed, the other one's reads
//! are under way, so that the disk never waits. Which bytes are read is decided by `source`.
//!
//! A read that fails or ends early is no error here: those bytes are not handed out, and whoever wants them
//! reads them in the ordinary way, which says what is wrong.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{IoUring, opcode, squeue, types};
use memmap2::{Advice, MmapOptions, MmapRaw};

use super::super::content::FileId;
use super::STEP_BYTES;
use super::files::Direct;

/// Bytes of a slab: a step, and room for reads that begin and end on pages. Whole huge pages.
pub(super) const SLAB_BYTES: usize = STEP_BYTES + (2 << 20);

/// Bytes of one read: large enough for any disk, small enough that many are in flight.
const READ_BYTES: usize = 512 << 10;

/// Entries of the submission queue. More reads than that are submitted in turns.
const QUEUE: u32 = 64;

/// Entries of the completion queue: more than there usually are reads of two slabs in flight. Where there are more, as with
/// holes between pages, the kernel keeps completions back until there is room (IORING_FEAT_NODROP).
const COMPLETIONS: u32 = 2048;

/// Reads for one thread.
pub(super) struct DirectReader {
    ring: IoUring,
    slabs: [Slab; 2],
}

/// Memory that is filled by one step's reads.
struct Slab {
    memory: MmapRaw,
    /// Bytes from the start that belong to reads.
    used: usize,
    reads: Vec<Read>,
    /// Requests in the kernel's hands. Invariant: while there are any, nobody touches `memory`.
    pending: usize,
}

/// A run of a file that is read into a run of a slab.
struct Read {
    file: FileId,
    fd: Rc<OwnedFd>,
    /// Both a multiple of the alignment.
    range: Range<u64>,
    /// Where in the slab it goes.
    at: usize,
    /// Bytes from the start that are there, as far as is known: less than asked for after an error.
    there: usize,
}

/// Where bytes will be once their reads are complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    slab: usize,
    read: usize,
    /// Within the read.
    offset: usize,
}

impl DirectReader {
    /// # Errors
    /// When the kernel refuses a ring or the memory.
    pub(super) fn new() -> io::Result<DirectReader> {
        Ok(DirectReader { ring: build()?, slabs: [Slab::new()?, Slab::new()?] })
    }

    /// Plans to read those bytes into that slab. `None` when it is full.
    pub(super) fn add(
        &mut self,
        slab: usize,
        file: FileId,
        direct: &Direct,
        range: &Range<u64>,
    ) -> Option<Place> {
        let whole = range.start / direct.align * direct.align..range.end.next_multiple_of(direct.align);
        let (read, at) = self.slabs[slab].add(file, direct, whole)?;
        Some(Place { slab, read, offset: usize::try_from(range.start - at).ok()? })
    }

    /// Starts what was planned for that slab.
    pub(super) fn submit(&mut self, slab: usize) {
        for read in 0..self.slabs[slab].reads.len() {
            let len = self.slabs[slab].reads[read].len();
            for start in (0..len).step_by(READ_BYTES) {
                self.request(slab, read, start, READ_BYTES.min(len - start));
            }
        }
        // What cannot be submitted now is when it is waited for.
        let _ = self.ring.submit();
    }

    /// Waits until everything that was planned for that slab is there, or known not to be.
    pub(super) fn wait(&mut self, slab: usize) {
        while self.slabs[slab].pending > 0 {
            self.enter();
        }
    }

    /// The bytes from that place on. `None` when they could not be read.
    ///
    /// # Panics
    /// When the slab has not been waited for.
    pub(super) fn bytes(&self, place: Place, range: Range<usize>) -> Option<&[u8]> {
        let slab = &self.slabs[place.slab];
        assert!(slab.pending == 0, "memory that the kernel may write to is not read");
        let read = &slab.reads[place.read];
        let range = place.offset + range.start..place.offset + range.end;
        if range.end > read.there {
            return None;
        }
        assert!(read.at + range.end <= SLAB_BYTES, "a place within its slab");
        // SAFETY: inside the slab's memory (asserted), which lives as long as `self`; no request is in flight (asserted), and
        // none is made while `self` is borrowed.
        Some(unsafe {
            std::slice::from_raw_parts(slab.memory.as_ptr().add(read.at + range.start), range.len())
        })
    }

    /// Forgets what was read into that slab, so that it can be used anew.
    pub(super) fn clear(&mut self, slab: usize) {
        self.wait(slab);
        let slab = &mut self.slabs[slab];
        slab.reads.clear();
        slab.used = 0;
    }

    fn request(&mut self, slab: usize, read: usize, start: usize, len: usize) {
        let tag = Tag { slab, read, start };
        let entry = self.slabs[slab].entry(tag, len);
        // SAFETY: the descriptor is open, because the `Read` keeps it until the slab is cleared. The memory
        // belongs to the slab, at an address that stays; it is not touched, cleared or freed before the
        // completion, as `pending` says.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enter();
        }
        self.slabs[slab].pending += 1;
    }

    /// Submits what is queued, waits for a completion if any can come, and takes in all there are.
    fn enter(&mut self) {
        let want = usize::from(self.slabs.iter().any(|slab| slab.pending > 0));
        match self.ring.submit_and_wait(want) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // A signal; the completion queue is full; memory is short: it goes on after reaping.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                // Cannot happen with a ring that was built. To unwind would free memory that the kernel writes to.
                _ => {
                    tracing::error!(%error, "io_uring_enter for a read failed");
                    std::process::abort();
                }
            },
        }
        self.reap();
    }

    fn reap(&mut self) {
        for entry in self.ring.completion() {
            let Tag { slab, read, start } = Tag::decode(entry.user_data());
            let slab = &mut self.slabs[slab];
            slab.pending -= 1;
            let read = &mut slab.reads[read];
            let asked = READ_BYTES.min(read.len() - start);
            let done = usize::try_from(entry.result()).unwrap_or(0);
            if done < asked {
                read.there = read.there.min(start + done);
            }
        }
    }
}

impl Drop for DirectReader {
    fn drop(&mut self) {
        (0..self.slabs.len()).for_each(|slab| self.wait(slab));
    }
}

impl Slab {
    fn new() -> io::Result<Slab> {
        let memory = MmapRaw::from(MmapOptions::new().len(SLAB_BYTES).map_anon()?);
        // Only advice: the kernel looks up fewer pages for each read.
        let _ = memory.advise(Advice::HugePage);
        Ok(Slab { memory, used: 0, reads: Vec::new(), pending: 0 })
    }

    /// Plans a read, or makes the last one longer where it goes on in the same file. Returns which it is and where
    /// in the file it begins.
    fn add(&mut self, file: FileId, direct: &Direct, range: Range<u64>) -> Option<(usize, u64)> {
        let number = self.reads.len();
        if let Some(last) = self.reads.last_mut().filter(|last| last.goes_on_with(file, &range)) {
            let more = usize::try_from(range.end.saturating_sub(last.range.end)).ok()?;
            if self.used + more > SLAB_BYTES {
                return None;
            }
            self.used += more;
            last.range.end = last.range.end.max(range.end);
            last.there = last.len();
            return Some((number - 1, last.range.start));
        }
        let len =
            usize::try_from(range.end - range.start).ok().filter(|len| self.used + len <= SLAB_BYTES)?;
        let start = range.start;
        self.reads.push(Read { file, fd: Rc::clone(&direct.fd), range, at: self.used, there: len });
        self.used += len;
        Some((number, start))
    }

    fn entry(&mut self, tag: Tag, len: usize) -> squeue::Entry {
        let Slab { memory, reads, .. } = self;
        let read = &reads[tag.read];
        let at = read.at + tag.start;
        assert!(at + len <= SLAB_BYTES, "a read beyond its slab");
        // Never a reference: the kernel may be writing to the bytes around it.
        let target = memory.as_mut_ptr().wrapping_add(at);
        let len = u32::try_from(len).expect("at most READ_BYTES");
        opcode::Read::new(types::Fd(read.fd.as_raw_fd()), target, len)
            .offset(read.range.start + tag.start as u64)
            .build()
            .user_data(tag.encode())
    }
}

impl Read {
    fn len(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).expect("at most a slab")
    }

    fn goes_on_with(&self, file: FileId, range: &Range<u64>) -> bool {
        self.file == file && self.range.start <= range.start && range.start <= self.range.end
    }
}

/// What a completion is about: the request for the bytes from `start` in a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    slab: usize,
    read: usize,
    start: usize,
}

impl Tag {
    fn encode(self) -> u64 {
        (self.slab as u64) << 63 | (self.read as u64) << 32 | self.start as u64
    }

    fn decode(word: u64) -> Tag {
        let read = (word >> 32) as usize & 0x7fff_ffff;
        Tag { slab: (word >> 63) as usize, read, start: (word & 0xffff_ffff) as usize }
    }
}

/// One thread submits and reaps, and completions need not interrupt its hashing: they are taken in when it
/// enters. Kernels before 6.1 do not know these flags.
fn build() -> io::Result<IoUring> {
    let quiet =
        IoUring::builder().setup_cqsize(COMPLETIONS).setup_single_issuer().setup_defer_taskrun().build(QUEUE);
    quiet.or_else(|_| IoUring::builder().setup_cqsize(COMPLETIONS).build(QUEUE))
}
