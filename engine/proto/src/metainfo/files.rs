//! The files of a torrent: what one is, and the v1 list of them (BEP 3, BEP 47).
//! Does not own the v2 tree (`tree`) or links' targets (`symlink`).

use super::name::sanitize_component;
use super::{MetainfoError, symlink};
use crate::bencode::Value;

/// Deepest path, as in libtorrent and as deep as bencode may nest: a deeper one is an attack, not a directory.
pub(super) const MAX_PATH_COMPONENTS: usize = 100;
/// Files must be shorter than this many bytes (16 TiB), as in libtorrent, so that offsets of blocks fit in 32 bits and
/// sums of many files can be checked for overflow.
pub(super) const MAX_FILE_BYTES: u64 = (i32::MAX as u64 / 2) * 16384;
/// BitComet's way to mark a file that only fills up a piece, older than BEP 47.
const OLD_PAD_NAME: &str = "_____padding_file_";

/// A file of a torrent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileEntry {
    /// Safe components below the download directory, never empty. In a torrent of several files the first one is
    /// the torrent's name.
    pub path: Vec<String>,
    /// Bytes. Zero for links.
    pub length: u64,
    /// Where it begins in the space that is cut into pieces, in bytes. In torrents that are v2 only each file
    /// begins a piece.
    pub offset: u64,
    /// Filler so that the next file begins a piece (BEP 47): zeros, never written.
    pub pad: bool,
    /// The file may be executed (BEP 47).
    pub executable: bool,
    /// The file is hidden on systems that know such a thing (BEP 47).
    pub hidden: bool,
    /// For a symbolic link (BEP 47) the path that it leads to: like `path`, within the torrent, to something that is no link.
    pub symlink: Option<Vec<String>>,
    /// Root of the merkle tree over its blocks (BEP 52); none in v1 and for empty files.
    pub pieces_root: Option<[u8; 32]>,
}

/// What `attr` says (BEP 47).
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) pad: bool,
    pub(super) executable: bool,
    pub(super) hidden: bool,
    pub(super) symlink: bool,
}

impl Attributes {
    pub(super) fn of(file: Value<'_>) -> Self {
        let letters = file.get("attr").and_then(Value::bytes).unwrap_or_default();
        Self {
            pad: letters.contains(&b'p'),
            executable: letters.contains(&b'x'),
            hidden: letters.contains(&b'h'),
            symlink: letters.contains(&b'l'),
        }
    }
}

/// The one file of a v1 torrent without `info.files`; its name is the torrent's.
pub(super) fn single_file(info: Value<'_>, name: &str) -> Result<Vec<FileEntry>, MetainfoError> {
    let attributes = Attributes::of(info);
    let file = FileEntry {
        path: vec![name.to_owned()],
        length: file_length(info, attributes, || "info".to_owned())?,
        executable: attributes.executable,
        hidden: attributes.hidden,
        ..FileEntry::default()
    };
    Ok(vec![file])
}

/// The files of `info.files` (BEP 3), with their offsets.
pub(super) fn file_list(list: Value<'_>, name: &str) -> Result<Vec<FileEntry>, MetainfoError> {
    let elements = list.list().ok_or_else(|| MetainfoError::wrong_kind("info.files", "a list"))?;
    let mut files = Vec::new();
    let mut offset = 0u64;
    for (index, element) in elements.enumerate() {
        let mut file = list_entry(element, name, index)?;
        file.offset = offset;
        let too_long =
            || MetainfoError::invalid(format!("info.files[{index}].length"), "makes the sum overflow");
        offset = offset.checked_add(file.length).ok_or_else(too_long)?;
        files.push(file);
    }
    symlink::resolve(&mut files);
    Ok(files)
}

fn list_entry(file: Value<'_>, name: &str, index: usize) -> Result<FileEntry, MetainfoError> {
    let field = || format!("info.files[{index}]");
    if file.dict().is_none() {
        return Err(MetainfoError::wrong_kind(field(), "a dictionary"));
    }
    let attributes = Attributes::of(file);
    let length = file_length(file, attributes, field)?;
    let path = match file.get("path.utf-8").filter(|path| path.list().is_some()).or(file.get("path")) {
        Some(path) => match path_below(name, path, || format!("{}.path", field()))? {
            Some(path) => path,
            None if attributes.pad => pad_path(name, length),
            None => return Err(MetainfoError::invalid(format!("{}.path", field()), "is empty")),
        },
        None if attributes.pad => pad_path(name, length),
        None => return Err(MetainfoError::missing(format!("{}.path", field()))),
    };
    let pad = attributes.pad || path.iter().any(|component| component.contains(OLD_PAD_NAME));
    Ok(FileEntry {
        path,
        length,
        pad,
        executable: attributes.executable,
        hidden: attributes.hidden,
        symlink: symlink_target(file, attributes, name, field)?,
        ..FileEntry::default()
    })
}

/// The length of a file; links have none whatever they state (BEP 47).
pub(super) fn file_length(
    file: Value<'_>,
    attributes: Attributes,
    field: impl Fn() -> String,
) -> Result<u64, MetainfoError> {
    if attributes.symlink {
        return Ok(0);
    }
    let field = || format!("{}.length", field());
    let value = file.get("length").ok_or_else(|| MetainfoError::missing(field()))?;
    let length = value.int().ok_or_else(|| MetainfoError::wrong_kind(field(), "an integer of 64 bits"))?;
    match u64::try_from(length) {
        Ok(length) if length < MAX_FILE_BYTES => Ok(length),
        Ok(_) => {
            Err(MetainfoError::invalid(field(), format!("is {length}: files end at {MAX_FILE_BYTES} bytes")))
        }
        Err(_) => Err(MetainfoError::invalid(field(), format!("is {length}: it cannot be negative"))),
    }
}

/// Where a link leads as the torrent states it, below the torrent's name; `symlink::resolve` checks it.
pub(super) fn symlink_target(
    file: Value<'_>,
    attributes: Attributes,
    name: &str,
    field: impl Fn() -> String,
) -> Result<Option<Vec<String>>, MetainfoError> {
    match file.get("symlink path").filter(|path| attributes.symlink && path.list().is_some()) {
        Some(path) => path_below(name, path, || format!("{}.symlink path", field())),
        None => Ok(None),
    }
}

/// The list of components `path` made safe, below `name`. `None` where the list is empty.
fn path_below(
    name: &str,
    path: Value<'_>,
    field: impl Fn() -> String,
) -> Result<Option<Vec<String>>, MetainfoError> {
    let elements = path.list().ok_or_else(|| MetainfoError::wrong_kind(field(), "a list"))?;
    let mut safe = vec![name.to_owned()];
    let mut count = 0;
    for element in elements {
        let raw = element.bytes().ok_or_else(|| MetainfoError::wrong_kind(field(), "a list of strings"))?;
        safe.extend(sanitize_component(raw));
        count += 1;
        if count > MAX_PATH_COMPONENTS {
            let problem = format!("has more than {MAX_PATH_COMPONENTS} components");
            return Err(MetainfoError::invalid(field(), problem));
        }
    }
    if count > 0 && safe.len() == 1 {
        safe.push("_".to_owned());
    }
    Ok((count > 0).then_some(safe))
}

/// Where libtorrent puts a pad file without a path. It is never written.
fn pad_path(name: &str, length: u64) -> Vec<String> {
    vec![name.to_owned(), ".pad".to_owned(), length.to_string()]
}
