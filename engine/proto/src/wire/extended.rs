//! The handshake of the extension protocol (BEP 10): which extensions a peer has, under which ids, and what it
//! says about itself. The extensions' own messages are not here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::WireError;
use crate::bencode::{Bencode, Document, Limits, Value};
use crate::limits::MAX_EXTENDED_LEN;
use crate::text::printable;

/// Longest client name that is kept, in characters. The longest in use have about 40.
const MAX_CLIENT_CHARS: usize = 64;

/// How much a handshake may ask of the parser. Real ones have about 40 tokens and are two deep.
const LIMITS: Limits = Limits { bytes: MAX_EXTENDED_LEN, depth: 10, tokens: 2_000 };

/// An extension that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extension {
    /// BEP 9: the info dictionary from peers.
    UtMetadata,
    /// BEP 11: peers from peers.
    UtPex,
    /// BEP 54: a piece is no longer there.
    LtDontHave,
    /// BEP 21: the sender downloads nothing more.
    UploadOnly,
}

impl Extension {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::UtMetadata, Self::UtPex, Self::LtDontHave, Self::UploadOnly];

    /// Its key in the handshake's `m`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UtMetadata => "ut_metadata",
            Self::UtPex => "ut_pex",
            Self::LtDontHave => "lt_donthave",
            Self::UploadOnly => "upload_only",
        }
    }
}

/// The ids under which the sender of a handshake wants to be sent each extension's messages. The default
/// mentions none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ExtensionIds {
    /// By position in [`Extension::ALL`]; zero switches an extension off, `None` says nothing about it.
    ids: [Option<u8>; Extension::ALL.len()],
}

impl ExtensionIds {
    /// Says nothing of any extension.
    pub const NONE: Self = Self { ids: [None; Extension::ALL.len()] };

    /// These ids and that of one more extension; zero switches it off.
    #[must_use]
    pub const fn with(mut self, extension: Extension, id: u8) -> Self {
        self.ids[extension as usize] = Some(id);
        self
    }

    /// The id to send the extension's messages under, where the peer wants them.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        self.ids[extension as usize].filter(|&id| id != 0)
    }

    /// The extension that has this id: whose message came in, where these are our own ids.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        Extension::ALL.into_iter().find(|&extension| self.id(extension) == Some(id))
    }

    /// Takes over what a later handshake changes (BEP 10: `m` is additive).
    pub fn merge(&mut self, later: &Self) {
        for (id, change) in self.ids.iter_mut().zip(later.ids) {
            *id = change.or(*id);
        }
    }
}

/// What a peer says of itself in the extension protocol. Every part may be missing; one that makes no sense is
/// as good as missing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ExtendedHandshake {
    /// `m`: the extensions and their ids.
    pub ids: ExtensionIds,
    /// `v`: the client's name, one printable line of at most 64 characters.
    pub client: Option<String>,
    /// `p`: the TCP port on which the sender listens, not zero.
    pub port: Option<u16>,
    /// `reqq`: how many requests the sender keeps queued, not zero.
    pub reqq: Option<u32>,
    /// `metadata_size` (BEP 9): bytes of the info dictionary, not zero.
    pub metadata_size: Option<u32>,
    /// `upload_only` (BEP 21): the sender downloads nothing more.
    pub upload_only: Option<bool>,
    /// `yourip`: the receiver's address as the sender sees it.
    pub yourip: Option<IpAddr>,
    /// `ipv4`: an address under which the sender can be reached too.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6`: an address under which the sender can be reached too.
    pub ipv6: Option<Ipv6Addr>,
}

impl ExtendedHandshake {
    /// The payload of the message with id 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut entries: Vec<(&str, Bencode<'_>)> = vec![("m", self.ids.to_bencode())];
        entries.extend(self.client.as_deref().map(|client| ("v", client.into())));
        entries.extend(self.port.map(|port| ("p", port.into())));
        entries.extend(self.reqq.map(|reqq| ("reqq", reqq.into())));
        entries.extend(self.metadata_size.map(|size| ("metadata_size", size.into())));
        entries.extend(self.upload_only.map(|only| ("upload_only", u16::from(only).into())));
        entries.extend(self.yourip.map(|ip| ("yourip", address_bytes(ip).into())));
        entries.extend(self.ipv4.map(|ip| ("ipv4", ip.octets().to_vec().into())));
        entries.extend(self.ipv6.map(|ip| ("ipv6", ip.octets().to_vec().into())));
        Bencode::dict(entries).encode()
    }

    /// Reads the payload of the message with id 0.
    ///
    /// # Errors
    /// Only for what is no bencoded dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        // Some clients let stray bytes follow; they carry no meaning.
        let (document, _) =
            Document::parse_prefix(payload, &LIMITS).map_err(WireError::BadExtendedHandshake)?;
        let root = document.root();
        if root.dict().is_none() {
            return Err(WireError::ExtendedHandshakeNotDict);
        }
        Ok(Self {
            ids: root.get("m").map(ExtensionIds::from_value).unwrap_or_default(),
            client: root.get("v").and_then(Value::bytes).filter(|v| !v.is_empty()).map(client_name),
            port: positive(root, "p").and_then(|port| u16::try_from(port).ok()),
            reqq: positive(root, "reqq"),
            metadata_size: positive(root, "metadata_size"),
            upload_only: root.get("upload_only").and_then(Value::int).map(|only| only != 0),
            yourip: root.get("yourip").and_then(Value::bytes).and_then(address),
            ipv4: root.get("ipv4").and_then(octets).map(|ip: [u8; 4]| ip.into()),
            ipv6: root.get("ipv6").and_then(octets).map(|ip: [u8; 16]| ip.into()),
        })
    }
}

impl ExtensionIds {
    fn to_bencode(self) -> Bencode<'static> {
        let mentioned = Extension::ALL.into_iter().zip(self.ids);
        Bencode::dict(mentioned.filter_map(|(extension, id)| Some((extension.name(), u16::from(id?).into()))))
    }

    fn from_value(m: Value<'_>) -> Self {
        let id = |extension: Extension| u8::try_from(m.get(extension.name())?.uint()?).ok();
        Self { ids: Extension::ALL.map(id) }
    }
}

fn client_name(bytes: &[u8]) -> String {
    printable(bytes, MAX_CLIENT_CHARS)
}

fn positive(root: Value<'_>, key: &str) -> Option<u32> {
    root.get(key)?.uint().and_then(|value| u32::try_from(value).ok()).filter(|&value| value > 0)
}

fn octets<const N: usize>(value: Value<'_>) -> Option<[u8; N]> {
    value.bytes()?.try_into().ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn address_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_bep_10() {
        // With today's names of the extensions.
        let payload = "d1:md11:ut_metadatai1e6:ut_pexi2ee1:pi6881e1:v13:µTorrent 1.2e";
        let found = ExtendedHandshake::parse(payload.as_bytes()).unwrap();
        assert_eq!(found.ids.id(Extension::UtMetadata), Some(1));
        assert_eq!(found.ids.id(Extension::UtPex), Some(2));
        assert_eq!(found.ids.id(Extension::LtDontHave), None);
        assert_eq!(found.port, Some(6881));
        assert_eq!(found.client.as_deref(), Some("µTorrent 1.2"));
        assert_eq!(found.reqq, None);
    }

    #[test]
    fn what_is_written_is_read() {
        let handshake = ExtendedHandshake {
            ids: ExtensionIds::default().with(Extension::UtPex, 1).with(Extension::LtDontHave, 7),
            client: Some("ringtide 0.1.0".into()),
            port: Some(6881),
            reqq: Some(2000),
            metadata_size: Some(31235),
            upload_only: Some(true),
            yourip: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 2)),
            ipv6: Some(Ipv6Addr::LOCALHOST),
        };
        assert_eq!(ExtendedHandshake::parse(&handshake.encode()), Ok(handshake));
        let nothing = ExtendedHandshake::default();
        assert_eq!(nothing.encode(), b"d1:mdee");
        assert_eq!(ExtendedHandshake::parse(b"de"), Ok(nothing));
    }

    #[test]
    fn nonsense_in_a_field_is_a_missing_field() {
        let payload = b"d4:ipv43:abc4:ipv64:abcd1:md6:ut_pexi256e11:lt_donthavei-1ee13:metadata_sizei0e1:pi65536e4:reqq1:x1:vi1e6:yourip5:abcdee";
        assert_eq!(ExtendedHandshake::parse(payload), Ok(ExtendedHandshake::default()));
        assert_eq!(ExtendedHandshake::parse(b"d1:m1:xe"), Ok(ExtendedHandshake::default()));
    }

    #[test]
    fn what_is_no_dictionary_is_an_error() {
        assert_eq!(ExtendedHandshake::parse(b"le"), Err(WireError::ExtendedHandshakeNotDict));
        assert!(matches!(ExtendedHandshake::parse(b"d1:m"), Err(WireError::BadExtendedHandshake(_))));
        let many = [b"d1:ml".as_slice(), &b"0:".repeat(3_000), b"ee"].concat();
        assert!(matches!(ExtendedHandshake::parse(&many), Err(WireError::BadExtendedHandshake(_))));
        let deep = [b"d1:m".as_slice(), &b"l".repeat(5_000)].concat();
        assert!(matches!(ExtendedHandshake::parse(&deep), Err(WireError::BadExtendedHandshake(_))));
    }

    #[test]
    fn client_names_are_made_printable() {
        let payload = b"d1:v6:a\x1b[2Jbe";
        let client = ExtendedHandshake::parse(payload).unwrap().client.unwrap();
        assert_eq!(client, "a\u{fffd}[2Jb");
        let long = format!("d1:v100:{}e", "x".repeat(100));
        assert_eq!(ExtendedHandshake::parse(long.as_bytes()).unwrap().client.unwrap().chars().count(), 65);
    }

    #[test]
    fn later_handshakes_add_and_switch_off() {
        let mut ids = ExtensionIds::default().with(Extension::UtPex, 1).with(Extension::UtMetadata, 2);
        ids.merge(&ExtensionIds::default().with(Extension::UtPex, 0).with(Extension::LtDontHave, 3));
        assert_eq!(ids.id(Extension::UtPex), None);
        assert_eq!(ids.id(Extension::UtMetadata), Some(2));
        assert_eq!(ids.extension(3), Some(Extension::LtDontHave));
        assert_eq!(ids.extension(0), None);
    }
}
