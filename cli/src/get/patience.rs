//! `Patience`: when a download without peers is given up. Pure: the clock is an argument.
//!
//! The rule, which `get --help` states: nobody connected and nothing arriving for 30 seconds once every tracker has
//! failed (or there is none), or for five minutes while a tracker answers or may still answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long to wait when there is nobody left to ask.
const WITHOUT_HOPE: Duration = Duration::from_secs(30);
/// How long to wait while a tracker may name somebody.
const WITH_HOPE: Duration = Duration::from_secs(300);

/// How long one torrent has been alone.
pub(super) struct Patience {
    trackers: usize,
    /// Those that failed last time.
    failed: BTreeSet<String>,
    /// When there last was a sign of life.
    alive: Instant,
    downloaded: u64,
}

impl Patience {
    /// For a torrent of so many trackers.
    pub(super) fn new(now: Instant, trackers: usize) -> Self {
        Self { trackers, failed: BTreeSet::new(), alive: now, downloaded: 0 }
    }

    pub(super) fn tracker_failed(&mut self, url: &str) {
        self.failed.insert(url.to_owned());
    }

    pub(super) fn tracker_answered(&mut self, url: &str) {
        self.failed.remove(url);
    }

    /// Looks at the torrent; true when it is time to give up. `busy`: something is done that needs no peers.
    pub(super) fn is_over(&mut self, now: Instant, peers: usize, downloaded: u64, busy: bool) -> bool {
        if peers > 0 || busy || downloaded > self.downloaded {
            (self.alive, self.downloaded) = (now, downloaded);
        }
        let limit = if self.failed.len() < self.trackers { WITH_HOPE } else { WITHOUT_HOPE };
        now.saturating_duration_since(self.alive) >= limit
    }

    /// How things stand, for the message.
    pub(super) fn why(&self) -> String {
        match (self.trackers, self.failed.len()) {
            (0, _) => "it names no tracker".to_owned(),
            (1, 1) => "its tracker failed".to_owned(),
            (all, failed) if all == failed => format!("all {all} trackers failed"),
            _ => "its trackers know nobody who answers".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_to_ask_is_over_soon() {
        let start = Instant::now();
        let mut alone = Patience::new(start, 0);
        assert!(!alone.is_over(start + seconds(29), 0, 0, false));
        assert!(alone.is_over(start + seconds(30), 0, 0, false));
        let mut failed = Patience::new(start, 2);
        failed.tracker_failed("a");
        failed.tracker_failed("a");
        assert!(!failed.is_over(start + seconds(30), 0, 0, false), "the other tracker may answer");
        failed.tracker_failed("b");
        assert!(failed.is_over(start + seconds(30), 0, 0, false));
        assert_eq!(failed.why(), "all 2 trackers failed");
    }

    #[test]
    fn a_tracker_that_answers_gives_hope_for_a_while() {
        let start = Instant::now();
        let mut patience = Patience::new(start, 1);
        patience.tracker_failed("a");
        patience.tracker_answered("a");
        assert!(!patience.is_over(start + seconds(299), 0, 0, false));
        assert!(patience.is_over(start + seconds(300), 0, 0, false));
    }

    #[test]
    fn signs_of_life_start_it_anew() {
        let start = Instant::now();
        let mut patience = Patience::new(start, 0);
        assert!(!patience.is_over(start + seconds(100), 1, 0, false), "a peer");
        assert!(!patience.is_over(start + seconds(125), 0, 5, false), "bytes that came");
        assert!(!patience.is_over(start + seconds(154), 0, 5, false));
        assert!(!patience.is_over(start + seconds(160), 0, 5, true), "looking at what is on disk");
        assert!(patience.is_over(start + seconds(190), 0, 5, false));
    }
}
