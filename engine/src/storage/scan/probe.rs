//! Whether a range of a file is in the page cache.

use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::super::positioned::is_memory;

/// How many places are looked at: with a tenth of the range missing, more than half of all probes notice.
const PLACES: usize = 8;

/// What a probe finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// All places that were looked at are cached, or the file lies in memory.
    Warm,
    /// Some are not.
    Cold,
    /// There is no answer: the filesystem does not know the question, or the file ends before.
    Unknown,
}

/// Looks at a few places of that range, which is not empty.
///
/// The places are random, because looking at a page that is not there may bring it in: the next probe would
/// find exactly that page. Asks the kernel to read without waiting, which works on all files that may be read;
/// `mincore` and `cachestat` answer an owner only.
pub(super) fn probe(fd: &OwnedFd, range: &Range<u64>) -> Cache {
    look(fd, std::iter::repeat_with(|| fastrand::u64(range.clone())).take(PLACES))
}

/// Looks closer, at the ends of that range and a place in each 64 KiB of it: for a reader that must not wait for a disk.
pub(super) fn probe_closely(fd: &OwnedFd, range: &Range<u64>) -> Cache {
    const STEP: u64 = 64 << 10;
    let parts = (range.start..range.end).step_by(STEP as usize);
    let places = parts.map(|from| fastrand::u64(from..range.end.min(from + STEP)));
    look(fd, [range.start, range.end - 1].into_iter().chain(places))
}

fn look(fd: &OwnedFd, places: impl Iterator<Item = u64>) -> Cache {
    for offset in places {
        let mut byte = [0];
        match preadv2(fd, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::AGAIN) => return Cache::Cold,
            // The file has become shorter.
            Ok(0) => return Cache::Unknown,
            // Files in memory do not know the question before Linux 6.6, nor need it.
            Err(Errno::OPNOTSUPP) if !is_memory(fd) => return Cache::Unknown,
            // What else may be wrong shows when the bytes are read.
            _ => {}
        }
    }
    Cache::Warm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_cached() {
        let file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut &file, &[1; 100_000]).expect("is written");
        assert_ne!(probe(&file.into(), &(0..100_000)), Cache::Cold);
        let memory = tempfile::tempfile_in("/dev/shm").expect("a file");
        std::io::Write::write_all(&mut &memory, &[1; 100_000]).expect("is written");
        assert_eq!(probe(&memory.into(), &(0..100_000)), Cache::Warm);
    }

    #[test]
    fn bytes_that_a_file_has_not_are_no_answer() {
        let file = tempfile::tempfile().expect("a file").into();
        // Old kernels do not ask files in memory at all.
        assert!(is_memory(&file) || probe(&file, &(0..1)) == Cache::Unknown);
    }
}
