//! The peer wire protocol as bytes: the handshake and every message of BEP 3, 6 and 10.
//!
//! Owns framing, lengths and encodings. Does not know a torrent: numbers are as they came ([`RawSpan`]), and
//! what a message means, or whether it may come now, is the peer's state machine's to say. A block's payload
//! is never stored here.

mod decode;
mod error;
mod extended;
mod fast_set;
mod handshake;
mod message;
#[cfg(test)]
mod proptests;

pub use decode::{Bounds, Decoder, Event, Within};
pub use error::WireError;
pub use extended::{ExtendedHandshake, Extension, ExtensionIds};
pub use fast_set::allowed_fast_set;
pub use handshake::{HANDSHAKE_LEN, Handshake, Reserved};
pub use message::{BLOCK_HEADER_LEN, Message, RawSpan};
