//! Whole transfers through the engine over loopback, on both drivers and with several numbers of shards.

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringtide_engine::driver::{IoChoice, IoKind, probe};
use ringtide_engine::{Config, Engine, Purpose};
use ringtide_proto::id::PeerId;
use ringtide_proto::metainfo::{Metainfo, TorrentBuilder};
use ringtide_proto::torrent::Policy;
use ringtide_proto::wire::{self, Bounds, Decoder, HANDSHAKE_LEN, Handshake, Message, Reserved};

use common::{add, content, wait_complete};

const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn choices() -> Vec<IoChoice> {
    let uring = probe(IoChoice::Auto).expect("some driver works").0 == IoKind::Uring;
    if uring { vec![IoChoice::Uring, IoChoice::Epoll] } else { vec![IoChoice::Epoll] }
}

fn engine(io: IoChoice, shards: u8) -> Engine {
    let config = Config { io, shards: Some(shards), listen: vec![LOCALHOST], ..Config::default() };
    Engine::start(config).expect("an engine starts")
}

fn torrent(dir: &Path, bytes: &[u8], piece_len: u32) -> Arc<Metainfo> {
    std::fs::write(dir.join("image"), bytes).expect("a file is written");
    let hashes: Vec<_> = bytes.chunks(piece_len as usize).map(ringtide_hasher::sha1).collect();
    let torrent = TorrentBuilder::single_file("image", bytes.len() as u64, piece_len);
    let encoded = torrent.build(&hashes).expect("a torrent is built");
    Arc::new(Metainfo::parse(&encoded).expect("it is valid"))
}

#[test]
fn one_seed_one_leecher() {
    for io in choices() {
        for (shards, piece_len, len, zero_copy) in [
            (1, 16 << 10, 3_000_001, false),
            (2, 256 << 10, 40_000_000, true),
            (4, 4 << 20, 50_000_000, false),
        ] {
            let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let bytes = content(len, u64::from(piece_len));
            let metainfo = torrent(from.path(), &bytes, piece_len);
            let listen = vec![LOCALHOST];
            let config = Config { io, shards: Some(shards), listen, zero_copy, ..Config::default() };
            let seed = Engine::start(config).expect("an engine starts");
            add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
            let leech = engine(io, shards);
            let download = add(&leech, &metainfo, to.path(), Purpose::Download, &seed.listen_addrs());
            let stats = wait_complete(&leech, download);
            assert_eq!(stats.hash_failures, 0);
            assert_eq!(std::fs::read(to.path().join("image")).unwrap(), bytes, "{io} {shards} shards");
            leech.leave();
        }
    }
}

/// What a peer is told of the pieces that the seed has: the first of have all, have none and bitfield.
fn told(addr: SocketAddr, metainfo: &Metainfo) -> Option<Message> {
    let mut stream = TcpStream::connect(addr).ok()?;
    let info_hash = metainfo.info_hash_v1()?;
    let handshake = Handshake { reserved: Reserved::OURS, info_hash, peer_id: PeerId([9; 20]) };
    stream.write_all(&handshake.encode()).ok()?;
    stream.read_exact(&mut [0; HANDSHAKE_LEN]).ok()?;
    let bounds = Bounds { bitfield_len: 2, max_block: 1, max_extended: 1 << 16 };
    let (mut decoder, mut byte) = (Decoder::new(bounds), [0]);
    loop {
        stream.read_exact(&mut byte).ok()?;
        if let Ok(Some(wire::Event::Message(message))) = decoder.decode(&mut &byte[..])
            && matches!(message, Message::HaveAll | Message::HaveNone | Message::Bitfield(_))
        {
            return Some(message);
        }
    }
}

#[test]
fn a_super_seed_hides_what_it_has_and_gives_all_of_it() {
    for io in choices() {
        let from = tempfile::tempdir().unwrap();
        let metainfo = torrent(from.path(), &content(4 << 20, 8), 256 << 10);
        let policy = Policy { super_seed: true, ..Policy::default() };
        let config = Config { io, shards: Some(2), listen: vec![LOCALHOST], policy, ..Config::default() };
        let seed = Engine::start(config).expect("an engine starts");
        add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
        let addr = seed.listen_addrs()[0];
        // Refused until it is known that everything is there.
        let begun = Instant::now();
        let first = loop {
            match told(addr, &metainfo) {
                Some(message) => break message,
                None => assert!(begun.elapsed() < common::HANG, "peers are never accepted"),
            }
        };
        assert_eq!(first, Message::HaveNone, "{io}");
        let leeches = [(); 2].map(|()| (engine(io, 2), tempfile::tempdir().unwrap()));
        let all: Vec<SocketAddr> =
            leeches.iter().flat_map(|(leech, _)| leech.listen_addrs()).chain([addr]).collect();
        let ids =
            leeches.each_ref().map(|(leech, to)| add(leech, &metainfo, to.path(), Purpose::Download, &all));
        for ((leech, to), id) in leeches.iter().zip(ids) {
            assert_eq!(wait_complete(leech, id).hash_failures, 0);
            let name = |dir: &tempfile::TempDir| std::fs::read(dir.path().join("image")).unwrap();
            assert!(name(to) == name(&from), "{io}");
        }
    }
}

/// A limit is never exceeded, however fast the machine; whether it is reached is not for a test of whole transfers.
#[test]
fn rates_are_limited() {
    const LEN: usize = 4 << 20;
    let limits: [fn(&mut Config); 3] = [
        |config| config.rates.up = NonZeroU64::new(2 << 20),
        |config| config.torrent_rates.down = NonZeroU64::new(2 << 20),
        |config| config.rates.down = NonZeroU64::new(2 << 20),
    ];
    for (io, (which, limit)) in choices().into_iter().cycle().zip(limits.into_iter().enumerate()) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let metainfo = torrent(from.path(), &content(LEN, 5), 256 << 10);
        let mut configs =
            [(); 2].map(|()| Config { io, shards: Some(2), listen: vec![LOCALHOST], ..Config::default() });
        limit(&mut configs[usize::from(which > 0)]);
        let [seed, leech] = configs.map(|config| Engine::start(config).expect("an engine starts"));
        add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
        let began = Instant::now();
        let download = add(&leech, &metainfo, to.path(), Purpose::Download, &seed.listen_addrs());
        wait_complete(&leech, download);
        // 2 MiB a second, and at first what a twentieth of a second and a turn of each shard hold.
        let least = Duration::from_millis(2_000 - 50 - 50);
        assert!(began.elapsed() >= least, "{io}, limit {which}: {:?}", began.elapsed());
    }
}

/// What latency means is tested where the pool is made (`session::start`).
#[test]
fn a_download_for_latency_with_one_hash_thread() {
    for io in choices() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = content(9_000_001, 7);
        let metainfo = torrent(from.path(), &bytes, 64 << 10);
        let seed = engine(io, 1);
        add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
        let config =
            Config { io, latency: true, hash_threads: Some(1), shards: Some(2), ..Config::default() };
        let leech = Engine::start(config).expect("an engine starts");
        let download = add(&leech, &metainfo, to.path(), Purpose::Download, &seed.listen_addrs());
        assert_eq!(wait_complete(&leech, download).hash_failures, 0);
        assert_eq!(std::fs::read(to.path().join("image")).unwrap(), bytes, "{io}");
        leech.leave();
    }
}

/// A seed that gives a block every millisecond, so that it, and no scheduler, decides who brings how much. Ends with
/// its connection.
fn paced_seed(metainfo: &Arc<Metainfo>, bytes: &Arc<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind(LOCALHOST).expect("a listener");
    let addr = listener.local_addr().expect("it has an address");
    let (metainfo, bytes) = (Arc::clone(metainfo), Arc::clone(bytes));
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a peer");
        // The leecher closes the connection when it has everything.
        let _ = serve_paced(stream, addr, &metainfo, &bytes);
    });
    addr
}

fn serve_paced(mut stream: TcpStream, addr: SocketAddr, metainfo: &Metainfo, bytes: &[u8]) -> io::Result<()> {
    let mut theirs = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut theirs)?;
    let mut id = [b'S'; 20];
    id[..2].copy_from_slice(&addr.port().to_be_bytes());
    let info_hash = metainfo.info_hash_v1().expect("version 1");
    let ours = Handshake { reserved: Reserved::OURS, info_hash, peer_id: PeerId(id) };
    let mut out = ours.encode().to_vec();
    Message::HaveAll.encode(&mut out);
    Message::Unchoke.encode(&mut out);
    stream.write_all(&out)?;
    let bitfield_len = metainfo.piece_count().div_ceil(8) as usize;
    let mut decoder = Decoder::new(Bounds { bitfield_len, max_block: 1 << 14, max_extended: 1 << 16 });
    let mut buf = vec![0; 1 << 16];
    loop {
        let read = stream.read(&mut buf)?;
        let mut input = &buf[..read];
        while let Ok(Some(event)) = decoder.decode(&mut input) {
            let wire::Event::Message(Message::Request(span)) = event else { continue };
            std::thread::sleep(Duration::from_millis(1));
            let begin = span.piece as usize * metainfo.piece_length() as usize + span.begin as usize;
            stream.write_all(&span.block_header())?;
            stream.write_all(&bytes[begin..begin + span.length as usize])?;
        }
        if read == 0 {
            return Ok(());
        }
    }
}

#[test]
fn four_seeds_are_spread_over_two_shards() {
    for io in choices() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = Arc::new(content(16 << 20, 4));
        let metainfo = torrent(from.path(), &bytes, 256 << 10);
        let peers: Vec<SocketAddr> = (0..4).map(|_| paced_seed(&metainfo, &bytes)).collect();
        let leech = engine(io, 2);
        let download = add(&leech, &metainfo, to.path(), Purpose::Download, &peers);
        wait_complete(&leech, download);
        assert_eq!(std::fs::read(to.path().join("image")).unwrap(), *bytes);
        let shards = leech.shard_stats();
        for shard in &shards {
            assert!(shard.downloaded * 4 >= bytes.len() as u64, "each shard takes its part: {shards:?}");
        }
    }
}

#[test]
fn a_second_run_fetches_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = content(5_000_000, 9);
    let metainfo = torrent(from.path(), &bytes, 64 << 10);
    let seed = engine(IoChoice::Auto, 1);
    add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
    for run in 0..2 {
        let leech = engine(IoChoice::Auto, 1);
        let download = add(&leech, &metainfo, to.path(), Purpose::Download, &seed.listen_addrs());
        let stats = wait_complete(&leech, download);
        assert_eq!(stats.downloaded == 0, run == 1, "{stats:?}");
    }
}
