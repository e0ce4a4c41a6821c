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
use crate::limits::INITIAL_REQUESTS;
use crate::peer::{Arrival, Arriving, Asked, Peer, coarsened};
use crate::time::{Duration, Instant};

/// So much slower is who is taken over from.
const SLOWER: u64 = 4;

/// For so long, whoever was taken over from is asked for nothing: else it would begin the next piece that there is memory for.
/// It is soon asked again where the fast one goes.
const GIVES_WAY_FOR: Duration = Duration::from_secs(5);

impl TorrentShard {
    /// A block that a much slower peer was asked for, where this one has nothing to do for want of memory.
    pub(super) fn of_slow_peer(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let idle = |peer: &&Peer| peer.is_idle() && !peer.stalled && !peer.peer_choking;
        let peer = self.peer(key).filter(idle)?;
        if self.picker.is_empty() || !self.takes_over() {
            return None;
        }
        let (speed, owes) = (peer.speed(now, self.config.layout.block_len()), peer.owes_block);
        let slow = if owes { None } else { self.slowest_holder(now, key, speed) };
        let Some(slow) = slow else {
            self.borrow_for(now, key);
            return None;
        };
        let could = |shard: &Self, piece| shard.can_take_over(now, key, piece);
        self.take_over(now, slow, Taker { key: Some(key), speed }, could);
        if let Some(peer) = self.peer_mut(key) {
            peer.owes_block = true;
        }
        self.of_open_piece(now, key, usize::MAX, |_, _| true)
    }

    /// What is missing of the piece, for a peer of another shard that gives `speed`: so much slower peers hold it no longer.
    pub(super) fn free_from_slow(&mut self, now: Instant, piece: PieceIndex, speed: Option<u64>) {
        let anybody = self.open.get(&piece).is_some_and(|open| open.sole_giver.is_none());
        while let Some(slow) = self.slowest(now, speed, |held| held == piece) {
            if !anybody || !self.takes_over() {
                return;
            }
            self.take_over(now, slow, Taker { key: None, speed }, |_, held| held == piece);
            if speed.is_none() {
                return;
            }
        }
    }

    fn takes_over(&self) -> bool {
        self.memory_is_short() && self.follows(Rule::TakeOver)
    }

    /// Whether another peer here is much faster and could be asked for the piece: it is left to that one to help other shards.
    pub(super) fn is_outpaced(&self, now: Instant, key: PeerKey, piece: PieceIndex) -> bool {
        let block_len = self.config.layout.block_len();
        let Some(speed) = self.peer(key).and_then(|peer| peer.speed(now, block_len)) else { return false };
        self.peers().inspect(|_| crate::work::step()).any(|other| {
            let able =
                || other.may_be_asked(now) && other.is_good_for(piece, now) && self.may_cross(other, piece);
            other.speed(now, block_len).is_some_and(|other| other / SLOWER > speed) && able()
        })
    }

    /// Who gave way to this peer need not any longer.
    pub(super) fn end_giving_way(&mut self, now: Instant, to: PeerKey) {
        let mut any = false;
        for peer in self.peers_mut().filter(|peer| peer.gives_way_to == Some(to)) {
            (peer.gives_way_to, peer.gives_way_until, any) = (None, now, true);
        }
        self.stirred |= any;
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

    /// What the peer was asked for of `such` pieces is asked of others, and what is arriving of them. What it gives all the
    /// same, in time, is taken. Of a taker of which it is not known how fast it is, it is tried with a few blocks, those that
    /// would come last; nobody gives way to it.
    fn take_over(
        &mut self,
        now: Instant,
        slow: PeerKey,
        taker: Taker,
        such: impl Fn(&Self, PieceIndex) -> bool,
    ) {
        let Some(peer) = self.peer(slow) else { return };
        let block_len = self.config.layout.block_len();
        let most = taker.speed.map_or(coarsened(INITIAL_REQUESTS, block_len) as usize, |_| usize::MAX);
        let able = |asked: &&Asked| asked.is_counted() && such(self, asked.block.piece());
        let blocks: Vec<Block> =
            { peer.asked.iter().rev() }.filter(able).map(|asked| asked.block).take(most).collect();
        let measured = peer.pipeline.speed();
        let arriving = kept(peer).filter(|at| taker.speed.is_some() && such(self, at.block.piece()));
        self.mark_late(slow, |asked| blocks.contains(&asked.block));
        if let Some(arriving) = arriving {
            self.divert(slow, arriving);
        }
        // Of one that paused for a moment more will come, and what it alone can give is to go on.
        let much_slower = taker.speed.is_some_and(|speed| measured > 0 && measured < speed / SLOWER);
        if let Some(peer) =
            self.peer_mut(slow).filter(|peer| much_slower && held_by(peer, true).next().is_none())
        {
            (peer.gives_way_until, peer.gives_way_to) = (now + GIVES_WAY_FOR, taker.key);
        }
    }
}

/// Who takes over.
#[derive(Clone, Copy, Debug)]
struct Taker {
    /// Which peer, if it is one of ours.
    key: Option<PeerKey>,
    /// Bytes a second, where that is known.
    speed: Option<u64>,
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
