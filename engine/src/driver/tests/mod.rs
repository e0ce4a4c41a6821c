//! One suite for both drivers: every test here runs on io_uring and on epoll.

mod cancel;
mod files;
mod life;
mod pressure;
mod streams;
mod zero_copy;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::*;

/// Turns functions of an `IoKind` into two tests each.
macro_rules! both {
    ($($(#[$meta:meta])* fn $name:ident($kind:ident: IoKind) $body:block)+) => {$(
        mod $name {
            use super::*;

            fn run($kind: IoKind) $body

            $(#[$meta])*
            #[test]
            fn uring() {
                run(IoKind::Uring);
            }

            $(#[$meta])*
            #[test]
            fn epoll() {
                run(IoKind::Epoll);
            }
        }
    )+};
}
use both;

/// Far longer than anything takes: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A driver with tokens counted up, and completions that were not asked for yet.
struct Rig {
    driver: Driver,
    tokens: u64,
    early: VecDeque<Completion>,
}

impl Rig {
    fn new(kind: IoKind) -> Rig {
        Rig::with(kind, &DriverConfig::default())
    }

    fn with(kind: IoKind, config: &DriverConfig) -> Rig {
        let driver = Driver::new(kind, config).expect("the kernel allows both drivers");
        Rig { driver, tokens: 0, early: VecDeque::new() }
    }

    fn push(&mut self, op: Op) -> Token {
        self.tokens += 1;
        self.driver.push(Token(self.tokens), op);
        Token(self.tokens)
    }

    /// The next completion, whatever it is of.
    fn next(&mut self) -> Completion {
        if let Some(completion) = self.early.pop_front() {
            return completion;
        }
        let begun = Instant::now();
        loop {
            if let Some(completion) = self.driver.poll() {
                return completion;
            }
            assert!(begun.elapsed() < PATIENCE, "no completion; {:?}", self.driver);
            self.driver.wait(Some(PATIENCE)).expect("waits");
        }
    }

    /// The next completion of `token`; others keep.
    fn next_of(&mut self, token: Token) -> Completion {
        if let Some(at) = self.early.iter().position(|completion| completion.token == token) {
            return self.early.remove(at).expect("was found there");
        }
        let mut others = VecDeque::new();
        std::mem::swap(&mut others, &mut self.early);
        let found = loop {
            let completion = self.next();
            if completion.token == token {
                break completion;
            }
            others.push_back(completion);
        };
        self.early = others;
        found
    }

    fn listen(&mut self) -> (Socket, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let addr = listener.local_addr().expect("bound");
        (self.driver.adopt(listener.into()).expect("adopts"), addr)
    }

    /// A TCP connection: our end in the driver, the other one plain and blocking.
    fn tcp_pair(&mut self) -> (Socket, TcpStream) {
        let (near, far) = tcp_pair();
        (self.driver.adopt(near.into()).expect("adopts"), far)
    }

    /// A cheap stream: our end in the driver, the other one plain and blocking.
    fn unix_pair(&mut self) -> (Socket, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a pair");
        (self.driver.adopt(near.into()).expect("adopts"), far)
    }

    /// Receives until the end of the stream.
    fn receive_all(&mut self, socket: &Socket) -> io::Result<Vec<u8>> {
        let token = self.push(Op::Recv { socket: socket.clone() });
        let mut bytes = Vec::new();
        loop {
            let completion = self.next_of(token);
            match completion.outcome {
                Outcome::Received(buf) => {
                    assert!(!completion.last && !buf.is_empty());
                    bytes.extend_from_slice(&buf);
                }
                Outcome::RecvEnded(ended) => {
                    assert!(completion.last);
                    return ended.map(|()| bytes);
                }
                other => panic!("{other:?} of a receive"),
            }
        }
    }

    fn finish(&self) {
        assert!(self.early.is_empty(), "{:?}", self.early);
        assert_eq!(self.driver.in_flight(), 0);
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    (near, listener.accept().expect("accepts").0)
}

fn batch_of(bytes: &[u8]) -> SendBatch {
    let mut batch = SendBatch::new();
    batch.push_bytes(bytes);
    batch
}

/// Takes as many bytes as these.
fn expecting(bytes: &[u8]) -> Box<Scatter> {
    let mut scatter = Box::new(Scatter::new());
    scatter.expect(bytes);
    scatter
}

/// Bytes that show it when some are lost, doubled or swapped.
fn pattern(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// Writes as much as a socket takes without blocking.
fn fill(stream: &mut UnixStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).expect("sets");
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    written
}

fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}
