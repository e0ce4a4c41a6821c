//! What crosses between a shard and the other threads of the engine.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam::channel::Sender;
use ringtide_proto::layout::{Block, PieceIndex};
use ringtide_proto::torrent::{CoreToShard, ShardId, ShardMessage, ShardToCore};
use ringtide_proto::wire::Handshake;

use super::assembly::Assembly;
use super::seats::Seat;
use super::shared::SharedTorrent;
use crate::event::TorrentId;
use crate::hash_pool::HashDone;
use crate::metrics::Metrics;
use crate::storage::{AlignedBuf, StorageError};

/// To a shard.
pub(crate) enum ToShard {
    /// There is one more torrent.
    Add(Arc<SharedTorrent>),
    /// From the torrent's core.
    Core(TorrentId, CoreToShard),
    /// Connect to that address.
    Dial(TorrentId, SocketAddr),
    /// From the same torrent on another shard, with what travels along.
    Peer(TorrentId, ShardId, ShardMessage, Cargo),
    /// A connection that another shard accepted, its handshake received and not answered.
    Adopt(Adopted),
    /// A hash job is done.
    Hashed(TorrentId, HashDone),
    /// Part of what a connection uploads was read from many files, or could not be.
    Gathered(usize, usize, Result<AlignedBuf, StorageError>),
    /// What the driver could not write past the page cache was written through it, or not.
    Written(TorrentId, PieceIndex, Result<(), StorageError>),
    /// Send what was measured since the last time.
    Measure(Sender<Metrics>),
    /// End.
    Quit,
}

/// Bytes that travel with a message between shards.
pub(crate) enum Cargo {
    /// None.
    Empty,
    /// Of a lent block.
    Block(Block, Vec<u8>),
    /// Of a piece that changes hands, if any of it is here.
    Piece(Option<Box<Assembly>>),
}

/// A connection on its way to another shard.
pub(crate) struct Adopted {
    pub(crate) torrent: TorrentId,
    pub(crate) fd: OwnedFd,
    pub(crate) addr: SocketAddr,
    pub(crate) handshake: Handshake,
    pub(crate) seat: Seat,
}

/// To the control plane.
pub(crate) enum ToControl {
    /// For the torrent's core.
    Core(TorrentId, ShardId, ShardToCore),
    /// An address that was to be dialled did not become a peer.
    DialFailed(TorrentId, SocketAddr),
    /// The disk failed.
    StorageFailed(TorrentId, StorageError),
    /// The shard cannot go on.
    ShardFailed(String),
}
