//! The hash of all that happens: the same in every build and process. Numbers go in as they are, text never.

use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{CoreToShard, ShardMessage, ShardToCore, Verdict};
use ringtide_proto::wire::{Message, RawSpan};

use crate::disk::Marker;
use crate::wire::Frame;
use crate::world::{Event, Machine, Parcel};

/// FNV-1a's, over words of 64 bits in place of bytes.
const PRIME: u64 = 0x0100_0000_01b3;

/// What happened so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl TraceHash {
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    /// Follows the event.
    pub(crate) fn note(&mut self, at: Instant, event: &Event) {
        self.word(at.nanos());
        match event {
            Event::Join(host) => self.words([1, *host as u64]),
            Event::Leave(host) => self.words([2, *host as u64]),
            Event::Return(host) => self.words([22, *host as u64]),
            Event::Timer(host, Machine::Core) => self.words([3, *host as u64]),
            Event::Timer(host, Machine::Shard(shard)) => self.words([4, *host as u64, *shard as u64]),
            Event::Tracker(host) => self.words([5, *host as u64]),
            Event::Check(host) => self.words([6, *host as u64]),
            Event::ToShard { host, from, to, parcel } => {
                self.words([7, *host as u64, *from as u64, *to as u64, parcel_kind(parcel)]);
            }
            Event::ToCore { host, from, message } => {
                self.words([8, *host as u64, *from as u64, report_kind(message)]);
            }
            Event::Connect { from, shard, addr } => {
                self.words([9, *from as u64, *shard as u64, u64::from(addr.port())]);
                self.address(addr.ip());
            }
            Event::DialFailed { host, addr } => {
                self.words([10, *host as u64]);
                self.address(addr.ip());
            }
            Event::DialerUp { conn } => self.words([11, *conn as u64]),
            Event::Departs { conn, side, frame } => self.frame(12, *conn, *side, frame),
            Event::OffTrunk { conn, side, frame } => self.frame(13, *conn, *side, frame),
            Event::Arrives { conn, side, frame } => self.frame(14, *conn, *side, frame),
            // What was gathered follows as it is taken.
            Event::Gathered(host) => self.words([21, *host as u64]),
            Event::Closed { conn, side } => self.words([15, *conn as u64, *side as u64]),
            Event::Verified { host, shard, piece, verdict } => {
                let right = u64::from(matches!(verdict, Verdict::Right(_)));
                self.words([16, *host as u64, *shard as u64, u64::from(piece.number()), right]);
            }
            Event::Written { host, shard, piece } => {
                self.words([17, *host as u64, *shard as u64, u64::from(piece.number())]);
            }
            Event::VillainDials { host, left } => self.words([18, *host as u64, u64::from(*left)]),
            Event::VillainUnchokes { conn } => self.words([19, *conn as u64]),
            Event::VillainTrickles { conn, parts } => self.words([20, *conn as u64, u64::from(*parts)]),
        }
    }

    fn word(&mut self, word: u64) {
        // The rotation lets high bits reach low ones, which multiplying alone does not.
        self.0 = (self.0 ^ word).wrapping_mul(PRIME).rotate_left(29);
    }

    fn words<const N: usize>(&mut self, words: [u64; N]) {
        words.into_iter().for_each(|word| self.word(word));
    }

    fn address(&mut self, addr: std::net::IpAddr) {
        match addr {
            std::net::IpAddr::V4(addr) => self.word(u64::from(addr.to_bits())),
            std::net::IpAddr::V6(addr) => self.words([(addr.to_bits() >> 64) as u64, addr.to_bits() as u64]),
        }
    }

    pub(crate) fn frame(&mut self, kind: u64, conn: usize, side: usize, frame: &Frame) {
        self.words([kind, conn as u64, side as u64]);
        match frame {
            Frame::Message(message) => self.message(message),
            Frame::Messages(messages) => messages.iter().for_each(|message| self.message(message)),
            Frame::Block(span, Marker(marker)) => self.span(30, *span, *marker),
            Frame::Begin(span) => self.span(31, *span, 0),
            Frame::Part(bytes) => self.words([32, *bytes]),
            Frame::End(span, Marker(marker), _) => self.span(33, *span, *marker),
        }
    }

    fn span(&mut self, kind: u64, span: RawSpan, more: u64) {
        self.words([kind, u64::from(span.piece), u64::from(span.begin), u64::from(span.length), more]);
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::KeepAlive => self.word(40),
            Message::Choke => self.word(41),
            Message::Unchoke => self.word(42),
            Message::Interested => self.word(43),
            Message::NotInterested => self.word(44),
            Message::Have { piece } => self.words([45, u64::from(*piece)]),
            Message::Bitfield(bits) => self.bytes(46, bits),
            Message::Request(span) => self.span(47, *span, 0),
            Message::Piece(span) => self.span(48, *span, 0),
            Message::Cancel(span) => self.span(49, *span, 0),
            Message::Port(port) => self.words([50, u64::from(*port)]),
            Message::SuggestPiece { piece } => self.words([51, u64::from(*piece)]),
            Message::HaveAll => self.word(52),
            Message::HaveNone => self.word(53),
            Message::RejectRequest(span) => self.span(54, *span, 0),
            Message::AllowedFast { piece } => self.words([55, u64::from(*piece)]),
            Message::Extended { id, payload } => {
                self.word(u64::from(*id));
                self.bytes(56, payload);
            }
        }
    }

    fn bytes(&mut self, kind: u64, bytes: &[u8]) {
        self.words([kind, bytes.len() as u64]);
        bytes.iter().for_each(|&byte| self.word(u64::from(byte)));
    }
}

/// What kind of parcel: what it says shows in what comes of it.
const fn parcel_kind(parcel: &Parcel) -> u64 {
    match parcel {
        Parcel::FromShard(message) => 100 + shard_kind(message),
        Parcel::LentBlock(message, _) => 200 + shard_kind(message),
        Parcel::Handover(message, _) => 300 + shard_kind(message),
        Parcel::FromCore(CoreToShard::Slots { unchoke, choke }) => {
            1_000 + unchoke.len() as u64 * 1_000 + choke.len() as u64
        }
        Parcel::FromCore(_) => 1,
        Parcel::Dial(_) => 2,
    }
}

const fn shard_kind(message: &ShardMessage) -> u64 {
    match message {
        ShardMessage::Have(_) => 1,
        ShardMessage::Released(_) => 2,
        ShardMessage::Failed(..) => 3,
        ShardMessage::Availability(_) => 4,
        ShardMessage::Borrow { .. } => 5,
        ShardMessage::Lend(..) => 6,
        ShardMessage::LentBlock(..) => 7,
        ShardMessage::GiveBack(_) => 8,
        ShardMessage::CancelLent(_) => 9,
        ShardMessage::Offer(_) => 10,
        ShardMessage::Accept(_) => 11,
        // Handovers, and what is yet to be invented.
        _ => 12,
    }
}

const fn report_kind(message: &ShardToCore) -> u64 {
    match message {
        ShardToCore::PeerUp(_) => 1,
        ShardToCore::PeerDown(_) => 2,
        ShardToCore::Interest(..) => 3,
        ShardToCore::Rates(..) => 4,
        ShardToCore::Poisoner(_) => 5,
        ShardToCore::Misbehaved(_) => 6,
        ShardToCore::ListensOn(..) => 7,
        ShardToCore::HashFailed(_) => 8,
        // Completed, and what is yet to be invented.
        _ => 9,
    }
}
