//! Reading the peer wire protocol: what a fast seed sends us, what a fast leech sends us, and the worst portions.
//!
//! Seen on one core of a Zen 4 EPYC (family 25, model 17) without LTO and on a machine busy with other builds, so
//! orders of magnitude only: 45 ns a block from 64 KiB portions, 19 ns a request, 5 ns to write one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringtide_proto::wire::{Bounds, Decoder, Event, Message, RawSpan};

const BOUNDS: Bounds = Bounds { bitfield_len: 100, max_block: 16 << 10, max_extended: 1 << 20 };

/// Blocks of 16 KiB, as they come from a seed.
fn blocks() -> Vec<u8> {
    let mut stream = Vec::new();
    for i in 0..64 {
        let span = RawSpan { piece: 7, begin: i * (16 << 10), length: 16 << 10 };
        Message::Piece(span).encode(&mut stream);
        stream.resize(stream.len() + (16 << 10), 0xa5);
    }
    stream
}

/// Requests and haves, as they come from a leech.
fn requests() -> Vec<u8> {
    let mut stream = Vec::new();
    for i in 0..4096 {
        Message::Request(RawSpan { piece: 7, begin: i << 14, length: 16 << 10 }).encode(&mut stream);
        if i % 64 == 0 {
            Message::Have { piece: i }.encode(&mut stream);
        }
    }
    stream
}

/// Reads the stream in portions; bytes of payload and number of messages, so that nothing is optimised away.
fn read(stream: &[u8], portion: usize) -> (usize, usize) {
    let (mut decoder, mut bytes, mut messages) = (Decoder::new(BOUNDS), 0, 0);
    for mut input in stream.chunks(portion) {
        while let Some(event) = decoder.decode(&mut input).expect("a good stream") {
            match event {
                Event::BlockData(data) => bytes += data.len(),
                _ => messages += 1,
            }
        }
    }
    (bytes, messages)
}

fn decode(c: &mut Criterion) {
    for (name, stream) in [("blocks", blocks()), ("requests", requests())] {
        let mut group = c.benchmark_group(format!("wire/decode {name}"));
        group.throughput(Throughput::Bytes(stream.len() as u64));
        for portion in [64 << 10, 1448, 7] {
            group.bench_with_input(BenchmarkId::from_parameter(portion), &portion, |b, &portion| {
                b.iter(|| read(black_box(&stream), portion));
            });
        }
        group.finish();
    }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/encode");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 requests", |b| {
        let mut out = Vec::with_capacity(17_000);
        b.iter(|| {
            out.clear();
            for i in 0..1000 {
                Message::Request(RawSpan { piece: black_box(i), begin: 0, length: 16 << 10 })
                    .encode(&mut out);
            }
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
