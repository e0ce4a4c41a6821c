//! Writing a new v1 torrent (BEP 3, 12, 19, 27). Knows sizes and hashes, not how they came about: reading files,
//! sorting them and hashing is the caller's.

use std::fmt;

use super::files::MAX_FILE_BYTES;
use super::info::MAX_PIECE_LENGTH;
use super::name::sanitize_component;
use crate::bencode::Bencode;
use crate::limits::MAX_PIECES;
use crate::text::printable;

/// Shortest piece that is chosen by itself, in bytes: shorter ones cost more to announce, hash and write than they help.
const MIN_AUTO_PIECE_LENGTH: u32 = 256 * 1024;
/// Longest piece that is chosen by itself, in bytes: what every client in use takes.
const MAX_AUTO_PIECE_LENGTH: u32 = 16 * 1024 * 1024;
/// About how many pieces a torrent should have at most: 40 KB of hashes.
const AUTO_PIECES: u64 = 2_000;
/// Characters of a name that an error shows.
const MAX_SHOWN: usize = 200;

/// The piece length for so many bytes: the smallest power of two from 256 KiB that makes at most about 2,000 pieces,
/// and no more than 16 MiB.
pub fn auto_piece_length(total_length: u64) -> u32 {
    let mut length = MIN_AUTO_PIECE_LENGTH;
    while length < MAX_AUTO_PIECE_LENGTH && total_length.div_ceil(u64::from(length)) > AUTO_PIECES {
        length *= 2;
    }
    length
}

/// What goes into a torrent that is being made. The fields that are optional may be set at will; [`build`](Self::build)
/// checks the rest.
#[derive(Debug, Clone)]
pub struct TorrentBuilder {
    name: String,
    piece_length: u32,
    content: Content,
    /// Tracker URLs in tiers (BEP 12); the first is also the one of BEP 3.
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Free text.
    pub comment: Option<String>,
    /// Peers come from the trackers only (BEP 27).
    pub private: bool,
    /// Seconds since 1970; without one the torrent is the same whenever it is made.
    pub creation_date: Option<i64>,
    /// The program that makes the torrent.
    pub created_by: Option<String>,
}

#[derive(Debug, Clone)]
enum Content {
    /// One file of this many bytes, called like the torrent.
    File(u64),
    /// Files in a directory called like the torrent: components below it and bytes.
    Directory(Vec<(Vec<String>, u64)>),
}

/// Why a torrent cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// All files are empty, or there are none.
    NoContent,
    /// Clients would save a file under another name than this one.
    UnsafeName(String),
    /// Two files have this path.
    DuplicatePath(String),
    /// A file is as long as this or longer, in bytes.
    FileTooLong(String),
    /// A piece length outside what clients accept.
    PieceLength(u32),
    /// More pieces than are supported.
    TooManyPieces(u64),
    /// Not one hash for each piece.
    HashCount {
        /// Pieces that the content has.
        pieces: u64,
        /// Hashes that were given.
        hashes: usize,
    },
}

impl TorrentBuilder {
    /// A torrent of one file.
    pub fn single_file(name: impl Into<String>, length: u64, piece_length: u32) -> Self {
        Self::new(name.into(), Content::File(length), piece_length)
    }

    /// A torrent of a directory: for each file its path below the directory, component by component, and its length.
    /// Pieces run through the files in this order; sort them to make torrents reproducible.
    pub fn directory(name: impl Into<String>, files: Vec<(Vec<String>, u64)>, piece_length: u32) -> Self {
        Self::new(name.into(), Content::Directory(files), piece_length)
    }

    fn new(name: String, content: Content, piece_length: u32) -> Self {
        Self {
            name,
            piece_length,
            content,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            comment: None,
            private: false,
            creation_date: None,
            created_by: None,
        }
    }

    /// Bytes of all files.
    pub fn total_length(&self) -> u64 {
        match &self.content {
            Content::File(length) => *length,
            Content::Directory(files) => files.iter().fold(0, |sum, (_, length)| sum.saturating_add(*length)),
        }
    }

    /// Pieces that the content has, and so hashes that [`build`](Self::build) wants.
    pub fn piece_count(&self) -> u64 {
        self.total_length().div_ceil(u64::from(self.piece_length.max(1)))
    }

    /// The torrent file: canonical bencode, the same bytes for the same input.
    ///
    /// # Errors
    /// What keeps other clients, and ours, from reading it back as it was meant.
    pub fn build(&self, piece_hashes: &[[u8; 20]]) -> Result<Vec<u8>, BuildError> {
        self.check(piece_hashes.len())?;
        let mut torrent = vec![("info", self.info(piece_hashes))];
        let urls: usize = self.trackers.iter().map(Vec::len).sum();
        if let Some(first) = self.trackers.iter().flatten().next() {
            torrent.push(("announce", first.as_str().into()));
        }
        if urls > 1 {
            let tiers = self.trackers.iter().filter(|tier| !tier.is_empty());
            let tiers = tiers.map(|tier| Bencode::list(tier.iter().map(String::as_str)));
            torrent.push(("announce-list", Bencode::list(tiers)));
        }
        if !self.web_seeds.is_empty() {
            torrent.push(("url-list", Bencode::list(self.web_seeds.iter().map(String::as_str))));
        }
        torrent.extend(self.comment.as_deref().map(|text| ("comment", text.into())));
        torrent.extend(self.created_by.as_deref().map(|text| ("created by", text.into())));
        torrent.extend(self.creation_date.map(|date| ("creation date", date.into())));
        Ok(Bencode::dict(torrent).encode())
    }

    fn info<'a>(&'a self, piece_hashes: &'a [[u8; 20]]) -> Bencode<'a> {
        let mut info = vec![
            ("name", self.name.as_str().into()),
            ("piece length", self.piece_length.into()),
            ("pieces", piece_hashes.as_flattened().into()),
        ];
        match &self.content {
            Content::File(length) => info.push(("length", bencode_length(*length))),
            Content::Directory(files) => info.push(("files", Bencode::list(files.iter().map(file_entry)))),
        }
        if self.private {
            info.push(("private", 1i64.into()));
        }
        Bencode::dict(info)
    }

    fn check(&self, hashes: usize) -> Result<(), BuildError> {
        check_name(&self.name)?;
        match &self.content {
            Content::File(length) => check_length(&self.name, *length)?,
            Content::Directory(files) => check_files(files)?,
        }
        if self.total_length() == 0 {
            return Err(BuildError::NoContent);
        }
        if self.piece_length == 0 || self.piece_length > MAX_PIECE_LENGTH {
            return Err(BuildError::PieceLength(self.piece_length));
        }
        let pieces = self.piece_count();
        if pieces > u64::from(MAX_PIECES) {
            return Err(BuildError::TooManyPieces(pieces));
        }
        if pieces != hashes as u64 {
            return Err(BuildError::HashCount { pieces, hashes });
        }
        Ok(())
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str| printable(name.as_bytes(), MAX_SHOWN);
        match self {
            Self::NoContent => f.write_str("there is nothing to share: no file has any content"),
            Self::UnsafeName(name) => {
                write!(
                    f,
                    "{:?} cannot be shared under its name: other clients would change it; rename it",
                    shown(name)
                )
            }
            Self::DuplicatePath(path) => write!(f, "two files have the path {:?}", shown(path)),
            Self::FileTooLong(path) => {
                write!(f, "{:?} is too long: a file of a torrent ends at {MAX_FILE_BYTES} bytes", shown(path))
            }
            Self::PieceLength(length) => {
                write!(f, "a piece length of {length} bytes is not from 1 to {MAX_PIECE_LENGTH}")
            }
            Self::TooManyPieces(count) => {
                write!(
                    f,
                    "{count} pieces are more than the {MAX_PIECES} supported: choose a larger piece length"
                )
            }
            Self::HashCount { pieces, hashes } => {
                write!(f, "{pieces} pieces but {hashes} hashes: the content changed while it was read")
            }
        }
    }
}

impl std::error::Error for BuildError {}

fn check_files(files: &[(Vec<String>, u64)]) -> Result<(), BuildError> {
    let mut paths: Vec<&[String]> = Vec::with_capacity(files.len());
    for (path, length) in files {
        if path.is_empty() {
            return Err(BuildError::UnsafeName(String::new()));
        }
        path.iter().try_for_each(|component| check_name(component))?;
        check_length(&path.join("/"), *length)?;
        paths.push(path);
    }
    paths.sort_unstable();
    for pair in paths.windows(2) {
        // In sorted order a path stands before those that it is a directory of.
        if pair[1].starts_with(pair[0]) {
            return Err(BuildError::DuplicatePath(pair[0].join("/")));
        }
    }
    Ok(())
}

/// A name is kept only if every client makes of it what it is.
fn check_name(name: &str) -> Result<(), BuildError> {
    match sanitize_component(name.as_bytes()) {
        Some(safe) if safe == name => Ok(()),
        _ => Err(BuildError::UnsafeName(name.to_owned())),
    }
}

fn check_length(path: &str, length: u64) -> Result<(), BuildError> {
    if length < MAX_FILE_BYTES { Ok(()) } else { Err(BuildError::FileTooLong(path.to_owned())) }
}

/// Lengths are below [`MAX_FILE_BYTES`], which fits.
fn bencode_length(length: u64) -> Bencode<'static> {
    Bencode::Int(length as i64)
}

fn file_entry((path, length): &(Vec<String>, u64)) -> Bencode<'_> {
    let path = Bencode::list(path.iter().map(String::as_str));
    Bencode::dict([("length", bencode_length(*length)), ("path", path)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Metainfo;

    #[test]
    fn piece_lengths_by_size() {
        const MIB: u64 = 1 << 20;
        assert_eq!(auto_piece_length(0), 256 * 1024);
        assert_eq!(auto_piece_length(500 * MIB), 256 * 1024);
        assert_eq!(auto_piece_length(500 * MIB + 1), 512 * 1024);
        assert_eq!(auto_piece_length(2048 * MIB), 2 << 20);
        assert_eq!(auto_piece_length(1 << 40), 16 << 20);
        assert_eq!(auto_piece_length(u64::MAX), 16 << 20);
    }

    #[test]
    fn a_file_with_everything() {
        let mut builder = TorrentBuilder::single_file("disk.img", 40_000, 16_384);
        builder.trackers = vec![vec!["http://a/".into(), "http://b/".into()], vec!["http://c/".into()]];
        builder.web_seeds = vec!["http://w/disk.img".into()];
        builder.comment = Some("grün".into());
        builder.private = true;
        builder.creation_date = Some(1_700_000_000);
        builder.created_by = Some("ringtide".into());
        let bytes = builder.build(&[[1; 20], [2; 20], [3; 20]]).unwrap();
        assert!(
            bytes.starts_with(
                b"d8:announce9:http://a/13:announce-listll9:http://a/9:http://b/el9:http://c/ee"
            )
        );
        let torrent = Metainfo::parse(&bytes).unwrap();
        assert_eq!(torrent.name(), "disk.img");
        assert!(!torrent.is_multi_file());
        assert_eq!(torrent.trackers(), builder.trackers);
        assert_eq!(torrent.web_seeds(), builder.web_seeds);
        assert_eq!(torrent.comment(), Some("grün"));
        assert!(torrent.is_private());
        assert_eq!(torrent.creation_date(), Some(1_700_000_000));
        assert_eq!(torrent.created_by(), Some("ringtide"));
        assert_eq!(torrent.piece_hashes(), [[1; 20], [2; 20], [3; 20]]);
    }

    #[test]
    fn what_is_not_set_is_not_written() {
        let bytes = TorrentBuilder::single_file("a", 5, 16_384).build(&[*b"01234567890123456789"]).unwrap();
        let expected: &[u8] =
            b"d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:01234567890123456789ee";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn one_tracker_needs_no_list() {
        let mut builder = TorrentBuilder::single_file("a", 5, 16_384);
        builder.trackers = vec![vec!["http://a/".into()]];
        assert!(builder.build(&[[0; 20]]).unwrap().starts_with(b"d8:announce9:http://a/4:info"));
    }

    fn directory(paths: &[&str]) -> TorrentBuilder {
        let path = |path: &&str| (path.split('/').map(String::from).collect(), 1);
        TorrentBuilder::directory("dir", paths.iter().map(path).collect(), 16_384)
    }

    #[test]
    fn refuses_what_would_not_come_back() {
        let refused = |builder: &TorrentBuilder| builder.build(&[[0; 20]]).expect_err("must be refused");
        assert_eq!(refused(&TorrentBuilder::single_file("..", 1, 1)), BuildError::UnsafeName("..".into()));
        assert_eq!(refused(&TorrentBuilder::single_file("a", 0, 1)), BuildError::NoContent);
        assert_eq!(refused(&TorrentBuilder::single_file("a", 1, 0)), BuildError::PieceLength(0));
        let counts = BuildError::HashCount { pieces: 2, hashes: 1 };
        assert_eq!(refused(&TorrentBuilder::single_file("a", 2, 1)), counts);
        assert_eq!(
            refused(&TorrentBuilder::single_file("a", 1 << 43, 1)),
            BuildError::TooManyPieces(1 << 43)
        );
        assert_eq!(
            refused(&TorrentBuilder::single_file("a", 1 << 44, 1)),
            BuildError::FileTooLong("a".into())
        );
        assert_eq!(refused(&directory(&[])), BuildError::NoContent);
        let nameless = TorrentBuilder::directory("dir", vec![(Vec::new(), 1)], 16_384);
        assert_eq!(refused(&nameless), BuildError::UnsafeName(String::new()));
        assert_eq!(refused(&directory(&["a\\b"])), BuildError::UnsafeName("a\\b".into()));
        assert_eq!(refused(&directory(&["a\nb"])), BuildError::UnsafeName("a\nb".into()));
        assert_eq!(refused(&directory(&["x", "a", "x"])), BuildError::DuplicatePath("x".into()));
        assert_eq!(refused(&directory(&["x/y", "x"])), BuildError::DuplicatePath("x".into()));
        assert!(directory(&["x/y", "x.y", "x/z"]).build(&[[0; 20]]).is_ok());
    }

    #[test]
    fn errors_show_names_without_control_characters() {
        let message = BuildError::UnsafeName("a\x1b[2J".into()).to_string();
        assert!(!message.contains('\x1b') && message.contains("[2J"));
    }
}
