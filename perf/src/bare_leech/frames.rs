//! `Frames`: cuts a stream into messages, knowing only as much of them as a leech without state needs.
//!
//! Owns where in a message the stream stands. The protocol's own decoder is not used because the leech steps over
//! blocks that were received in place, which that one cannot.

use std::io::{self, ErrorKind};

use ringtide_proto::wire::{BLOCK_HEADER_LEN, RawSpan};

/// Longest message other than a block that is kept until it is complete: the bitfield of two million pieces.
const LONGEST: usize = 256 << 10;

const PIECE: u8 = 7;

/// What a stream says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A block begins; its bytes follow as [`Frame::Payload`].
    Block(RawSpan),
    /// The next bytes of the block.
    Payload(&'a [u8]),
    /// BEP 3.
    Choke,
    /// BEP 3.
    Unchoke,
    /// BEP 10: the payload of a handshake.
    Extended(Vec<u8>),
}

/// Where in a stream one stands.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The begun message, up to the payload of a block.
    head: Vec<u8>,
    /// The message in `head` was given out.
    given: bool,
    /// Payload of a block that is still to come.
    left: u32,
}

impl Frames {
    /// The begun message, if it is not a block's payload.
    pub(super) fn head(&self) -> &[u8] {
        if self.given { &[] } else { &self.head }
    }

    /// Payload of a block that is still to come.
    pub(super) const fn left(&self) -> u32 {
        self.left
    }

    /// Somebody else has read on, to a place with this much of the next header, or of a block's payload still to come.
    pub(super) fn step_to(&mut self, head: &[u8], left: u32) {
        self.head.clear();
        self.head.extend_from_slice(head);
        (self.given, self.left) = (false, left);
    }

    /// The next frame, taken off `input`. `None`: all of it is taken in.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] when a length makes no sense.
    pub(super) fn next<'i>(&mut self, input: &mut &'i [u8]) -> io::Result<Option<Frame<'i>>> {
        if self.left > 0 {
            let (payload, rest) = input.split_at(input.len().min(self.left as usize));
            *input = rest;
            self.left -= payload.len() as u32;
            return Ok((!payload.is_empty()).then_some(Frame::Payload(payload)));
        }
        loop {
            if std::mem::take(&mut self.given) {
                self.head.clear();
            }
            while self.head.len() < head_len(&self.head)? {
                if input.is_empty() {
                    return Ok(None);
                }
                let (more, rest) = input.split_at(input.len().min(head_len(&self.head)? - self.head.len()));
                self.head.extend_from_slice(more);
                *input = rest;
            }
            self.given = true;
            match self.head.get(4) {
                Some(0) => return Ok(Some(Frame::Choke)),
                Some(1) => return Ok(Some(Frame::Unchoke)),
                Some(&PIECE) => {
                    let block = block_of(&self.head);
                    self.left = block.length;
                    return Ok(Some(Frame::Block(block)));
                }
                Some(20) if self.head.get(5) == Some(&0) => {
                    return Ok(Some(Frame::Extended(self.head[6..].to_vec())));
                }
                _ => {}
            }
        }
    }
}

/// How many bytes of the message that begins with `head` are kept together, as far as they tell.
fn head_len(head: &[u8]) -> io::Result<usize> {
    let Some(&prefix) = head.first_chunk::<4>() else { return Ok(4) };
    let length = u32::from_be_bytes(prefix) as usize;
    match head.get(4) {
        None => Ok(4 + length.min(1)),
        Some(&PIECE) if length < BLOCK_HEADER_LEN - 4 => Err(senseless(length)),
        Some(&PIECE) => Ok(BLOCK_HEADER_LEN),
        Some(_) if length > LONGEST => Err(senseless(length)),
        Some(_) => Ok(4 + length),
    }
}

fn senseless(length: usize) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("a message of {length} bytes makes no sense"))
}

fn block_of(head: &[u8]) -> RawSpan {
    let number = |at: usize| head[at..at + 4].iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
    RawSpan { length: number(0) - 9, piece: number(5), begin: number(9) }
}

#[cfg(test)]
mod tests {
    use ringtide_proto::wire::Message;

    use super::*;

    const BLOCK: RawSpan = RawSpan { piece: 3, begin: 16384, length: 5 };

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        let messages = [
            Message::KeepAlive,
            Message::Bitfield(vec![0xff; 300]),
            Message::Extended { id: 0, payload: b"de".to_vec() },
            Message::Unchoke,
            Message::Have { piece: 7 },
            Message::Piece(BLOCK),
        ];
        messages.iter().for_each(|message| message.encode(&mut bytes));
        bytes.extend_from_slice(b"bytes");
        Message::Extended { id: 3, payload: b"of no interest".to_vec() }.encode(&mut bytes);
        Message::Choke.encode(&mut bytes);
        bytes
    }

    /// What a stream says that arrives in parts of `len` bytes; the payload in one.
    fn frames(bytes: &[u8], len: usize) -> Vec<String> {
        let (mut frames, mut said, mut payload) = (Frames::default(), Vec::new(), Vec::new());
        for mut part in bytes.chunks(len) {
            while let Some(frame) = frames.next(&mut part).expect("makes sense") {
                match frame {
                    Frame::Payload(more) => payload.extend_from_slice(more),
                    other => said.push(format!("{other:?}")),
                }
            }
            assert!(part.is_empty());
        }
        assert_eq!(payload, b"bytes");
        said
    }

    #[test]
    fn a_stream_says_the_same_however_it_is_cut() {
        let whole = frames(&stream(), usize::MAX);
        let wanted = [Frame::Extended(b"de".to_vec()), Frame::Unchoke, Frame::Block(BLOCK), Frame::Choke];
        assert_eq!(whole, wanted.map(|frame| format!("{frame:?}")));
        for len in 1..40 {
            assert_eq!(frames(&stream(), len), whole, "parts of {len}");
        }
    }

    #[test]
    fn senseless_lengths_are_refused() {
        for bytes in [[0, 0, 0, 8, PIECE], [0xff, 0, 0, 0, 5]] {
            let refused = Frames::default().next(&mut &bytes[..]).map(|_| ()).map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::InvalidData));
        }
    }

    #[test]
    fn a_block_read_by_others_is_stepped_over() {
        let mut frames = Frames::default();
        frames.step_to(&BLOCK.block_header()[..7], 0);
        assert_eq!(frames.head(), &BLOCK.block_header()[..7]);
        let rest = BLOCK.block_header();
        assert_eq!(frames.next(&mut &rest[7..]).expect("makes sense"), Some(Frame::Block(BLOCK)));
        assert_eq!((frames.head(), frames.left()), (&[][..], 5));
        frames.step_to(&[], 2);
        let mut input = &b"es\0\0\0\x01\x01"[..];
        assert_eq!(frames.next(&mut input).expect("makes sense"), Some(Frame::Payload(b"es")));
        assert_eq!(frames.next(&mut input).expect("makes sense"), Some(Frame::Unchoke));
    }
}
