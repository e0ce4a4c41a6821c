//! Bytes in: messages to the machine, blocks to their buffers.

use ringtide_proto::layout::Block;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{PeerKey, ShardInput, Sink};
use ringtide_proto::wire::{Event, RawSpan};

use super::Shard;
use super::connection::Open;
use crate::event::TorrentId;

/// What an event asks of the shard once its borrow of the decoder is over.
enum Step {
    Nothing,
    Message(ringtide_proto::wire::Message),
    Begin(RawSpan),
    End,
    Broken(ringtide_proto::wire::WireError),
}

impl Shard {
    pub(super) fn on_received(&mut self, now: Instant, index: usize, bytes: &[u8]) {
        let mut input = bytes;
        loop {
            let Some(open) = self.connections[index].as_mut().and_then(super::connection::Connection::open)
            else {
                return;
            };
            let (torrent, peer) = (open.torrent, open.peer);
            let step = match open.decoder.decode(&mut input) {
                Ok(None) => return,
                Ok(Some(Event::Message(message))) => Step::Message(message),
                Ok(Some(Event::BlockBegin(span))) => Step::Begin(span),
                Ok(Some(Event::BlockData(data))) => {
                    self.on_block_data(now, index, torrent, peer, data);
                    Step::Nothing
                }
                Ok(Some(Event::BlockEnd)) => Step::End,
                Err(error) => Step::Broken(error),
            };
            match step {
                Step::Nothing => {}
                Step::Message(message) => self.input(now, torrent, ShardInput::Message(peer, message)),
                Step::Begin(span) => self.on_block_begin(now, index, torrent, peer, span),
                Step::End => self.on_block_end(now, index, torrent, peer),
                Step::Broken(error) => {
                    tracing::debug!(addr = %self.addr_of(index), %error, "a peer broke the protocol");
                    return self.close(now, index);
                }
            }
        }
    }

    fn on_block_begin(
        &mut self,
        now: Instant,
        index: usize,
        torrent: TorrentId,
        peer: PeerKey,
        span: RawSpan,
    ) {
        let sink = self.with_machine(torrent, |machine| machine.begin_block(now, peer, span));
        let block = match sink {
            Some(Sink::Piece(block) | Sink::Lent(block)) => Some((block, 0)),
            _ => None,
        };
        if let Some(open) = self.open_at(index) {
            open.arriving = block;
            open.scratch.clear();
        }
        self.run_actions(now, torrent);
    }

    /// A part of a block. Where it goes is asked each time: a block that came too slowly may be somebody else's.
    fn on_block_data(&mut self, now: Instant, index: usize, torrent: TorrentId, peer: PeerKey, data: &[u8]) {
        let shard = usize::from(self.id.0);
        self.counters().downloaded.add(data.len() as u64);
        let Some(local) = self.torrent(torrent) else { return };
        local.shared.counters[shard].downloaded.add(data.len() as u64);
        let sink = local.machine.as_mut().map_or(Sink::Discard, |machine| machine.arriving_sink(now, peer));
        let Some(open) = self.open_at(index) else { return };
        let Some((block, received)) = open.arriving else { return };
        open.arriving = Some((block, received + data.len()));
        match sink {
            Sink::Piece(_) => self.store(torrent, block, received, data),
            Sink::Lent(_) => open.scratch.extend_from_slice(data),
            Sink::Discard => {}
        }
    }

    fn on_block_end(&mut self, now: Instant, index: usize, torrent: TorrentId, peer: PeerKey) {
        let kept = self.with_machine(torrent, |machine| machine.arriving_sink(now, peer));
        if let Some(open) = self.open_at(index) {
            open.arriving = None;
        }
        if let Some(Sink::Piece(block)) = kept {
            self.finish_block(torrent, block);
        }
        self.measure_block(now, torrent, peer);
        self.input(now, torrent, ShardInput::BlockEnd(peer));
    }

    /// Stores a part of a block in its piece's buffer, which the first one makes.
    pub(super) fn store(&mut self, torrent: TorrentId, block: Block, offset: usize, data: &[u8]) {
        let piece = block.piece();
        let known = self.torrent(torrent).is_some_and(|local| local.assemblies.contains_key(&piece));
        if !known {
            self.begin_assembly(torrent, piece);
        }
        let Self { torrents, common, .. } = self;
        let Some(local) = torrents.get_mut(torrent.0 as usize).and_then(Option::as_mut) else { return };
        let begin = local.shared.layout.block_begin(block) as usize;
        let Some(assembly) = local.assemblies.get_mut(&piece) else { return };
        if assembly.store(begin + offset, data, &common.piece_buffers) {
            self.recall(torrent, piece);
        }
    }

    pub(super) fn open_at(&mut self, index: usize) -> Option<&mut Open> {
        self.connections[index].as_mut()?.open()
    }
}
