//! The bounds of [`limits`](crate::limits) that a shard keeps, recounted for tests after every step. Who keeps them is
//! elsewhere.

use std::collections::BTreeMap;

use super::super::ShardId;
use super::TorrentShard;
use super::timers::TICK;
use crate::layout::{Block, PieceIndex};
use crate::limits::{
    ALLOWED_FAST, ALLOWED_FAST_BYTES, AVAILABILITY_BATCH, IDLE_TIMEOUT, INITIAL_REQUESTS, KEEP_ALIVE,
    MAX_COPIES, MAX_LENT_BLOCKS, MAX_OUTGOING_REQUESTS, MAX_PENDING_REPLIES, MAX_QUEUED_REQUESTS,
    MAX_REQUEST_LEN, MAX_SUGGESTIONS, REQUEST_TIMEOUT, SNUB_AFTER, SNUB_PART_AFTER, keep,
};
use crate::peer::Peer;
use crate::time::{Duration, Instant};

/// How late it may be noticed that time has passed, by looking over the peers.
const SLACK: Duration = Duration::from_secs(2 * TICK.as_secs());

/// How late what has a timer of its own may be: its thread may be busy.
const TIMER_SLACK: Duration = Duration::from_millis(5);

impl TorrentShard {
    /// Holds what others made us keep, and how long we wait for them, against the bounds.
    ///
    /// # Panics
    /// With the name of a bound that is not kept.
    pub fn check_bounds(&self, now: Instant) {
        for peer in self.peers() {
            self.check_bounds_of(peer);
            check_patience_with(peer, now);
        }
        self.check_lent_bound();
        self.check_copies_bound();
        self.suspicion.check_bounds();
        let waited = self.deltas_since.map_or(Duration::ZERO, |since| now.since(since));
        keep("AVAILABILITY_BATCH", waited, AVAILABILITY_BATCH + TIMER_SLACK);
    }

    fn check_bounds_of(&self, peer: &Peer) {
        let asked = peer.asked.len();
        keep("MAX_OUTGOING_REQUESTS", asked, MAX_OUTGOING_REQUESTS as usize);
        keep("reqq", asked, peer.pipeline.reqq().max(INITIAL_REQUESTS) as usize);
        keep("MAX_QUEUED_REQUESTS", peer.uploads.len(), MAX_QUEUED_REQUESTS);
        let longest = peer.uploads.iter().map(|span| span.len()).max().unwrap_or(0);
        keep("MAX_REQUEST_LEN", longest, MAX_REQUEST_LEN.max(self.config.layout.block_len()));
        keep("MAX_PENDING_REPLIES", peer.pending_rejects, MAX_PENDING_REPLIES);
        let allowed = peer.allowed_by_us.len() as u64 * u64::from(self.config.layout.nominal_piece_len());
        keep("ALLOWED_FAST_BYTES", allowed, ALLOWED_FAST_BYTES);
        keep("ALLOWED_FAST", peer.allowed_by_us.len(), ALLOWED_FAST);
        keep("ALLOWED_FAST to us", peer.allowed_to_us.len(), 4 * ALLOWED_FAST);
        keep("MAX_SUGGESTIONS", peer.advice.len(), MAX_SUGGESTIONS);
        keep("MAX_SUGGESTIONS by us", peer.courier.suggested(), MAX_SUGGESTIONS);
    }

    /// Of how many each block was asked in time, from what each was asked for: also where it arrives already, when it has no
    /// counter.
    fn check_copies_bound(&self) {
        let asked = self.peers().flat_map(|peer| &peer.asked).filter(|asked| !asked.late);
        let lent = self.lent.iter().flat_map(|(&block, shards)| shards.iter().map(move |_| block));
        let mut copies: BTreeMap<Block, usize> = BTreeMap::new();
        asked.map(|asked| asked.block).chain(lent).for_each(|block| *copies.entry(block).or_default() += 1);
        keep("MAX_COPIES", copies.into_values().max().unwrap_or(0), usize::from(MAX_COPIES));
    }

    /// What is lent, each time it is: not as [`lent_to`](Self::lent_to) counts.
    fn check_lent_bound(&self) {
        let mut lent: BTreeMap<(PieceIndex, ShardId), usize> = BTreeMap::new();
        for (block, shards) in &self.lent {
            assert!(self.open.contains_key(&block.piece()), "{block:?} is lent, and its piece is not open");
            shards.iter().for_each(|&shard| *lent.entry((block.piece(), shard)).or_default() += 1);
        }
        keep("MAX_LENT_BLOCKS", lent.into_values().max().unwrap_or(0), MAX_LENT_BLOCKS);
    }
}

fn check_patience_with(peer: &Peer, now: Instant) {
    keep("IDLE_TIMEOUT", now.since(peer.last_received), IDLE_TIMEOUT + SLACK);
    let silent = if peer.ready { Duration::ZERO } else { now.since(peer.last_sent) };
    keep("KEEP_ALIVE", silent, KEEP_ALIVE + SLACK);
    let in_time = peer.asked.iter().filter(|asked| !asked.late);
    let oldest = in_time.map(|asked| now.since(asked.at)).max().unwrap_or(Duration::ZERO);
    keep("REQUEST_TIMEOUT", oldest, REQUEST_TIMEOUT + SLACK);
    let waited = peer.waited_by(now);
    keep("SNUB_AFTER", if peer.snubbed { Duration::ZERO } else { waited }, SNUB_AFTER + SLACK);
    keep("SNUB_PART_AFTER", waited, SNUB_AFTER + SNUB_PART_AFTER + SLACK);
}
