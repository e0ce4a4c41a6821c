//! What stands beside the info dictionary: trackers (BEP 3, BEP 12), web seeds (BEP 19), DHT nodes (BEP 5), and who
//! made the torrent when. None of it is hashed and none is needed, so what makes no sense is left out, not refused.

use std::collections::HashSet;

use super::name::lossy_text;
use crate::bencode::{Kind, Value};

/// Trackers in tiers: `announce-list` where it has any (BEP 12), else `announce`. Without repetitions, empty tiers
/// and what is no URL.
pub(super) fn trackers(torrent: Value<'_>) -> Vec<Vec<String>> {
    let mut seen = HashSet::new();
    let mut tier_of = |urls: &mut dyn Iterator<Item = Value<'_>>| -> Vec<String> {
        urls.filter_map(tracker_url).filter(|url| seen.insert(url.clone())).collect()
    };
    let lists = torrent.get("announce-list").and_then(Value::list).into_iter().flatten();
    let tiers = lists.map(|tier| tier_of(&mut tier.list().into_iter().flatten()));
    let tiers: Vec<_> = tiers.filter(|tier| !tier.is_empty()).collect();
    if !tiers.is_empty() {
        return tiers;
    }
    torrent.get("announce").and_then(tracker_url).map(|url| vec![vec![url]]).unwrap_or_default()
}

/// Web seeds of `url-list`, each once, ready for use: percent-encoded, and for torrents of several files with the slash
/// to which paths are appended (BEP 19).
pub(super) fn web_seeds(torrent: Value<'_>, several_files: bool) -> Vec<String> {
    let Some(urls) = torrent.get("url-list") else {
        return Vec::new();
    };
    let one = (urls.kind() == Kind::Bytes).then_some(urls);
    let many = urls.list().into_iter().flatten();
    let mut seen = HashSet::new();
    let urls = one.into_iter().chain(many).filter_map(Value::bytes).map(<[u8]>::trim_ascii);
    urls.filter(|url| !url.is_empty() && seen.insert(*url)).map(|url| web_seed(url, several_files)).collect()
}

/// DHT nodes: host and port (BEP 5).
pub(super) fn nodes(torrent: Value<'_>) -> Vec<(String, u16)> {
    let node = |entry: Value<'_>| {
        let mut fields = entry.list()?;
        let host = fields.next()?.text()?;
        let port = u16::try_from(fields.next()?.int()?).ok()?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    };
    torrent.get("nodes").and_then(Value::list).into_iter().flatten().filter_map(node).collect()
}

/// A text field, preferring the `.utf-8` variant that old software wrote beside another encoding. Empty is none.
pub(super) fn text(torrent: Value<'_>, key: &str) -> Option<String> {
    let field = |key: &str| torrent.get(key).and_then(Value::bytes).filter(|bytes| !bytes.is_empty());
    field(&format!("{key}.utf-8")).or_else(|| field(key)).map(lossy_text)
}

/// Whether this is something like `scheme://host`, without white space or control characters.
pub(super) fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_clean = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    is_scheme && is_clean && !rest.is_empty()
}

/// A tracker's URL without the white space around it that some torrents have.
fn tracker_url(value: Value<'_>) -> Option<String> {
    Some(value.text()?.trim()).filter(|url| is_url(url)).map(str::to_owned)
}

fn web_seed(url: &[u8], several_files: bool) -> String {
    let mut encoded = percent_encode(url);
    if several_files && !encoded.ends_with('/') {
        encoded.push('/');
    }
    encoded
}

/// Encodes what no URL may contain; a URL that is already encoded stays as it is.
fn percent_encode(url: &[u8]) -> String {
    let mut encoded = String::with_capacity(url.len());
    for &byte in url {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::{Bencode, Document, Limits};

    fn with_torrent<T>(torrent: &Bencode<'_>, check: impl FnOnce(Value<'_>) -> T) -> T {
        check(Document::parse(&torrent.encode(), &Limits::FILE).unwrap().root())
    }

    #[test]
    fn tiers_win_over_announce() {
        let tiers = Bencode::List(vec![
            Bencode::list(["http://a/announce", "no url", "udp://b:1/"]),
            Bencode::list::<&str>([]),
            Bencode::list(["http://a/announce"]),
            "not a tier".into(),
            Bencode::list([" https://c/ "]),
        ]);
        let torrent = Bencode::dict([("announce", "http://other/".into()), ("announce-list", tiers)]);
        let expected =
            vec![vec!["http://a/announce".to_owned(), "udp://b:1/".into()], vec!["https://c/".into()]];
        assert_eq!(with_torrent(&torrent, trackers), expected);
    }

    #[test]
    fn a_useless_list_leaves_announce() {
        let torrent = Bencode::dict([
            ("announce", "\t http://a/".into()),
            ("announce-list", Bencode::List(vec![Bencode::list([7i64])])),
        ]);
        assert_eq!(with_torrent(&torrent, trackers), [["http://a/"]]);
        assert!(with_torrent(&Bencode::dict([("announce", 5i64.into())]), trackers).is_empty());
        assert!(with_torrent(&Bencode::dict([("announce", "http://a/\x1b[2J".into())]), trackers).is_empty());
    }

    #[test]
    fn web_seeds_are_encoded_once() {
        let list = Bencode::list(["http://h/a b", "", "http://h/a%20b/", "http://h/a b"]);
        let torrent = Bencode::dict([("url-list", list)]);
        assert_eq!(with_torrent(&torrent, |t| web_seeds(t, true)), ["http://h/a%20b/", "http://h/a%20b/"]);
        assert_eq!(with_torrent(&torrent, |t| web_seeds(t, false))[0], "http://h/a%20b");
        let single = Bencode::dict([("url-list", "http://h/ü".into())]);
        assert_eq!(with_torrent(&single, |t| web_seeds(t, false)), ["http://h/%C3%BC"]);
    }

    #[test]
    fn nodes_need_a_host_and_a_port() {
        let node = |host: &'static str, port: i64| Bencode::List(vec![host.into(), port.into()]);
        let list = Bencode::List(vec![node("127.0.0.1", 6881), node("h", 65536), node("", 1), "x".into()]);
        let torrent = Bencode::dict([("nodes", list)]);
        assert_eq!(with_torrent(&torrent, nodes), [("127.0.0.1".to_owned(), 6881)]);
    }

    #[test]
    fn text_prefers_utf8_and_survives_without() {
        let torrent =
            Bencode::dict([("comment", b"\xff!".as_slice().into()), ("comment.utf-8", "grün".into())]);
        assert_eq!(with_torrent(&torrent, |t| text(t, "comment")).as_deref(), Some("grün"));
        let torrent = Bencode::dict([("comment", b"\xff!".as_slice().into()), ("created by", "".into())]);
        assert_eq!(with_torrent(&torrent, |t| text(t, "comment")).as_deref(), Some("\u{fffd}!"));
        assert_eq!(with_torrent(&torrent, |t| text(t, "created by")), None);
    }
}
