//! What a shard measures on the way of a block: nothing but a branch where it is not asked to.

use crossbeam::channel::Sender;
use ringtide_proto::layout::PieceIndex;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{PeerKey, Sink, TorrentShard};

use super::Shard;
use super::connection::Stage;
use crate::event::TorrentId;
use crate::metrics::{ConnectionMetrics, Metrics, ShardRecorder, TcpInfo};

impl Shard {
    /// The block that was arriving from the peer is here. One that nobody waits for says nothing: it may not have been
    /// asked for at all.
    pub(super) fn measure_block(&mut self, now: Instant, torrent: TorrentId, peer: PeerKey) {
        if self.recorder.is_none() {
            return;
        }
        let wanted = |machine: &mut TorrentShard| {
            let wanted = machine.arriving_sink(now, peer) != Sink::Discard;
            wanted.then(|| machine.arriving(peer)).flatten()
        };
        let arriving = self.with_machine(torrent, wanted).flatten();
        if let (Some(recorder), Some((asked_at, outstanding))) = (&mut self.recorder, arriving) {
            recorder.block(now, asked_at, outstanding);
        }
    }

    /// So many bytes came to where their blocks belong.
    pub(super) fn measure_landed(&mut self, bytes: usize) {
        if let Some(recorder) = &mut self.recorder {
            recorder.landed(bytes);
        }
    }

    /// The piece turned out right.
    pub(super) fn measure_piece(&mut self, now: Instant, torrent: TorrentId, piece: PieceIndex) {
        if self.recorder.is_none() {
            return;
        }
        let begun = self.with_machine(torrent, |machine| machine.begun_at(piece)).flatten();
        if let (Some(recorder), Some(begun)) = (&mut self.recorder, begun) {
            recorder.piece(now, begun);
        }
    }

    /// A piece was written past the page cache.
    pub(super) fn measure_write(&mut self, now: Instant, began: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.written(now, began);
        }
    }

    /// Answers with what was measured; without a recorder that is nothing, and the kernel is not asked.
    pub(super) fn send_metrics(&mut self, reply: &Sender<Metrics>) {
        let metrics = self
            .recorder
            .as_deref_mut()
            .map(ShardRecorder::take)
            .map(|metrics| Metrics { connections: self.connection_metrics(), ..metrics });
        // Whoever asked may have lost patience.
        let _ = reply.try_send(metrics.unwrap_or_default());
    }

    fn connection_metrics(&self) -> Vec<ConnectionMetrics> {
        let open = self.connections.iter().flatten().filter(|found| matches!(found.stage, Stage::Open(_)));
        open.filter_map(|connection| {
            let tcp = TcpInfo::of(connection.socket.as_ref()?)?;
            Some(ConnectionMetrics { peer: connection.addr, tcp })
        })
        .collect()
    }
}
