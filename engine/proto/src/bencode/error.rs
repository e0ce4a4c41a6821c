//! What can be wrong with bencoded bytes, and where. Does not own errors about meaning.

use std::fmt;

/// A parse error: what is wrong and at which byte of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BencodeError {
    /// Byte offset into the parsed input.
    pub offset: usize,
    /// What is wrong there.
    pub kind: BencodeErrorKind,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BencodeErrorKind {
    /// The input ends inside a value.
    UnexpectedEnd,
    /// The input is longer than the limit for its source.
    InputTooLong,
    /// Containers are nested deeper than the limit.
    TooDeep,
    /// There are more values than the limit.
    TooManyTokens,
    /// A byte that begins no value.
    UnexpectedByte(u8),
    /// A dictionary key that is not a string.
    KeyNotString,
    /// A dictionary ends after a key.
    MissingValue,
    /// An integer without digits, or with something else than digits.
    BadInteger,
    /// The colon of a string is missing.
    BadStringLength,
    /// A string is longer than the rest of the input.
    StringBeyondEnd,
    /// There are bytes after the value.
    TrailingBytes,
    /// An integer has a leading zero or is a negative zero: tolerated, not canonical.
    NonCanonicalInteger,
    /// A string length has a leading zero: tolerated, not canonical.
    NonCanonicalLength,
    /// Dictionary keys are not in order or occur twice: tolerated, not canonical.
    UnsortedKeys,
}

impl fmt::Display for BencodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedEnd => "the data ends inside a value",
            Self::InputTooLong => "the data is longer than is accepted",
            Self::TooDeep => "lists and dictionaries are nested too deeply",
            Self::TooManyTokens => "there are too many values",
            Self::UnexpectedByte(byte) => return write!(f, "unexpected byte 0x{byte:02x}"),
            Self::KeyNotString => "a dictionary key is not a string",
            Self::MissingValue => "a dictionary key has no value",
            Self::BadInteger => "an integer is not a number",
            Self::BadStringLength => "a string length is not followed by a colon",
            Self::StringBeyondEnd => "a string is longer than the data",
            Self::TrailingBytes => "there are bytes after the end of the value",
            Self::NonCanonicalInteger => "an integer has a leading zero",
            Self::NonCanonicalLength => "a string length has a leading zero",
            Self::UnsortedKeys => "dictionary keys are not sorted or not unique",
        })
    }
}

impl fmt::Display for BencodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid bencoding at byte {}: {}", self.offset, self.kind)
    }
}

impl std::error::Error for BencodeError {}
