//! Hashing one message and many, by each kernel that the process could use. Bytes per second; the batch calls are
//! what the hash pool uses.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringtide_hasher::{Dispatcher, Kernel, Sha1Digest, Sha256Digest, merkle};

/// The blocks of a piece, and the leaves of a v2 tree.
const MESSAGE_BYTES: usize = merkle::LEAF_BYTES;

/// What waits for a hash worker: a lone job, a few, full lanes, and a queue.
const COUNTS: [usize; 5] = [1, 4, 16, 32, 128];

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31) as u8).collect()
}

/// Every kernel by itself, and the choice among them.
fn dispatchers() -> impl Iterator<Item = (String, Dispatcher)> {
    let only = Kernel::available().filter_map(|kernel| Some((kernel.to_string(), Dispatcher::only(kernel)?)));
    only.chain([("auto".to_owned(), Dispatcher::current().clone())])
}

fn many_messages(c: &mut Criterion) {
    let data = message(COUNTS[COUNTS.len() - 1] * MESSAGE_BYTES);
    let messages: Vec<&[u8]> = data.chunks(MESSAGE_BYTES).collect();
    for count in COUNTS {
        let messages = &messages[..count];
        let mut sha1 = c.benchmark_group(format!("sha1/{count}"));
        sha1.throughput(Throughput::Bytes((count * MESSAGE_BYTES) as u64));
        for (name, dispatcher) in dispatchers() {
            let mut digests = vec![Sha1Digest::default(); count];
            sha1.bench_function(name, |b| b.iter(|| dispatcher.sha1_many(black_box(messages), &mut digests)));
        }
        sha1.finish();
        let mut sha256 = c.benchmark_group(format!("sha256/{count}"));
        sha256.throughput(Throughput::Bytes((count * MESSAGE_BYTES) as u64));
        for (name, dispatcher) in dispatchers() {
            let mut digests = vec![Sha256Digest::default(); count];
            sha256.bench_function(name, |b| {
                b.iter(|| dispatcher.sha256_many(black_box(messages), &mut digests));
            });
        }
        sha256.finish();
    }
}

fn merkle_trees(c: &mut Criterion) {
    let data = message(1 << 20);
    let leaves = merkle::leaves(&data);
    let mut group = c.benchmark_group("merkle");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("leaves", |b| b.iter(|| merkle::leaves(black_box(&data))));
    group.throughput(Throughput::Elements(leaves.len() as u64));
    group.bench_function("root", |b| b.iter(|| merkle::root(black_box(&leaves))));
    group.finish();
}

criterion_group!(benches, many_messages, merkle_trees);
criterion_main!(benches);
