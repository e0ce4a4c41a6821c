//! Queues that overflow and buffers that run out.

use super::*;

/// Both drivers with a ring's queues as small as they get.
fn tiny() -> DriverConfig {
    DriverConfig { entries: 4, completions: 8, recv_buffer_bytes: 4096, ..DriverConfig::default() }
}

/// As many streams, each with all the data its socket holds, and how much that is.
fn loaded(rig: &mut Rig, count: usize, data: &[u8]) -> Vec<(Socket, UnixStream, usize)> {
    (0..count)
        .map(|_| {
            let (socket, mut far) = rig.unix_pair();
            let written = fill(&mut far, data);
            (socket, far, written)
        })
        .collect()
}

both! {
    fn more_completions_than_the_queue_holds_all_arrive(kind: IoKind) {
        const COUNT: usize = 300;
        let mut rig = Rig::with(kind, &tiny());
        let mut streams: Vec<_> = (0..COUNT).map(|_| rig.unix_pair()).collect();
        let first = rig.tokens + 1;
        for (socket, _) in &streams {
            rig.push(Op::Recv { socket: socket.clone() });
        }
        rig.driver.wait(Some(Duration::ZERO)).expect("arms");
        for round in 0..3 {
            for (_, far) in &mut streams {
                far.write_all(&[round]).expect("writes");
            }
            let mut seen = vec![false; COUNT];
            for _ in 0..COUNT {
                let completion = rig.next();
                let Outcome::Received(buf) = completion.outcome else { panic!("not a receive") };
                assert!(!completion.last && *buf == [round]);
                let index = (completion.token.0 - first) as usize;
                assert!(!std::mem::replace(&mut seen[index], true), "received twice");
            }
        }
        streams.iter().for_each(|(socket, _)| socket.shutdown());
        for _ in 0..COUNT {
            assert!(matches!(rig.next(), Completion { outcome: Outcome::RecvEnded(Ok(())), last: true, .. }));
        }
        rig.finish();
        assert_eq!(rig.driver.free_recv_buffers(), usize::from(tiny().recv_buffers));
    }

    fn more_operations_than_the_queue_holds_all_end(kind: IoKind) {
        const COUNT: usize = 1000;
        let mut rig = Rig::with(kind, &tiny());
        let (socket, mut far) = rig.unix_pair();
        let null: Arc<OwnedFd> = Arc::new(std::fs::File::create("/dev/null").expect("opens").into());
        for _ in 0..COUNT {
            rig.push(Op::Write { file: Arc::clone(&null), offset: 0, data: vec![1].into() });
        }
        let recv = rig.push(Op::Recv { socket });
        far.write_all(b"x").expect("writes");
        let mut ended = std::collections::HashSet::new();
        while ended.len() < COUNT {
            let completion = rig.next();
            match completion.outcome {
                Outcome::Written(Ok(())) => assert!(ended.insert(completion.token)),
                Outcome::Received(buf) => assert!(completion.token == recv && *buf == *b"x"),
                other => panic!("{other:?}"),
            }
        }
        rig.driver.cancel(recv);
        while !rig.next_of(recv).last {}
        rig.finish();
    }

    fn with_two_buffers_twenty_busy_sockets_all_get_on(kind: IoKind) {
        const STREAMS: usize = 20;
        let config = DriverConfig { recv_buffers: 2, recv_buffer_bytes: 2048, ..DriverConfig::default() };
        let mut rig = Rig::with(kind, &config);
        let data = pattern(96 << 10);
        let streams = loaded(&mut rig, STREAMS, &data);
        let first = rig.tokens + 1;
        for (socket, ..) in &streams {
            rig.push(Op::Recv { socket: socket.clone() });
        }
        let mut received = [0; STREAMS];
        let mut held = VecDeque::new();
        let mut others_when_first_was_done = None;
        while (0..STREAMS).any(|index| received[index] < streams[index].2) {
            if held.len() == 2 {
                held.pop_front();
            }
            let completion = rig.next();
            let Outcome::Received(buf) = completion.outcome else { panic!("not a receive") };
            let index = (completion.token.0 - first) as usize;
            assert!(data[received[index]..].starts_with(&buf), "bytes lost or doubled");
            received[index] += buf.len();
            held.push_back(buf);
            if received[index] == streams[index].2 && others_when_first_was_done.is_none() {
                others_when_first_was_done = received.iter().min().copied();
            }
        }
        let least = others_when_first_was_done.expect("one was first");
        assert!(least >= streams[0].2 / 2, "one socket was done when another had {least} bytes");
        drop(held);
        streams.iter().for_each(|(socket, ..)| socket.shutdown());
        for _ in 0..STREAMS {
            assert!(matches!(rig.next().outcome, Outcome::RecvEnded(Ok(()))));
        }
        rig.finish();
        assert_eq!(rig.driver.free_recv_buffers(), 2);
    }

    fn receives_without_buffers_wait_and_can_be_cancelled(kind: IoKind) {
        const STREAMS: usize = 6;
        let config = DriverConfig { recv_buffers: 2, recv_buffer_bytes: 2048, ..DriverConfig::default() };
        let mut rig = Rig::with(kind, &config);
        let streams = loaded(&mut rig, STREAMS, &pattern(64 << 10));
        let tokens: Vec<_> =
            streams.iter().map(|(socket, ..)| rig.push(Op::Recv { socket: socket.clone() })).collect();
        let held = [rig.next(), rig.next()];
        assert_eq!(rig.driver.free_recv_buffers(), 0);
        let before = entered(&rig);
        rig.driver.wait(Some(Duration::from_millis(30))).expect("waits");
        assert!(rig.driver.poll().is_none(), "received without a buffer");
        assert!(entered(&rig) - before < 10, "spun while there was no buffer");
        for &token in &tokens {
            rig.driver.cancel(token);
        }
        for _ in 0..STREAMS {
            let end = rig.next();
            assert!(end.last && matches!(end.outcome, Outcome::RecvEnded(Err(_))));
        }
        rig.finish();
        drop(held);
        assert_eq!(rig.driver.free_recv_buffers(), 2);
    }

    fn a_socket_that_is_always_busy_keeps_no_other_from_being_seen(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (busy, mut far) = rig.unix_pair();
        let (listener, addr) = rig.listen();
        let accept = rig.push(Op::Accept { listener });
        rig.push(Op::Recv { socket: busy });
        let data = pattern(64 << 10);
        fill(&mut far, &data);
        rig.driver.wait(Some(Duration::ZERO)).expect("arms");
        let _peer = TcpStream::connect(addr).expect("connects");
        let mut waits = 0;
        let accepted = 'waiting: loop {
            waits += 1;
            assert!(waits < 20, "the connection was not seen");
            fill(&mut far, &data);
            rig.driver.wait(Some(PATIENCE)).expect("waits");
            while let Some(completion) = rig.driver.poll() {
                if completion.token == accept {
                    break 'waiting completion.outcome;
                }
            }
        };
        assert!(matches!(accepted, Outcome::Accepted(Ok(_))));
    }

    fn operations_that_end_at_once_keep_no_other_from_being_seen(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (listener, addr) = rig.listen();
        let accept = rig.push(Op::Accept { listener });
        // Long enough for the operation to begin and find nothing.
        rig.driver.wait(Some(Duration::from_millis(5))).expect("arms");
        let _peer = TcpStream::connect(addr).expect("connects");
        let null: Arc<OwnedFd> = Arc::new(std::fs::File::create("/dev/null").expect("opens").into());
        for waits in 0.. {
            assert!(waits < 20, "the connection was not seen");
            rig.push(Op::Write { file: Arc::clone(&null), offset: 0, data: vec![1].into() });
            let first = rig.next();
            if first.token == accept {
                assert!(matches!(first.outcome, Outcome::Accepted(Ok(_))));
                return;
            }
        }
    }

    fn a_receive_cancelled_in_full_flow_ends(kind: IoKind) {
        let config = DriverConfig { recv_buffers: 512, recv_buffer_bytes: 128, ..DriverConfig::default() };
        let mut rig = Rig::with(kind, &config);
        let data = pattern(48 << 10);
        let (socket, mut far) = rig.unix_pair();
        let recv = rig.push(Op::Recv { socket });
        rig.driver.wait(Some(Duration::ZERO)).expect("arms");
        // The kernel takes a part of this and then puts the receive at the end of its queue; a request to cancel
        // must find it there.
        let written = fill(&mut far, &data);
        rig.driver.wait(Some(PATIENCE)).expect("waits");
        rig.driver.cancel(recv);
        let mut received = 0;
        loop {
            let completion = rig.next();
            match completion.outcome {
                Outcome::Received(buf) => {
                    assert!(data[received..].starts_with(&buf), "bytes lost or doubled");
                    received += buf.len();
                }
                Outcome::RecvEnded(ended) => {
                    assert!(completion.last && received <= written);
                    assert_eq!(errno(ended), libc::ECANCELED);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        rig.finish();
        assert_eq!(rig.driver.free_recv_buffers(), 512);
    }
}

/// How often a ring was entered.
fn entered(rig: &Rig) -> u64 {
    match &rig.driver {
        Driver::Ring(ring) => ring.entered,
        Driver::Portable(_) => 0,
    }
}
