//! Slow peers hold no memory back from a fast one. Where no piece can be begun for want of memory, a peer that has nothing
//! to do for that reason is asked for what the slowest was asked for that is much slower; the slow one is told once it is
//! here, gives what is on its way as ever, and begins nothing for a while.
//!
//! Why so: memory for pieces is a rate times the time for which a piece is held. What a pipeline asks of a peer takes a second
//! or two of any peer, slow or fast, so that a few slow ones can hold all of it all the time while next to nothing comes. Taken
//! over, what they hold costs the fast one what it is worth to it, and each slow one gives one block in vain and what its line
//! already holds, once in [`GIVES_WAY_FOR`]; idle, it is missed for less than a quarter of what the fast one brings.
//! Where there is memory they are left alone: then each piece is somebody's own. (libtorrent, too, keeps peers of unlike speed
//! apart: slow ones join pieces that others of their kind began.) How a fast peer of another shard gets at it is `lending`'s.

use super::super::{PeerKey, Rule};
use super::TorrentShard;
use crate::layout::{Block, PieceIndex};
use crate::peer::{Arrival, Arriving, Peer};
use crate::time::{Duration, Instant};

/// So much slower is who is taken over from.
const SLOWER: u64 = 4;

/// For so long, whoever was taken over from is asked for nothing: else it would begin the next piece that there is memory for.
/// It is soon asked again where the fast one goes.
const GIVES_WAY_FOR: Duration = Duration::from_secs(5);

/// The same where it is not known yet how fast the other is, which then has what the slow one has not begun to give.
const GIVES_WAY_TO_NEW: Duration = Duration::from_secs(1);

impl TorrentShard {
    /// A block that a much slower peer was asked for, where this one has nothing to do for want of memory.
    pub(super) fn of_slow_peer(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let peer = self.peer(key).filter(|peer| peer.is_idle() && !peer.stalled && !peer.peer_choking)?;
        if self.picker.is_empty() || !self.memory_is_short() || !self.follows(Rule::TakeOver) {
            return None;
        }
        let speed = peer.speed(now, self.config.layout.block_len());
        let Some(slow) = self.slowest_holder(now, key, speed) else {
            self.borrow_for(now, key);
            return None;
        };
        self.take_over(now, slow, speed, |shard, piece| shard.can_take_over(now, key, piece));
        self.of_open_piece(now, key, usize::MAX, |_, _| true)
    }

    /// What is missing of the piece, for a peer of another shard that gives `speed`: so much slower peers hold it no longer.
    pub(super) fn free_from_slow(&mut self, now: Instant, piece: PieceIndex, speed: Option<u64>) {
        while let Some(slow) = self.slowest(now, speed, |held| held == piece) {
            self.take_over(now, slow, speed, |_, held| held == piece);
        }
    }

    /// Whether another peer here is much faster: it may be left to that one to help other shards.
    pub(super) fn is_outpaced(&self, now: Instant, key: PeerKey) -> bool {
        let block_len = self.config.layout.block_len();
        let Some(speed) = self.peer(key).and_then(|peer| peer.speed(now, block_len)) else { return false };
        self.peers().inspect(|_| crate::work::step()).any(|other| {
            let serves = other.am_interested && !other.peer_choking;
            serves && other.speed(now, block_len).is_some_and(|other| other / SLOWER > speed)
        })
    }

    fn can_take_over(&self, now: Instant, key: PeerKey, piece: PieceIndex) -> bool {
        let able = |peer: &Peer| self.may_give(peer, piece) && peer.is_good_for(piece, now);
        self.open.contains_key(&piece) && self.peer(key).is_some_and(able)
    }

    /// Of those who are to give something that the peer could, the slowest, if it is much slower than `speed`.
    fn slowest_holder(&self, now: Instant, key: PeerKey, speed: Option<u64>) -> Option<PeerKey> {
        self.slowest(now, speed, |piece| self.can_take_over(now, key, piece))
    }

    /// Of those who hold `such` a piece, the slowest, if it is much slower than that.
    fn slowest(&self, now: Instant, than: Option<u64>, such: impl Fn(PieceIndex) -> bool) -> Option<PeerKey> {
        let block_len = self.config.layout.block_len();
        let slow = |speed: &u64| than.is_none_or(|than| *speed < than / SLOWER);
        let speeds = self.peers().inspect(|_| crate::work::step()).filter_map(|other| {
            let speed = other.speed(now, block_len).filter(slow)?;
            held_by(other, than.is_some()).any(&such).then_some((speed, other.key))
        });
        speeds.min().map(|(_, key)| key)
    }

    /// What the peer was asked for is asked of others, and what is arriving of `such` a piece. What it gives all the same, in
    /// time, is taken.
    fn take_over(
        &mut self,
        now: Instant,
        slow: PeerKey,
        speed: Option<u64>,
        such: impl Fn(&Self, PieceIndex) -> bool,
    ) {
        self.mark_late(now, slow, true);
        let arriving = self.peer(slow).and_then(kept);
        if let Some(arriving) = arriving.filter(|at| speed.is_some() && such(self, at.block.piece())) {
            self.divert(slow, arriving);
        }
        if let Some(peer) = self.peer_mut(slow) {
            peer.gives_way_until = now + if speed.is_some() { GIVES_WAY_FOR } else { GIVES_WAY_TO_NEW };
        }
    }
}

/// The pieces of ours of which the peer was asked for a block, in time, or, `arriving`, is giving one.
fn held_by(peer: &Peer, arriving: bool) -> impl Iterator<Item = PieceIndex> + '_ {
    let asked = peer.asked.iter().filter(|asked| asked.is_counted()).map(|asked| asked.block);
    asked.chain(kept(peer).filter(|_| arriving).map(|arriving| arriving.block)).map(Block::piece)
}

/// The block that is arriving from the peer, if it goes into its piece.
fn kept(peer: &Peer) -> Option<Arriving> {
    peer.arriving.filter(|arriving| arriving.arrival == Arrival::Kept)
}
