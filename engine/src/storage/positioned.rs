//! Reading and writing at a position until everything is done, making room for a file, and opening it once more.
//!
//! Owns the loops around system calls that may do less than they were asked for.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, fallocate, fstat, fstatfs, ftruncate, open};
use rustix::io::{Errno, pread, pwrite};

/// Writes all of `bytes`.
pub(super) fn write_all_at(fd: impl AsFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(&fd, bytes, offset) {
            // A device or filesystem that takes nothing will not take it next time either.
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends; returns how many bytes there were.
pub(super) fn read_up_to(fd: impl AsFd, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buf.len() {
        match pread(&fd, &mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Gives a file its full length, with its blocks allocated where the filesystem can do that at no cost.
///
/// Allocated blocks that were never written count as holes for SEEK_DATA (ext4, xfs), so a check at the next
/// start still skips them. On tmpfs allocation means clearing memory, once for nothing, so there the file
/// only gets its length, as it does where the filesystem cannot allocate.
pub(super) fn allocate(fd: &OwnedFd, len: u64) -> Result<(), Errno> {
    if is_memory(fd) {
        return ftruncate(fd, len);
    }
    loop {
        match fallocate(fd, FallocateFlags::empty(), 0, len) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return ftruncate(fd, len),
            result => return result,
        }
    }
}

/// Opens an open file once more, with an offset and advice of its own. By way of /proc it is the same file, whatever
/// its name leads to by now.
pub(super) fn reopen(fd: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty())
}

/// Whether this is a file that lies in memory (tmpfs, ramfs). A device whose node does, as all in /dev do, is none.
pub(super) fn is_memory(fd: &OwnedFd) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58F6;
    let filesystem = fstatfs(fd).ok().and_then(|found| u64::try_from(found.f_type).ok());
    filesystem.is_some_and(|filesystem| [TMPFS, RAMFS].contains(&filesystem)) && is_regular(fd)
}

fn is_regular(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{SeekFrom, seek};

    use super::*;

    #[test]
    fn a_device_is_not_in_memory_though_its_node_is() {
        let file = tempfile::tempfile_in("/dev/shm").expect("a file");
        assert!(is_memory(&file.into()));
        let device = File::open("/dev/zero").expect("is there");
        assert!(!is_memory(&device.into()));
    }

    #[test]
    fn what_is_opened_once_more_has_an_offset_of_its_own() {
        let file: OwnedFd = tempfile::tempfile().expect("a file").into();
        let again = reopen(&file, OFlags::RDONLY).expect("opens, though it has no name");
        seek(&file, SeekFrom::Start(7)).expect("is moved");
        assert_eq!(seek(&again, SeekFrom::Current(0)), Ok(0));
    }
}
