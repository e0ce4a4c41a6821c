//! `Ground`: the directory that `bench disk` writes to, with room in it, and what filesystem that is.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};
use tempfile::TempDir;

use crate::exit::{Exit, Failure};
use crate::text::quoted;
use crate::units::{BinaryBytes, Bytes};

/// What the content's file is called.
pub(super) const NAME: &str = "content";

/// Left free for what is small: the torrent, the log, what the filesystem needs of its own.
const MARGIN: u64 = 16 << 20;

/// Of tmpfs, from linux/magic.h.
const TMPFS: i128 = 0x0102_1994;

/// Filesystems by the number of their kind, from linux/magic.h.
const KINDS: [(i128, &str); 9] = [
    (TMPFS, "tmpfs"),
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x794c_7630, "overlayfs"),
    (0x6969, "nfs"),
    (0x6573_5546, "fuse"),
];

/// A directory below the one that was asked for, which is removed with everything in it when dropped.
pub(super) struct Ground {
    dir: TempDir,
    kind: i128,
}

impl Ground {
    /// Makes the directory, if there is room for so many bytes.
    pub(super) fn take(parent: &Path, bytes: u64) -> Result<Self, Failure> {
        let free = free_bytes(parent)?;
        if let Some(free) = free.filter(|free| free.saturating_sub(MARGIN) < bytes) {
            let message = format!(
                "{} do not fit in {}, where {} are free; choose a smaller --size, or make room",
                BinaryBytes(bytes),
                quoted(parent),
                Bytes(free)
            );
            return Err(Failure::new(Exit::Disk, message));
        }
        let dir = tempfile::Builder::new().prefix("ringtide-bench-").tempdir_in(parent).map_err(|error| {
            Failure::io(format_args!("cannot make a directory in {}", quoted(parent)), &error)
        })?;
        let kind = statfs(dir.path()).map_or(0, |found| i128::from(found.f_type));
        Ok(Self { dir, kind })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The torrent of the content.
    pub(super) fn torrent(&self) -> PathBuf {
        self.path().join("content.torrent")
    }

    /// The directory that the content is downloaded to.
    pub(super) fn content(&self) -> PathBuf {
        self.path().join("download")
    }

    /// The content's file.
    pub(super) fn file(&self) -> PathBuf {
        self.content().join(NAME)
    }

    /// Removes the content, so that it can be written again.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        let content = self.content();
        fs::remove_dir_all(&content)
            .map_err(|error| Failure::io(format_args!("cannot remove {}", quoted(&content)), &error))
    }

    pub(super) fn filesystem(&self) -> &'static str {
        let known = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        known.map_or("a filesystem without a name here", |(_, name)| name)
    }

    /// Whether there is no disk beneath it.
    pub(super) fn is_memory(&self) -> bool {
        self.kind == TMPFS
    }
}

/// Bytes that can be written below a directory, as far as that is known.
fn free_bytes(dir: &Path) -> Result<Option<u64>, Failure> {
    let cannot = |error: &std::io::Error| Failure::io(format_args!("cannot use {}", quoted(dir)), error);
    let meta = fs::metadata(dir).map_err(|error| cannot(&error))?;
    if !meta.is_dir() {
        return Err(Failure::bad_input(format_args!("{} is no directory", quoted(dir))));
    }
    let found = statvfs(dir).map_err(|errno| cannot(&errno.into()))?;
    // No blocks at all: a filesystem that does not count them.
    Ok(if found.f_blocks == 0 { None } else { found.f_bavail.checked_mul(found.f_frsize) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_where_there_is_no_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = Ground::take(dir.path(), 1 << 60).err().expect("nobody has an exabyte");
        assert_eq!(refused.exit, Exit::Disk);
        assert!(refused.message.contains("1073741824 GiB do not fit"), "{}", refused.message);
        assert_eq!(fs::read_dir(dir.path()).expect("is there").count(), 0);
        let ground = Ground::take(dir.path(), 1).expect("there is a byte");
        assert!(ground.path().starts_with(dir.path()));
        drop(ground);
        assert_eq!(fs::read_dir(dir.path()).expect("is there").count(), 0);
    }

    #[test]
    fn only_a_directory_will_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let exit = |path: &Path| free_bytes(path).err().map(|failure| failure.exit);
        let file = dir.path().join("file");
        fs::write(&file, "x").expect("is written");
        assert_eq!((exit(dir.path()), exit(&file)), (None, Some(Exit::BadInput)));
        assert_eq!(exit(&dir.path().join("gone")), Some(Exit::BadInput));
    }
}
