//! How many blocks are asked of a peer at a time. The depth follows rate and latency: enough to cover the round
//! trip twice and a little more, so that a pipe that is not full makes it grow, and one that is full does not.

use crate::limits::{BLOCK_LEN, DEFAULT_REQQ, INITIAL_REQUESTS, MAX_OUTGOING_REQUESTS};
use crate::time::{Duration, Instant};

/// Beyond two round trips, this much of the peer's rate is asked for ahead. It must be longer than any sender sleeps
/// between its batches (Transmission: half a second): of one that answers all that is queued and then sleeps longer
/// than this, each batch would be smaller than the one before.
const AHEAD: Duration = Duration::from_secs(1);

/// Rates are taken over at least this long; shorter and a burst looks like a fast peer.
const WINDOW: Duration = Duration::from_millis(50);

/// What comes within so short a time counts as if it had taken that.
const SHORTEST: Duration = Duration::from_millis(1);

/// A latency above this is a peer that waits, not a long way.
const LONGEST_LATENCY: Duration = Duration::from_secs(2);

/// More to ask for with each block that comes before a rate is known: the depth grows fourfold every round trip, from 16
/// blocks to the 2,000 that 25 Gbit/s and 10 ms hold in four of them.
const EARLY_GROWTH: u32 = 3;

/// Depth of a slow peer: one block arriving, one behind it.
const LEAST: u32 = 2;

/// The pipeline to one peer.
#[derive(Debug)]
pub struct Pipeline {
    /// What the peer keeps queued for us (BEP 10's `reqq`).
    reqq: u32,
    /// Blocks to keep asked for.
    depth: u32,
    /// Bytes per second over the last windows.
    rate: u64,
    /// The same of what came since requests began, before a window is over: of a peer that was never asked for much.
    first_rate: u64,
    window_began: Instant,
    window_bytes: u64,
    /// Smallest time from request to block. Not taken anew while requests queue: it would measure our own queue,
    /// and the depth would chase it.
    latency: Duration,
}

impl Pipeline {
    /// A pipeline to a peer of which nothing is known, for blocks of so many bytes.
    pub fn new(now: Instant, block_len: u32) -> Self {
        Self {
            reqq: DEFAULT_REQQ,
            depth: coarsened(INITIAL_REQUESTS, block_len),
            rate: 0,
            first_rate: 0,
            window_began: now,
            window_bytes: 0,
            latency: LONGEST_LATENCY,
        }
    }

    /// The peer said how many requests it keeps queued.
    pub fn limit(&mut self, reqq: u32) {
        self.reqq = reqq.clamp(1, MAX_OUTGOING_REQUESTS);
        self.depth = self.depth.min(self.reqq);
    }

    /// What the peer keeps queued for us.
    pub const fn reqq(&self) -> u32 {
        self.reqq
    }

    /// Blocks to keep asked for.
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// Bytes per second.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// The same, also where no more came than a burst; zero where nothing did.
    pub const fn speed(&self) -> u64 {
        if self.rate > 0 { self.rate } else { self.first_rate }
    }

    /// Requests begin after a pause: the time without any does not count as slowness.
    pub fn resume(&mut self, now: Instant) {
        (self.window_began, self.window_bytes) = (now, 0);
    }

    /// The peer kept us waiting: begin small.
    pub fn shrink(&mut self) {
        (self.depth, self.rate, self.first_rate) = (1, 0, 0);
    }

    /// A block of `bytes` came, asked for at `asked_at`.
    pub fn block_arrived(&mut self, now: Instant, asked_at: Instant, bytes: u32) {
        self.latency = self.latency.min(now.since(asked_at));
        self.window_bytes += u64::from(bytes);
        let span = now.since(self.window_began);
        if span >= WINDOW {
            let rate = rate_of(self.window_bytes, span);
            self.rate = if self.rate == 0 { rate } else { rate.midpoint(self.rate) };
            self.resume(now);
            self.depth = self.wanted(bytes.max(1));
        } else if self.rate == 0 {
            // Nothing measured yet: a long way is filled in a few round trips.
            self.depth = (self.depth + EARLY_GROWTH).min(self.reqq);
            self.first_rate = rate_of(self.window_bytes, span.max(SHORTEST));
        }
    }

    fn wanted(&self, block_bytes: u32) -> u32 {
        let horizon = (self.latency * 2 + AHEAD).as_nanos();
        let bytes = u128::from(self.rate) * horizon / 1_000_000_000;
        let blocks = u32::try_from(bytes / u128::from(block_bytes)).unwrap_or(u32::MAX);
        blocks.saturating_add(1).clamp(LEAST, self.reqq.max(LEAST)).min(self.reqq)
    }
}

fn rate_of(bytes: u64, span: Duration) -> u64 {
    (u128::from(bytes) * 1_000_000_000 / span.as_nanos().max(1)) as u64
}

/// How many blocks of `block_len` bytes to ask for instead of that many of [`BLOCK_LEN`]: fewer where they are coarse, as
/// they are in simulated torrents only.
pub(crate) fn coarsened(requests: u32, block_len: u32) -> u32 {
    let blocks = u64::from(requests) * u64::from(BLOCK_LEN) / u64::from(block_len.max(1));
    u32::try_from(blocks).unwrap_or(u32::MAX).clamp(LEAST, requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 16384;

    /// A link that delivers a block every `gap` after `delay`, filled by the pipeline: the depth it settles at.
    fn settle(delay: Duration, gap: Duration, reqq: u32) -> u32 {
        let mut pipeline = Pipeline::new(Instant::ZERO, BLOCK);
        pipeline.limit(reqq);
        let mut arrivals = std::collections::VecDeque::new();
        let (mut now, mut link_free) = (Instant::ZERO, Instant::ZERO);
        for _ in 0..200_000 {
            while (arrivals.len() as u32) < pipeline.depth() {
                link_free = link_free.max(now) + gap;
                arrivals.push_back((now, link_free + delay));
            }
            let (asked, arrival) = arrivals.pop_front().unwrap();
            now = arrival;
            pipeline.block_arrived(now, asked, BLOCK);
        }
        pipeline.depth()
    }

    #[test]
    fn a_long_fat_pipe_is_filled() {
        // 10 ms at about 1.6 GB/s holds 1,000 blocks.
        let depth = settle(Duration::from_millis(10), Duration::from_micros(10), 4_000);
        assert!(depth >= 1_000, "{depth}");
    }

    #[test]
    fn a_long_way_is_filled_in_a_few_round_trips() {
        const ROUND_TRIP: Duration = Duration::from_millis(10);
        let mut pipeline = Pipeline::new(Instant::ZERO, BLOCK);
        pipeline.limit(4_000);
        let mut asked = Instant::ZERO;
        for _ in 0..4 {
            let now = asked + ROUND_TRIP;
            (0..pipeline.depth()).for_each(|_| pipeline.block_arrived(now, asked, BLOCK));
            asked = now;
        }
        assert!(pipeline.depth() >= 2_000, "{}", pipeline.depth());
    }

    /// A peer that answers all that is queued, 100 microseconds a block, and then sleeps for half a second.
    #[test]
    fn a_peer_that_sends_in_batches_is_asked_for_larger_ones() {
        let mut pipeline = Pipeline::new(Instant::ZERO, BLOCK);
        pipeline.limit(512);
        let mut now = Instant::ZERO;
        let mut queued = vec![now; pipeline.depth() as usize];
        for _ in 0..100 {
            now += Duration::from_millis(500);
            for asked in std::mem::take(&mut queued) {
                now += Duration::from_micros(100);
                pipeline.block_arrived(now, asked, BLOCK);
            }
            queued.resize(pipeline.depth() as usize, now);
        }
        assert_eq!(pipeline.depth(), 512);
    }

    #[test]
    fn coarse_blocks_are_asked_for_one_by_one() {
        assert_eq!(Pipeline::new(Instant::ZERO, BLOCK).depth(), INITIAL_REQUESTS);
        assert_eq!(Pipeline::new(Instant::ZERO, 16).depth(), INITIAL_REQUESTS);
        assert_eq!(Pipeline::new(Instant::ZERO, 4 * BLOCK).depth(), INITIAL_REQUESTS / 4);
        assert_eq!(Pipeline::new(Instant::ZERO, u32::MAX).depth(), LEAST);
    }

    #[test]
    fn reqq_is_honoured() {
        assert_eq!(settle(Duration::from_millis(10), Duration::from_micros(10), 300), 300);
        assert_eq!(settle(Duration::from_millis(1), Duration::from_millis(1), 1), 1);
    }

    #[test]
    fn a_slow_peer_is_asked_for_little() {
        let depth = settle(Duration::from_millis(20), Duration::from_millis(500), 2_000);
        assert!((LEAST..=8).contains(&depth), "{depth}");
    }

    #[test]
    fn a_burst_tells_a_speed_and_no_rate() {
        let mut pipeline = Pipeline::new(Instant::ZERO, BLOCK);
        assert_eq!(pipeline.speed(), 0);
        let now = Instant::ZERO + Duration::from_millis(8);
        (0..16).for_each(|_| pipeline.block_arrived(now, Instant::ZERO, BLOCK));
        assert_eq!((pipeline.speed(), pipeline.rate()), (16 * u64::from(BLOCK) * 125, 0));
        pipeline.resume(now + Duration::from_secs(1));
        assert_eq!(pipeline.speed(), 16 * u64::from(BLOCK) * 125, "a pause is no slowness");
        pipeline.block_arrived(now + Duration::from_secs(2), now, BLOCK);
        assert_eq!((pipeline.speed(), pipeline.rate()), (u64::from(BLOCK), u64::from(BLOCK)));
    }

    #[test]
    fn a_snubbed_peer_begins_small() {
        let mut pipeline = Pipeline::new(Instant::ZERO, BLOCK);
        pipeline.shrink();
        assert_eq!((pipeline.depth(), pipeline.rate()), (1, 0));
    }
}
