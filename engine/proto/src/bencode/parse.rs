//! The parser: bytes to a flat array of tokens, in one pass with an explicit stack.
//! Does not own reading the values back: that is `value`.

use super::{BencodeError, BencodeErrorKind, Value};

/// How much a document may ask of us. Depth and tokens are libtorrent's, so that what it loads loads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest input, in bytes.
    pub bytes: usize,
    /// Deepest nesting of lists and dictionaries.
    pub depth: usize,
    /// Most tokens: every value, every key and every end of a list or dictionary is one. A token takes 8 bytes.
    pub tokens: usize,
}

impl Limits {
    /// For a file of the user: the largest torrents known (2,000,000 pieces and 100,000 files) take about 50 MiB.
    pub const FILE: Self = Self { bytes: 64 << 20, depth: 100, tokens: 3_000_000 };
    /// For what a peer or a tracker sends: an attacker must not make us hold more than this.
    pub const PEER: Self = Self { bytes: 10 << 20, depth: 100, tokens: 3_000_000 };
}

/// What a token begins. A container's `payload` is the distance in tokens to the next sibling, a string's
/// the length of its header (`5:`); the others have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Tag {
    Int = 0,
    Bytes = 1,
    List = 2,
    Dict = 3,
    /// The `e` of a list or dictionary, and the end of the document. Gives the value before it an end.
    End = 4,
}

/// Bits of [`Token::word`] left for the payload; the tag takes the top three.
const PAYLOAD_BITS: u32 = 29;
/// Offsets and payloads are stored in 29 to 32 bits whatever the caller's limits are.
const MAX_STORABLE: usize = (1 << PAYLOAD_BITS) - 1;

/// One token in 8 bytes: a torrent with 3,000,000 of them costs 24 MB while it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) offset: u32,
    word: u32,
}

impl Token {
    /// `offset` and `payload` are at most [`MAX_STORABLE`], which the parser has checked.
    fn new(offset: usize, tag: Tag, payload: usize) -> Self {
        debug_assert!(offset <= MAX_STORABLE && payload <= MAX_STORABLE);
        Self { offset: offset as u32, word: (tag as u32) << PAYLOAD_BITS | payload as u32 }
    }

    pub(super) fn tag(self) -> Tag {
        match self.word >> PAYLOAD_BITS {
            0 => Tag::Int,
            1 => Tag::Bytes,
            2 => Tag::List,
            3 => Tag::Dict,
            _ => Tag::End,
        }
    }

    pub(super) fn payload(self) -> usize {
        (self.word & MAX_STORABLE as u32) as usize
    }
}

/// A parsed value and the input that it borrows.
///
/// Like libtorrent it accepts unsorted and repeated keys (the first counts) and leading zeros;
/// [`Value::check_canonical`] finds them where they matter (BEP 52).
#[derive(Debug)]
pub struct Document<'a> {
    pub(super) input: &'a [u8],
    /// Tokens in the order of the input; the last one is an `End` behind the root.
    pub(super) tokens: Vec<Token>,
}

impl<'a> Document<'a> {
    /// Parses an input that is exactly one value.
    ///
    /// # Errors
    /// What is wrong and at which byte; also when bytes follow the value or a limit is exceeded.
    pub fn parse(input: &'a [u8], limits: &Limits) -> Result<Self, BencodeError> {
        let (document, len) = Self::parse_prefix(input, limits)?;
        if len < input.len() {
            return Err(BencodeError { offset: len, kind: BencodeErrorKind::TrailingBytes });
        }
        Ok(document)
    }

    /// Parses the value at the start of `input` and returns its length in bytes too. For messages where raw data
    /// follows a dictionary (BEP 9), and files with stray bytes at the end.
    ///
    /// # Errors
    /// What is wrong and at which byte, or which limit is exceeded.
    pub fn parse_prefix(input: &'a [u8], limits: &Limits) -> Result<(Self, usize), BencodeError> {
        let longest = limits.bytes.min(MAX_STORABLE);
        if input.len() > longest {
            return Err(BencodeError { offset: longest, kind: BencodeErrorKind::InputTooLong });
        }
        let mut parser = Parser { input, limits, position: 0, tokens: Vec::new(), open: Vec::new() };
        parser.run()?;
        let len = parser.position;
        Ok((Self { input, tokens: parser.tokens }, len))
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }
}

/// A list or dictionary whose end has not been seen.
struct Open {
    /// Its token, whose payload is filled in at the end.
    token: usize,
    expects: Expects,
}

/// What may come next inside an open container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    Element,
    Key,
    ValueOfKey,
}

impl Expects {
    /// What comes after one complete value.
    fn next(self) -> Self {
        match self {
            Self::Element => Self::Element,
            Self::Key => Self::ValueOfKey,
            Self::ValueOfKey => Self::Key,
        }
    }
}

struct Parser<'a, 'l> {
    input: &'a [u8],
    limits: &'l Limits,
    position: usize,
    tokens: Vec<Token>,
    /// Never longer than `limits.depth`.
    open: Vec<Open>,
}

impl Parser<'_, '_> {
    fn run(&mut self) -> Result<(), BencodeError> {
        loop {
            let byte = self.peek()?;
            if self.expects() == Expects::Key && !byte.is_ascii_digit() && byte != b'e' {
                return self.fail(BencodeErrorKind::KeyNotString);
            }
            match byte {
                b'0'..=b'9' => self.string()?,
                b'i' => self.integer()?,
                b'l' => self.enter(Tag::List, Expects::Element)?,
                b'd' => self.enter(Tag::Dict, Expects::Key)?,
                b'e' => self.leave()?,
                _ => return self.fail(BencodeErrorKind::UnexpectedByte(byte)),
            }
            if self.open.is_empty() {
                return self.push(self.position, Tag::End, 0);
            }
        }
    }

    fn string(&mut self) -> Result<(), BencodeError> {
        let start = self.position;
        let mut len = 0usize;
        while let digit @ b'0'..=b'9' = self.peek()? {
            len = len.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
            self.position += 1;
        }
        if self.peek()? != b':' {
            return self.fail(BencodeErrorKind::BadStringLength);
        }
        self.position += 1;
        if len > self.input.len() - self.position {
            self.position = start;
            return self.fail(BencodeErrorKind::StringBeyondEnd);
        }
        self.push(start, Tag::Bytes, self.position - start)?;
        self.position += len;
        self.complete();
        Ok(())
    }

    fn integer(&mut self) -> Result<(), BencodeError> {
        let start = self.position;
        self.position += 1;
        if self.peek()? == b'-' {
            self.position += 1;
        }
        let digits = self.position;
        while self.peek()?.is_ascii_digit() {
            self.position += 1;
        }
        if self.peek()? != b'e' || self.position == digits {
            return self.fail(BencodeErrorKind::BadInteger);
        }
        self.position += 1;
        self.push(start, Tag::Int, 0)?;
        self.complete();
        Ok(())
    }

    fn enter(&mut self, tag: Tag, expects: Expects) -> Result<(), BencodeError> {
        if self.open.len() >= self.limits.depth {
            return self.fail(BencodeErrorKind::TooDeep);
        }
        self.open.push(Open { token: self.tokens.len(), expects });
        self.push(self.position, tag, 0)?;
        self.position += 1;
        Ok(())
    }

    fn leave(&mut self) -> Result<(), BencodeError> {
        if self.expects() == Expects::ValueOfKey {
            return self.fail(BencodeErrorKind::MissingValue);
        }
        let Some(open) = self.open.pop() else {
            return self.fail(BencodeErrorKind::UnexpectedByte(b'e'));
        };
        self.push(self.position, Tag::End, 0)?;
        self.position += 1;
        let container = self.tokens[open.token];
        let skip = self.tokens.len() - open.token;
        self.tokens[open.token] = Token::new(container.offset as usize, container.tag(), skip);
        self.complete();
        Ok(())
    }

    /// A value has ended: tells the container around it.
    fn complete(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.expects = open.expects.next();
        }
    }

    fn push(&mut self, offset: usize, tag: Tag, payload: usize) -> Result<(), BencodeError> {
        // The root's own end is not counted: a document of `limits.tokens` tokens is accepted.
        if self.tokens.len() > self.limits.tokens.min(MAX_STORABLE - 1) {
            return self.fail(BencodeErrorKind::TooManyTokens);
        }
        self.tokens.push(Token::new(offset, tag, payload));
        Ok(())
    }

    fn expects(&self) -> Expects {
        self.open.last().map_or(Expects::Element, |open| open.expects)
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        let end = BencodeError { offset: self.input.len(), kind: BencodeErrorKind::UnexpectedEnd };
        self.input.get(self.position).copied().ok_or(end)
    }

    fn fail<T>(&self, kind: BencodeErrorKind) -> Result<T, BencodeError> {
        Err(BencodeError { offset: self.position, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: &[u8]) -> (usize, BencodeErrorKind) {
        let error = Document::parse(input, &Limits::FILE).expect_err("must be refused");
        (error.offset, error.kind)
    }

    fn accepts(input: &[u8]) -> bool {
        Document::parse(input, &Limits::FILE).is_ok()
    }

    #[test]
    fn a_token_takes_eight_bytes() {
        assert_eq!(size_of::<Token>(), 8);
    }

    #[test]
    fn errors_name_the_offending_byte() {
        use BencodeErrorKind as K;
        assert_eq!(error(b""), (0, K::UnexpectedEnd));
        assert_eq!(error(b"d"), (1, K::UnexpectedEnd));
        assert_eq!(error(b"l4:spam"), (7, K::UnexpectedEnd));
        assert_eq!(error(b"x"), (0, K::UnexpectedByte(b'x')));
        assert_eq!(error(b"e"), (0, K::UnexpectedByte(b'e')));
        assert_eq!(error(b"di1ei2ee"), (1, K::KeyNotString));
        assert_eq!(error(b"d1:ae"), (4, K::MissingValue));
        assert_eq!(error(b"ie"), (1, K::BadInteger));
        assert_eq!(error(b"i-e"), (2, K::BadInteger));
        assert_eq!(error(b"i1-2e"), (2, K::BadInteger));
        assert_eq!(error(b"i+1e"), (1, K::BadInteger));
        assert_eq!(error(b"i12"), (3, K::UnexpectedEnd));
        assert_eq!(error(b"l5 abcdee"), (2, K::BadStringLength));
        assert_eq!(error(b"l5:abe"), (1, K::StringBeyondEnd));
        assert_eq!(error(b"99999999999999999999999999:a"), (0, K::StringBeyondEnd));
        assert_eq!(error(b"-1:a"), (0, K::UnexpectedByte(b'-')));
        assert_eq!(error(b"i1ei2e"), (3, K::TrailingBytes));
    }

    #[test]
    fn tolerates_what_libtorrent_tolerates() {
        assert!(accepts(b"d1:b0:1:a0:e"), "unsorted keys");
        assert!(accepts(b"d1:a0:1:a0:e"), "repeated keys");
        assert!(accepts(b"i-0e"));
        assert!(accepts(b"i007e"));
        assert!(accepts(b"003:abc"));
        assert!(accepts(b"i99999999999999999999999e"), "has no i64, but does not spoil its neighbours");
    }

    #[test]
    fn depth_is_limited_without_recursion() {
        let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
        assert!(accepts(&nested(100)));
        assert_eq!(error(&nested(101)), (100, BencodeErrorKind::TooDeep));
        assert_eq!(error(&vec![b'l'; 1_000_000]).1, BencodeErrorKind::TooDeep);
    }

    #[test]
    fn tokens_and_bytes_are_limited() {
        let limits = Limits { tokens: 4, bytes: 12, depth: 1 };
        assert!(Document::parse(b"li1ei2ee", &limits).is_ok(), "list, two integers, end");
        let many = Document::parse(b"li1ei2ei3ee", &limits).expect_err("five tokens");
        assert_eq!(many.kind, BencodeErrorKind::TooManyTokens);
        let long = Document::parse(b"11:abcdefghijk", &limits).expect_err("fourteen bytes");
        assert_eq!(long, BencodeError { offset: 12, kind: BencodeErrorKind::InputTooLong });
    }

    #[test]
    fn a_prefix_leaves_the_rest() {
        let (document, len) = Document::parse_prefix(b"d1:ai1ee\0\x01raw", &Limits::PEER).unwrap();
        assert_eq!(len, 8);
        assert_eq!(document.root().raw(), b"d1:ai1ee");
    }
}
