//! The messages and how each is written. Reading them from a stream is the decoder's work.

/// A range of a piece as the wire names it: raw numbers, checked by nobody yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawSpan {
    /// Number of the piece.
    pub piece: u32,
    /// First byte, within the piece.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

/// Bytes before the payload of a `piece` message: length, id, piece, begin.
pub const BLOCK_HEADER_LEN: usize = 13;

/// A message of BEP 3, 6 or 10 after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// BEP 3: nothing is said, the connection lives.
    KeepAlive,
    /// BEP 3: requests are not answered from here on.
    Choke,
    /// BEP 3: requests are answered from here on.
    Unchoke,
    /// BEP 3: the sender wants pieces of ours.
    Interested,
    /// BEP 3: the sender wants nothing.
    NotInterested,
    /// BEP 3: the sender has this piece from now on.
    Have {
        /// Number of the piece.
        piece: u32,
    },
    /// BEP 3: the pieces that the sender has, one bit each.
    Bitfield(Vec<u8>),
    /// BEP 3: asks for a range.
    Request(RawSpan),
    /// BEP 3: a block. Stands for its header; the payload travels beside it and is never in here.
    Piece(RawSpan),
    /// BEP 3: takes a request back.
    Cancel(RawSpan),
    /// BEP 5: the UDP port of the sender's DHT node.
    Port(u16),
    /// BEP 6: a piece that the sender would like to be asked for.
    SuggestPiece {
        /// Number of the piece.
        piece: u32,
    },
    /// BEP 6: the sender has all pieces.
    HaveAll,
    /// BEP 6: the sender has no piece.
    HaveNone,
    /// BEP 6: a request that will not be served.
    RejectRequest(RawSpan),
    /// BEP 6: a piece that may be asked for while choked.
    AllowedFast {
        /// Number of the piece.
        piece: u32,
    },
    /// BEP 10: a message of the extension protocol; id 0 is its handshake.
    Extended {
        /// Which extension, by the number that the receiver gave it.
        id: u8,
        /// The rest of the message.
        payload: Vec<u8>,
    },
}

/// Ids on the wire.
pub(super) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST_PIECE: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT_REQUEST: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
}

impl Message {
    /// Appends the message as the wire carries it. Of a [`Message::Piece`] only the header
    /// ([`BLOCK_HEADER_LEN`] bytes): the payload must follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::KeepAlive => out.extend_from_slice(&[0; 4]),
            Self::Choke => put(out, id::CHOKE, &[]),
            Self::Unchoke => put(out, id::UNCHOKE, &[]),
            Self::Interested => put(out, id::INTERESTED, &[]),
            Self::NotInterested => put(out, id::NOT_INTERESTED, &[]),
            Self::Have { piece } => put(out, id::HAVE, &piece.to_be_bytes()),
            Self::Bitfield(bits) => put(out, id::BITFIELD, bits),
            Self::Request(span) => put(out, id::REQUEST, &span.to_wire()),
            Self::Piece(span) => out.extend_from_slice(&span.block_header()),
            Self::Cancel(span) => put(out, id::CANCEL, &span.to_wire()),
            Self::Port(port) => put(out, id::PORT, &port.to_be_bytes()),
            Self::SuggestPiece { piece } => put(out, id::SUGGEST_PIECE, &piece.to_be_bytes()),
            Self::HaveAll => put(out, id::HAVE_ALL, &[]),
            Self::HaveNone => put(out, id::HAVE_NONE, &[]),
            Self::RejectRequest(span) => put(out, id::REJECT_REQUEST, &span.to_wire()),
            Self::AllowedFast { piece } => put(out, id::ALLOWED_FAST, &piece.to_be_bytes()),
            Self::Extended { id: extension, payload } => {
                out.extend_from_slice(&frame(id::EXTENDED, 1 + payload.len()));
                out.push(*extension);
                out.extend_from_slice(payload);
            }
        }
    }

    /// Bytes that [`Self::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::KeepAlive => 4,
            Self::Choke | Self::Unchoke | Self::Interested | Self::NotInterested => 5,
            Self::HaveAll | Self::HaveNone => 5,
            Self::Port(_) => 7,
            Self::Have { .. } | Self::SuggestPiece { .. } | Self::AllowedFast { .. } => 9,
            Self::Request(_) | Self::Cancel(_) | Self::RejectRequest(_) => 17,
            Self::Piece(_) => BLOCK_HEADER_LEN,
            Self::Bitfield(bits) => 5 + bits.len(),
            Self::Extended { payload, .. } => 6 + payload.len(),
        }
    }
}

impl RawSpan {
    /// What stands before the block's payload on the wire.
    pub fn block_header(&self) -> [u8; BLOCK_HEADER_LEN] {
        let mut header = [0; BLOCK_HEADER_LEN];
        header[..4].copy_from_slice(&self.length.saturating_add(9).to_be_bytes());
        header[4] = id::PIECE;
        header[5..9].copy_from_slice(&self.piece.to_be_bytes());
        header[9..].copy_from_slice(&self.begin.to_be_bytes());
        header
    }

    fn to_wire(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.piece.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.begin.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

fn put(out: &mut Vec<u8>, id: u8, body: &[u8]) {
    out.extend_from_slice(&frame(id, body.len()));
    out.extend_from_slice(body);
}

/// Length and id. Bodies of ours are far below 4 GiB: a bitfield has at most 2^18 bytes.
fn frame(id: u8, body_len: usize) -> [u8; 5] {
    let [a, b, c, d] = (1 + body_len as u32).to_be_bytes();
    [a, b, c, d, id]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(out.len(), message.encoded_len(), "{message:?}");
        out
    }

    #[test]
    fn bytes_are_those_of_the_beps() {
        let span = RawSpan { piece: 1, begin: 0x4000, length: 0x4000 };
        let wire = [0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x40, 0];
        let spanned = |id: u8| [&[0, 0, 0, 13, id], wire.as_slice()].concat();
        assert_eq!(encode(&Message::KeepAlive), [0; 4]);
        for (message, id) in [
            (Message::Choke, 0),
            (Message::Unchoke, 1),
            (Message::Interested, 2),
            (Message::NotInterested, 3),
            (Message::HaveAll, 14),
            (Message::HaveNone, 15),
        ] {
            assert_eq!(encode(&message), [0, 0, 0, 1, id]);
        }
        assert_eq!(encode(&Message::Have { piece: 258 }), [0, 0, 0, 5, 4, 0, 0, 1, 2]);
        assert_eq!(encode(&Message::SuggestPiece { piece: 2 }), [0, 0, 0, 5, 13, 0, 0, 0, 2]);
        assert_eq!(encode(&Message::AllowedFast { piece: 2 }), [0, 0, 0, 5, 17, 0, 0, 0, 2]);
        assert_eq!(encode(&Message::Bitfield(vec![0x80, 1])), [0, 0, 0, 3, 5, 0x80, 1]);
        assert_eq!(encode(&Message::Request(span)), spanned(6));
        assert_eq!(encode(&Message::Cancel(span)), spanned(8));
        assert_eq!(encode(&Message::RejectRequest(span)), spanned(16));
        assert_eq!(encode(&Message::Piece(span)), [0, 0, 0x40, 9, 7, 0, 0, 0, 1, 0, 0, 0x40, 0]);
        assert_eq!(encode(&Message::Port(6881)), [0, 0, 0, 3, 9, 0x1a, 0xe1]);
        let extended = Message::Extended { id: 3, payload: b"de".to_vec() };
        assert_eq!(encode(&extended), [0, 0, 0, 4, 20, 3, b'd', b'e']);
    }
}
