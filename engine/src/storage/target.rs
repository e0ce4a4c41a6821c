//! `Target`: where a torrent's files are: beneath a directory, on a block device, or nowhere, as they are made up.
//!
//! Owns the way from a file of the content to a descriptor, and finding content that is there already.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use super::content::{Content, FileId};
use super::device::Device;
use super::error::{Cause, StorageError};
use super::fd_cache::Access;
use super::positioned::reopen;
use super::split::Alignment;
use super::synthetic::Synthetic;
use super::tree::Tree;

pub(super) enum Target {
    Directory(Place),
    Device(Device),
    Synthetic(Synthetic),
}

/// A directory and where in it the content lies.
pub(super) struct Place {
    pub(super) tree: Tree,
    /// Leads from the tree to the content's files: the torrent's name, or nothing.
    prefix: PathBuf,
    /// What the one file is called, when it was given by a path of its own.
    renamed: Option<PathBuf>,
}

impl Target {
    /// Where a download goes: into the directory `path`, which is made, or onto the device `path`.
    pub(super) fn to_download(path: &Path, content: &Content) -> Result<Target, StorageError> {
        if Device::is_at(path) {
            refuse_several_files(path, content)?;
            return Device::open_to_write(path, content.layout().total_len()).map(Target::Device);
        }
        std::fs::create_dir_all(path).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            // "File exists" would be the answer for a file in the place of the directory.
            let errno = if errno == Errno::EXIST { Errno::NOTDIR } else { errno };
            StorageError::os("create the directory", path, errno)
        })?;
        Target::holder(path, content)
    }

    /// Where content is: `path` is the directory that holds it, or the content itself.
    pub(super) fn to_read(path: &Path, content: &Content) -> Result<Target, StorageError> {
        let meta = std::fs::metadata(path).map_err(|error| {
            StorageError::os("open", path, Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        if Device::is_at(path) {
            refuse_several_files(path, content)?;
            return Device::open_to_read(path, content.layout().total_len()).map(Target::Device);
        }
        if meta.is_file() {
            return Target::the_file(path, content);
        }
        if content.is_directory() && !path.join(content.name()).is_dir() && is_itself(path, content) {
            let (prefix, renamed) = (PathBuf::new(), None);
            return Ok(Target::Directory(Place { tree: Tree::open(path)?, prefix, renamed }));
        }
        Target::holder(path, content)
    }

    /// Opens a file that exists.
    pub(super) fn open(
        &self,
        content: &Content,
        file: FileId,
        access: Access,
    ) -> Result<Arc<OwnedFd>, StorageError> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            Access::Direct => OFlags::WRONLY | OFlags::DIRECT,
        };
        match self {
            Target::Directory(place) => place.tree.open_file(&place.path(content, file), flags).map(Arc::new),
            Target::Device(device) => match (access, device.direct()) {
                (Access::Direct, Some((fd, _))) => Ok(Arc::clone(fd)),
                _ => Ok(Arc::clone(device.fd())),
            },
            Target::Synthetic(_) => Err(self.no_file(content, file)),
        }
    }

    /// A descriptor nobody else has, and the file's length now; for a check.
    pub(super) fn open_apart(&self, content: &Content, file: FileId) -> Result<(OwnedFd, u64), StorageError> {
        match self {
            Target::Directory(place) => {
                let path = place.path(content, file);
                let fd = place.tree.open_file(&path, OFlags::RDONLY)?;
                let stat =
                    fstat(&fd).map_err(|errno| StorageError::os("examine", place.tree.full(&path), errno))?;
                Ok((fd, u64::try_from(stat.st_size).unwrap_or(0)))
            }
            Target::Device(device) => {
                let fd = reopen(device.fd(), OFlags::RDONLY);
                let fd = fd.map_err(|errno| StorageError::os("open", device.path(), errno))?;
                Ok((fd, device.len()))
            }
            Target::Synthetic(_) => Err(self.no_file(content, file)),
        }
    }

    /// How direct writes to that file, which is open, must be aligned; `None` when they do not pay.
    pub(super) fn alignment(&self, fd: &OwnedFd) -> Option<Alignment> {
        match self {
            Target::Directory(_) => Alignment::of_file(fd),
            Target::Device(device) => device.direct().map(|(_, alignment)| *alignment),
            Target::Synthetic(_) => None,
        }
    }

    /// The path of a file as a person knows it.
    pub(super) fn path(&self, content: &Content, file: FileId) -> PathBuf {
        match self {
            Target::Directory(place) => place.tree.full(&place.path(content, file)),
            Target::Device(device) => device.path().to_owned(),
            Target::Synthetic(_) => content.name().to_owned(),
        }
    }

    fn no_file(&self, content: &Content, file: FileId) -> StorageError {
        StorageError::new("open", self.path(content, file), Cause::NotA("file, but made up"))
    }

    fn holder(path: &Path, content: &Content) -> Result<Target, StorageError> {
        let prefix = if content.is_directory() { content.name().to_owned() } else { PathBuf::new() };
        Ok(Target::Directory(Place { tree: Tree::open(path)?, prefix, renamed: None }))
    }

    fn the_file(path: &Path, content: &Content) -> Result<Target, StorageError> {
        if content.is_directory() {
            return Err(StorageError::new("read the torrent's files from", path, Cause::NotA("directory")));
        }
        let holder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let renamed = path.file_name().map(PathBuf::from);
        Ok(Target::Directory(Place { tree: Tree::open(holder)?, prefix: PathBuf::new(), renamed }))
    }
}

impl Place {
    /// Where the file lies beneath the tree.
    pub(super) fn path(&self, content: &Content, file: FileId) -> PathBuf {
        self.below(self.renamed.as_ref().unwrap_or(&content.file(file).path))
    }

    /// Where a path of the content lies beneath the tree.
    pub(super) fn below(&self, path: &Path) -> PathBuf {
        self.prefix.join(path)
    }
}

fn refuse_several_files(path: &Path, content: &Content) -> Result<(), StorageError> {
    match content.is_directory() {
        true => Err(StorageError::new("use", path, Cause::SeveralFiles)),
        false => Ok(()),
    }
}

/// Whether a directory is the content itself rather than what holds it: it has its name, or one of its first
/// files.
fn is_itself(path: &Path, content: &Content) -> bool {
    const FILES_LOOKED_FOR: usize = 100;
    path.file_name() == Some(content.name().as_os_str())
        || content.real_files().take(FILES_LOOKED_FOR).any(|(_, file)| path.join(&file.path).is_file())
}
