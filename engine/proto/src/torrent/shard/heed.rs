//! What is made of what a seed suggests (BEP 6): one that spreads its content knows what is elsewhere, or about to be, so it
//! is asked for nothing else while it suggests something. When and for how long, [`Advice`](crate::peer::Advice) says.

use super::super::PeerKey;
use super::TorrentShard;
use crate::layout::Block;
use crate::peer::{PeerPieces, Supply};
use crate::picker::Order;
use crate::time::Instant;

/// Whoever wants the content in order takes of a seed what is up to so many pieces ahead,
const LEAST_AHEAD: u32 = 256;

/// or one part in so many of the content. Far more than is on its way at a time: where a swarm comes up against this, all ask
/// the seed for the one piece that holds them up. How far it gets ahead is given by how soon each piece is passed on.
const AHEAD_PART: u32 = 4;

impl TorrentShard {
    /// A peer suggests a piece. One that has not everything, or suggests what others have, merely hints. Whoever wants some
    /// files before others takes them so; whoever wants the content in order, in that of the seed, which may be some pieces
    /// ahead of him.
    pub(super) fn on_suggestion(&mut self, now: Instant, key: PeerKey, number: u32) {
        let Some(piece) = self.config.layout.piece(number) else { return };
        let of_use = self.picker.contains(piece);
        let in_order = self.config.policy.order == Order::Sequential;
        let too_soon = in_order && !self.picker.is_soon(piece, self.most_ahead());
        let urgent = self.picker.is_urgent();
        let new = of_use && self.picker.availability(piece) == 0;
        let Some(peer) = self.peer_mut(key) else { return };
        peer.advice.judge(new);
        if peer.hear_suggestion(piece) {
            self.make_ready(key);
        }
        let Some(peer) = self.peer_mut(key).filter(|_| of_use && !too_soon) else { return };
        let own_mind = urgent || in_order && !peer.advice.is_in_order();
        let heed = peer.pieces == PeerPieces::All && new && !own_mind;
        if peer.advice.hear(now, piece, heed) {
            peer.supply = Supply::Unknown;
            self.fill(now, key.slot());
        }
    }

    /// How far a seed may be ahead of one who takes the content in order: there are pieces on their way to each of the others,
    /// and from each to the next.
    pub(super) fn most_ahead(&self) -> u32 {
        LEAST_AHEAD.max(self.config.layout.piece_count() / AHEAD_PART)
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
