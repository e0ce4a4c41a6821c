//! What `get` and `seed` share: starting an engine as the user asked, and telling what happens in it.
//!
//! Owns the choice of ports and the wording of events. When to stop is each command's own business.

mod ports;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

use ringtide_engine::driver::IoChoice;
use ringtide_engine::storage::DirectChoice;
use ringtide_engine::{Config, Engine, EngineError, Event, Rates, TorrentId};
use ringtide_proto::torrent::Policy;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::{Exit, Failure};
use crate::output::note;
use crate::text::escape;
use ports::Ports;
pub(crate) use ports::cannot_listen;

/// Messages of one kind that are printed; the rest are counted only. A poisoned swarm has thousands.
const MESSAGES_OF_A_KIND: u32 = 20;

/// How the engine runs, as the user asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) listen: Listen,
    pub(crate) shards: Option<u8>,
    pub(crate) hash_threads: Option<usize>,
    pub(crate) latency: bool,
    pub(crate) zero_copy: bool,
    pub(crate) io: IoChoice,
    pub(crate) memory: u64,
    pub(crate) max_peers: usize,
    pub(crate) torrent_peers: usize,
    pub(crate) policy: Policy,
    pub(crate) rates: Rates,
    pub(crate) torrent_rates: Rates,
    pub(crate) direct: DirectChoice,
    /// Whether the engine measures itself.
    pub(crate) measure: bool,
}

/// Where to accept peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// Everywhere, at port 6881 or the next that is free.
    Default,
    /// There or not at all.
    At(Vec<SocketAddr>),
}

/// A running engine and the ports it was promised.
pub(crate) struct Swarm {
    pub(crate) engine: Engine,
    _ports: Ports,
}

impl Swarm {
    /// Starts the engine. What it falls back to is said on stderr.
    pub(crate) fn start(options: &Options) -> Result<Self, Failure> {
        allow_many_descriptors();
        let ports = match &options.listen {
            Listen::Default => Ports::find(),
            Listen::At(addrs) => Ports::claim(addrs)?,
        };
        let config = Config {
            io: options.io,
            shards: options.shards,
            hash_threads: options.hash_threads,
            latency: options.latency,
            zero_copy: options.zero_copy,
            memory: options.memory,
            max_peers: options.max_peers,
            torrent_peers: options.torrent_peers,
            policy: options.policy,
            rates: options.rates,
            torrent_rates: options.torrent_rates,
            listen: ports.addrs().to_vec(),
            direct: options.direct,
            measure: options.measure,
        };
        let engine = Engine::start(config).map_err(|error| engine_failure(&error))?;
        if let (_, Some(why)) = engine.io() {
            note(why);
        }
        Ok(Self { engine, _ports: ports })
    }
}

/// Each peer is a descriptor, and each file in use. What a shell allows at first (1,024 as a rule) is there for programs
/// that use `select`, which this one does not: the limit is raised as far as it may be without asking anybody.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be, fewer peers are accepted.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Why the engine would not, as an exit code and a message.
pub(crate) fn engine_failure(error: &EngineError) -> Failure {
    let exit = match error {
        EngineError::Storage(error) => error.kind().into(),
        EngineError::Driver(_) | EngineError::Thread(_) => Exit::Refused,
        EngineError::Bind { addr, source } => return cannot_listen("--listen", *addr, source),
        EngineError::Http(_) => Exit::NoPeers,
        EngineError::NotSupported(_) | EngineError::AlreadyAdded(_) => Exit::BadInput,
        EngineError::Ended => Exit::Other,
    };
    Failure::new(exit, error)
}

/// Turns `host:port` into addresses. A host that has none is only a warning while others have some.
pub(crate) fn resolve_peers(peers: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let mut addrs = Vec::new();
    let mut problems = Vec::new();
    for peer in peers {
        match peer.to_socket_addrs() {
            Ok(found) => addrs.extend(found),
            Err(error) => problems.push(format!("cannot find the address of {:?}: {error}", escape(peer))),
        }
    }
    if addrs.is_empty() && !problems.is_empty() {
        let message = format!("{}; check --peer and the network", problems.join("; "));
        return Err(Failure::new(Exit::NoPeers, message));
    }
    problems.iter().for_each(|problem| note(problem));
    Ok(addrs)
}

/// Puts events into words.
#[derive(Default)]
pub(crate) struct Reporter {
    /// Names of the torrents, escaped.
    names: BTreeMap<TorrentId, String>,
    hash_failures: u32,
    bans: u32,
    /// The last word of each tracker, so that it is not repeated at every announce.
    trackers: BTreeMap<(TorrentId, String), String>,
}

impl Reporter {
    /// A torrent that events may be about.
    pub(crate) fn add(&mut self, torrent: TorrentId, name: &str) {
        self.names.insert(torrent, escape(name));
    }

    /// What to tell a person about this, if anything.
    pub(crate) fn words(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::TrackerFailed { torrent, url, reason } => {
                self.tracker(*torrent, url, &format!("failed: {}", escape(reason)))
            }
            Event::TrackerWarned { torrent, url, warning } => {
                self.tracker(*torrent, url, &format!("warns: {}", escape(warning)))
            }
            Event::TrackerAnswered { torrent, url, peers } => {
                // Only worth a word after it failed.
                let failed = self.trackers.remove(&(*torrent, url.clone())).is_some();
                failed.then(|| format!("tracker {} answered with {peers} peers", escape(url)))
            }
            Event::HashFailed { torrent, piece } => {
                let what =
                    format!("piece {piece} of {} failed its hash; it is fetched again", self.name(*torrent));
                few(&mut self.hash_failures, what)
            }
            Event::PeerBanned { torrent, addr } => {
                let what = format!("{addr} gave bad data of {} and is banned", self.name(*torrent));
                few(&mut self.bans, what)
            }
            _ => None,
        }
    }

    fn name(&self, torrent: TorrentId) -> &str {
        self.names.get(&torrent).map_or("?", String::as_str)
    }

    fn tracker(&mut self, torrent: TorrentId, url: &str, words: &str) -> Option<String> {
        let last = self.trackers.entry((torrent, url.to_owned())).or_default();
        if *last == words {
            return None;
        }
        words.clone_into(last);
        Some(format!("tracker {} {words}", escape(url)))
    }
}

/// The first messages of a kind, and one that says that more are not printed.
fn few(count: &mut u32, what: String) -> Option<String> {
    *count = count.saturating_add(1);
    match *count {
        0..MESSAGES_OF_A_KIND => Some(what),
        MESSAGES_OF_A_KIND => Some(format!("{what} (more like this are counted, not printed)")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TorrentId = TorrentId(1);

    fn failed(reason: &str) -> Event {
        Event::TrackerFailed { torrent: ID, url: "http://t/".into(), reason: reason.into() }
    }

    #[test]
    fn a_tracker_says_the_same_thing_once() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.words(&failed("no")), Some("tracker http://t/ failed: no".to_owned()));
        assert_eq!(reporter.words(&failed("no")), None);
        assert_eq!(reporter.words(&failed("busy")), Some("tracker http://t/ failed: busy".to_owned()));
        let answered = Event::TrackerAnswered { torrent: ID, url: "http://t/".into(), peers: 3 };
        assert_eq!(reporter.words(&answered), Some("tracker http://t/ answered with 3 peers".to_owned()));
        assert_eq!(reporter.words(&answered), None);
    }

    #[test]
    fn strangers_words_are_escaped_and_floods_are_cut() {
        let mut reporter = Reporter::default();
        reporter.add(ID, "a\u{1b}b");
        let said = reporter.words(&failed("\u{1b}[31mred")).expect("is said");
        assert!(said.ends_with("failed: \\u{1b}[31mred"), "{said}");
        let mut said: Vec<_> =
            (0..100).filter_map(|piece| reporter.words(&Event::HashFailed { torrent: ID, piece })).collect();
        assert_eq!(said.len(), MESSAGES_OF_A_KIND as usize);
        assert_eq!(said.remove(0), "piece 0 of a\\u{1b}b failed its hash; it is fetched again");
        assert!(said.pop().is_some_and(|last| last.ends_with("not printed)")));
    }

    #[test]
    fn one_host_that_cannot_be_found_is_no_failure() {
        let peers =
            resolve_peers(&["127.0.0.1:1".into(), "[::1]:2".into(), "no port".into()]).expect("two are fine");
        assert_eq!(peers, ["127.0.0.1:1".parse().expect("valid"), "[::1]:2".parse().expect("valid")]);
        assert_eq!(resolve_peers(&["no port".into()]).map_err(|failure| failure.exit), Err(Exit::NoPeers));
        assert_eq!(resolve_peers(&[]), Ok(Vec::new()));
    }
}
