//! A shard for tests, whose loop does not run: it has one torrent and no peers.

use std::sync::Arc;

use ringtide_proto::id::PeerId;
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::torrent::{Budget, Policy, ShardId, SharedPieces};

use super::{Common, Counters, RateLimits, Seats, Shard, SharedTorrent};
use crate::clock::Clock;
use crate::driver::{Driver, DriverConfig, IoKind};
use crate::event::TorrentId;
use crate::hash_pool::HashPool;
use crate::mailbox::{Sleeper, mailbox, shared};
use crate::storage::{BufferPool, Content, HotPieces, Mode, Storage, Synthetic};

/// The torrent of [`shard`].
pub(super) const TORRENT: TorrentId = TorrentId(0);

/// The first of two shards, with a torrent of four pieces in the state that `pieces` says.
pub(super) fn shard(pieces: fn(u32) -> SharedPieces) -> Shard {
    let driver = Driver::new(IoKind::Epoll, &DriverConfig::default()).expect("epoll is always there");
    let (sender, mail) = mailbox(driver.waker());
    let links = vec![sender.clone(), sender];
    let mut shard = Shard::new(ShardId(0), Arc::new(common(&driver)), driver, mail, links);
    shard.add_torrent(Arc::new(torrent(pieces)));
    shard
}

fn common(driver: &Driver) -> Common {
    Common {
        clock: Clock::start(),
        hash_pool: Arc::new(HashPool::start(1).expect("a thread")),
        piece_buffers: BufferPool::new(1 << 20),
        budget: Arc::new(Budget::new(1 << 20)),
        hot: HotPieces::new(0),
        upload_buffers: BufferPool::new(1 << 20),
        limits: RateLimits::default(),
        seats: Seats::new(2),
        counters: Counters::of_shards(2),
        listen_port: None,
        control: shared(&Sleeper::new(driver.waker())).0,
        measure: false,
        zero_copy: false,
    }
}

fn torrent(pieces: fn(u32) -> SharedPieces) -> SharedTorrent {
    let synthetic = Synthetic::new(1 << 16, 1 << 14, 1);
    let metainfo = Metainfo::parse(&synthetic.torrent("x").expect("a torrent")).expect("it is valid");
    let layout = metainfo.layout().expect("version 1");
    let content = Content::of(&metainfo).expect("version 1");
    SharedTorrent {
        id: TORRENT,
        info_hash: metainfo.info_hash_v1().expect("version 1"),
        our_id: PeerId([1; 20]),
        layout,
        storage: Arc::new(Storage::synthetic(synthetic, content, Mode::Download).expect("it describes it")),
        pieces: Arc::new(pieces(layout.piece_count())),
        limits: RateLimits::default(),
        policy: Policy::default(),
        counters: Counters::of_shards(2),
        metainfo: Arc::new(metainfo),
    }
}
