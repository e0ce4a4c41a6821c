//! Whole pieces: right or wrong, written or not, and who lied.

use std::sync::Arc;

use super::super::PeerKey;
use super::super::message::{ShardAction, ShardMessage, ShardToCore};
use super::super::suspicion::{BlockDigest, FailedTry};
use super::{TorrentShard, Verdict};
use crate::layout::PieceIndex;
use crate::peer::{Peer, Supply};
use crate::picker::OpenPiece;
use crate::time::Instant;

impl TorrentShard {
    /// Every block of the piece is in its buffer.
    pub(super) fn close_piece(&mut self, piece: PieceIndex) {
        let Some(open) = self.open.remove(&piece) else { return };
        self.partial.remove(piece);
        self.note_brought(piece);
        self.closing.insert(piece, open);
        self.config.pieces.verifying(piece, self.config.id);
        self.act(ShardAction::Verify { piece, digests: self.suspicion.contains(piece) });
    }

    pub(super) fn on_verified(&mut self, now: Instant, piece: PieceIndex, verdict: Verdict) {
        match verdict {
            Verdict::Right(digests) => {
                for liar in self.suspicion.resolve(piece, &digests.unwrap_or_default()) {
                    self.report(ShardToCore::Poisoner(liar));
                }
                self.config.pieces.writing(piece, self.config.id);
            }
            Verdict::Wrong(digests) => self.on_wrong(now, piece, digests),
        }
    }

    pub(super) fn on_written(&mut self, now: Instant, piece: PieceIndex, written: bool) {
        if self.closing.remove(&piece).is_none() {
            return;
        }
        self.act(ShardAction::Drop(piece));
        self.config.budget.release(u64::from(self.config.layout.piece_len(piece)));
        if written {
            self.config.pieces.have(piece, self.config.id);
            self.tell_others(&ShardMessage::Have(piece));
            // The core need not be woken for every piece.
            if self.config.pieces.is_finished() {
                self.report(ShardToCore::Completed);
            }
            self.now_have(now, piece);
        } else {
            self.release(piece);
        }
        self.stirred = true;
    }

    /// The piece is wrong: what each gave is remembered, and one peer is to give all of it.
    fn on_wrong(&mut self, now: Instant, piece: PieceIndex, digests: Vec<BlockDigest>) {
        let Some(open) = self.closing.remove(&piece) else { return };
        self.report(ShardToCore::HashFailed(piece));
        self.act(ShardAction::Drop(piece));
        match open.only_giver() {
            // Nobody else had a part in it.
            Some(liar) => self.report(ShardToCore::Poisoner(liar)),
            None => self.suspect(&open, digests),
        }
        self.config.pieces.retry(piece, self.config.id);
        self.open.insert(piece, OpenPiece::new(now, piece, &self.config.layout));
        self.find_sole_giver(now, piece);
    }

    fn suspect(&mut self, open: &OpenPiece, digests: Vec<BlockDigest>) {
        let blocks = open.givers().flatten().zip(digests).collect();
        let failed = Arc::new(FailedTry { blocks });
        self.suspicion.remember(open.piece(), Arc::clone(&failed));
        self.tell_others(&ShardMessage::Failed(open.piece(), failed));
    }

    /// Gives a piece of which nothing is here to one peer alone, or releases it where no peer can.
    pub(super) fn find_sole_giver(&mut self, now: Instant, piece: PieceIndex) {
        let Some(giver) = self.best_sole_giver(now, piece) else { return self.give_up(piece) };
        if let Some(open) = self.open.get_mut(&piece) {
            open.sole_giver = Some(giver);
        }
        self.now_partial(piece);
        if let Some(peer) = self.peer_mut(giver) {
            peer.supply = Supply::Unknown;
        }
        self.fill(now, giver.slot());
    }

    /// One that can be counted on and gave nothing to the failed tries, where there is one; else one that can be
    /// counted on; else any that serves it.
    fn best_sole_giver(&mut self, now: Instant, piece: PieceIndex) -> Option<PeerKey> {
        let merit = |peer: &Peer| {
            let suspect = self.suspicion.suspects(piece, peer.addr.ip());
            (peer.is_good_for(piece, now), !suspect)
        };
        let able: Vec<_> = { self.peers() }
            .filter(|peer| peer.serves(piece) && self.may_cross(peer, piece))
            .map(|peer| (merit(peer), peer.key))
            .collect();
        let most = able.iter().map(|&(merit, _)| merit).max()?;
        let best: Vec<PeerKey> =
            able.iter().filter(|(merit, _)| *merit == most).map(|&(_, key)| key).collect();
        self.config.rng.pick(&best).copied()
    }

    /// Forgets all of an open piece: its memory goes back, and any shard may claim it.
    pub(super) fn give_up(&mut self, piece: PieceIndex) {
        if self.open.remove(&piece).is_none() {
            return;
        }
        self.disown(piece);
        self.partial.remove(piece);
        self.recall_lent(piece);
        self.act(ShardAction::Drop(piece));
        self.config.budget.release(u64::from(self.config.layout.piece_len(piece)));
        self.release(piece);
    }

    fn release(&mut self, piece: PieceIndex) {
        self.config.pieces.release(piece, self.config.id);
        self.tell_others(&ShardMessage::Released(piece));
        self.now_free(piece);
    }

    /// Any shard may claim the piece.
    pub(super) fn now_free(&mut self, piece: PieceIndex) {
        if !self.needless.contains(piece) {
            self.picker.restore(piece, &mut self.config.rng);
        }
        self.stirred = true;
    }
}
