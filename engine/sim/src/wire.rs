//! What travels over a connection. A block goes in parts, so that it can stop in the middle.

use ringtide_proto::torrent::Outgoing;
use ringtide_proto::wire::{BLOCK_HEADER_LEN, Message, RawSpan};

use crate::disk::Marker;

/// A part of the byte stream.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// A message other than a block.
    Message(Message),
    /// A block's header.
    Begin(RawSpan),
    /// Some bytes of the block.
    Part(u64),
    /// The last bytes of the block, and what it held.
    End(RawSpan, Marker, u64),
}

impl Frame {
    /// Bytes on the wire.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Message(message) => message.encoded_len() as u64,
            Self::Begin(_) => BLOCK_HEADER_LEN as u64,
            Self::Part(bytes) | Self::End(_, _, bytes) => *bytes,
        }
    }

    /// Bytes of the block that it ends.
    pub(crate) const fn payload(&self) -> u64 {
        match self {
            Self::End(span, ..) => span.length as u64,
            _ => 0,
        }
    }

    /// A block, in order, in parts of at most so many bytes.
    pub(crate) fn block(span: RawSpan, marker: Marker, part: u64) -> Vec<Self> {
        let parts = u64::from(span.length).div_ceil(part.max(1)).max(2);
        let bytes = u64::from(span.length) / parts;
        let last = u64::from(span.length) - bytes * (parts - 1);
        let mut frames = vec![Self::Begin(span)];
        frames.extend((1..parts).map(|_| Self::Part(bytes)));
        frames.push(Self::End(span, marker, last));
        frames
    }
}

/// What a node sends, as it goes onto the wire: what it uploads is right, or was caught before.
pub(crate) fn frames(outgoing: Outgoing, part: u64) -> Vec<Frame> {
    match outgoing {
        Outgoing::Message(message) => vec![Frame::Message(message)],
        Outgoing::Block(span) => {
            let raw = RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() };
            Frame::block(raw, Marker::GOOD, part)
        }
    }
}
