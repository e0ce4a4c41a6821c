//! The 68 bytes that open a connection (BEP 3) and the reserved bits in them (BEP 6, 10, 5). Whose torrent the
//! info hash names is not known here.

use std::fmt;

use super::WireError;
use crate::id::{InfoHash, PeerId};

/// Bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// Length of the protocol's name, and the name (BEP 3).
const PREFIX: &[u8; 20] = b"\x13BitTorrent protocol";

/// The eight reserved bytes: which extensions the sender knows.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// What we send: the extension protocol and the fast extension.
    pub const OURS: Self = Self([0, 0, 0, 0, 0, 0x10, 0, 0x04]);

    /// BEP 10: the extension protocol.
    pub const fn extended(self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// BEP 6: the fast extension.
    pub const fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// BEP 5: the sender has a DHT node.
    pub const fn dht(self) -> bool {
        self.0[7] & 0x01 != 0
    }

    /// These bits and that of the DHT.
    #[must_use]
    pub const fn with_dht(mut self) -> Self {
        self.0[7] |= 0x01;
        self
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What each side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The extensions the sender knows.
    pub reserved: Reserved,
    /// The torrent it is about.
    pub info_hash: InfoHash,
    /// Who the sender is.
    pub peer_id: PeerId,
}

impl Handshake {
    /// The handshake as the wire carries it.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut out = [0; HANDSHAKE_LEN];
        out[..20].copy_from_slice(PREFIX);
        out[20..28].copy_from_slice(&self.reserved.0);
        out[28..48].copy_from_slice(&self.info_hash.0);
        out[48..].copy_from_slice(&self.peer_id.0);
        out
    }

    /// Reads a whole handshake.
    ///
    /// # Errors
    /// As [`Self::check_prefix`].
    pub fn parse(bytes: &[u8; HANDSHAKE_LEN]) -> Result<Self, WireError> {
        Self::check_prefix(bytes)?;
        Ok(Self {
            reserved: Reserved(field(bytes, 20)),
            info_hash: InfoHash(field(bytes, 28)),
            peer_id: PeerId(field(bytes, 48)),
        })
    }

    /// Says as early as possible that this will be no handshake; `bytes` are the first ones received, as many
    /// as there are.
    ///
    /// # Errors
    /// [`WireError::NotBitTorrent`] for another protocol's text, else [`WireError::PerhapsEncrypted`].
    pub fn check_prefix(bytes: &[u8]) -> Result<(), WireError> {
        let seen = &bytes[..bytes.len().min(PREFIX.len())];
        if PREFIX.starts_with(seen) {
            return Ok(());
        }
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        // A TLS record begins 22, 3; a name of 19 bytes that is another one is another protocol.
        if seen.iter().all(is_text) || seen.starts_with(&[22, 3]) || seen[0] == PREFIX[0] && seen.len() == 20
        {
            return Err(WireError::NotBitTorrent);
        }
        Err(WireError::PerhapsEncrypted)
    }
}

fn field<const N: usize>(bytes: &[u8; HANDSHAKE_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Handshake {
        Handshake {
            reserved: Reserved::OURS,
            info_hash: InfoHash([0xab; 20]),
            peer_id: PeerId(*b"-RT0100-abcdefghijkl"),
        }
    }

    #[test]
    fn the_layout_is_that_of_bep_3() {
        let bytes = handshake().encode();
        assert_eq!(bytes[0], 19);
        assert_eq!(&bytes[1..20], b"BitTorrent protocol");
        assert_eq!(bytes[20..28], [0, 0, 0, 0, 0, 0x10, 0, 0x04]);
        assert_eq!(bytes[28..48], [0xab; 20]);
        assert_eq!(&bytes[48..], b"-RT0100-abcdefghijkl");
        assert_eq!(Handshake::parse(&bytes), Ok(handshake()));
    }

    #[test]
    fn reserved_bits() {
        let ours = Reserved::OURS;
        assert!(ours.extended() && ours.fast() && !ours.dht());
        assert!(ours.with_dht().dht());
        assert!(!Reserved::default().extended() && !Reserved::default().fast());
    }

    #[test]
    fn strangers_are_told_apart_early() {
        for len in 0..=20 {
            assert_eq!(Handshake::check_prefix(&PREFIX[..len]), Ok(()));
        }
        assert_eq!(Handshake::check_prefix(b"GET / HTTP/1.1\r\n"), Err(WireError::NotBitTorrent));
        assert_eq!(Handshake::check_prefix(b"\x16\x03\x01\x02\x00"), Err(WireError::NotBitTorrent));
        assert_eq!(Handshake::check_prefix(b"\x13BitTorrent protocoX"), Err(WireError::NotBitTorrent));
        assert_eq!(Handshake::check_prefix(&[0x9c, 0x01, 0xff]), Err(WireError::PerhapsEncrypted));
        let mut bytes = handshake().encode();
        bytes[0] = 0;
        assert_eq!(Handshake::parse(&bytes), Err(WireError::PerhapsEncrypted));
    }
}
