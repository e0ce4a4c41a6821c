//! What all threads share of a torrent, and the counters that each shard keeps: written by one thread, read by
//! any, without locks.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use ringtide_proto::id::{InfoHash, PeerId};
use ringtide_proto::layout::PieceLayout;
use ringtide_proto::limiter::RateLimit;
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::torrent::{Policy, SharedPieces};

use crate::config::Rates;
use crate::event::{ShardStats, TorrentId};
use crate::storage::Storage;

/// What all threads share of a torrent.
pub(crate) struct SharedTorrent {
    pub(crate) id: TorrentId,
    pub(crate) info_hash: InfoHash,
    /// What we call ourselves in this torrent.
    pub(crate) our_id: PeerId,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) layout: PieceLayout,
    pub(crate) storage: Arc<Storage>,
    pub(crate) pieces: Arc<SharedPieces>,
    pub(crate) limits: RateLimits,
    pub(crate) policy: Policy,
    /// One entry a shard.
    pub(crate) counters: Box<[CachePadded<Counters>]>,
}

impl SharedTorrent {
    /// Bytes that are not on disk and right, to within the difference between the last piece and the others.
    pub(crate) fn left(&self) -> u64 {
        let (total, have) = (self.layout.piece_count(), self.pieces.have_count());
        let have_bytes = u64::from(have) * u64::from(self.layout.nominal_piece_len());
        if have == total { 0 } else { self.layout.total_len().saturating_sub(have_bytes) }
    }

    /// How much of all pieces is there.
    pub(crate) fn whole(&self) -> Share {
        let bytes = self.layout.total_len();
        Share {
            pieces: self.layout.piece_count(),
            have: self.pieces.have_count(),
            bytes,
            have_bytes: bytes - self.left(),
        }
    }

    /// How much of those that are wanted is there.
    pub(crate) fn wanted(&self) -> Share {
        let Some(selection) = self.pieces.selection() else { return self.whole() };
        let (pieces, bytes) = (selection.wanted_count(), selection.wanted_bytes());
        let have = pieces - self.pieces.missing_count();
        let some = u64::from(have) * u64::from(self.layout.nominal_piece_len());
        Share { pieces, have, bytes, have_bytes: if have == pieces { bytes } else { some.min(bytes) } }
    }
}

/// How much of some pieces is on disk and right: bytes to within the difference between the last piece and the others.
pub(crate) struct Share {
    pub(crate) pieces: u32,
    pub(crate) have: u32,
    pub(crate) bytes: u64,
    pub(crate) have_bytes: u64,
}

/// The limits on rates that a torrent has of its own, or that all share.
#[derive(Debug, Default)]
pub(crate) struct RateLimits {
    pub(crate) up: Option<Arc<RateLimit>>,
    pub(crate) down: Option<Arc<RateLimit>>,
}

impl RateLimits {
    pub(crate) fn new(rates: Rates) -> Self {
        let limit = |rate: Option<NonZeroU64>| rate.map(|rate| Arc::new(RateLimit::new(rate)));
        Self { up: limit(rates.up), down: limit(rates.down) }
    }
}

/// What one shard counts: of a torrent, or of all.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) peers: Counter,
    pub(crate) downloaded: Counter,
    pub(crate) uploaded: Counter,
    pub(crate) wasted: Counter,
}

impl Counters {
    pub(crate) fn of_shards(shards: u8) -> Box<[CachePadded<Self>]> {
        (0..shards).map(|_| CachePadded::default()).collect()
    }

    pub(crate) fn stats(&self) -> ShardStats {
        ShardStats {
            peers: self.peers.value(),
            downloaded: self.downloaded.value(),
            uploaded: self.uploaded.value(),
        }
    }
}

/// A number that is read while it changes. Nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}
