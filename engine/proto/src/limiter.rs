//! Limits on rates: so many bytes a second for all who share one. A [`RateLimit`] is a queue that bytes stand in: who wants
//! to move some is told when it is their turn, and turns come in the order of asking, so that nobody starves, whatever
//! the number of threads, torrents and peers. An [`Allowance`] is the place of one of them in all the queues that concern
//! it.
//!
//! Counts in integers and reads no clock. What an idle queue saves up is bounded by [`RATE_BURST`], and what an idle user
//! keeps by what it asked for last: over ten seconds a limit is exceeded by half a percent and a block for each user.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
use std::num::NonZeroU64;
use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{BLOCK_LEN, RATE_BURST};
use crate::time::{Duration, Instant};

/// A user of a limit stands in the queue for what the limit carries in this time, or for what it needs at once: seldom
/// enough that a fast one costs nothing, often enough that all get their share.
const TURN: Duration = Duration::from_millis(10);

/// The most bytes of one turn, however fast the limit.
const MOST_OF_A_TURN: u64 = 1 << 20;

/// Bytes a second that several share, across threads.
#[derive(Debug)]
pub struct RateLimit {
    per_second: NonZeroU64,
    /// When all bytes that stand in the queue will have gone, in nanoseconds.
    free_at: AtomicU64,
}

impl RateLimit {
    /// A limit under which nothing has gone yet.
    pub fn new(per_second: NonZeroU64) -> Self {
        Self { per_second, free_at: AtomicU64::new(0) }
    }

    /// Bytes a second.
    pub const fn per_second(&self) -> u64 {
        self.per_second.get()
    }

    /// Puts so many bytes in the queue. They may go then, which may be now.
    fn reserve(&self, now: Instant, bytes: u64) -> Instant {
        let oldest = now.nanos().saturating_sub(RATE_BURST.as_nanos() as u64);
        let span = u128::from(bytes) * 1_000_000_000 / u128::from(self.per_second.get());
        let span = u64::try_from(span).unwrap_or(u64::MAX);
        let mut free_at = self.free_at.load(Ordering::Relaxed);
        loop {
            let start = free_at.max(oldest);
            // Nothing is published by this: bytes are only counted.
            let (new, order) = (start.saturating_add(span), Ordering::Relaxed);
            match self.free_at.compare_exchange_weak(free_at, new, order, order) {
                Ok(_) => return Instant::from_nanos(start).max(now),
                Err(found) => free_at = found,
            }
        }
    }

    fn turn(&self) -> u64 {
        let carried = u128::from(self.per_second.get()) * TURN.as_nanos() / 1_000_000_000;
        u64::try_from(carried).unwrap_or(u64::MAX).min(MOST_OF_A_TURN)
    }
}

/// What one user of some limits may move.
#[derive(Debug, Default)]
pub struct Allowance {
    limits: Vec<Arc<RateLimit>>,
    /// Bytes whose turn has come, and when.
    left: u64,
    left_since: Instant,
    /// Bytes to stand in line for, as long as turns are used up as fast as they come.
    step: u64,
    /// Bytes whose turn is to come, and when.
    next: Option<(Instant, u64)>,
}

impl Allowance {
    /// Of somebody who obeys all of these.
    pub const fn new(limits: Vec<Arc<RateLimit>>) -> Self {
        Self { limits, left: 0, left_since: Instant::ZERO, step: 0, next: None }
    }

    /// Whether it is bounded at all.
    pub fn is_limited(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Takes so many bytes.
    ///
    /// # Errors
    /// They may not go yet; when to ask again.
    pub fn take(&mut self, now: Instant, bytes: u64) -> Result<(), Instant> {
        if self.limits.is_empty() {
            return Ok(());
        }
        if self.next.is_none() && now.since(self.left_since) > RATE_BURST {
            // Saved up while nothing was to be moved.
            (self.left, self.step) = (0, 0);
        }
        while self.left < bytes {
            match self.next {
                Some((at, _)) if at > now => return Err(at),
                Some((at, more)) => self.come_up(now, at, more, bytes - self.left),
                None => self.stand_in_line(now, bytes - self.left),
            }
        }
        self.left -= bytes;
        Ok(())
    }

    /// A turn has come. One that was not taken when it came is worth no more than what is needed now.
    fn come_up(&mut self, now: Instant, at: Instant, bytes: u64, needed: u64) {
        let missed = now.since(at) > RATE_BURST;
        self.left += if missed { bytes.min(needed) } else { bytes };
        self.step = if missed { 0 } else { bytes };
        (self.left_since, self.next) = (now, None);
    }

    /// Gives back what was taken and is not moved.
    pub fn give_back(&mut self, bytes: u64) {
        if self.is_limited() {
            self.left = self.left.saturating_add(bytes).min(self.turn().max(bytes));
        }
    }

    fn turn(&self) -> u64 {
        let turn = self.limits.iter().map(|limit| limit.turn()).min().unwrap_or(0);
        turn - turn % u64::from(BLOCK_LEN)
    }

    /// For what is needed at first, for more as long as that is used up: a user that moves little keeps nobody waiting.
    fn stand_in_line(&mut self, now: Instant, needed: u64) {
        let bytes = needed.max((2 * self.step).min(self.turn()));
        let at = self.limits.iter().map(|limit| limit.reserve(now, bytes)).max();
        self.next = at.map(|at| (at, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = BLOCK_LEN as u64;

    fn limit(per_second: u64) -> Arc<RateLimit> {
        Arc::new(RateLimit::new(NonZeroU64::new(per_second).unwrap()))
    }

    /// Everybody takes blocks as fast as they may for so long. What each got.
    fn race(users: &mut [Allowance], seconds: u64) -> Vec<u64> {
        let mut got = vec![0; users.len()];
        let mut at = vec![Instant::ZERO; users.len()];
        let end = Instant::ZERO + Duration::from_secs(seconds);
        loop {
            let next = (0..users.len()).min_by_key(|&user| at[user]).unwrap();
            if at[next] >= end {
                return got;
            }
            match users[next].take(at[next], BLOCK) {
                Ok(()) => got[next] += BLOCK,
                Err(later) => at[next] = later,
            }
        }
    }

    #[test]
    fn without_a_limit_everything_goes() {
        let mut free = Allowance::default();
        assert!(!free.is_limited());
        assert_eq!(free.take(Instant::ZERO, u64::MAX), Ok(()));
    }

    #[test]
    fn a_limit_is_kept_to_within_a_hundredth() {
        for rate in [50_000, 1_000_000, 125_000_000, 10_000_000_000] {
            let got = race(&mut [Allowance::new(vec![limit(rate)])], 10)[0];
            let exact = 10 * rate;
            let most = exact + exact / 100 + 2 * BLOCK;
            assert!(got <= most && got + 2 * BLOCK >= exact - exact / 100, "{rate}: {got}");
        }
    }

    #[test]
    fn all_who_share_a_limit_get_the_same() {
        let shared = limit(1_000_000);
        let mut users: Vec<_> = (0..7).map(|_| Allowance::new(vec![Arc::clone(&shared)])).collect();
        let got = race(&mut users, 20);
        let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
        assert!(most - least <= 2 * BLOCK, "{got:?}");
    }

    #[test]
    fn the_tighter_of_two_limits_holds_and_leaves_the_rest_to_others() {
        let (all, one) = (limit(1_000_000), limit(100_000));
        let mut users = [Allowance::new(vec![Arc::clone(&all), one]), Allowance::new(vec![all])];
        let got = race(&mut users, 20);
        assert!(
            (1_950_000..2_050_000).contains(&got[0]) && (17_000_000..18_300_000).contains(&got[1]),
            "{got:?}"
        );
    }

    #[test]
    fn an_idle_limit_saves_little_up() {
        let mut user = Allowance::new(vec![limit(1_000_000)]);
        let late = Instant::ZERO + Duration::from_secs(1_000);
        let mut at_once = 0;
        while user.take(late, BLOCK).is_ok() {
            at_once += BLOCK;
        }
        assert!(at_once <= 1_000_000 * RATE_BURST.as_millis() as u64 / 1_000 + 2 * BLOCK, "{at_once}");
    }

    #[test]
    fn a_slow_limit_lets_everything_through_whatever_its_size() {
        let mut user = Allowance::new(vec![limit(1_024)]);
        let (mut now, mut gone) = (Instant::ZERO, 0);
        for bytes in [12, 16, 3, 16, 1, 9].map(|kib| kib * 1_024) {
            while let Err(at) = user.take(now, bytes) {
                assert!(at > now);
                now = at;
            }
            gone += bytes;
        }
        // The last ones go when their turn begins.
        let exact = gone / 1_024 - 9;
        assert!((exact - 1..=exact + 1).contains(&now.since(Instant::ZERO).as_secs()), "{now:?}");
    }

    #[test]
    fn many_who_move_little_keep_nobody_waiting() {
        let shared = limit(125_000_000);
        let mut users: Vec<_> = (0..1_600).map(|_| Allowance::new(vec![Arc::clone(&shared)])).collect();
        let begun = Instant::ZERO + Duration::from_secs(1);
        let turns = users.iter_mut().map(|user| user.take(begun, BLOCK).err().unwrap_or(begun));
        let last = turns.max().unwrap();
        assert!(last.since(begun) <= Duration::from_millis(1_600 * BLOCK / 125_000), "{last:?}");
    }

    #[test]
    fn many_that_were_idle_save_little_up() {
        let shared = limit(125_000_000);
        let mut users: Vec<_> = (0..160).map(|_| Allowance::new(vec![Arc::clone(&shared)])).collect();
        race(&mut users, 5);
        let later = Instant::ZERO + Duration::from_secs(60);
        let mut at_once = 0;
        for user in &mut users {
            while user.take(later, BLOCK).is_ok() {
                at_once += BLOCK;
            }
        }
        let burst = 125_000_000 * RATE_BURST.as_millis() as u64 / 1_000;
        assert!(at_once <= burst + MOST_OF_A_TURN + 2 * 160 * BLOCK, "{at_once}");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut user = Allowance::new(vec![limit(BLOCK)]);
        let now = Instant::ZERO + Duration::from_secs(5);
        user.take(now, 50).expect("its turn");
        user.give_back(50);
        assert_eq!(user.take(now, 50), Ok(()));
    }

    proptest! {
        /// Whoever asks whenever for however much: no more goes in any time than the limit and its burst allow.
        #[test]
        fn no_more_goes_than_the_limit_allows(
            rate in 1_000u64..100_000_000,
            asks in prop::collection::vec((0u64..300_000_000, 1u64..100_000), 1..200),
        ) {
            let mut user = Allowance::new(vec![limit(rate)]);
            let (mut now, mut gone) = (0, 0u128);
            for (wait, bytes) in asks {
                now += wait;
                if user.take(Instant::from_nanos(now), bytes).is_ok() {
                    gone += u128::from(bytes);
                }
                let allowed = u128::from(rate) * (u128::from(now) + RATE_BURST.as_nanos()) / 1_000_000_000;
                prop_assert!(gone <= allowed + u128::from(MOST_OF_A_TURN), "{gone} of {allowed}");
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn two_never_get_the_same_turn() {
        loom::model(|| {
            let limit = loom::sync::Arc::new(RateLimit::new(NonZeroU64::new(1_000_000_000).unwrap()));
            let now = Instant::from_nanos(RATE_BURST.as_nanos() as u64);
            let other = {
                let limit = loom::sync::Arc::clone(&limit);
                loom::thread::spawn(move || limit.reserve(now, RATE_BURST.as_nanos() as u64 + 7))
            };
            let ours = limit.reserve(now, RATE_BURST.as_nanos() as u64 + 7);
            let theirs = other.join().unwrap();
            assert_eq!(ours.max(theirs).since(ours.min(theirs)), Duration::from_nanos(7));
        });
    }
}
