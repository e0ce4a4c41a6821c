//! What is made of what a seed suggests (BEP 6): one that spreads its content knows what is elsewhere, or about to be, so it
//! is asked for nothing else while it suggests something. When and for how long, [`Advice`](crate::peer::Advice) says.

use super::super::PeerKey;
use super::TorrentShard;
use crate::layout::Block;
use crate::peer::{PeerPieces, Supply};
use crate::picker::Order;
use crate::time::Instant;

impl TorrentShard {
    /// A peer suggests a piece. One that has not everything merely hints; whoever wants the content in order, or some files
    /// before others, takes it so.
    pub(super) fn on_suggestion(&mut self, now: Instant, key: PeerKey, number: u32) {
        let Some(piece) = self.config.layout.piece(number) else { return };
        let of_use = self.picker.contains(piece);
        let own_mind = self.config.policy.order == Order::Sequential || self.picker.is_urgent();
        let Some(peer) = self.peer_mut(key) else { return };
        if peer.hear_suggestion() {
            self.make_ready(key);
        }
        if !of_use {
            return;
        }
        let Some(peer) = self.peer_mut(key) else { return };
        let heed = peer.pieces == PeerPieces::All && !own_mind;
        if peer.advice.hear(now, piece, heed) {
            peer.supply = Supply::Unknown;
            self.fill(now, key.slot());
        }
    }

    /// Whether the peer is asked for what it suggests and for nothing else: not once there is nothing left to begin.
    pub(super) fn is_heeded(&mut self, now: Instant, key: PeerKey) -> bool {
        let may_begin = !self.picker.is_empty();
        self.peer_mut(key).is_some_and(|peer| {
            let idle = peer.asked.is_empty() && peer.arriving.is_none();
            peer.advice.lapse(now, idle);
            peer.advice.is_heeded() && may_begin
        })
    }

    /// What to ask such a peer for: beside what it suggests, the rest of pieces that were begun and that only those have who
    /// have everything.
    pub(super) fn as_advised(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        self.of_open_piece(now, key, super::download::PARTIAL_TRIES, |shard, piece| {
            shard.picker.availability(piece) == 0 && !shard.is_tended(now, piece)
        })
        .or_else(|| self.of_new_piece(now, key))
    }
}
