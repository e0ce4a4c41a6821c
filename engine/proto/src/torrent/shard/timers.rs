//! What happens because time passes: late blocks, snubbed and silent peers, batches of availability, pieces that
//! no peer of this shard can finish.

use super::super::PeerKey;
use super::super::message::{PartReason, ShardMessage};
use super::TorrentShard;
use crate::limits::{
    AVAILABILITY_BATCH, IDLE_TIMEOUT, KEEP_ALIVE, REQUEST_TIMEOUT, SNUB_AFTER, SNUB_PART_AFTER,
};
use crate::peer::{Arrival, Arriving, Asked};
use crate::time::{Duration, Instant};
use crate::wire::Message;

/// How often peers are looked over: a second is fine enough for every limit that is counted in seconds.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How long memory that others may have freed is waited for, when a piece could not be begun for want of it.
const STARVED_TICK: Duration = Duration::from_millis(20);

/// A peer that was asked and gave nothing for this long has stalled: others may be asked for what it holds back,
/// long before it counts as snubbed.
const STALL_AFTER: Duration = Duration::from_secs(3);

impl TorrentShard {
    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deltas_since.is_some_and(|since| now.since(since) >= AVAILABILITY_BATCH) {
            self.send_deltas();
        }
        if self.next_tick.is_some_and(|at| at <= now) {
            self.tick(now);
            self.next_tick = None;
        }
        self.settle(now);
    }

    /// Whether more is to be asked of the clock than the ordinary tick.
    pub(super) fn plan(&mut self, now: Instant) {
        if !self.deltas.is_empty() && self.deltas_since.is_none() {
            self.deltas_since = Some(now);
        }
        if self.starved {
            let soon = now + STARVED_TICK;
            self.next_tick = Some(self.next_tick.map_or(soon, |at| at.min(soon)));
        }
    }

    fn tick(&mut self, now: Instant) {
        let keys: Vec<PeerKey> = self.peers().map(|peer| peer.key).collect();
        for key in keys {
            self.look_over(now, key);
        }
        self.free_stuck_pieces(now);
        self.starved = false;
        self.stirred = true;
    }

    fn look_over(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        if now.since(peer.last_received) > IDLE_TIMEOUT {
            return self.part(now, key, PartReason::Idle);
        }
        let waits = !peer.asked.is_empty() || peer.arriving.is_some();
        let waited = now.since(peer.waiting_since);
        if waits && waited > SNUB_AFTER && !peer.snubbed {
            peer.snubbed = true;
            peer.pipeline.shrink();
        }
        if waits && waited > SNUB_AFTER + SNUB_PART_AFTER {
            return self.part(now, key, PartReason::Snubbed);
        }
        if now.since(peer.last_sent) >= KEEP_ALIVE {
            peer.last_sent = now;
            self.say(key, Message::KeepAlive);
        }
        self.mark_late(now, key, waits && waited > STALL_AFTER);
    }

    /// Requests that take too long are given to others to fetch; those of a stalled peer all at once.
    fn mark_late(&mut self, now: Instant, key: PeerKey, stalled: bool) {
        if stalled {
            self.redirect_arriving(key);
        }
        let Some(peer) = self.peer_mut(key) else { return };
        let late = |asked: &&mut Asked| !asked.late && (stalled || now.since(asked.at) > REQUEST_TIMEOUT);
        let found: Vec<Asked> = peer
            .asked
            .iter_mut()
            .filter(late)
            .map(|asked| {
                let before = *asked;
                asked.late = true;
                before
            })
            .collect();
        if found.is_empty() {
            return;
        }
        peer.dry = true;
        self.late += found.len() as u32;
        // Late ones are counted apart: what is taken back here are the counts they had before.
        found.into_iter().for_each(|asked| self.unask(asked));
    }

    /// A block that stopped in the middle is given to others; the rest of it, should it come, goes nowhere.
    fn redirect_arriving(&mut self, key: PeerKey) {
        let Some(arriving) = self.peer(key).and_then(|peer| peer.arriving) else { return };
        self.abandon(arriving);
        if let Some(peer) = self.peer_mut(key) {
            peer.arriving = Some(Arriving { arrival: Arrival::Scratch, ..arriving });
        }
    }

    fn send_deltas(&mut self) {
        self.deltas_since = None;
        let mut deltas = std::mem::take(&mut self.deltas);
        deltas.sort_unstable_by_key(|&(piece, _)| piece);
        deltas.dedup_by(|later, first| {
            let same = later.0 == first.0;
            first.1 += if same { later.1 } else { 0 };
            same
        });
        deltas.retain(|&(_, delta)| delta != 0);
        if !deltas.is_empty() {
            self.tell_others(&ShardMessage::Availability(deltas));
        }
    }
}
