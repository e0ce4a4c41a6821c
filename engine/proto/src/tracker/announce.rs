//! What an announce asks, and its URL (BEP 3, 7, 23). When it is sent, and over what, is not known here.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{TrackerError, query};
use crate::id::{InfoHash, PeerId};
use crate::text::printable;

/// Longest URL of a tracker. Passkeys make them a hundred long; servers refuse lines above 8 KiB.
const MAX_URL_LEN: usize = 2048;

/// What happened since the last announce (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AnnounceEvent {
    /// Nothing, it is time.
    #[default]
    None,
    /// The first announce.
    Started,
    /// The download has just become complete.
    Completed,
    /// The last announce.
    Stopped,
    /// Nothing more is downloaded, though something is left (BEP 21): in every announce while that is so.
    Paused,
}

impl AnnounceEvent {
    /// The parameter's value, where there is an event.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Started => Some("started"),
            Self::Completed => Some("completed"),
            Self::Stopped => Some("stopped"),
            Self::Paused => Some("paused"),
        }
    }
}

/// An announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who we are.
    pub peer_id: PeerId,
    /// The port on which we listen for peers.
    pub port: u16,
    /// Bytes sent to peers since `started`.
    pub uploaded: u64,
    /// Bytes received from peers since `started`.
    pub downloaded: u64,
    /// Bytes that are still missing.
    pub left: u64,
    /// What happened.
    pub event: AnnounceEvent,
    /// How many peers we would like.
    pub numwant: u32,
    /// By which the tracker knows us when our address has changed.
    pub key: u32,
    /// Whether peers may come in 6 and 18 bytes (BEP 23, BEP 7).
    pub compact: bool,
    /// What the tracker gave us to send along.
    pub tracker_id: Option<Vec<u8>>,
    /// An address that other peers should use instead of the one we announce from.
    pub ip: Option<IpAddr>,
}

impl AnnounceRequest {
    /// The URL to fetch: `tracker` with the parameters appended to those that it has.
    ///
    /// # Errors
    /// [`TrackerError::UnsupportedScheme`] and [`TrackerError::BadUrl`].
    pub fn to_url(&self, tracker: &str) -> Result<String, TrackerError> {
        let mut url = checked(tracker)?.to_owned();
        match url.split_once('?') {
            None => url.push('?'),
            Some((_, "")) => {}
            Some((_, query)) if query.ends_with('&') => {}
            Some(_) => url.push('&'),
        }
        self.push_query(&mut url);
        Ok(url)
    }

    fn push_query(&self, url: &mut String) {
        url.push_str("info_hash=");
        query::encode(&self.info_hash.0, url);
        url.push_str("&peer_id=");
        query::encode(&self.peer_id.0, url);
        let numbers = [
            ("port", u64::from(self.port)),
            ("uploaded", self.uploaded),
            ("downloaded", self.downloaded),
            ("left", self.left),
            ("compact", u64::from(self.compact)),
            ("numwant", u64::from(self.numwant)),
        ];
        for (name, value) in numbers {
            // Writing to a string cannot fail.
            let _ = write!(url, "&{name}={value}");
        }
        let _ = write!(url, "&key={:08x}", self.key);
        if let Some(event) = self.event.name() {
            let _ = write!(url, "&event={event}");
        }
        if let Some(tracker_id) = &self.tracker_id {
            url.push_str("&trackerid=");
            query::encode(tracker_id, url);
        }
        if let Some(ip) = self.ip {
            url.push_str("&ip=");
            query::encode(ip.to_string().as_bytes(), url);
        }
    }
}

/// The URL without its fragment, if it is one that an announce can go to.
fn checked(tracker: &str) -> Result<&str, TrackerError> {
    let shown = || printable(tracker.as_bytes(), 100);
    let bad = || TrackerError::BadUrl { url: shown() };
    let (scheme, rest) = tracker.split_once("://").ok_or_else(bad)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(TrackerError::UnsupportedScheme { url: shown() });
    }
    let is_url_byte = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    let has_host = rest.bytes().next().is_some_and(|byte| !b"/?#:@".contains(&byte));
    if !has_host || tracker.len() > MAX_URL_LEN || !tracker.bytes().all(is_url_byte) {
        return Err(bad());
    }
    Ok(tracker.split_once('#').map_or(tracker, |(url, _)| url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash(*b"\x00\x01 +&=%abcdefghijkl\xff"),
            peer_id: PeerId(*b"-RT0100-abcdefghijkl"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: u64::MAX,
            event: AnnounceEvent::None,
            numwant: 50,
            key: 0xbeef,
            compact: true,
            tracker_id: None,
            ip: None,
        }
    }

    const QUERY: &str = "info_hash=%00%01%20%2B%26%3D%25abcdefghijkl%FF&peer_id=-RT0100-abcdefghijkl&port=6881\
                         &uploaded=1&downloaded=2&left=18446744073709551615&compact=1&numwant=50&key=0000beef";

    #[test]
    fn an_existing_query_is_kept() {
        let url = |tracker| request().to_url(tracker).unwrap();
        assert_eq!(url("http://t/announce"), format!("http://t/announce?{QUERY}"));
        assert_eq!(url("https://t:1/a?passkey=x"), format!("https://t:1/a?passkey=x&{QUERY}"));
        assert_eq!(url("http://t/a?"), format!("http://t/a?{QUERY}"));
        assert_eq!(url("http://t/a?x=1&#frag?"), format!("http://t/a?x=1&{QUERY}"));
        assert_eq!(url("HTTP://[::1]:80/a"), format!("HTTP://[::1]:80/a?{QUERY}"));
    }

    #[test]
    fn optional_parameters() {
        let full = AnnounceRequest {
            event: AnnounceEvent::Stopped,
            tracker_id: Some(b"a b".to_vec()),
            ip: Some(std::net::Ipv6Addr::LOCALHOST.into()),
            ..request()
        };
        let url = full.to_url("http://t/a").unwrap();
        assert_eq!(url, format!("http://t/a?{QUERY}&event=stopped&trackerid=a%20b&ip=%3A%3A1"));
    }

    #[test]
    fn what_is_no_tracker_url_is_refused() {
        for tracker in [
            "",
            "announce",
            "http://",
            "http:///announce",
            "http://?x",
            "http://t/a b",
            "http://t/\r\nX: y",
            "http://t/ü",
        ] {
            assert!(matches!(request().to_url(tracker), Err(TrackerError::BadUrl { .. })), "{tracker}");
        }
        let long = format!("http://t/{}", "x".repeat(MAX_URL_LEN));
        assert!(matches!(request().to_url(&long), Err(TrackerError::BadUrl { .. })));
        for tracker in ["udp://t:6969", "wss://t", "file:///etc/passwd"] {
            let error = request().to_url(tracker).unwrap_err();
            assert!(matches!(error, TrackerError::UnsupportedScheme { .. }), "{tracker}");
            assert_eq!(error.retry(), Some(super::super::Retry::Never));
        }
    }
}
