//! Reading messages from a stream that arrives in any portions. Every length is checked before a byte of the
//! message is kept; a block's payload goes through in slices of the input and is never kept.

use super::WireError;
use super::message::{Message, RawSpan, id};

/// What one peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes that the torrent's bitfield has, no more and no less.
    pub bitfield_len: usize,
    /// Longest block: what we ask for.
    pub max_block: u32,
    /// Longest message of the extension protocol, and of types that are skipped.
    pub max_extended: usize,
}

/// What the stream said next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message; never a [`Message::Piece`].
    Message(Message),
    /// A `piece` message begins; exactly `length` bytes of data follow.
    BlockBegin(RawSpan),
    /// The next part of the block, never empty.
    BlockData(&'a [u8]),
    /// All of the block was handed out.
    BlockEnd,
}

/// What the next bytes of the stream belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within<'a> {
    /// A message whose type is not known yet, or not all of its fixed part: these are its first bytes, if any.
    Head(&'a [u8]),
    /// The payload of a block, so many bytes before its end.
    Block(u32),
    /// Another message.
    Other,
}

/// Longest part of a message that is looked at as one: a whole `request`.
const MAX_HEAD: usize = 17;

/// Room taken for a long message before its bytes arrive. What a peer only announces costs no more than this.
const FIRST_BUFFER: usize = 4096;

/// Turns the bytes of one connection, from behind the handshake, into events.
///
/// ```
/// use ringtide_proto::wire::{Bounds, Decoder, Event, Message};
///
/// let mut decoder = Decoder::new(Bounds { bitfield_len: 1, max_block: 16384, max_extended: 1 << 20 });
/// let mut input: &[u8] = &[0, 0, 0, 1, 1];
/// assert_eq!(decoder.decode(&mut input), Ok(Some(Event::Message(Message::Unchoke))));
/// assert_eq!(decoder.decode(&mut input), Ok(None));
/// ```
#[derive(Debug)]
pub struct Decoder {
    bounds: Bounds,
    state: State,
    /// The beginning of a message that arrived in portions: `head[..head_len]`.
    head: [u8; MAX_HEAD],
    head_len: usize,
}

/// Where in the stream we are.
#[derive(Debug)]
enum State {
    /// At a message, or within its head.
    Head,
    /// Within a bitfield or an extension message.
    Body(Body),
    /// Within a block's payload, so many bytes before its end.
    Block { remaining: u32 },
    /// Within a message of an unknown type, so many bytes before its end.
    Skip { remaining: u32 },
    /// Behind an error: nothing more can be read.
    Failed(WireError),
}

/// A long message on its way.
#[derive(Debug)]
struct Body {
    kind: BodyKind,
    /// Bytes it will have.
    len: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum BodyKind {
    Bitfield,
    Extended(u8),
}

/// What a head turned out to be.
enum Start {
    Message(Message),
    Body { kind: BodyKind, len: usize },
    Block(RawSpan),
    Skip { len: u32 },
}

impl Decoder {
    /// A decoder at the first byte behind the handshake.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, state: State::Head, head: [0; MAX_HEAD], head_len: 0 }
    }

    /// The next event; takes what it read off the front of `input`. `None`: all of `input` was used and more is
    /// needed, so call until then.
    ///
    /// # Errors
    /// The offence of the stream, again and again: it cannot be read any further.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, WireError> {
        let event = self.step(input);
        if let Err(error) = event {
            self.state = State::Failed(error);
        }
        event
    }

    /// Bytes of unfinished messages that are held.
    pub fn buffered(&self) -> usize {
        match &self.state {
            State::Body(body) => body.bytes.capacity(),
            _ => self.head_len,
        }
    }

    /// Where in the stream it is.
    pub fn within(&self) -> Within<'_> {
        match &self.state {
            State::Head => Within::Head(&self.head[..self.head_len]),
            State::Block { remaining } => Within::Block(*remaining),
            State::Body(_) | State::Skip { .. } | State::Failed(_) => Within::Other,
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, WireError> {
        loop {
            match &mut self.state {
                State::Head => {
                    let Some(start) = self.read_head(input)? else { return Ok(None) };
                    if let Some(event) = self.begin(start) {
                        return Ok(Some(event));
                    }
                }
                State::Body(body) => {
                    let Some(message) = body.fill(input) else { return Ok(None) };
                    self.state = State::Head;
                    return Ok(Some(Event::Message(message)));
                }
                State::Block { remaining: 0 } => {
                    self.state = State::Head;
                    return Ok(Some(Event::BlockEnd));
                }
                State::Block { remaining } => {
                    let data = take(input, *remaining as usize);
                    *remaining -= data.len() as u32;
                    return Ok((!data.is_empty()).then_some(Event::BlockData(data)));
                }
                State::Skip { remaining } => {
                    *remaining -= take(input, *remaining as usize).len() as u32;
                    if *remaining > 0 {
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Failed(error) => return Err(*error),
            }
        }
    }

    /// Enters what the head announced; the event, where it is one already.
    fn begin<'a>(&mut self, start: Start) -> Option<Event<'a>> {
        match start {
            Start::Message(message) => return Some(Event::Message(message)),
            Start::Block(span) => {
                self.state = State::Block { remaining: span.length };
                return Some(Event::BlockBegin(span));
            }
            Start::Body { kind, len } => self.state = State::Body(Body { kind, len, bytes: Vec::new() }),
            Start::Skip { len } => self.state = State::Skip { remaining: len },
        }
        None
    }

    /// The head of the next message, from the input at once or gathered from portions.
    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Start>, WireError> {
        if self.head_len == 0 && input.len() >= MAX_HEAD {
            let len = head_len(input, &self.bounds)?;
            return Ok(Some(interpret(take(input, len))));
        }
        loop {
            let needed = head_len(&self.head[..self.head_len], &self.bounds)?;
            if self.head_len == needed {
                self.head_len = 0;
                return Ok(Some(interpret(&self.head[..needed])));
            }
            let part = take(input, needed - self.head_len);
            if part.is_empty() {
                return Ok(None);
            }
            self.head[self.head_len..][..part.len()].copy_from_slice(part);
            self.head_len += part.len();
        }
    }
}

impl Body {
    /// Takes what belongs to the message; the message, where that was all of it.
    fn fill(&mut self, input: &mut &[u8]) -> Option<Message> {
        let part = take(input, self.len - self.bytes.len());
        self.reserve(part.len());
        self.bytes.extend_from_slice(part);
        (self.bytes.len() == self.len).then(|| {
            let bytes = std::mem::take(&mut self.bytes);
            match self.kind {
                BodyKind::Bitfield => Message::Bitfield(bytes),
                BodyKind::Extended(id) => Message::Extended { id, payload: bytes },
            }
        })
    }

    /// Grows by doubling, but never past the message's length, so that the bound is one on memory too.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let room = needed.max(2 * self.bytes.capacity()).max(FIRST_BUFFER).min(self.len);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
    }
}

/// Splits up to `len` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    taken
}

/// How long the head is that begins with `seen`, as far as that can be told from it; checks the length of the
/// message as soon as its type is known.
fn head_len(seen: &[u8], bounds: &Bounds) -> Result<usize, WireError> {
    let [a, b, c, d, rest @ ..] = seen else { return Ok(4) };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    match (length, rest) {
        (0, _) => Ok(4),
        (_, []) => Ok(5),
        (_, [id, ..]) => Ok(5 + checked_fields_len(*id, length, bounds)?),
    }
}

/// Bytes behind the id that belong to the head, of a message whose length is right for its type.
fn checked_fields_len(id: u8, length: u32, bounds: &Bounds) -> Result<usize, WireError> {
    let exactly = |message, fields: u32| {
        let expected = 1 + fields;
        if length == expected {
            return Ok(fields as usize);
        }
        Err(WireError::WrongLength { message, length, expected })
    };
    match id {
        id::CHOKE => exactly("choke", 0),
        id::UNCHOKE => exactly("unchoke", 0),
        id::INTERESTED => exactly("interested", 0),
        id::NOT_INTERESTED => exactly("not interested", 0),
        id::HAVE => exactly("have", 4),
        id::REQUEST => exactly("request", 12),
        id::CANCEL => exactly("cancel", 12),
        id::PORT => exactly("port", 2),
        id::SUGGEST_PIECE => exactly("suggest piece", 4),
        id::HAVE_ALL => exactly("have all", 0),
        id::HAVE_NONE => exactly("have none", 0),
        id::REJECT_REQUEST => exactly("reject request", 12),
        id::ALLOWED_FAST => exactly("allowed fast", 4),
        id::BITFIELD => check_bitfield(length, bounds),
        id::PIECE => check_block(length, bounds),
        id::EXTENDED if length == 1 => Err(WireError::NoExtensionId),
        id::EXTENDED => check_long(id, length, bounds).map(|()| 1),
        _ => check_long(id, length, bounds).map(|()| 0),
    }
}

fn check_bitfield(length: u32, bounds: &Bounds) -> Result<usize, WireError> {
    let bytes = length - 1;
    if bytes as usize == bounds.bitfield_len {
        return Ok(0);
    }
    Err(WireError::WrongBitfieldLength { bytes, expected: bounds.bitfield_len })
}

fn check_block(length: u32, bounds: &Bounds) -> Result<usize, WireError> {
    match length {
        0..9 => Err(WireError::WrongLength { message: "piece", length, expected: 9 }),
        9 => Err(WireError::EmptyBlock),
        _ if length - 9 > bounds.max_block => {
            Err(WireError::BlockTooLong { length: length - 9, max: bounds.max_block })
        }
        _ => Ok(8),
    }
}

fn check_long(id: u8, length: u32, bounds: &Bounds) -> Result<(), WireError> {
    if length as usize > bounds.max_extended {
        return Err(WireError::MessageTooLong { id, length, max: bounds.max_extended });
    }
    Ok(())
}

/// Reads a whole head, whose length [`head_len`] has found right.
fn interpret(head: &[u8]) -> Start {
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let span = || RawSpan { piece: number(5), begin: number(9), length: number(13) };
    let length = number(0);
    Start::Message(match head.get(4) {
        None => Message::KeepAlive,
        Some(&id::CHOKE) => Message::Choke,
        Some(&id::UNCHOKE) => Message::Unchoke,
        Some(&id::INTERESTED) => Message::Interested,
        Some(&id::NOT_INTERESTED) => Message::NotInterested,
        Some(&id::HAVE) => Message::Have { piece: number(5) },
        Some(&id::REQUEST) => Message::Request(span()),
        Some(&id::CANCEL) => Message::Cancel(span()),
        Some(&id::PORT) => Message::Port(u16::from_be_bytes([head[5], head[6]])),
        Some(&id::SUGGEST_PIECE) => Message::SuggestPiece { piece: number(5) },
        Some(&id::HAVE_ALL) => Message::HaveAll,
        Some(&id::HAVE_NONE) => Message::HaveNone,
        Some(&id::REJECT_REQUEST) => Message::RejectRequest(span()),
        Some(&id::ALLOWED_FAST) => Message::AllowedFast { piece: number(5) },
        Some(&id::PIECE) => {
            return Start::Block(RawSpan { piece: number(5), begin: number(9), length: length - 9 });
        }
        Some(&id::BITFIELD) => {
            return Start::Body { kind: BodyKind::Bitfield, len: length as usize - 1 };
        }
        Some(&id::EXTENDED) => {
            return Start::Body { kind: BodyKind::Extended(head[5]), len: length as usize - 2 };
        }
        Some(_) => return Start::Skip { len: length - 1 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bitfield_len: 3, max_block: 16384, max_extended: 1000 };

    fn first(bytes: &[u8]) -> Result<Option<Event<'_>>, WireError> {
        Decoder::new(BOUNDS).decode(&mut &*bytes)
    }

    #[test]
    fn a_block_goes_through_in_slices_of_the_input() {
        let mut decoder = Decoder::new(BOUNDS);
        let mut stream = RawSpan { piece: 7, begin: 16384, length: 5 }.block_header().to_vec();
        stream.extend_from_slice(b"hello\0\0\0\x01\x01");
        let (mut a, mut b) = stream.split_at(15);
        assert_eq!(
            decoder.decode(&mut a),
            Ok(Some(Event::BlockBegin(RawSpan { piece: 7, begin: 16384, length: 5 })))
        );
        assert_eq!(decoder.decode(&mut a), Ok(Some(Event::BlockData(b"he"))));
        assert_eq!(decoder.decode(&mut a), Ok(None));
        assert_eq!(decoder.decode(&mut b), Ok(Some(Event::BlockData(b"llo"))));
        assert_eq!(decoder.decode(&mut b), Ok(Some(Event::BlockEnd)));
        assert_eq!(decoder.decode(&mut b), Ok(Some(Event::Message(Message::Unchoke))));
        assert_eq!(decoder.decode(&mut b), Ok(None));
    }

    #[test]
    fn it_is_known_where_the_stream_stands() {
        let mut decoder = Decoder::new(BOUNDS);
        let header = RawSpan { piece: 7, begin: 0, length: 5 }.block_header();
        assert_eq!(decoder.within(), Within::Head(&[]));
        assert_eq!(decoder.decode(&mut &header[..6]), Ok(None));
        assert_eq!(decoder.within(), Within::Head(&header[..6]));
        let mut rest = [&header[6..], b"abc"].concat();
        rest.truncate(10);
        let mut input = &rest[..];
        while decoder.decode(&mut input) != Ok(None) {}
        assert_eq!(decoder.within(), Within::Block(2));
        let mut input = &b"de\0\0\0\x04\x05a"[..];
        while decoder.decode(&mut input) != Ok(None) {}
        assert_eq!(decoder.within(), Within::Other, "a bitfield");
    }

    #[test]
    fn lengths_are_exact() {
        for (id, right) in [
            (0u8, 1),
            (1, 1),
            (2, 1),
            (3, 1),
            (4, 5),
            (6, 13),
            (8, 13),
            (9, 3),
            (13, 5),
            (14, 1),
            (15, 1),
            (16, 13),
            (17, 5),
        ] {
            for length in [right - 1, right + 1, u32::MAX] {
                let bytes = [&length.to_be_bytes(), [id].as_slice(), &[0; 20]].concat();
                // Length 0 is a keep-alive whatever follows.
                if length > 0 {
                    let found = first(&bytes);
                    assert!(
                        matches!(found, Err(WireError::WrongLength { expected, .. }) if expected == right),
                        "{id}: {found:?}"
                    );
                }
            }
        }
        assert_eq!(first(&[0, 0, 0, 3, 5]), Err(WireError::WrongBitfieldLength { bytes: 2, expected: 3 }));
        assert_eq!(first(&[0, 0, 0, 5, 5]), Err(WireError::WrongBitfieldLength { bytes: 4, expected: 3 }));
    }

    #[test]
    fn bounds_hold_before_anything_is_kept() {
        assert_eq!(first(&[0, 0, 0x40, 10, 7]), Err(WireError::BlockTooLong { length: 16385, max: 16384 }));
        assert_eq!(first(&[0, 0, 0, 9, 7]), Err(WireError::EmptyBlock));
        assert_eq!(
            first(&[0, 0, 0, 8, 7]),
            Err(WireError::WrongLength { message: "piece", length: 8, expected: 9 })
        );
        assert_eq!(first(&[0, 0, 0, 1, 20]), Err(WireError::NoExtensionId));
        let long = |id| Err(WireError::MessageTooLong { id, length: 1001, max: 1000 });
        assert_eq!(first(&[0, 0, 3, 0xe9, 20]), long(20));
        assert_eq!(first(&[0, 0, 3, 0xe9, 99]), long(99));
        assert_eq!(first(&[0, 0, 3, 0xe8, 20]), Ok(None));
    }

    #[test]
    fn unknown_types_are_skipped() {
        let mut decoder = Decoder::new(BOUNDS);
        let stream = [&[0, 0, 0, 50, 21], [9; 49].as_slice(), &[0, 0, 0, 1, 99], &[0, 0, 0, 1, 0]].concat();
        let mut events = Vec::new();
        for mut portion in stream.chunks(7) {
            while let Some(event) = decoder.decode(&mut portion).unwrap() {
                events.push(event);
            }
        }
        assert_eq!(events, [Event::Message(Message::Choke)]);
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut decoder = Decoder::new(Bounds { max_extended: 1 << 20, ..BOUNDS });
        let mut input: &[u8] = &[0, 0x10, 0, 0, 20, 0, b'd'];
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(decoder.buffered() <= FIRST_BUFFER);
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = Decoder::new(BOUNDS);
        let error = decoder.decode(&mut [0, 0, 0, 2, 0].as_slice()).unwrap_err();
        assert_eq!(decoder.decode(&mut [0; 4].as_slice()), Err(error));
    }

    #[test]
    fn an_empty_extension_message_is_one() {
        let event = first(&[0, 0, 0, 2, 20, 3]);
        assert_eq!(event, Ok(Some(Event::Message(Message::Extended { id: 3, payload: vec![] }))));
    }
}
