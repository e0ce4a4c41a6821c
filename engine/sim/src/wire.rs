//! What travels over a connection. Messages that leave together travel together; a block goes whole, or in parts, so
//! that it can stop in the middle.

use ringtide_proto::layout::Span;
use ringtide_proto::wire::{BLOCK_HEADER_LEN, Message, RawSpan};

use crate::disk::Marker;

/// A part of the byte stream.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// A message other than a block.
    Message(Message),
    /// Several of them.
    Messages(Vec<Message>),
    /// A block with its header, and what it held.
    Block(RawSpan, Marker),
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
            Self::Messages(messages) => messages.iter().map(|message| message.encoded_len() as u64).sum(),
            Self::Block(span, _) => BLOCK_HEADER_LEN as u64 + u64::from(span.length),
            Self::Begin(_) => BLOCK_HEADER_LEN as u64,
            Self::Part(bytes) | Self::End(_, _, bytes) => *bytes,
        }
    }

    /// Bytes of the block that it ends.
    pub(crate) const fn payload(&self) -> u64 {
        match self {
            Self::End(span, ..) | Self::Block(span, _) => span.length as u64,
            _ => 0,
        }
    }

    /// Whether it holds messages alone.
    pub(crate) const fn is_control(&self) -> bool {
        matches!(self, Self::Message(_) | Self::Messages(_))
    }

    /// Whether it only tells of pieces and of interest: nothing waits for an answer to it.
    pub(crate) fn is_news(&self) -> bool {
        let news = |message: &Message| {
            matches!(message, Message::Have { .. } | Message::Interested | Message::NotInterested)
        };
        match self {
            Self::Message(message) => news(message),
            Self::Messages(messages) => messages.iter().all(news),
            _ => false,
        }
    }

    /// A block, in order, in parts of at most so many bytes.
    pub(crate) fn parts(span: RawSpan, marker: Marker, part: u64) -> Vec<Self> {
        let parts = u64::from(span.length).div_ceil(part.max(1)).max(2);
        let bytes = u64::from(span.length) / parts;
        let last = u64::from(span.length) - bytes * (parts - 1);
        let mut frames = vec![Self::Begin(span)];
        frames.extend((1..parts).map(|_| Self::Part(bytes)));
        frames.push(Self::End(span, marker, last));
        frames
    }
}

/// The range as the wire names it.
pub(crate) const fn raw(span: Span) -> RawSpan {
    RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() }
}
