//! Receiving blocks where they belong. A peer gives blocks in the order in which they were asked for, nearly always; so
//! from one that is fast they are received straight into their pieces, many with one operation, and the headers between
//! them are set aside. What came is then read like all that comes; a block that is where it belongs already is not
//! copied, and from the first thing on that was not expected everything is.
//!
//! Owns when that is done and what is expected. That nobody else writes where the kernel may is the business of
//! [`PieceBuffer`](crate::storage::PieceBuffer); that a block goes where it was expected to go, the machine's.

use std::io;

use ringtide_proto::layout::{Block, PieceIndex};
use ringtide_proto::limits::BLOCK_LEN;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::TorrentShard;
use ringtide_proto::wire::{RawSpan, Within};

use super::Shard;
use super::token::{Purpose, token};
use crate::driver::{IoKind, Op, Scatter};
use crate::event::TorrentId;

/// Most blocks of one receive: 1 MiB, of which hardly more ever waits in a socket.
const MOST_BLOCKS: usize = 64;

/// With fewer that are expected, a peer's receives do not begin to go into pieces.
const FEWEST_BLOCKS: usize = 4;

/// Room for what comes while nothing was asked of a peer that is fast, for a moment. When it gives blocks again, so much
/// of the first is copied; a turn of shared buffers would copy megabytes.
const DOORSTEP: usize = 256;

/// Room for what comes of a peer whose next block has no place in a piece, or not for sure: others were asked for it,
/// another shard, or it is late: one and its header.
const STRANGER: usize = BLOCK_LEN as usize + 13;

/// A peer is fast after so many receives in a row that filled their buffer.
const FAST_AFTER: u8 = 2;

/// A receive that brings less than this might as well have gone to a shared buffer.
const SMALL: usize = 32 << 10;

/// A peer is slow after so many small ones in a row.
const SLOW_AFTER: u8 = 16;

/// How a connection receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Into buffers that all share. So many in a row were filled.
    Shared(u8),
    /// Still so, but that was asked to end.
    Leaving,
    /// Where blocks belong. So many in a row were small.
    Landing(u8),
}

/// A connection's receive into pieces.
#[derive(Default)]
pub(super) struct Landings {
    /// What is expected, unless the driver has it.
    scatter: Option<Box<Scatter>>,
    /// The torrent and the piece of each landing that the driver has.
    pieces: Vec<(TorrentId, PieceIndex)>,
}

impl Landings {
    /// Gives the memory back.
    pub(super) fn rest(&mut self) {
        if self.pieces.is_empty() {
            *self = Landings::default();
        }
    }
}

impl Shard {
    /// Receives what comes next.
    pub(super) fn receive(&mut self, index: usize) {
        let landing = self.open_at(index).is_some_and(|open| matches!(open.lane, Lane::Landing(_)));
        let scatter = landing.then(|| self.expect_blocks(index));
        let Some(connection) = self.connections[index].as_ref() else { return };
        let Some(socket) = connection.socket.clone() else { return };
        let op = match scatter {
            Some(scatter) => Op::RecvInto { socket, scatter },
            None => Op::Recv { socket },
        };
        self.start(index, Purpose::Receive, 0, op);
    }

    /// Something came through a shared buffer, or filled it: a peer that is fast is received from in the other way.
    pub(super) fn note_shared(&mut self, index: usize, filled: bool) {
        if self.driver.kind() != IoKind::Uring {
            return;
        }
        let Some(open) = self.open_at(index) else { return };
        let Lane::Shared(streak) = open.lane else { return };
        let streak = if filled { streak.saturating_add(1) } else { 0 };
        open.lane = Lane::Shared(streak);
        let (torrent, peer) = (open.torrent, open.peer);
        let enough = |machine: &mut TorrentShard| machine.expected(peer).nth(FEWEST_BLOCKS - 1).is_some();
        if streak < FAST_AFTER || self.with_machine(torrent, enough) != Some(true) {
            return;
        }
        if let Some(open) = self.open_at(index) {
            open.lane = Lane::Leaving;
            self.driver.cancel(token(Purpose::Receive, index, 0));
        }
    }

    /// The receive into shared buffers ended: because it was asked to, or the connection did.
    pub(super) fn on_receive_ended(&mut self, now: Instant, index: usize, result: &io::Result<()>) {
        match self.open_at(index) {
            Some(open) if open.lane == Lane::Leaving && is_cancelled(result.as_ref().err()) => {
                open.lane = Lane::Landing(0);
                self.receive(index);
            }
            _ => self.close(now, index),
        }
    }

    /// Bytes came, into pieces as far as they are what was expected.
    pub(super) fn on_landed(
        &mut self,
        now: Instant,
        index: usize,
        mut scatter: Box<Scatter>,
        result: &io::Result<usize>,
    ) {
        let pieces = self.landings(index).map(|found| std::mem::take(&mut found.pieces)).unwrap_or_default();
        for (landing, &(torrent, piece)) in scatter.landings_mut().zip(&pieces) {
            if let Some(assembly) = self.assembly(torrent, piece) {
                assembly.buffer().settle(landing);
            }
        }
        let fits = scatter.as_expected();
        self.measure_landed(scatter.arrived().take(fits).map(<[u8]>::len).sum());
        for part in scatter.arrived().take(fits) {
            self.on_received(now, index, part);
        }
        // These lie where other blocks belong: they must be gone from there before those come.
        let strangers = scatter.arrived().skip(fits).collect::<Vec<_>>().concat();
        for (landing, &(torrent, piece)) in scatter.clear().zip(&pieces) {
            if let Some(assembly) = self.assembly(torrent, piece) {
                assembly.buffer().release(landing);
            }
        }
        if let Some(found) = self.landings(index) {
            found.give_back(scatter, pieces);
        }
        self.on_received(now, index, &strangers);
        match result {
            Ok(count) if *count > 0 => self.note_landed(index, *count),
            Err(error) if is_cancelled(Some(error)) => {}
            _ => return self.close(now, index),
        }
        self.receive(index);
    }

    /// Asks those receives to end that may be writing what was the piece's memory: it is not counted any more.
    pub(super) fn recall(&mut self, torrent: TorrentId, piece: PieceIndex) {
        for (index, connection) in self.connections.iter().enumerate() {
            let has = |connection: &super::connection::Connection| {
                connection.landings.pieces.contains(&(torrent, piece))
            };
            if connection.as_ref().is_some_and(has) {
                self.driver.cancel(token(Purpose::Receive, index, 0));
            }
        }
    }

    /// A peer that rests is received from through shared buffers: what its own receive needs is given back.
    pub(super) fn leave_doorstep(&mut self, index: usize) {
        let waits = self.landings(index).is_some_and(|found| found.pieces.is_empty());
        if let Some(open) = self.open_at(index).filter(|open| waits && matches!(open.lane, Lane::Landing(_)))
        {
            open.lane = Lane::Shared(0);
            self.driver.cancel(token(Purpose::Receive, index, 0));
        }
    }

    fn note_landed(&mut self, index: usize, count: usize) {
        let Some(open) = self.open_at(index) else { return };
        let Lane::Landing(streak) = open.lane else { return };
        let streak = if count < SMALL { streak + 1 } else { 0 };
        open.lane = if streak < SLOW_AFTER { Lane::Landing(streak) } else { Lane::Shared(0) };
    }

    /// Memory for the blocks that should come next; where none can be told, for what is read before more can.
    fn expect_blocks(&mut self, index: usize) -> Box<Scatter> {
        let found = self.landings(index);
        let (mut scatter, mut pieces) = found.map(Landings::take).unwrap_or_default();
        if let Some((torrent, peer)) = self.open_at(index).map(|open| (open.torrent, open.peer)) {
            let mut blocks = std::mem::take(&mut self.expected);
            blocks.clear();
            self.with_machine(torrent, |machine| blocks.extend(machine.expected(peer).take(MOST_BLOCKS)));
            self.scatter(index, torrent, &blocks, &mut scatter, &mut pieces);
            self.expected = blocks;
        }
        if let Some(found) = self.landings(index) {
            found.pieces = pieces;
        }
        if scatter.is_empty() {
            scatter.set_aside(self.room_for_others(index));
        }
        scatter
    }

    /// Room for what comes while no block can be told that has its place.
    fn room_for_others(&mut self, index: usize) -> usize {
        let Some(open) = self.open_at(index) else { return DOORSTEP };
        let (torrent, peer) = (open.torrent, open.peer);
        let awaits = self.with_machine(torrent, |machine| machine.awaits(peer)) == Some(true);
        if awaits { STRANGER } else { DOORSTEP }
    }

    fn scatter(
        &mut self,
        index: usize,
        torrent: TorrentId,
        blocks: &[Block],
        scatter: &mut Scatter,
        pieces: &mut Vec<(TorrentId, PieceIndex)>,
    ) {
        for &block in blocks {
            if self.assembly(torrent, block.piece()).is_none() {
                self.begin_assembly(torrent, block.piece());
            }
            if !self.expect_block(index, torrent, block, scatter, pieces) {
                break;
            }
        }
    }

    /// Adds the block. False where that is not possible: it is not what the stream goes on with, or its place is taken.
    fn expect_block(
        &mut self,
        index: usize,
        torrent: TorrentId,
        block: Block,
        scatter: &mut Scatter,
        pieces: &mut Vec<(TorrentId, PieceIndex)>,
    ) -> bool {
        let Some(local) = self.torrent(torrent) else { return false };
        let (span, begin) =
            (local.shared.layout.block_span(block), local.shared.layout.block_begin(block) as usize);
        let header =
            RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() }.block_header();
        let start = if scatter.is_empty() { self.first_missing(index, block, &header) } else { Some((0, 0)) };
        let Some((of_header, of_block)) = start else { return false };
        let Some(assembly) = self.assembly(torrent, block.piece()) else { return false };
        let range = begin + of_block..begin + span.len() as usize;
        let len = range.len();
        let is_same_piece = pieces.last() == Some(&(torrent, block.piece()));
        let behind = scatter.newest_landing().filter(|newest| is_same_piece && newest.end() == range.start);
        if !behind.is_some_and(|newest| assembly.buffer().land_more(newest, len)) {
            let Some(landing) = assembly.buffer().land(range) else {
                // One that is still waited for has its place, though others were asked for it since.
                self.recall(torrent, block.piece());
                return false;
            };
            scatter.add_landing(landing);
            pieces.push((torrent, block.piece()));
        }
        scatter.expect(&header[of_header..]);
        scatter.expect_in_newest(len);
        true
    }

    /// How much of the header and of the block came before, if the stream goes on with it.
    fn first_missing(&mut self, index: usize, block: Block, header: &[u8]) -> Option<(usize, usize)> {
        let open = self.open_at(index)?;
        match (open.decoder.within(), open.arriving) {
            (Within::Head(seen), None) => header.starts_with(seen).then_some((seen.len(), 0)),
            (Within::Block(_), Some((arriving, received))) => {
                (arriving == block).then_some((header.len(), received))
            }
            _ => None,
        }
    }

    fn assembly(&mut self, torrent: TorrentId, piece: PieceIndex) -> Option<&mut super::assembly::Assembly> {
        self.torrent(torrent)?.assemblies.get_mut(&piece)
    }

    fn landings(&mut self, index: usize) -> Option<&mut Landings> {
        Some(&mut self.connections[index].as_mut()?.landings)
    }
}

impl Landings {
    fn take(&mut self) -> (Box<Scatter>, Vec<(TorrentId, PieceIndex)>) {
        (self.scatter.take().unwrap_or_default(), std::mem::take(&mut self.pieces))
    }

    fn give_back(&mut self, scatter: Box<Scatter>, mut pieces: Vec<(TorrentId, PieceIndex)>) {
        pieces.clear();
        (self.scatter, self.pieces) = (Some(scatter), pieces);
    }
}

fn is_cancelled(error: Option<&io::Error>) -> bool {
    error.and_then(io::Error::raw_os_error) == Some(libc::ECANCELED)
}
