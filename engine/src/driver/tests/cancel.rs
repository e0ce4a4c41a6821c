//! Cancelling: every operation has exactly one final completion, whatever happened before it.

use std::io::Read;

use super::*;
use crate::storage::BufferPool;

/// The error of an outcome that is one, and what the operation gives back is dropped.
fn error_of(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Accepted(accepted) => errno(accepted),
        Outcome::Connected(connected) => errno(connected),
        Outcome::Received(_) => 0,
        Outcome::RecvEnded(ended) => errno(ended),
        Outcome::ReceivedInto(_, received) => errno(received),
        Outcome::Sent(_, sent) => errno(sent),
        Outcome::Read(_, read) => errno(read),
        Outcome::Written(written) => errno(written),
        Outcome::Synced(synced) => errno(synced),
    }
}

/// A listener whose queue is full, so that connections to it stay half open.
fn full_listener() -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
    let socket =
        || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let listener = socket();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("binds");
    listener.listen(0).expect("listens");
    let addr = listener.local_addr().expect("bound");
    let fillers = (0..4)
        .map(|_| {
            let filler = socket();
            filler.set_nonblocking(true).expect("sets");
            let _ = filler.connect(&addr);
            filler
        })
        .collect();
    (listener, fillers, addr.as_socket().expect("IP"))
}

impl Rig {
    /// Lets an operation begin, cancels it twice, and returns how it ended.
    fn begin_and_cancel(&mut self, op: Op) -> i32 {
        let token = self.push(op);
        self.driver.wait(Some(Duration::ZERO)).expect("begins");
        assert!(self.driver.poll().is_none(), "it cannot have ended");
        self.driver.cancel(token);
        self.driver.cancel(token);
        let end = self.next();
        assert!(end.token == token && end.last);
        self.driver.cancel(token);
        self.driver.wait(Some(Duration::ZERO)).expect("settles");
        assert!(self.driver.poll().is_none(), "a second end");
        error_of(end.outcome)
    }
}

both! {
    fn each_operation_that_waits_for_a_peer_can_be_cancelled(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (listener, _) = rig.listen();
        let (socket, _far) = rig.unix_pair();
        let (_full, _fillers, addr) = full_listener();
        let mut batch = SendBatch::new();
        batch.push_payload(vec![1; 32 << 20], 0..32 << 20);
        let ops = [
            Op::Accept { listener },
            Op::Connect { addr, bind: None },
            Op::RecvSome { socket: socket.clone(), max: 10 },
            Op::Recv { socket: socket.clone() },
            Op::RecvInto { socket: socket.clone(), scatter: expecting(b"never") },
            Op::Send { socket, batch },
        ];
        for op in ops {
            let what = format!("{op:?}");
            assert_eq!(rig.begin_and_cancel(op), libc::ECANCELED, "{what}");
        }
        rig.finish();
    }

    fn a_cancelled_receive_takes_nothing_that_comes_later(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let op = Op::RecvInto { socket: socket.clone(), scatter: expecting(b"never") };
        assert_eq!(rig.begin_and_cancel(op), libc::ECANCELED);
        far.write_all(b"later").expect("writes");
        far.shutdown(std::net::Shutdown::Write).expect("shuts");
        assert_eq!(rig.receive_all(&socket).expect("receives"), b"later");
        rig.finish();
    }

    fn cancelling_before_anything_was_submitted_is_no_different(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, _far) = rig.unix_pair();
        let recv = rig.push(Op::Recv { socket });
        rig.driver.cancel(recv);
        rig.driver.cancel(Token(99));
        let end = rig.next();
        assert!(end.last && end.token == recv && error_of(end.outcome) == libc::ECANCELED);
        rig.finish();
    }

    fn a_cancelled_file_operation_still_ends_once(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let file: Arc<OwnedFd> = Arc::new(tempfile::tempfile().expect("a file").into());
        let buf = BufferPool::new(1 << 20).try_take_aligned(1 << 20).expect("fits");
        let ops = [
            Op::Write { file: Arc::clone(&file), offset: 0, data: vec![1; 1 << 20].into() },
            Op::Read { file: Arc::clone(&file), offset: 0, buf, len: 1 << 20 },
            Op::Sync { file },
        ];
        let tokens = ops.map(|op| rig.push(op));
        tokens.iter().for_each(|&token| rig.driver.cancel(token));
        for _ in 0..tokens.len() {
            let end = rig.next();
            assert!(end.last);
            let error = error_of(end.outcome);
            assert!(error == 0 || error == libc::ECANCELED, "{error}");
        }
        rig.finish();
    }

    fn after_a_cancelled_receive_dropping_the_socket_closes_it(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let recv = rig.push(Op::Recv { socket: socket.clone() });
        rig.driver.wait(Some(Duration::ZERO)).expect("arms");
        rig.driver.cancel(recv);
        assert!(rig.next().last);
        drop(socket);
        assert_eq!(far.read(&mut [0; 1]).expect("the end"), 0);
        rig.finish();
    }

    fn a_cancelled_send_knows_how_much_was_sent(kind: IoKind) {
        const LEN: usize = 24 << 20;
        let data = bytes::Bytes::from(pattern(LEN));
        for seed in 0..12 {
            let mut rig = Rig::new(kind);
            let (socket, mut far) = rig.unix_pair();
            let mut batch = SendBatch::new();
            for block in 0..LEN >> 14 {
                batch.push_payload(data.clone(), block << 14..(block + 1) << 14);
            }
            let send = rig.push(Op::Send { socket, batch });
            let mut got = vec![0; seed * 500_000];
            let reader = std::thread::spawn(move || {
                far.read_exact(&mut got).expect("reads");
                (far, got)
            });
            // The send goes on while its peer reads, which it does to the last byte it asked for.
            while !reader.is_finished() {
                rig.driver.wait(Some(Duration::from_millis(1))).expect("waits");
            }
            let (mut far, mut got) = reader.join().expect("reads");
            rig.driver.cancel(send);
            let Outcome::Sent(batch, sent) = rig.next().outcome else { panic!("not a send") };
            assert_eq!(errno(sent), libc::ECANCELED);
            far.read_to_end(&mut got).expect("reads");
            assert_eq!(batch.sent(), got.len());
            assert!(data.starts_with(&got), "bytes lost or doubled");
            rig.finish();
        }
    }

    fn shutting_down_ends_an_armed_receive(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.tcp_pair();
        let recv = rig.push(Op::Recv { socket: socket.clone() });
        rig.driver.wait(Some(Duration::ZERO)).expect("arms");
        socket.shutdown();
        assert_eq!(far.read(&mut [0; 1]).expect("the end"), 0);
        assert!(matches!(rig.next_of(recv).outcome, Outcome::RecvEnded(Ok(()))));
        rig.finish();
    }

    fn a_storm_of_cancellations_loses_and_doubles_nothing(kind: IoKind) {
        for seed in 0..4 {
            Storm::new(kind, seed).run();
        }
    }
}

/// One stream of the storm.
struct Stream {
    socket: Socket,
    far: UnixStream,
    written: usize,
    received: usize,
    armed: Option<Token>,
}

/// Hundreds of receives armed and cancelled at random while data flows.
struct Storm {
    rig: Rig,
    streams: Vec<Stream>,
    /// Which stream a token in flight receives for.
    owners: std::collections::HashMap<Token, usize>,
    random: fastrand::Rng,
    /// What flows: the byte at a position of any stream.
    data: Vec<u8>,
    held: VecDeque<RecvBuf>,
    buffers: usize,
}

impl Storm {
    const STREAMS: usize = 300;
    const STEPS: usize = 4000;

    fn new(kind: IoKind, seed: u64) -> Storm {
        let config = DriverConfig {
            recv_buffers: 24,
            recv_buffer_bytes: 4096,
            entries: 64,
            completions: 128,
            ..DriverConfig::default()
        };
        let mut rig = Rig::with(kind, &config);
        let streams = (0..Storm::STREAMS).map(|_| {
            let (socket, far) = rig.unix_pair();
            Stream { socket, far, written: 0, received: 0, armed: None }
        });
        Storm {
            streams: streams.collect(),
            owners: std::collections::HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
            data: pattern(4 << 20),
            held: VecDeque::new(),
            buffers: usize::from(config.recv_buffers),
            rig,
        }
    }

    fn run(mut self) {
        for _ in 0..Storm::STEPS {
            let index = self.random.usize(0..self.streams.len());
            match self.random.u8(0..10) {
                0..4 => self.arm(index),
                4..6 => self.cancel(index),
                6..8 => self.write(index),
                8 => drop(self.held.pop_front()),
                _ => self.look(),
            }
        }
        self.finish();
    }

    fn arm(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        if stream.armed.is_some() {
            return;
        }
        let socket = stream.socket.clone();
        let op = match self.random.bool() {
            true => Op::Recv { socket },
            false => Op::RecvSome { socket, max: self.random.usize(1..5000) },
        };
        let token = self.rig.push(op);
        stream.armed = Some(token);
        assert_eq!(self.owners.insert(token, index), None);
    }

    fn cancel(&mut self, index: usize) {
        if let Some(token) = self.streams[index].armed {
            self.rig.driver.cancel(token);
        }
    }

    fn write(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let len = self.random.usize(1..20_000);
        stream.written += fill(&mut stream.far, &self.data[stream.written..][..len]);
    }

    /// Takes in what there is; keeps some buffers for a while.
    fn look(&mut self) {
        self.rig.driver.wait(Some(Duration::ZERO)).expect("waits");
        while let Some(completion) = self.rig.driver.poll() {
            self.on_completion(completion);
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        let index = *self.owners.get(&completion.token).expect("a completion after the last");
        let stream = &mut self.streams[index];
        if completion.last {
            self.owners.remove(&completion.token);
            assert_eq!(stream.armed.take(), Some(completion.token));
        }
        match completion.outcome {
            Outcome::Received(buf) => {
                assert!(self.data[stream.received..].starts_with(&buf), "bytes lost or doubled");
                stream.received += buf.len();
                self.held.push_back(buf);
                if self.held.len() > 8 {
                    self.held.pop_front();
                }
            }
            Outcome::RecvEnded(ended) => {
                let error = errno(ended);
                assert!(completion.last && (error == libc::ECANCELED || error == 0), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Lets all streams end and checks that nothing is missing.
    fn finish(mut self) {
        for index in 0..self.streams.len() {
            self.cancel(index);
        }
        while !self.owners.is_empty() {
            let completion = self.rig.next();
            self.on_completion(completion);
        }
        self.held.clear();
        for stream in self.streams.drain(..) {
            drop(stream.far);
            let rest = self.rig.receive_all(&stream.socket).expect("ends");
            assert!(rest == self.data[stream.received..stream.written], "bytes lost or doubled");
        }
        self.rig.finish();
        assert_eq!(self.rig.driver.free_recv_buffers(), self.buffers);
    }
}
