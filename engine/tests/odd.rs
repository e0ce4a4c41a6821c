//! Torrents of odd shapes and peers of bad manners, over loopback: padding, tiny files, pieces of any length, and
//! peers that ask for much and read nothing.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringtide_engine::{AddTorrent, Config, Engine, Event, Purpose, TorrentId, TorrentStats};
use ringtide_proto::id::PeerId;
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::wire::{Handshake, Message, RawSpan, Reserved};

/// For telling a hang, never for judging speed.
const HANG: Duration = Duration::from_secs(20);

fn engine(shards: u8) -> Engine {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    Engine::start(Config { shards: Some(shards), listen, ..Config::default() }).expect("an engine starts")
}

/// Bytes that differ from block to block.
fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// A torrent called `odd` of files of these lengths, written to `dir`; every second one is padding where `pads`.
fn torrent(dir: &Path, lens: &[usize], pads: bool, piece_len: usize) -> Arc<Metainfo> {
    let root = dir.join("odd");
    fs::create_dir_all(&root).expect("a directory");
    let (mut all, mut files) = (Vec::new(), String::new());
    for (number, &len) in lens.iter().enumerate() {
        if pads && number % 2 == 1 {
            all.resize(all.len() + len, 0);
            files += &format!("d4:attr1:p6:lengthi{len}e4:pathl4:.pad{}:{len}ee", len.to_string().len());
        } else {
            let (bytes, name) = (content(len, number as u64), number.to_string());
            fs::write(root.join(&name), &bytes).expect("a file is written");
            all.extend(bytes);
            files += &format!("d6:lengthi{len}e4:pathl{}:{name}ee", name.len());
        }
    }
    let hashes: Vec<u8> = all.chunks(piece_len).flat_map(ringtide_hasher::sha1).collect();
    let head =
        format!("d4:infod5:filesl{files}e4:name3:odd12:piece lengthi{piece_len}e6:pieces{}:", hashes.len());
    let encoded = [head.as_bytes(), &hashes, b"ee"].concat();
    Arc::new(Metainfo::parse(&encoded).expect("it is valid"))
}

fn add(
    engine: &Engine,
    metainfo: &Arc<Metainfo>,
    dir: &Path,
    purpose: Purpose,
    peers: &[SocketAddr],
) -> TorrentId {
    let (metainfo, target) = (Arc::clone(metainfo), dir.to_owned());
    engine.add(AddTorrent { metainfo, target, purpose, peers: peers.to_vec() }).expect("a torrent is added")
}

fn wait_complete(engine: &Engine, torrent: TorrentId) -> TorrentStats {
    let until = Instant::now() + HANG;
    while Instant::now() < until {
        match engine.events().recv_timeout(Duration::from_secs(1)) {
            Ok(Event::Completed(found)) if found == torrent => return engine.stats(torrent),
            Ok(event @ (Event::StorageFailed(..) | Event::Failed(_))) => panic!("{event:?}"),
            _ => {}
        }
    }
    panic!("a download hangs: {:?}", engine.stats(torrent));
}

/// Sends the torrent from one engine to another and compares the files.
fn transfer(lens: &[usize], pads: bool, piece_len: usize) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let metainfo = torrent(from.path(), lens, pads, piece_len);
    let (seed, leech) = (engine(1), engine(2));
    add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
    let download = add(&leech, &metainfo, to.path(), Purpose::Download, &seed.listen_addrs());
    assert_eq!(wait_complete(&leech, download).hash_failures, 0, "{piece_len}");
    for entry in fs::read_dir(from.path().join("odd")).unwrap() {
        let name = entry.unwrap().file_name();
        let [sent, got] =
            [&from, &to].map(|dir| fs::read(dir.path().join("odd").join(&name)).unwrap_or_default());
        assert!(sent == got, "{name:?} differs, pieces of {piece_len}");
    }
}

#[test]
fn padding_longer_than_a_request_is_served() {
    const KIB: usize = 1 << 10;
    transfer(
        &[300 * KIB, 724 * KIB, 1800 * KIB + 7, 248 * KIB - 7, 500 * KIB, 524 * KIB, 99],
        true,
        1024 * KIB,
    );
}

#[test]
fn many_tiny_files_are_served() {
    transfer(&[10; 10_000], false, 256 << 10);
}

#[test]
fn pieces_may_have_any_length() {
    for piece_len in [1, 1000, 16_383, 20_000, (3 << 20) + 5, 7_000_001] {
        let len = if piece_len == 1 { 3000 } else { 7_000_001 };
        transfer(&[len / 2, 0, len - len / 2], false, piece_len);
    }
}

/// A peer that asks for 25 MiB of what it may have though it is choked (BEP 6), in the longest requests there are,
/// and reads nothing.
fn glutton(addr: SocketAddr, metainfo: &Metainfo, number: u8) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    let info_hash = metainfo.info_hash_v1().expect("version 1");
    let handshake = Handshake { reserved: Reserved::OURS, info_hash, peer_id: PeerId([number; 20]) };
    let mut bytes = handshake.encode().to_vec();
    Message::HaveNone.encode(&mut bytes);
    for request in 0..200 {
        let (piece, begin) = (request / 8 % 5, request % 8 * (128 << 10));
        Message::Request(RawSpan { piece, begin, length: 128 << 10 }).encode(&mut bytes);
    }
    stream.write_all(&bytes).expect("requests are sent");
    stream
}

#[test]
fn peers_that_do_not_read_leave_memory_for_others() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let metainfo = torrent(from.path(), &[5 << 20], false, 1 << 20);
    let (seed, leech) = (engine(1), engine(1));
    let seeded = add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
    while seed.stats(seeded).checking {
        std::thread::sleep(Duration::from_millis(1));
    }
    let addr = seed.listen_addrs()[0];
    let _gluttons: Vec<TcpStream> = (0..20).map(|number| glutton(addr, &metainfo, number)).collect();
    let until = Instant::now() + HANG;
    while seed.stats(seeded).uploaded < 5 << 20 {
        assert!(Instant::now() < until, "the gluttons get something: {:?}", seed.stats(seeded));
        std::thread::sleep(Duration::from_millis(1));
    }
    let download = add(&leech, &metainfo, to.path(), Purpose::Download, &[addr]);
    wait_complete(&leech, download);
}
