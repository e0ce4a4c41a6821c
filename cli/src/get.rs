//! `ringtide get`: downloads torrents, all in one engine.
//!
//! Owns what ends a download: completion, a signal, the deadline, the disk, or nobody to download from.

mod patience;
mod selection;
mod summary;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::RecvTimeoutError;
use ringtide_engine::{AddTorrent, Event, Purpose, TorrentId, TorrentStats};
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::picker::Priority;
use serde_json::{Value, json};

use crate::bench::{Host, Meter, Role, Side};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, note};
use crate::progress::{Progress, Status};
use crate::source::{Source, read_usable};
use crate::stop::{LEAVING, Stop};
use crate::swarm::{Options, Reporter, Swarm, engine_failure, resolve_peers};
use crate::text::{escape, quoted};
use crate::units::{Bytes, Span, count};
use patience::Patience;
pub(crate) use selection::{FileSpec, Files};
use summary::{Part, Summary};

/// How often the download is looked at when nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often it is looked at for a bench until the first byte has come: what is measured begins as exactly.
const FIRST_LOOK: Duration = Duration::from_millis(2);

/// What to download, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) torrents: Vec<Source>,
    /// A directory, which is made, or a block device.
    pub(crate) target: PathBuf,
    /// Which files of the one torrent, where not all alike.
    pub(crate) files: Files,
    /// `host:port` each.
    pub(crate) peers: Vec<String>,
    pub(crate) options: Options,
    /// How long to give what was downloaded.
    pub(crate) seed_for: Option<Duration>,
    /// How long the download may take.
    pub(crate) deadline: Option<Duration>,
    pub(crate) json: bool,
}

impl Get {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        let started = Instant::now();
        // What is wrong with files shows before anything is started.
        let read = self.torrents.iter().map(read_what_is_here).collect::<Result<Vec<_>, _>>()?;
        for torrent in read.iter().flatten() {
            self.files.priorities(torrent)?;
        }
        let peers = resolve_peers(&self.peers)?;
        let swarm = Swarm::start(&self.options)?;
        let torrents = self.torrents.iter().zip(read);
        let torrents = torrents.map(|(source, read)| fetch_the_rest(&swarm, source, read));
        let torrents = without_clashes(torrents.collect::<Result<Vec<_>, _>>()?)?;
        if peers.is_empty() && torrents.iter().all(|torrent| torrent.trackers().is_empty()) {
            note("no tracker and no --peer: waiting for peers to call");
        }
        let mut download = Download::new(&swarm, started, self.deadline);
        download.meter = self.options.measure.then(|| {
            Meter::start(
                vec![&swarm.engine],
                Role::Receiver,
                Host::unmeasured(&swarm.engine.io().0.to_string()),
            )
        });
        for torrent in torrents {
            let priorities = self.files.priorities(&torrent)?;
            download.add(torrent, &self.target, priorities, &peers)?;
        }
        let end = download.run(stop);
        let wall = started.elapsed();
        let measured = download.meter.take().map(Meter::finish);
        let end = match (end, self.seed_for) {
            (End::Complete, Some(time)) => {
                if measured.is_some() {
                    output::print_json(&json!({ "event": "complete" }))?;
                }
                download.seed(time, stop)
            }
            (end, _) => end,
        };
        let summary = download.summary(wall);
        if matches!(end, End::Signal(_)) {
            note(LEAVING);
        }
        swarm.engine.leave();
        match self.json {
            true => output::print_json(&with_measured(summary.json(), measured.as_ref()))?,
            false if matches!(end, End::Complete) => output::print(&summary.text())?,
            false => note(&summary.text()),
        }
        end.outcome(&summary)
    }
}

/// Why a download ended.
enum End {
    /// Everything is verified and on disk.
    Complete,
    /// A signal came.
    Signal(Exit),
    /// The deadline passed; this was it.
    Deadline(Duration),
    /// It cannot go on.
    Failed(Failure),
}

impl End {
    fn outcome(self, summary: &Summary) -> Outcome {
        const AGAIN: &str = "run the same command to continue";
        match self {
            End::Complete => Ok(Exit::Done),
            End::Signal(exit) if summary.is_complete() => {
                Err(Failure::new(exit, "stopped; everything is there"))
            }
            End::Signal(exit) => {
                Err(Failure::new(exit, format_args!("stopped with {} done; {AGAIN}", summary.percent())))
            }
            End::Deadline(limit) => Err(Failure::new(
                Exit::Deadline,
                format_args!(
                    "the deadline of {} passed with {} done; {AGAIN}",
                    Span(limit),
                    summary.percent()
                ),
            )),
            End::Failed(failure) => Err(failure),
        }
    }
}

/// A torrent of a download.
struct Item {
    id: TorrentId,
    torrent: Arc<Metainfo>,
    /// How much each file is wanted; none: all alike.
    priorities: Vec<Priority>,
    complete: bool,
    patience: Patience,
}

/// Torrents on their way.
struct Download<'a> {
    swarm: &'a Swarm,
    items: Vec<Item>,
    reporter: Reporter,
    started: Instant,
    deadline: Option<Duration>,
    /// Most peers that were connected at once.
    most_peers: usize,
    /// For a bench that started this process.
    meter: Option<Meter<'a>>,
}

impl<'a> Download<'a> {
    fn new(swarm: &'a Swarm, started: Instant, deadline: Option<Duration>) -> Self {
        Self {
            swarm,
            items: Vec::new(),
            reporter: Reporter::default(),
            started,
            deadline,
            most_peers: 0,
            meter: None,
        }
    }

    fn add(
        &mut self,
        torrent: Metainfo,
        target: &Path,
        priorities: Vec<Priority>,
        peers: &[SocketAddr],
    ) -> Result<(), Failure> {
        let torrent = Arc::new(torrent);
        let add = AddTorrent {
            metainfo: Arc::clone(&torrent),
            target: target.to_owned(),
            purpose: Purpose::Download,
            peers: peers.to_vec(),
            files: priorities.clone(),
        };
        let id = self.swarm.engine.add(add).map_err(|error| engine_failure(&error))?;
        self.reporter.add(id, torrent.name());
        let trackers = torrent.trackers().iter().flatten().count();
        let patience = Patience::new(Instant::now(), trackers);
        self.items.push(Item { id, torrent, priorities, complete: false, patience });
        Ok(())
    }

    /// Until everything is there, or something else ends it.
    fn run(&mut self, stop: &Stop) -> End {
        let mut progress = Progress::new(self.stats().bytes);
        loop {
            if let Err(end) = self.take_events(|words| progress.note(words)) {
                return end;
            }
            if self.items.iter().all(|item| item.complete) {
                return End::Complete;
            }
            if let Some(exit) = stop.requested() {
                return End::Signal(exit);
            }
            let stats = self.stats();
            progress.update(stats.have_bytes, || details(&stats));
            self.tell_interval(&stats);
            if let Err(end) = self.check_time() {
                return end;
            }
        }
    }

    /// Gives what was downloaded.
    fn seed(&mut self, time: Duration, stop: &Stop) -> End {
        let until = Instant::now() + time;
        let mut status = Status::new();
        status.note(&format!("complete; seeding for {}", Span(time)));
        while Instant::now() < until {
            if let Err(end) = self.take_events(|words| status.note(words)) {
                return end;
            }
            if let Some(exit) = stop.requested() {
                return End::Signal(exit);
            }
            let stats = self.stats();
            status.update(stats.uploaded, |rate| {
                let peers = count(stats.peers as u64, "peer");
                format!("seeding  {peers}  {rate}/s  {} given", Bytes(stats.uploaded))
            });
        }
        End::Complete
    }

    /// For a bench: an interval, where one is over.
    fn tell_interval(&mut self, stats: &TorrentStats) {
        let have = stats.have_bytes as f64 / stats.bytes.max(1) as f64;
        if let Some(interval) = self.meter.as_mut().and_then(|meter| meter.tick(|| Some(have))) {
            // A bench that is gone ends this process.
            let _ = output::print_json(&json!({ "event": "interval", "interval": interval }));
        }
    }

    /// Takes what has happened; waits a moment where nothing has.
    fn take_events(&mut self, mut say: impl FnMut(&str)) -> Result<(), End> {
        let events = self.swarm.engine.events();
        let waits_for_the_first = self.meter.as_mut().is_some_and(|meter| !meter.has_begun());
        let mut next = events.recv_timeout(if waits_for_the_first { FIRST_LOOK } else { LOOK_EVERY });
        loop {
            match next {
                Ok(event) => {
                    if let Some(words) = self.reporter.words(&event) {
                        say(&words);
                    }
                    self.take_event(event)?;
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(End::Failed(Failure::new(Exit::Other, "the engine ended; this is a bug")));
                }
            }
            next = events.recv_timeout(Duration::ZERO);
        }
    }

    fn take_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Completed(id) => {
                self.items.iter_mut().filter(|item| item.id == id).for_each(|item| item.complete = true);
            }
            Event::TrackerFailed { torrent, url, .. } => {
                self.patience(torrent, |patience| patience.tracker_failed(&url));
            }
            Event::TrackerAnswered { torrent, url, .. } => {
                self.patience(torrent, |patience| patience.tracker_answered(&url));
            }
            Event::StorageFailed(_, error) => return Err(End::Failed(error.into())),
            Event::Failed(why) => {
                let message =
                    format!("the engine failed: {}; run the same command to continue", escape(&why));
                return Err(End::Failed(Failure::new(Exit::Other, message)));
            }
            _ => {}
        }
        Ok(())
    }

    fn patience(&mut self, id: TorrentId, tell: impl Fn(&mut Patience)) {
        self.items.iter_mut().filter(|item| item.id == id).for_each(|item| tell(&mut item.patience));
    }

    /// The deadline, or without one the end of all patience.
    fn check_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if let Some(limit) = self.deadline {
            return if now >= self.started + limit { Err(End::Deadline(limit)) } else { Ok(()) };
        }
        let mut hopeless = Vec::new();
        for item in self.items.iter_mut().filter(|item| !item.complete) {
            let stats = self.swarm.engine.stats(item.id);
            // What is whole is being flushed.
            let busy = stats.checking || stats.have == stats.pieces;
            if !item.patience.is_over(now, stats.peers, stats.downloaded, busy) {
                return Ok(());
            }
            hopeless.push(format!("{}: {}", escape(item.torrent.name()), item.patience.why()));
        }
        let message = format!(
            "nobody to download from ({}) and nobody connected; check the network, name a peer with --peer, or run the same \
             command later to continue",
            hopeless.join("; ")
        );
        Err(End::Failed(Failure::new(Exit::NoPeers, message)))
    }

    /// The sum over all torrents.
    fn stats(&mut self) -> TorrentStats {
        let stats = self.items.iter().map(|item| self.swarm.engine.stats(item.id));
        let sum = stats.fold(TorrentStats::default(), |sum, one| summary::add(sum, &one));
        self.most_peers = self.most_peers.max(sum.peers);
        sum
    }

    fn summary(&mut self, wall: Duration) -> Summary {
        let totals = self.stats();
        let engine = &self.swarm.engine;
        let torrents = self.items.iter().map(|item| Part {
            torrent: Arc::clone(&item.torrent),
            priorities: item.priorities.clone(),
            stats: engine.stats(item.id),
        });
        Summary {
            totals,
            torrents: torrents.collect(),
            shards: engine.shard_stats(),
            io: engine.io().0,
            most_peers: self.most_peers,
            wall,
        }
    }
}

/// For a bench: what was measured, along with the summary.
fn with_measured(mut summary: Value, measured: Option<&Side>) -> Value {
    if let Some(side) = measured {
        summary["measured"] = json!(side);
    }
    summary
}

fn details(stats: &TorrentStats) -> String {
    let what = if stats.checking { "looking at what is there  " } else { "" };
    format!("{what}{}  pieces {}/{}", count(stats.peers as u64, "peer"), stats.have, stats.pieces)
}

/// Files are read at once; what is on the web needs the engine.
fn read_what_is_here(source: &Source) -> Result<Option<Metainfo>, Failure> {
    match source {
        Source::Url(_) => Ok(None),
        Source::Magnet(link) => Err(Failure::bad_input(format_args!(
            "magnet downloads are not offered yet: they need metadata exchange (BEP 9); use the .torrent instead of {}",
            quoted(link)
        ))),
        source => read_usable(source).map(Some),
    }
}

fn fetch_the_rest(swarm: &Swarm, source: &Source, read: Option<Metainfo>) -> Result<Metainfo, Failure> {
    if let (None, Source::Url(url)) = (&read, source) {
        let bytes = swarm.engine.fetch(url).map_err(|error| engine_failure(&error))?;
        let torrent = source.parse(&bytes)?;
        source.check_usable(&torrent)?;
        return Ok(torrent);
    }
    read.ok_or_else(|| Failure::bad_input(format_args!("{} holds no torrent", source.shown())))
}

/// The same torrent twice is one; two that would write the same files are an error.
fn without_clashes(torrents: Vec<Metainfo>) -> Result<Vec<Metainfo>, Failure> {
    let mut kept: Vec<Metainfo> = Vec::new();
    for torrent in torrents {
        match kept.iter().find(|other| other.name() == torrent.name()) {
            Some(other) if other.info_hash_v1() == torrent.info_hash_v1() => {}
            Some(_) => {
                return Err(Failure::bad_input(format_args!(
                    "two torrents are called {:?} and would write the same files; give them directories of their own",
                    escape(torrent.name())
                )));
            }
            None => kept.push(torrent),
        }
    }
    Ok(kept)
}
