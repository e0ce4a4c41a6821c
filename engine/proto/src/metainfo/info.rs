//! Reading the info dictionary: v1, v2 and hybrid (BEP 3, BEP 52). Everything that the info hash covers is here;
//! what stands beside it is in `announce`.

use std::ops::Range;

use super::name::{rename_duplicates, sanitize_component};
use super::{FileEntry, MetainfoError, files, tree};
use crate::bencode::Value;
use crate::id::InfoHash;
use crate::limits::MAX_PIECES;

/// Longest piece accepted, as in libtorrent: 32,767 blocks, so that a block's number fits in 15 bits. Shorter ones may
/// still be refused for downloading.
pub(super) const MAX_PIECE_LENGTH: u32 = 32_767 * 16_384;
/// Shortest piece of a v2 torrent, in bytes (BEP 52).
const MIN_V2_PIECE_LENGTH: u32 = 16 * 1024;

/// What the info dictionary says.
#[derive(Debug, Clone)]
pub(super) struct Info {
    pub(super) hash_v1: Option<InfoHash>,
    pub(super) hash_v2: Option<[u8; 32]>,
    pub(super) name: String,
    pub(super) multi_file: bool,
    pub(super) files: Vec<FileEntry>,
    pub(super) piece_length: u32,
    pub(super) piece_count: u32,
    pub(super) total_length: u64,
    /// Where the v1 piece hashes lie within the verbatim info dictionary; empty without v1.
    pub(super) piece_hashes: Range<usize>,
    pub(super) private: bool,
}

/// Which versions a torrent is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    V1,
    V2,
    Hybrid,
}

impl Info {
    pub(super) fn read(info: Value<'_>) -> Result<Self, MetainfoError> {
        let versions = Versions::of(info)?;
        let hash_v1 = versions.has_v1().then(|| InfoHash(ringtide_hasher::sha1(info.raw())));
        let hash_v2 = versions.has_v2().then(|| ringtide_hasher::sha256(info.raw()));
        let piece_length = piece_length(info, versions)?;
        let name = torrent_name(info, hash_v1, hash_v2)?;
        let (mut files, multi_file) = files_of(info, versions, &name, piece_length)?;
        rename_duplicates(&mut files)?;
        let total_length = total_length(&files, versions)?;
        let piece_count = piece_count(&files, versions, total_length, piece_length)?;
        let piece_hashes = piece_hashes(info, versions, piece_count)?;
        let private = info.get("private").and_then(Value::int).is_some_and(|flag| flag != 0);
        Ok(Self {
            hash_v1,
            hash_v2,
            name,
            multi_file,
            files,
            piece_length,
            piece_count,
            total_length,
            piece_hashes,
            private,
        })
    }
}

impl Versions {
    fn of(info: Value<'_>) -> Result<Self, MetainfoError> {
        const FIELD: &str = "info.meta version";
        let version = info.get("meta version").and_then(Value::int).unwrap_or(1);
        if version > 2 {
            return Err(MetainfoError::invalid(FIELD, format!("is {version}: only 1 and 2 are known")));
        }
        if version < 2 {
            let has_tree = info.get("file tree").is_some();
            return if has_tree { Err(MetainfoError::missing(FIELD)) } else { Ok(Self::V1) };
        }
        // BEP 52 has its keys sorted and its integers short; v1 torrents were never held to it.
        info.check_canonical()?;
        let has_v1 = info.get("files").is_some() || info.get("length").is_some();
        Ok(if has_v1 { Self::Hybrid } else { Self::V2 })
    }

    fn has_v1(self) -> bool {
        self != Self::V2
    }

    fn has_v2(self) -> bool {
        self != Self::V1
    }
}

fn piece_length(info: Value<'_>, versions: Versions) -> Result<u32, MetainfoError> {
    const FIELD: &str = "info.piece length";
    let value = info.get("piece length").ok_or_else(|| MetainfoError::missing(FIELD))?;
    let length = value.int().ok_or_else(|| MetainfoError::wrong_kind(FIELD, "an integer"))?;
    let Ok(length @ 1..=MAX_PIECE_LENGTH) = u32::try_from(length) else {
        let problem = format!("is {length}: it must be from 1 to {MAX_PIECE_LENGTH}");
        return Err(MetainfoError::invalid(FIELD, problem));
    };
    if versions.has_v2() && (!length.is_power_of_two() || length < MIN_V2_PIECE_LENGTH) {
        let problem = format!("is {length}: v2 demands a power of two of at least {MIN_V2_PIECE_LENGTH}");
        return Err(MetainfoError::invalid(FIELD, problem));
    }
    Ok(length)
}

/// The safe name. Where nothing of it is left, a directory is named by the info hash in hexadecimal, as in libtorrent; a
/// file without a name is refused.
fn torrent_name(
    info: Value<'_>,
    hash_v1: Option<InfoHash>,
    hash_v2: Option<[u8; 32]>,
) -> Result<String, MetainfoError> {
    const FIELD: &str = "info.name";
    let utf8 = info.get("name.utf-8").filter(|name| name.bytes().is_some());
    let value = utf8.or(info.get("name")).ok_or_else(|| MetainfoError::missing(FIELD))?;
    let raw = value.bytes().ok_or_else(|| MetainfoError::wrong_kind(FIELD, "a string"))?;
    if raw.is_empty() {
        return Err(MetainfoError::invalid(FIELD, "is empty"));
    }
    if let Some(name) = sanitize_component(raw) {
        return Ok(name);
    }
    if hash_v1.is_some() && info.get("files").is_none() {
        return Err(MetainfoError::invalid(FIELD, "has nothing that can name a file"));
    }
    let hash: &[u8] = match (&hash_v1, &hash_v2) {
        (Some(hash), _) => &hash.0,
        (None, Some(hash)) => hash,
        (None, None) => &[],
    };
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The files, and whether they lie in a directory of the torrent's name. Hybrids have the v1 list, whose pad
/// files give every file its place.
fn files_of(
    info: Value<'_>,
    versions: Versions,
    name: &str,
    piece_length: u32,
) -> Result<(Vec<FileEntry>, bool), MetainfoError> {
    let list = info.get("files");
    let v1 = || match list {
        Some(list) => files::file_list(list, name),
        None => files::single_file(info, name),
    };
    let v2 = || {
        let tree = info.get("file tree").ok_or_else(|| MetainfoError::missing("info.file tree"))?;
        tree::file_tree(tree, name, piece_length, list.is_some())
    };
    let (files, multi_file) = match versions {
        Versions::V1 => (v1()?, list.is_some()),
        Versions::V2 => v2()?,
        Versions::Hybrid => {
            let (tree, multi_file) = v2()?;
            let mut files = v1()?;
            tree::merge(&mut files, &tree)?;
            (files, multi_file)
        }
    };
    if files.is_empty() {
        let field = if versions.has_v1() { "info.files" } else { "info.file tree" };
        return Err(MetainfoError::invalid(field, "has no files"));
    }
    Ok((files, multi_file))
}

/// Bytes of all files, pad files included. A torrent of nothing cannot be shared.
fn total_length(files: &[FileEntry], versions: Versions) -> Result<u64, MetainfoError> {
    // Offsets were summed without overflow, pads and gaps included, so lengths alone cannot.
    let total = files.iter().map(|file| file.length).sum();
    if total > 0 {
        return Ok(total);
    }
    let field = match versions {
        Versions::V2 => "info.file tree: length",
        _ if files.len() == 1 => "info.length",
        _ => "info.files.length",
    };
    Err(MetainfoError::invalid(field, "is zero: the torrent has no content"))
}

fn piece_count(
    files: &[FileEntry],
    versions: Versions,
    total_length: u64,
    piece_length: u32,
) -> Result<u32, MetainfoError> {
    let pieces_of = |length: u64| length.div_ceil(u64::from(piece_length));
    let count = match versions {
        Versions::V2 => files.iter().map(|file| pieces_of(file.length)).sum(),
        Versions::V1 | Versions::Hybrid => pieces_of(total_length),
    };
    match u32::try_from(count) {
        Ok(count) if count <= MAX_PIECES => Ok(count),
        _ => {
            let problem =
                format!("is {piece_length}: that makes {count} pieces, more than the {MAX_PIECES} supported");
            Err(MetainfoError::invalid("info.piece length", problem))
        }
    }
}

/// Where in the info dictionary the hashes of the pieces are (BEP 3).
fn piece_hashes(info: Value<'_>, versions: Versions, count: u32) -> Result<Range<usize>, MetainfoError> {
    const FIELD: &str = "info.pieces";
    if !versions.has_v1() {
        return Ok(0..0);
    }
    let value = info.get("pieces").ok_or_else(|| MetainfoError::missing(FIELD))?;
    let hashes = value.bytes().ok_or_else(|| MetainfoError::wrong_kind(FIELD, "a string"))?;
    if hashes.len() as u64 != u64::from(count) * 20 {
        let problem = format!("has {} bytes: {count} pieces need {}", hashes.len(), u64::from(count) * 20);
        return Err(MetainfoError::invalid(FIELD, problem));
    }
    let end = value.offset() - info.offset() + value.raw().len();
    Ok(end - hashes.len()..end)
}
