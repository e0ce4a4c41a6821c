//! Hashing one message and many, by each kernel that the process could use. Bytes per second; the batch calls are
//! what the hash pool uses.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringtide_hasher::kernel::Kernel;
use ringtide_hasher::{Sha1Digest, Sha1State, Sha256Digest, merkle, sha1_many, sha256_many};

/// A piece of the usual size: fits in L2 on servers.
const MESSAGE_BYTES: usize = 1 << 20;

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31) as u8).collect()
}

fn one_message(c: &mut Criterion) {
    let data = message(MESSAGE_BYTES);
    let mut group = c.benchmark_group("sha1/one");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for kernel in [Kernel::Scalar, Kernel::Asm, Kernel::Crate] {
        group.bench_function(kernel.to_string(), |b| {
            b.iter(|| {
                let mut state = Sha1State::with_kernel(kernel);
                state.update(black_box(&data));
                state.finish()
            });
        });
    }
    group.finish();
}

fn many_messages(c: &mut Criterion) {
    let data = message(16 * merkle::LEAF_BYTES);
    let mut group = c.benchmark_group("many");
    for count in [1, 4, 16] {
        let messages: Vec<&[u8]> = data.chunks(merkle::LEAF_BYTES).take(count).collect();
        group.throughput(Throughput::Bytes((count * merkle::LEAF_BYTES) as u64));
        group.bench_with_input(BenchmarkId::new("sha1", count), &messages, |b, messages| {
            let mut digests = vec![Sha1Digest::default(); count];
            b.iter(|| sha1_many(black_box(messages), &mut digests));
        });
        group.bench_with_input(BenchmarkId::new("sha256", count), &messages, |b, messages| {
            let mut digests = vec![Sha256Digest::default(); count];
            b.iter(|| sha256_many(black_box(messages), &mut digests));
        });
    }
    group.finish();
}

fn merkle_trees(c: &mut Criterion) {
    let data = message(MESSAGE_BYTES);
    let leaves = merkle::leaves(&data);
    let mut group = c.benchmark_group("merkle");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("leaves", |b| b.iter(|| merkle::leaves(black_box(&data))));
    group.throughput(Throughput::Elements(leaves.len() as u64));
    group.bench_function("root", |b| b.iter(|| merkle::root(black_box(&leaves))));
    group.finish();
}

criterion_group!(benches, one_message, many_messages, merkle_trees);
criterion_main!(benches);
