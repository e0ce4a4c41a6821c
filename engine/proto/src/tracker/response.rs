//! What a tracker answers to an announce (BEP 3, 7, 23, 24, 31). Whether to believe it about peers is for those
//! who connect to them.

use std::net::{IpAddr, SocketAddr};

use super::{Retry, TrackerError};
use crate::bencode::{Document, Limits, Value};
use crate::text::printable;
use crate::time::Duration;

/// Most peers taken from one answer, of each family. Trackers give 50 to 200; more than this would only push
/// out of the peer list what other sources gave.
const MAX_PEERS: usize = 1_000;

/// Longest text of a tracker that is shown, in characters: a few lines.
const MAX_TEXT_CHARS: usize = 300;

/// Longest tracker id that is sent back: it travels in a URL, in three characters a byte.
const MAX_TRACKER_ID: usize = 256;

/// The interval of a tracker that names none: what most trackers name.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1800);

/// Shortest interval that is obeyed. A tracker for a swarm of minutes may want fast answers; a zero would be a
/// busy loop against it.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);

/// Longest interval that is obeyed: a tracker that wants us back tomorrow has forgotten us by then.
const LONGEST_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// How soon a tracker that names no minimum may be asked again for more peers.
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(60);

/// A successful announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// When to announce again: 10 s to 6 h whatever was said.
    pub interval: Duration,
    /// How long to wait even when peers are wanted; at most `interval`.
    pub min_interval: Duration,
    /// To be sent along with the next announce to this tracker.
    pub tracker_id: Option<Vec<u8>>,
    /// Something a person should read, made printable.
    pub warning: Option<String>,
    /// How many peers have everything.
    pub complete: Option<u32>,
    /// How many have not.
    pub incomplete: Option<u32>,
    /// Where peers are said to listen: no port is zero, no address is unspecified or multicast.
    pub peers: Vec<SocketAddr>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

impl AnnounceResponse {
    /// Reads the body of a tracker's answer.
    ///
    /// # Errors
    /// The tracker's failure reason, or what is wrong with the answer.
    pub fn parse(body: &[u8]) -> Result<Self, TrackerError> {
        // Some trackers end the answer with a line break.
        let (document, _) = Document::parse_prefix(body, &Limits::PEER).map_err(TrackerError::NotBencoded)?;
        let root = document.root();
        if root.dict().is_none() {
            return Err(TrackerError::NotDict);
        }
        if let Some(reason) = root.get("failure reason") {
            return Err(refusal(root, reason));
        }
        let interval = seconds(root, "interval").unwrap_or(DEFAULT_INTERVAL);
        let interval = interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        let min_interval = seconds(root, "min interval").unwrap_or(DEFAULT_MIN_INTERVAL);
        Ok(Self {
            interval,
            min_interval: min_interval.clamp(SHORTEST_INTERVAL, interval),
            tracker_id: bytes(root, "tracker id").filter(|id| id.len() <= MAX_TRACKER_ID).map(<[u8]>::to_vec),
            warning: bytes(root, "warning message").map(|text| printable(text, MAX_TEXT_CHARS)),
            complete: count(root, "complete"),
            incomplete: count(root, "incomplete"),
            peers: peers(root)?,
            external_ip: bytes(root, "external ip").and_then(raw_address),
        })
    }
}

fn refusal(root: Value<'_>, reason: Value<'_>) -> TrackerError {
    let reason =
        reason.bytes().map_or_else(|| "no reason given".to_owned(), |text| printable(text, MAX_TEXT_CHARS));
    TrackerError::Refused { reason, retry: root.get("retry in").and_then(retry) }
}

/// BEP 31: minutes as a positive integer, or the word `never`.
fn retry(value: Value<'_>) -> Option<Retry> {
    if value.bytes() == Some(b"never") {
        return Some(Retry::Never);
    }
    // Some write the number as a string.
    let minutes = value.uint().or_else(|| value.text()?.parse().ok())?;
    Some(Retry::After(Duration::from_secs(minutes.saturating_mul(60)).min(LONGEST_INTERVAL)))
}

fn peers(root: Value<'_>) -> Result<Vec<SocketAddr>, TrackerError> {
    let mut found = match root.get("peers") {
        // A tracker has nothing to say to `stopped`.
        None => Vec::new(),
        Some(value) => match (value.bytes(), value.list()) {
            (Some(compact), _) => compact_peers::<4, 6>(compact),
            (_, Some(list)) => list.take(MAX_PEERS).filter_map(peer_of_dict).collect(),
            _ => return Err(TrackerError::BadPeers),
        },
    };
    // BEP 7: 18 bytes each.
    found.extend(bytes(root, "peers6").map(compact_peers::<16, 18>).unwrap_or_default());
    found.retain(is_connectable);
    Ok(found)
}

/// BEP 23 and 7: address and port, `ENTRY` bytes a peer. A cut-off last one is left out.
fn compact_peers<const IP: usize, const ENTRY: usize>(bytes: &[u8]) -> Vec<SocketAddr> {
    let peer = |entry: &[u8]| {
        let port = u16::from_be_bytes([entry[ENTRY - 2], entry[ENTRY - 1]]);
        raw_address(&entry[..IP]).map(|ip| SocketAddr::new(ip, port))
    };
    bytes.chunks_exact(ENTRY).take(MAX_PEERS).filter_map(peer).collect()
}

/// BEP 3: `ip` and `port`. A name instead of an address is left out: nobody is looked up on a tracker's word.
fn peer_of_dict(value: Value<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = value.get("ip")?.text()?.parse().ok()?;
    let port = u16::try_from(value.get("port")?.uint()?).ok()?;
    Some(SocketAddr::new(ip, port))
}

fn is_connectable(peer: &SocketAddr) -> bool {
    let broadcast = peer.ip() == IpAddr::from([255; 4]);
    peer.port() != 0 && !peer.ip().is_unspecified() && !peer.ip().is_multicast() && !broadcast
}

fn raw_address(bytes: &[u8]) -> Option<IpAddr> {
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::from(octets).to_canonical());
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| v6()).ok()
}

fn bytes<'a>(root: Value<'a>, key: &str) -> Option<&'a [u8]> {
    root.get(key)?.bytes()
}

fn seconds(root: Value<'_>, key: &str) -> Option<Duration> {
    root.get(key)?.uint().map(Duration::from_secs)
}

fn count(root: Value<'_>, key: &str) -> Option<u32> {
    root.get(key)?.uint().map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(body: &[u8]) -> AnnounceResponse {
        AnnounceResponse::parse(body).unwrap()
    }

    fn texts(peers: &[SocketAddr]) -> Vec<String> {
        peers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn compact_peers_of_both_families() {
        let body = b"d8:completei5e10:incompletei7e8:intervali900e12:min intervali30e5:peers12:\x0a\0\0\x01\x1a\xe1\x0a\0\0\x02\0\x01\
                     6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05\x1a\xe110:tracker id3:abce";
        let found = parse(body);
        assert_eq!(texts(&found.peers), ["10.0.0.1:6881", "10.0.0.2:1", "[2001:db8::5]:6881"]);
        assert_eq!((found.complete, found.incomplete), (Some(5), Some(7)));
        assert_eq!(found.interval, Duration::from_secs(900));
        assert_eq!(found.min_interval, Duration::from_secs(30));
        assert_eq!(found.tracker_id.as_deref(), Some(b"abc".as_slice()));
    }

    #[test]
    fn peers_as_dictionaries() {
        let body = b"d8:intervali900e5:peersld2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eed2:ip3:::14:porti1ee\
                     d2:ip11:example.com4:porti1eed2:ip8:10.0.0.24:porti65536eed4:porti1eei7eee";
        assert_eq!(texts(&parse(body).peers), ["10.0.0.1:6881", "[::1]:1"]);
    }

    #[test]
    fn addresses_nobody_can_listen_on_are_left_out() {
        let body = b"d5:peers24:\0\0\0\0\0\x01\xe0\0\0\x01\0\x01\xff\xff\xff\xff\0\x01\x0a\0\0\x01\0\0e";
        assert!(parse(body).peers.is_empty());
        assert!(parse(b"d5:peers5:\x0a\0\0\x01\x01e").peers.is_empty(), "a cut-off entry");
    }

    #[test]
    fn intervals_are_made_sane() {
        let secs = |body: &[u8]| (parse(body).interval.as_secs(), parse(body).min_interval.as_secs());
        assert_eq!(secs(b"de"), (1800, 60));
        assert_eq!(secs(b"d8:intervali0ee"), (10, 10));
        assert_eq!(secs(b"d8:intervali-5e12:min intervali-5ee"), (1800, 60));
        assert_eq!(secs(b"d8:intervali99999999999e12:min intervali99999999999ee"), (21600, 21600));
        assert_eq!(secs(b"d8:intervali60e12:min intervali120ee"), (60, 60));
    }

    #[test]
    fn failures_and_warnings_are_shown_safely() {
        let refused = |body: &[u8]| AnnounceResponse::parse(body).unwrap_err();
        let TrackerError::Refused { reason, retry } =
            refused(b"d14:failure reason7:no\x1b[2Jx8:retry ini5ee")
        else {
            panic!("not refused")
        };
        assert_eq!(reason, "no\u{fffd}[2Jx");
        assert_eq!(retry, Some(Retry::After(Duration::from_secs(300))));
        assert_eq!(refused(b"d14:failure reason1:x8:retry in5:nevere").retry(), Some(Retry::Never));
        assert_eq!(
            refused(b"d14:failure reason1:x8:retry in1:2e").retry(),
            Some(Retry::After(Duration::from_secs(120)))
        );
        assert_eq!(refused(b"d14:failure reasoni3ee").to_string(), "the tracker refused: no reason given");
        assert_eq!(parse(b"d15:warning message5:a\nb\x07ce").warning.as_deref(), Some("a\u{fffd}b\u{fffd}c"));
    }

    #[test]
    fn external_address() {
        assert_eq!(parse(b"d11:external ip4:\x01\x02\x03\x04e").external_ip, Some([1, 2, 3, 4].into()));
        assert_eq!(parse(b"d11:external ip3:abce").external_ip, None);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(matches!(AnnounceResponse::parse(b"<html>"), Err(TrackerError::NotBencoded(_))));
        assert!(matches!(AnnounceResponse::parse(b""), Err(TrackerError::NotBencoded(_))));
        assert_eq!(AnnounceResponse::parse(b"le"), Err(TrackerError::NotDict));
        assert_eq!(AnnounceResponse::parse(b"d5:peersi3ee"), Err(TrackerError::BadPeers));
        assert!(AnnounceResponse::parse(b"de\r\n").is_ok());
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let many = [b"d5:peers60000:".as_slice(), &[9; 60_000], b"e"].concat();
        assert_eq!(parse(&many).peers.len(), MAX_PEERS);
        let dicts = [b"d5:peersl".as_slice(), &b"d2:ip7:1.2.3.44:porti1ee".repeat(2_000), b"ee"].concat();
        assert_eq!(parse(&dicts).peers.len(), MAX_PEERS);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(body in prop::collection::vec(any::<u8>(), 0..100), framed: bool) {
            let body = if framed { [b"d5:peersl".as_slice(), &body, b"ee"].concat() } else { body };
            if let Ok(found) = AnnounceResponse::parse(&body) {
                prop_assert!(found.interval >= found.min_interval);
                prop_assert!(found.peers.iter().all(is_connectable));
            }
        }
    }
}
