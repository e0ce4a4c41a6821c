//! Torrents of odd shapes and peers of bad manners, over loopback: padding, tiny files, pieces of any length, and
//! peers that ask for much and read nothing.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringtide_engine::{Config, Engine, Purpose, TorrentId};
use ringtide_proto::id::PeerId;
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::wire::{HANDSHAKE_LEN, Handshake, Message, RawSpan, Reserved};

use common::{HANG, add, content, wait_complete};

fn engine(shards: u8) -> Engine {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    Engine::start(Config { shards: Some(shards), listen, ..Config::default() }).expect("an engine starts")
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
fn pieces_may_have_any_length() {
    for piece_len in [1, 1000, 16_383, 20_000, (3 << 20) + 5, 7_000_001] {
        let len = if piece_len == 1 { 3000 } else { 7_000_001 };
        transfer(&[len / 2, 0, len - len / 2], false, piece_len);
    }
}

/// A peer that has nothing and sends these requests at once, of what it may have though it is choked (BEP 6).
fn asker(
    addr: SocketAddr,
    metainfo: &Metainfo,
    number: u8,
    requests: impl Iterator<Item = RawSpan>,
) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(HANG)).expect("a timeout");
    let info_hash = metainfo.info_hash_v1().expect("version 1");
    let handshake = Handshake { reserved: Reserved::OURS, info_hash, peer_id: PeerId([number; 20]) };
    let mut bytes = handshake.encode().to_vec();
    Message::HaveNone.encode(&mut bytes);
    requests.for_each(|span| Message::Request(span).encode(&mut bytes));
    stream.write_all(&bytes).expect("requests are sent");
    stream
}

/// Adds a seed and waits until it has looked at its files.
fn ready_seed(engine: &Engine, metainfo: &Arc<Metainfo>, dir: &Path) -> TorrentId {
    let seeded = add(engine, metainfo, dir, Purpose::Seed, &[]);
    while engine.stats(seeded).checking || engine.stats(seeded).have == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    seeded
}

#[test]
fn blocks_of_many_tiny_files_are_served() {
    const BLOCK: u32 = 16 << 10;
    let from = tempfile::tempdir().unwrap();
    let metainfo = torrent(from.path(), &[10; 1700], false, 32 << 10);
    let seed = engine(1);
    ready_seed(&seed, &metainfo, from.path());
    // Each of them lies in 1,639 files.
    let requests = (0..16).map(|_| RawSpan { piece: 0, begin: 0, length: BLOCK });
    let mut stream = asker(seed.listen_addrs()[0], &metainfo, 1, requests);
    stream.read_exact(&mut [0; HANDSHAKE_LEN]).expect("a handshake");
    let expected: Vec<u8> = (0..1700).flat_map(|number| content(10, number)).take(BLOCK as usize).collect();
    let mut blocks = 0;
    while blocks < 16 {
        let mut len = [0; 4];
        stream.read_exact(&mut len).expect("a message");
        let mut message = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut message).expect("the message");
        assert_ne!(message.first(), Some(&16), "a reject");
        if message.first() == Some(&7) {
            assert!(message[9..] == expected, "block {blocks} differs");
            blocks += 1;
        }
    }
}

#[test]
fn peers_that_do_not_read_leave_memory_for_others() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let metainfo = torrent(from.path(), &[5 << 20], false, 1 << 20);
    let (seed, leech) = (engine(1), engine(1));
    let seeded = ready_seed(&seed, &metainfo, from.path());
    let addr = seed.listen_addrs()[0];
    // 25 MiB each, in the longest requests there are.
    let wanted = |request: u32| RawSpan {
        piece: request / 8 % 5,
        begin: request % 8 * (128 << 10),
        length: 128 << 10,
    };
    let _gluttons: Vec<TcpStream> =
        (0..20).map(|number| asker(addr, &metainfo, number, (0..200).map(wanted))).collect();
    let until = Instant::now() + HANG;
    while seed.stats(seeded).uploaded < 5 << 20 {
        assert!(Instant::now() < until, "the gluttons get something: {:?}", seed.stats(seeded));
        std::thread::sleep(Duration::from_millis(1));
    }
    let download = add(&leech, &metainfo, to.path(), Purpose::Download, &[addr]);
    wait_complete(&leech, download);
}
