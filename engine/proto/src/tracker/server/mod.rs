//! The core of a small HTTP tracker: who announced what, and what each is told (BEP 3, 7, 21, 23, 24, 48). Takes query
//! strings and gives bodies; connections are not known here.

mod query;
mod swarm;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use self::query::{AnnounceQuery, scrape_hashes};
use self::swarm::{Counts, Peer, Swarm};
use crate::bencode::Bencode;
use crate::id::InfoHash;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Peers in an answer to those who name no number: BEP 3's common default.
const DEFAULT_NUMWANT: usize = 50;

/// Most peers in an answer: 200 are 1.2 kB, one packet.
const MAX_NUMWANT: usize = 200;

/// Entries of one address in one swarm: many hosts can share one behind a NAT, but one host must not fill a
/// swarm with ports it does not have.
const MAX_PEERS_PER_ADDRESS: usize = 256;

/// How often peers that stayed away are swept out. Until then they cost memory only: nobody is told of them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// What the tracker allows.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How often peers shall announce; they are forgotten after two intervals.
    pub interval: Duration,
    /// How long they shall wait even when they want peers.
    pub min_interval: Duration,
    /// Most torrents that have peers; those of more are refused. Each takes about 200 bytes.
    pub max_torrents: usize,
    /// Most peers of one torrent; more are refused. Each takes about 100 bytes.
    pub max_peers_per_torrent: usize,
    /// The torrents that are tracked; `None` for any.
    pub allowed: Option<BTreeSet<InfoHash>>,
}

impl Default for ServerConfig {
    /// Half an hour as public trackers have it, a minute for the eager, and room for about 100 MB of peers.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1800),
            min_interval: Duration::from_secs(60),
            max_torrents: 1_000,
            max_peers_per_torrent: 10_000,
            allowed: None,
        }
    }
}

/// Whence a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The address it came from: that of the peer, whatever the request claims.
    pub source: IpAddr,
    /// The address of ours that it reached. A peer on this very host, known by a loopback address, is named to
    /// others by it.
    pub local: IpAddr,
}

/// A tracker.
#[derive(Debug)]
pub struct TrackerServer {
    config: ServerConfig,
    rng: Rng,
    swarms: BTreeMap<InfoHash, Swarm>,
    /// When to sweep next; `None` where there is nothing to sweep.
    sweep_at: Option<Instant>,
}

impl TrackerServer {
    /// A tracker that knows nobody yet.
    pub fn new(config: ServerConfig, rng: Rng) -> Self {
        Self { config, rng, swarms: BTreeMap::new(), sweep_at: None }
    }

    /// Serves this torrent too, where only some are served.
    pub fn allow(&mut self, info_hash: InfoHash) {
        if let Some(allowed) = &mut self.config.allowed {
            allowed.insert(info_hash);
        }
    }

    /// Answers `/announce?query`: a bencoded dictionary, with a failure reason where the request is no good.
    pub fn handle_announce(&mut self, now: Instant, asker: Asker, query: &str) -> Vec<u8> {
        let asker = Asker { source: asker.source.to_canonical(), local: asker.local.to_canonical() };
        match self.announce(now, asker, query) {
            Ok(answer) => answer,
            Err(reason) => failure(&reason),
        }
    }

    /// Answers `/scrape?query` (BEP 48), in the same way. A scrape of everything is refused: who asks must know
    /// the hash.
    pub fn handle_scrape(&mut self, now: Instant, query: &str) -> Vec<u8> {
        match scrape_hashes(query) {
            Ok(hashes) => self.scrape(now, &hashes),
            Err(reason) => failure(&reason),
        }
    }

    /// Forgets peers that have stayed away for two intervals.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        let lifetime = self.lifetime();
        self.swarms.retain(|_, swarm| {
            swarm.sweep(now, lifetime);
            !swarm.is_empty()
        });
        self.sweep_at = (!self.swarms.is_empty()).then(|| now + SWEEP_INTERVAL);
    }

    /// When [`Self::handle_timeout`] should be called; `None`: not before the next announce.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Peers of all torrents, those about to be swept included.
    pub fn peer_count(&self) -> usize {
        self.swarms.values().map(Swarm::len).sum()
    }

    fn announce(&mut self, now: Instant, asker: Asker, query: &str) -> Result<Vec<u8>, String> {
        let announce = AnnounceQuery::parse(query)?;
        if self.config.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&announce.info_hash)) {
            return Err("this torrent is not tracked here".into());
        }
        let lifetime = self.lifetime();
        let endpoint = (asker.source, announce.port);
        if announce.stopped {
            self.remove(announce.info_hash, endpoint);
            return Ok(self.answer(now, asker, &AnnounceQuery { numwant: 0, ..announce }));
        }
        self.make_room(now, announce.info_hash)?;
        self.sweep_at.get_or_insert(now + SWEEP_INTERVAL);
        let (is_seed, is_partial_seed) = (announce.is_seed, announce.paused && !announce.is_seed);
        let peer = Peer { id: announce.peer_id, is_seed, is_partial_seed, seen: now };
        let bounds = (self.config.max_peers_per_torrent, MAX_PEERS_PER_ADDRESS);
        let swarm = self.swarms.entry(announce.info_hash).or_default();
        let outcome = swarm.announce(endpoint, peer, announce.completed, lifetime, bounds);
        if swarm.is_empty() {
            self.swarms.remove(&announce.info_hash);
        }
        outcome?;
        Ok(self.answer(now, asker, &announce))
    }

    fn remove(&mut self, torrent: InfoHash, endpoint: (IpAddr, u16)) {
        if let Some(swarm) = self.swarms.get_mut(&torrent) {
            swarm.remove(endpoint);
            if swarm.is_empty() {
                self.swarms.remove(&torrent);
            }
        }
    }

    /// Refuses a torrent more than the bound, after a look whether some are empty by now.
    fn make_room(&mut self, now: Instant, torrent: InfoHash) -> Result<(), String> {
        let has_room = |server: &Self| {
            server.swarms.len() < server.config.max_torrents || server.swarms.contains_key(&torrent)
        };
        if !has_room(self) {
            self.handle_timeout(now);
        }
        if has_room(self) { Ok(()) } else { Err("this tracker has no room for another torrent".into()) }
    }

    fn answer(&mut self, now: Instant, asker: Asker, announce: &AnnounceQuery) -> Vec<u8> {
        let lifetime = self.lifetime();
        let interval = self.spread_interval();
        let nobody = Swarm::default();
        let swarm = self.swarms.get(&announce.info_hash).unwrap_or(&nobody);
        let Counts { complete, incomplete, .. } = swarm.counts(now, lifetime);
        let told = swarm.sample(now, lifetime, asker.source, announce, &mut self.rng);
        let told: Vec<_> =
            told.into_iter().map(|(ip, port, peer)| (seen_by(asker, ip), port, peer)).collect();
        let mut entries: Vec<(&str, Bencode<'_>)> = vec![
            ("complete", complete.into()),
            ("external ip", raw_address(asker.source).into()),
            ("incomplete", incomplete.into()),
            ("interval", seconds(interval)),
            ("min interval", seconds(self.config.min_interval.min(self.config.interval))),
        ];
        if announce.compact {
            entries.push(("peers", compact(&told, IpAddr::is_ipv4).into()));
            entries.push(("peers6", compact(&told, IpAddr::is_ipv6).into()));
        } else {
            entries.push(("peers", dictionaries(&told, announce.no_peer_id)));
        }
        Bencode::dict(entries).encode()
    }

    fn scrape(&self, now: Instant, hashes: &[InfoHash]) -> Vec<u8> {
        let lifetime = self.lifetime();
        let files = hashes.iter().filter_map(|hash| {
            let swarm = self.swarms.get(hash)?;
            let Counts { complete, incomplete, downloaders } = swarm.counts(now, lifetime);
            let numbers: [(&str, Bencode<'_>); 4] = [
                ("complete", complete.into()),
                ("downloaded", swarm.downloaded().into()),
                ("downloaders", downloaders.into()),
                ("incomplete", incomplete.into()),
            ];
            Some((&hash.0[..], Bencode::dict(numbers)))
        });
        let files = Bencode::dict(files);
        Bencode::dict([("files", files)]).encode()
    }

    fn lifetime(&self) -> Duration {
        self.config.interval.saturating_mul(2)
    }

    /// The interval, up to a tenth shorter, so that hosts that start together do not come back together.
    fn spread_interval(&mut self) -> Duration {
        let tenth = self.config.interval.as_secs() / 10;
        self.config.interval - Duration::from_secs(self.rng.below(tenth as usize + 1) as u64)
    }
}

/// The address by which the asker can reach the peer: loopback means this host only to those on it.
fn seen_by(asker: Asker, peer: IpAddr) -> IpAddr {
    let is_usable = !peer.is_loopback() || asker.source.is_loopback();
    if is_usable || peer.is_ipv4() != asker.local.is_ipv4() { peer } else { asker.local }
}

fn failure(reason: &str) -> Vec<u8> {
    Bencode::dict([("failure reason", reason.into())]).encode()
}

fn seconds(span: Duration) -> Bencode<'static> {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX).into()
}

fn raw_address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// BEP 23 and 7: the peers of one family, address and port.
fn compact(peers: &[(IpAddr, u16, Peer)], family: fn(&IpAddr) -> bool) -> Vec<u8> {
    let of_family = peers.iter().filter(|(ip, ..)| family(ip));
    of_family.flat_map(|(ip, port, _)| [raw_address(*ip), port.to_be_bytes().to_vec()].concat()).collect()
}

/// BEP 3: a dictionary each.
fn dictionaries(peers: &[(IpAddr, u16, Peer)], no_peer_id: bool) -> Bencode<'static> {
    Bencode::list(peers.iter().map(|(ip, port, peer)| {
        let mut entries: Vec<(&str, Bencode<'_>)> =
            vec![("ip", ip.to_string().into()), ("port", (*port).into())];
        if !no_peer_id {
            entries.push(("peer id", peer.id.0.to_vec().into()));
        }
        Bencode::dict(entries)
    }))
}
