//! Messages and blocks out. Messages are pulled from the machine when the socket can take them; blocks are read
//! from disk first, up to 64 at a time, and no read is begun for a peer whose previous send is not complete.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use ringtide_proto::layout::{PieceIndex, Span};
use ringtide_proto::limits::{BLOCK_LEN, MAX_REQUEST_LEN};
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{Outgoing, ShardInput};
use ringtide_proto::wire::{Message, RawSpan};

use super::connection::Open;
use super::token::Purpose;
use super::{Shard, ToShard};
use crate::driver::{Op, Payload, SendBatch};
use crate::event::TorrentId;
use crate::storage::{AlignedBuf, ReadSource, Storage, StorageError};

/// Most blocks of one send: 1 MiB, beyond which a larger batch saves nothing.
const MAX_BLOCKS: usize = 64;

/// Fewest blocks of one send, so that a slow peer's send is worth its system call.
const MIN_BLOCKS: usize = 4;

/// A send takes no more than this part of the memory that is free, so that a few dozen peers that stop reading do
/// not have all of it.
const SHARES_OF_FREE: usize = 16;

/// A send holds about this much of a peer's rate, so that a cancel or a choke comes through.
const SEND_SPAN: Duration = Duration::from_millis(50);

/// Bytes of small messages in one send.
const MAX_CONTROL: usize = 64 << 10;

/// Most files of one send that are read by an operation each: beyond it their descriptors and whole pages of
/// buffers are too many, and a worker reads them one after the other into one buffer.
const MAX_FILE_PARTS: usize = 64;

/// What padding reads as.
static ZEROS: [u8; MAX_REQUEST_LEN as usize] = [0; MAX_REQUEST_LEN as usize];

/// Blocks on their way from disk to the peer.
pub(super) struct Upload {
    spans: Vec<Span>,
    /// In the order of the spans, without gaps.
    parts: Vec<Part>,
    /// Reads under way.
    reads: usize,
    failed: bool,
}

/// A part of what is read: bytes of one file, or padding.
struct Part {
    len: usize,
    data: Option<Payload>,
}

impl Upload {
    /// A part that is being read.
    fn await_part(&mut self, len: usize) {
        self.parts.push(Part { len, data: None });
        self.reads += 1;
    }

    /// The payload as ranges of parts, from `at` bytes into the upload.
    fn payload(&self, at: usize, len: usize) -> impl Iterator<Item = (Payload, Range<usize>)> + '_ {
        let mut start = 0;
        self.parts.iter().filter_map(move |part| {
            let (from, to) = (at.max(start), (at + len).min(start + part.len));
            let begin = start;
            start += part.len;
            (from < to).then(|| (part.payload(), from - begin..to - begin))
        })
    }
}

/// A read that an upload needs.
enum PlannedRead {
    /// Of a file, at an offset, so many bytes.
    File(Arc<OwnedFd>, u64, usize),
    /// Of so many files that a worker reads them: piece, begin, bytes.
    Scattered(PieceIndex, u32, usize),
    /// So many bytes of padding.
    Zeros(usize),
    /// Bytes that are in memory.
    Memory(Bytes),
}

impl Part {
    fn payload(&self) -> Payload {
        match &self.data {
            Some(data) => data.clone(),
            None => Payload::from(Bytes::from_static(&ZEROS)),
        }
    }
}

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
                self.read_postponed(now, index);
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
        if open.upload.is_some() || !open.postponed.is_empty() {
            connection.batch = Some(batch);
            return self.look_again(index);
        }
        let (torrent, peer, most) = (open.torrent, open.peer, blocks_at_once(open));
        let most_bytes = self.bytes_at_once(most);
        let (mut spans, mut payload) = (Vec::new(), 0);
        let mut drained = false;
        while spans.len() < most && payload < most_bytes && batch.bytes_mut().len() < MAX_CONTROL {
            match self.with_machine(torrent, |machine| machine.poll_message(now, peer)).flatten() {
                // The machine gives messages before blocks, so none of them is about a block in `spans`.
                Some(Outgoing::Message(message)) => message.encode(batch.bytes_mut()),
                Some(Outgoing::Block(span)) => {
                    payload += span.len() as usize;
                    spans.push(span);
                }
                None => {
                    drained = true;
                    break;
                }
            }
        }
        if let Some(connection) = self.connections[index].as_mut() {
            connection.batch = Some(batch);
        }
        if !drained {
            self.look_again(index);
        }
        if spans.is_empty() {
            self.send_batch(now, index, 0);
        } else if let Some(open) = self.open_at(index) {
            open.postponed.extend(spans);
            self.read_postponed(now, index);
        }
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

    /// Begins to read the blocks that were taken from the machine, as far as there are buffers.
    fn read_postponed(&mut self, now: Instant, index: usize) {
        let Some(open) = self.open_at(index) else { return };
        if open.postponed.is_empty() || open.upload.is_some() {
            return;
        }
        let (torrent, spans) = (open.torrent, Vec::from_iter(open.postponed.iter().copied()));
        match self.begin_reads(index, torrent, &spans) {
            Ok(Some(upload)) => {
                let done = upload.reads == 0;
                if let Some(open) = self.open_at(index) {
                    open.postponed.clear();
                    open.upload = Some(upload);
                }
                if done {
                    self.send_upload(now, index);
                }
            }
            Ok(None) => {
                // What else is in the batch waits with them, until sends of others end.
                self.starved.push_back(index);
            }
            Err(error) => {
                // It concerns this peer only: pieces that are being fetched do not depend on it.
                tracing::warn!(%error, "what a peer asked for cannot be read");
                self.close(now, index);
            }
        }
    }

    /// Starts the reads for the spans; none where there is no buffer left.
    fn begin_reads(
        &mut self,
        index: usize,
        torrent: TorrentId,
        spans: &[Span],
    ) -> Result<Option<Upload>, StorageError> {
        let Some(local) = self.torrent(torrent) else { return Ok(None) };
        let storage = Arc::clone(&local.shared.storage);
        let reads = plan(&storage, spans)?;
        let mut buffers = Vec::new();
        for read in &reads {
            let buffer = match read {
                PlannedRead::Zeros(_) | PlannedRead::Memory(_) => None,
                PlannedRead::File(_, _, len) | PlannedRead::Scattered(.., len) => {
                    let Some(buffer) = self.common.upload_buffers.try_take_aligned(*len) else {
                        return Ok(None);
                    };
                    Some(buffer)
                }
            };
            buffers.push(buffer);
        }
        let mut upload = Upload { spans: spans.to_vec(), parts: Vec::new(), reads: 0, failed: false };
        for (read, buffer) in reads.into_iter().zip(buffers) {
            // Its place among the parts, which is not its place in the plan: long padding is several parts.
            let number = upload.parts.len();
            match (read, buffer) {
                (PlannedRead::File(file, offset, len), Some(buf)) => {
                    self.start(index, Purpose::Read, number, Op::Read { file, offset, buf, len });
                    upload.await_part(len);
                }
                (PlannedRead::Scattered(piece, begin, len), Some(buf)) => {
                    self.gather(index, number, &storage, (piece, begin, len), buf);
                    upload.await_part(len);
                }
                (PlannedRead::Memory(bytes), _) => {
                    upload.parts.push(Part { len: bytes.len(), data: Some(bytes.into()) });
                }
                (
                    PlannedRead::File(.., len) | PlannedRead::Scattered(.., len) | PlannedRead::Zeros(len),
                    _,
                ) => {
                    upload.parts.extend(zeros(len));
                }
            }
        }
        Ok(Some(upload))
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
        self.operation_ended(index, Purpose::Read);
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
        upload.reads -= 1;
        let wanted = upload.parts.get(part).map_or(0, |part| part.len);
        match buf.filter(|buf| buf.len() == wanted) {
            Some(buf) => upload.parts[part].data = Some(buf.into_frozen().into()),
            None => upload.failed = true,
        }
        if upload.reads == 0 {
            if upload.failed {
                // The file shrank or the disk fails: this peer cannot be served from it.
                tracing::warn!(addr = %self.addr_of(index), "what a peer asked for can no longer be read");
                self.close(now, index);
            } else {
                self.send_upload(now, index);
            }
        }
    }

    /// Everything that was to be read is here.
    fn send_upload(&mut self, now: Instant, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let Some(mut batch) = connection.batch.take() else { return };
        let Some(upload) = connection.open().and_then(|open| open.upload.take()) else { return };
        let mut at = 0;
        for span in &upload.spans {
            let raw = RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() };
            Message::Piece(raw).encode(batch.bytes_mut());
            let len = span.len() as usize;
            upload.payload(at, len).for_each(|(payload, range)| batch.push_payload(payload, range));
            at += len;
        }
        connection.batch = Some(batch);
        self.send_batch(now, index, at as u64);
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
        if self.open_at(index).is_some_and(|open| open.wants_send) {
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

/// The reads that the spans need.
fn plan(storage: &Storage, spans: &[Span]) -> Result<Vec<PlannedRead>, StorageError> {
    let (mut reads, mut file_parts) = (Vec::new(), 0);
    for (piece, range) in runs(spans) {
        let (begin, len) = (range.start, range.end - range.start);
        file_parts += storage.file_parts(piece, begin, len);
        if file_parts > MAX_FILE_PARTS {
            reads.push(PlannedRead::Scattered(piece, begin, len as usize));
            continue;
        }
        let parts = storage.read_plan(piece, begin, len)?;
        reads.extend(parts.into_iter().map(|part| match part.source {
            ReadSource::File { fd, offset, .. } => PlannedRead::File(fd, offset, part.range.len()),
            ReadSource::Zeros => PlannedRead::Zeros(part.range.len()),
            ReadSource::Memory(bytes) => PlannedRead::Memory(bytes),
        }));
    }
    Ok(reads)
}

/// Spans that follow each other in one piece, as one range: they are read at once.
fn runs(spans: &[Span]) -> Vec<(PieceIndex, Range<u32>)> {
    let mut runs: Vec<(PieceIndex, Range<u32>)> = Vec::new();
    for span in spans {
        let end = span.begin() + span.len();
        match runs.last_mut() {
            Some((piece, range)) if *piece == span.piece() && range.end == span.begin() => range.end = end,
            _ => runs.push((span.piece(), span.begin()..end)),
        }
    }
    runs
}

/// Padding, in parts that the static zeros cover.
fn zeros(len: usize) -> impl Iterator<Item = Part> {
    let step = ZEROS.len();
    (0..len.div_ceil(step)).map(move |number| Part { len: step.min(len - number * step), data: None })
}
