//! What happens because time passes: late blocks, snubbed and silent peers, batches of availability, pieces that
//! no peer of this shard can finish.

use super::super::message::{PartReason, ShardMessage};
use super::super::{PeerKey, Rule};
use super::TorrentShard;
use crate::limits::{
    AVAILABILITY_BATCH, IDLE_TIMEOUT, KEEP_ALIVE, REQUEST_TIMEOUT, SNUB_AFTER, SNUB_PART_AFTER,
};
use crate::peer::{Arrival, Arriving, Asked, Supply};
use crate::time::{Duration, Instant};
use crate::wire::Message;

/// How often peers are looked over: a second is fine enough for every limit that is counted in seconds.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How long memory that others may have freed is waited for, when a piece could not be begun for want of it. Twice as long
/// each time that it is in vain, up to
pub(super) const STARVED_RETRY: Duration = Duration::from_millis(20);

/// so long: shards that wait for one slow peer, for hours, are not all awake. Other shards of the torrent say when they
/// have written something, so that this is for what other torrents free.
const STARVED_AT_LAST: Duration = Duration::from_millis(200);

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
        if self.haves_at.is_some_and(|at| at <= now) {
            self.announce_haves();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            (self.retry_at, self.stirred) = (None, true);
        }
        self.resume_paced(now);
        self.settle(now);
    }

    /// What is to be asked of the clock beside the ordinary tick.
    pub(super) fn plan(&mut self, now: Instant) {
        let news = !self.deltas.is_empty() || self.rack.as_ref().is_some_and(|rack| rack.has_news());
        if news && self.deltas_since.is_none() {
            self.deltas_since = Some(now);
        }
        if std::mem::take(&mut self.starved) && self.retry_at.is_none() {
            self.retry_at = Some(now + self.retry_after);
            self.retry_after = (self.retry_after * 2).min(STARVED_AT_LAST);
        }
    }

    /// A piece was begun: where memory is short again, it may be so for a moment.
    pub(super) const fn note_begun(&mut self) {
        self.retry_after = STARVED_RETRY;
    }

    /// Another shard may have freed memory.
    pub(super) fn note_freed(&mut self) {
        self.stirred |= self.retry_at.take().is_some();
    }

    fn tick(&mut self, now: Instant) {
        let keys: Vec<PeerKey> = self.peers().map(|peer| peer.key).collect();
        for key in keys {
            self.look_over(now, key);
        }
        self.give_back_idle(now);
        self.look_over_revealed(now);
        self.look_over_given(now);
        self.renew_suggestions(now);
        self.free_stuck_pieces(now);
        self.look_at_rack(now);
        self.stirred = true;
    }

    fn look_over(&mut self, now: Instant, key: PeerKey) {
        let minds = self.follows(Rule::AntiSnubbing);
        let Some(peer) = self.peer_mut(key) else { return };
        if now.since(peer.last_received) > IDLE_TIMEOUT {
            return self.part(now, key, PartReason::Idle);
        }
        peer.rest();
        let waits = peer.count_waiting(now);
        if peer.waited > SNUB_AFTER && !peer.snubbed {
            peer.snubbed = true;
            if minds {
                peer.pipeline.shrink();
            }
        }
        if peer.waited > SNUB_AFTER + SNUB_PART_AFTER {
            return self.part(now, key, PartReason::Snubbed);
        }
        let silent_since = peer.waiting_since.max(peer.progressed_at);
        let stalled = minds && waits && now.since(silent_since) > STALL_AFTER;
        peer.stalled |= stalled;
        if now.since(peer.last_sent) >= KEEP_ALIVE {
            peer.last_sent = now;
            self.say(key, Message::KeepAlive);
        }
        self.redirect_arriving(now, key);
        self.mark_late(key, |asked| stalled || now.since(asked.at) > REQUEST_TIMEOUT);
        if stalled {
            self.end_giving_way(now, key);
        }
    }

    /// Such requests are given to others to fetch: those that take too long, those of a stalled peer all at once, or those
    /// that a faster one takes over. They stand first from then on.
    pub(super) fn mark_late(&mut self, key: PeerKey, such: impl Fn(&Asked) -> bool) {
        let Some(peer) = self.peer_mut(key) else { return };
        let found: Vec<Asked> = peer
            .asked
            .iter_mut()
            .filter(|asked| !asked.late && such(asked))
            .map(|asked| {
                let before = *asked;
                asked.late = true;
                before
            })
            .collect();
        if found.is_empty() {
            return;
        }
        peer.asked.make_contiguous().sort_by_key(|asked| !asked.late);
        peer.supply = Supply::Dry;
        self.late += found.len() as u32;
        self.stirred = true;
        found.iter().for_each(|asked| self.copies.note(asked.block, key));
        // Late ones are counted apart: what is taken back here are the counts they had before.
        found.into_iter().for_each(|asked| self.uncount(key, asked));
    }

    /// A block that stopped in the middle is given to others; the rest of it, should it come, goes nowhere. Where
    /// nobody else here could give it there is no hurry: a peer that sends in bursts would never finish one.
    fn redirect_arriving(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer(key) else { return };
        let Some(arriving) = peer.arriving.filter(|arriving| arriving.arrival != Arrival::Scratch) else {
            return;
        };
        let piece = arriving.block.piece();
        let (silent, taken) = (now.since(peer.progressed_at), now.since(arriving.began_at));
        let others = || self.peers().any(|other| other.key != key && other.is_good_for(piece, now));
        let too_slow = (silent > STALL_AFTER || taken > SNUB_AFTER) && others();
        if !too_slow && silent <= REQUEST_TIMEOUT {
            return;
        }
        self.divert(key, arriving);
    }

    /// The block that is arriving is asked of others, and the rest of it goes nowhere.
    pub(super) fn divert(&mut self, key: PeerKey, arriving: Arriving) {
        self.abandon(key, arriving);
        if let Some(peer) = self.peer_mut(key) {
            peer.arriving = Some(Arriving { arrival: Arrival::Scratch, ..arriving });
        }
    }

    fn send_deltas(&mut self) {
        self.deltas_since = None;
        self.send_near();
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
