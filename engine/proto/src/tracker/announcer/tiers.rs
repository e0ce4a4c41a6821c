//! A torrent's trackers in their order of BEP 12, and what is known of each. When to announce is not decided
//! here.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::tracker::{AnnounceResponse, Retry};

/// Most trackers of a torrent that are used. Lists of public ones have about a hundred; one after the other is
/// tried while none answers.
const MAX_TRACKERS: usize = 200;

/// First wait after a failure: a tracker that is being restarted is back in seconds.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// Longest wait: what most trackers name as their interval, so a dead one costs no more than a living one.
const LONGEST_RETRY: Duration = Duration::from_secs(1800);

/// Names a tracker for as long as the torrent lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackerIndex(usize);

/// One tracker.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) url: String,
    /// What it gave us to send along.
    pub(super) tracker_id: Option<Vec<u8>>,
    /// It has, or may have, taken note of our `started`.
    pub(super) started: bool,
    /// Its minimum interval ends here.
    pub(super) not_before: Instant,
    /// Passed over until here, because it failed.
    retry_at: Instant,
    /// Failures in a row.
    failures: u32,
    /// It wants never to be asked again, or cannot be.
    given_up: bool,
}

impl Tracker {
    fn new(url: String) -> Self {
        Self {
            url,
            tracker_id: None,
            started: false,
            not_before: Instant::ZERO,
            retry_at: Instant::ZERO,
            failures: 0,
            given_up: false,
        }
    }

    /// It has answered.
    pub(super) fn succeeded(&mut self, now: Instant, response: &AnnounceResponse) {
        self.failures = 0;
        self.retry_at = Instant::ZERO;
        self.not_before = now + response.min_interval;
        // An answer without one does not take the earlier one back.
        if response.tracker_id.is_some() {
            self.tracker_id.clone_from(&response.tracker_id);
        }
    }

    /// It has not, or has refused.
    pub(super) fn failed(&mut self, now: Instant, retry: Option<Retry>, rng: &mut Rng) {
        let wait = jittered(backoff(self.failures), rng);
        self.failures = self.failures.saturating_add(1);
        match retry {
            Some(Retry::Never) => self.given_up = true,
            Some(Retry::After(at_least)) => self.retry_at = now + wait.max(at_least),
            None => self.retry_at = now + wait,
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.given_up && self.retry_at <= now
    }
}

/// Doubled at each failure.
fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LONGEST_RETRY)
}

/// Up to half as long again, so that all who lost a tracker at one moment do not return at one.
fn jittered(wait: Duration, rng: &mut Rng) -> Duration {
    wait + Duration::from_millis(rng.below(wait.as_millis() as usize / 2 + 1) as u64)
}

/// All trackers.
#[derive(Debug)]
pub(super) struct Tiers {
    trackers: Vec<Tracker>,
    /// Indices of `trackers`, each once, in the order in which they are tried.
    tiers: Vec<Vec<usize>>,
}

impl Tiers {
    /// Each URL once, in the tier where it comes first; each tier in random order.
    pub(super) fn new(urls: &[Vec<String>], rng: &mut Rng) -> Self {
        let (mut trackers, mut seen) = (Vec::new(), BTreeSet::new());
        let mut tiers = Vec::with_capacity(urls.len());
        for urls in urls {
            let first = trackers.len();
            let fresh = urls.iter().filter(|url| seen.insert(url.as_str())).take(MAX_TRACKERS - first);
            trackers.extend(fresh.cloned().map(Tracker::new));
            let mut tier: Vec<usize> = (first..trackers.len()).collect();
            rng.shuffle(&mut tier);
            tiers.push(tier);
        }
        Self { trackers, tiers }
    }

    /// The first tracker that is not passed over.
    pub(super) fn first_usable(&self, now: Instant) -> Option<TrackerIndex> {
        let mut order = self.tiers.iter().flatten();
        order.find(|&&index| self.trackers[index].is_usable(now)).map(|&index| TrackerIndex(index))
    }

    /// When a tracker that is passed over gets its turn again.
    pub(super) fn next_usable_at(&self) -> Option<Instant> {
        self.trackers.iter().filter(|tracker| !tracker.given_up).map(|tracker| tracker.retry_at).min()
    }

    /// Those who know us.
    pub(super) fn started(&self) -> Vec<TrackerIndex> {
        let indices = (0..self.trackers.len()).filter(|&index| self.trackers[index].started);
        indices.map(TrackerIndex).collect()
    }

    /// Makes the tracker the first of its tier.
    pub(super) fn move_to_front(&mut self, tracker: TrackerIndex) {
        for tier in &mut self.tiers {
            if let Some(at) = tier.iter().position(|&index| index == tracker.0) {
                tier[..=at].rotate_right(1);
            }
        }
    }
}

impl Index<TrackerIndex> for Tiers {
    type Output = Tracker;

    fn index(&self, tracker: TrackerIndex) -> &Tracker {
        &self.trackers[tracker.0]
    }
}

impl IndexMut<TrackerIndex> for Tiers {
    fn index_mut(&mut self, tracker: TrackerIndex) -> &mut Tracker {
        &mut self.trackers[tracker.0]
    }
}
