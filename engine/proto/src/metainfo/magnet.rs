//! Magnet URIs (BEP 9, BEP 53; the v2 hash of BEP 52). Does not fetch what they name.

use std::fmt;
use std::ops::RangeInclusive;

use super::Metainfo;
use super::announce::is_url;
use crate::id::InfoHash;
use crate::text::printable;

/// Longest URI that is read, in bytes. Hundreds of trackers fit.
const MAX_URI_BYTES: usize = 64 * 1024;
/// Characters of a value that an error shows.
const MAX_SHOWN: usize = 100;
/// What a SHA-256 multihash begins with: its code and its length of 32 (BEP 52).
const MULTIHASH_SHA256: &str = "1220";

/// What a magnet URI says. It names at least one info hash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Magnet {
    info_hash_v1: Option<InfoHash>,
    info_hash_v2: Option<[u8; 32]>,
    /// Name to show until the torrent is there (`dn`). Not safe for paths or terminals.
    pub name: Option<String>,
    /// Bytes of the content (`xl`).
    pub length: Option<u64>,
    /// Tracker URLs, each a tier of its own (`tr`).
    pub trackers: Vec<String>,
    /// Web seeds (`ws`, BEP 19).
    pub web_seeds: Vec<String>,
    /// Peers as `host:port`, `1.2.3.4:port` or `[v6]:port` (`x.pe`).
    pub peers: Vec<String>,
    /// Files to fetch by their number in the torrent (`so`, BEP 53); empty is all.
    pub select_only: Vec<RangeInclusive<u32>>,
}

/// Why a URI is no magnet link that we can use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MagnetError {
    /// It does not begin with `magnet:?`.
    NotAMagnet,
    /// It is longer than any honest one.
    TooLong,
    /// No `xt` names a BitTorrent info hash.
    NoInfoHash,
    /// A parameter has a value that cannot be.
    Invalid {
        /// Name of the parameter.
        parameter: String,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
}

impl Magnet {
    /// Parses a URI. Parameters that are not known are ignored, as are trackers and web seeds that are no URLs.
    ///
    /// # Errors
    /// Names the parameter that is wrong.
    pub fn parse(uri: &str) -> Result<Self, MagnetError> {
        const SCHEME: &str = "magnet:?";
        let uri = uri.trim();
        if uri.len() > MAX_URI_BYTES {
            return Err(MagnetError::TooLong);
        }
        let query = match uri.get(..SCHEME.len()) {
            Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => &uri[SCHEME.len()..],
            _ => return Err(MagnetError::NotAMagnet),
        };
        let mut magnet = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            magnet.parameter(key, value)?;
        }
        if magnet.info_hash_v1.is_none() && magnet.info_hash_v2.is_none() {
            return Err(MagnetError::NoInfoHash);
        }
        Ok(magnet)
    }

    /// The v1 info hash (`xt=urn:btih:`).
    pub fn info_hash_v1(&self) -> Option<InfoHash> {
        self.info_hash_v1
    }

    /// The v2 info hash (`xt=urn:btmh:`).
    pub fn info_hash_v2(&self) -> Option<[u8; 32]> {
        self.info_hash_v2
    }

    fn parameter(&mut self, key: &str, raw: &str) -> Result<(), MagnetError> {
        // Repeated parameters may be numbered: tr.1, tr.2. `x.pe` has a dot of its own.
        let name = match key.rsplit_once('.') {
            Some((name, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => key,
        };
        let invalid = |expected| MagnetError::Invalid { parameter: key.into(), value: raw.into(), expected };
        let text = || percent_decode(raw).ok_or_else(|| invalid("percent-encoded UTF-8"));
        match name {
            "xt" => self.exact_topic(&text()?).map_err(invalid)?,
            // Forms write spaces as pluses; a plus that is meant is written %2B.
            "dn" => {
                let decoded = percent_decode(&raw.replace('+', " "));
                self.name = Some(decoded.ok_or_else(|| invalid("percent-encoded UTF-8"))?);
            }
            "xl" => self.length = Some(text()?.parse().map_err(|_| invalid("a number of bytes"))?),
            "tr" => self.trackers.extend(Some(text()?).filter(|url| is_url(url))),
            "ws" => self.web_seeds.extend(Some(text()?).filter(|url| is_url(url))),
            "x.pe" => {
                let peer = Some(text()?).filter(|peer| is_host_and_port(peer));
                self.peers.push(peer.ok_or_else(|| invalid("an address like host:port or [v6]:port"))?);
            }
            "so" => {
                let ranges = file_ranges(&text()?);
                self.select_only = ranges.ok_or_else(|| invalid("file numbers like 0,2,4-7"))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Topics of other networks are none of ours.
    fn exact_topic(&mut self, topic: &str) -> Result<(), &'static str> {
        let lower = topic.to_ascii_lowercase();
        if let Some(hash) = lower.strip_prefix("urn:btih:") {
            let hash = info_hash(hash).ok_or("a btih of 40 hexadecimal or 32 base32 digits")?;
            self.info_hash_v1 = Some(hash);
        } else if let Some(hash) = lower.strip_prefix("urn:btmh:") {
            let digits = hash.strip_prefix(MULTIHASH_SHA256).and_then(hex_digest);
            self.info_hash_v2 = Some(digits.ok_or("a btmh of 1220 and 64 hexadecimal digits")?);
        }
        Ok(())
    }
}

impl From<&Metainfo> for Magnet {
    fn from(torrent: &Metainfo) -> Self {
        Self {
            info_hash_v1: torrent.info_hash_v1(),
            info_hash_v2: torrent.info_hash_v2(),
            name: Some(torrent.name().to_owned()),
            length: Some(torrent.total_length()),
            trackers: torrent.trackers().iter().flatten().cloned().collect(),
            web_seeds: torrent.web_seeds().to_vec(),
            peers: Vec::new(),
            select_only: Vec::new(),
        }
    }
}

/// The URI; parsing it gives the same magnet again.
impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters = Vec::new();
        parameters.extend(self.info_hash_v1.map(|hash| format!("xt=urn:btih:{hash}")));
        parameters.extend(self.info_hash_v2.map(|hash| {
            let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("xt=urn:btmh:{MULTIHASH_SHA256}{digits}")
        }));
        parameters.extend(self.name.as_ref().map(|name| format!("dn={}", percent_encode(name))));
        parameters.extend(self.length.map(|length| format!("xl={length}")));
        parameters.extend(self.trackers.iter().map(|url| format!("tr={}", percent_encode(url))));
        parameters.extend(self.web_seeds.iter().map(|url| format!("ws={}", percent_encode(url))));
        parameters.extend(self.peers.iter().map(|peer| format!("x.pe={peer}")));
        if !self.select_only.is_empty() {
            let ranges: Vec<_> = self.select_only.iter().map(range_text).collect();
            parameters.push(format!("so={}", ranges.join(",")));
        }
        write!(f, "magnet:?{}", parameters.join("&"))
    }
}

impl fmt::Display for MagnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMagnet => f.write_str("not a magnet link: it does not begin with magnet:?"),
            Self::TooLong => write!(f, "the magnet link is longer than {MAX_URI_BYTES} bytes"),
            Self::NoInfoHash => {
                f.write_str("the magnet link names no torrent: it has no xt=urn:btih: and no xt=urn:btmh:")
            }
            Self::Invalid { parameter, value, expected } => {
                let (name, value) =
                    (printable(parameter.as_bytes(), 20), printable(value.as_bytes(), MAX_SHOWN));
                write!(f, "the magnet link's {name} is {value:?}, not {expected}")
            }
        }
    }
}

impl std::error::Error for MagnetError {}

/// 40 hexadecimal digits, or 32 of base32 as in old links (BEP 9).
fn info_hash(text: &str) -> Option<InfoHash> {
    if text.len() == 32 { base32_digest(text).map(InfoHash) } else { text.parse().ok() }
}

/// RFC 4648, in lower case.
fn base32_digest(text: &str) -> Option<[u8; 20]> {
    let mut digest = [0; 20];
    // Eight digits of five bits make five bytes.
    for (bytes, digits) in digest.as_chunks_mut::<5>().0.iter_mut().zip(text.as_bytes().as_chunks::<8>().0) {
        let mut group = 0u64;
        for digit in digits {
            let value = match digit {
                b'a'..=b'z' => digit - b'a',
                b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            group = group << 5 | u64::from(value);
        }
        bytes.copy_from_slice(&group.to_be_bytes()[3..]);
    }
    Some(digest)
}

fn hex_digest(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut digest = [0; 32];
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        *byte = hex_byte(*pair)?;
    }
    Some(digest)
}

fn hex_byte([high, low]: [u8; 2]) -> Option<u8> {
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    Some((nibble(high)? << 4 | nibble(low)?) as u8)
}

/// `None` where a percent sign is not followed by two digits, or the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk()?;
        decoded.push(hex_byte(*digits)?);
        rest = after;
    }
    String::from_utf8(decoded).ok()
}

/// All but the unreserved characters of RFC 3986.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match is_v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    is_host
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `0,2,4-7` (BEP 53).
fn file_ranges(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|_| plain)
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(first..=last)
    };
    text.split(',').map(range).collect()
}

fn range_text(range: &RangeInclusive<u32>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    /// The same hash.
    const BASE32: &str = "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK";

    fn with_hash(rest: &str) -> Result<Magnet, MagnetError> {
        Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}{rest}"))
    }

    #[test]
    fn a_link_with_everything() {
        let v2 = "ab".repeat(32);
        let uri = format!(
            "magnet:?xt=urn:btih:{HEX}&xt.1=urn:btmh:1220{v2}&dn=A+name%20with%2Bplus&xl=1234\
             &tr=udp%3A%2F%2Ft%3A80&tr.1=http://u/announce&ws=http%3A%2F%2Fw%2F&x.pe=1.2.3.4:5&x.pe=[::1]:6\
             &x.pe=host.example:7&so=0,2,4-6&unknown=1"
        );
        let magnet = Magnet::parse(&uri).unwrap();
        assert_eq!(magnet.info_hash_v1().unwrap().to_string(), HEX);
        assert_eq!(magnet.info_hash_v2(), Some([0xab; 32]));
        assert_eq!(magnet.name.as_deref(), Some("A name with+plus"));
        assert_eq!(magnet.length, Some(1234));
        assert_eq!(magnet.trackers, ["udp://t:80", "http://u/announce"]);
        assert_eq!(magnet.web_seeds, ["http://w/"]);
        assert_eq!(magnet.peers, ["1.2.3.4:5", "[::1]:6", "host.example:7"]);
        assert_eq!(magnet.select_only, [0..=0, 2..=2, 4..=6]);
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn both_spellings_of_a_hash() {
        let expected = with_hash("").unwrap();
        for hash in [HEX.to_uppercase(), BASE32.to_owned(), BASE32.to_lowercase()] {
            assert_eq!(
                Magnet::parse(&format!("MAGNET:?xt=urn:btih:{hash}")).as_ref(),
                Ok(&expected),
                "{hash}"
            );
        }
    }

    #[test]
    fn errors_name_the_parameter() {
        let parameter = |error: MagnetError| match error {
            MagnetError::Invalid { parameter, .. } => parameter,
            other => panic!("{other}"),
        };
        for rest in [
            "&xl=many",
            "&x.pe=1.2.3.4",
            "&x.pe=:5",
            "&x.pe=h:0",
            "&x.pe=[zz]:1",
            "&x.pe=h:+5",
            "&so=",
            "&so=3-1",
            "&so=1,,2",
            "&so=+1",
            "&tr.2=%zz",
            "&dn=%",
            "&dn=%ff",
            "&xt=urn:btih:00",
            "&xt=urn:btmh:1220ab",
            "&xt=urn:btmh:1114ab",
        ] {
            let expected = rest[1..].split_once('=').unwrap().0;
            assert_eq!(parameter(with_hash(rest).expect_err(rest)), expected, "{rest}");
        }
        let bad_base32 = format!("magnet:?xt=urn:btih:{}", "1".repeat(32));
        assert_eq!(parameter(Magnet::parse(&bad_base32).unwrap_err()), "xt");
    }

    #[test]
    fn what_is_no_magnet() {
        assert_eq!(Magnet::parse("http://a/b.torrent"), Err(MagnetError::NotAMagnet));
        assert_eq!(Magnet::parse(""), Err(MagnetError::NotAMagnet));
        assert_eq!(Magnet::parse("magnet:?"), Err(MagnetError::NoInfoHash));
        assert_eq!(
            Magnet::parse("magnet:?xt=urn:ed2k:354B15E68FB8F36D7CD88FF94116CDC1"),
            Err(MagnetError::NoInfoHash)
        );
        assert_eq!(with_hash(&"&a".repeat(40_000)), Err(MagnetError::TooLong));
    }

    #[test]
    fn trackers_that_are_no_urls_are_left_out() {
        assert!(with_hash("&tr=nonsense&ws=&tr=http%3A%2F%2F").unwrap().trackers.is_empty());
    }

    #[test]
    fn messages_are_safe_for_a_terminal() {
        let message = with_hash("&xl=%1b[2J\x1b[2J").unwrap_err().to_string();
        assert!(message.contains("xl") && !message.contains('\x1b'), "{message}");
    }

    proptest! {
        #[test]
        fn a_written_link_reads_the_same(
            hash in any::<[u8; 20]>(),
            v2 in any::<Option<[u8; 32]>>(),
            name in any::<Option<String>>(),
            length in any::<Option<u64>>(),
            paths in prop::collection::vec("[a-z&=%+?#/]{1,12}", 0..4),
            files in prop::collection::vec((any::<u16>(), any::<u16>()), 0..4),
        ) {
            let urls: Vec<_> = paths.iter().map(|path| format!("http://host/{path}")).collect();
            let magnet = Magnet {
                info_hash_v1: Some(InfoHash(hash)),
                info_hash_v2: v2,
                name,
                length,
                trackers: urls.clone(),
                web_seeds: urls,
                peers: vec!["[2001:db8::1]:6881".into()],
                select_only: files.iter().map(|(a, b)| u32::from(*a.min(b))..=u32::from(*a.max(b))).collect(),
            };
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }

        #[test]
        fn random_text_never_panics(text in any::<String>(), query in "([a-z.0-9]{1,4}=[%0-9a-f:,-]{0,12}&?){0,6}") {
            let _ = Magnet::parse(&text);
            let _ = Magnet::parse(&format!("magnet:?{text}"));
            let _ = with_hash(&format!("&{query}"));
        }
    }
}
