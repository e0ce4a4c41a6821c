//! One torrent as the control plane sees it: its core, its announcers, and how far checking and flushing are.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ringtide_proto::peer_list::PeerSource;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{CoreAction, CoreConfig, CoreInput, CoreStats, ShardToCore, TorrentCore};
use ringtide_proto::tracker::{
    Announce, AnnounceAction, AnnounceId, AnnounceResponse, Announcer, AnnouncerInput, TrackerError, Transfer,
};

use super::checked::{CheckEnd, CheckedBatch};
use super::checks::Place;
use super::http::HttpError;
use super::own_addr::OwnAddrs;
use super::{Inbox, Session};
use crate::config::Purpose;
use crate::event::Event;
use crate::shard::{SharedTorrent, ToShard};
use crate::storage::{CheckReport, PieceCheck, Storage, StorageError};
use crate::timers::Planned;

/// What others read of a torrent while it runs.
pub(crate) struct View {
    pub(crate) shared: Arc<SharedTorrent>,
    pub(crate) purpose: Purpose,
    pub(crate) core: Mutex<CoreStats>,
    pub(crate) checking: AtomicBool,
    /// Ends the check early.
    pub(crate) cancel: AtomicBool,
}

/// A torrent to be run.
pub(crate) struct Addition {
    pub(crate) shared: Arc<SharedTorrent>,
    pub(crate) view: Arc<View>,
    pub(crate) purpose: Purpose,
    pub(crate) peers: Vec<SocketAddr>,
    /// Of each independent set of trackers, its tiers: the torrent's own, and the one we serve.
    pub(crate) trackers: Vec<Vec<Vec<String>>>,
    pub(crate) max_peers: usize,
}

/// A torrent.
pub(super) struct Torrent {
    shared: Arc<SharedTorrent>,
    view: Arc<View>,
    purpose: Purpose,
    core: TorrentCore,
    announcers: Vec<AnnouncerState>,
    /// Something was fetched: `completed` is announced when it is done.
    fetched: bool,
    progress: Progress,
    /// Flushes under way.
    flushes: u32,
    wanted_peers_at: Instant,
    own_addrs: OwnAddrs,
    /// When the session will look at it by itself.
    pub(super) planned: Planned,
}

struct AnnouncerState {
    announcer: Announcer,
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// What is on disk is being looked at.
    Checking,
    /// Pieces are fetched, or given.
    Running,
    /// All that is wanted is here and is being flushed.
    Flushing,
    /// All that is wanted is here and on disk.
    Done,
    /// The disk failed.
    Failed,
}

/// How often the announcers are asked for more peers when they are wanted.
const WANT_PEERS_EVERY: Duration = Duration::from_secs(15);

impl Torrent {
    /// Begins to announce and to dial; what is on disk is to be [checked](Self::check).
    pub(super) fn start(now: Instant, session: &Session, addition: Addition, mut rng: Rng) -> Self {
        let Addition { shared, view, purpose, peers, trackers, max_peers } = addition;
        let config = CoreConfig {
            our_id: shared.our_id,
            shards: session.shards.len() as u8,
            max_peers,
            piece_len: shared.layout.nominal_piece_len(),
            pieces: Arc::clone(&shared.pieces),
            policy: shared.policy,
            rng: rng.fork(),
        };
        let announcers = trackers.iter().filter(|tiers| !tiers.is_empty()).map(|tiers| {
            let mut announcer = Announcer::new(tiers, rng.fork());
            announcer.handle_input(now, AnnouncerInput::Start);
            AnnouncerState { announcer, finished: false }
        });
        let mut torrent = Self {
            announcers: announcers.collect(),
            core: TorrentCore::new(now, config),
            purpose,
            fetched: false,
            progress: Progress::Checking,
            flushes: 0,
            wanted_peers_at: now,
            own_addrs: OwnAddrs::default(),
            view,
            shared,
            planned: Planned::default(),
        };
        torrent.core_input(now, CoreInput::Candidates(peers, PeerSource::User));
        torrent
    }

    /// Its place among those whose disk is to be looked at.
    pub(super) fn place(&self) -> Place {
        Place::new(self.purpose, self.shared.layout.total_len(), self.shared.id)
    }

    /// What looks at the disk, on as many threads as hash, and says when it is done.
    pub(super) fn check(&self, session: &Session) -> impl FnOnce() + Send + 'static {
        let (shared, view) = (Arc::clone(&self.shared), Arc::clone(&self.view));
        let (mail, threads) = (session.own_mail.clone(), session.common.hash_pool.threads());
        let downloads = self.purpose == Purpose::Download;
        move || {
            let mut end = CheckEnd::of(shared.id, &view.checking, &mail);
            let batch = CheckedBatch::new(shared.id, mail.clone());
            let on_piece = |piece, result: PieceCheck| {
                let good = result == PieceCheck::Good;
                if shared.pieces.checked(piece, good) {
                    batch.add(piece, good);
                }
            };
            let hashes = shared.metainfo.piece_hashes();
            let report = shared.storage.check(hashes, threads, on_piece, &view.cancel);
            if downloads && !report.cancelled {
                end.no_room = shared.storage.check_room_for(|piece| !shared.pieces.has(piece)).err();
            }
            end.report = Some(report);
        }
    }

    pub(super) fn check_done(&mut self, session: &Session, report: &CheckReport) {
        if self.progress != Progress::Checking {
            return;
        }
        self.progress = Progress::Running;
        let torrent = self.shared.id;
        if let Some(error) = &report.error {
            tracing::warn!(%error, "looking at what is on disk; what could not be read counts as missing");
        }
        if !report.cancelled {
            session.tell(Event::Checked { torrent, good: report.good, bad: report.bad });
        }
        self.finish_if_complete(session);
    }

    pub(super) fn core_input(&mut self, now: Instant, input: CoreInput) {
        self.learn_own_addrs(now, &input);
        self.core.handle_input(now, input);
    }

    /// Where racks matter, the core is told from which addresses of ours others are reached, before it hears of them.
    fn learn_own_addrs(&mut self, now: Instant, input: &CoreInput) {
        if self.shared.policy.lan.is_none() {
            return;
        }
        let others = match input {
            CoreInput::Candidates(addrs, _) => addrs.iter().map(SocketAddr::ip).collect(),
            CoreInput::FromShard(_, ShardToCore::PeerUp(up)) => vec![up.addr.ip()],
            _ => Vec::new(),
        };
        for other in others {
            if let Some(own) = self.own_addrs.news_towards(other) {
                self.core.handle_input(now, CoreInput::OwnAddr(own));
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
        }
        for state in &mut self.announcers {
            if state.announcer.poll_timeout().is_some_and(|at| at <= now) {
                state.announcer.handle_timeout(now);
            }
        }
        self.want_peers(now);
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let announcers = self.announcers.iter().filter(|state| !state.finished);
        let wanting = self.wants_peers().then(|| self.wanted_peers_at + WANT_PEERS_EVERY);
        let announcers = announcers.filter_map(|state| state.announcer.poll_timeout());
        announcers.chain(self.core.poll_timeout()).chain(wanting).min()
    }

    fn wants_peers(&self) -> bool {
        let running = self.purpose == Purpose::Download && self.progress == Progress::Running;
        running && self.core.wants_peers()
    }

    /// A download that has few peers asks for more, as often as its trackers allow.
    fn want_peers(&mut self, now: Instant) {
        if self.wants_peers() && now.since(self.wanted_peers_at) >= WANT_PEERS_EVERY {
            self.wanted_peers_at = now;
            for state in &mut self.announcers {
                state.announcer.handle_input(now, AnnouncerInput::WantPeers);
            }
        }
    }

    /// Carries out what the core and the announcers want done.
    pub(super) fn settle(&mut self, session: &Session) {
        while let Some(action) = self.core.poll_action() {
            self.act(session, action);
        }
        for number in 0..self.announcers.len() {
            while let Some(action) = self.announcers[number].announcer.poll_action() {
                match action {
                    AnnounceAction::Announce(announce) => self.announce(session, number, &announce),
                    AnnounceAction::Finished => self.announcers[number].finished = true,
                }
            }
        }
        *self.view.core.lock() = self.core.stats();
    }

    fn act(&mut self, session: &Session, action: CoreAction) {
        let torrent = self.shared.id;
        match action {
            CoreAction::Send(shard, message) => session.send(shard, ToShard::Core(torrent, message)),
            CoreAction::Dial(shard, addr) => session.send(shard, ToShard::Dial(torrent, addr)),
            CoreAction::Banned(addr) => session.tell(Event::PeerBanned { torrent, addr }),
            CoreAction::HashFailed(piece) => {
                session.tell(Event::HashFailed { torrent, piece: piece.number() });
            }
            CoreAction::Completed => self.finish_if_complete(session),
        }
    }

    /// The trackers are to know that nothing more will be fetched: that something was (BEP 3), or that something is missing
    /// for good (BEP 21).
    fn announce_end(&mut self, now: Instant) {
        if self.fetched || self.transfer().partial_seed {
            for state in &mut self.announcers {
                state.announcer.handle_input(now, AnnouncerInput::Completed);
            }
        }
    }

    /// Flushes a download once nothing is missing of what is wanted.
    fn finish_if_complete(&mut self, session: &Session) {
        if self.progress != Progress::Running || !self.shared.pieces.is_finished() {
            return;
        }
        if self.purpose == Purpose::Seed {
            self.progress = Progress::Done;
            return self.announce_end(session.common.clock.now());
        }
        self.progress = Progress::Flushing;
        self.fetched = self.shared.counters.iter().any(|counters| counters.downloaded.value() > 0);
        self.flush(session, Storage::finish);
    }

    fn flush(&mut self, session: &Session, how: fn(&Storage) -> Result<(), StorageError>) {
        self.flushes += 1;
        let (storage, mail) = (Arc::clone(&self.shared.storage), session.own_mail.clone());
        let id = self.shared.id;
        session.common.hash_pool.run(move || {
            mail.send(Inbox::Flushed(id, how(&storage)));
        });
    }

    pub(super) fn flushed(&mut self, now: Instant, session: &Session, result: Result<(), StorageError>) {
        self.flushes -= 1;
        match result {
            // It was flushed in order to leave it, or has failed meanwhile.
            Ok(()) if self.flushes > 0 || self.progress != Progress::Flushing => {}
            Ok(()) => {
                self.progress = Progress::Done;
                // From now on the page cache may have them.
                session.common.hot.forget(self.shared.id.0);
                self.announce_end(now);
                session.tell(Event::Completed(self.shared.id));
            }
            Err(error) => self.storage_failed(now, session, error),
        }
    }

    pub(super) fn storage_failed(&mut self, now: Instant, session: &Session, error: StorageError) {
        // One failure is news; the pieces behind it fail for the same reason.
        if self.progress != Progress::Failed {
            self.progress = Progress::Failed;
            self.core.handle_input(now, CoreInput::Leave);
            session.tell(Event::StorageFailed(self.shared.id, error));
        }
    }

    pub(super) fn leave(&mut self, now: Instant, session: &Session) {
        self.view.cancel.store(true, Ordering::Relaxed);
        self.core.handle_input(now, CoreInput::Leave);
        for state in &mut self.announcers {
            state.announcer.handle_input(now, AnnouncerInput::Stop);
        }
        if self.purpose == Purpose::Download
            && matches!(self.progress, Progress::Running | Progress::Checking)
        {
            // What was written is flushed, so that it need not be fetched again after a power cut either.
            self.flush(session, Storage::flush);
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.flushes == 0 && self.announcers.iter().all(|state| state.finished)
    }

    fn announce(&self, session: &Session, announcer: usize, announce: &Announce) {
        let (mail, torrent, http) = (session.own_mail.clone(), self.shared.id, Rc::clone(&session.http));
        let request = announce.request(
            self.shared.info_hash,
            self.shared.our_id,
            session.listen_port(),
            self.transfer(),
        );
        let (id, url, timeout) = (announce.id, announce.tracker.clone(), announce.timeout);
        tokio::task::spawn_local(async move {
            let result = match request.to_url(&url) {
                Ok(full) => http.announce(&full, timeout).await,
                Err(_) => Err(HttpError::unusable(&url)),
            };
            mail.send(Inbox::Announced { torrent, announcer, id, url, result });
        });
    }

    fn transfer(&self) -> Transfer {
        let sum = |which: fn(&crate::shard::Counters) -> u64| {
            self.shared.counters.iter().map(|counters| which(counters)).sum()
        };
        let left = match self.progress {
            // A seed counts as one from the start, though it offers pieces only as they are verified.
            Progress::Checking if self.purpose == Purpose::Seed => 0,
            // BEP 3 counts all that is missing, wanted or not: who lacks something is no seed.
            _ => self.shared.left(),
        };
        let finished = matches!(self.progress, Progress::Flushing | Progress::Done);
        Transfer {
            uploaded: sum(|counters| counters.uploaded.value()),
            downloaded: sum(|counters| counters.downloaded.value()),
            left,
            partial_seed: finished && left > 0,
        }
    }

    pub(super) fn announced(
        &mut self,
        now: Instant,
        session: &Session,
        announcer: usize,
        id: AnnounceId,
        url: &str,
        result: Result<Vec<u8>, HttpError>,
    ) {
        let Some(state) = self.announcers.get_mut(announcer) else { return };
        let (torrent, url) = (self.shared.id, url.to_owned());
        match result.map(|body| AnnounceResponse::parse(&body)) {
            Ok(Ok(response)) => {
                state.announcer.handle_input(now, AnnouncerInput::Answered { id, response: &response });
                if let Some(warning) = &response.warning {
                    session.tell(Event::TrackerWarned {
                        torrent,
                        url: url.clone(),
                        warning: warning.clone(),
                    });
                }
                session.tell(Event::TrackerAnswered { torrent, url, peers: response.peers.len() });
                if self.purpose == Purpose::Download {
                    self.core_input(now, CoreInput::Candidates(response.peers, PeerSource::Tracker));
                }
            }
            Ok(Err(error)) => {
                let retry = TrackerError::retry(&error);
                state.announcer.handle_input(now, AnnouncerInput::Failed { id, retry });
                session.tell(Event::TrackerFailed { torrent, url, reason: error.to_string() });
            }
            Err(error) => {
                state.announcer.handle_input(now, AnnouncerInput::Failed { id, retry: None });
                session.tell(Event::TrackerFailed { torrent, url, reason: error.to_string() });
            }
        }
    }
}
