//! `Meter`: measures one or several engines of this process while they give or fetch: bytes, threads, distributions.
//!
//! Owns when what begins to count, and the intervals. What it finds is a [`Side`].

use std::time::{Duration, Instant};

use ringtide_engine::Engine;
use ringtide_engine::metrics::{ConnectionMetrics, Metrics};
use serde::{Deserialize, Serialize};

use super::side::{Host, Named, Side, Tcp};
use super::threads::{Threads, process_cpu};

/// How often metrics are collected: a connection that ends in between is missed for that long at most.
const COLLECT_EVERY: Duration = Duration::from_millis(250);

/// Length of an interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a process does in a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Receiver,
    Sender,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Sender => "sender",
        }
    }
}

/// A part of the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Seconds since the first byte.
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    /// Payload.
    pub(crate) bytes: u64,
    pub(crate) peers: u64,
    /// Part of the content that is there at the end of it, from 0 to 1; none where nobody knows.
    pub(crate) have: Option<f64>,
    /// It is left out of the figures.
    pub(crate) omitted: bool,
}

impl Interval {
    pub(crate) fn gb_per_s(&self) -> f64 {
        let span = self.to_s - self.from_s;
        if span > 0.0 { self.bytes as f64 / 1e9 / span } else { 0.0 }
    }
}

/// Measures engines.
pub(crate) struct Meter<'a> {
    engines: Vec<&'a Engine>,
    role: Role,
    host: Host,
    /// When the first byte was seen.
    started: Option<Instant>,
    /// What stood when measuring began.
    base: Base,
    metrics: Metrics,
    next_collection: Instant,
    /// End and bytes of the last interval.
    last: (Instant, u64),
}

struct Base {
    at: Instant,
    bytes: u64,
    cpu: Duration,
    threads: Threads,
    connections: Vec<ConnectionMetrics>,
}

impl Base {
    fn now(bytes: u64, connections: Vec<ConnectionMetrics>) -> Self {
        Self { at: Instant::now(), bytes, cpu: process_cpu(), threads: Threads::now(), connections }
    }
}

impl<'a> Meter<'a> {
    /// Begins to measure with the first byte. `host` is made before, as that may take a moment.
    pub(crate) fn start(engines: Vec<&'a Engine>, role: Role, host: Host) -> Self {
        let base = Base::now(0, Vec::new());
        let now = base.at;
        let metrics = Metrics::default();
        let mut meter =
            Self { engines, role, host, started: None, base, metrics, next_collection: now, last: (now, 0) };
        meter.look_for_the_first();
        meter
    }

    /// What was measured so far does not count.
    pub(crate) fn restart(&mut self) {
        self.collect();
        let connections = self.metrics.connections.clone();
        self.metrics = Metrics { connections: connections.clone(), ..Metrics::default() };
        self.base = Base::now(self.bytes(), connections);
    }

    /// Looks whether the first byte has come. What came with it is a millisecond's worth, and counts.
    fn look_for_the_first(&mut self) -> bool {
        if self.started.is_none() && self.bytes() > self.base.bytes {
            self.base = Base::now(self.base.bytes, std::mem::take(&mut self.base.connections));
            self.started = Some(self.base.at);
            self.last = (self.base.at, self.base.bytes);
        }
        self.started.is_some()
    }

    /// Payload bytes since the engines were started; what came twice counts twice.
    pub(crate) fn bytes(&self) -> u64 {
        let shards = self.engines.iter().flat_map(|engine| engine.shard_stats());
        let moved = shards.map(|shard| match self.role {
            Role::Receiver => shard.downloaded,
            Role::Sender => shard.uploaded,
        });
        moved.sum()
    }

    /// How long since the first byte.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// To be called many times a second: an interval, where one is over.
    pub(crate) fn tick(&mut self, have: impl FnOnce() -> Option<f64>) -> Option<Interval> {
        if !self.look_for_the_first() {
            return None;
        }
        let now = Instant::now();
        if now >= self.next_collection {
            self.collect();
        }
        (now >= self.last.0 + INTERVAL).then(|| self.interval(now, have()))
    }

    /// What is left since the last interval, if it is worth a line.
    pub(crate) fn last_interval(&mut self, have: Option<f64>) -> Option<Interval> {
        let now = Instant::now();
        (now >= self.last.0 + INTERVAL / 10).then(|| self.interval(now, have))
    }

    fn interval(&mut self, now: Instant, have: Option<f64>) -> Interval {
        let (bytes, started) = (self.bytes(), self.started.unwrap_or(now));
        let since = |at: Instant| at.saturating_duration_since(started);
        let peers =
            self.engines.iter().flat_map(|engine| engine.shard_stats()).map(|shard| shard.peers).sum();
        let interval = Interval {
            from_s: since(self.last.0).as_secs_f64(),
            to_s: since(now).as_secs_f64(),
            bytes: bytes.saturating_sub(self.last.1),
            peers,
            have,
            omitted: false,
        };
        self.last = (now, bytes);
        interval
    }

    fn collect(&mut self) {
        self.next_collection = Instant::now() + COLLECT_EVERY;
        for engine in &self.engines {
            self.metrics.merge(engine.take_metrics());
        }
    }

    /// What was measured.
    pub(crate) fn finish(mut self) -> Side {
        self.look_for_the_first();
        // First what goes on by itself.
        let (bytes, wall) = (self.bytes(), self.base.at.elapsed());
        let (cpu, threads) = (process_cpu(), Threads::now());
        self.collect();
        let wall_s = wall.as_secs_f64();
        Side {
            role: self.role.name().to_owned(),
            wall_s,
            bytes: bytes - self.base.bytes,
            cpu_s: cpu.saturating_sub(self.base.cpu).as_secs_f64(),
            threads: threads.since(&self.base.threads),
            distributions: Named::all_of(&self.metrics),
            tcp: Tcp::of(&self.metrics.connections, &self.base.connections, wall_s),
            host: self.host,
        }
    }
}
