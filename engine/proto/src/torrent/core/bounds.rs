//! The bounds of [`limits`](crate::limits) that a core keeps, recounted for tests after every step. Who keeps them is
//! elsewhere.

use super::TorrentCore;
use crate::limits::{HALF_OPEN, MAX_SLOTS, keep};
use crate::time::Instant;

impl TorrentCore {
    /// Holds what others made us keep, and how long we wait for them, against the bounds.
    ///
    /// # Panics
    /// With the name of a bound that is not kept.
    pub fn check_bounds(&self, now: Instant) {
        keep("HALF_OPEN", self.dialling.len(), HALF_OPEN);
        keep("MAX_SLOTS", self.choker.slot_count(), MAX_SLOTS);
        keep("RATE_SLOTS and OPTIMISTIC_SLOTS", super::slots::LEAST, self.choker.slot_count());
        self.list.check_bounds(now);
        if !self.members.is_empty() {
            self.rounds.check_bounds(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::choker::Choker;
    use crate::id::PeerId;
    use crate::limits::keep;
    use crate::rng::Rng;
    use crate::torrent::{CoreConfig, Policy, ShardId, SharedPieces};

    fn core() -> TorrentCore {
        let config = CoreConfig {
            our_id: PeerId([1; 20]),
            shards: 1,
            max_peers: 200,
            piece_len: 16_384,
            pieces: Arc::new(SharedPieces::free(1)),
            policy: Policy::default(),
            rng: Rng::new(1),
        };
        TorrentCore::new(Instant::ZERO, config)
    }

    #[test]
    fn what_is_kept_passes() {
        core().check_bounds(Instant::ZERO);
        keep("ITSELF", 3, 3);
    }

    #[test]
    #[should_panic(expected = "HALF_OPEN: 31, at most 30")]
    fn too_many_dials() {
        let mut core = core();
        for port in 0..=HALF_OPEN as u16 {
            core.dialling.insert(SocketAddr::from(([10, 0, 0, 1], port)), ShardId(0));
        }
        core.check_bounds(Instant::ZERO);
    }

    #[test]
    #[should_panic(expected = "MAX_SLOTS: 41, at most 40")]
    fn too_many_slots() {
        let mut core = core();
        core.choker = Choker::with_slots(MAX_SLOTS + 1, 1);
        core.check_bounds(Instant::ZERO);
    }

    #[test]
    #[should_panic(expected = "RATE_SLOTS and OPTIMISTIC_SLOTS: 5, at most 4")]
    fn too_few_slots() {
        let mut core = core();
        core.choker = Choker::with_slots(super::super::slots::LEAST - 1, 1);
        core.check_bounds(Instant::ZERO);
    }
}
