//! Why a torrent file or info dictionary is refused. Every message names the field.

use std::fmt;

use crate::bencode::BencodeError;

/// Why a torrent is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetainfoError {
    /// The bytes are not bencode, or not the canonical bencode that BEP 52 demands of v2.
    Bencode(BencodeError),
    /// The outermost value is no dictionary.
    NotADictionary,
    /// A field that must be there is not.
    Missing {
        /// The field, like `info.files[3].length`.
        field: String,
    },
    /// A field is of the wrong kind.
    WrongKind {
        /// The field, like `info.files[3].length`.
        field: String,
        /// What it must be, like `an integer`.
        expected: &'static str,
    },
    /// A field has a value that cannot be.
    Invalid {
        /// The field, like `info.files[3].length`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl MetainfoError {
    /// The field at fault; empty where the whole input is.
    pub fn field(&self) -> &str {
        match self {
            Self::Bencode(_) | Self::NotADictionary => "",
            Self::Missing { field } | Self::WrongKind { field, .. } | Self::Invalid { field, .. } => field,
        }
    }

    pub(super) fn missing(field: impl Into<String>) -> Self {
        Self::Missing { field: field.into() }
    }

    pub(super) fn wrong_kind(field: impl Into<String>, expected: &'static str) -> Self {
        Self::WrongKind { field: field.into(), expected }
    }

    pub(super) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for MetainfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Fields hold no text of the torrent but escaped names, so that a message is safe on a terminal.
        match self {
            Self::Bencode(error) => fmt::Display::fmt(error, f),
            Self::NotADictionary => f.write_str("not a torrent: the outermost value is not a dictionary"),
            Self::Missing { field } => write!(f, "not a valid torrent: {field} is missing"),
            Self::WrongKind { field, expected } => {
                write!(f, "not a valid torrent: {field} is not {expected}")
            }
            Self::Invalid { field, problem } => write!(f, "not a valid torrent: {field} {problem}"),
        }
    }
}

impl std::error::Error for MetainfoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bencode(error) => Some(error),
            _ => None,
        }
    }
}

impl From<BencodeError> for MetainfoError {
    fn from(error: BencodeError) -> Self {
        Self::Bencode(error)
    }
}
