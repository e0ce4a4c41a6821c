//! What an engine tells its user while it runs.

use std::net::IpAddr;

use crate::storage::StorageError;

/// A torrent of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub u32);

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// What was on disk has been looked at: so many pieces are right.
    Checked {
        /// Which torrent.
        torrent: TorrentId,
        /// Pieces that are right.
        good: u32,
        /// Pieces that are there but wrong.
        bad: u32,
    },
    /// Everything that is wanted is verified and flushed to disk.
    Completed(TorrentId),
    /// The disk failed: the torrent has stopped.
    StorageFailed(TorrentId, StorageError),
    /// A tracker could not be asked, or refused; it will be tried again.
    TrackerFailed {
        /// Which torrent.
        torrent: TorrentId,
        /// The tracker's URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// A tracker answered, with a warning.
    TrackerWarned {
        /// Which torrent.
        torrent: TorrentId,
        /// The tracker's URL.
        url: String,
        /// The tracker's words, made fit for a terminal.
        warning: String,
    },
    /// A tracker answered.
    TrackerAnswered {
        /// Which torrent.
        torrent: TorrentId,
        /// The tracker's URL.
        url: String,
        /// How many addresses it gave.
        peers: usize,
    },
    /// A piece failed its hash.
    HashFailed {
        /// Which torrent.
        torrent: TorrentId,
        /// Which piece.
        piece: u32,
    },
    /// An address gave bad data, and is banned.
    PeerBanned {
        /// Which torrent.
        torrent: TorrentId,
        /// Which address.
        addr: IpAddr,
    },
    /// A thread of the engine ended that should not have: a bug, or the kernel refused something essential.
    Failed(String),
}

/// A snapshot of a torrent. Counts are since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TorrentStats {
    /// Pieces of the torrent; of a download, those that are wanted.
    pub pieces: u32,
    /// Of these, pieces that are on disk and right.
    pub have: u32,
    /// Bytes of these pieces.
    pub bytes: u64,
    /// Of these, bytes in pieces that are on disk and right.
    pub have_bytes: u64,
    /// Payload bytes received, those thrown away included.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Payload bytes received that were not needed.
    pub wasted: u64,
    /// Connected peers.
    pub peers: usize,
    /// Addresses known.
    pub known_peers: usize,
    /// Addresses banned.
    pub banned: usize,
    /// Pieces that failed their hash.
    pub hash_failures: u64,
    /// Whether what is on disk is still being looked at.
    pub checking: bool,
    /// Bytes written around the page cache.
    pub direct_bytes: u64,
    /// Bytes written through the page cache.
    pub cached_bytes: u64,
}

/// What one shard did, over all torrents: read without locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Peers connected, or handed to it.
    pub peers: u64,
    /// Payload bytes received.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
}
