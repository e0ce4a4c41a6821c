//! Peers that connect to us end up spread evenly over the shards, whichever listener they reached.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringtide_engine::driver::IoChoice;
use ringtide_engine::{AddTorrent, Config, Engine, Purpose};
use ringtide_proto::id::{InfoHash, PeerId};
use ringtide_proto::metainfo::{Metainfo, TorrentBuilder};
use ringtide_proto::wire::{HANDSHAKE_LEN, Handshake, Reserved};

/// For telling a hang, never for judging speed.
const HANG: Duration = Duration::from_secs(30);

/// Connects and exchanges handshakes, as the `number`th of several peers.
fn join(addr: SocketAddr, info_hash: InfoHash, number: u8) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(HANG)).expect("a timeout");
    let handshake = Handshake { reserved: Reserved::default(), info_hash, peer_id: PeerId([number; 20]) };
    stream.write_all(&handshake.encode()).expect("a handshake is sent");
    let mut answer = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut answer).expect("a handshake comes back");
    assert_eq!(Handshake::parse(&answer).expect("it is one").info_hash, info_hash);
    stream
}

fn peers_of(engine: &Engine) -> Vec<u64> {
    engine.shard_stats().iter().map(|shard| shard.peers).collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + HANG;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// With one connection after the other, the shard with the fewest peers takes each: the kernel alone, which picks a
/// listener by a hash of the addresses, would hardly ever come out even eight times.
#[test]
fn incoming_peers_are_spread_over_the_shards() {
    for io in [IoChoice::Auto, IoChoice::Epoll] {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("image"), b"spread").expect("a file");
        let torrent =
            TorrentBuilder::single_file("image", 6, 16384).build(&[ringtide_hasher::sha1(b"spread")]);
        let metainfo = Arc::new(Metainfo::parse(&torrent.expect("a torrent")).expect("it is valid"));
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let config = Config { io, shards: Some(4), listen, ..Config::default() };
        let engine = Engine::start(config).expect("an engine");
        let (target, info_hash) = (dir.path().to_owned(), metainfo.info_hash_v1().expect("version 1"));
        let add = AddTorrent { metainfo, target, purpose: Purpose::Seed, peers: vec![], files: vec![] };
        engine.add(add).expect("a torrent");
        let addr = engine.listen_addrs()[0];
        let mut peers = Vec::new();
        for number in 0..32 {
            peers.push(join(addr, info_hash, number));
            // One that is handed over counts on both shards for a moment.
            wait_until("each peer to count once", || {
                peers_of(&engine).iter().sum::<u64>() == peers.len() as u64
            });
        }
        assert_eq!(peers_of(&engine), [8, 8, 8, 8], "{io}");
        assert_eq!(engine.take_metrics().connections, [], "it was not asked to measure");
        drop(peers);
        wait_until("gone peers to count no more", || peers_of(&engine).iter().all(|&peers| peers == 0));
    }
}
