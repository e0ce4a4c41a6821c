//! `StorageError`: what went wrong with the user's disk, and what to do about it.
//!
//! Owns the wording. Paths are printed quoted and escaped, because they may come from a torrent.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// An operation on a file, directory or device that failed. Nobody on the network is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    operation: &'static str,
    path: PathBuf,
    cause: Cause,
}

/// Whose business the failure is; the command turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The disk: full, too small, failing.
    Disk,
    /// The path that was given: not there, of the wrong type, a symlink in the way, a device in use.
    Path,
    /// The kernel or the permissions: not allowed, read-only, a system call that is not there.
    Permission,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel's answer.
    Os(Errno),
    /// The path is a symbolic link, or leads over one.
    Symlink,
    /// The path is there but is neither a regular file nor what else was expected; holds what it should be.
    NotA(&'static str),
    /// Writing everything takes more bytes than are free.
    NoSpace {
        /// Bytes to be allocated.
        needed: u64,
        /// Bytes that are free for this user.
        free: u64,
    },
    /// The file ends before the bytes that were to be read.
    TooShort,
    /// The block device is in use; says by what.
    DeviceInUse(String),
    /// The block device is smaller than the torrent.
    DeviceTooSmall {
        /// Bytes of the torrent.
        needed: u64,
        /// Bytes of the device.
        available: u64,
    },
    /// A torrent of several files cannot be laid out on a block device.
    SeveralFiles,
}

impl StorageError {
    /// `operation` completes the sentence "cannot ... PATH".
    #[must_use]
    pub fn new(operation: &'static str, path: impl Into<PathBuf>, cause: Cause) -> StorageError {
        StorageError { operation, path: path.into(), cause }
    }

    /// As [`new`](Self::new), for the kernel's answer.
    #[must_use]
    pub fn os(operation: &'static str, path: impl Into<PathBuf>, errno: Errno) -> StorageError {
        StorageError::new(operation, path, Cause::Os(errno))
    }

    /// Whose business it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.cause {
            Cause::Os(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOSYS) => ErrorKind::Permission,
            Cause::Os(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                ErrorKind::Path
            }
            Cause::Symlink | Cause::NotA(_) | Cause::DeviceInUse(_) | Cause::SeveralFiles => ErrorKind::Path,
            Cause::Os(_) | Cause::NoSpace { .. } | Cause::TooShort | Cause::DeviceTooSmall { .. } => {
                ErrorKind::Disk
            }
        }
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The file, directory or device that was operated on.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path is simply not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.cause, Cause::Os(Errno::NOENT | Errno::NOTDIR))
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {:?}: {}", self.operation, self.path, self.cause)
    }
}

impl std::error::Error for StorageError {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Os(errno) => write!(f, "{}{}", std::io::Error::from(*errno), advice(*errno)),
            Cause::Symlink => f.write_str(
                "it is a symbolic link, and links inside a download directory are not followed; \
                 remove the link or choose another directory",
            ),
            Cause::NotA(expected) => write!(f, "it is not a {expected}; move it away or choose another path"),
            Cause::NoSpace { needed, free } => {
                let (needed, free) = (Amount(*needed), Amount(*free));
                write!(f, "{needed} are needed and {free} are free; make room or choose another disk")
            }
            Cause::TooShort => f.write_str("the file is shorter than it was; something else changed it"),
            Cause::DeviceInUse(by) => write!(f, "the device is in use ({by}); release it first"),
            Cause::DeviceTooSmall { needed, available } => {
                let (needed, available) = (Amount(*needed), Amount(*available));
                write!(f, "the torrent has {needed}, the device {available}; choose a larger one")
            }
            Cause::SeveralFiles => {
                f.write_str("only a torrent of one file fits a block device; name a directory instead")
            }
        }
    }
}

/// What a person can do about an errno.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::NOSPC | Errno::DQUOT => {
            "; the disk or quota is full: make room, then run the same command again"
        }
        Errno::ACCESS | Errno::PERM => "; check who owns it and who you are",
        Errno::ROFS => "; the filesystem is mounted read-only",
        Errno::NOENT => "; check the path",
        Errno::NOTDIR => "; a file is where a directory should be",
        Errno::IO => "; the disk is failing: see the kernel's log",
        Errno::MFILE | Errno::NFILE => "; raise the limit of open files (ulimit -n)",
        Errno::NAMETOOLONG => "; choose a directory with a shorter path",
        Errno::NOSYS => "; Linux 5.6 or later is needed (openat2)",
        _ => "",
    }
}

/// Bytes for a person, exactly and roughly.
struct Amount(u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, size)| self.0 >= *size) {
            Some((unit, size)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*size);
                write!(f, "{} bytes ({}.{} {unit})", self.0, tenths / 10, tenths % 10)
            }
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_where_and_what_to_do() {
        let full = Cause::NoSpace { needed: 3 << 30, free: 1536 };
        let error = StorageError::new("allocate", "/data/image", full);
        assert_eq!(
            error.to_string(),
            "cannot allocate \"/data/image\": 3221225472 bytes (3.0 GiB) are needed and 1536 bytes (1.5 KiB) \
             are free; make room or choose another disk"
        );
        let denied = StorageError::os("open", "/root/x", Errno::ACCESS);
        assert_eq!(
            denied.to_string(),
            "cannot open \"/root/x\": Permission denied (os error 13); check who owns it and who you are"
        );
    }

    #[test]
    fn names_cannot_reach_the_terminal_unescaped() {
        let error = StorageError::os("open", "a\u{1b}[2J\u{202e}b", Errno::NOENT);
        assert!(error.to_string().starts_with("cannot open \"a\\u{1b}[2J\\u{202e}b\": "), "{error}");
    }

    #[test]
    fn kinds_tell_disk_path_and_permission_apart() {
        let kind = |cause| StorageError::new("write", "x", cause).kind();
        assert_eq!(kind(Cause::Os(Errno::NOSPC)), ErrorKind::Disk);
        assert_eq!(kind(Cause::Os(Errno::IO)), ErrorKind::Disk);
        assert_eq!(kind(Cause::Symlink), ErrorKind::Path);
        assert_eq!(kind(Cause::Os(Errno::NOENT)), ErrorKind::Path);
        assert_eq!(kind(Cause::Os(Errno::ROFS)), ErrorKind::Permission);
    }
}
