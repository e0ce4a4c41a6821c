//! A torrent as two machines: [`TorrentCore`], one per torrent (which peers to know, whom to unchoke, whom to
//! ban, when to announce), and [`TorrentShard`], one per shard that has peers of it (what to ask of them and
//! what to give them).
//!
//! # The contract
//!
//! Both are driven the same way, and do nothing by themselves:
//!
//! - `handle_input(now, input)` takes a fact; `handle_timeout(now)` says that time has passed.
//! - After either, `poll_action()` is called until it gives nothing, and what it gives is done in that order.
//! - `poll_message(now, peer)` gives what is to be sent to a peer. It is called when [`ShardAction::Ready`] named
//!   the peer and its socket can take more, until it gives nothing: what is not yet polled can still be cancelled.
//! - `poll_timeout()` says when to call `handle_timeout` at the latest.
//!
//! Time never runs backwards. Bytes of blocks never come here: [`TorrentShard::begin_block`] says where a block's
//! bytes are to go, and the driver moves them.

mod core;
mod errands;
mod message;
mod policy;
mod rules;
mod shard;
mod shared;
mod suspicion;

pub use self::core::{CoreAction, CoreConfig, CoreInput, CoreStats, TorrentCore};
pub use errands::Errands;
pub use message::{CoreToShard, PartReason, PeerRates, PeerUp, ShardAction, ShardMessage, ShardToCore};
pub use policy::{Lan, Policy, Seeding};
pub use rules::{Rule, Rules};
pub(crate) use shard::reveal::Revealed;
pub use shard::{NewPeer, Outgoing, ShardConfig, ShardInput, Sink, TorrentShard, Verdict};
pub use shared::{Budget, PieceState, SharedPieces};
pub use suspicion::{BlockDigest, FailedTry};

/// A shard of the engine, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

/// Most shards of an engine: a piece's owner has four bits.
pub const MAX_SHARDS: usize = 16;

/// A connected peer of a torrent: unique in the process while the torrent lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// The shard that holds the connection.
    pub shard: ShardId,
    /// Where it stands in the shard's table.
    slot: u32,
    /// How often that place was used before.
    generation: u32,
}

impl PeerKey {
    /// Where the peer stands in its shard's table: small numbers, used again after a peer is gone.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

#[cfg(test)]
impl PeerKey {
    /// A key that no shard gave out.
    pub(crate) const fn for_tests(shard: ShardId, slot: u32) -> Self {
        Self { shard, slot, generation: 0 }
    }
}
