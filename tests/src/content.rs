//! What is transferred: files made from a seed, and the comparison byte for byte of what arrived.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// 1 KiB, 1 MiB and 1 GiB in bytes.
pub const KIB: u64 = 1 << 10;
/// See [`KIB`].
pub const MIB: u64 = 1 << 20;
/// See [`KIB`].
pub const GIB: u64 = 1 << 30;

/// Each 4 KiB of generated content is stamped with its number, so that no two blocks of a torrent are alike and one in
/// the wrong place is noticed.
const STAMP_EVERY: usize = 4096;
const CHUNK: usize = 1 << 20;

/// A directory for content under the build directory (a disk, in general), removed on drop.
///
/// # Panics
/// When it cannot be made.
pub fn disk_dir() -> TempDir {
    let root = target_dir().join("interop/tmp");
    fs::create_dir_all(&root).expect("a directory below the build directory");
    tempfile::Builder::new().prefix("content-").tempdir_in(root).expect("a temporary directory")
}

/// A directory for content on tmpfs, removed on drop.
///
/// # Panics
/// When it cannot be made.
pub fn tmpfs_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix("ringtide-")
        .tempdir_in("/dev/shm")
        .expect("a temporary directory on tmpfs")
}

/// Cargo's build directory: `CARGO_TARGET_DIR`, or `target` in the repository's root.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// Writes a file of `len` bytes that depend on `seed` alone.
///
/// # Panics
/// When it cannot be written.
pub fn write_file(path: &Path, len: u64, seed: u64) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a directory for content");
    }
    let mut file = BufWriter::with_capacity(CHUNK, File::create(path).expect("a file for content"));
    let mut chunk = noise(CHUNK, seed);
    let mut left = usize::try_from(len).expect("content fits the address space");
    let mut stamp = seed << 32;
    while left > 0 {
        for part in chunk.chunks_mut(STAMP_EVERY) {
            part[..8].copy_from_slice(&stamp.to_le_bytes());
            stamp += 1;
        }
        let part = left.min(chunk.len());
        file.write_all(&chunk[..part]).expect("room for content");
        left -= part;
    }
    file.flush().expect("room for content");
}

/// A directory `name` in `dir` with `files` files in nested directories: odd sizes from 1 byte up to about 200 KiB, and
/// every ninth empty. Returns its path.
///
/// # Panics
/// When it cannot be written.
pub fn write_tree(dir: &Path, name: &str, files: u64, seed: u64) -> PathBuf {
    let root = dir.join(name);
    for n in 0..files {
        let len = if n % 9 == 4 { 0 } else { ((n * n * 7919 + n * 31) % 200_001) | 1 };
        let path = match n % 4 {
            0 => format!("file {n}"),
            1 => format!("a/{n}.bin"),
            2 => format!("a/b {}/{n}.dat", n % 3),
            _ => format!("größe-{}/{n}", n % 5),
        };
        write_file(&root.join(path), len, seed + n);
    }
    root
}

/// Asserts that `copy` is what `original` is: the same file, or the same tree of files.
///
/// # Panics
/// When anything differs; the message names the first difference.
pub fn assert_same(original: &Path, copy: &Path) {
    assert_same_files(&files_below(original), copy);
}

/// The same for clients that do not create empty files.
///
/// # Panics
/// As [`assert_same`].
pub fn assert_same_but_empty_files(original: &Path, copy: &Path) {
    let mut want = files_below(original);
    want.retain(|path, real| copy.join(path).exists() || fs::metadata(real).is_ok_and(|meta| meta.len() > 0));
    assert_same_files(&want, copy);
}

fn assert_same_files(want: &BTreeMap<PathBuf, PathBuf>, copy: &Path) {
    let got = files_below(copy);
    for (path, original) in want {
        let copy =
            got.get(path).unwrap_or_else(|| panic!("{} is missing in {}", path.display(), copy.display()));
        if let Some(at) = first_difference(original, copy) {
            panic!("{} differs from {} at byte {at}", copy.display(), original.display());
        }
    }
    let extra: Vec<_> = got.keys().filter(|path| !want.contains_key(*path)).collect();
    assert!(extra.is_empty(), "{} holds files that were never sent: {extra:?}", copy.display());
}

/// The files below `root` by relative path; of a plain file, itself under the empty path.
///
/// # Panics
/// When `root` cannot be read.
pub fn files_below(root: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable directory");
            pending.extend(entries.map(|entry| entry.expect("a readable directory").path()));
        } else {
            found.insert(path.strip_prefix(root).expect("below the root").to_owned(), path);
        }
    }
    found
}

/// Where two files (or devices: of `copy` only as many bytes as `original` has are read) differ.
pub fn first_difference(original: &Path, copy: &Path) -> Option<u64> {
    let mut original = File::open(original).expect("the original");
    let len = original.metadata().expect("the original's length").len();
    let mut copy = File::open(copy).ok()?;
    let copy_meta = copy.metadata().expect("the copy's length");
    if copy_meta.is_file() && copy_meta.len() != len {
        return Some(len.min(copy_meta.len()));
    }
    let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).map_or(CHUNK, |left| left.min(CHUNK));
        original.read_exact(&mut ours[..part]).expect("the original");
        if copy.read_exact(&mut theirs[..part]).is_err() {
            return Some(at);
        }
        if ours[..part] != theirs[..part] {
            let first = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            return Some(at + first.expect("they differ") as u64);
        }
        at += part as u64;
    }
    None
}

/// `len` bytes of SplitMix64 noise.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    words.take(len.div_ceil(8)).flat_map(u64::to_le_bytes).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_trees_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let one = write_tree(dir.path(), "one", 20, 1);
        let two = write_tree(dir.path(), "two", 20, 1);
        assert_same(&one, &two);
        assert_eq!(files_below(&one).len(), 20);
    }

    #[test]
    #[should_panic(expected = "differs from")]
    fn a_changed_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        write_file(&one, 3 * MIB + 5, 1);
        let mut bytes = fs::read(&one).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&two, bytes).unwrap();
        assert_eq!(first_difference(&one, &two), Some(3 * MIB + 4));
        assert_same(&one, &two);
    }

    #[test]
    #[should_panic(expected = "never sent")]
    fn an_extra_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let one = write_tree(dir.path(), "one", 5, 1);
        let two = write_tree(dir.path(), "two", 6, 1);
        assert_same(&one, &two);
    }

    #[test]
    fn no_two_blocks_are_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_file(&path, 2 * MIB, 9);
        let bytes = fs::read(path).unwrap();
        let distinct: std::collections::BTreeSet<&[u8]> = bytes.chunks(16 * 1024).collect();
        assert_eq!(distinct.len(), 128);
    }
}
