//! What the drivers cost: a MiB received and a send of 64 blocks over TCP on loopback, on io_uring and on epoll. A thread
//! at the other end writes or reads as fast as it can, so that half of what is measured is the kernel's copying.
//!
//! Seen with both cores busy with builds besides (Zen 5), so orders of magnitude only: on io_uring 0.4 ms to receive a MiB
//! and 0.5 ms to send one, on epoll 0.27 and 0.38 ms.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringtide_engine::driver::{
    Driver, DriverConfig, IoChoice, IoKind, Op, Outcome, SendBatch, Socket, Token, probe,
};

const MIB: usize = 1 << 20;
const BLOCK: usize = 16 << 10;
/// Length, type, piece and begin of a `piece` message (BEP 3).
const HEADER: [u8; 13] = [0, 0, 0x40, 9, 7, 0, 0, 0, 1, 0, 0, 0, 0];

fn kinds() -> Vec<IoKind> {
    let uring = probe(IoChoice::Auto).expect("some driver works").0 == IoKind::Uring;
    if uring { vec![IoKind::Uring, IoKind::Epoll] } else { vec![IoKind::Epoll] }
}

/// A driver, a socket of it, and a thread at the other end that does `work` until the connection ends.
fn connected(
    kind: IoKind,
    work: impl FnOnce(TcpStream) + Send + 'static,
) -> (Driver, Socket, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let far = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (near, _) = listener.accept().expect("the other end");
    let mut driver = Driver::new(kind, &DriverConfig::default()).expect("a driver");
    let socket = driver.adopt(OwnedFd::from(near)).expect("a socket");
    (driver, socket, std::thread::spawn(move || work(far)))
}

/// Ends the connection and waits for the other end.
fn part(driver: Driver, socket: Socket, other: JoinHandle<()>) {
    socket.shutdown();
    drop((driver, socket));
    other.join().expect("the other end ends");
}

fn receive(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/receive 1 MiB");
    group.throughput(Throughput::Bytes(MIB as u64));
    for kind in kinds() {
        let (mut driver, socket, writer) = connected(kind, |mut stream| {
            let bytes = vec![0xa5; 4 * MIB];
            while stream.write_all(&bytes).is_ok() {}
        });
        driver.push(Token(1), Op::Recv { socket: socket.clone() });
        group.bench_function(kind.to_string(), |b| {
            b.iter(|| {
                let mut received = 0;
                while received < MIB {
                    driver.wait(None).expect("waits");
                    while let Some(completion) = driver.poll() {
                        let Outcome::Received(bytes) = completion.outcome else { panic!("{completion:?}") };
                        received += bytes.len();
                    }
                }
            });
        });
        part(driver, socket, writer);
    }
    group.finish();
}

fn send(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/send 64 blocks");
    group.throughput(Throughput::Bytes(MIB as u64));
    let block = Bytes::from(vec![0x5a; BLOCK]);
    for kind in kinds() {
        let (mut driver, socket, reader) = connected(kind, |mut stream| {
            let mut buf = vec![0; MIB];
            while stream.read(&mut buf).is_ok_and(|count| count > 0) {}
        });
        let mut kept = Some(SendBatch::new());
        group.bench_function(kind.to_string(), |b| {
            b.iter(|| {
                let mut batch = kept.take().expect("given back by the last send");
                batch.clear();
                for _ in 0..MIB / BLOCK {
                    batch.push_bytes(&HEADER);
                    batch.push_payload(block.clone(), 0..BLOCK);
                }
                driver.push(Token(2), Op::Send { socket: socket.clone(), batch });
                while kept.is_none() {
                    driver.wait(None).expect("waits");
                    while let Some(completion) = driver.poll() {
                        let Outcome::Sent(batch, Ok(())) = completion.outcome else {
                            panic!("{completion:?}")
                        };
                        kept = Some(batch);
                    }
                }
            });
        });
        part(driver, socket, reader);
    }
    group.finish();
}

criterion_group!(benches, receive, send);
criterion_main!(benches);
