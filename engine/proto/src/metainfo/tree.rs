//! The v2 file tree and piece layers (BEP 52). Does not hash: `ringtide_hasher::merkle` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringtide_hasher::merkle::{self, LEAF_BYTES};

use super::files::{Attributes, MAX_PATH_COMPONENTS, file_length, symlink_target};
use super::name::sanitize_component;
use super::{FileEntry, MetainfoError, symlink};
use crate::bencode::{DictIter, Value};

/// Piece layers by the root of the file that they belong to.
pub(super) type PieceLayers = BTreeMap<[u8; 32], Arc<[[u8; 32]]>>;

/// The files of `info.file tree` in its order, each at the start of a piece, and whether they lie in a directory
/// that has the torrent's name.
///
/// A tree of nothing but one file is a torrent of one file, unless the v1 half says otherwise (`v1_list`).
pub(super) fn file_tree(
    tree: Value<'_>,
    name: &str,
    piece_length: u32,
    v1_list: bool,
) -> Result<(Vec<FileEntry>, bool), MetainfoError> {
    let entries = tree.dict().ok_or_else(|| MetainfoError::wrong_kind("info.file tree", "a dictionary"))?;
    let multi_file = v1_list || !is_one_file(entries.clone());
    let top = if multi_file { vec![name.to_owned()] } else { Vec::new() };
    let mut walk = Walk { name, path: top, files: Vec::new() };
    walk.run(entries)?;
    let mut files = walk.files;
    align(&mut files, piece_length)?;
    symlink::resolve(&mut files);
    Ok((files, multi_file))
}

/// The top-level `piece layers`, each checked against its file (BEP 52). Files without a layer are accepted: with magnet
/// links they come later, from peers.
pub(super) fn piece_layers(
    layers: Value<'_>,
    files: &[FileEntry],
    piece_length: u32,
) -> Result<PieceLayers, MetainfoError> {
    const FIELD: &str = "piece layers";
    let entries = layers.dict().ok_or_else(|| MetainfoError::wrong_kind(FIELD, "a dictionary"))?;
    let with_layer = files.iter().filter(|file| file.length > u64::from(piece_length));
    let lengths: BTreeMap<_, _> =
        with_layer.filter_map(|file| Some((file.pieces_root?, file.length))).collect();
    let mut checked = PieceLayers::new();
    for (root, layer) in entries {
        let root: [u8; 32] = root
            .try_into()
            .map_err(|_| MetainfoError::invalid(FIELD, "has a key that is no root of 32 bytes"))?;
        let length = lengths.get(&root).ok_or_else(|| {
            MetainfoError::invalid(FIELD, "has a root that no file longer than a piece has")
        })?;
        let bytes =
            layer.bytes().ok_or_else(|| MetainfoError::wrong_kind(FIELD, "a dictionary of strings"))?;
        let (nodes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || nodes.len() as u64 != length.div_ceil(u64::from(piece_length)) {
            let problem = format!("has a layer of {} bytes for a file of {length} bytes", bytes.len());
            return Err(MetainfoError::invalid(FIELD, problem));
        }
        if !merkle::verify_piece_layer(nodes, piece_length as usize / LEAF_BYTES, &root) {
            return Err(MetainfoError::invalid(FIELD, "has a layer that does not hash to its root"));
        }
        checked.insert(root, nodes.into());
    }
    Ok(checked)
}

/// Checks that the v1 list of a hybrid describes the same data as its tree (BEP 52: clients must), and copies the
/// roots over. Pad files are in the list only.
pub(super) fn merge(v1: &mut [FileEntry], v2: &[FileEntry]) -> Result<(), MetainfoError> {
    let field = |v2: &FileEntry| format!("info.file tree: {}", v2.path.join("/").escape_debug());
    let mut remaining = v2.iter();
    for file in v1.iter_mut().filter(|file| !file.pad) {
        let Some(twin) = remaining.next() else {
            let extra = file.path.join("/");
            let problem = format!("has no file {} of the v1 file list", extra.escape_debug());
            return Err(MetainfoError::invalid("info.file tree", problem));
        };
        let same_place = file.offset == twin.offset || file.length == 0;
        if file.path != twin.path || file.length != twin.length || !same_place {
            return Err(MetainfoError::invalid(
                field(twin),
                "differs from the v1 file list in name, length or place",
            ));
        }
        file.pieces_root = twin.pieces_root;
    }
    match remaining.next() {
        Some(extra) => Err(MetainfoError::invalid(field(extra), "is not in the v1 file list")),
        None => Ok(()),
    }
}

/// Whether a directory holds one file and nothing else.
fn is_one_file(mut entries: DictIter<'_>) -> bool {
    let first = entries.next().and_then(|(_, node)| properties(node));
    first.is_some() && entries.next().is_none()
}

/// What describes a file: the value of the only, empty key of its node.
fn properties(node: Value<'_>) -> Option<Value<'_>> {
    let mut entries = node.dict()?;
    let (key, value) = entries.next()?;
    (key.is_empty() && entries.next().is_none()).then_some(value)
}

/// A walk through the tree with a stack of its own; as deep as bencode may nest at most.
struct Walk<'n> {
    name: &'n str,
    /// Safe components of the directory that is open.
    path: Vec<String>,
    files: Vec<FileEntry>,
}

impl Walk<'_> {
    fn run(&mut self, entries: DictIter<'_>) -> Result<(), MetainfoError> {
        // Each open directory, with the length of its path.
        let mut open = vec![(entries, self.path.len())];
        while let Some((entries, depth)) = open.last_mut() {
            self.path.truncate(*depth);
            let Some((key, node)) = entries.next() else {
                open.pop();
                continue;
            };
            if key.is_empty() {
                return Err(self.refuse("has an entry without a name"));
            }
            let children = node.dict().ok_or_else(|| self.refuse("has an entry that is not a dictionary"))?;
            self.path.push(sanitize_component(key).unwrap_or_else(|| "_".to_owned()));
            match properties(node) {
                Some(properties) => self.file(properties)?,
                None if open.len() >= MAX_PATH_COMPONENTS => return Err(self.refuse("is nested too deeply")),
                None => open.push((children, self.path.len())),
            }
        }
        Ok(())
    }

    fn file(&mut self, properties: Value<'_>) -> Result<(), MetainfoError> {
        if properties.dict().is_none() {
            return Err(self.refuse("is not a dictionary"));
        }
        let attributes = Attributes::of(properties);
        if attributes.pad {
            return Err(self.refuse("is a pad file, which v2 has no use for"));
        }
        let length = file_length(properties, attributes, || self.field())?;
        let symlink = symlink_target(properties, attributes, self.name, || self.field())?;
        let pieces_root = match symlink {
            None if length > 0 || attributes.symlink => Some(self.pieces_root(properties)?),
            _ => None,
        };
        self.files.push(FileEntry {
            path: self.path.clone(),
            length,
            executable: attributes.executable,
            hidden: attributes.hidden,
            symlink,
            pieces_root,
            ..FileEntry::default()
        });
        Ok(())
    }

    fn pieces_root(&self, properties: Value<'_>) -> Result<[u8; 32], MetainfoError> {
        let field = || format!("{}.pieces root", self.field());
        let value = properties.get("pieces root").ok_or_else(|| MetainfoError::missing(field()))?;
        let root = value.bytes().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        match root {
            Some(root) if root != [0; 32] => Ok(root),
            Some(_) => Err(MetainfoError::invalid(field(), "is all zeros")),
            None => Err(MetainfoError::wrong_kind(field(), "a string of 32 bytes")),
        }
    }

    fn field(&self) -> String {
        format!("info.file tree: {}", self.path.join("/").escape_debug())
    }

    fn refuse(&self, problem: &str) -> MetainfoError {
        MetainfoError::invalid(self.field(), problem)
    }
}

/// Gives every file the offset of the piece that it begins; empty files take no room.
fn align(files: &mut [FileEntry], piece_length: u32) -> Result<(), MetainfoError> {
    let mut end = 0u64;
    for file in files {
        let start =
            if file.length > 0 { end.checked_next_multiple_of(u64::from(piece_length)) } else { Some(end) };
        let next = start.and_then(|start| start.checked_add(file.length));
        let (Some(start), Some(next)) = (start, next) else {
            return Err(MetainfoError::invalid("info.file tree", "has lengths whose sum overflows"));
        };
        file.offset = start;
        end = next;
    }
    Ok(())
}
