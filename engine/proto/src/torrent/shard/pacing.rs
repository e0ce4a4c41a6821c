//! Rate limits: which peers wait for their torrent's turn, and who goes first when it comes. How much may go is the
//! [`Allowance`]'s to say.
//!
//! Blocks are what is limited. Up, a block is not handed out before its turn; down, it is not asked for before: what is
//! asked for comes, so that the rate of requests is that of blocks, and nothing has to be refused that is on its way.
//! Other messages always go.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::super::PeerKey;
use super::TorrentShard;
use crate::limiter::{Allowance, RateLimit};
use crate::time::Instant;

/// One direction of a limited torrent.
#[derive(Debug, Default)]
pub(super) struct Paced {
    allowance: Allowance,
    /// Peers that have something to move and may not yet.
    waiting: BTreeSet<PeerKey>,
    /// When they may.
    at: Option<Instant>,
    /// Who moved something last: the one after it is the first next time.
    last: Option<PeerKey>,
}

impl Paced {
    /// Whether so many bytes may go to or from the peer. Where not, it is among those that are woken later.
    pub(super) fn take(&mut self, now: Instant, key: PeerKey, bytes: u32) -> bool {
        if self.at.is_some() {
            // Whoever comes by while others wait for their turn waits, too.
            self.waiting.insert(key);
            return false;
        }
        match self.allowance.take(now, u64::from(bytes)) {
            Ok(()) => {
                self.last = Some(key);
                true
            }
            Err(at) => {
                self.at = Some(at);
                self.waiting.insert(key);
                false
            }
        }
    }

    /// What was taken does not go: it was rejected, or never left. What was asked for in vain otherwise is not given back: a
    /// late block may come all the same, and of what a peer owed that went an [`Allowance`] would keep no more than a turn,
    /// as nothing that was saved up may go on top of what comes later.
    pub(super) fn give_back(&mut self, bytes: u32) {
        self.allowance.give_back(u64::from(bytes));
    }

    /// When to look again.
    pub(super) const fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Those who waited, in turn, if their time has come.
    fn due(&mut self, now: Instant) -> Vec<PeerKey> {
        if self.at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.at = None;
        let waiting = std::mem::take(&mut self.waiting);
        let Some(last) = self.last else { return waiting.into_iter().collect() };
        let behind = waiting.range((Bound::Excluded(last), Bound::Unbounded));
        behind.chain(waiting.range(..=last)).copied().collect()
    }
}

impl TorrentShard {
    /// Obeys these limits from now on: blocks given, and blocks asked for.
    pub fn set_limits(&mut self, up: Vec<Arc<RateLimit>>, down: Vec<Arc<RateLimit>>) {
        self.pacing_up = Paced { allowance: Allowance::new(up), ..Paced::default() };
        self.pacing_down = Paced { allowance: Allowance::new(down), ..Paced::default() };
    }

    /// Lets those go on that waited for their turn.
    pub(super) fn resume_paced(&mut self, now: Instant) {
        for key in self.pacing_up.due(now) {
            self.make_ready(key);
        }
        for key in self.pacing_down.due(now) {
            self.fill(now, key.slot());
        }
    }
}
