//! What a request's query says, read strictly: a client that gets a parameter wrong is told which.

use super::{DEFAULT_NUMWANT, MAX_NUMWANT};
use crate::id::{InfoHash, PeerId};
use crate::tracker::query::{decode, pairs};

/// Longest query of an announce. Those of real clients are 200 to 500 bytes.
const MAX_QUERY_LEN: usize = 2048;

/// Longest query of a scrape: the most hashes, fully escaped.
const MAX_SCRAPE_QUERY_LEN: usize = MAX_SCRAPED * 71;

/// Torrents in one scrape: what fits the 74 of a UDP scrape (BEP 15).
const MAX_SCRAPED: usize = 74;

/// An announce as the tracker sees it. An `ip` parameter is not among it: anybody could name anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnnounceQuery {
    pub(super) info_hash: InfoHash,
    pub(super) peer_id: PeerId,
    /// Not zero.
    pub(super) port: u16,
    /// Nothing is left to download.
    pub(super) is_seed: bool,
    /// `event=paused`: nothing more is downloaded, though something is left (BEP 21).
    pub(super) paused: bool,
    /// `event=completed`.
    pub(super) completed: bool,
    /// `event=stopped`.
    pub(super) stopped: bool,
    /// At most [`MAX_NUMWANT`].
    pub(super) numwant: usize,
    /// Whether peers go out in 6 and 18 bytes: unless that is declined (BEP 23).
    pub(super) compact: bool,
    pub(super) no_peer_id: bool,
}

impl AnnounceQuery {
    /// A seed, or a partial one: of no use to its like.
    pub(super) const fn wants_nothing(&self) -> bool {
        self.is_seed || self.paused
    }

    /// Reads the query of an announce; what is wrong with it, for the client's user, where something is.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        if query.len() > MAX_QUERY_LEN {
            return Err("the request is too long".into());
        }
        let event = single(query, "event")?.unwrap_or("");
        if !["", "started", "completed", "stopped", "paused"].contains(&event) {
            return Err("event is none of started, completed, stopped and paused".into());
        }
        for name in ["uploaded", "downloaded"] {
            number(query, name)?;
        }
        let port = number(query, "port")?.and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
        Ok(Self {
            info_hash: InfoHash(hash(query, "info_hash")?),
            peer_id: PeerId(hash(query, "peer_id")?),
            port: port.ok_or("port is missing or not 1 to 65535")?,
            is_seed: number(query, "left")?.ok_or("left is missing")? == 0,
            paused: event == "paused",
            completed: event == "completed",
            stopped: event == "stopped",
            numwant: numwant(query)?,
            compact: single(query, "compact")? != Some("0"),
            no_peer_id: single(query, "no_peer_id")? == Some("1"),
        })
    }
}

/// The torrents that a scrape asks about (BEP 48).
pub(super) fn scrape_hashes(query: &str) -> Result<Vec<InfoHash>, String> {
    if query.len() > MAX_SCRAPE_QUERY_LEN {
        return Err("the request is too long".into());
    }
    let values = pairs(query).filter(|(name, _)| *name == "info_hash").map(|(_, value)| value);
    let hashes: Vec<InfoHash> =
        values.map(|value| twenty(value, "info_hash").map(InfoHash)).collect::<Result<_, _>>()?;
    match hashes.len() {
        0 => Err("a scrape must name the torrents it is about".into()),
        1..=MAX_SCRAPED => Ok(hashes),
        _ => Err(format!("a scrape may name {MAX_SCRAPED} torrents")),
    }
}

/// The only value of the parameter, as it was written.
fn single<'a>(query: &'a str, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = pairs(query).filter(|(found, _)| *found == name).map(|(_, value)| value);
    let value = values.next();
    if values.next().is_some() {
        return Err(format!("{name} is given twice"));
    }
    Ok(value)
}

fn hash(query: &str, name: &str) -> Result<[u8; 20], String> {
    twenty(single(query, name)?.ok_or_else(|| format!("{name} is missing"))?, name)
}

fn twenty(value: &str, name: &str) -> Result<[u8; 20], String> {
    let bytes = decode(value).ok_or_else(|| format!("{name} is not percent-encoded properly"))?;
    <[u8; 20]>::try_from(bytes).map_err(|bytes| format!("{name} has {} bytes instead of 20", bytes.len()))
}

fn number(query: &str, name: &str) -> Result<Option<u64>, String> {
    let Some(text) = single(query, name)? else { return Ok(None) };
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if digits_only { text.parse().ok() } else { None };
    value.map(Some).ok_or_else(|| format!("{name} is not a number"))
}

/// Some clients write -1 for "your default".
fn numwant(query: &str) -> Result<usize, String> {
    if single(query, "numwant")? == Some("-1") {
        return Ok(DEFAULT_NUMWANT);
    }
    let wanted = number(query, "numwant")?;
    Ok(wanted
        .map_or(DEFAULT_NUMWANT, |wanted| usize::try_from(wanted).unwrap_or(MAX_NUMWANT))
        .min(MAX_NUMWANT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "info_hash=%00%01%02abcdefghijklmnopq&peer_id=-RT0100-abcdefghijkl&port=6881&left=5";

    #[test]
    fn the_least_announce() {
        let found = AnnounceQuery::parse(GOOD).unwrap();
        assert_eq!(found.info_hash, InfoHash(*b"\x00\x01\x02abcdefghijklmnopq"));
        assert_eq!(found.port, 6881);
        assert!(!found.is_seed && !found.stopped && !found.completed && found.compact);
        assert_eq!(found.numwant, 50);
    }

    #[test]
    fn the_fullest_announce() {
        let query = format!(
            "{}&uploaded=1&downloaded=2&event=completed&numwant=1000&compact=0&no_peer_id=1&key=x&ip=1.2.3.4&supportcrypto=1",
            GOOD.replace("left=5", "left=0")
        );
        let found = AnnounceQuery::parse(&query).unwrap();
        assert!(found.is_seed && found.completed && !found.compact && found.no_peer_id);
        assert_eq!(found.numwant, 200);
        assert_eq!(AnnounceQuery::parse(&format!("{GOOD}&numwant=-1")).unwrap().numwant, 50);
        assert!(AnnounceQuery::parse(&format!("{GOOD}&event=stopped")).unwrap().stopped);
        let paused = AnnounceQuery::parse(&format!("{GOOD}&event=paused")).unwrap();
        assert!(paused.paused && !paused.is_seed, "BEP 21");
    }

    #[test]
    fn each_fault_is_named() {
        let fault = |query: &str| AnnounceQuery::parse(query).unwrap_err();
        assert_eq!(fault(""), "info_hash is missing");
        assert_eq!(fault(&GOOD.replace("%00", "")), "info_hash has 19 bytes instead of 20");
        assert_eq!(fault(&GOOD.replace("%00", "%0x")), "info_hash is not percent-encoded properly");
        assert_eq!(fault(&GOOD.replace("-RT", "-XRT")), "peer_id has 21 bytes instead of 20");
        for port in ["0", "65536", ""] {
            assert!(fault(&GOOD.replace("6881", port)).starts_with("port is"), "{port}");
        }
        assert_eq!(fault(&GOOD.replace("6881", "+1")), "port is not a number");
        assert_eq!(fault(&GOOD.replace("&left=5", "")), "left is missing");
        assert_eq!(fault(&GOOD.replace("left=5", "left=-5")), "left is not a number");
        assert_eq!(fault(&format!("{GOOD}&left=5")), "left is given twice");
        assert_eq!(
            fault(&format!("{GOOD}&event=begun")),
            "event is none of started, completed, stopped and paused"
        );
        assert_eq!(fault(&format!("{GOOD}&uploaded=x")), "uploaded is not a number");
        assert_eq!(fault(&format!("{GOOD}&{}", "x".repeat(2048))), "the request is too long");
    }

    #[test]
    fn scrapes() {
        let hash = "info_hash=%00%01%02abcdefghijklmnopq";
        assert_eq!(scrape_hashes(&format!("{hash}&{hash}")).unwrap().len(), 2);
        assert!(scrape_hashes("").is_err());
        assert!(scrape_hashes("info_hash=abc").is_err());
        assert!(scrape_hashes(&[hash; 75].join("&")).is_err());
    }

    proptest! {
        #[test]
        fn any_query_is_survived(query in "[a-z_=&%0-9+é-]{0,80}") {
            let _ = AnnounceQuery::parse(&query);
            let _ = AnnounceQuery::parse(&format!("{GOOD}&{query}"));
            prop_assert!(scrape_hashes(&query).is_err() || query.contains("info_hash"));
        }
    }
}
