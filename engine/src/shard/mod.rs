//! The data plane: one thread per core, each with its own driver, sockets and peers. A shard carries out what its
//! [`TorrentShard`](ringtide_proto::torrent::TorrentShard)s decide and tells them what happened; it decides nothing
//! about the protocol.
//!
//! - `connection`, `dialogue`: from accepting or dialling to a peer, and the end
//! - `receive`, `landing`: bytes in, blocks to their buffers, or received there
//! - `send`: messages and blocks out, with the reads they need
//! - `pieces`: hash jobs and writes
//! - `local`: a torrent's part on this shard
//! - `measure`: what is measured on the way

mod assembly;
mod connection;
mod dialogue;
mod landing;
mod local;
mod measure;
mod message;
mod parting;
mod pieces;
mod receive;
mod seats;
mod send;
mod shared;
#[cfg(test)]
mod testing;
mod token;
mod upload;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::utils::CachePadded;
use ringtide_proto::id::InfoHash;
use ringtide_proto::layout::Block;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{Budget, ShardId};

pub(crate) use message::{ToControl, ToShard};
pub(crate) use seats::Seats;
pub(crate) use shared::{Counters, RateLimits, Share, SharedTorrent};

use connection::Connection;
use local::LocalTorrent;
use pieces::PendingWrite;
use token::Purpose;
use upload::Upload;

use crate::clock::Clock;
use crate::driver::{Completion, Driver, Outcome, Socket};
use crate::event::TorrentId;
use crate::hash_pool::HashPool;
use crate::mailbox::{MailSender, Mailbox};
use crate::metrics::ShardRecorder;
use crate::session::Inbox;
use crate::storage::{BufferPool, HotPieces};
use crate::timers::Timers;

/// How often connections are looked over for what takes too long.
const TICK: Duration = Duration::from_secs(1);

/// How soon a connection that waits for a buffer to read into is looked at again: other shards free them, too.
const STARVED_WAIT: Duration = Duration::from_millis(10);

/// Completions handled before peers are served: keeps one busy socket from delaying what others are to get.
const COMPLETIONS_PER_TURN: usize = 256;

/// What all shards share.
pub(crate) struct Common {
    pub(crate) clock: Clock,
    pub(crate) hash_pool: Arc<HashPool>,
    /// Piece buffers; what may be taken is leased from `budget` first.
    pub(crate) piece_buffers: BufferPool,
    pub(crate) budget: Arc<Budget>,
    /// Pieces just verified, to be given from memory.
    pub(crate) hot: HotPieces,
    /// Buffers for blocks that are read to be sent.
    pub(crate) upload_buffers: BufferPool,
    /// Limits on the rates of all torrents together.
    pub(crate) limits: RateLimits,
    /// For the peers of the process.
    pub(crate) seats: Arc<Seats>,
    /// One entry a shard.
    pub(crate) counters: Box<[CachePadded<Counters>]>,
    /// Where peers reach us.
    pub(crate) listen_port: Option<u16>,
    pub(crate) control: MailSender<Inbox>,
    /// Whether shards measure.
    pub(crate) measure: bool,
    /// Whether blocks are sent without a copy.
    pub(crate) zero_copy: bool,
}

/// One shard.
pub(crate) struct Shard {
    id: ShardId,
    common: Arc<Common>,
    driver: Driver,
    mail: Mailbox<ToShard>,
    /// All shards' mail, this one's included.
    links: Vec<MailSender<ToShard>>,
    listeners: Vec<Socket>,
    /// Listeners that stopped accepting, as when descriptors ran out: tried again at the next tick.
    deaf: Vec<usize>,
    torrents: Vec<Option<LocalTorrent>>,
    /// When each torrent that waits for a time is to be looked at.
    timers: Timers<TorrentId>,
    by_hash: HashMap<InfoHash, TorrentId>,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Connections that have something to send.
    ready: VecDeque<usize>,
    /// Connections that wait for a buffer to read into.
    starved: VecDeque<usize>,
    /// For the blocks that a receive is to bring; empty between receives.
    expected: Vec<Block>,
    /// Empty ones, to be used again.
    spare_uploads: Vec<Upload>,
    writes: Vec<Option<PendingWrite>>,
    next_tick: Instant,
    /// Tells one try of a piece from the next.
    generation: u32,
    /// Where measurements go, if they are asked for.
    recorder: Option<Box<ShardRecorder>>,
    quit: bool,
}

impl Shard {
    /// A shard on this thread, which accepts on `listeners`.
    pub(crate) fn new(
        id: ShardId,
        common: Arc<Common>,
        driver: Driver,
        mail: Mailbox<ToShard>,
        links: Vec<MailSender<ToShard>>,
    ) -> Self {
        let recorder = common.measure.then(Box::default);
        Self {
            id,
            common,
            driver,
            mail,
            links,
            listeners: Vec::new(),
            deaf: Vec::new(),
            torrents: Vec::new(),
            timers: Timers::default(),
            by_hash: HashMap::new(),
            connections: Vec::new(),
            vacant: Vec::new(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            expected: Vec::new(),
            spare_uploads: Vec::new(),
            writes: Vec::new(),
            next_tick: Instant::ZERO,
            generation: 0,
            recorder,
            quit: false,
        }
    }

    /// Accepts peers there.
    pub(crate) fn listen(&mut self, listener: std::net::TcpListener) -> io::Result<()> {
        let socket = self.driver.adopt(listener.into())?;
        self.listeners.push(socket);
        self.accept(self.listeners.len() - 1);
        Ok(())
    }

    /// Runs until it is told to quit.
    pub(crate) fn run(mut self) -> io::Result<()> {
        loop {
            let now = self.common.clock.now();
            self.take_mail(now);
            if self.quit {
                return Ok(());
            }
            self.run_timers(now);
            self.serve(now);
            let timeout = self.timeout(now);
            self.driver.wait(timeout)?;
            self.mail.awake();
            // Mail first: a peer may have connected because of what it says.
            self.take_mail(self.common.clock.now());
            self.take_completions();
        }
    }

    /// How long to sleep: not at all while there is mail, else until the next timer.
    fn timeout(&mut self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() || !self.mail.prepare_sleep() {
            return Some(Duration::ZERO);
        }
        let timers = self.timers.next().into_iter();
        let tick = (self.has_connections() || !self.deaf.is_empty()).then_some(self.next_tick);
        let starved = (!self.starved.is_empty()).then(|| now + STARVED_WAIT);
        let next = timers.chain(tick).chain(starved).min();
        next.map(|at| at.since(now))
    }

    fn take_mail(&mut self, now: Instant) {
        while let Some(message) = self.mail.try_recv() {
            match message {
                ToShard::Add(torrent) => self.add_torrent(torrent),
                ToShard::Core(torrent, message) => self.on_core(now, torrent, message),
                ToShard::Dial(torrent, addr) => self.dial(now, torrent, addr),
                ToShard::Peer(torrent, from, message, cargo) => {
                    self.on_shard(now, torrent, from, message, cargo)
                }
                ToShard::Adopt(adopted) => self.adopt(now, adopted),
                ToShard::Hashed(torrent, done) => self.on_hashed(now, torrent, done),
                ToShard::Gathered(index, part, result) => self.on_gathered(now, index, part, result),
                ToShard::Written(torrent, piece, result) => {
                    self.on_piece_written(now, torrent, piece, result)
                }
                ToShard::Measure(reply) => self.send_metrics(&reply),
                ToShard::Quit => self.quit = true,
            }
        }
    }

    fn run_timers(&mut self, now: Instant) {
        for id in self.timers.due(now) {
            self.with_machine(id, |machine| machine.handle_timeout(now));
            self.run_actions(now, id);
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            std::mem::take(&mut self.deaf).into_iter().for_each(|listener| self.accept(listener));
            self.close_overdue(now);
        }
    }

    fn take_completions(&mut self) {
        let mut now = self.common.clock.now();
        for count in 1.. {
            let Some(completion) = self.driver.poll() else { break };
            self.on_completion(now, completion);
            if count % COMPLETIONS_PER_TURN == 0 {
                now = self.common.clock.now();
                self.serve(now);
            }
        }
    }

    fn on_completion(&mut self, now: Instant, completion: Completion) {
        let Completion { token, outcome, last } = completion;
        let (purpose, index, part) = token::parse(token);
        if last && !matches!(purpose, Purpose::Accept | Purpose::Write) {
            self.operation_ended(index);
        }
        match (purpose, outcome) {
            (Purpose::Accept, Outcome::Accepted(result)) => self.on_accepted(now, index, result, last),
            (Purpose::Connect, Outcome::Connected(result)) => self.on_connected(now, index, result),
            (Purpose::Greet, Outcome::Received(bytes)) => self.on_greeting(now, index, &bytes),
            (Purpose::Receive, Outcome::Received(bytes)) => {
                self.on_received(now, index, &bytes);
                self.note_shared(index, bytes.is_filled());
            }
            (Purpose::Receive, Outcome::ReceivedInto(scatter, result)) => {
                self.on_landed(now, index, scatter, &result)
            }
            (Purpose::Receive, Outcome::RecvEnded(result)) => self.on_receive_ended(now, index, &result),
            (Purpose::Greet, Outcome::RecvEnded(_)) => self.close(now, index),
            (Purpose::Send, Outcome::Sent(batch, result)) => self.on_sent(now, index, batch, result.is_ok()),
            (Purpose::Read, Outcome::Read(buf, result)) => self.on_read(now, index, part, buf, result.ok()),
            (Purpose::Write, Outcome::Written(result)) => self.on_write_ended(now, index, result),
            (purpose, outcome) => {
                tracing::error!(?purpose, ?outcome, "an outcome that does not fit its operation")
            }
        }
        self.release_if_over(index, purpose);
    }

    fn has_connections(&self) -> bool {
        self.vacant.len() < self.connections.len()
    }

    fn counters(&self) -> &Counters {
        &self.common.counters[usize::from(self.id.0)]
    }
}
