//! `BareSeed`: a seed that is never the limit. It keeps the whole image in memory, has no protocol state to speak
//! of, and sends up to 64 blocks with one system call.
//!
//! Owns what is said on a connection. Does not choke, count, limit or look for peers: it is a yardstick and must
//! not face strangers.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use ringtide_proto::id::{InfoHash, PeerId};
use ringtide_proto::layout::{PieceLayout, Span};
use ringtide_proto::limits::{MAX_EXTENDED_LEN, MAX_REQUEST_LEN};
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::wire::{
    BLOCK_HEADER_LEN, Bounds, Decoder, Event, ExtendedHandshake, HANDSHAKE_LEN, Handshake, Message, RawSpan,
    Reserved,
};

use crate::one_file::{OneFile, Unsuitable};

/// Blocks sent with one system call: 1 MiB of the usual ones, past which nothing is gained.
const BATCH: usize = 64;

/// Requests that a peer may keep queued here. More than any client's own bound, so that theirs counts.
const REQQ: u32 = 10_000;

/// Bytes read at a time: 3,800 requests.
const READ_LEN: usize = 64 * 1024;

/// A complete image, ready to be sent.
pub struct BareSeed {
    image: Box<dyn AsRef<[u8]> + Send + Sync>,
    /// Payload sent to all peers.
    sent: AtomicU64,
    layout: PieceLayout,
    info_hash: InfoHash,
}

impl BareSeed {
    /// Pairs an image with its torrent. The image is not verified: the leech does that.
    ///
    /// # Errors
    /// Says what the two lack.
    pub fn new(
        torrent: &Metainfo,
        image: impl AsRef<[u8]> + Send + Sync + 'static,
    ) -> Result<Self, Unsuitable> {
        let OneFile { info_hash, layout, .. } = OneFile::new(torrent)?;
        let image_len = image.as_ref().len() as u64;
        if image_len != torrent.total_length() {
            return Err(Unsuitable::Length(image_len, torrent.total_length()));
        }
        Ok(Self { image: Box::new(image), sent: AtomicU64::new(0), layout, info_hash })
    }

    /// Payload sent to all peers, in bytes.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Serves one peer until it closes the connection.
    ///
    /// # Errors
    /// Of the socket, or [`ErrorKind::InvalidData`] where the peer breaks the protocol.
    pub fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let reserved = self.shake_hands(&stream)?;
        let mut connection = Connection::new(self, stream, reserved);
        connection.greet()?;
        connection.run()
    }

    fn shake_hands(&self, mut stream: &TcpStream) -> io::Result<Reserved> {
        let mut bytes = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut bytes)?;
        let theirs = Handshake::parse(&bytes).map_err(invalid)?;
        if theirs.info_hash != self.info_hash {
            return Err(invalid(format_args!("the peer wants another torrent, {}", theirs.info_hash)));
        }
        let peer_id = peer_id_at(stream.local_addr()?);
        let ours = Handshake { reserved: Reserved::OURS, info_hash: self.info_hash, peer_id };
        stream.write_all(&ours.encode())?;
        Ok(theirs.reserved)
    }

    /// BEP 3: every bit set but the spare ones at the end.
    fn full_bitfield(&self) -> Vec<u8> {
        let pieces = self.layout.piece_count() as usize;
        let mut bits = vec![0xff; pieces.div_ceil(8)];
        let spare = bits.len() * 8 - pieces;
        if let Some(last) = bits.last_mut() {
            *last <<= spare;
        }
        bits
    }

    fn payload(&self, span: Span) -> &[u8] {
        let begin = self.layout.piece_offset(span.piece()) as usize + span.begin() as usize;
        &(*self.image).as_ref()[begin..begin + span.len() as usize]
    }
}

/// Another peer at each address and port: a seed that listens at several stands for as many, and clients drop a second
/// connection to a peer they have.
fn peer_id_at(local: SocketAddr) -> PeerId {
    let address = match local.ip() {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => address.to_bits() as u32,
    };
    let mut id = *b"-RB0100-............";
    id[8..].copy_from_slice(format!("{address:08x}{:04x}", local.port()).as_bytes());
    PeerId(id)
}

/// One peer, after the handshakes.
struct Connection<'s> {
    seed: &'s BareSeed,
    stream: TcpStream,
    reserved: Reserved,
    decoder: Decoder,
    /// Asked for and not sent; each is within the torrent.
    wanted: VecDeque<Span>,
}

impl<'s> Connection<'s> {
    fn new(seed: &'s BareSeed, stream: TcpStream, reserved: Reserved) -> Self {
        let bounds = Bounds {
            bitfield_len: (seed.layout.piece_count() as usize).div_ceil(8),
            max_block: 0,
            max_extended: MAX_EXTENDED_LEN,
        };
        Self { seed, stream, reserved, decoder: Decoder::new(bounds), wanted: VecDeque::new() }
    }

    /// What we have, what we know, and that anything may be asked for.
    fn greet(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        if self.reserved.fast() {
            Message::HaveAll.encode(&mut out);
        } else {
            Message::Bitfield(self.seed.full_bitfield()).encode(&mut out);
        }
        if self.reserved.extended() {
            let ours = ExtendedHandshake {
                client: Some("ringtide bare seed".to_owned()),
                reqq: Some(REQQ),
                upload_only: Some(true),
                ..ExtendedHandshake::default()
            };
            Message::Extended { id: 0, payload: ours.encode() }.encode(&mut out);
        }
        Message::Unchoke.encode(&mut out);
        self.stream.write_all(&out)
    }

    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_LEN];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => self.take_requests(&buffer[..len])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while !self.wanted.is_empty() {
                self.send_batch()?;
            }
        }
    }

    /// Notes what is asked for. A cancel finds its block sent already, which BEP 6 allows.
    fn take_requests(&mut self, mut input: &[u8]) -> io::Result<()> {
        while let Some(event) = self.decoder.decode(&mut input).map_err(invalid)? {
            if let Event::Message(Message::Request(asked)) = event {
                self.wanted.push_back(self.checked(asked)?);
            }
        }
        Ok(())
    }

    fn checked(&self, asked: RawSpan) -> io::Result<Span> {
        let RawSpan { piece, begin, length } = asked;
        let span = self.seed.layout.span(piece, begin, length).filter(|_| length <= MAX_REQUEST_LEN);
        span.ok_or_else(|| {
            invalid(format_args!("the peer asked for {length} bytes at {begin} of piece {piece}"))
        })
    }

    /// Sends the first [`BATCH`] blocks, headers and payloads gathered from where they lie.
    fn send_batch(&mut self) -> io::Result<()> {
        let seed = self.seed;
        let mut headers = [[0; BLOCK_HEADER_LEN]; BATCH];
        let count = self.wanted.len().min(BATCH);
        for (header, span) in headers.iter_mut().zip(&self.wanted) {
            *header = wire_span(*span).block_header();
        }
        let bytes: u32 = self.wanted.iter().take(count).map(|span| span.len()).sum();
        let mut slices = Vec::with_capacity(2 * count);
        for (header, span) in headers.iter().zip(self.wanted.drain(..count)) {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(seed.payload(span)));
        }
        write_all_vectored(&self.stream, &mut slices)?;
        seed.sent.fetch_add(bytes.into(), Ordering::Relaxed);
        Ok(())
    }
}

fn wire_span(span: Span) -> RawSpan {
    RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() }
}

fn write_all_vectored(mut stream: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => IoSlice::advance_slices(&mut slices, len),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn invalid(reason: impl fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::testing::{PIECE_LEN, image, torrent};

    const FAST_ONLY: Reserved = Reserved([0, 0, 0, 0, 0, 0, 0, 0x04]);

    /// Runs `leech` at the other end of a served connection, behind the handshakes.
    fn with_peer(reserved: Reserved, leech: impl FnOnce(&mut TcpStream)) -> io::Result<()> {
        let seed = BareSeed::new(&torrent(&image()), image()).expect("is seedable");
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut stream = TcpStream::connect(listener.local_addr()?)?;
        thread::scope(|scope| {
            let served = scope.spawn(|| seed.serve(listener.accept()?.0));
            let ours = Handshake { reserved, info_hash: seed.info_hash, peer_id: PeerId([7; 20]) };
            stream.write_all(&ours.encode())?;
            let mut theirs = [0; HANDSHAKE_LEN];
            stream.read_exact(&mut theirs)?;
            assert_eq!(Handshake::parse(&theirs).expect("parses").info_hash, seed.info_hash);
            leech(&mut stream);
            drop(stream);
            served.join().expect("does not panic")
        })
    }

    fn expect(stream: &mut TcpStream, message: &Message) {
        let mut wanted = Vec::new();
        message.encode(&mut wanted);
        let mut bytes = vec![0; wanted.len()];
        stream.read_exact(&mut bytes).expect("arrives");
        assert_eq!(bytes, wanted, "{message:?}");
    }

    fn request(span: RawSpan) -> Vec<u8> {
        let mut bytes = Vec::new();
        Message::Request(span).encode(&mut bytes);
        bytes
    }

    #[test]
    fn all_blocks_asked_for_at_once_arrive_in_order() {
        let image = image();
        let spans: Vec<_> = (0..image.len() as u32)
            .step_by(1000)
            .map(|at| {
                let (piece, begin) = (at / PIECE_LEN, at % PIECE_LEN);
                let length = 1000.min(PIECE_LEN - begin).min(image.len() as u32 - at);
                RawSpan { piece, begin, length }
            })
            .collect();
        assert!(spans.len() > 2 * BATCH, "several batches");
        with_peer(FAST_ONLY, |stream| {
            expect(stream, &Message::HaveAll);
            expect(stream, &Message::Unchoke);
            stream
                .write_all(&spans.iter().flat_map(|&span| request(span)).collect::<Vec<_>>())
                .expect("is read");
            for span in spans {
                expect(stream, &Message::Piece(span));
                let mut payload = vec![0; span.length as usize];
                stream.read_exact(&mut payload).expect("arrives");
                let at = (span.piece * PIECE_LEN + span.begin) as usize;
                assert!(payload == image[at..at + payload.len()], "{span:?}");
            }
        })
        .expect("ends well");
    }

    #[test]
    fn a_peer_of_bep_3_alone_is_sent_a_bitfield() {
        let greeted = with_peer(Reserved::default(), |stream| {
            expect(stream, &Message::Bitfield(vec![0b1111_1000]));
            expect(stream, &Message::Unchoke);
        });
        greeted.expect("ends well");
    }

    #[test]
    fn a_range_outside_the_torrent_ends_the_connection() {
        for (piece, begin, length) in
            [(5, 0, 1), (4, 300_000 - 4 * PIECE_LEN, 1), (0, PIECE_LEN, 1), (0, 0, 0)]
        {
            let served = with_peer(FAST_ONLY, |stream| {
                stream.write_all(&request(RawSpan { piece, begin, length })).expect("is read");
                stream.read_to_end(&mut Vec::new()).expect("is closed");
            });
            assert_eq!(served.map_err(|error| error.kind()), Err(ErrorKind::InvalidData));
        }
    }

    #[test]
    fn it_is_another_peer_at_each_address() {
        let local = |text: &str| peer_id_at(text.parse().expect("is an address"));
        assert_eq!(local("10.77.0.1:6881").0, *b"-RB0100-0a4d00011ae1");
        assert_ne!(local("10.77.0.1:6881"), local("10.77.0.2:6881"));
        assert_ne!(local("[fd77::1]:6881"), local("[fd77::1]:6882"));
    }

    #[test]
    fn an_image_of_another_length_is_refused() {
        let image = image();
        let refused = BareSeed::new(&torrent(&image), image[1..].to_vec()).err();
        assert_eq!(refused, Some(Unsuitable::Length(299_999, 300_000)));
    }
}
