//! Sends that are not copied: what was sent is kept until the kernel has done with it, and not longer. On io_uring only.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;

use super::*;

const LEN: usize = 1 << 20;

/// Bytes that tell when they are let go.
struct Told(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn rig() -> Rig {
    Rig::with(IoKind::Uring, &DriverConfig { zero_copy: true, ..DriverConfig::default() })
}

/// A batch of so many bytes by reference, with a few that are copied around them.
fn batch(len: usize, gone: &Arc<AtomicUsize>) -> SendBatch {
    let mut batch = SendBatch::new();
    batch.push_bytes(b"before");
    batch.push_payload(Bytes::from_owner(Told(pattern(len), Arc::clone(gone))), 0..len);
    batch.push_bytes(b"behind");
    batch
}

fn expected(len: usize) -> Vec<u8> {
    [b"before", &pattern(len)[..], b"behind"].concat()
}

#[test]
fn what_is_not_copied_arrives_whole_and_is_let_go() {
    const BATCHES: usize = 9;
    let (mut rig, gone) = (rig(), Arc::default());
    let (socket, mut far) = rig.tcp_pair();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        far.read_to_end(&mut all).expect("reads");
        all
    });
    for _ in 0..BATCHES {
        rig.push(Op::Send { socket: socket.clone(), batch: batch(LEN, &gone) });
        let completion = rig.next();
        let Outcome::Sent(batch, sent) = completion.outcome else { panic!("not a send") };
        sent.expect("sends");
        // Its own batch comes back where the kernel had done with it already.
        assert!(completion.last && (batch.is_empty() || batch.sent() == batch.len()));
    }
    socket.shutdown();
    drop(socket);
    assert!(reader.join().expect("reads") == expected(LEN).repeat(BATCHES), "what arrived differs");
    let begun = Instant::now();
    while gone.load(Ordering::Relaxed) < BATCHES {
        assert!(begun.elapsed() < PATIENCE, "{gone:?} of {BATCHES}");
        rig.driver.wait(Some(Duration::from_millis(10))).expect("waits");
    }
    rig.finish();
}

#[test]
fn what_nobody_takes_is_kept_and_keeps_no_driver() {
    let (mut rig, gone) = (rig(), Arc::<AtomicUsize>::default());
    let (socket, _far) = rig.tcp_pair();
    let mut sent = 0;
    loop {
        let token = rig.push(Op::Send { socket: socket.clone(), batch: batch(LEN / 4, &gone) });
        rig.driver.wait(Some(Duration::from_millis(100))).expect("waits");
        match rig.driver.poll() {
            Some(completion) => assert!(completion.token == token && completion.last),
            // The socket is full: this one is cut short.
            None => break rig.driver.cancel(token),
        }
        sent += 1;
        assert!(sent < 1000, "a socket is full some time");
    }
    // The last of it lies in our own socket, which refers to it.
    assert!(sent > 0 && gone.load(Ordering::Relaxed) < sent, "{gone:?} of {sent}");
    drop(socket);
    drop(rig);
    assert_eq!(gone.load(Ordering::Relaxed), sent + 1);
}

#[test]
fn little_is_copied_and_so_is_what_a_socket_cannot_send_otherwise() {
    let (mut rig, gone) = (rig(), Arc::default());
    let tcp = rig.tcp_pair();
    rig.push(Op::Send { socket: tcp.0.clone(), batch: batch(1000, &gone) });
    assert!(matches!(rig.next().outcome, Outcome::Sent(batch, Ok(())) if batch.sent() == 1012));

    let (socket, mut far) = rig.unix_pair();
    let reader = thread::spawn(move || {
        let mut all = vec![0; LEN + 12];
        far.read_exact(&mut all).expect("reads");
        all
    });
    rig.push(Op::Send { socket, batch: batch(LEN, &gone) });
    assert!(matches!(rig.next().outcome, Outcome::Sent(batch, Ok(())) if batch.sent() == LEN + 12));
    assert!(reader.join().expect("reads") == expected(LEN), "what arrived differs");
    rig.finish();
}
