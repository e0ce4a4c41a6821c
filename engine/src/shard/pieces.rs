//! Hash jobs and writes: from the last block of a piece to `have`.

use std::io;
use std::sync::Arc;

use ringtide_proto::layout::{Block, PieceIndex};
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{ShardInput, Verdict};
use rustix::io::Errno;

use super::assembly::{Assembly, NextJob, take_buffer};
use super::token::{Purpose, token};
use super::{Shard, ToControl, ToShard};
use crate::driver::{IoKind, Op, Payload};
use crate::event::TorrentId;
use crate::hash_pool::{Answers, DirectBy, Final, HashDone, HashJob, Outcome, WriteJob};
use crate::mailbox::{MailSender, Sleeper};
use crate::storage::{DirectWrite, StorageError, Verified};

/// A write past the page cache that the driver carries out.
pub(super) struct PendingWrite {
    torrent: TorrentId,
    piece: Verified,
    write: DirectWrite,
    began: Instant,
    /// Writes of the same piece that are under way, this one included.
    siblings: Arc<std::sync::atomic::AtomicUsize>,
}

/// Where the answers to a torrent's hash jobs go.
pub(super) struct HashMail {
    pub(super) torrent: TorrentId,
    pub(super) mail: MailSender<ToShard>,
}

impl Answers for HashMail {
    fn post(&self, done: HashDone) {
        self.mail.post(ToShard::Hashed(self.torrent, done));
    }

    fn sleeper(&self) -> Option<&Arc<Sleeper>> {
        Some(self.mail.sleeper())
    }
}

impl Shard {
    pub(super) fn begin_assembly(&mut self, torrent: TorrentId, piece: PieceIndex) {
        let generation = self.next_generation();
        let pool = self.common.piece_buffers.clone();
        let Some(local) = self.torrent(torrent) else { return };
        let layout = local.shared.layout;
        let buffer = take_buffer(&pool, layout.piece_len(piece) as usize);
        local.assemblies.insert(piece, Assembly::new(buffer, generation, piece, &layout));
    }

    /// A block is in its buffer: a long piece is hashed as it grows.
    pub(super) fn finish_block(&mut self, torrent: TorrentId, block: Block) {
        let Some(local) = self.torrent(torrent) else { return };
        let Some(assembly) = local.assemblies.get_mut(&block.piece()) else { return };
        assembly.finish_block(block.number());
        self.hash_on(torrent, block.piece());
    }

    /// Every block is in its buffer.
    pub(super) fn verify(&mut self, now: Instant, torrent: TorrentId, piece: PieceIndex, digests: bool) {
        let Some(local) = self.torrent(torrent) else { return };
        let Some(assembly) = local.assemblies.get_mut(&piece) else {
            tracing::error!(?piece, "a piece without a buffer is to be verified");
            return self.input(now, torrent, ShardInput::Verified(piece, Verdict::Wrong(Vec::new())));
        };
        assembly.finish();
        assembly.wants_digests = digests;
        self.hash_on(torrent, piece);
    }

    /// Submits what can be hashed of the piece now.
    fn hash_on(&mut self, torrent: TorrentId, piece: PieceIndex) {
        let direct_by = if self.driver.kind() == IoKind::Uring { DirectBy::Caller } else { DirectBy::Worker };
        let Some(local) = self.torrent(torrent) else { return };
        let Some(assembly) = local.assemblies.get_mut(&piece) else { return };
        let key = u64::from(assembly.generation) << 32 | u64::from(piece.number());
        let want_digests = assembly.wants_digests;
        let reply = Arc::clone(&local.hashed);
        // In the endgame every piece may be the one that all wait for. One that was bad before is asked of one peer
        // alone, which is judged by it.
        let urgent = want_digests || local.shared.pieces.free_count() == 0;
        let job = match assembly.next_job() {
            NextJob::None => return,
            NextJob::Step(state, data) => HashJob { key, state, data, last: None, urgent, reply },
            NextJob::Final(state, data, whole) => {
                let expected = local.shared.metainfo.piece_hashes()[piece.index()];
                let write = Some(WriteJob { storage: Arc::clone(&local.shared.storage), direct_by });
                let last = Some(Final { piece, whole, expected, want_digests, write });
                HashJob { key, state, data, last, urgent, reply }
            }
        };
        self.common.hash_pool.submit(job);
    }

    pub(super) fn on_hashed(&mut self, now: Instant, torrent: TorrentId, done: HashDone) {
        let Some(local) = self.torrent(torrent) else { return };
        let Some(piece) = local.shared.layout.piece((done.key & 0xffff_ffff) as u32) else { return };
        let generation = (done.key >> 32) as u32;
        let Some(assembly) = local.assemblies.get_mut(&piece).filter(|found| found.generation == generation)
        else {
            return;
        };
        match done.outcome {
            Outcome::Partial(state) => {
                assembly.resume(state);
                self.hash_on(torrent, piece);
            }
            Outcome::Good { piece: verified, digests, written } => {
                local.assemblies.remove(&piece);
                self.measure_piece(now, torrent, piece);
                let digests = digests.map(|digests| digests.to_vec());
                self.keep_hot(now, torrent, &verified);
                self.input(now, torrent, ShardInput::Verified(piece, Verdict::Right(digests)));
                match written {
                    Some(Ok(writes)) if !writes.is_empty() => self.write(now, torrent, &verified, writes),
                    Some(Err(error)) => self.on_piece_written(now, torrent, piece, Err(error)),
                    _ => self.on_piece_written(now, torrent, piece, Ok(())),
                }
            }
            Outcome::Bad { digests, .. } => {
                self.input(now, torrent, ShardInput::Verified(piece, Verdict::Wrong(digests.to_vec())));
            }
            Outcome::Lost => self.report(ToControl::ShardFailed("a hash worker failed".to_owned())),
        }
    }

    /// Peers may ask for the piece at once, and it is not in the page cache.
    fn keep_hot(&mut self, now: Instant, torrent: TorrentId, piece: &Verified) {
        if self.torrent(torrent).is_some_and(|local| local.shared.storage.bypasses_cache()) {
            self.common.hot.keep(now, torrent.0, piece);
        }
    }

    fn write(&mut self, now: Instant, torrent: TorrentId, piece: &Verified, writes: Vec<DirectWrite>) {
        let siblings = Arc::new(std::sync::atomic::AtomicUsize::new(writes.len()));
        for write in writes {
            let op = Op::Write {
                file: Arc::clone(&write.fd),
                offset: write.offset,
                data: Payload::from(piece.data().slice(write.range.clone())),
            };
            let (piece, siblings) = (piece.clone(), Arc::clone(&siblings));
            let pending = PendingWrite { torrent, piece, write, began: now, siblings };
            let at = self.writes.iter().position(Option::is_none).unwrap_or_else(|| {
                self.writes.push(None);
                self.writes.len() - 1
            });
            self.writes[at] = Some(pending);
            self.driver.push(token(Purpose::Write, at, 0), op);
        }
    }

    pub(super) fn on_write_ended(&mut self, now: Instant, at: usize, result: io::Result<()>) {
        let Some(pending) = self.writes.get_mut(at).and_then(Option::take) else { return };
        let (torrent, piece) = (pending.torrent, pending.piece.piece());
        match result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
            Ok(()) => {
                if pending.siblings.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    self.measure_write(now, pending.began);
                    self.on_piece_written(now, torrent, piece, Ok(()));
                }
            }
            Err(Errno::INVAL) => self.write_through_cache(pending),
            Err(errno) => {
                let Some(local) = self.torrent(torrent) else { return };
                let error = local.shared.storage.write_error(pending.write.file(), errno);
                self.on_piece_written(now, torrent, piece, Err(error));
            }
        }
    }

    /// The kernel refused a direct write: a worker writes it through the page cache.
    fn write_through_cache(&mut self, pending: PendingWrite) {
        let Some(local) = self.torrent(pending.torrent) else { return };
        let storage = Arc::clone(&local.shared.storage);
        let mail = self.links[usize::from(self.id.0)].clone();
        self.common.hash_pool.run(move || {
            let result = storage.write_through_cache(&pending.write, &pending.piece);
            let last = pending.siblings.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1;
            if last || result.is_err() {
                mail.send(ToShard::Written(pending.torrent, pending.piece.piece(), result));
            }
        });
    }

    pub(super) fn on_piece_written(
        &mut self,
        now: Instant,
        torrent: TorrentId,
        piece: PieceIndex,
        result: Result<(), StorageError>,
    ) {
        let written = result.is_ok();
        if let Err(error) = result {
            if let Some(local) = self.torrent(torrent) {
                local.failed = true;
            }
            self.report(ToControl::StorageFailed(torrent, error));
        }
        self.input(now, torrent, ShardInput::Written(piece, written));
    }
}
