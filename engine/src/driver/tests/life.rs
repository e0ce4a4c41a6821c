//! Waking, waiting, handing over, and the end of a driver.

use std::io::Read;
use std::thread;
use std::time::Instant;

use super::*;
use crate::storage::BufferPool;

both! {
    fn a_wait_ends_when_its_time_is_over(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, _far) = rig.unix_pair();
        rig.push(Op::Recv { socket });
        for timeout in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(15)] {
            rig.driver.wait(Some(timeout)).expect("waits");
            assert!(rig.driver.poll().is_none());
        }
    }

    fn the_time_of_a_wait_that_was_woken_is_not_that_of_the_next(kind: IoKind) {
        let mut rig = Rig::new(kind);
        for (woken, next) in [(Duration::from_secs(3600), 1), (Duration::from_millis(2), 20)] {
            rig.driver.waker().wake();
            rig.driver.wait(Some(woken)).expect("waits");
            let (next, begun) = (Duration::from_millis(next), Instant::now());
            rig.driver.wait(Some(next)).expect("waits");
            assert!(begun.elapsed() >= next, "{:?} of {next:?}", begun.elapsed());
        }
    }

    fn a_wake_from_another_thread_ends_a_wait(kind: IoKind) {
        let mut rig = Rig::new(kind);
        for _ in 0..200 {
            let waker = rig.driver.waker();
            let other = thread::spawn(move || waker.wake());
            rig.driver.wait(None).expect("waits");
            other.join().expect("wakes");
        }
        assert!(rig.driver.poll().is_none());
    }

    fn a_wake_before_a_wait_ends_it(kind: IoKind) {
        let mut rig = Rig::new(kind);
        for _ in 0..3 {
            rig.driver.waker().wake();
            rig.driver.waker().wake();
            rig.driver.wait(None).expect("waits");
        }
    }

    fn completions_that_are_not_polled_end_a_wait_at_once(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.unix_pair();
        far.write_all(b"x").expect("writes");
        rig.push(Op::Recv { socket });
        rig.driver.wait(None).expect("waits");
        rig.driver.wait(None).expect("waits");
        assert!(matches!(rig.next().outcome, Outcome::Received(buf) if *buf == *b"x"));
    }

    fn dropping_a_socket_that_nobody_uses_closes_it(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let other = socket.clone();
        drop(socket);
        far.set_nonblocking(true).expect("sets");
        assert_eq!(far.read(&mut [0; 1]).expect_err("open").kind(), io::ErrorKind::WouldBlock);
        far.set_nonblocking(false).expect("sets");
        drop(other);
        assert_eq!(far.read(&mut [0; 1]).expect("the end"), 0);
    }

    fn a_socket_can_be_handed_to_another_driver(kind: IoKind) {
        for other_kind in [IoKind::Uring, IoKind::Epoll] {
            let (mut rig, mut other) = (Rig::new(kind), Rig::new(other_kind));
            let (socket, mut far) = rig.tcp_pair();
            far.write_all(b"handshake, and more").expect("writes");
            rig.push(Op::RecvSome { socket: socket.clone(), max: 9 });
            let socket = socket.into_fd().expect_err("in use");
            assert!(matches!(rig.next().outcome, Outcome::Received(buf) if *buf == *b"handshake"));
            let fd = socket.into_fd().expect("ours alone");
            drop(rig);
            let socket = other.driver.adopt(fd).expect("adopts");
            other.push(Op::Send { socket: socket.clone(), batch: batch_of(b"welcome") });
            assert!(matches!(other.next().outcome, Outcome::Sent(_, Ok(()))));
            let mut greeting = [0; 7];
            far.read_exact(&mut greeting).expect("reads");
            assert_eq!(&greeting, b"welcome");
            drop(far);
            assert_eq!(other.receive_all(&socket).expect("ends"), b", and more");
            other.finish();
        }
    }

    fn a_driver_can_be_dropped_at_any_time(kind: IoKind) {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..150 {
            drop_in_flight(kind, &mut random);
        }
    }

    fn received_bytes_outlive_their_driver(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.unix_pair();
        far.write_all(b"still here").expect("writes");
        rig.push(Op::Recv { socket: socket.clone() });
        let Outcome::Received(buf) = rig.next().outcome else { panic!("not a receive") };
        drop(rig);
        assert_eq!(*buf, *b"still here");
        drop(socket);
        assert_eq!(far.read(&mut [0; 1]).expect("the end"), 0);
    }
}

/// Begins one of everything, lets it get on for a while, and drops the driver; whoever is at the other end of a
/// socket must see it closed.
fn drop_in_flight(kind: IoKind, random: &mut fastrand::Rng) {
    let config = DriverConfig {
        recv_buffers: 3,
        recv_buffer_bytes: 2048,
        entries: 8,
        completions: 16,
        ..DriverConfig::default()
    };
    let mut rig = Rig::with(kind, &config);
    let mut far_ends = Vec::new();
    for _ in 0..8 {
        let (socket, mut far) = rig.unix_pair();
        fill(&mut far, &[5; 10_000]);
        far.set_nonblocking(false).expect("sets");
        rig.push(Op::Recv { socket: socket.clone() });
        let mut batch = SendBatch::new();
        batch.push_payload(vec![6; 1 << 20], 0..1 << 20);
        rig.push(Op::Send { socket, batch });
        far_ends.push(far);
    }
    let (listener, addr) = rig.listen();
    rig.push(Op::Accept { listener });
    for _ in 0..3 {
        rig.push(Op::Connect { addr, bind: None });
    }
    let file: Arc<OwnedFd> = Arc::new(tempfile::tempfile().expect("a file").into());
    rig.push(Op::Write { file: Arc::clone(&file), offset: 0, data: vec![1; 100_000].into() });
    let pool = BufferPool::new(1 << 16);
    let buf = pool.try_take_aligned(1 << 16).expect("fits");
    rig.push(Op::Read { file, offset: 0, buf, len: 1 << 16 });
    for _ in 0..random.usize(0..6) {
        rig.driver.wait(Some(Duration::ZERO)).expect("waits");
        for _ in 0..random.usize(0..6) {
            drop(rig.driver.poll());
        }
    }
    drop(rig);
    for mut far in far_ends {
        let mut rest = Vec::new();
        // Data we never took makes the end a reset.
        let ended = far.read_to_end(&mut rest);
        assert!(ended.is_ok() || errno(ended) == libc::ECONNRESET);
        assert!(rest.iter().all(|&byte| byte == 6));
    }
    assert_eq!(pool.used_bytes(), 0);
}
