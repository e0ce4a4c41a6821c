//! What can be wrong with bytes from a peer. What is wrong with well-formed messages is not said here.

use std::fmt;

use crate::bencode::BencodeError;

/// Bytes that are not the protocol. The connection cannot go on: where the next message begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The handshake is readable text of another protocol.
    NotBitTorrent,
    /// The handshake is neither BitTorrent's nor readable: most likely an encrypted one, which is not offered.
    PerhapsEncrypted,
    /// A message whose type has one length, with another.
    WrongLength {
        /// The message's name in the BEP.
        message: &'static str,
        /// The length it came with, id included.
        length: u32,
        /// The one it must have.
        expected: u32,
    },
    /// A bitfield that is not as long as the torrent's pieces need.
    WrongBitfieldLength {
        /// Bytes of the bitfield that was announced.
        bytes: u32,
        /// Bytes it must have.
        expected: usize,
    },
    /// A block longer than any request of ours.
    BlockTooLong {
        /// Bytes of the block.
        length: u32,
        /// The longest accepted.
        max: u32,
    },
    /// A `piece` message without data.
    EmptyBlock,
    /// An extension message, or one of a type unknown to us, above the bound.
    MessageTooLong {
        /// The message's id.
        id: u8,
        /// Its length, id included.
        length: u32,
        /// The longest accepted.
        max: usize,
    },
    /// An extension message without the byte that says which.
    NoExtensionId,
    /// An extension handshake that is not bencoded.
    BadExtendedHandshake(BencodeError),
    /// An extension handshake that is bencoded and no dictionary.
    ExtendedHandshakeNotDict,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotBitTorrent => f.write_str("the other side does not speak BitTorrent"),
            Self::PerhapsEncrypted => {
                f.write_str("no plain BitTorrent handshake: the peer seems to insist on encryption")
            }
            Self::WrongLength { message, length, expected } => {
                write!(f, "a {message} message of length {length} instead of {expected}")
            }
            Self::WrongBitfieldLength { bytes, expected } => {
                write!(f, "a bitfield of {bytes} bytes where the torrent's pieces need {expected}")
            }
            Self::BlockTooLong { length, max } => {
                write!(f, "a block of {length} bytes, more than the {max} of any request")
            }
            Self::EmptyBlock => f.write_str("a piece message without data"),
            Self::MessageTooLong { id, length, max } => {
                write!(f, "a message of type {id} and length {length}, above the bound of {max}")
            }
            Self::NoExtensionId => f.write_str("an extension message that does not say which"),
            Self::BadExtendedHandshake(error) => write!(f, "in the extension handshake: {error}"),
            Self::ExtendedHandshakeNotDict => f.write_str("an extension handshake that is no dictionary"),
        }
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::BadExtendedHandshake(error) => Some(error),
            _ => None,
        }
    }
}
