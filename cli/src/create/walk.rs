//! Finding the files of a new torrent, in an order that depends on nothing but their names.
//!
//! Owns what is taken and what is skipped. Reads no content.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::text::quoted;

/// The content of a new torrent.
pub(super) struct Found {
    pub(super) shape: Shape,
    /// Sorted by path, component by component, bytewise.
    pub(super) files: Vec<SourceFile>,
    /// What was left out, and why.
    pub(super) skipped: Vec<(PathBuf, &'static str)>,
}

/// Whether the torrent is of one file or of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    File,
    Directory,
}

/// A file to be hashed.
pub(super) struct SourceFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Where it lies below the torrent's directory; empty for a torrent of one file.
    pub(super) components: Vec<String>,
    pub(super) stamp: Stamp,
}

/// What a file looked like; it looks otherwise when something wrote to it or took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) len: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        Self {
            len: meta.len(),
            device: meta.dev(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

impl SourceFile {
    pub(super) fn len(&self) -> u64 {
        self.stamp.len
    }
}

impl Found {
    pub(super) fn total_len(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.len()))
    }
}

/// What the torrent is called: the last part of the path as it was typed, or of where it leads for `.` and `..`.
pub(super) fn name_of(path: &Path) -> Result<String, Failure> {
    let found = match path.file_name() {
        Some(name) => Some(name.to_owned()),
        None => cannot(path, path.canonicalize())?.file_name().map(OsStr::to_owned),
    };
    let unnamed = || Failure::bad_input(format_args!("{} has no name; give one with --name", quoted(path)));
    let name = found.ok_or_else(unnamed)?;
    let shown = quoted(&name);
    name.into_string().map_err(|_| {
        Failure::bad_input(format_args!(
            "{shown} is not UTF-8, as names in torrents are; give one with --name"
        ))
    })
}

/// Finds what `path` holds, `output` excepted, which may be a torrent from an earlier run.
pub(super) fn walk(path: &Path, output: Option<&Path>) -> Result<Found, Failure> {
    let meta = cannot(path, fs::metadata(path))?;
    if meta.is_file() {
        let file = SourceFile { path: path.to_owned(), components: Vec::new(), stamp: Stamp::from(&meta) };
        return Ok(Found { shape: Shape::File, files: vec![file], skipped: Vec::new() });
    }
    if !meta.is_dir() {
        return Err(Failure::bad_input(format_args!("{} is neither a file nor a directory", quoted(path))));
    }
    let output = output.and_then(|output| fs::metadata(output).ok()).map(|meta| (meta.dev(), meta.ino()));
    let mut walker = Walker {
        root: cannot(path, path.canonicalize())?,
        output,
        pending: vec![(path.to_owned(), Vec::new())],
        found: Found { shape: Shape::Directory, files: Vec::new(), skipped: Vec::new() },
    };
    while let Some((directory, components)) = walker.pending.pop() {
        walker.directory(&directory, &components)?;
    }
    let mut found = walker.found;
    found.files.sort_unstable_by(|a, b| a.components.cmp(&b.components));
    found.skipped.sort_unstable();
    Ok(found)
}

struct Walker {
    /// Where the content really is: links may lead within, not out of it.
    root: PathBuf,
    /// Device and inode of the file that will be written.
    output: Option<(u64, u64)>,
    pending: Vec<(PathBuf, Vec<String>)>,
    found: Found,
}

impl Walker {
    fn directory(&mut self, directory: &Path, components: &[String]) -> Result<(), Failure> {
        let mut is_empty = true;
        for entry in cannot(directory, fs::read_dir(directory))? {
            let entry = cannot(directory, entry)?;
            is_empty = false;
            let path = entry.path();
            let name = entry.file_name().into_string().map_err(|_| {
                let path = quoted(&path);
                Failure::bad_input(format_args!("{path} is not UTF-8, as names in torrents are; rename it"))
            })?;
            let components = components.iter().cloned().chain([name]).collect();
            self.entry(path, components)?;
        }
        if is_empty && !components.is_empty() {
            self.skip(directory.to_owned(), "an empty directory; torrents hold files only");
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, components: Vec<String>) -> Result<(), Failure> {
        let mut meta = cannot(&path, fs::symlink_metadata(&path))?;
        if meta.is_symlink() {
            match self.follow(&path) {
                Ok(target) => meta = target,
                Err(why) => {
                    self.skip(path, why);
                    return Ok(());
                }
            }
        }
        if meta.is_dir() {
            self.pending.push((path, components));
        } else if !meta.is_file() {
            self.skip(path, "neither a file nor a directory");
        } else if self.output == Some((meta.dev(), meta.ino())) {
            self.skip(path, "the torrent that is being made");
        } else {
            self.found.files.push(SourceFile { path, components, stamp: Stamp::from(&meta) });
        }
        Ok(())
    }

    /// A link to a file within the content stands for the file; others could share what nobody meant to share, or
    /// go in circles.
    fn follow(&self, path: &Path) -> Result<Metadata, &'static str> {
        let Ok(target) = path.canonicalize() else { return Err("a symbolic link that leads nowhere") };
        if !target.starts_with(&self.root) {
            return Err("a symbolic link that leads out of the content");
        }
        match fs::metadata(&target) {
            Ok(meta) if meta.is_file() => Ok(meta),
            _ => Err("a symbolic link to something that is not a file"),
        }
    }

    fn skip(&mut self, path: PathBuf, why: &'static str) {
        self.found.skipped.push((path, why));
    }
}

fn cannot<T>(path: &Path, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::io(format_args!("cannot read {}", quoted(path)), &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_sorted_and_links_stay_inside() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("content");
        for name in ["b/2", "b.txt", "a/1", "B", ".hidden", "empty"] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("has one")).expect("a directory");
            fs::write(path, name).expect("a file");
        }
        fs::write(dir.path().join("secret"), "x").expect("a file");
        fs::create_dir(root.join("nothing")).expect("a directory");
        symlink("b/2", root.join("inside")).expect("a link");
        symlink("../secret", root.join("outside")).expect("a link");
        symlink("..", root.join("a/loop")).expect("a link");
        symlink("gone", root.join("dangling")).expect("a link");
        fs::write(root.join("out.torrent"), "old").expect("a file");

        let found = walk(&root, Some(&root.join("out.torrent"))).expect("can be walked");
        let files: Vec<_> = found.files.iter().map(|file| file.components.join("/")).collect();
        assert_eq!(files, [".hidden", "B", "a/1", "b/2", "b.txt", "empty", "inside"]);
        let skipped: Vec<_> = found
            .skipped
            .iter()
            .map(|(path, _)| path.strip_prefix(&root).expect("is below").to_owned())
            .collect();
        let expected = ["a/loop", "dangling", "nothing", "out.torrent", "outside"].map(PathBuf::from);
        assert_eq!(skipped, expected);
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        let name = |path: &str| name_of(Path::new(path)).expect("has a name");
        assert_eq!(name("a/b/"), "b");
        assert_eq!(name("disk.img"), "disk.img");
        let here = std::env::current_dir().expect("is there");
        assert_eq!(Some(OsStr::new(&name("."))), here.file_name());
        assert!(name_of(Path::new("/")).is_err());
    }
}
