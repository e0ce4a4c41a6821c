//! Torrent files of the tests: written here, so that they are nobody's opinion but BEP 3's, or taken from a fixture and
//! given another tracker. Version 1 only.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use crate::content;

/// A torrent file and what a peer must know of it.
#[derive(Debug, Clone)]
pub struct Torrent {
    /// Where the torrent file lies.
    pub path: PathBuf,
    /// SHA-1 of the info dictionary.
    pub info_hash: [u8; 20],
    /// Name of the content below a download directory.
    pub name: String,
    /// Bytes per piece, except the last.
    pub piece_length: u64,
    /// Bytes of all files.
    pub total: u64,
}

impl Torrent {
    /// Hashes `root` (a file or a directory) and writes `NAME.torrent` into `dir`.
    ///
    /// # Panics
    /// When the content cannot be read or the torrent not written.
    pub fn create(root: &Path, piece_length: u64, announce: &str, dir: &Path) -> Self {
        let name = root.file_name().and_then(|name| name.to_str()).expect("content with a name").to_owned();
        let files: Vec<(PathBuf, PathBuf)> = content::files_below(root).into_iter().collect();
        let (pieces, total) = hash_pieces(&files, piece_length);
        let files = root.is_dir().then_some(files.as_slice());
        Self::write(&name, files, piece_length, &pieces, total, announce, dir)
    }

    /// Makes `file` a hole of `pieces` pieces, without writing any of it, and the torrent of a file that is `byte`
    /// throughout: what is there is all right if that is 0, and else all wrong.
    ///
    /// # Panics
    /// When the filesystem has no holes of that length.
    pub fn create_sparse(file: &Path, byte: u8, pieces: u64, piece_length: u64, dir: &Path) -> Self {
        let name = file.file_name().and_then(|name| name.to_str()).expect("content with a name").to_owned();
        let total = pieces * piece_length;
        File::create(file).and_then(|file| file.set_len(total)).expect("a sparse file");
        let piece = vec![byte; usize::try_from(piece_length).expect("a piece fits memory")];
        let hash: [u8; 20] = Sha1::digest(&piece).into();
        let hashes = hash.repeat(usize::try_from(pieces).expect("hashes fit memory"));
        Self::write(&name, None, piece_length, &hashes, total, "", dir)
    }

    /// Writes the torrent; of a plain file `files` is `None`.
    fn write(
        name: &str,
        files: Option<&[(PathBuf, PathBuf)]>,
        piece_length: u64,
        pieces: &[u8],
        total: u64,
        announce: &str,
        dir: &Path,
    ) -> Self {
        let mut info = Vec::from(*b"d");
        if let Some(files) = files {
            info.extend_from_slice(b"5:filesl");
            files.iter().for_each(|(path, real)| push_file(&mut info, path, len_of(real)));
            info.push(b'e');
        } else {
            push_str(&mut info, "length");
            push_int(&mut info, total);
        }
        push_str(&mut info, "name");
        push_str(&mut info, name);
        push_str(&mut info, "piece length");
        push_int(&mut info, piece_length);
        push_str(&mut info, "pieces");
        push_bytes(&mut info, pieces);
        info.push(b'e');
        let path = dir.join(format!("{name}.torrent"));
        write_torrent(&path, &info, announce);
        Self { path, info_hash: Sha1::digest(&info).into(), name: name.to_owned(), piece_length, total }
    }

    /// Copies a torrent file into `dir`, its info dictionary verbatim and `announce` as its only tracker.
    ///
    /// # Panics
    /// When the fixture is not a version 1 torrent.
    pub fn from_fixture(fixture: &Path, announce: &str, dir: &Path) -> Self {
        let bytes = fs::read(fixture).expect("the fixture (tests/run fetches it)");
        let info = field(&bytes, "info").expect("an info dictionary");
        let path = dir.join(fixture.file_name().expect("a file"));
        write_torrent(&path, info, announce);
        let name = text(field(info, "name").expect("a name"));
        let piece_length = integer(field(info, "piece length").expect("a piece length"));
        let total = field(info, "length").map_or_else(|| files_total(info), integer);
        Self { path, info_hash: Sha1::digest(info).into(), name, piece_length, total }
    }

    /// How many pieces it has.
    pub fn pieces(&self) -> u64 {
        self.total.div_ceil(self.piece_length)
    }

    /// The info hash in hexadecimal.
    pub fn info_hash_hex(&self) -> String {
        self.info_hash.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string");
            text
        })
    }
}

fn write_torrent(path: &Path, info: &[u8], announce: &str) {
    let mut bytes = Vec::from(*b"d");
    if !announce.is_empty() {
        push_str(&mut bytes, "announce");
        push_str(&mut bytes, announce);
    }
    push_str(&mut bytes, "info");
    bytes.extend_from_slice(info);
    bytes.push(b'e');
    fs::write(path, bytes).expect("room for a torrent file");
}

/// SHA-1 of each piece of the files in order, and their total length.
fn hash_pieces(files: &[(PathBuf, PathBuf)], piece_length: u64) -> (Vec<u8>, u64) {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut total = 0;
    for (_, real) in files {
        let mut file = File::open(real).expect("content");
        loop {
            let missing = piece_length - piece.len() as u64;
            let read = file.by_ref().take(missing).read_to_end(&mut piece).expect("content");
            total += read as u64;
            if piece.len() as u64 == piece_length {
                pieces.extend_from_slice(&Sha1::digest(&piece));
                piece.clear();
            }
            if read == 0 {
                break;
            }
        }
    }
    if !piece.is_empty() {
        pieces.extend_from_slice(&Sha1::digest(&piece));
    }
    (pieces, total)
}

fn push_file(info: &mut Vec<u8>, path: &Path, len: u64) {
    info.push(b'd');
    push_str(info, "length");
    push_int(info, len);
    push_str(info, "path");
    info.push(b'l');
    path.iter().for_each(|part| push_str(info, part.to_str().expect("names of our own making are UTF-8")));
    info.extend_from_slice(b"ee");
}

fn push_int(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(format!("i{value}e").as_bytes());
}

fn push_str(out: &mut Vec<u8>, value: &str) {
    push_bytes(out, value.as_bytes());
}

fn push_bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(format!("{}:", value.len()).as_bytes());
    out.extend_from_slice(value);
}

fn len_of(path: &Path) -> u64 {
    fs::metadata(path).expect("content").len()
}

// A reader for fixtures, which are trusted: it panics on what is not bencode.

/// The encoded value under `key` of an encoded dictionary.
fn field<'a>(dict: &'a [u8], key: &str) -> Option<&'a [u8]> {
    assert_eq!(dict[0], b'd', "a dictionary");
    let mut at = 1;
    while dict[at] != b'e' {
        let key_end = value_end(dict, at);
        let end = value_end(dict, key_end);
        if text(&dict[at..key_end]) == key {
            return Some(&dict[key_end..end]);
        }
        at = end;
    }
    None
}

/// Where the value that begins at `at` ends.
fn value_end(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        b'i' => at + position(&bytes[at..], b'e') + 1,
        b'd' | b'l' => {
            let mut at = at + 1;
            while bytes[at] != b'e' {
                at = value_end(bytes, at);
            }
            at + 1
        }
        _ => {
            let colon = position(&bytes[at..], b':');
            at + colon + 1 + decimal(&bytes[at..at + colon]) as usize
        }
    }
}

fn files_total(info: &[u8]) -> u64 {
    let files = field(info, "files").expect("a length or files");
    let mut total = 0;
    let mut at = 1;
    while files[at] != b'e' {
        let end = value_end(files, at);
        total += integer(field(&files[at..end], "length").expect("a file's length"));
        at = end;
    }
    total
}

fn integer(value: &[u8]) -> u64 {
    decimal(&value[1..value.len() - 1])
}

fn decimal(digits: &[u8]) -> u64 {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).expect("a decimal number")
}

fn text(value: &[u8]) -> String {
    String::from_utf8(value[position(value, b':') + 1..].to_vec()).expect("text")
}

fn position(bytes: &[u8], byte: u8) -> usize {
    bytes.iter().position(|&other| other == byte).expect("well-formed bencode")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_info_hash_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("abc");
        fs::write(&file, b"abc").unwrap();
        let torrent = Torrent::create(&file, 16384, "http://t/announce", dir.path());
        let bytes = fs::read(&torrent.path).unwrap();
        let mut want =
            b"d8:announce17:http://t/announce4:infod6:lengthi3e4:name3:abc12:piece lengthi16384e6:pieces20:"
                .to_vec();
        want.extend_from_slice(&Sha1::digest(b"abc"));
        want.extend_from_slice(b"ee");
        assert_eq!(bytes, want);
        assert_eq!((torrent.pieces(), torrent.total), (1, 3));
    }

    #[test]
    fn a_tree_comes_back_as_a_fixture() {
        let dir = tempfile::tempdir().unwrap();
        let root = content::write_tree(dir.path(), "tree", 12, 3);
        let torrent = Torrent::create(&root, 16384, "", dir.path());
        let elsewhere = tempfile::tempdir().unwrap();
        let again = Torrent::from_fixture(&torrent.path, "http://other/announce", elsewhere.path());
        assert_eq!(torrent.info_hash, again.info_hash);
        assert_eq!(
            (torrent.name, torrent.total, torrent.piece_length),
            (again.name, again.total, again.piece_length)
        );
        let bytes = fs::read(again.path).unwrap();
        assert_eq!(text(field(&bytes, "announce").unwrap()), "http://other/announce");
    }

    #[test]
    fn pieces_run_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("two");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), [1; 20_000]).unwrap();
        fs::write(root.join("b"), [2; 20_000]).unwrap();
        let files: Vec<_> = content::files_below(&root).into_iter().collect();
        let (pieces, total) = hash_pieces(&files, 16384);
        assert_eq!((pieces.len(), total), (3 * 20, 40_000));
        assert_eq!(pieces[40..], Sha1::digest([2; 40_000 - 2 * 16384])[..]);
    }

    #[test]
    fn a_sparse_torrent_is_that_of_its_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zeros");
        let sparse = Torrent::create_sparse(&file, 0, 5, 16384, dir.path());
        let read = Torrent::create(&file, 16384, "", dir.path());
        assert_eq!((sparse.info_hash, sparse.total), (read.info_hash, 5 * 16384));
    }
}
