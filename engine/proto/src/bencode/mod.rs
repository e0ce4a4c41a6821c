//! Bencode (BEP 3): a borrowed, iterative parser and a canonical writer.
//!
//! Owns the grammar and its limits. Does not know what any key means: that is [`crate::metainfo`],
//! the wire's extension messages and the trackers.
//!
//! A [`Document`] is a flat array of 8-byte tokens over the input; a [`Value`] is a cursor into it. Nothing is
//! copied, nothing recurses, and no length from the input is trusted before it is checked.
//!
//! ```
//! use ringtide_proto::bencode::{Bencode, Document, Limits};
//!
//! let document = Document::parse(b"d8:intervali1800ee", &Limits::PEER)?;
//! assert_eq!(document.root().get("interval").and_then(|v| v.int()), Some(1800));
//! assert_eq!(Bencode::dict([("interval", 1800.into())]).encode(), b"d8:intervali1800ee");
//! # Ok::<(), ringtide_proto::bencode::BencodeError>(())
//! ```

mod error;
mod parse;
#[cfg(test)]
mod proptests;
mod value;
mod write;

pub use error::{BencodeError, BencodeErrorKind};
pub use parse::{Document, Limits};
pub use value::{DictIter, Kind, ListIter, Value};
pub use write::Bencode;
