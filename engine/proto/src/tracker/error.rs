//! Why an announce gave nothing, and what the tracker says about trying again.

use std::fmt;

use crate::bencode::BencodeError;
use crate::time::Duration;

/// What is known about when a tracker may be tried again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this long, not sooner.
    After(Duration),
    /// Not at all.
    Never,
}

/// An announce that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerError {
    /// The address in the torrent is no URL of a tracker.
    BadUrl {
        /// The address, made printable.
        url: String,
    },
    /// A kind of tracker that is not spoken to: not `http` or `https`.
    UnsupportedScheme {
        /// The address, made printable.
        url: String,
    },
    /// The tracker answered with a failure reason (BEP 3).
    Refused {
        /// The reason, made printable.
        reason: String,
        /// What it says about trying again, where it does.
        retry: Option<Retry>,
    },
    /// The answer is not bencoded.
    NotBencoded(BencodeError),
    /// The answer is bencoded and no dictionary.
    NotDict,
    /// The answer's `peers` are neither a string nor a list.
    BadPeers,
}

impl TrackerError {
    /// What this says about when to try again; `None` leaves it to the schedule.
    pub fn retry(&self) -> Option<Retry> {
        match self {
            Self::Refused { retry, .. } => *retry,
            Self::BadUrl { .. } | Self::UnsupportedScheme { .. } => Some(Retry::Never),
            Self::NotBencoded(_) | Self::NotDict | Self::BadPeers => None,
        }
    }
}

impl fmt::Display for TrackerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl { url } => write!(f, "{url} is no tracker URL"),
            Self::UnsupportedScheme { url } => {
                write!(f, "{url}: only http and https trackers are supported, it is skipped")
            }
            Self::Refused { reason, .. } => write!(f, "the tracker refused: {reason}"),
            Self::NotBencoded(error) => write!(f, "the tracker's answer is no tracker's answer: {error}"),
            Self::NotDict => f.write_str("the tracker's answer is bencoded but no dictionary"),
            Self::BadPeers => f.write_str("the tracker's answer holds peers in no known form"),
        }
    }
}

impl std::error::Error for TrackerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotBencoded(error) => Some(error),
            _ => None,
        }
    }
}
