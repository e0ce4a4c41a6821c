//! `OneFile`: what the yardsticks need to know of a torrent, and why one will not do.
//!
//! Owns the demands that both make. Knows nothing of connections.

use std::fmt;

use ringtide_hasher::Sha1Digest;
use ringtide_proto::id::InfoHash;
use ringtide_proto::layout::PieceLayout;
use ringtide_proto::metainfo::Metainfo;

/// A v1 torrent of a single file.
#[derive(Debug, Clone)]
pub struct OneFile {
    /// Names it on the wire.
    pub info_hash: InfoHash,
    /// Its pieces and blocks.
    pub layout: PieceLayout,
    /// The digest of each piece.
    pub hashes: Vec<Sha1Digest>,
}

/// Why a torrent, or an image for it, will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsuitable {
    /// The torrent has no v1 part.
    NotV1,
    /// The torrent's content is not one file.
    ManyFiles,
    /// The image has another length than the torrent says: (image, torrent), in bytes.
    Length(u64, u64),
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotV1 => f.write_str("the torrent has no v1 part: make one that has"),
            Self::ManyFiles => f.write_str("the torrent holds several files: make one of a single file"),
            Self::Length(image, torrent) => {
                write!(f, "the image has {image} bytes but the torrent says {torrent}: take those that fit")
            }
        }
    }
}

impl std::error::Error for Unsuitable {}

impl OneFile {
    /// Takes what is needed of a torrent.
    ///
    /// # Errors
    /// When it has no v1 part or several files.
    pub fn new(torrent: &Metainfo) -> Result<Self, Unsuitable> {
        let info_hash = torrent.info_hash_v1().ok_or(Unsuitable::NotV1)?;
        let layout = torrent.layout().ok_or(Unsuitable::NotV1)?;
        if torrent.is_multi_file() {
            return Err(Unsuitable::ManyFiles);
        }
        Ok(Self { info_hash, layout, hashes: torrent.piece_hashes().to_vec() })
    }
}
