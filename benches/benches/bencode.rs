//! Reading torrents: one with many pieces, one with many files, one that is nothing but tokens.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringtide_proto::bencode::{Bencode, Document, Limits, Value};
use ringtide_proto::metainfo::{Metainfo, TorrentBuilder};

/// 200 GB in pieces of 256 KiB.
const MANY_PIECES: u64 = 800_000;
const MANY_FILES: usize = 100_000;
const PIECE_LENGTH: u32 = 256 << 10;

fn many_pieces() -> Vec<u8> {
    let builder =
        TorrentBuilder::single_file("disk.img", MANY_PIECES * u64::from(PIECE_LENGTH), PIECE_LENGTH);
    builder.build(&vec![[7; 20]; MANY_PIECES as usize]).expect("a valid torrent")
}

fn many_files() -> Vec<u8> {
    let file = |i: usize| (vec![format!("dir{:03}", i / 1000), format!("file{i:06}.bin")], 5_000);
    let builder = TorrentBuilder::directory("tree", (0..MANY_FILES).map(file).collect(), PIECE_LENGTH);
    let hashes = vec![[7; 20]; builder.piece_count() as usize];
    builder.build(&hashes).expect("a valid torrent")
}

/// As many tokens as are accepted, in 16 MB.
fn many_tokens() -> Vec<u8> {
    Bencode::list((0..Limits::FILE.tokens as i64 - 2).map(|i| Bencode::from(i % 1000))).encode()
}

fn torrents(c: &mut Criterion) {
    let mut group = c.benchmark_group("metainfo");
    group.sample_size(20);
    for (name, bytes) in [("800000 pieces", many_pieces()), ("100000 files", many_files())] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| Metainfo::parse(black_box(&bytes)).expect("a valid torrent"))
        });
    }
    group.finish();
}

fn documents(c: &mut Criterion) {
    let mut group = c.benchmark_group("bencode");
    group.sample_size(20);
    let tokens = many_tokens();
    group.throughput(Throughput::Elements(Limits::FILE.tokens as u64));
    group.bench_function("3000000 tokens", |b| {
        b.iter(|| Document::parse(black_box(&tokens), &Limits::FILE).expect("within the limits"));
    });
    let handshake = Bencode::dict([
        ("m", Bencode::dict([("ut_metadata", 1.into()), ("ut_pex", 2.into())])),
        ("p", 6881.into()),
        ("reqq", 2000.into()),
        ("v", "ringtide 0.1".into()),
    ])
    .encode();
    group.throughput(Throughput::Bytes(handshake.len() as u64));
    group.bench_function("extension handshake", |b| {
        b.iter(|| {
            let document = Document::parse(black_box(&handshake), &Limits::PEER).expect("valid");
            document.root().get("reqq").and_then(Value::int)
        });
    });
    group.finish();
}

criterion_group!(benches, torrents, documents);
criterion_main!(benches);
