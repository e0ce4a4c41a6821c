//! `ringtide seed`: gives torrents from disk until a signal comes.
//!
//! Owns what is said when peers are accepted and when everything has been looked at.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::RecvTimeoutError;
use ringtide_engine::{AddTorrent, EngineError, Event, Purpose, TorrentId};
use ringtide_proto::metainfo::Metainfo;
use serde_json::json;

use crate::bench::{Host, Meter, Role};
use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use crate::progress::Status;
use crate::source::{Source, read_usable};
use crate::stop::{LEAVING, Stop};
use crate::swarm::{Options, Reporter, Swarm, cannot_listen, engine_failure, resolve_peers};
use crate::text::{escape, quoted};
use crate::units::{Bytes, count};

/// How often the seed is looked at when nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What to give, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) torrents: Vec<Source>,
    /// The directory that holds the content, or the content itself.
    pub(crate) dir: PathBuf,
    /// `host:port` each.
    pub(crate) peers: Vec<String>,
    /// Where to serve a tracker for these torrents.
    pub(crate) track: Option<SocketAddr>,
    pub(crate) options: Options,
    pub(crate) json: bool,
}

impl Seed {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        let torrents = self.torrents.iter().map(|source| read_usable(source).map(Arc::new));
        let torrents = torrents.collect::<Result<Vec<_>, _>>()?;
        let peers = resolve_peers(&self.peers)?;
        let swarm = Swarm::start(&self.options)?;
        // Before the torrents are added, so that they are announced to it.
        let tracker = self.track.map(|addr| serve_tracker(&swarm, addr)).transpose()?;
        let mut seeding = Seeding {
            seed: &self,
            swarm: &swarm,
            items: Vec::new(),
            reporter: Reporter::default(),
            meter: None,
        };
        seeding.meter = self.options.measure.then(|| {
            Meter::start(
                vec![&swarm.engine],
                Role::Sender,
                Host::unmeasured(&swarm.engine.io().0.to_string()),
            )
        });
        torrents.into_iter().try_for_each(|torrent| seeding.add(torrent, &peers))?;
        seeding.announce_start(tracker.as_deref())?;
        let end = seeding.run(stop);
        seeding.announce_end()?;
        output::note(LEAVING);
        swarm.engine.leave();
        end
    }
}

fn serve_tracker(swarm: &Swarm, addr: SocketAddr) -> Result<String, Failure> {
    swarm.engine.serve_tracker(addr).map_err(|error| match error {
        EngineError::Bind { addr, source } => cannot_listen("--track", addr, &source),
        error => engine_failure(&error),
    })
}

/// A torrent that is given.
struct Item {
    id: TorrentId,
    torrent: Arc<Metainfo>,
    /// Pieces that turned out right, once all were looked at.
    good: Option<u32>,
}

struct Seeding<'a> {
    seed: &'a Seed,
    swarm: &'a Swarm,
    items: Vec<Item>,
    reporter: Reporter,
    /// For a bench that started this process.
    meter: Option<Meter<'a>>,
}

impl Seeding<'_> {
    fn add(&mut self, torrent: Arc<Metainfo>, peers: &[SocketAddr]) -> Result<(), Failure> {
        if self.items.iter().any(|item| item.torrent.info_hash_v1() == torrent.info_hash_v1()) {
            return Ok(());
        }
        let add = AddTorrent {
            metainfo: Arc::clone(&torrent),
            target: self.seed.dir.clone(),
            purpose: Purpose::Seed,
            peers: peers.to_vec(),
            files: Vec::new(),
        };
        let id = self.swarm.engine.add(add).map_err(|error| engine_failure(&error))?;
        self.reporter.add(id, torrent.name());
        self.items.push(Item { id, torrent, good: None });
        Ok(())
    }

    /// Peers are accepted from now on.
    fn announce_start(&self, tracker: Option<&str>) -> Result<(), Failure> {
        let addrs = self.swarm.engine.listen_addrs();
        if self.seed.json {
            let torrent = |item: &Item| {
                let hash = item.torrent.info_hash_v1().map(|hash| hash.to_string());
                json!({ "name": item.torrent.name(), "info_hash_v1": hash })
            };
            return output::print_json(&json!({
                "event": "seeding",
                "listen": addrs.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
                "tracker": tracker,
                "torrents": self.items.iter().map(torrent).collect::<Vec<_>>(),
                "io": self.swarm.engine.io().0.to_string(),
            }));
        }
        let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
        for item in &self.items {
            output::print(&format!("seeding {} on {}", escape(item.torrent.name()), addrs.join(", ")))?;
        }
        tracker.map_or(Ok(()), |url| output::print(&format!("tracker at {url}")))
    }

    fn announce_end(&mut self) -> Result<(), Failure> {
        let measured = self.meter.take().map(Meter::finish);
        if !self.seed.json {
            return Ok(());
        }
        let shard = |shard: &ringtide_engine::ShardStats| json!({ "downloaded": shard.downloaded, "uploaded": shard.uploaded, "peers": shard.peers });
        let shards = self.swarm.engine.shard_stats();
        output::print_json(&json!({
            "event": "stopped",
            "uploaded": self.uploaded_and_peers().0,
            "shards": shards.iter().map(shard).collect::<Vec<_>>(),
            "measured": measured,
        }))
    }

    /// Until a signal comes or nothing is left to give.
    fn run(&mut self, stop: &Stop) -> Outcome {
        let mut status = Status::new();
        loop {
            self.take_events(&status)?;
            if let Some(exit) = stop.requested() {
                return Ok(exit);
            }
            self.check_for_content()?;
            if let Some(meter) = &mut self.meter {
                meter.tick(|| None);
            }
            let (uploaded, peers) = self.uploaded_and_peers();
            status.update(uploaded, |rate| {
                let (torrents, peers) =
                    (count(self.items.len() as u64, "torrent"), count(peers as u64, "peer"));
                format!("{torrents}  {peers}  {rate}/s  {} given{}", Bytes(uploaded), self.checking())
            });
        }
    }

    fn take_events(&mut self, status: &Status) -> Result<(), Failure> {
        let events = self.swarm.engine.events();
        let mut next = events.recv_timeout(LOOK_EVERY);
        loop {
            match next {
                Ok(event) => {
                    if let Some(words) = self.reporter.words(&event) {
                        status.note(&words);
                    }
                    self.take_event(event, status)?;
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(Exit::Other, "the engine ended; this is a bug"));
                }
            }
            next = events.recv_timeout(Duration::ZERO);
        }
    }

    fn take_event(&mut self, event: Event, status: &Status) -> Result<(), Failure> {
        match event {
            Event::Checked { torrent, good, .. } => self.checked(torrent, good, status),
            Event::StorageFailed(_, error) => Err(error.into()),
            Event::Failed(why) => {
                Err(Failure::new(Exit::Other, format_args!("the engine failed: {}", escape(&why))))
            }
            _ => Ok(()),
        }
    }

    fn checked(&mut self, id: TorrentId, good: u32, status: &Status) -> Result<(), Failure> {
        let Some(item) = self.items.iter_mut().find(|item| item.id == id) else { return Ok(()) };
        item.good = Some(good);
        // A bench is about what comes now.
        self.meter.iter_mut().for_each(Meter::restart);
        let pieces = item.torrent.piece_count();
        if good < pieces {
            let name = escape(item.torrent.name());
            status.note(&format!(
                "{name}: only {good} of {pieces} pieces are there and right; the others are not given"
            ));
        }
        if self.seed.json {
            let hash = item.torrent.info_hash_v1().map(|hash| hash.to_string());
            let event = json!({ "event": "checked", "info_hash_v1": hash, "pieces": pieces, "good": good });
            return output::print_json(&event);
        }
        Ok(())
    }

    /// A seed of nothing serves nobody, and would not be noticed.
    fn check_for_content(&self) -> Result<(), Failure> {
        if self.items.iter().any(|item| item.good != Some(0)) {
            return Ok(());
        }
        Err(Failure::bad_input(format_args!(
            "nothing of the content is in {}; check -d, and what is there with ringtide verify",
            quoted(&self.seed.dir)
        )))
    }

    fn uploaded_and_peers(&self) -> (u64, usize) {
        let stats = self.items.iter().map(|item| self.swarm.engine.stats(item.id));
        stats.fold((0, 0), |(uploaded, peers), one| (uploaded + one.uploaded, peers + one.peers))
    }

    fn checking(&self) -> String {
        let checking = self.items.iter().filter(|item| item.good.is_none());
        let stats: Vec<_> = checking.map(|item| self.swarm.engine.stats(item.id)).collect();
        if stats.is_empty() {
            return String::new();
        }
        let (have, all) = stats.iter().fold((0, 0), |(have, all), one| (have + one.have, all + one.pieces));
        format!("  verified {have}/{all} pieces")
    }
}
