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
    window: Window,
    /// When the first byte came; intervals are told by it, whatever does not count.
    started: Instant,
    /// What else stood when measuring began.
    base: Base,
    metrics: Metrics,
    next_collection: Instant,
    /// End and bytes of the last interval.
    last: (Instant, u64),
}

/// The time that counts, and the bytes that do not.
///
/// It begins with the last look that found nothing, not with the one that found the first bytes: those are counted, so
/// the time in which they came is too. The more often it looks, the less of the time before them is in it.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Instant,
    /// Bytes that had moved at `from`.
    bytes: u64,
    has_begun: bool,
}

impl Window {
    fn new(now: Instant, bytes: u64) -> Self {
        Self { from: now, bytes, has_begun: false }
    }

    /// So many bytes had moved when it was looked, which began at `now`. True where it still waits for the first.
    fn look(&mut self, now: Instant, bytes: u64) -> bool {
        self.has_begun |= bytes > self.bytes;
        if !self.has_begun {
            self.from = now;
        }
        !self.has_begun
    }
}

struct Base {
    cpu: Duration,
    threads: Threads,
    connections: Vec<ConnectionMetrics>,
}

impl Base {
    fn now(connections: Vec<ConnectionMetrics>) -> Self {
        Self { cpu: process_cpu(), threads: Threads::now(), connections }
    }
}

/// The moment before a transfer can begin, taken before there is a [`Meter`] for it.
pub(crate) struct Before {
    at: Instant,
    base: Base,
}

impl Before {
    pub(crate) fn now() -> Self {
        let base = Base::now(Vec::new());
        Self { at: Instant::now(), base }
    }
}

impl<'a> Meter<'a> {
    /// Begins to measure with the first byte, which must not have moved yet. `host` is made before, as that may take a
    /// moment.
    pub(crate) fn start(engines: Vec<&'a Engine>, role: Role, host: Host) -> Self {
        Self::since(Before::now(), engines, role, host)
    }

    /// As [`start`](Self::start), where the engines had moved nothing at `before` and may have since.
    pub(crate) fn since(before: Before, engines: Vec<&'a Engine>, role: Role, host: Host) -> Self {
        let Before { at, base } = before;
        let (window, metrics) = (Window::new(at, 0), Metrics::default());
        Self { engines, role, host, window, started: at, base, metrics, next_collection: at, last: (at, 0) }
    }

    /// What was measured so far does not count.
    pub(crate) fn restart(&mut self) {
        self.collect();
        let connections = self.metrics.connections.clone();
        self.metrics = Metrics { connections: connections.clone(), ..Metrics::default() };
        self.base = Base::now(connections);
        let (now, bytes) = (Instant::now(), self.bytes());
        self.window = Window { has_begun: self.window.has_begun, ..Window::new(now, bytes) };
    }

    /// Looks whether the first byte has come. To be called often until then.
    pub(crate) fn has_begun(&mut self) -> bool {
        if self.window.has_begun {
            return true;
        }
        let (now, cpu) = (Instant::now(), process_cpu());
        if self.window.look(now, self.bytes()) {
            // Threads wait meanwhile: theirs is taken once.
            self.base.cpu = cpu;
        }
        self.started = self.window.from;
        self.last = (self.started, self.window.bytes);
        self.window.has_begun
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
        if self.window.has_begun { self.started.elapsed() } else { Duration::ZERO }
    }

    /// To be called many times a second: an interval, where one is over.
    pub(crate) fn tick(&mut self, have: impl FnOnce() -> Option<f64>) -> Option<Interval> {
        if !self.has_begun() {
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
        let bytes = self.bytes();
        let since = |at: Instant| at.saturating_duration_since(self.started);
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
        self.has_begun();
        // First what goes on by itself.
        let (bytes, wall) = (self.bytes(), self.window.from.elapsed());
        let (cpu, threads) = (process_cpu(), Threads::now());
        self.collect();
        let wall_s = wall.as_secs_f64();
        Side {
            role: self.role.name().to_owned(),
            wall_s,
            bytes: bytes - self.window.bytes,
            cpu_s: cpu.saturating_sub(self.base.cpu).as_secs_f64(),
            threads: threads.since(&self.base.threads),
            distributions: Named::all_of(&self.metrics),
            tcp: Tcp::of(&self.metrics.connections, &self.base.connections, wall_s),
            host: self.host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_looks_make_nothing_faster() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // A megabyte in each millisecond from the 13th to the 30th.
        let moved = |ms: u64| ms.clamp(13, 30) - 13;
        for every in [1, 2, 5, 10, 20, 100, 200] {
            let mut window = Window::new(start, 0);
            (0..=200).step_by(every).for_each(|ms| {
                window.look(at(ms), moved(ms));
            });
            let took = at(30).saturating_duration_since(window.from).as_millis();
            let counted = u128::from(moved(200) - window.bytes);
            assert_eq!(counted, 17, "no byte is lost");
            assert!(took >= counted && took < counted + every as u128, "{counted} MB in {took} ms");
        }
    }

    #[test]
    fn a_window_without_bytes_waits() {
        let start = Instant::now();
        let mut window = Window::new(start, 7);
        assert!(window.look(start + INTERVAL, 7));
        assert_eq!((window.from, window.has_begun), (start + INTERVAL, false));
        assert!(!window.look(start + 2 * INTERVAL, 8) && !window.look(start + 3 * INTERVAL, 8));
        assert_eq!((window.from, window.bytes), (start + INTERVAL, 7));
    }
}
