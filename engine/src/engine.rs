//! The engine as its user has it: started with a [`Config`], given torrents, asked how they do, and dropped.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use parking_lot::Mutex;
use ringtide_proto::id::PeerId;
use ringtide_proto::layout::PieceLayout;
use ringtide_proto::limits::MAX_PIECE_LEN;
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::picker::{Priority, Selection};
use ringtide_proto::rng::Rng;
use ringtide_proto::torrent::{CoreStats, SharedPieces};
use ringtide_proto::tracker::{ServerConfig, TrackerServer};

use crate::config::{AddTorrent, Config, Purpose};
use crate::driver::{DriverError, IoKind, probe};
use crate::event::{Event, ShardStats, TorrentId, TorrentStats};
use crate::metrics::Metrics;
use crate::session::{Addition, Command, Inbox, Threads, View, Wiring, start, tracker_server};
use crate::shard::{Counters, RateLimits, Share, SharedTorrent, ToShard};
use crate::storage::{Content, Mode, Storage, StorageError, StorageOptions, Synthetic};

/// Pieces that memory must hold at the least, so that one can be hashed and one written while others arrive.
const LEAST_PIECES: u64 = 4;

/// How long the engine waits for a thread of its own to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A running engine. Dropped, it ends at once; [`leave`](Self::leave) first takes leave of trackers and peers.
pub struct Engine {
    config: Config,
    io: (IoKind, Option<String>),
    wiring: Wiring,
    torrents: Mutex<Vec<Arc<View>>>,
    tracker: Mutex<Option<(Arc<Mutex<TrackerServer>>, String)>>,
    next_id: AtomicU32,
    /// Last, so that everything above may be used until the threads are gone.
    threads: Threads,
}

/// Why the engine did not do what was asked.
#[derive(Debug)]
pub enum EngineError {
    /// The kernel refuses what the engine needs.
    Driver(DriverError),
    /// An address cannot be listened on.
    Bind {
        /// Which address.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The files cannot be used.
    Storage(StorageError),
    /// The system refuses a thread.
    Thread(io::Error),
    /// An HTTP request failed.
    Http(String),
    /// The torrent is of a kind that cannot be downloaded yet.
    NotSupported(String),
    /// The torrent is being run already.
    AlreadyAdded(String),
    /// The engine has ended.
    Ended,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => fmt::Display::fmt(error, f),
            Self::Bind { addr, source } => {
                write!(f, "cannot listen on {addr}: {source}; choose another address or port with --listen")
            }
            Self::Storage(error) => fmt::Display::fmt(error, f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Http(reason) => f.write_str(reason),
            Self::NotSupported(reason) => f.write_str(reason),
            Self::AlreadyAdded(name) => write!(f, "{name} was named twice"),
            Self::Ended => f.write_str("the engine has ended"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<StorageError> for EngineError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Engine {
    /// Starts the threads and listens.
    ///
    /// # Errors
    /// What the kernel refuses, and which address cannot be listened on.
    pub fn start(config: Config) -> Result<Self, EngineError> {
        let io = probe(config.io).map_err(EngineError::Driver)?;
        let (threads, wiring) = start(&config, io.0)?;
        Ok(Self {
            config,
            io,
            wiring,
            torrents: Mutex::default(),
            tracker: Mutex::default(),
            next_id: AtomicU32::new(0),
            threads,
        })
    }

    /// What carries sockets and files, and in a line why it is not io_uring where that was left open.
    pub fn io(&self) -> (IoKind, Option<&str>) {
        (self.io.0, self.io.1.as_deref())
    }

    /// Where peers are accepted, with the ports that the kernel chose.
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.wiring.listen.clone()
    }

    /// What happens, as it happens.
    pub fn events(&self) -> &Receiver<Event> {
        &self.wiring.events
    }

    /// Runs a torrent. Its files are opened here; checking, announcing and dialling begin at once.
    ///
    /// # Errors
    /// A torrent that cannot be downloaded, or files that cannot be used.
    pub fn add(&self, torrent: AddTorrent) -> Result<TorrentId, EngineError> {
        let AddTorrent { metainfo, target, purpose, peers, files } = torrent;
        let options = StorageOptions { direct: self.config.direct, ..StorageOptions::default() };
        let wanted = |index: usize| files.get(index).is_none_or(|&priority| priority > Priority::Skip);
        let open =
            |content: Content, mode| Ok(Storage::open(&target, content.selecting(wanted), mode, options)?);
        self.add_with(metainfo, (purpose, &files), peers, open)
    }

    /// Runs a torrent of content that is made up: what is given comes from memory, what is fetched is verified and thrown
    /// away.
    ///
    /// # Errors
    /// A torrent that does not describe the content, or cannot be downloaded.
    pub fn add_synthetic(
        &self,
        metainfo: Arc<Metainfo>,
        synthetic: Synthetic,
        purpose: Purpose,
        peers: Vec<SocketAddr>,
    ) -> Result<TorrentId, EngineError> {
        self.add_with(metainfo, (purpose, &[]), peers, |content, mode| {
            Storage::synthetic(synthetic, content, mode).ok_or_else(|| {
                EngineError::NotSupported(
                    "this torrent does not describe the content that is made up".to_owned(),
                )
            })
        })
    }

    fn add_with(
        &self,
        metainfo: Arc<Metainfo>,
        (purpose, files): (Purpose, &[Priority]),
        peers: Vec<SocketAddr>,
        open: impl FnOnce(Content, Mode) -> Result<Storage, EngineError>,
    ) -> Result<TorrentId, EngineError> {
        let (Some(info_hash), Some(layout), Some(content)) =
            (metainfo.info_hash_v1(), metainfo.layout(), Content::of(&metainfo))
        else {
            return Err(EngineError::NotSupported(
                "this torrent is version 2 only, which cannot be downloaded yet: ask for a hybrid or version 1 torrent"
                    .to_owned(),
            ));
        };
        if layout.nominal_piece_len() > MAX_PIECE_LEN {
            return Err(EngineError::NotSupported(format!(
                "pieces of {} bytes are longer than the {MAX_PIECE_LEN} that can be assembled in memory",
                layout.nominal_piece_len()
            )));
        }
        if self.torrents.lock().iter().any(|view| view.shared.info_hash == info_hash) {
            return Err(EngineError::AlreadyAdded(info_hash.to_string()));
        }
        let mode = if purpose == Purpose::Seed { Mode::Seed } else { Mode::Download };
        let storage = Arc::new(open(content, mode)?);
        self.wiring.common.budget.raise_to(LEAST_PIECES * u64::from(layout.nominal_piece_len()));
        let mut rng = Rng::new(fastrand::u64(..));
        let pieces = SharedPieces::unchecked(layout.piece_count());
        let pieces = match selection(&metainfo, &layout, purpose, files) {
            Some(selection) => pieces.selecting(selection),
            None => pieces,
        };
        let shared = Arc::new(SharedTorrent {
            id: TorrentId(self.next_id.fetch_add(1, Ordering::Relaxed)),
            info_hash,
            our_id: PeerId::generate(&mut rng),
            layout,
            storage,
            pieces: Arc::new(pieces),
            limits: RateLimits::new(self.config.torrent_rates),
            policy: self.config.policy,
            counters: Counters::of_shards(self.wiring.shards),
            metainfo,
        });
        self.run(shared, purpose, peers)
    }

    fn run(
        &self,
        shared: Arc<SharedTorrent>,
        purpose: Purpose,
        peers: Vec<SocketAddr>,
    ) -> Result<TorrentId, EngineError> {
        let id = shared.id;
        let view = Arc::new(View {
            shared: Arc::clone(&shared),
            purpose,
            core: Mutex::new(CoreStats::default()),
            checking: AtomicBool::new(true),
            cancel: AtomicBool::new(false),
        });
        self.torrents.lock().push(Arc::clone(&view));
        let mut trackers = vec![shared.metainfo.trackers().to_vec()];
        if let Some((server, url)) = &*self.tracker.lock() {
            server.lock().allow(shared.info_hash);
            trackers.push(vec![vec![url.clone()]]);
        }
        let addition = Addition {
            shared,
            view,
            purpose,
            peers,
            trackers,
            max_peers: self.config.max_peers.min(self.config.torrent_peers),
        };
        let (reply, added) = bounded(1);
        self.command(Command::Add(Box::new(addition), reply))?;
        added.recv_timeout(ANSWER_TIMEOUT).map_err(|_| EngineError::Ended)?;
        Ok(id)
    }

    /// How a torrent does.
    ///
    /// # Panics
    /// For a torrent of another engine.
    pub fn stats(&self, torrent: TorrentId) -> TorrentStats {
        let view = Arc::clone(&self.torrents.lock()[torrent.0 as usize]);
        let (shared, core) = (&view.shared, *view.core.lock());
        let sum = |which: fn(&Counters) -> u64| shared.counters.iter().map(|counters| which(counters)).sum();
        let written = shared.storage.write_counts();
        let Share { pieces, have, bytes, have_bytes } = match view.purpose {
            Purpose::Seed => shared.whole(),
            Purpose::Download => shared.wanted(),
        };
        TorrentStats {
            pieces,
            have,
            bytes,
            have_bytes,
            downloaded: sum(|counters| counters.downloaded.value()),
            uploaded: sum(|counters| counters.uploaded.value()),
            wasted: sum(|counters| counters.wasted.value()),
            peers: core.peers,
            known_peers: core.known,
            banned: core.banned,
            hash_failures: core.hash_failures,
            checking: view.checking.load(Ordering::Acquire),
            direct_bytes: written.direct_bytes,
            cached_bytes: written.cached_bytes,
        }
    }

    /// What each shard did.
    pub fn shard_stats(&self) -> Vec<ShardStats> {
        self.wiring.common.counters.iter().map(|counters| counters.stats()).collect()
    }

    /// What was measured since the last call, or since the start: nothing unless [`Config::measure`]. Asks every shard, and
    /// takes as long as the busiest of them needs for one turn: to be called a few times a second at most.
    pub fn take_metrics(&self) -> Metrics {
        let mut metrics = self.wiring.common.hash_pool.take_metrics();
        let shards = self.threads.shards();
        let (reply, answers) = bounded(shards.len());
        shards.iter().for_each(|shard| {
            shard.send(ToShard::Measure(reply.clone()));
        });
        drop(reply);
        // One that has ended answers nothing.
        while let Ok(answer) = answers.recv_timeout(ANSWER_TIMEOUT) {
            metrics.add(answer);
        }
        metrics
    }

    /// Serves a tracker there, for the torrents that are added from now on. Returns the URL to announce to.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn serve_tracker(&self, addr: SocketAddr) -> Result<String, EngineError> {
        let bind_error = |source| EngineError::Bind { addr, source };
        let listener = tracker_server::bind(addr).map_err(bind_error)?;
        let actual = listener.local_addr().map_err(bind_error)?;
        let url = tracker_server::announce_url(actual, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let config = ServerConfig { allowed: Some(Default::default()), ..ServerConfig::default() };
        let server = Arc::new(Mutex::new(TrackerServer::new(config, Rng::new(fastrand::u64(..)))));
        *self.tracker.lock() = Some((Arc::clone(&server), url.clone()));
        self.command(Command::Serve(listener, server))?;
        Ok(url)
    }

    /// Fetches a torrent file over HTTP or HTTPS, at most 64 MiB. Blocks.
    ///
    /// # Errors
    /// What happened with which server.
    pub fn fetch(&self, url: &str) -> Result<Vec<u8>, EngineError> {
        let (reply, answer) = bounded(1);
        self.command(Command::Fetch(url.to_owned(), reply))?;
        let result = answer.recv_timeout(ANSWER_TIMEOUT).map_err(|_| EngineError::Ended)?;
        result.map_err(|error| EngineError::Http(error.to_string()))
    }

    /// Takes leave of trackers and peers, and flushes what was written. Blocks for a few seconds at most.
    pub fn leave(&self) {
        let (reply, answer) = bounded(1);
        if self.command(Command::Leave(reply)).is_ok() {
            // Whatever it was that took longer: the engine ends all the same.
            let _ = answer.recv_timeout(ANSWER_TIMEOUT);
        }
    }

    fn command(&self, command: Command) -> Result<(), EngineError> {
        if self.wiring.control.send(Inbox::Command(command)) { Ok(()) } else { Err(EngineError::Ended) }
    }
}

/// What is wanted of the torrent, where that is not everything: nothing by a seed.
fn selection(
    metainfo: &Metainfo,
    layout: &PieceLayout,
    purpose: Purpose,
    files: &[Priority],
) -> Option<Selection> {
    if purpose == Purpose::Seed {
        return Some(Selection::nothing(layout.piece_count()));
    }
    let priorities = files.iter().copied().chain(std::iter::repeat(Priority::Normal));
    let lengths = metainfo.files().iter().map(|file| file.length);
    (!files.is_empty()).then(|| Selection::of_files(layout, lengths.zip(priorities)))
}

impl Drop for Engine {
    fn drop(&mut self) {
        for view in self.torrents.lock().iter() {
            view.cancel.store(true, Ordering::Relaxed);
        }
    }
}
