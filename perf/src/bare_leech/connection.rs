//! `Connection`: one peer, from the handshake to its last block.
//!
//! Owns the socket and what is said on it. Blocks come in the order in which they were asked for, nearly always, so they
//! are received where they belong, many with one system call, with the headers between them set aside; what turns out
//! to be something else is taken through [`Frames`]. `pieces` owns the memory.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

use ringtide_proto::id::PeerId;
use ringtide_proto::layout::{PieceIndex, Span};
use ringtide_proto::limits::BLOCK_LEN;
use ringtide_proto::wire::{
    BLOCK_HEADER_LEN, ExtendedHandshake, HANDSHAKE_LEN, Handshake, Message, Reserved,
};

use super::asks::{Asks, on_wire};
use super::frames::{Frame, Frames};
use super::pieces::Pieces;
use crate::one_file::OneFile;

const PEER_ID: PeerId = PeerId(*b"-RB0100-a bare leech");

/// BEP 10, for the length of the peer's queue, and not BEP 6.
const RESERVED: Reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0]);

/// Blocks received with one system call. The kernel takes 1024 slices (IOV_MAX), two for each.
const BATCH: usize = 500;

type Header = [u8; BLOCK_HEADER_LEN];

/// Where the blocks of connections go.
pub(super) struct Place<'b> {
    /// Into their pieces, or nowhere.
    pub(super) pieces: Option<Pieces<'b>>,
    /// What does not go straight into pieces is read into this, again and again.
    pub(super) buffer: Vec<u8>,
}

/// A connected peer that has all pieces.
pub(super) struct Connection {
    stream: TcpStream,
    asks: Asks,
    frames: Frames,
    /// The block of which a part has come, and how much; `None` while one comes that nobody wants.
    arriving: Option<(Span, usize)>,
    out: Vec<u8>,
    /// What is received in place with one call: blocks that follow one another in a piece, and room for their headers.
    run: Vec<Span>,
    headers: Vec<Header>,
    /// Payload that was wanted and came.
    bytes: u64,
}

impl Connection {
    /// Connects, shakes hands and says that we are interested.
    pub(super) fn open(
        peer: SocketAddr,
        torrent: &OneFile,
        pieces: Range<u32>,
        depth: usize,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(peer)?;
        stream.set_nodelay(true)?;
        let ours = Handshake { reserved: RESERVED, info_hash: torrent.info_hash, peer_id: PEER_ID };
        stream.write_all(&ours.encode())?;
        let mut bytes = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut bytes)?;
        let theirs = Handshake::parse(&bytes).map_err(|error| invalid(error.to_string()))?;
        if theirs.info_hash != torrent.info_hash {
            return Err(invalid(format!("it has another torrent, {}", theirs.info_hash)));
        }
        stream.write_all(&introduction(theirs.reserved))?;
        let mut asks = Asks::new(torrent.layout, pieces, depth);
        if !theirs.reserved.extended() {
            asks.limit_to_usual();
        }
        Ok(Self {
            stream,
            asks,
            frames: Frames::default(),
            arriving: None,
            out: Vec::new(),
            run: Vec::with_capacity(BATCH),
            headers: vec![[0; BLOCK_HEADER_LEN]; BATCH],
            bytes: 0,
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// All that was wanted of this peer has come.
    pub(super) fn is_done(&self) -> bool {
        self.asks.are_done() && self.arriving.is_none()
    }

    /// Payload that was wanted and came.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes in what one system call brings, and asks for more where there is room for it.
    pub(super) fn receive(&mut self, place: &mut Place<'_>) -> io::Result<()> {
        match &mut place.pieces {
            Some(pieces) if self.is_in_step() => self.receive_in_place(pieces)?,
            pieces => {
                let len = some(self.stream.read(&mut place.buffer)?)?;
                self.take(&place.buffer[..len], pieces.as_mut())?;
            }
        }
        self.ask()
    }

    fn ask(&mut self) -> io::Result<()> {
        self.asks.refill(&mut self.out);
        if self.out.is_empty() {
            return Ok(());
        }
        // Some ten kilobytes into a buffer that the peer empties: this does not block.
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// What comes next is a block, as far as can be told.
    fn is_in_step(&self) -> bool {
        if self.frames.left() > 0 {
            return self.arriving.is_some();
        }
        let next = self.asks.expected().next();
        next.is_some_and(|span| on_wire(span).block_header().starts_with(self.frames.head()))
    }

    fn receive_in_place(&mut self, pieces: &mut Pieces<'_>) -> io::Result<()> {
        let Some((piece, begin)) = self.plan_run() else { return Ok(()) };
        let len = some(self.read_run(&mut pieces.memory(piece)?[begin..])?)?;
        self.step_over_run(len, pieces)
    }

    /// Chooses the run, and where in which piece the next byte goes.
    fn plan_run(&mut self) -> Option<(PieceIndex, usize)> {
        self.run.clear();
        let mut expected = self.asks.expected();
        let (piece, begin, mut end) = match self.arriving {
            Some((span, got)) => (span.piece(), span.begin() as usize + got, span.begin() + span.len()),
            None => {
                let first = expected.next()?;
                self.run.push(first);
                (first.piece(), first.begin() as usize, first.begin() + first.len())
            }
        };
        for span in expected.take(BATCH - 1) {
            if (span.piece(), span.begin()) != (piece, end) {
                break;
            }
            end += span.len();
            self.run.push(span);
        }
        Some((piece, begin))
    }

    /// Reads the rest of the block that is arriving and then the run, as much of them as is there.
    fn read_run(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        let mut slices = Vec::with_capacity(1 + 2 * self.run.len());
        let (rest, mut memory) = memory.split_at_mut(self.frames.left() as usize);
        if !rest.is_empty() {
            slices.push(IoSliceMut::new(rest));
        }
        let mut known = self.frames.head();
        for (header, span) in self.headers.iter_mut().zip(&self.run) {
            header[..known.len()].copy_from_slice(known);
            slices.push(IoSliceMut::new(&mut header[known.len()..]));
            known = &[];
            let (block, more) = memory.split_at_mut(span.len() as usize);
            slices.push(IoSliceMut::new(block));
            memory = more;
        }
        self.stream.read_vectored(&mut slices)
    }

    /// Accounts for `len` bytes that were read, while they are what the run says.
    fn step_over_run(&mut self, len: usize, pieces: &mut Pieces<'_>) -> io::Result<()> {
        let mut left = len - self.step_over_payload(len, pieces)?;
        let mut known = self.frames.head().len();
        for number in 0..self.run.len() {
            if left == 0 {
                break;
            }
            let span = self.run[number];
            let header_len = BLOCK_HEADER_LEN.min(known + left);
            let header = &self.headers[number][..header_len];
            if !on_wire(span).block_header().starts_with(header) {
                let spilt = self.spilt(number, known, left, pieces.memory(span.piece())?);
                return self.take(&spilt, Some(pieces));
            }
            left -= header_len - known;
            if header_len < BLOCK_HEADER_LEN {
                self.frames.step_to(header, 0);
                break;
            }
            known = 0;
            self.frames.step_to(&[], span.len());
            self.arriving = self.asks.begun(on_wire(span)).map(|span| (span, 0));
            left -= self.step_over_payload(left, pieces)?;
        }
        Ok(())
    }

    /// Accounts for the payload of the arriving block among `len` bytes; returns how much it is.
    fn step_over_payload(&mut self, len: usize, pieces: &mut Pieces<'_>) -> io::Result<usize> {
        let came = len.min(self.frames.left() as usize);
        if came > 0 {
            self.frames.step_to(&[], self.frames.left() - came as u32);
            self.came(came, Some(pieces))?;
        }
        Ok(came)
    }

    /// The last `left` bytes that were read, in order again: from the header of block `number` on, of which `known`
    /// bytes had come before.
    fn spilt(&self, number: usize, known: usize, left: usize, memory: &[u8]) -> Vec<u8> {
        let mut spilt = Vec::with_capacity(left + BLOCK_LEN as usize);
        for (header, span) in self.headers.iter().zip(&self.run).skip(number) {
            spilt.extend_from_slice(if spilt.is_empty() { &header[known..] } else { header });
            let begin = span.begin() as usize;
            spilt.extend_from_slice(&memory[begin..begin + span.len() as usize]);
            if spilt.len() >= left {
                break;
            }
        }
        spilt.truncate(left);
        spilt
    }

    /// Takes in a part of the stream, whatever it is.
    fn take(&mut self, mut input: &[u8], mut pieces: Option<&mut Pieces<'_>>) -> io::Result<()> {
        while let Some(frame) = self.frames.next(&mut input)? {
            match frame {
                Frame::Block(block) => self.arriving = self.asks.begun(block).map(|span| (span, 0)),
                Frame::Payload(payload) => {
                    if let (Some((span, got)), Some(pieces)) = (self.arriving, &mut pieces) {
                        pieces.put(span, got, payload)?;
                    }
                    self.came(payload.len(), pieces.as_deref_mut())?;
                }
                Frame::Choke => self.asks.choke(),
                Frame::Unchoke => self.asks.unchoke(),
                Frame::Extended(payload) => self.learn(&payload),
            }
        }
        Ok(())
    }

    /// So many more bytes of the arriving block are where they belong.
    fn came(&mut self, len: usize, pieces: Option<&mut Pieces<'_>>) -> io::Result<()> {
        let Some((span, got)) = &mut self.arriving else { return Ok(()) };
        *got += len;
        if *got < span.len() as usize {
            return Ok(());
        }
        let span = *span;
        self.arriving = None;
        self.bytes += u64::from(span.len());
        pieces.map_or(Ok(()), |pieces| pieces.complete(span))
    }

    fn learn(&mut self, payload: &[u8]) {
        match ExtendedHandshake::parse(payload).ok().and_then(|theirs| theirs.reqq) {
            Some(reqq) => self.asks.limit(reqq),
            None => self.asks.limit_to_usual(),
        }
    }
}

/// What we say after the handshakes.
fn introduction(theirs: Reserved) -> Vec<u8> {
    let mut out = Vec::new();
    if theirs.extended() {
        let ours = ExtendedHandshake {
            client: Some("ringtide bare leech".to_owned()),
            ..ExtendedHandshake::default()
        };
        Message::Extended { id: 0, payload: ours.encode() }.encode(&mut out);
    }
    Message::Interested.encode(&mut out);
    out
}

/// A read of nothing is the end of the connection, and too early.
fn some(len: usize) -> io::Result<usize> {
    if len == 0 {
        return Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "it closed the connection before all was there",
        ));
    }
    Ok(len)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}
