//! Torrent files: v1, v2 and hybrid (BEP 3, 12, 19, 27, 47, 52), magnet URIs and the writer of new torrents.
//!
//! Parsing is the border: a [`Metainfo`] that exists has names that stay below a directory, offsets that do not overflow,
//! as many hashes as pieces, and piece layers that belong to their files. Paths are made safe, never trusted.
//! Where clients differ, libtorrent's behaviour is the reference; its own test torrents are our fixtures.
//!
//! Does not touch disks, and does not judge whether a torrent can be downloaded.

use std::sync::Arc;

mod announce;
mod builder;
mod error;
mod files;
mod info;
mod magnet;
mod name;
#[cfg(test)]
mod proptests;
mod symlink;
mod tree;

pub use builder::{BuildError, TorrentBuilder, auto_piece_length};
pub use error::MetainfoError;
pub use files::FileEntry;
pub use magnet::{Magnet, MagnetError};

use crate::bencode::{Document, Limits, Value};
use crate::id::InfoHash;
use crate::layout::PieceLayout;

/// A parsed torrent.
///
/// The bytes of the info dictionary are kept once and shared between clones; the piece hashes are a view of them, so
/// that a torrent of 800,000 pieces costs 20 bytes for each.
#[derive(Debug, Clone)]
pub struct Metainfo {
    info_bytes: Arc<[u8]>,
    info: info::Info,
    piece_layers: tree::PieceLayers,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    nodes: Vec<(String, u16)>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
}

impl Metainfo {
    /// Parses a torrent file. Bytes after its end are ignored, as other clients do.
    ///
    /// # Errors
    /// Names the field that is wrong and what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let (document, _) = Document::parse_prefix(bytes, &Limits::FILE)?;
        let torrent = document.root();
        if torrent.dict().is_none() {
            return Err(MetainfoError::NotADictionary);
        }
        let dictionary = torrent.get("info").ok_or_else(|| MetainfoError::missing("info"))?;
        if dictionary.dict().is_none() {
            return Err(MetainfoError::wrong_kind("info", "a dictionary"));
        }
        let info = info::Info::read(dictionary)?;
        let piece_layers = match torrent.get("piece layers").filter(|_| info.hash_v2.is_some()) {
            Some(layers) => tree::piece_layers(layers, &info.files, info.piece_length)?,
            None => tree::PieceLayers::new(),
        };
        Ok(Self {
            info_bytes: dictionary.raw().into(),
            piece_layers,
            trackers: announce::trackers(torrent),
            web_seeds: announce::web_seeds(torrent, info.files.len() > 1),
            nodes: announce::nodes(torrent),
            comment: announce::text(torrent, "comment"),
            created_by: announce::text(torrent, "created by"),
            creation_date: torrent.get("creation date").and_then(Value::int).filter(|date| *date >= 0),
            info,
        })
    }

    /// The v1 info hash: SHA-1 of the info dictionary (BEP 3). `None` for torrents that are v2 only.
    pub fn info_hash_v1(&self) -> Option<InfoHash> {
        self.info.hash_v1
    }

    /// The v2 info hash: SHA-256 of the info dictionary (BEP 52). `None` for torrents that are v1 only.
    pub fn info_hash_v2(&self) -> Option<[u8; 32]> {
        self.info.hash_v2
    }

    /// The name, safe as a component of a path.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// The files in the order of the torrent, pad files included.
    pub fn files(&self) -> &[FileEntry] {
        &self.info.files
    }

    /// Whether the files lie in a directory that has the torrent's name.
    pub fn is_multi_file(&self) -> bool {
        self.info.multi_file
    }

    /// Bytes of a piece; the last one may be shorter.
    pub fn piece_length(&self) -> u32 {
        self.info.piece_length
    }

    /// Number of pieces. In torrents that are v2 only each file has pieces of its own.
    pub fn piece_count(&self) -> u32 {
        self.info.piece_count
    }

    /// Bytes of all files, pad files included: the length of the space that v1 cuts into pieces.
    pub fn total_length(&self) -> u64 {
        self.info.total_length
    }

    /// Bytes of all files without pad files: what a download leaves on disk.
    pub fn content_length(&self) -> u64 {
        self.info.files.iter().filter(|file| !file.pad).map(|file| file.length).sum()
    }

    /// SHA-1 of each v1 piece (BEP 3); empty for torrents that are v2 only.
    pub fn piece_hashes(&self) -> &[[u8; 20]] {
        self.info_bytes[self.info.piece_hashes.clone()].as_chunks().0
    }

    /// How the v1 data divides into pieces. `None` for torrents that are v2 only, which cannot be downloaded yet.
    pub fn layout(&self) -> Option<PieceLayout> {
        self.info.hash_v1?;
        PieceLayout::new(self.info.total_length, self.info.piece_length).ok()
    }

    /// The piece layer of the file with this root (BEP 52), checked against it. `None` for files of at most
    /// one piece and where the torrent came without.
    pub fn piece_layer(&self, pieces_root: &[u8; 32]) -> Option<&[[u8; 32]]> {
        self.piece_layers.get(pieces_root).map(|layer| &**layer)
    }

    /// Tracker URLs in tiers (BEP 12), each URL once and no tier empty.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.trackers
    }

    /// Web seeds (BEP 19), percent-encoded; for several files they end in a slash.
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// DHT nodes: host and port (BEP 5).
    pub fn nodes(&self) -> &[(String, u16)] {
        &self.nodes
    }

    /// Whether peers may come from the trackers only (BEP 27).
    pub fn is_private(&self) -> bool {
        self.info.private
    }

    /// Free text of the maker. Not safe for a terminal.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The program that made the torrent. Not safe for a terminal.
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When the torrent was made, in seconds since 1970.
    pub fn creation_date(&self) -> Option<i64> {
        self.creation_date
    }

    /// The info dictionary exactly as it was read, from which the hashes are computed and which BEP 9 sends.
    pub fn info_bytes(&self) -> &[u8] {
        &self.info_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 200 GB in pieces of 256 KiB.
    const MANY: usize = 800_000;

    #[test]
    fn a_piece_costs_twenty_bytes() {
        let hashes: Vec<[u8; 20]> = (0..MANY as u32).map(|i| [i as u8; 20]).collect();
        let builder = TorrentBuilder::single_file("disk.img", MANY as u64 * (256 << 10), 256 << 10);
        let torrent = Metainfo::parse(&builder.build(&hashes).unwrap()).unwrap();
        assert_eq!(torrent.piece_count() as usize, MANY);
        assert_eq!(torrent.piece_hashes(), hashes);
        assert!(torrent.info_bytes().len() < MANY * 20 + 200, "nothing but the hashes");
        let kept = torrent.info_bytes().as_ptr_range();
        assert!(kept.contains(&torrent.piece_hashes().as_ptr().cast()), "the hashes are a view, not a copy");
        assert_eq!(torrent.clone().info_bytes().as_ptr(), kept.start, "clones share the bytes");
    }

    #[test]
    fn errors_say_which_field() {
        let message = |bytes: &[u8]| Metainfo::parse(bytes).expect_err("must be refused").to_string();
        assert_eq!(message(b"de"), "not a valid torrent: info is missing");
        assert_eq!(message(b"d4:infodee"), "not a valid torrent: info.piece length is missing");
        assert_eq!(message(b"<html>"), "invalid bencoding at byte 0: unexpected byte 0x3c");
        assert_eq!(message(b""), "invalid bencoding at byte 0: the data ends inside a value");
    }
}
