//! Connections and what flows through them.

use std::io::Read;
use std::thread;

use bytes::Bytes;
use socket2::SockRef;

use super::*;
use crate::storage::BufferPool;

both! {
    fn connections_are_made_and_accepted(kind: IoKind) {
        const COUNT: usize = 20;
        let mut rig = Rig::new(kind);
        let (listener, addr) = rig.listen();
        let accept = rig.push(Op::Accept { listener });
        for _ in 0..COUNT {
            rig.push(Op::Connect { addr, bind: None });
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        while ours.len() < COUNT || theirs.len() < COUNT {
            let completion = rig.next();
            match completion.outcome {
                Outcome::Connected(socket) => {
                    assert!(completion.last);
                    let socket = socket.expect("connects");
                    assert!(SockRef::from(&socket).tcp_nodelay().expect("a TCP socket"));
                    assert_eq!(socket.peer_addr().expect("connected"), addr);
                    ours.push(socket.local_addr().expect("connected"));
                }
                Outcome::Accepted(accepted) => {
                    assert!(completion.token == accept && !completion.last);
                    let (socket, from) = accepted.expect("accepts");
                    assert!(SockRef::from(&socket).tcp_nodelay().expect("a TCP socket"));
                    theirs.push(from);
                }
                other => panic!("{other:?}"),
            }
        }
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        rig.driver.cancel(accept);
        let end = rig.next();
        assert!(end.last && end.token == accept);
        assert!(matches!(end.outcome, Outcome::Accepted(Err(error)) if error.raw_os_error() == Some(libc::ECANCELED)));
        rig.finish();
    }

    fn a_stream_is_scattered_to_where_it_belongs(kind: IoKind) {
        const BLOCK: usize = 16 << 10;
        const BLOCKS: usize = 40;
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let sent = pattern(BLOCKS * BLOCK);
        let stream: Vec<u8> = sent.chunks(BLOCK).flat_map(|block| [&b"head:"[..], block].concat()).collect();
        let writer = thread::spawn(move || far.write_all(&stream).expect("writes"));

        let mut buffer = BufferPool::new(1 << 20).try_take(BLOCKS * BLOCK).expect("fits");
        let (mut scatter, mut done) = (Box::new(Scatter::new()), 0);
        while done < BLOCKS * (BLOCK + 5) {
            // Where the last receive ended: within a header, or that far into a block.
            let (block, within) = (done / (BLOCK + 5), done % (BLOCK + 5));
            for (number, begin) in (block..BLOCKS).zip(std::iter::once(within).chain(std::iter::repeat(0))) {
                let body = number * BLOCK + begin.saturating_sub(5)..(number + 1) * BLOCK;
                let len = body.len();
                scatter.add_landing(buffer.land(body).expect("nobody has it"));
                if begin < 5 {
                    scatter.expect(&b"head:"[begin..]);
                }
                scatter.expect_in_newest(len);
            }
            rig.push(Op::RecvInto { socket: socket.clone(), scatter: std::mem::take(&mut scatter) });
            let Outcome::ReceivedInto(back, received) = rig.next().outcome else { panic!("not a receive") };
            scatter = back;
            assert_eq!(scatter.as_expected(), scatter.arrived().count());
            done += received.expect("receives");
            scatter.landings_mut().for_each(|landing| assert!(buffer.settle(landing)));
            scatter.clear().for_each(|landing| buffer.release(landing));
        }
        writer.join().expect("writes");
        assert!(buffer.as_slice() == sent);
        for op in [expecting(b"more"), Box::default()] {
            rig.push(Op::RecvInto { socket: socket.clone(), scatter: op });
            assert!(matches!(rig.next().outcome, Outcome::ReceivedInto(_, Ok(0))), "the end, or no room");
        }
        rig.finish();
    }

    fn a_refused_connection_says_so(kind: IoKind) {
        let mut rig = Rig::new(kind);
        // Bound, so that nobody else gets the port, but not listening.
        let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        closed.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("binds");
        let addr = closed.local_addr().expect("bound").as_socket().expect("IP");
        rig.push(Op::Connect { addr, bind: None });
        let Outcome::Connected(connected) = rig.next().outcome else { panic!("not a connect") };
        assert_eq!(errno(connected), libc::ECONNREFUSED);
        rig.finish();
    }

    fn a_connection_can_come_from_a_chosen_address(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (_listener, addr) = rig.listen();
        let bind = SocketAddr::from(([127, 0, 0, 2], 0));
        rig.push(Op::Connect { addr, bind: Some(bind) });
        let Outcome::Connected(connected) = rig.next().outcome else { panic!("not a connect") };
        assert_eq!(connected.expect("connects").local_addr().expect("bound").ip(), bind.ip());
        let impossible = SocketAddr::from(([192, 0, 2, 1], 0));
        rig.push(Op::Connect { addr, bind: Some(impossible) });
        let Outcome::Connected(connected) = rig.next().outcome else { panic!("not a connect") };
        assert_eq!(errno(connected), libc::EADDRNOTAVAIL);
        rig.finish();
    }

    fn what_is_sent_comes_back_from_an_echo(kind: IoKind) {
        const TOTAL: usize = 3 << 20;
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let echo = thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(7);
            let mut buf = vec![0; 100_000];
            loop {
                let most = random.usize(1..buf.len());
                match far.read(&mut buf[..most]).expect("reads") {
                    0 => return,
                    count => far.write_all(&buf[..count]).expect("writes"),
                }
            }
        });
        let data = Bytes::from(pattern(TOTAL));
        let recv = rig.push(Op::Recv { socket: socket.clone() });
        let mut random = fastrand::Rng::with_seed(8);
        let (mut queued, mut back) = (0, Vec::new());
        send_part(&mut rig, &socket, SendBatch::new(), &data, &mut queued, &mut random);
        while back.len() < TOTAL {
            let completion = rig.next();
            match completion.outcome {
                Outcome::Received(buf) => back.extend_from_slice(&buf),
                Outcome::Sent(batch, sent) => {
                    assert!(completion.last && sent.is_ok() && batch.sent() == batch.len());
                    send_part(&mut rig, &socket, batch, &data, &mut queued, &mut random);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(back == data, "the echo differs");
        socket.shutdown();
        let end = rig.next_of(recv);
        assert!(end.last && matches!(end.outcome, Outcome::RecvEnded(Ok(()))));
        echo.join().expect("the echo ends");
        rig.finish();
    }

    fn receiving_some_never_takes_more(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let data = pattern(200_000);
        let sent = data.clone();
        let sender = thread::spawn(move || far.write_all(&sent).expect("writes"));
        let mut handshake = Vec::new();
        while handshake.len() < 68 {
            rig.push(Op::RecvSome { socket: socket.clone(), max: 68 - handshake.len() });
            let completion = rig.next();
            let Outcome::Received(buf) = completion.outcome else { panic!("no bytes") };
            assert!(completion.last && !buf.is_empty() && buf.len() <= 68 - handshake.len());
            handshake.extend_from_slice(&buf);
        }
        assert_eq!(handshake, data[..68]);
        assert!(rig.receive_all(&socket).expect("ends") == data[68..], "the rest differs");
        sender.join().expect("sends");
        rig.push(Op::RecvSome { socket, max: 68 });
        assert!(matches!(rig.next(), Completion { outcome: Outcome::RecvEnded(Ok(())), last: true, .. }));
        rig.finish();
    }

    fn a_large_batch_reaches_a_slow_reader_whole(kind: IoKind) {
        const BLOCK: usize = 16 << 10;
        const BLOCKS: usize = 4096;
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let data = Bytes::from(pattern(BLOCK * BLOCKS));
        let mut expected = Vec::with_capacity((BLOCK + 4) * BLOCKS);
        let mut batch = SendBatch::new();
        for block in 0..BLOCKS {
            let header = (block as u32).to_be_bytes();
            let range = block * BLOCK..(block + 1) * BLOCK;
            expected.extend_from_slice(&header);
            expected.extend_from_slice(&data[range.clone()]);
            batch.push_bytes(&header);
            batch.push_payload(data.clone(), range);
        }
        let reader = thread::spawn(move || {
            let (mut got, mut piece) = (Vec::with_capacity(expected.len()), vec![0; 50_001]);
            loop {
                match far.read(&mut piece).expect("reads") {
                    0 => return got == expected,
                    count => got.extend_from_slice(&piece[..count]),
                }
                thread::yield_now();
            }
        });
        rig.push(Op::Send { socket: socket.clone(), batch });
        let completion = rig.next();
        let Outcome::Sent(batch, sent) = completion.outcome else { panic!("not a send") };
        sent.expect("sends");
        assert!(completion.last && batch.sent() == (BLOCK + 4) * BLOCKS);
        drop(socket);
        assert!(reader.join().expect("reads"), "what arrived differs");
        rig.finish();
    }

    fn an_empty_batch_is_sent_at_once(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, _far) = rig.unix_pair();
        rig.push(Op::Send { socket, batch: SendBatch::new() });
        assert!(matches!(rig.next(), Completion { outcome: Outcome::Sent(_, Ok(())), last: true, .. }));
        rig.finish();
    }

    fn the_end_of_a_stream_is_no_error_and_a_reset_is(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, far) = rig.tcp_pair();
        drop(far);
        assert_eq!(rig.receive_all(&socket).expect("ends"), b"");

        let (socket, far) = rig.tcp_pair();
        SockRef::from(&far).set_linger(Some(Duration::ZERO)).expect("sets");
        let token = rig.push(Op::Recv { socket: socket.clone() });
        rig.driver.wait(Some(Duration::ZERO)).expect("arms the receive");
        drop(far);
        let Outcome::RecvEnded(ended) = rig.next_of(token).outcome else { panic!("not an end") };
        assert_eq!(errno(ended), libc::ECONNRESET);
        rig.push(Op::Send { socket, batch: batch_of(b"too late") });
        let Outcome::Sent(batch, sent) = rig.next().outcome else { panic!("not a send") };
        assert_eq!((errno(sent), batch.sent()), (libc::EPIPE, 0));
        rig.finish();
    }
}

/// Sends the next few parts of `data`, some copied and some by reference.
fn send_part(
    rig: &mut Rig,
    socket: &Socket,
    mut batch: SendBatch,
    data: &Bytes,
    queued: &mut usize,
    random: &mut fastrand::Rng,
) {
    batch.clear();
    for _ in 0..random.usize(1..20) {
        let end = data.len().min(*queued + random.usize(0..40_000));
        if random.bool() {
            batch.push_bytes(&data[*queued..end]);
        } else {
            batch.push_payload(data.clone(), *queued..end);
        }
        *queued = end;
    }
    if !batch.is_empty() {
        rig.push(Op::Send { socket: socket.clone(), batch });
    }
}
