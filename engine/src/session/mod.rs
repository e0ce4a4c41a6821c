//! The control plane: one thread, on tokio-uring, or on plain tokio where io_uring is refused. It drives every
//! torrent's [`TorrentCore`](ringtide_proto::torrent::TorrentCore) and announcers, asks trackers, serves a tracker
//! of its own, and answers the [`Engine`](crate::Engine).
//!
//! - `torrent`: one torrent as the control plane sees it
//! - `checks`, `checked`: whose content is looked for on disk first, and what that tells
//! - `start`: threads and listeners
//! - `http`, `tracker_server`: HTTP in both directions

mod checked;
mod checks;
pub(crate) mod http;
mod own_addr;
mod start;
#[cfg(test)]
mod testing;
mod torrent;
pub(crate) mod tracker_server;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use parking_lot::Mutex;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{CoreInput, ShardId};
use ringtide_proto::tracker::{AnnounceId, TrackerServer};
use tokio::sync::Notify;

pub(crate) use start::{Threads, Wiring, start};
pub(crate) use torrent::{Addition, View};

use crate::driver::IoKind;
use crate::event::{Event, TorrentId};
use crate::mailbox::{MailSender, Mailbox};
use crate::shard::{Common, ToControl, ToShard};
use crate::storage::{CheckReport, StorageError};
use crate::timers::Timers;
use checks::Checks;
use http::{HttpClient, HttpError};
use torrent::Torrent;

/// How long leaving waits for trackers and disks before it gives up on them.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What reaches the control plane.
pub(crate) enum Inbox {
    /// From a shard.
    Shard(ToControl),
    /// From the engine's user.
    Command(Command),
    /// Pieces were looked for on disk.
    Checked(TorrentId, CoreInput),
    /// All of them were.
    CheckDone(TorrentId, Box<CheckReport>),
    /// A download that was finished or is left was flushed, or could not be.
    Flushed(TorrentId, Result<(), StorageError>),
    /// A tracker answered, or not.
    Announced {
        torrent: TorrentId,
        announcer: usize,
        id: AnnounceId,
        url: String,
        result: Result<Vec<u8>, HttpError>,
    },
}

/// What the engine's user asks for.
pub(crate) enum Command {
    /// Run this torrent; say so once every shard was told.
    Add(Box<Addition>, Sender<()>),
    /// Fetch this URL, bounded.
    Fetch(String, Sender<Result<Vec<u8>, HttpError>>),
    /// Serve the torrents' tracker there.
    Serve(std::net::TcpListener, Arc<Mutex<TrackerServer>>),
    /// Take leave of trackers and peers and flush; then say so.
    Leave(Sender<()>),
    /// End.
    Quit,
}

/// What the control plane runs with.
pub(crate) struct Session {
    common: Arc<Common>,
    shards: Vec<MailSender<ToShard>>,
    mail: Mailbox<Inbox>,
    own_mail: MailSender<Inbox>,
    notify: Arc<Notify>,
    events: Sender<Event>,
    torrents: BTreeMap<TorrentId, Torrent>,
    /// When each torrent that waits for a time is to be looked at: there may be thousands, nearly all of them idle.
    timers: Timers<TorrentId>,
    checks: Checks,
    http: Rc<HttpClient>,
    leaving: Option<(Instant, Sender<()>)>,
    quit: bool,
}

/// Runs the control plane on this thread until it is told to quit.
pub(crate) fn run(io: IoKind, session: Session) -> std::io::Result<()> {
    match io {
        IoKind::Uring => {
            tokio_uring::start(session.run());
            Ok(())
        }
        IoKind::Epoll => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio::task::LocalSet::new().block_on(&runtime, session.run());
            Ok(())
        }
    }
}

impl Session {
    pub(crate) fn new(
        common: Arc<Common>,
        shards: Vec<MailSender<ToShard>>,
        mail: (MailSender<Inbox>, Mailbox<Inbox>),
        notify: Arc<Notify>,
        events: Sender<Event>,
        http: HttpClient,
    ) -> Self {
        Self {
            common,
            shards,
            mail: mail.1,
            own_mail: mail.0,
            notify,
            events,
            torrents: BTreeMap::new(),
            timers: Timers::default(),
            checks: Checks::default(),
            http: Rc::new(http),
            leaving: None,
            quit: false,
        }
    }

    async fn run(mut self) {
        loop {
            let now = self.common.clock.now();
            self.take_mail(now);
            if self.quit {
                return;
            }
            self.run_timers(now);
            if !self.mail.prepare_sleep() {
                continue;
            }
            let wait =
                self.next_timer().map_or(Duration::from_secs(3600), |at| at.since(self.common.clock.now()));
            // Whichever comes first; both only mean "look again".
            let _ = tokio::time::timeout(wait, self.notify.notified()).await;
            self.mail.awake();
        }
    }

    fn take_mail(&mut self, now: Instant) {
        while let Some(message) = self.mail.try_recv() {
            match message {
                Inbox::Shard(message) => self.on_shard(now, message),
                Inbox::Command(command) => self.on_command(now, command),
                Inbox::Checked(id, input) => self.input(now, id, input),
                Inbox::CheckDone(id, report) => {
                    self.checks.ended(id);
                    self.begin_checks();
                    self.with(now, id, |torrent, session| torrent.check_done(session, &report))
                }
                Inbox::Flushed(id, result) => {
                    self.with(now, id, |torrent, session| torrent.flushed(now, session, result))
                }
                Inbox::Announced { torrent, announcer, id, url, result } => {
                    self.with(now, torrent, |torrent, session| {
                        torrent.announced(now, session, announcer, id, &url, result);
                    });
                }
            }
        }
    }

    fn on_shard(&mut self, now: Instant, message: ToControl) {
        match message {
            ToControl::Core(id, shard, message) => self.input(now, id, CoreInput::FromShard(shard, message)),
            ToControl::DialFailed(id, addr) => self.input(now, id, CoreInput::DialFailed(addr)),
            ToControl::StorageFailed(id, error) => {
                self.with(now, id, |torrent, session| torrent.storage_failed(now, session, error));
            }
            ToControl::ShardFailed(reason) => self.tell(Event::Failed(reason)),
        }
    }

    fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Add(addition, reply) => {
                self.add(now, *addition);
                let _ = reply.send(());
            }
            Command::Fetch(url, reply) => {
                let http = Rc::clone(&self.http);
                tokio::task::spawn_local(async move {
                    // Whoever asked may have gone.
                    let _ = reply.send(http.fetch_torrent(&url).await);
                });
            }
            Command::Serve(listener, server) => self.serve_tracker(listener, server),
            Command::Leave(reply) => self.leave(now, reply),
            Command::Quit => self.quit = true,
        }
    }

    fn add(&mut self, now: Instant, addition: Addition) {
        let id = addition.shared.id;
        for shard in &self.shards {
            shard.send(ToShard::Add(Arc::clone(&addition.shared)));
        }
        let torrent = Torrent::start(now, self, addition, Rng::new(fastrand::u64(..)));
        self.checks.add(torrent.place(), Box::new(torrent.check(self)));
        self.torrents.insert(id, torrent);
        self.begin_checks();
        self.with(now, id, |_, _| {});
    }

    fn serve_tracker(&self, listener: std::net::TcpListener, server: Arc<Mutex<TrackerServer>>) {
        let (clock, events) = (self.common.clock, self.events.clone());
        tokio::task::spawn_local(async move {
            let Err(error) = tracker_server::serve(listener, server, move || clock.now()).await;
            let _ = events.send(Event::Failed(format!("the tracker cannot be served: {error}")));
        });
    }

    fn leave(&mut self, now: Instant, reply: Sender<()>) {
        self.leaving = Some((now + LEAVE_TIMEOUT, reply));
        let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in ids {
            self.with(now, id, |torrent, session| torrent.leave(now, session));
        }
        self.note_left(now);
    }

    /// Says that everything was left, once it was.
    fn note_left(&mut self, now: Instant) {
        let Some((deadline, _)) = self.leaving else { return };
        if now >= deadline || self.torrents.values().all(Torrent::has_left) {
            let reply = self.leaving.take();
            let _ = reply.map(|(_, reply)| reply.send(()));
        }
    }

    fn input(&mut self, now: Instant, id: TorrentId, input: CoreInput) {
        self.with(now, id, |torrent, _| torrent.core_input(now, input));
    }

    /// Does something with a torrent and carries out what follows from it.
    fn with(&mut self, now: Instant, id: TorrentId, work: impl FnOnce(&mut Torrent, &Session)) {
        let Some(mut torrent) = self.torrents.remove(&id) else { return };
        work(&mut torrent, self);
        torrent.settle(self);
        self.torrents.insert(id, torrent);
        self.plan(id);
        self.note_left(now);
    }

    /// Begins as many of the checks that wait as may go on at a time.
    fn begin_checks(&mut self) {
        let Err(error) = self.checks.begin() else { return };
        if self.checks.is_idle() {
            let reason = format!("no thread could be started to check what is on disk: {error}");
            self.tell(Event::Failed(reason));
        } else {
            tracing::warn!(%error, "starting a thread to check what is on disk; tried again when another check ends");
        }
    }

    /// Notes when the torrent is to be looked at.
    fn plan(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(&id) else { return };
        let next = torrent.next_timer();
        self.timers.plan(id, &mut torrent.planned, next);
    }

    fn run_timers(&mut self, now: Instant) {
        for id in self.timers.due(now) {
            self.with(now, id, |torrent, _| torrent.handle_timeout(now));
        }
        self.note_left(now);
    }

    fn next_timer(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().map(|(deadline, _)| *deadline);
        self.timers.next().into_iter().chain(leaving).min()
    }

    fn tell(&self, event: Event) {
        // The user may listen or not.
        let _ = self.events.send(event);
    }

    fn send(&self, shard: ShardId, message: ToShard) {
        self.shards[usize::from(shard.0)].send(message);
    }

    /// The port under which trackers name us; the discard port where nobody can reach us.
    fn listen_port(&self) -> u16 {
        const NOBODY_LISTENS: u16 = 9;
        self.common.listen_port.unwrap_or(NOBODY_LISTENS)
    }
}
