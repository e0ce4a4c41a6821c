//! Identities of the protocol: info hashes and peer ids. Parsing hexadecimal text is here, deciding what a
//! hash stands for is not.

use std::fmt;
use std::str::FromStr;

use crate::rng::Rng;

/// The SHA-1 of a torrent's info dictionary (BEP 3), or the first 20 bytes of its SHA-256 (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// The 20 bytes by which a peer names itself (BEP 3, BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

/// What every peer id of ours begins with: Azureus style, "RI", version 0.1.0 (BEP 20); "RT" is another client.
pub const PEER_ID_PREFIX: &[u8; 8] = b"-RI0100-";

impl PeerId {
    /// A fresh id of ours.
    pub fn generate(rng: &mut Rng) -> Self {
        let mut id = [0; 20];
        id[..8].copy_from_slice(PEER_ID_PREFIX);
        id[8..].fill_with(|| b"0123456789abcdefghijklmnopqrstuvwxyz"[rng.below(36)]);
        Self(id)
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Printable bytes as they are, others as `\xNN`: ids come from strangers and end in logs.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnInfoHash;

impl fmt::Display for NotAnInfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an info hash is 40 hexadecimal digits")
    }
}

impl std::error::Error for NotAnInfoHash {}

impl FromStr for InfoHash {
    type Err = NotAnInfoHash;

    fn from_str(text: &str) -> Result<Self, NotAnInfoHash> {
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(NotAnInfoHash);
        }
        let mut hash = [0; 20];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(hash))
    }
}

fn nibble(digit: u8) -> Result<u8, NotAnInfoHash> {
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(NotAnInfoHash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_hash_text_round_trips() {
        let hash = InfoHash(std::array::from_fn(|i| (i * 13) as u8));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        assert_eq!("00".parse::<InfoHash>(), Err(NotAnInfoHash));
        assert_eq!("g".repeat(40).parse::<InfoHash>(), Err(NotAnInfoHash));
        assert_eq!("é".repeat(20).parse::<InfoHash>(), Err(NotAnInfoHash));
    }

    #[test]
    fn our_ids_carry_the_prefix_and_differ() {
        let mut rng = Rng::new(1);
        let (a, b) = (PeerId::generate(&mut rng), PeerId::generate(&mut rng));
        assert!(a.0.starts_with(PEER_ID_PREFIX));
        assert_ne!(a, b);
        assert!(a.0.iter().all(u8::is_ascii_graphic));
    }

    #[test]
    fn foreign_ids_are_escaped() {
        assert!(PeerId([0x1b; 20]).to_string().starts_with("\\x1b"));
    }
}
