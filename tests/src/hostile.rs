//! Scripted peers: small blocking seeds that hold a torrent's bytes in memory and behave as told, honestly or not. Owns
//! nothing of ringtide's: the few messages it needs (BEP 3) are written here.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::torrent::Torrent;

/// Requests are for at most this much (BEP 3's customary block); larger ones end the connection.
const MAX_REQUEST: usize = 128 * 1024;
const BLOCK: u64 = 16 * 1024;
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
static NEXT: AtomicU64 = AtomicU64::new(0);
const POLL: Duration = Duration::from_millis(10);

const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;

/// How a peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers every request with the right bytes.
    Honest,
    /// Spoils one byte in every block whose number in the torrent is divisible by this.
    Poisons(u64),
    /// Sends half of its n-th block, then nothing more, and keeps the connection.
    StopsInBlock(u64),
    /// Speaks the handshake, then noise.
    Garbage,
    /// Claims everything, unchokes, and never answers a request.
    NeverSends,
    /// Sleeps this many milliseconds before each block.
    Slow(u64),
}

/// A peer at work. Its thread ends when it is dropped.
#[derive(Debug)]
pub struct Peer {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Makes its peer id: clients keep one connection of those that share an id.
    number: u64,
    info_hash: [u8; 20],
    piece_length: u64,
    pieces: u64,
    content: Arc<Vec<u8>>,
    holds: Range<u64>,
    manner: Manner,
    counters: Counters,
    /// Blocks after which it answers no more.
    most_blocks: AtomicU64,
    stopped: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

#[derive(Debug, Default)]
struct Counters {
    handshakes: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    blocks: AtomicU64,
    spoiled: AtomicU64,
}

impl Peer {
    /// Starts a peer at `addr` (port 0: any free one) with `content`, all of the torrent's bytes in order (one that
    /// never sends a block needs none).
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub fn start(addr: SocketAddr, torrent: &Torrent, content: &Arc<Vec<u8>>, manner: Manner) -> Self {
        Self::start_with(addr, torrent, content, manner, 0..torrent.pieces())
    }

    /// The same, of a peer that holds (or says it holds) the pieces of a range only.
    ///
    /// # Panics
    /// When the address cannot be bound, or the content is not the torrent's in length.
    pub fn start_with(
        addr: SocketAddr,
        torrent: &Torrent,
        content: &Arc<Vec<u8>>,
        manner: Manner,
        holds: Range<u64>,
    ) -> Self {
        let needs_none = matches!(manner, Manner::NeverSends | Manner::Garbage);
        assert!(needs_none || content.len() as u64 == torrent.total, "the content is the torrent's");
        let listener =
            TcpListener::bind(addr).unwrap_or_else(|error| panic!("cannot listen at {addr}: {error}"));
        let addr = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            number: NEXT.fetch_add(1, Relaxed),
            info_hash: torrent.info_hash,
            piece_length: torrent.piece_length,
            pieces: torrent.pieces(),
            content: Arc::clone(content),
            holds,
            manner,
            counters: Counters::default(),
            most_blocks: AtomicU64::new(u64::MAX),
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serving.accept_all(&listener));
        Self { addr, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Handshakes completed so far.
    pub fn handshakes(&self) -> u64 {
        self.shared.counters.handshakes.load(Relaxed)
    }

    /// Connections open now, as far as it has noticed: a closed one is noticed at once, as it always reads.
    pub fn open_connections(&self) -> u64 {
        self.shared.counters.open.load(Relaxed)
    }

    /// Requests received.
    pub fn requests(&self) -> u64 {
        self.shared.counters.requests.load(Relaxed)
    }

    /// Whole blocks sent, spoiled ones included.
    pub fn blocks_sent(&self) -> u64 {
        self.shared.counters.blocks.load(Relaxed)
    }

    /// Spoiled blocks sent.
    pub fn blocks_spoiled(&self) -> u64 {
        self.shared.counters.spoiled.load(Relaxed)
    }

    /// Once it has sent so many blocks it answers no request, and stays connected. A request that it is answering goes
    /// on.
    pub fn send_at_most(&self, blocks: u64) {
        self.shared.most_blocks.store(blocks, Relaxed);
    }

    /// Dials `target` from this peer's address and says whether a handshake came back: a banned address gets none.
    pub fn is_welcome_at(&self, target: SocketAddr) -> bool {
        self.shared.dial(self.addr, target).is_ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        // Wakes the acceptor, and every thread that reads.
        let _ = TcpStream::connect(self.addr);
        for connection in self.shared.connections.lock().expect("no thread panics with it").iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn accept_all(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.stopped.load(Relaxed) {
                return;
            }
            if let Ok(copy) = stream.try_clone() {
                self.connections.lock().expect("no thread panics with it").push(copy);
            }
            let serving = Arc::clone(self);
            std::thread::spawn(move || {
                serving.counters.open.fetch_add(1, Relaxed);
                // An error is the other side's leaving, or a ban: the counters tell which.
                let _ = serving.serve(&stream);
                // A copy of the socket is kept for the drop, so closing takes more than dropping this one.
                let _ = stream.shutdown(Shutdown::Both);
                serving.counters.open.fetch_sub(1, Relaxed);
            });
        }
    }

    fn dial(&self, from: SocketAddr, to: SocketAddr) -> io::Result<()> {
        let socket = rustix::net::socket(
            if from.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 },
            rustix::net::SocketType::STREAM,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddr::new(from.ip(), 0))?;
        rustix::net::connect(&socket, &to)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(crate::wait::HANG))?;
        self.send_handshake(&mut &stream)?;
        self.read_handshake(&mut stream)
    }

    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        self.read_handshake(&mut stream)?;
        self.send_handshake(&mut stream)?;
        self.counters.handshakes.fetch_add(1, Relaxed);
        if self.manner == Manner::Garbage {
            return self.babble(stream);
        }
        self.send_message(&mut stream, BITFIELD, &[&self.bitfield()])?;
        loop {
            let message = read_message(&mut stream)?;
            match message.split_first() {
                Some((&INTERESTED, _)) => self.send_message(&mut stream, UNCHOKE, &[])?,
                Some((&REQUEST, body)) => self.answer(&mut stream, body)?,
                _ => {}
            }
        }
    }

    fn read_handshake(&self, stream: &mut impl Read) -> io::Result<()> {
        let mut theirs = [0; 68];
        stream.read_exact(&mut theirs)?;
        let known = theirs[..20] == *PROTOCOL && theirs[28..48] == self.info_hash;
        if known { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    fn send_handshake(&self, stream: &mut impl Write) -> io::Result<()> {
        let peer_id = format!("-XX0001-{:012}", self.number);
        stream.write_all(&[PROTOCOL, &[0; 8][..], &self.info_hash, peer_id.as_bytes()].concat())
    }

    #[expect(clippy::unused_self, reason = "reads as what it is at every call")]
    fn send_message(&self, stream: &mut impl Write, id: u8, parts: &[&[u8]]) -> io::Result<()> {
        let body: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(body + 1).map_err(io::Error::other)?.to_be_bytes();
        stream.write_all(&[&length[..], &[id], &parts.concat()].concat())
    }

    /// Noise until the other side has had enough of it.
    fn babble(&self, mut stream: &TcpStream) -> io::Result<()> {
        let noise: Vec<u8> = (0..MAX_REQUEST).map(|n| (n * n / 7) as u8 | 0x80).collect();
        loop {
            stream.write_all(&noise)?;
            std::thread::sleep(POLL);
        }
    }

    /// The pieces it says it holds (BEP 3: the high bit of the first byte is piece 0).
    fn bitfield(&self) -> Vec<u8> {
        let mut bits =
            vec![0_u8; usize::try_from(self.pieces.div_ceil(8)).expect("a bit per piece fits memory")];
        for piece in self.holds.clone() {
            bits[(piece / 8) as usize] |= 0x80 >> (piece % 8);
        }
        bits
    }

    fn answer(&self, stream: &mut impl Write, body: &[u8]) -> io::Result<()> {
        self.counters.requests.fetch_add(1, Relaxed);
        let spent = self.counters.blocks.load(Relaxed) >= self.most_blocks.load(Relaxed);
        if self.manner == Manner::NeverSends || spent {
            return Ok(());
        }
        let Ok(body) = <[u8; 12]>::try_from(body) else { return Err(ErrorKind::InvalidData.into()) };
        let number = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        let offset = u64::from(number(0)) * self.piece_length + u64::from(number(4));
        let length = number(8) as usize;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.content.get(start..start + length.min(MAX_REQUEST));
        let Some(bytes) = bytes else { return Err(ErrorKind::InvalidData.into()) };
        match self.manner {
            Manner::Slow(pause) => std::thread::sleep(Duration::from_millis(pause)),
            Manner::StopsInBlock(nth) if self.counters.blocks.load(Relaxed) + 1 >= nth => {
                return self.stop_within(stream, &body[..8], bytes);
            }
            Manner::Poisons(nth) if (offset / BLOCK).is_multiple_of(nth) => {
                let mut spoiled = bytes.to_vec();
                spoiled[length / 2] ^= 0x20;
                self.send_message(stream, PIECE, &[&body[..8], &spoiled])?;
                self.counters.spoiled.fetch_add(1, Relaxed);
                self.counters.blocks.fetch_add(1, Relaxed);
                return Ok(());
            }
            _ => {}
        }
        self.send_message(stream, PIECE, &[&body[..8], bytes])?;
        self.counters.blocks.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Sends half of a block and waits until it is dropped.
    fn stop_within(&self, stream: &mut impl Write, header: &[u8], bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len() + 9).map_err(io::Error::other)?.to_be_bytes();
        stream.write_all(&[&length[..], &[PIECE], header, &bytes[..bytes.len() / 2]].concat())?;
        while !self.stopped.load(Relaxed) {
            std::thread::sleep(POLL);
        }
        Err(ErrorKind::Interrupted.into())
    }
}

/// Reads one message: identifier and body, empty for a keep-alive.
fn read_message(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_REQUEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content;

    fn fixture(manner: Manner) -> (Torrent, Arc<Vec<u8>>, Peer, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        content::write_file(&file, 20 * 16384 + 5, 1);
        let torrent = Torrent::create(&file, 32768, "", dir.path());
        let bytes = Arc::new(std::fs::read(&file).unwrap());
        let peer = Peer::start("127.0.0.1:0".parse().unwrap(), &torrent, &bytes, manner);
        (torrent, bytes, peer, dir)
    }

    /// Connects, and asks for block 2 of the content and for the short last one.
    fn ask(peer: &Peer) -> TcpStream {
        let mut stream = TcpStream::connect(peer.addr()).unwrap();
        peer.shared.send_handshake(&mut stream).unwrap();
        peer.shared.read_handshake(&mut stream).unwrap();
        peer.shared.send_message(&mut stream, INTERESTED, &[]).unwrap();
        for (piece, begin, length) in [(1_u32, 0_u32, 16384_u32), (10, 0, 5)] {
            let parts = [&piece.to_be_bytes()[..], &begin.to_be_bytes(), &length.to_be_bytes()];
            peer.shared.send_message(&mut stream, REQUEST, &parts).unwrap();
        }
        stream
    }

    #[test]
    fn an_honest_peer_answers() {
        let (_torrent, bytes, peer, _dir) = fixture(Manner::Honest);
        let mut stream = ask(&peer);
        assert_eq!(read_message(&mut stream).unwrap(), [BITFIELD, 0xff, 0xe0]);
        assert_eq!(read_message(&mut stream).unwrap(), [UNCHOKE]);
        assert_eq!(read_message(&mut stream).unwrap()[9..], bytes[32768..32768 + 16384]);
        assert_eq!(read_message(&mut stream).unwrap()[9..], bytes[20 * 16384..]);
        drop(stream);
        crate::wait::until("the peer to notice", || peer.open_connections() == 0);
        assert_eq!((peer.handshakes(), peer.requests(), peer.blocks_sent()), (1, 2, 2));
    }

    #[test]
    fn a_poisoner_spoils_every_nth_block() {
        let (_torrent, bytes, peer, _dir) = fixture(Manner::Poisons(2));
        let mut stream = ask(&peer);
        (0..2).for_each(|_| drop(read_message(&mut stream).unwrap()));
        let spoiled = read_message(&mut stream).unwrap();
        let wrong = spoiled[9..].iter().zip(&bytes[32768..]).filter(|(theirs, ours)| theirs != ours).count();
        assert_eq!(wrong, 1);
        crate::wait::until("the count", || peer.blocks_spoiled() >= 1);
    }

    #[test]
    fn one_that_stops_sends_half_a_block() {
        let (_torrent, _bytes, peer, _dir) = fixture(Manner::StopsInBlock(1));
        let mut stream = ask(&peer);
        (0..2).for_each(|_| drop(read_message(&mut stream).unwrap()));
        let mut half = vec![0; 4 + 9 + 8192];
        stream.read_exact(&mut half).unwrap();
        assert_eq!(half[..4], (16384_u32 + 9).to_be_bytes());
        drop(peer);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn tells_welcome_from_refusal() {
        let (torrent, bytes, peer, _dir) = fixture(Manner::Honest);
        let other = Peer::start("127.0.0.2:0".parse().unwrap(), &torrent, &bytes, Manner::Honest);
        assert!(other.is_welcome_at(peer.addr()));
        let closing = TcpListener::bind("127.0.0.3:0").unwrap();
        let addr = closing.local_addr().unwrap();
        let from = std::thread::spawn(move || closing.accept().unwrap().1.ip());
        assert!(!other.is_welcome_at(addr));
        assert_eq!(from.join().unwrap(), other.addr().ip());
    }
}
