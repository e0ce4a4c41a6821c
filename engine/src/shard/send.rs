//! Messages and blocks out. Messages are pulled from the machine when the socket can take them; blocks are read
//! from disk first, up to 64 at a time, and no read is begun for a peer whose previous send is not complete.

use std::sync::Arc;

use ringtide_proto::layout::PieceIndex;
use ringtide_proto::limits::BLOCK_LEN;
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{Outgoing, PeerKey, ShardInput, TorrentShard};

use super::connection::Open;
use super::token::Purpose;
use super::upload::{Read, Source, Upload};
use super::{Shard, ToShard, upload};
use crate::driver::{Op, SendBatch};
use crate::event::TorrentId;
use crate::storage::{AlignedBuf, Storage, StorageError};

/// Most blocks of one send: 1 MiB, beyond which a larger batch saves nothing.
const MAX_BLOCKS: usize = 64;

/// Fewest blocks of one send, so that a slow peer's send is worth its system call.
const MIN_BLOCKS: usize = 4;

/// A send takes no more than this part of the memory that is free, so that a few dozen peers that stop reading do
/// not have all of it.
const SHARES_OF_FREE: usize = 16;

/// A send holds about this much of a peer's rate, so that a cancel or a choke comes through.
const SEND_SPAN: Duration = Duration::from_millis(50);

/// Blocks that are read into the page cache ahead of what is being sent to a peer: 8 MiB, which keeps a disk busy.
const READ_AHEAD: usize = 512;

/// Fewer blocks are not worth the telling while others are being read.
const LEAST_AHEAD: usize = 64;

/// Empty uploads that are kept to be used again: 64 of some 5 KB.
const MOST_SPARE: usize = 64;

/// Bytes of small messages in one send.
const MAX_CONTROL: usize = 64 << 10;

impl Shard {
    pub(super) fn make_ready(&mut self, index: usize) {
        if let Some(open) = self.open_at(index)
            && !std::mem::replace(&mut open.wants_send, true)
        {
            self.ready.push_back(index);
        }
    }

    /// Sends to every connection that has something and whose socket can take it.
    pub(super) fn serve(&mut self, now: Instant) {
        for _ in 0..self.starved.len() {
            if let Some(index) = self.starved.pop_front() {
                self.resume_upload(now, index);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { return };
            if let Some(open) = self.open_at(index) {
                open.wants_send = false;
                self.fill_batch(now, index);
            }
        }
    }

    /// Pulls what the peer is to get into the batch, and sends it or reads what it needs first.
    fn fill_batch(&mut self, now: Instant, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let Some(mut batch) = connection.batch.take() else {
            // A send is under way: its completion looks again.
            return self.look_again(index);
        };
        let Some(open) = connection.open() else { return };
        if open.upload.is_some() {
            let (torrent, peer) = (open.torrent, open.peer);
            return self.send_control(now, index, torrent, peer, batch);
        }
        let (torrent, peer, most) = (open.torrent, open.peer, blocks_at_once(open));
        let most_bytes = self.bytes_at_once(most);
        let (mut upload, mut payload) = (self.spare_uploads.pop().unwrap_or_default(), 0);
        let mut drained = false;
        while upload.spans.len() < most && payload < most_bytes && batch.bytes_mut().len() < MAX_CONTROL {
            match self.with_machine(torrent, |machine| machine.poll_message(now, peer)).flatten() {
                // The machine gives messages before blocks, so none of them is about a block in `spans`.
                Some(Outgoing::Message(message)) => message.encode(batch.bytes_mut()),
                Some(Outgoing::Block(span)) => {
                    payload += span.len() as usize;
                    upload.spans.push(span);
                }
                None => {
                    drained = true;
                    break;
                }
            }
        }
        // Blocks may wait for their turn from now on.
        self.plan(torrent);
        if let Some(connection) = self.connections[index].as_mut() {
            connection.batch = Some(batch);
        }
        if upload.spans.is_empty() {
            self.spare(upload);
            if !drained {
                self.look_again(index);
            }
            self.send_batch(now, index, 0);
        } else {
            self.begin_upload(now, index, torrent, upload);
        }
    }

    /// Sends messages alone: blocks are still being read, or wait for memory to be read into, which is no reason for a
    /// request of ours to wait.
    fn send_control(
        &mut self,
        now: Instant,
        index: usize,
        torrent: TorrentId,
        peer: PeerKey,
        mut batch: SendBatch,
    ) {
        while batch.bytes_mut().len() < MAX_CONTROL {
            let next = self.with_machine(torrent, |machine| machine.poll_control(now, peer)).flatten();
            let Some(message) = next else { break };
            message.encode(batch.bytes_mut());
        }
        if let Some(connection) = self.connections[index].as_mut() {
            connection.batch = Some(batch);
        }
        self.send_batch(now, index, 0);
    }

    /// Bytes of blocks for a send of `blocks` of them, as a peer may ask for eight times as much at a time. Less as
    /// memory runs low: what is sent to peers that do not read is held until they are given up.
    fn bytes_at_once(&self, blocks: usize) -> usize {
        let share = self.common.upload_buffers.free_bytes() / SHARES_OF_FREE;
        (blocks * BLOCK_LEN as usize).min(share.max(MIN_BLOCKS * BLOCK_LEN as usize))
    }

    /// There is more for the peer once what is under way is done.
    fn look_again(&mut self, index: usize) {
        if let Some(open) = self.open_at(index) {
            open.wants_send = true;
        }
    }

    /// An upload that waited for buffers tries again.
    fn resume_upload(&mut self, now: Instant, index: usize) {
        let Some(open) = self.open_at(index) else { return };
        let torrent = open.torrent;
        if let Some(upload) = open.upload.take_if(|upload| upload.is_waiting()) {
            self.begin_upload(now, index, torrent, upload);
        }
    }

    /// Begins to read what is to be sent, as far as there are buffers. What the page cache has is sent at once.
    fn begin_upload(&mut self, now: Instant, index: usize, torrent: TorrentId, mut upload: Upload) {
        let Some(local) = self.torrent(torrent) else { return };
        let storage = Arc::clone(&local.shared.storage);
        let common = &self.common;
        let hot = |piece| {
            if storage.bypasses_cache() { common.hot.find(now, torrent.0, piece) } else { None }
        };
        if let Err(error) = upload.plan(&storage, hot) {
            // It concerns this peer only: pieces that are being fetched do not depend on it.
            tracing::warn!(%error, "what a peer asked for cannot be read");
            return self.close(now, index);
        }
        self.read_ahead(index, torrent, &storage, &upload);
        if !upload.take_buffers(&self.common.upload_buffers) {
            upload.wait();
            self.starved.push_back(index);
            self.keep_upload(index, upload);
            return self.make_ready(index);
        }
        self.begin_reads(index, &storage, &mut upload);
        let ready = upload.is_ready();
        self.keep_upload(index, upload);
        // While it is not, what else there is for the peer does not wait with it.
        if ready { self.send_upload(now, index) } else { self.make_ready(index) }
    }

    /// Once something had to come from a disk, has what the peer is to get next read into the page cache meanwhile. Block
    /// after block, a disk would do one short read at a time. No more is read than the peer asked for.
    fn read_ahead(&mut self, index: usize, torrent: TorrentId, storage: &Arc<Storage>, upload: &Upload) {
        let Some(open) = self.open_at(index) else { return };
        let peer = open.peer;
        let known = open.ahead.map(|ahead| ahead.saturating_sub(upload.spans.len()));
        open.ahead = known.or(upload.is_cold().then_some(0));
        let Some(ahead) = open.ahead.filter(|&ahead| ahead < READ_AHEAD / 2) else { return };
        let queued = |machine: &mut TorrentShard| {
            machine.queued_uploads(peer).take(READ_AHEAD).skip(ahead).collect::<Vec<_>>()
        };
        let spans = self.with_machine(torrent, queued).unwrap_or_default();
        if spans.len() < if ahead > 0 { LEAST_AHEAD } else { 1 } {
            return;
        }
        if let Some(open) = self.open_at(index) {
            open.ahead = Some(ahead + spans.len());
        }
        let storage = Arc::clone(storage);
        self.common.hash_pool.run(move || {
            let mut rest = &spans[..];
            while let Some((piece, range, count)) = upload::run(rest) {
                storage.will_need(piece, range.start, range.end - range.start);
                rest = &rest[count..];
            }
        });
    }

    /// Keeps an empty upload to be used again.
    fn spare(&mut self, upload: Upload) {
        if self.spare_uploads.len() < MOST_SPARE {
            self.spare_uploads.push(upload);
        }
    }

    fn keep_upload(&mut self, index: usize, upload: Upload) {
        if let Some(open) = self.open_at(index) {
            open.upload = Some(upload);
        }
    }

    fn begin_reads(&mut self, index: usize, storage: &Arc<Storage>, upload: &mut Upload) {
        let mut next = 0;
        while let Some(Read { number, len, source, buffer }) = upload.begin_read(next) {
            next = number + 1;
            match source {
                Source::File(file, offset) => {
                    self.start(index, Purpose::Read, number, Op::Read { file, offset, buf: buffer, len });
                }
                Source::Scattered(piece, begin) => {
                    self.gather(index, number, storage, (piece, begin, len), buffer);
                }
                Source::Hot(data) => {
                    let mut buffer = buffer;
                    buffer.set_len(len);
                    buffer.as_mut_slice().copy_from_slice(data.as_slice());
                    upload.end_read(number, Some(buffer.into_frozen()));
                }
                Source::Reading | Source::Read(_) | Source::Mapped(_) | Source::Memory(_) | Source::Zeros => {
                }
            }
        }
    }

    /// Has a worker read what lies in many files. The connection keeps its place until the answer is here, as with
    /// an operation of the driver.
    fn gather(
        &mut self,
        index: usize,
        part: usize,
        storage: &Arc<Storage>,
        (piece, begin, len): (PieceIndex, u32, usize),
        mut buf: AlignedBuf,
    ) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        connection.operations += 1;
        let (storage, mail) = (Arc::clone(storage), self.links[usize::from(self.id.0)].clone());
        self.common.hash_pool.run(move || {
            buf.set_len(len);
            let result = storage.read_blocking(piece, begin, buf.as_mut_slice());
            mail.send(ToShard::Gathered(index, part, result.map(|()| buf)));
        });
    }

    pub(super) fn on_gathered(
        &mut self,
        now: Instant,
        index: usize,
        part: usize,
        result: Result<AlignedBuf, StorageError>,
    ) {
        self.operation_ended(index);
        if let Err(error) = &result {
            tracing::warn!(%error, "reading what a peer asked for");
        }
        self.on_part(now, index, part, result.ok());
        self.release_if_over(index, Purpose::Read);
    }

    pub(super) fn on_read(
        &mut self,
        now: Instant,
        index: usize,
        part: usize,
        buf: AlignedBuf,
        read: Option<usize>,
    ) {
        self.on_part(now, index, part, read.map(|_| buf));
    }

    /// A part is here, unless it could not be read.
    fn on_part(&mut self, now: Instant, index: usize, part: usize, buf: Option<AlignedBuf>) {
        let Some(open) = self.open_at(index) else { return };
        let Some(upload) = open.upload.as_mut() else { return };
        upload.end_read(part, buf.map(AlignedBuf::into_frozen));
        match (upload.reads, upload.failed) {
            (0, false) => self.send_upload(now, index),
            (0, true) => {
                // The file shrank or the disk fails: this peer cannot be served from it.
                tracing::warn!(addr = %self.addr_of(index), "what a peer asked for can no longer be read");
                self.close(now, index);
            }
            _ => {}
        }
    }

    /// Everything that was to be read is here: it is sent now, or when the messages that are being sent are out.
    fn send_upload(&mut self, now: Instant, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let Some(mut batch) = connection.batch.take() else { return };
        let Some(open) = connection.open() else { return };
        let Some(mut upload) = open.upload.take() else { return };
        open.wants_send = true;
        let payload = upload.fill(&mut batch);
        connection.batch = Some(batch);
        self.spare(upload);
        self.send_batch(now, index, payload);
    }

    /// Hands the batch to the driver; `payload` of its bytes are blocks.
    pub(super) fn send_batch(&mut self, now: Instant, index: usize, payload: u64) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        if connection.batch.as_ref().is_none_or(SendBatch::is_empty) {
            return;
        }
        let (Some(socket), Some(batch)) = (connection.socket.clone(), connection.batch.take()) else {
            return;
        };
        if let Some(open) = connection.open() {
            open.sending = Some((payload, now));
        }
        self.start(index, Purpose::Send, 0, Op::Send { socket, batch });
    }

    pub(super) fn on_sent(&mut self, now: Instant, index: usize, mut batch: SendBatch, sent: bool) {
        batch.clear();
        let Some(connection) = self.connections[index].as_mut() else { return };
        connection.batch = Some(batch);
        if !sent {
            return self.close(now, index);
        }
        let Some(open) = connection.open() else { return };
        let (torrent, peer) = (open.torrent, open.peer);
        if let Some((payload, began)) = open.sending.take().filter(|(payload, _)| *payload > 0) {
            open.upload_rate = rate(payload, now.since(began));
            self.count_sent(torrent, payload);
            self.input(now, torrent, ShardInput::Sent(peer, payload));
        }
        let Some(open) = self.open_at(index) else { return };
        if open.upload.as_ref().is_some_and(Upload::is_ready) {
            self.send_upload(now, index);
        } else if open.wants_send {
            self.ready.push_back(index);
        }
    }

    fn count_sent(&mut self, torrent: TorrentId, bytes: u64) {
        let shard = usize::from(self.id.0);
        self.counters().uploaded.add(bytes);
        if let Some(local) = self.torrent(torrent) {
            local.shared.counters[shard].uploaded.add(bytes);
        }
    }
}

fn rate(bytes: u64, span: Duration) -> u64 {
    (u128::from(bytes) * 1_000_000_000 / span.as_nanos().max(1)).min(u128::from(u64::MAX)) as u64
}

/// As many blocks as the peer takes in [`SEND_SPAN`].
fn blocks_at_once(open: &Open) -> usize {
    let bytes = u128::from(open.upload_rate) * SEND_SPAN.as_nanos() / 1_000_000_000;
    let blocks = usize::try_from(bytes / u128::from(BLOCK_LEN)).unwrap_or(MAX_BLOCKS);
    if open.upload_rate == 0 { MAX_BLOCKS / 4 } else { blocks.clamp(MIN_BLOCKS, MAX_BLOCKS) }
}
