//! Content that is made up: given from memory, fetched, verified, measured and thrown away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringtide_engine::driver::{IoChoice, IoKind, probe};
use ringtide_engine::storage::Synthetic;
use ringtide_engine::{Config, Engine, Event, Purpose, TorrentId};
use ringtide_proto::limits::BLOCK_LEN;
use ringtide_proto::metainfo::Metainfo;

const PIECE_LEN: u32 = 256 << 10;
const PIECES: u64 = 40;

/// An engine that measures itself and listens on a port of the kernel's choice.
fn engine(io: IoChoice) -> Engine {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    Engine::start(Config { io, shards: Some(2), listen, measure: true, ..Config::default() })
        .expect("an engine starts")
}

fn add(engine: &Engine, seed: u64, purpose: Purpose, peers: Vec<SocketAddr>) -> TorrentId {
    let synthetic = Synthetic::new(PIECES * u64::from(PIECE_LEN), PIECE_LEN, seed);
    let torrent = synthetic.torrent("made-up").expect("a torrent");
    let metainfo = Arc::new(Metainfo::parse(&torrent).expect("a torrent"));
    engine.add_synthetic(metainfo, synthetic, purpose, peers).expect("is added")
}

fn wait_for_completion(engine: &Engine) {
    loop {
        match engine.events().recv_timeout(Duration::from_secs(60)).expect("hangs") {
            Event::Completed(_) => return,
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
}

#[test]
fn what_is_made_up_is_fetched_verified_and_measured() {
    let uring = probe(IoChoice::Auto).expect("some driver works").0 == IoKind::Uring;
    for io in [IoChoice::Uring, IoChoice::Epoll].into_iter().skip(usize::from(!uring)) {
        let (seed, leech) = (engine(io), engine(io));
        add(&seed, 1, Purpose::Seed, vec![]);
        let id = add(&leech, 1, Purpose::Download, seed.listen_addrs());
        wait_for_completion(&leech);
        let stats = leech.stats(id);
        assert_eq!((u64::from(stats.have), stats.hash_failures), (PIECES, 0), "{io:?}");
        assert_eq!((stats.direct_bytes, stats.cached_bytes), (0, 0), "nothing is written");

        let metrics = leech.take_metrics();
        let blocks = PIECES * u64::from(PIECE_LEN / BLOCK_LEN);
        assert_eq!(metrics.request_to_block_us.count(), blocks);
        assert_eq!(metrics.requests_outstanding.count(), blocks);
        assert_eq!(metrics.piece_us.count(), PIECES);
        assert_eq!((metrics.hash_wait_us.count(), metrics.hash_us.count()), (PIECES, PIECES));
        assert_eq!((metrics.hash_backlog.count(), metrics.write_us.count()), (PIECES, PIECES));
        assert!(
            metrics.piece_us.max() >= metrics.hash_us.quantile(0.0),
            "a piece takes longer than its hash"
        );
        assert_eq!(leech.take_metrics().piece_us.count(), 0, "what was taken is gone");
        assert_eq!(seed.take_metrics().request_to_block_us.count(), 0, "a seed asks for nothing");
    }
}

#[test]
fn what_is_not_what_the_torrent_says_is_refused() {
    let engine = engine(IoChoice::Auto);
    let torrent = Synthetic::new(4 << 20, PIECE_LEN, 1).torrent("x").expect("a torrent");
    let metainfo = Arc::new(Metainfo::parse(&torrent).expect("a torrent"));
    let other = Synthetic::new(5 << 20, PIECE_LEN, 1);
    assert!(engine.add_synthetic(metainfo, other, Purpose::Seed, vec![]).is_err());
}

#[test]
fn other_bytes_fail_their_hash() {
    let (seed, leech) = (engine(IoChoice::Auto), engine(IoChoice::Auto));
    // The same torrent, but the seed makes up other bytes.
    let torrent = Synthetic::new(4 << 20, PIECE_LEN, 1).torrent("x").expect("a torrent");
    let metainfo = Arc::new(Metainfo::parse(&torrent).expect("a torrent"));
    let content = |seed| Synthetic::new(4 << 20, PIECE_LEN, seed);
    seed.add_synthetic(Arc::clone(&metainfo), content(2), Purpose::Seed, vec![]).expect("is added");
    let id =
        leech.add_synthetic(metainfo, content(1), Purpose::Download, seed.listen_addrs()).expect("is added");
    loop {
        match leech.events().recv_timeout(Duration::from_secs(60)).expect("hangs") {
            Event::HashFailed { .. } => break,
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    assert_eq!(leech.stats(id).have, 0);
}
