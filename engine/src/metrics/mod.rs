//! What an engine measures about itself where [`Config::measure`](crate::Config::measure) asks for it: distributions of
//! latencies and queue depths, and what the kernel says of each connection.
//!
//! Owns the distributions and their bounds. Each shard records into its own, which neither allocates nor locks; the hash
//! workers share one, behind a lock that is never taken per block.
//! [`Engine::take_metrics`](crate::Engine::take_metrics) collects them.
//!
//! - `recorder`: what a shard and the hash workers record into

mod recorder;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

pub(crate) use recorder::{HashRecorder, ShardRecorder};

pub use crate::driver::TcpInfo;

/// Significant digits that are kept: a recorded value is off by less than 1 %.
const DIGITS: u8 = 2;

/// The longest latency that is told apart, an hour in microseconds; anything above counts as this.
const MOST_MICROS: u64 = 3600 * 1_000_000;

/// The deepest queue that is told apart; anything above counts as this.
const MOST_DEPTH: u64 = 1 << 20;

/// The most bytes of one receive that are told apart; anything above counts as this.
const MOST_BYTES: u64 = 1 << 24;

/// How often each value occurred, to within 1 %. Recording takes a few nanoseconds and no memory.
#[derive(Clone, PartialEq)]
pub struct Distribution(Histogram<u64>);

impl Distribution {
    /// Of latencies, in microseconds.
    #[must_use]
    pub fn of_micros() -> Self {
        Self::up_to(MOST_MICROS)
    }

    /// Of queue depths.
    #[must_use]
    pub fn of_depths() -> Self {
        Self::up_to(MOST_DEPTH)
    }

    fn up_to(most: u64) -> Self {
        Self(Histogram::new_with_bounds(1, most, DIGITS).expect("the bounds are constants that fit"))
    }

    /// One more value; one beyond the bound counts as the bound.
    pub fn record(&mut self, value: u64) {
        self.0.saturating_record(value);
    }

    /// One more latency.
    pub fn record_span(&mut self, span: Duration) {
        self.record(u64::try_from(span.as_micros()).unwrap_or(MOST_MICROS));
    }

    /// Adds what another one of the same kind holds.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, or the other is smaller than the bound of this one.
        let _ = self.0.add(&other.0);
    }

    /// What was recorded until now; from here on it is empty.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let taken = self.clone();
        self.0.reset();
        taken
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The average; zero where there are no values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The value that this part of all are at or below, from 0 to 1; zero where there are no values.
    #[must_use]
    pub fn quantile(&self, part: f64) -> u64 {
        // The histogram answers with the top of a bucket, which may lie above the largest value.
        self.0.value_at_quantile(part).min(self.max())
    }

    /// The largest value; zero where there are none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max()
    }
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distribution({} values, median {}, most {})", self.count(), self.quantile(0.5), self.max())
    }
}

/// What an engine measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// From asking a peer for a block until all of it was here, in microseconds. To within one turn of a shard's loop.
    pub request_to_block_us: Distribution,
    /// From the first request for a piece until its hash was found right, in microseconds.
    pub piece_us: Distribution,
    /// How long a hash job waited for a worker, to be hashed with others included, in microseconds.
    pub hash_wait_us: Distribution,
    /// How long the batch that a hash job was in was hashed, in microseconds; of each job.
    pub hash_us: Distribution,
    /// How long writing a verified piece took, in microseconds.
    pub write_us: Distribution,
    /// Requests that a peer had yet to answer, counted whenever a block had come.
    pub requests_outstanding: Distribution,
    /// Hash jobs that waited, counted whenever one was added.
    pub hash_backlog: Distribution,
    /// Bytes of each receive that went straight to where its blocks belong.
    pub landed_bytes: Distribution,
    /// The connections to peers, as they are now. Their figures are since each was opened.
    pub connections: Vec<ConnectionMetrics>,
}

/// What the kernel says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionMetrics {
    /// The other end.
    pub peer: SocketAddr,
    /// What the kernel counted.
    pub tcp: TcpInfo,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            request_to_block_us: Distribution::of_micros(),
            piece_us: Distribution::of_micros(),
            hash_wait_us: Distribution::of_micros(),
            hash_us: Distribution::of_micros(),
            write_us: Distribution::of_micros(),
            requests_outstanding: Distribution::of_depths(),
            hash_backlog: Distribution::of_depths(),
            landed_bytes: Distribution::up_to(MOST_BYTES),
            connections: Vec::new(),
        }
    }
}

impl Metrics {
    /// Adds what was measured elsewhere, or later: distributions are added up, connections are replaced where there are
    /// newer ones.
    pub fn merge(&mut self, other: Metrics) {
        let newer: HashSet<SocketAddr> = other.connections.iter().map(|new| new.peer).collect();
        self.connections.retain(|known| !newer.contains(&known.peer));
        self.add(other);
    }

    /// Adds what another thread of the same engine measured meanwhile, whose connections are all others.
    pub(crate) fn add(&mut self, other: Metrics) {
        for ((_, ours), (_, theirs)) in self.distributions_mut().into_iter().zip(other.distributions()) {
            ours.merge(theirs);
        }
        self.connections.extend(other.connections);
    }

    /// Every distribution, by the name of its field.
    #[must_use]
    pub fn distributions(&self) -> [(&'static str, &Distribution); 8] {
        [
            ("request_to_block_us", &self.request_to_block_us),
            ("piece_us", &self.piece_us),
            ("hash_wait_us", &self.hash_wait_us),
            ("hash_us", &self.hash_us),
            ("write_us", &self.write_us),
            ("requests_outstanding", &self.requests_outstanding),
            ("hash_backlog", &self.hash_backlog),
            ("landed_bytes", &self.landed_bytes),
        ]
    }

    fn distributions_mut(&mut self) -> [(&'static str, &mut Distribution); 8] {
        [
            ("request_to_block_us", &mut self.request_to_block_us),
            ("piece_us", &mut self.piece_us),
            ("hash_wait_us", &mut self.hash_wait_us),
            ("hash_us", &mut self.hash_us),
            ("write_us", &mut self.write_us),
            ("requests_outstanding", &mut self.requests_outstanding),
            ("hash_backlog", &mut self.hash_backlog),
            ("landed_bytes", &mut self.landed_bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_hundredth() {
        let mut values = Distribution::of_micros();
        (1..=10_000).for_each(|value| values.record(value));
        assert_eq!(values.count(), 10_000);
        for (part, exact) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.999, 9_990.0), (1.0, 10_000.0)] {
            let found = values.quantile(part) as f64;
            assert!((found - exact).abs() <= exact / 100.0, "{part}: {found}");
        }
        assert!(values.max() >= 10_000 && (values.mean() - 5_000.0).abs() < 50.0);
    }

    #[test]
    fn what_is_beyond_the_bounds_counts_as_the_bound() {
        let mut values = Distribution::of_depths();
        values.record(u64::MAX);
        assert_eq!(values.count(), 1);
        assert!(values.max() >= MOST_DEPTH);
        let mut spans = Distribution::of_micros();
        spans.record_span(Duration::MAX);
        spans.record_span(Duration::ZERO);
        assert_eq!((spans.count(), spans.quantile(0.5)), (2, 0));
    }

    #[test]
    fn an_empty_one_has_zeros() {
        let empty = Distribution::of_micros();
        assert_eq!((empty.count(), empty.quantile(0.5), empty.max(), empty.mean()), (0, 0, 0, 0.0));
    }

    #[test]
    fn taking_empties_and_merging_adds() {
        let mut first = Distribution::of_micros();
        first.record(7);
        let taken = first.take();
        assert_eq!((first.count(), taken.count()), (0, 1));
        first.record(9);
        first.merge(&taken);
        assert_eq!((first.count(), first.quantile(0.1), first.max()), (2, 7, 9));
    }

    fn connection(port: u16, busy_us: u64) -> ConnectionMetrics {
        ConnectionMetrics {
            peer: ([127, 0, 0, 1], port).into(),
            tcp: TcpInfo { busy_us, ..TcpInfo::default() },
        }
    }

    fn with(connections: Vec<ConnectionMetrics>) -> Metrics {
        Metrics { connections, ..Metrics::default() }
    }

    #[test]
    fn newer_connections_replace_older_ones() {
        let mut metrics = with(vec![connection(1, 5), connection(2, 5)]);
        metrics.merge(with(vec![connection(2, 9), connection(3, 1)]));
        assert_eq!(metrics.connections, [connection(1, 5), connection(2, 9), connection(3, 1)]);
    }

    #[test]
    fn threads_add_their_own() {
        let (mut first, mut second) = (with(vec![connection(1, 5)]), with(vec![connection(2, 9)]));
        first.hash_us.record(7);
        second.hash_us.record(9);
        first.add(second);
        assert_eq!(first.connections, [connection(1, 5), connection(2, 9)]);
        assert_eq!((first.hash_us.count(), first.hash_us.max()), (2, 9));
    }
}
