//! `Giver`: an engine of this process that gives content which is made up in memory, to one peer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ringtide_engine::driver::IoChoice;
use ringtide_engine::storage::Synthetic;
use ringtide_engine::{Config, Engine, Event, Purpose};
use ringtide_proto::metainfo::Metainfo;

use super::ground::NAME;
use crate::bench::meter::{Meter, Role};
use crate::bench::side::Host;
use crate::exit::{Exit, Failure};
use crate::swarm::engine_failure;
use crate::text::escape;

/// Memory for pieces: it assembles none.
const MEMORY: u64 = 1 << 20;

/// Gives content, and measures itself.
pub(super) struct Giver {
    engine: Engine,
    bytes: Vec<u8>,
    torrent: Arc<Metainfo>,
    addr: SocketAddr,
}

impl Giver {
    pub(super) fn start(content: Synthetic, io: IoChoice) -> Result<Self, Failure> {
        let bytes = content.torrent(NAME).map_err(Failure::bad_input)?;
        let torrent = Arc::new(Metainfo::parse(&bytes).map_err(Failure::bad_input)?);
        let engine = Engine::start(Config {
            io,
            // One connection needs no more.
            shards: Some(1),
            hash_threads: Some(1),
            memory: MEMORY,
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            measure: true,
            ..Config::default()
        })
        .map_err(|error| engine_failure(&error))?;
        engine
            .add_synthetic(Arc::clone(&torrent), content, Purpose::Seed, Vec::new())
            .map_err(|error| engine_failure(&error))?;
        let addr = engine.listen_addrs().first().copied();
        let addr =
            addr.ok_or_else(|| Failure::new(Exit::Other, "the engine listens nowhere; this is a bug"))?;
        Ok(Self { engine, bytes, torrent, addr })
    }

    /// The torrent file.
    pub(super) fn torrent_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where it accepts peers.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Begins to measure with the first byte.
    pub(super) fn meter(&self) -> Meter<'_> {
        Meter::start(vec![&self.engine], Role::Sender, Host::unmeasured(&self.engine.io().0.to_string()))
    }

    /// Why it cannot go on, if it cannot.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.engine.events().try_iter().find_map(|event| match event {
            Event::Failed(why) => {
                Some(Failure::new(Exit::Other, format_args!("the engine failed: {}", escape(&why))))
            }
            _ => None,
        })
    }

    /// Ends it: what it gave can now be read without it in the way.
    pub(super) fn end(self) -> Arc<Metainfo> {
        self.torrent
    }
}
