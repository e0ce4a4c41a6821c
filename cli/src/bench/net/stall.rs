//! `Stall`: notices when no more data comes, at either end: a client that only says that it is still there does not hold
//! a server for ever.

use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure};

/// How long nothing may come before the test is given up.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Notices when no more data comes. The clock is an argument of what decides.
pub(super) struct Stall {
    bytes: u64,
    since: Instant,
}

impl Stall {
    pub(super) fn new() -> Self {
        Self { bytes: 0, since: Instant::now() }
    }

    /// To be called all the time, with all bytes that moved so far. An error where there were none for too long.
    pub(super) fn check(&mut self, bytes: u64) -> Result<(), Failure> {
        if !self.is_over(Instant::now(), bytes) {
            return Ok(());
        }
        let message =
            format!("no data for {} s: the way between the hosts is broken", STALLED_AFTER.as_secs());
        Err(Failure::new(Exit::NoPeers, message))
    }

    fn is_over(&mut self, now: Instant, bytes: u64) -> bool {
        if bytes != self.bytes {
            *self = Self { bytes, since: now };
        }
        now.saturating_duration_since(self.since) >= STALLED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_comes_starts_it_anew() {
        let mut stall = Stall::new();
        let start = stall.since;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!stall.is_over(at(29), 0) && !stall.is_over(at(29), 1) && !stall.is_over(at(58), 1));
        assert!(stall.is_over(at(59), 1));
        assert!(Stall { bytes: 0, since: start }.is_over(at(30), 0), "none ever came");
    }
}
