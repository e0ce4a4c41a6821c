//! What a piece that we have now changes for peers: whether we want something of them, and that they are to hear of it.
//! With many peers neither is looked at for each piece and peer.

use super::super::PeerKey;
use super::{MANY_PEERS, TorrentShard};
use crate::layout::PieceIndex;
use crate::peer::PeerPieces;
use crate::time::{Duration, Instant};
use crate::wire::Message;

/// How long many peers wait to hear of a piece, together with all others that come meanwhile. Whoever is sent something
/// else hears of it with that.
const HAVE_BATCH: Duration = Duration::from_millis(100);

impl TorrentShard {
    /// The piece is on disk and right, whoever brought it there.
    pub(super) fn now_have(&mut self, now: Instant, piece: PieceIndex) {
        if !self.have.insert(piece) {
            return;
        }
        let finished = self.needless.insert(piece) && self.needless.is_full();
        self.picker.remove(piece);
        self.suspicion.forget(piece);
        self.have_log.push(piece);
        self.drop_borrowed(piece);
        self.copies.forget(piece);
        self.find_new_witnesses(now, piece);
        if self.peer_count > MANY_PEERS {
            self.haves_at = self.haves_at.or(Some(now + HAVE_BATCH));
        } else {
            self.announce_haves();
        }
        if finished {
            self.finish(now);
        }
    }

    /// Whoever was not told of every piece has something to hear.
    pub(super) fn announce_haves(&mut self) {
        self.haves_at = None;
        for slot in 0..self.slots.len() {
            crate::work::step();
            let Some(peer) = self.slots[slot].peer.as_deref_mut() else { continue };
            if peer.next_to_tell(&self.have_log).is_some() {
                let key = peer.key;
                self.make_ready(key);
            }
        }
    }

    /// Peers that were of interest for this piece need another, or none is left.
    fn find_new_witnesses(&mut self, now: Instant, piece: PieceIndex) {
        let watchers = self.witnesses.range((piece, 0)..=(piece, u32::MAX));
        let watchers: Vec<u32> = watchers.map(|&(_, slot)| slot).collect();
        for slot in watchers {
            crate::work::step();
            let Some(key) = self.slots[slot as usize].peer.as_ref().map(|peer| peer.key) else { continue };
            self.find_witness(key);
            self.update_interest(now, key);
        }
    }

    /// Looks for a piece that the peer has, and we lack and want: any, so that few peers need a new one at a time.
    pub(super) fn find_witness(&mut self, key: PeerKey) {
        let start = self.config.rng.below(self.have.len().max(1) as usize) as u32;
        let Some(peer) = self.peer(key) else { return };
        let found = match &peer.pieces {
            PeerPieces::Some(set) => set.first_without(&self.needless, start),
            PeerPieces::None | PeerPieces::All => None,
        };
        let witness = found.and_then(|number| self.config.layout.piece(number));
        self.set_witness(key, witness);
    }

    pub(super) fn set_witness(&mut self, key: PeerKey, witness: Option<PieceIndex>) {
        let Some(peer) = self.peer_mut(key) else { return };
        let before = std::mem::replace(&mut peer.witness, witness);
        before.map(|piece| self.witnesses.remove(&(piece, key.slot)));
        witness.map(|piece| self.witnesses.insert((piece, key.slot)));
    }

    /// Says whether we want something of the peer, where that changed, and asks for it if we may.
    pub(super) fn update_interest(&mut self, now: Instant, key: PeerKey) {
        let finished = self.needless.is_full();
        let Some(peer) = self.peer_mut(key) else { return };
        let interested = match peer.pieces {
            PeerPieces::None => false,
            PeerPieces::Some(_) => peer.witness.is_some(),
            PeerPieces::All => !finished,
        };
        if std::mem::replace(&mut peer.am_interested, interested) != interested {
            self.say(key, if interested { Message::Interested } else { Message::NotInterested });
        }
        self.fill(now, key.slot());
    }

    /// We want nothing any more.
    fn finish(&mut self, now: Instant) {
        let all: Vec<PeerKey> = self.peers().map(|peer| peer.key).collect();
        for key in all {
            self.update_interest(now, key);
            self.part_if_both_seeds(now, key);
            self.tell_upload_only(key);
        }
    }

    /// What was found of interest in each peer is what is there.
    pub(super) fn check_witnesses(&self) {
        let lacking = match self.config.pieces.selection() {
            Some(selection) => selection.count_without(&self.have),
            None => self.have.len() - self.have.count(),
        };
        assert_eq!(self.needless.len() - self.needless.count(), lacking);
        assert_eq!(self.have.count_without(&self.needless), 0);
        for peer in self.peers() {
            let lacking = peer.pieces.count_without(&self.needless);
            assert_eq!(peer.am_interested, lacking > 0, "{:?}", peer.key);
            let witness = peer.witness;
            assert!(
                witness.is_none_or(|piece| peer.pieces.contains(piece) && !self.needless.contains(piece))
            );
            assert!(witness.is_none_or(|piece| self.witnesses.contains(&(piece, peer.key.slot))));
            let partial = matches!(peer.pieces, PeerPieces::Some(_));
            assert_eq!(witness.is_some(), partial && lacking > 0, "{:?}", peer.key);
        }
        assert_eq!(self.witnesses.len(), self.peers().filter(|peer| peer.witness.is_some()).count());
    }
}
