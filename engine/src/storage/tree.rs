//! `Tree`: opens files beneath one directory, and nowhere else.
//!
//! Owns the rule that a torrent cannot reach outside its download directory: every open goes through openat2
//! with RESOLVE_BENEATH, no symbolic link inside the directory is followed, and only regular files are
//! opened. The directory itself is the user's choice and may be reached over links.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fcntl_getfl, fcntl_setfl, fstat, fsync, mkdirat,
    openat2, statat, symlinkat,
};
use rustix::io::Errno;

use super::error::{Cause, StorageError};

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

pub(super) struct Tree {
    root: OwnedFd,
    root_path: PathBuf,
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Tree, StorageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| StorageError::os("open the directory", path, errno))?;
        Ok(Tree { root, root_path: path.to_owned() })
    }

    /// Opens a regular file that exists.
    pub(super) fn open_file(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, StorageError> {
        self.open_regular(path, flags, Mode::empty())
    }

    /// Opens a regular file to read and write; makes it, and the directories that lead to it, where they are
    /// not there. `new_directory` is told of each directory that got a new entry.
    pub(super) fn create_file(
        &self,
        path: &Path,
        executable: bool,
        mut new_directory: impl FnMut(&Path),
    ) -> Result<OwnedFd, StorageError> {
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let flags = OFlags::RDWR | OFlags::CREATE;
        let fd = match self.open_regular(path, flags, mode) {
            Err(error) if error.is_missing() => {
                self.make_parents(path, &mut new_directory)?;
                self.open_regular(path, flags, mode)
            }
            result => result,
        }?;
        new_directory(path.parent().unwrap_or(Path::new("")));
        Ok(fd)
    }

    /// Makes a symbolic link that leads to `target`, beneath this directory too. What is there already stays.
    pub(super) fn create_link(
        &self,
        path: &Path,
        target: &Path,
        mut new_directory: impl FnMut(&Path),
    ) -> Result<(), StorageError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let directory = self.make_parents(path, &mut new_directory)?;
        let up: PathBuf = parent.iter().map(|_| "..").collect();
        let name = path.file_name().unwrap_or_default();
        match symlinkat(up.join(target), directory.as_ref().unwrap_or(&self.root), name) {
            Err(Errno::EXIST) => {}
            result => result.map_err(|errno| self.error("create the link", path, errno))?,
        }
        new_directory(parent);
        Ok(())
    }

    /// What is at `path`, or `None` where nothing is. A symbolic link is an error.
    pub(super) fn stat(&self, path: &Path) -> Result<Option<Stat>, StorageError> {
        let found = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        let fd = match found {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            result => result.map_err(|errno| self.explain("open", path, errno))?,
        };
        let stat = fstat(&fd).map_err(|errno| self.error("examine", path, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Err(StorageError::new("open", self.full(path), Cause::Symlink)),
            _ => Ok(Some(stat)),
        }
    }

    /// Makes a directory's entries durable.
    pub(super) fn sync_directory(&self, path: &Path) -> Result<(), StorageError> {
        if path.as_os_str().is_empty() {
            return fsync(&self.root).map_err(|errno| self.error("flush", path, errno));
        }
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let fd = fd.map_err(|errno| self.explain("open", path, errno))?;
        fsync(&fd).map_err(|errno| self.error("flush", path, errno))
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The path as a person knows it.
    pub(super) fn full(&self, path: &Path) -> PathBuf {
        self.root_path.join(path)
    }

    fn open_regular(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, StorageError> {
        // Without NONBLOCK, a FIFO that lies in the way would block the thread until someone opens its other end.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = self.resolve(path, flags, mode).map_err(|errno| self.explain("open", path, errno))?;
        let stat = fstat(&fd).map_err(|errno| self.error("examine", path, errno))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(StorageError::new("open", self.full(path), Cause::NotA("regular file")));
        }
        // Kept, it would make io_uring fail with EAGAIN instead of waiting for the disk.
        fcntl_getfl(&fd)
            .and_then(|flags| fcntl_setfl(&fd, flags - OFlags::NONBLOCK))
            .map_err(|errno| self.error("open", path, errno))?;
        Ok(fd)
    }

    /// Makes the directories that lead to `path`; the last of them, or `None` when that is the root.
    fn make_parents(
        &self,
        path: &Path,
        new_directory: &mut dyn FnMut(&Path),
    ) -> Result<Option<OwnedFd>, StorageError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut at = PathBuf::new();
        let mut directory: Option<OwnedFd> = None;
        for name in parent {
            let above = directory.as_ref().unwrap_or(&self.root);
            match mkdirat(above, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => new_directory(&at),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("create the directory", &at.join(name), errno)),
            }
            at.push(name);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let below = openat2(above, name, flags, Mode::empty(), BENEATH);
            directory = Some(below.map_err(|errno| self.explain("open the directory", &at, errno))?);
        }
        Ok(directory)
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        openat2(&self.root, path, flags | OFlags::CLOEXEC, mode, BENEATH)
    }

    fn error(&self, operation: &'static str, path: &Path, errno: Errno) -> StorageError {
        StorageError::os(operation, self.full(path), errno)
    }

    /// As `error`, but a refusal because of a symbolic link names the link.
    fn explain(&self, operation: &'static str, path: &Path, errno: Errno) -> StorageError {
        if matches!(errno, Errno::LOOP | Errno::NOTDIR)
            && let Some(link) = self.first_link(path)
        {
            return StorageError::new(operation, self.full(&link), Cause::Symlink);
        }
        self.error(operation, path, errno)
    }

    fn first_link(&self, path: &Path) -> Option<PathBuf> {
        let mut at = PathBuf::new();
        path.iter().find_map(|name| {
            at.push(name);
            let stat = statat(&self.root, &at, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            FileType::from_raw_mode(stat.st_mode).is_symlink().then(|| at.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::error::ErrorKind;
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = Tree::open(directory.path()).expect("opens");
        (directory, tree)
    }

    #[test]
    fn files_and_directories_are_made_step_by_step() {
        let (directory, tree) = tree();
        let mut changed = Vec::new();
        let path = Path::new("a/b/c");
        tree.create_file(path, true, |at| changed.push(at.to_owned())).expect("is made");
        assert_eq!(changed, [Path::new(""), Path::new("a"), Path::new("a/b")]);
        assert!(directory.path().join(path).is_file());
        for at in &changed {
            tree.sync_directory(at).expect("is flushed");
        }
    }

    #[test]
    fn a_link_in_the_way_is_named_and_not_followed() {
        let (directory, tree) = tree();
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("file"), "kept").expect("is written");
        symlink(outside.path(), directory.path().join("link")).expect("is made");
        symlink(outside.path().join("file"), directory.path().join("leaf")).expect("is made");
        for path in ["link/file", "link/new", "link/sub/new", "leaf"] {
            let link = if path == "leaf" { "leaf" } else { "link" };
            let error = tree.create_file(Path::new(path), false, |_| {}).expect_err("is refused");
            assert_eq!(
                (error.cause(), error.path()),
                (&Cause::Symlink, &*directory.path().join(link)),
                "{path}"
            );
            assert_eq!(error.kind(), ErrorKind::Path);
            assert!(tree.open_file(Path::new(path), OFlags::RDONLY).is_err(), "{path}");
            assert!(tree.stat(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(outside.path()).expect("lists").count(), 1);
        assert_eq!(std::fs::read(outside.path().join("file")).expect("reads"), b"kept");
    }

    #[test]
    fn nothing_above_the_directory_can_be_opened() {
        let (_directory, tree) = tree();
        for path in ["../escaped", "/etc/passwd", "a/../../escaped"] {
            assert!(tree.create_file(Path::new(path), false, |_| {}).is_err(), "{path}");
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (directory, tree) = tree();
        std::fs::create_dir(directory.path().join("d")).expect("is made");
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("is made");
        for name in ["d", "fifo"] {
            let error = tree.open_file(Path::new(name), OFlags::RDONLY).expect_err("is refused");
            assert_eq!(error.cause(), &Cause::NotA("regular file"), "{name}");
        }
    }

    #[test]
    fn a_link_leads_to_its_target_from_where_it_lies() {
        let (directory, tree) = tree();
        std::fs::write(directory.path().join("file"), "x").expect("is written");
        for _ in 0..2 {
            tree.create_link(Path::new("a/b/link"), Path::new("file"), |_| {}).expect("is made");
        }
        assert_eq!(std::fs::read(directory.path().join("a/b/link")).expect("reads"), b"x");
    }

    #[test]
    fn descriptors_wait_for_the_disk() {
        let (_directory, tree) = tree();
        let fd = tree.create_file(Path::new("x"), false, |_| {}).expect("is made");
        assert!(!fcntl_getfl(&fd).expect("flags").contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_file_that_is_not_there_has_no_stat() {
        let (directory, tree) = tree();
        std::fs::write(directory.path().join("file"), "x").expect("is written");
        assert!(tree.stat(Path::new("none")).expect("is no error").is_none());
        assert!(tree.stat(Path::new("file/none")).expect("is no error").is_none());
        assert_eq!(tree.stat(Path::new("file")).expect("is no error").expect("is there").st_size, 1);
    }
}
