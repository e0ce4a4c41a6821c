//! One connection of a shard: its socket, how far it has come, and what is being sent. Holds state; what happens
//! with it is in `dialogue`, `receive` and `send`.

use std::net::SocketAddr;

use ringtide_proto::layout::Block;
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::PeerKey;
use ringtide_proto::wire::{Decoder, HANDSHAKE_LEN};

use super::landing::{Landings, Lane};
use super::seats::Seat;
use super::upload::Upload;
use crate::driver::{SendBatch, Socket};
use crate::event::TorrentId;

/// A send that is not taken in this time ends the connection: while it lasts it holds a buffer that others need. The
/// smallest sends are 64 KiB, so a peer that takes a kilobyte a second is not meant.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// After so many looks without a send, a second each, a connection counts as idle.
const QUIET_LOOKS: u8 = 3;

/// How far a connection has come.
pub(super) enum Stage {
    /// Being opened by us.
    Dialling(TorrentId),
    /// The handshake is awaited; the torrent is known where we dialled.
    Greeting { torrent: Option<TorrentId>, received: Vec<u8> },
    /// The peer and we talk.
    Open(Box<Open>),
    /// Over; the last operations are awaited.
    Closed,
}

/// A connection whose handshake is done.
pub(super) struct Open {
    pub(super) torrent: TorrentId,
    pub(super) peer: PeerKey,
    pub(super) decoder: Decoder,
    /// How it receives.
    pub(super) lane: Lane,
    /// The block that is arriving, and how much of it has come.
    pub(super) arriving: Option<(Block, usize)>,
    /// A lent block, as it arrives.
    pub(super) scratch: Vec<u8>,
    /// There may be something to send.
    pub(super) wants_send: bool,
    /// Blocks that were taken from the machine and are being read, or wait for buffers to be read into.
    pub(super) upload: Option<Upload>,
    /// How many of the blocks that the peer is to get next are being read into the page cache; none until one was not
    /// there.
    pub(super) ahead: Option<usize>,
    /// Bytes of blocks in the batch that is being sent, and when it was handed to the driver.
    pub(super) sending: Option<(u64, Instant)>,
    /// Bytes per second that the peer takes, once known.
    pub(super) upload_rate: u64,
}

/// A connection.
pub(super) struct Connection {
    pub(super) addr: SocketAddr,
    pub(super) outgoing: bool,
    pub(super) socket: Option<Socket>,
    pub(super) stage: Stage,
    /// When connecting or the handshake must be done.
    pub(super) deadline: Instant,
    /// Operations whose final completion has not come.
    pub(super) operations: usize,
    /// What is received straight into pieces.
    pub(super) landings: Landings,
    /// The batch, unless the driver has it.
    pub(super) batch: Option<SendBatch>,
    /// Nothing was sent since so many looks.
    pub(super) quiet: u8,
    /// Its place among the peers of the process, unless it went to another shard.
    pub(super) seat: Option<Seat>,
}

impl Connection {
    pub(super) fn new(addr: SocketAddr, outgoing: bool, stage: Stage, deadline: Instant, seat: Seat) -> Self {
        Self {
            addr,
            outgoing,
            socket: None,
            stage,
            deadline,
            operations: 0,
            landings: Landings::default(),
            batch: Some(SendBatch::new()),
            quiet: 0,
            seat: Some(seat),
        }
    }

    /// Waiting for a handshake of which nothing has come.
    pub(super) fn greeting(torrent: Option<TorrentId>) -> Stage {
        Stage::Greeting { torrent, received: Vec::with_capacity(HANDSHAKE_LEN) }
    }

    pub(super) fn open(&mut self) -> Option<&mut Open> {
        match &mut self.stage {
            Stage::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Called now and then: one to which nothing was sent for a while gives back the memory of its batches; whether that
    /// is so. Most connections are idle most of the time.
    pub(super) fn rest(&mut self) -> bool {
        self.quiet = self.quiet.saturating_add(1);
        let rests = self.quiet >= QUIET_LOOKS && self.batch.as_ref().is_some_and(SendBatch::is_idle);
        if rests {
            self.batch = Some(SendBatch::new());
            self.landings.rest();
        }
        rests
    }

    /// Whether connecting, greeting or taking what it was sent takes it too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        match &self.stage {
            Stage::Dialling(_) | Stage::Greeting { .. } => now >= self.deadline,
            Stage::Open(open) => open.sending.is_some_and(|(_, began)| now.since(began) > SEND_TIMEOUT),
            Stage::Closed => false,
        }
    }
}
