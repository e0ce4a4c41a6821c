//! `ringtide create`: makes a torrent of a file or directory.
//!
//! Owns the order of things and the output file. Finding the files is `walk`, hashing them `hash`, the format
//! `ringtide_proto`'s.

mod hash;
mod walk;

use std::fs::{self, Permissions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ringtide_hasher::Sha1Digest;
use ringtide_proto::metainfo::{BuildError, Magnet, Metainfo, TorrentBuilder, auto_piece_length};

use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, note};
use crate::stop::Stop;
use crate::text::{escape, quoted};
use crate::units::{BinaryBytes, Bytes, count};
use walk::{Found, Shape};

/// What to make a torrent of, and what to write into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Create {
    pub(crate) path: PathBuf,
    pub(crate) output: Output,
    /// Each a tier of its own.
    pub(crate) trackers: Vec<String>,
    pub(crate) web_seeds: Vec<String>,
    /// `None`: by the size of the content.
    pub(crate) piece_length: Option<u32>,
    pub(crate) name: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) private: bool,
    /// Seconds since 1970 (SOURCE_DATE_EPOCH).
    pub(crate) creation_date: Option<i64>,
}

/// Where the torrent goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// `NAME.torrent` in the current directory.
    Default,
    /// This file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl Create {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        if self.output == Output::Stdout && io::stdout().is_terminal() {
            return Err(Failure::usage(
                "-o - writes bytes that are not for a terminal; redirect stdout to a file",
            ));
        }
        let name = self.name.clone().map_or_else(|| walk::name_of(&self.path), Ok)?;
        let output = self.output.path(&name);
        output.as_deref().map_or(Ok(()), refuse_other_files)?;
        let found = walk::walk(&self.path, output.as_deref())?;
        found.skipped.iter().for_each(|(path, why)| note(&format!("skipped {}: {why}", quoted(path))));

        let piece_length = self.piece_length.unwrap_or_else(|| auto_piece_length(found.total_len()));
        let builder = self.builder(name, &found, piece_length);
        // What the files are called is wrong or right before hours of hashing.
        match builder.build(&[]) {
            Err(BuildError::HashCount { .. }) | Ok(_) => {}
            Err(error) => return Err(self.cannot(&error)),
        }
        let hashes = hash::hash(&found, piece_length, stop)?;
        let bytes = builder.build(&hashes).map_err(|error| self.cannot(&error))?;
        // Also the proof that the torrent can be read.
        let torrent = Metainfo::parse(&bytes).map_err(|error| self.cannot(&error))?;
        match output {
            None => {
                note(&summary(&torrent));
                output::write_raw(&bytes)?;
            }
            Some(path) => {
                write_file(&path, &bytes)?;
                output::print(&format!("{}\n{}", quoted(&path), summary(&torrent)))?;
            }
        }
        Ok(Exit::Done)
    }

    fn builder(&self, name: String, found: &Found, piece_length: u32) -> TorrentBuilder {
        let mut builder = match found.shape {
            Shape::File => TorrentBuilder::single_file(name, found.total_len(), piece_length),
            Shape::Directory => {
                let files = found.files.iter().map(|file| (file.components.clone(), file.len()));
                TorrentBuilder::directory(name, files.collect(), piece_length)
            }
        };
        builder.trackers = self.trackers.iter().map(|url| vec![url.clone()]).collect();
        builder.web_seeds.clone_from(&self.web_seeds);
        builder.comment.clone_from(&self.comment);
        builder.private = self.private;
        builder.creation_date = self.creation_date;
        builder.created_by = Some(concat!("ringtide ", env!("CARGO_PKG_VERSION")).to_owned());
        builder
    }

    fn cannot(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::bad_input(format_args!("cannot make a torrent of {}: {error}", quoted(&self.path)))
    }
}

/// The SHA-1 of every piece of a file.
pub(crate) fn hash_file(path: &Path, piece_length: u32, stop: &Stop) -> Result<Vec<Sha1Digest>, Failure> {
    hash::hash(&walk::walk(path, None)?, piece_length, stop)
}

impl Output {
    fn path(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Default => Some(PathBuf::from(format!("{name}.torrent"))),
            Self::File(path) => Some(path.clone()),
            Self::Stdout => None,
        }
    }
}

fn summary(torrent: &Metainfo) -> String {
    let files = torrent.files().len() as u64;
    let mut lines = vec![format!(
        "{}: {} in {}, {} of {}",
        escape(torrent.name()),
        Bytes(torrent.total_length()),
        count(files, "file"),
        count(torrent.piece_count().into(), "piece"),
        BinaryBytes(torrent.piece_length().into()),
    )];
    lines.extend(torrent.info_hash_v1().map(|hash| format!("info hash {hash}")));
    lines.push(Magnet::from(torrent).to_string());
    lines.join("\n")
}

/// An old torrent is replaced; anything else that is in the way was hardly meant.
fn refuse_other_files(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(Failure::bad_input(format_args!(
            "cannot write {}: it is a directory; name a file",
            quoted(path)
        ))),
        Ok(meta) if meta.is_file() && meta.len() > 0 && !begins_like_a_torrent(path) => {
            Err(Failure::bad_input(format_args!(
                "{} exists and is not a torrent; remove it, or name another file with -o",
                quoted(path)
            )))
        }
        _ => Ok(()),
    }
}

fn begins_like_a_torrent(path: &Path) -> bool {
    let mut head = [0; 2];
    // A dictionary whose first key's length follows.
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[0] == b'd' && head[1].is_ascii_digit()
}

/// Writes the file so that it is either the old one or the new one, never half of it.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let cannot = |error: &io::Error| Failure::io(format_args!("cannot write {}", quoted(path)), error);
    let meta = fs::metadata(path);
    if meta.as_ref().is_ok_and(|meta| !meta.is_file()) {
        // A device or pipe is written into, not replaced.
        return fs::write(path, bytes).map_err(|error| cannot(&error));
    }
    if meta.is_ok() {
        note(&format!("replacing {}", quoted(path)));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        // As any program makes a file: the umask takes away what it should not allow.
        let permissions = Permissions::from_mode(0o666);
        let mut file =
            tempfile::Builder::new().prefix(".ringtide-").permissions(permissions).tempfile_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| cannot(&error))
}
