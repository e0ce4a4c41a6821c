//! Pieces that no peer of this shard can finish, so that a claim is never a trap: another giver begins anew, another
//! shard takes the piece over, or its memory goes to others.

use super::super::message::{ShardAction, ShardMessage};
use super::super::{PeerKey, ShardId};
use super::TorrentShard;
use crate::layout::{Block, PieceIndex};
use crate::limits::SNUB_AFTER;
use crate::peer::Peer;
use crate::picker::OpenPiece;
use crate::time::{Duration, Instant};

/// A piece that no peer of ours can go on with is offered to the other shards after this long.
const OFFER_AFTER: Duration = Duration::from_secs(1);

/// How often that time doubles as the piece moves on: up to a minute.
const MOST_DOUBLINGS: u32 = 6;

/// A piece that nobody can go on with, while memory is wanted for others, is given up after this long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

impl TorrentShard {
    /// Pieces of which blocks are missing that no peer here can be counted on for: offered to the other shards, and
    /// given up where nobody takes them and their memory is wanted.
    pub(super) fn free_stuck_pieces(&mut self, now: Instant) {
        let stuck: Vec<PieceIndex> = self.partial.iter().filter(|&piece| self.is_stuck(now, piece)).collect();
        for piece in stuck {
            let Some(open) = self.open.get(&piece) else { continue };
            let waited = now.since(open.progressed_at);
            let replaced = open.sole_giver.is_some_and(|sole| self.replace_sole_giver(now, piece, sole));
            if replaced {
                continue;
            } else if waited > self.patience_with(piece) && self.memory_is_short() {
                self.give_up(piece);
            } else {
                self.tell_others(&ShardMessage::Offer(piece));
            }
        }
    }

    /// The sole giver holds the piece up: another begins anew, where there is one. One that is merely slow, and has
    /// no equal here, keeps it for now: else what it gives would be thrown away again and again.
    fn replace_sole_giver(&mut self, now: Instant, piece: PieceIndex, sole: PeerKey) -> bool {
        let serves = self.peer(sole).is_some_and(|peer| peer.serves(piece));
        let good = |peer: &Peer| peer.is_good_for(piece, now) && self.may_cross(peer, piece);
        let better = self.peers().any(|peer| peer.key != sole && good(peer));
        if better || !serves {
            self.restart(now, piece);
        }
        better || !serves
    }

    /// How long a piece may keep its memory from others: what is late may still come from those who serve it.
    fn patience_with(&self, piece: PieceIndex) -> Duration {
        if self.peers().any(|peer| peer.serves(piece)) { SNUB_AFTER } else { GIVE_UP_AFTER }
    }

    /// Whether no piece can be begun anywhere for want of memory.
    pub(super) fn memory_is_short(&self) -> bool {
        let budget = &self.config.budget;
        budget.used() + u64::from(self.config.layout.nominal_piece_len()) > budget.limit()
    }

    fn is_stuck(&self, now: Instant, piece: PieceIndex) -> bool {
        let Some(open) = self.open.get(&piece) else { return false };
        let may_give = |peer: &Peer| open.sole_giver.is_none_or(|sole| sole == peer.key);
        let good =
            |peer: &Peer| may_give(peer) && peer.is_good_for(piece, now) && self.may_cross(peer, piece);
        let gone = open.sole_giver.is_some_and(|sole| !self.is_connected(sole));
        let doublings = if gone { 0 } else { open.moves.min(MOST_DOUBLINGS) };
        let patience = OFFER_AFTER * (1 << doublings);
        let waited = now.since(open.progressed_at) >= patience;
        waited && !open.is_arriving() && !self.peers().any(good)
    }

    /// The one peer that was to give all of the piece cannot: another begins anew.
    fn restart(&mut self, now: Instant, piece: PieceIndex) {
        self.act(ShardAction::Drop(piece));
        let moves = self.open.get(&piece).map_or(0, |open| open.moves + 1);
        let mut open = OpenPiece::new(now, piece, &self.config.layout);
        open.moves = moves;
        self.open.insert(piece, open);
        self.disown(piece);
        self.find_sole_giver(now, piece);
    }

    /// Requests for the piece are no longer counted: should the blocks come, they are strays.
    pub(super) fn disown(&mut self, piece: PieceIndex) {
        for slot in 0..self.slots.len() {
            let Some(peer) = self.slots[slot].peer.as_deref() else { continue };
            let (key, asked) = (peer.key, peer.asked.iter().map(|asked| asked.block));
            let blocks: Vec<Block> = asked.filter(|block| block.piece() == piece).collect();
            blocks.into_iter().for_each(|block| self.cancel(key, block));
        }
        self.copies.forget(piece);
    }

    pub(super) fn on_offer(&mut self, now: Instant, from: ShardId, piece: PieceIndex) {
        let able = self.peers().any(|peer| peer.is_good_for(piece, now) && self.may_cross(peer, piece));
        if able && !self.have.contains(piece) {
            self.act(ShardAction::Send(from, ShardMessage::Accept(piece)));
        }
    }

    /// Another shard takes an offered piece, unless it went on here meanwhile. Where one giver was to give all of it,
    /// one of the other shard is, so what is here does not go along.
    pub(super) fn on_accept(&mut self, now: Instant, to: ShardId, piece: PieceIndex) {
        let idle = |open: &OpenPiece| open.missing() > 0 && !open.is_arriving();
        if !self.open.get(&piece).is_some_and(idle) {
            return;
        }
        self.recall_lent(piece);
        self.disown(piece);
        let Some(mut open) = self.open.remove(&piece) else { return };
        self.partial.remove(piece);
        let moves = open.moves + 1;
        if open.sole_giver.is_some() {
            self.act(ShardAction::Drop(piece));
            open = OpenPiece::new(now, piece, &self.config.layout);
        }
        open.forget_asked();
        open.moves = moves;
        self.config.pieces.transfer(piece, self.config.id, to);
        self.act(ShardAction::Send(to, ShardMessage::Handover(Box::new(open))));
    }

    pub(super) fn on_handover(&mut self, now: Instant, mut open: OpenPiece) {
        let piece = open.piece();
        open.progressed_at = now;
        let anew = open.here() == 0 && self.suspicion.contains(piece);
        self.drop_borrowed(piece);
        self.picker.remove(piece);
        self.open.insert(piece, open);
        if anew {
            self.find_sole_giver(now, piece);
        }
        self.now_partial(piece);
        self.stirred = true;
    }
}
