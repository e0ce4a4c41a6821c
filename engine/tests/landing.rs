//! Peers that are so fast that blocks are received straight into their pieces, and then do something else than what was
//! expected: speak between blocks, mix them up, fall silent, vanish. Whatever they do, what was downloaded is right.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use ringtide_engine::driver::{IoChoice, IoKind, probe};
use ringtide_engine::{Config, Engine, Purpose};
use ringtide_proto::id::PeerId;
use ringtide_proto::metainfo::{Metainfo, TorrentBuilder};
use ringtide_proto::picker::Order;
use ringtide_proto::torrent::Policy;
use ringtide_proto::wire::{Bounds, Decoder, Event, HANDSHAKE_LEN, Handshake, Message, RawSpan, Reserved};

use common::{HANG, add, content, wait_complete};

const PIECE: usize = 256 << 10;
const LEN: usize = 24 << 20;

/// Requests that a peer waits for, so that what it sends at once fills many buffers. No more than are made at first.
const BURST: usize = 16;

fn engine(io: IoChoice, order: Order) -> Engine {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let config = Config {
        io,
        shards: Some(1),
        listen,
        measure: true,
        policy: Policy { order, ..Policy::default() },
        ..Config::default()
    };
    Engine::start(config).expect("an engine starts")
}

fn torrent(bytes: &[u8]) -> Arc<Metainfo> {
    let hashes: Vec<_> = bytes.chunks(PIECE).map(ringtide_hasher::sha1).collect();
    let torrent = TorrentBuilder::single_file("fast", bytes.len() as u64, PIECE as u32);
    let encoded = torrent.build(&hashes).expect("a torrent is built");
    Arc::new(Metainfo::parse(&encoded).expect("it is valid"))
}

/// What a peer does with the requests that it has gathered.
type Manner = Box<dyn FnMut(&mut Peer, Vec<RawSpan>) -> bool + Send>;

/// A peer that has everything.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    bytes: Arc<Vec<u8>>,
    random: fastrand::Rng,
}

impl Peer {
    /// One that waits for the engine to connect, and gives as `manner` does until that is false. Its address, and what
    /// tells when it has ended.
    fn start(metainfo: &Metainfo, bytes: &Arc<Vec<u8>>, mut manner: Manner) -> (SocketAddr, Receiver<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("binds");
        let addr = listener.local_addr().expect("bound");
        let (ended, end) = channel();
        let (bytes, info_hash) = (Arc::clone(bytes), metainfo.info_hash_v1().expect("version 1"));
        let bounds = Bounds { bitfield_len: (LEN / PIECE).div_ceil(8), max_block: 1, max_extended: 1 << 16 };
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the engine connects");
            stream.set_read_timeout(Some(HANG)).expect("a timeout");
            stream.read_exact(&mut [0; HANDSHAKE_LEN]).expect("a handshake");
            let handshake = Handshake { reserved: Reserved::OURS, info_hash, peer_id: PeerId([b'f'; 20]) };
            stream.write_all(&handshake.encode()).expect("writes");
            let mut peer =
                Peer { stream, decoder: Decoder::new(bounds), bytes, random: fastrand::Rng::with_seed(7) };
            peer.say(&[Message::HaveAll, Message::Unchoke]);
            while let Some(spans) = peer.gather() {
                if !manner(&mut peer, spans) {
                    break;
                }
            }
            let _ = ended.send(());
        });
        (addr, end)
    }

    /// The next requests, as many as come together; none at the end of the connection.
    fn gather(&mut self) -> Option<Vec<RawSpan>> {
        let (mut spans, mut part) = (Vec::new(), [0; 4096]);
        loop {
            // A pause shows that no more come until these are answered.
            self.stream.set_read_timeout(Some(if spans.is_empty() { HANG } else { PAUSE })).expect("sets");
            let count = match self.stream.read(&mut part) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(_) if spans.is_empty() => return None,
                Err(_) => return Some(spans),
            };
            let mut input = &part[..count];
            while let Ok(Some(event)) = self.decoder.decode(&mut input) {
                if let Event::Message(Message::Request(span)) = event {
                    spans.push(span);
                }
            }
            if spans.len() >= BURST {
                return Some(spans);
            }
        }
    }

    fn say(&mut self, messages: &[Message]) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.send(&bytes);
    }

    fn send(&mut self, bytes: &[u8]) {
        // The engine is done, maybe.
        let _ = self.stream.write_all(bytes);
    }

    fn block(&self, span: RawSpan) -> Vec<u8> {
        let start = span.piece as usize * PIECE + span.begin as usize;
        [&span.block_header()[..], &self.bytes[start..start + span.length as usize]].concat()
    }

    fn give(&mut self, spans: &[RawSpan]) {
        let bytes: Vec<u8> = spans.iter().flat_map(|&span| self.block(span)).collect();
        self.send(&bytes);
    }
}

/// Long enough for requests that are on their way.
const PAUSE: Duration = Duration::from_millis(20);

/// Gives what is asked for, in order.
fn tidy() -> Manner {
    Box::new(|peer, spans| {
        peer.give(&spans);
        true
    })
}

/// Downloads from such peers and compares. How many receives went straight into pieces.
fn download(io: IoChoice, order: Order, manners: Vec<Manner>) -> u64 {
    let bytes = Arc::new(content(LEN, 11));
    let metainfo = torrent(&bytes);
    let to = tempfile::tempdir().expect("a directory");
    let peers: Vec<_> = manners.into_iter().map(|manner| Peer::start(&metainfo, &bytes, manner)).collect();
    let addrs: Vec<SocketAddr> = peers.iter().map(|(addr, _)| *addr).collect();
    let engine = engine(io, order);
    let id = add(&engine, &metainfo, to.path(), Purpose::Download, &addrs);
    assert_eq!(wait_complete(&engine, id).hash_failures, 0, "{io:?}");
    let metrics = engine.take_metrics();
    drop(engine);
    assert!(read(&to.path().join("fast")) == *bytes, "{io:?}");
    metrics.landed_bytes.count()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("it was downloaded")
}

/// Downloads on every driver there is; on io_uring something must have gone straight into pieces.
fn downloads(manners: fn() -> Vec<Manner>) {
    let uring = probe(IoChoice::Auto).expect("some driver works").0 == IoKind::Uring;
    for io in [IoChoice::Uring, IoChoice::Epoll].into_iter().skip(usize::from(!uring)) {
        let landed = download(io, Order::RarestFirst, manners());
        assert_eq!(landed > 0, io == IoChoice::Uring, "{io:?}: {landed}");
    }
}

#[test]
fn a_fast_peer_fills_pieces_directly() {
    downloads(|| vec![tidy()]);
}

#[test]
fn pieces_are_asked_for_in_order_where_that_is_wanted() {
    let last = Arc::new(AtomicU32::new(0));
    let asked = Arc::clone(&last);
    let watchful: Manner = Box::new(move |peer, spans| {
        for span in &spans {
            assert!(asked.swap(span.piece, Ordering::Relaxed) <= span.piece, "{span:?}");
        }
        peer.give(&spans);
        true
    });
    download(IoChoice::Auto, Order::Sequential, vec![watchful]);
    assert_eq!(last.load(Ordering::Relaxed) as usize, LEN / PIECE - 1);
}

#[test]
fn a_peer_may_speak_between_blocks_and_mix_them_up() {
    downloads(|| {
        vec![Box::new(|peer, mut spans| {
            if peer.random.bool() {
                peer.random.shuffle(&mut spans);
            }
            let mut bytes = Vec::new();
            for span in spans {
                bytes.extend(peer.block(span));
                match peer.random.u32(0..40) {
                    0..3 => Message::KeepAlive.encode(&mut bytes),
                    3..6 => Message::Unchoke.encode(&mut bytes),
                    6..9 => Message::Have { piece: span.piece }.encode(&mut bytes),
                    // What was given before is given again, which is forgiven 64 times.
                    9 => bytes.extend(peer.block(span)),
                    10..13 => Message::Extended { id: 77, payload: vec![3; 20_000] }.encode(&mut bytes),
                    _ => {}
                }
            }
            // Cut anywhere, within headers too.
            while !bytes.is_empty() {
                let len = peer.random.usize(1..=bytes.len().min(300_000));
                peer.send(&bytes[..len]);
                bytes.drain(..len);
            }
            true
        })]
    });
}

#[test]
fn a_peer_may_choke_in_the_middle() {
    downloads(|| {
        vec![Box::new(|peer, spans| {
            let (now, never) = spans.split_at(spans.len() - spans.len() / 8);
            let mut bytes: Vec<u8> = now.iter().flat_map(|&span| peer.block(span)).collect();
            if !never.is_empty() {
                Message::Choke.encode(&mut bytes);
                // BEP 6: what is not given is rejected.
                never.iter().for_each(|&span| Message::RejectRequest(span).encode(&mut bytes));
                Message::Unchoke.encode(&mut bytes);
            }
            peer.send(&bytes);
            true
        })]
    });
}

/// Gives so many bursts and half a block more, and then does as `then` says.
fn leaves_off(after: usize, then: fn(&mut Peer) -> bool) -> Manner {
    let mut bursts = 0;
    Box::new(move |peer, spans| {
        bursts += 1;
        if bursts <= after {
            peer.give(&spans);
            return true;
        }
        let block = peer.block(spans[0]);
        peer.send(&block[..8000]);
        then(peer)
    })
}

#[test]
fn what_a_silent_peer_was_to_give_another_gives() {
    downloads(|| {
        let silent = leaves_off(20, |peer| {
            // Nothing more, until the engine closes the connection.
            while peer.gather().is_some() {}
            false
        });
        vec![silent, tidy()]
    });
}

#[test]
fn a_peer_may_vanish_in_the_middle_of_a_block() {
    downloads(|| vec![leaves_off(20, |_| false), tidy()]);
}

#[test]
fn a_peer_may_rest_and_go_on() {
    downloads(|| {
        let mut bursts = 0;
        vec![Box::new(move |peer, spans| {
            bursts += 1;
            if bursts != 20 {
                peer.give(&spans);
                return true;
            }
            let mut bytes = peer.block(spans[0]);
            Message::Choke.encode(&mut bytes);
            spans[1..].iter().for_each(|&span| Message::RejectRequest(span).encode(&mut bytes));
            peer.send(&bytes);
            // Longer than a connection needs to count as idle.
            thread::sleep(Duration::from_secs(5));
            peer.say(&[Message::Have { piece: 0 }, Message::Unchoke]);
            true
        })]
    });
}
