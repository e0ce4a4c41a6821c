//! Transfers from the bare seed and from one that does all that the leech does not hope for.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use ringtide_proto::id::PeerId;
use ringtide_proto::wire::{
    Bounds, Decoder, Event, ExtendedHandshake, HANDSHAKE_LEN, Handshake, Message, RawSpan, Reserved,
};

use super::*;
use crate::bare_seed::BareSeed;
use crate::testing::{PIECE_LEN, image, torrent};

/// A seed that serves so many peers and then ends.
fn bare_seed(served: Vec<u8>, peers: usize) -> SocketAddr {
    let seed = Arc::new(BareSeed::new(&torrent(&image()), served).expect("is seedable"));
    listen(peers, move |stream| seed.serve(stream))
}

fn listen(peers: usize, serve: impl Fn(TcpStream) -> io::Result<()> + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("is bound");
    thread::spawn(move || {
        for stream in listener.incoming().take(peers) {
            let (serve, stream) = (serve.clone(), stream.expect("connects"));
            // A leech that fails hangs up, which its test tells.
            thread::spawn(move || serve(stream));
        }
    });
    addr
}

fn leech(work: Work, depth: usize, peers: &[SocketAddr]) -> Result<u64, Failure> {
    let torrent = OneFile::new(&torrent(&image())).expect("is of one file");
    BareLeech { torrent, depth, work }.run(peers)
}

/// What a leech writes, compared with the image.
fn fetch(depth: usize, peers: &[SocketAddr]) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image");
    let output = Output::create(&path, image().len() as u64, false).expect("a file");
    let bytes = leech(Work::Write(output), depth, peers).expect("fetches");
    assert_eq!(bytes, image().len() as u64);
    assert!(fs::read(&path).expect("is there") == image(), "the file differs from the image");
}

#[test]
fn every_mode_receives_all_bytes() {
    for work in [Work::Receive, Work::Hash] {
        assert_eq!(leech(work, 1024, &[bare_seed(image(), 1)]).expect("fetches"), image().len() as u64);
    }
    for depth in [1, 2, 5, 1024] {
        fetch(depth, &[bare_seed(image(), 1)]);
    }
}

#[test]
fn several_seeds_share_the_pieces() {
    let seed = bare_seed(image(), 15);
    for peers in [2, 4, 9] {
        fetch(16, &vec![seed; peers]);
    }
}

#[test]
fn a_corrupt_image_is_noticed_where_pieces_are_verified() {
    let mut corrupt = image();
    corrupt[3 * PIECE_LEN as usize + 20_000] ^= 1;
    let failure = leech(Work::Hash, 1024, &[bare_seed(corrupt.clone(), 1)]).expect_err("is noticed");
    assert!(matches!(failure, Failure::Corrupt { piece: 3 }), "{failure}");
    assert!(leech(Work::Receive, 1024, &[bare_seed(corrupt, 1)]).is_ok(), "nobody looked");
}

#[test]
fn a_seed_of_another_torrent_or_none_is_an_error() {
    let other = image()[1..].to_vec();
    let seed = BareSeed::new(&torrent(&other), other).expect("is seedable");
    let seed = Arc::new(seed);
    let addr = listen(1, move |stream| seed.serve(stream));
    assert!(matches!(leech(Work::Hash, 16, &[addr]), Err(Failure::Peer(peer, _)) if peer == addr));
    let gone =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    assert!(matches!(leech(Work::Hash, 16, &[gone]), Err(Failure::Peer(..))));
}

#[test]
fn a_seed_that_leaves_early_is_an_error() {
    let failure =
        leech(Work::Hash, 16, &[listen(1, |stream| greet(&stream).map(|_| ()))]).expect_err("is noticed");
    assert!(matches!(failure, Failure::Peer(..)), "{failure}");
}

#[test]
fn blocks_out_of_order_and_among_other_messages_find_their_place() {
    for (depth, write_len) in [(1, 7), (4, 1), (8, 1000), (1024, 16_397), (1024, 100_000)] {
        fetch(depth, &[listen(1, move |stream| Rude { stream, write_len }.serve())]);
        let received =
            leech(Work::Receive, depth, &[listen(1, move |stream| Rude { stream, write_len }.serve())]);
        assert_eq!(received.expect("fetches"), image().len() as u64);
    }
}

fn greet(mut stream: &TcpStream) -> io::Result<()> {
    let mut theirs = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut theirs)?;
    let info_hash = torrent(&image()).info_hash_v1().expect("has one");
    let ours = Handshake { reserved: Reserved::OURS, info_hash, peer_id: PeerId([9; 20]) };
    stream.write_all(&ours.encode())
}

/// Chokes once, answers requests last to first, says other things in between, and writes a few bytes at a time.
struct Rude {
    stream: TcpStream,
    write_len: usize,
}

impl Rude {
    fn serve(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        greet(&self.stream)?;
        let bounds = Bounds { bitfield_len: 1, max_block: 0, max_extended: 1000 };
        let (mut decoder, mut buffer) = (Decoder::new(bounds), [0; 4096]);
        let ours = ExtendedHandshake { reqq: Some(64), ..ExtendedHandshake::default() };
        let extended = Message::Extended { id: 0, payload: ours.encode() };
        self.say(&[Message::Bitfield(vec![0xf8]), extended, Message::KeepAlive, Message::Unchoke])?;
        let mut has_choked = false;
        loop {
            let len = self.stream.read(&mut buffer)?;
            if len == 0 {
                return Ok(());
            }
            let (mut input, mut asked) = (&buffer[..len], Vec::new());
            while let Some(event) = decoder.decode(&mut input).expect("makes sense") {
                if let Event::Message(Message::Request(span)) = event {
                    asked.push(span);
                }
            }
            if !asked.is_empty() && !std::mem::replace(&mut has_choked, true) {
                self.say(&[Message::Choke, Message::KeepAlive, Message::Unchoke])?;
                asked.clear();
            }
            self.answer(&asked)?;
        }
    }

    fn answer(&mut self, asked: &[RawSpan]) -> io::Result<()> {
        let image = image();
        let mut out = Vec::new();
        for (number, span) in asked.chunks(3).flat_map(|few| few.iter().rev()).enumerate() {
            match number % 5 {
                0 => Message::Have { piece: 1 }.encode(&mut out),
                1 => Message::KeepAlive.encode(&mut out),
                2 => {
                    let unwanted = RawSpan { piece: 0, begin: 1, length: 3 };
                    Message::Piece(unwanted).encode(&mut out);
                    out.extend_from_slice(&[0; 3]);
                }
                _ => {}
            }
            Message::Piece(*span).encode(&mut out);
            let at = (span.piece * PIECE_LEN + span.begin) as usize;
            out.extend_from_slice(&image[at..at + span.length as usize]);
        }
        self.write(&out)
    }

    fn say(&mut self, messages: &[Message]) -> io::Result<()> {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        self.write(&out)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(self.write_len).try_for_each(|part| self.stream.write_all(part))
    }
}
