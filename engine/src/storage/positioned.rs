//! Reading and writing at a position until everything is done, and making room for a file.
//!
//! Owns the loops around system calls that may do less than they were asked for.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, fallocate, fstatfs, ftruncate};
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

/// Whether the file lies in memory (tmpfs, ramfs).
pub(super) fn is_memory(fd: &OwnedFd) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58F6;
    let filesystem = fstatfs(fd).ok().and_then(|found| u64::try_from(found.f_type).ok());
    filesystem.is_some_and(|filesystem| [TMPFS, RAMFS].contains(&filesystem))
}
