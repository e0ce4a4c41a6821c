//! `Watch`: keeps the process alive when a mapped file shrinks or its disk fails.
//!
//! Owns the process's handler for SIGBUS and the registry of mappings that it looks at. Reading a mapped page
//! that is not there any more raises SIGBUS in the reading thread; where the page lies in a watched mapping,
//! the handler puts zeros in the mapping's place, notes that it is broken, and the read goes on. What is read
//! from then on is worthless: whoever reads asks [`Watch::is_broken`] afterwards. Every other SIGBUS ends as
//! it would have without this file.

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};

/// Mappings that can be watched at a time. Where there is no slot left, a file is read and not mapped.
const SLOTS: usize = 1024;

/// The handler walks this, at any moment and in any thread, so it is nothing but atomics.
static REGISTRY: [Slot; SLOTS] = [const { Slot::FREE }; SLOTS];

/// What handled SIGBUS before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A place in the registry.
struct Slot {
    /// First page and number of pages in one word, so that no reader sees half of a change; 0 when free.
    extent: AtomicU64,
    /// The mapping was replaced by zeros.
    broken: AtomicBool,
}

impl Slot {
    #[expect(clippy::declare_interior_mutable_const, reason = "only makes the slots of the static")]
    const FREE: Slot = Slot { extent: AtomicU64::new(0), broken: AtomicBool::new(false) };
}

/// A watched mapping. To be dropped before the mapping is: its addresses may be another's right after.
pub(super) struct Watch {
    slot: &'static Slot,
}

impl Watch {
    /// Watches the mapping of `len` bytes at `start`, which is the beginning of a page. `None` when as many
    /// mappings as can be are watched already, it is too large, or no handler can be installed.
    ///
    /// # Safety
    /// Until the watch is dropped, the pages must be a mapping of the caller's, of which no more is assumed
    /// than that it can be read: the handler may replace it by zeros.
    pub(super) unsafe fn over(start: *const u8, len: usize) -> Option<Watch> {
        if !install() {
            return None;
        }
        let extent = Extent::of(start.addr(), len)?.pack()?;
        let free = |slot: &&Slot| {
            let claimed = slot.extent.compare_exchange(0, extent, Ordering::AcqRel, Ordering::Relaxed);
            claimed.is_ok()
        };
        let slot = REGISTRY.iter().find(free)?;
        // Nobody has read the mapping yet, so this cannot undo what the handler notes.
        slot.broken.store(false, Ordering::Release);
        // The handler runs in the thread that reads: what keeps its note behind this store is the order of
        // instructions.
        compiler_fence(Ordering::SeqCst);
        Some(Watch { slot })
    }

    /// Whether bytes of the mapping were found missing since it is watched. Tells of all that this thread has
    /// read.
    pub(super) fn is_broken(&self) -> bool {
        // Reads of the mapping may not be moved behind the question about them.
        compiler_fence(Ordering::SeqCst);
        self.slot.broken.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.slot.extent.store(0, Ordering::Release);
    }
}

/// Whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: usize,
    len: usize,
}

impl Extent {
    /// Bits of the packed form that hold the number of pages: mappings of up to 4 GiB of 4 KiB pages. The
    /// other 44 hold the number of the first page, enough for 56 bits of address.
    const LEN_BITS: u32 = 20;

    fn of(start: usize, len: usize) -> Option<Extent> {
        let page = rustix::param::page_size();
        let aligned = start.is_multiple_of(page) && len > 0;
        aligned.then(|| Extent { start, len: len.next_multiple_of(page) })
    }

    fn pack(self) -> Option<u64> {
        let page = rustix::param::page_size();
        let (first, count) = ((self.start / page) as u64, (self.len / page) as u64);
        let fits = count < 1 << Self::LEN_BITS && first < 1 << (u64::BITS - Self::LEN_BITS);
        fits.then_some(first << Self::LEN_BITS | count)
    }

    fn unpack(packed: u64) -> Extent {
        let page = rustix::param::page_size();
        let count = packed & ((1 << Self::LEN_BITS) - 1);
        Extent { start: (packed >> Self::LEN_BITS) as usize * page, len: count as usize * page }
    }

    fn contains(self, address: usize) -> bool {
        address.checked_sub(self.start).is_some_and(|offset| offset < self.len)
    }
}

/// Installs the handler once per process; whether it is there.
fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| try_install().is_ok())
}

fn try_install() -> io::Result<()> {
    // The page size is asked for once and cached, which the handler should not be the first to do.
    let _ = rustix::param::page_size();
    // SAFETY: all zeros is a valid `sigaction`: the default action, an empty mask, no flags.
    let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks for the action that is there, into memory of this frame; changes nothing.
    check(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) })?;
    // Known before the handler can run.
    let _ = PREVIOUS.set(previous);
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_sigbus as *const () as libc::sighandler_t;
    // On the alternate stack where the thread has one: a stack overflow can be a SIGBUS too, and is handled by
    // what was there before.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and does only what a handler may.
    check(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs on any thread at any point: atomics and system calls only, no locks, no memory from the heap.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // A page that is not there, or whose memory failed, and this thread has just touched it. Others are sent by a
    // process, tell of memory that nobody waits for, or would come again at once.
    if matches!(code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR) && replace(address) {
        return;
    }
    pass_on(signal, info, context);
}

/// Puts zeros in the place of the watched mapping that holds `address`; false when there is none.
fn replace(address: usize) -> bool {
    let found = REGISTRY.iter().find_map(|slot| {
        let extent = Extent::unpack(slot.extent.load(Ordering::Acquire));
        extent.contains(address).then_some((slot, extent))
    });
    let Some((slot, extent)) = found else { return false };
    slot.broken.store(true, Ordering::Release);
    // SAFETY: reads `errno` of this thread, which the interrupted code may be about to look at.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the pages are a mapping whose owner allows this (`Watch::over`), and the owner cannot unmap them
    // meanwhile: the signal is of the kind that the reading thread raises, and who reads owns the watch, which is still
    // there.
    let mapped = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(extent.start),
            extent.len,
            libc::PROT_READ,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    mapped != libc::MAP_FAILED
}

/// Does what would have been done without the handler.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get();
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    let takes_info = previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0);
    match handler {
        // The kernel ignores what a process sent and nobody wants; its own it would not.
        libc::SIG_IGN if was_sent(info) => {}
        libc::SIG_DFL | libc::SIG_IGN => die(signal),
        // SAFETY: whoever installed it with SA_SIGINFO gave a function of this type; it gets what the kernel gave.
        handler if takes_info => unsafe {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            std::mem::transmute::<libc::sighandler_t, Handler>(handler)(signal, info, context);
        },
        // SAFETY: whoever installed it without SA_SIGINFO gave a function of this type.
        handler => unsafe {
            std::mem::transmute::<libc::sighandler_t, extern "C" fn(libc::c_int)>(handler)(signal);
        },
    }
}

/// Whether some process sent the signal.
fn was_sent(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler with SA_SIGINFO.
    unsafe { (*info).si_code <= 0 }
}

/// Restores the default action and raises the signal, which is blocked until the handler returns.
fn die(signal: libc::c_int) {
    // SAFETY: all zeros is the default action; both calls are allowed in a handler.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        libc::raise(signal);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn an_extent_survives_packing() {
        let page = rustix::param::page_size();
        for (start, pages) in [(page, 1), (0x7fff_ffff_0000, 524_288), (0xff_ffff_ffff_0000, 1_048_575)] {
            let start = start / page * page;
            let extent = Extent::of(start, pages * page - 1).expect("is aligned");
            assert_eq!(Extent::unpack(extent.pack().expect("fits")), extent);
            assert!(extent.contains(start) && extent.contains(start + pages * page - 1));
            assert!(!extent.contains(start - 1) && !extent.contains(start + pages * page));
        }
        assert_eq!(Extent::of(page + 1, page), None);
        assert_eq!(Extent { start: page, len: page << 20 }.pack(), None, "too long");
        assert!(!Extent::unpack(0).contains(0), "a free slot holds nothing");
    }

    /// Runs one of the tests below in a process of its own, which is to die of SIGBUS.
    fn dies(test: &str) {
        let this = std::env::current_exe().expect("has a path");
        let name = format!("storage::scan::sigbus::tests::{test}");
        let output = Command::new(this).args(["--exact", &name, "--include-ignored"]).output().expect("runs");
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    }

    #[test]
    fn a_foreign_sigbus_still_kills() {
        dies("dies_of_a_page_that_nobody_watches");
        dies("dies_of_signals_that_are_sent");
    }

    #[test]
    #[ignore = "dies on purpose: run by a_foreign_sigbus_still_kills"]
    fn dies_of_a_page_that_nobody_watches() {
        assert!(install());
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4096).expect("gets its length");
        // SAFETY: not meant to be sound: the file shrinks, and nobody watches.
        let map = unsafe { memmap2::Mmap::map(&file) }.expect("is mapped");
        file.set_len(0).expect("is cut");
        std::hint::black_box(map[0]);
    }

    #[test]
    #[ignore = "dies on purpose: run by a_foreign_sigbus_still_kills"]
    fn dies_of_signals_that_are_sent() {
        assert!(install());
        // The standard library's handler, which was there before, lets the first one pass.
        for _ in 0..2 {
            // SAFETY: any thread may send itself a signal.
            unsafe { libc::raise(libc::SIGBUS) };
        }
    }
}
