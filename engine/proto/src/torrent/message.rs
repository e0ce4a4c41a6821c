//! What crosses between the machines of a torrent: shard to shard, shard to core, core to shard. Messages are
//! values; where bytes travel along (a lent block, a piece that changes hands) the driver attaches them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Errands, FailedTry, PeerKey, ShardId};
use crate::id::PeerId;
use crate::layout::{Block, PieceIndex};
use crate::picker::OpenPiece;

/// From one shard of a torrent to another.
#[derive(Clone, Debug)]
pub enum ShardMessage {
    /// The piece is on disk and right.
    Have(PieceIndex),
    /// The piece may be claimed again.
    Released(PieceIndex),
    /// The piece failed its hash: who gave what, for whoever tries it next.
    Failed(PieceIndex, Arc<FailedTry>),
    /// Changes in how many of the sender's peers have which piece.
    Availability(Vec<(PieceIndex, i32)>),
    /// The same of those of our rack alone.
    Near(Vec<(PieceIndex, i32)>),
    /// A peer of the sender is idle and has this piece, which the receiver assembles.
    Borrow {
        /// Which piece.
        piece: PieceIndex,
        /// Bytes a second that the peer gives, where that is known.
        speed: Option<u64>,
    },
    /// Blocks for the receiver's peers to fetch; none where nothing is to be lent.
    Lend(PieceIndex, Vec<Block>),
    /// A lent block, with its bytes: who gave it.
    LentBlock(Block, IpAddr),
    /// Lent blocks that the sender cannot fetch after all.
    GiveBack(Vec<Block>),
    /// Lent blocks that are no longer wanted.
    CancelLent(Vec<Block>),
    /// The sender's peers cannot finish this piece: whose can?
    Offer(PieceIndex),
    /// The sender's peers can.
    Accept(PieceIndex),
    /// The piece, with its buffer, is the receiver's now.
    Handover(Box<OpenPiece>),
}

/// A peer as the core needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerUp {
    /// Its name within the torrent.
    pub peer: PeerKey,
    /// Its address, as connected.
    pub addr: SocketAddr,
    /// What it calls itself.
    pub id: PeerId,
    /// Whether we dialled.
    pub outgoing: bool,
}

/// What a peer gave and took since it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRates {
    /// Which peer.
    pub peer: PeerKey,
    /// Payload bytes that it gave us.
    pub downloaded: u64,
    /// Payload bytes that we gave it.
    pub uploaded: u64,
    /// Bytes of pieces that it alone had of us, and that others had of it since.
    pub passed_on: u64,
    /// It takes what is suggested to it, or nothing has to be: to a seed with something to spread it is as good as another.
    pub heeds: bool,
    /// It keeps what is new for itself, as far as a seed with something to spread can tell.
    pub keeps: bool,
    /// It keeps us waiting.
    pub snubbed: bool,
    /// It has everything, or all that it wants (BEP 21).
    pub is_seed: bool,
}

/// From a shard to the core.
#[derive(Clone, Debug)]
pub enum ShardToCore {
    /// A peer finished its handshake.
    PeerUp(PeerUp),
    /// A peer is gone, and what it gave and took in all.
    PeerDown(PeerRates),
    /// A peer began or ceased to want what we have.
    Interest(PeerKey, bool),
    /// The answer to [`CoreToShard::ReportRates`].
    Rates(u64, Vec<PeerRates>),
    /// This address gave a block that was not what the torrent says.
    Poisoner(IpAddr),
    /// This peer broke the rules.
    Misbehaved(PeerKey),
    /// Where this peer says it listens.
    ListensOn(PeerKey, SocketAddr),
    /// A piece failed its hash.
    HashFailed(PieceIndex),
    /// Every piece that is wanted is on disk and right.
    Completed,
}

/// From the core to a shard.
#[derive(Clone, Debug)]
pub enum CoreToShard {
    /// Tell what each peer gave and took; the number comes back with the answer.
    ReportRates(u64),
    /// These peers get a slot, those lose theirs.
    Slots {
        /// To unchoke.
        unchoke: Vec<PeerKey>,
        /// To choke.
        choke: Vec<PeerKey>,
    },
    /// Who of the shard's peers is of our rack, and what is on us to bring there.
    Rack {
        /// All of them.
        near: Vec<PeerKey>,
        /// Of all shards together.
        errands: Arc<Errands>,
    },
    /// Part with this peer.
    Part(PeerKey, PartReason),
    /// Part with every peer at this address.
    Ban(IpAddr),
    /// These pieces were found on disk and right.
    Found(Vec<PieceIndex>),
    /// These pieces were looked for and are not there.
    Lacking(Vec<PieceIndex>),
}

/// Why we part with a peer that did nothing wrong, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartReason {
    /// We are connected to it already.
    Duplicate,
    /// It is us.
    OurselvesDialled,
    /// Its address is banned.
    Banned,
    /// There are peers enough.
    TooMany,
    /// Neither of us wants anything of the other.
    BothSeeds,
    /// It was silent for too long.
    Idle,
    /// It kept us waiting for too long.
    Snubbed,
    /// It broke the rules.
    Misbehaved,
    /// The torrent is being left.
    Leaving,
}

impl std::fmt::Display for PartReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Duplicate => "connected to it already",
            Self::OurselvesDialled => "it is this process",
            Self::Banned => "its address is banned",
            Self::TooMany => "there are peers enough",
            Self::BothSeeds => "neither wants anything of the other",
            Self::Idle => "it was silent for too long",
            Self::Snubbed => "it kept us waiting for too long",
            Self::Misbehaved => "it broke the rules",
            Self::Leaving => "the torrent is being left",
        })
    }
}

/// What the driver is to do for a shard. Order matters: they are to be done as they come.
#[derive(Clone, Debug)]
pub enum ShardAction {
    /// [`poll_message`](super::TorrentShard::poll_message) has something for this peer.
    Ready(PeerKey),
    /// Close the connection; the peer's key is void from here on.
    Disconnect(PeerKey, PartReason),
    /// Every block of the piece is in its buffer: hash it, write it if right, and say
    /// [`ShardInput::Verified`](super::ShardInput::Verified) and then [`ShardInput::Written`](super::ShardInput::Written).
    Verify {
        /// The piece.
        piece: PieceIndex,
        /// A digest of each block is needed even if the piece is right, to find out who lied before.
        digests: bool,
    },
    /// The piece's buffer, if any, is no longer needed.
    Drop(PieceIndex),
    /// Pass this on; with [`ShardMessage::Handover`] go the piece's buffer and what was hashed of it.
    Send(ShardId, ShardMessage),
    /// Pass this on with the bytes of the block that this peer just gave (see [`Sink::Lent`](super::Sink::Lent)).
    SendBlock(ShardId, ShardMessage, PeerKey),
    /// Pass this on to the core.
    Report(ShardToCore),
}
