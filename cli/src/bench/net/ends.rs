//! `Ends`: the engines of one host in a test: one that fetches, or one for every connection that gives.
//!
//! A client keeps no second connection to the same peer, so several connections need several givers. Each carries one
//! connection, which one shard does.

use std::net::SocketAddr;
use std::sync::Arc;

use ringtide_engine::driver::IoChoice;
use ringtide_engine::storage::DirectChoice;
use ringtide_engine::{DEFAULT_MEMORY, Engine, Event, Purpose, Rates, TorrentId};
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::torrent::Policy;

use super::protocol::Test;
use crate::bench::meter::Role;
use crate::exit::{Exit, Failure};
use crate::swarm::{Listen, Options, Swarm, engine_failure};
use crate::text::escape;

/// Memory for pieces of an engine that gives and so assembles none.
const GIVER_MEMORY: u64 = 1 << 20;

/// How a host runs its engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) io: IoChoice,
    /// Of the engine that fetches.
    pub(crate) shards: Option<u8>,
    /// Of the engine that gives: whether it sends without a copy.
    pub(crate) zero_copy: bool,
}

/// The engines of one host.
pub(super) struct Ends {
    role: Role,
    swarms: Vec<Swarm>,
    torrents: Vec<TorrentId>,
}

impl Ends {
    /// Starts the engines, each to accept at one of these addresses: one address to fetch at, one for each connection to
    /// give at. Without addresses they only dial.
    pub(super) fn start(
        test: &Test,
        role: Role,
        listen: &[SocketAddr],
        running: Running,
    ) -> Result<Self, Failure> {
        let count = if role == Role::Receiver { 1 } else { usize::from(test.connections) };
        let swarms = (0..count).map(|number| {
            let listen = Listen::At(listen.get(number).copied().into_iter().collect());
            Swarm::start(&options(role, listen, running))
        });
        Ok(Self { role, swarms: swarms.collect::<Result<_, _>>()?, torrents: Vec::new() })
    }

    /// Adds the content to each; where addresses are given, the giver of that number dials it, or the one that fetches dials
    /// all.
    pub(super) fn add(&mut self, test: &Test, dial: &[SocketAddr]) -> Result<(), Failure> {
        let content = test.content();
        let torrent = content.torrent("bench").map_err(Failure::bad_input)?;
        let torrent = Arc::new(Metainfo::parse(&torrent).map_err(Failure::bad_input)?);
        for (number, swarm) in self.swarms.iter().enumerate() {
            let (purpose, peers) = match self.role {
                Role::Receiver => (Purpose::Download, dial.to_vec()),
                // Where the other end fetches, all givers dial its one address.
                Role::Sender => {
                    (Purpose::Seed, dial.get(number).or(dial.first()).copied().into_iter().collect())
                }
            };
            let added = swarm.engine.add_synthetic(Arc::clone(&torrent), content.clone(), purpose, peers);
            self.torrents.push(added.map_err(|error| engine_failure(&error))?);
        }
        Ok(())
    }

    pub(super) fn engines(&self) -> Vec<&Engine> {
        self.swarms.iter().map(|swarm| &swarm.engine).collect()
    }

    /// The ports at which they accept.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.engines().iter().flat_map(|engine| engine.listen_addrs()).map(|addr| addr.port()).collect()
    }

    /// What carries the sockets.
    pub(super) fn io(&self) -> String {
        self.swarms.first().map(|swarm| swarm.engine.io().0.to_string()).unwrap_or_default()
    }

    /// Part of the content that is here, where this end fetches.
    pub(super) fn have(&self) -> Option<f64> {
        let (Role::Receiver, Some(swarm), Some(&id)) =
            (self.role, self.swarms.first(), self.torrents.first())
        else {
            return None;
        };
        let stats = swarm.engine.stats(id);
        Some(f64::from(stats.have) / f64::from(stats.pieces.max(1)))
    }

    /// Looks at what happened: whether everything was fetched, or why it cannot go on.
    pub(super) fn take_events(&self) -> Result<bool, Failure> {
        let mut complete = false;
        for event in self.engines().iter().flat_map(|engine| engine.events().try_iter()) {
            match event {
                Event::Completed(_) => complete |= self.role == Role::Receiver,
                Event::HashFailed { piece, .. } => {
                    let message = format!(
                        "piece {piece} failed its hash: the network, the memory or a program is broken"
                    );
                    return Err(Failure::new(Exit::Other, message));
                }
                Event::StorageFailed(_, error) => return Err(error.into()),
                Event::Failed(why) => {
                    return Err(Failure::new(
                        Exit::Other,
                        format_args!("the engine failed: {}", escape(&why)),
                    ));
                }
                _ => {}
            }
        }
        Ok(complete)
    }
}

fn options(role: Role, listen: Listen, running: Running) -> Options {
    let giver = role == Role::Sender;
    Options {
        listen,
        shards: if giver { Some(1) } else { running.shards },
        hash_threads: giver.then_some(1),
        latency: false,
        zero_copy: giver && running.zero_copy,
        io: running.io,
        memory: if giver { GIVER_MEMORY } else { DEFAULT_MEMORY },
        max_peers: 1000,
        torrent_peers: 1000,
        policy: Policy::default(),
        rates: Rates::default(),
        torrent_rates: Rates::default(),
        direct: DirectChoice::Off,
        measure: true,
    }
}
