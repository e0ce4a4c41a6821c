//! Who wants nothing more, us and peers: a seed, or a partial seed, which has all that its user selected (BEP 21).
//!
//! Peers are told, and of two that want nothing one parts. What a peer says of itself counts only as far as it goes without:
//! one that calls itself upload-only and is interested all the same is treated like any other that is, and so gains
//! nothing by it; it is parted with once it says that it is not.

use super::super::PeerKey;
use super::super::message::PartReason;
use super::TorrentShard;
use crate::peer::Peer;
use crate::time::Instant;
use crate::wire::{Extension, ExtensionIds};

/// Under which id we want to be told of a change.
const OUR_ID: u8 = 1;

/// The extensions that we want messages of.
pub(super) const OUR_EXTENSIONS: ExtensionIds = ExtensionIds::NONE.with(Extension::UploadOnly, OUR_ID);

impl TorrentShard {
    /// Whether we want nothing more, and may say so. As long as this shard does not know all that is there it may not:
    /// libtorrent parts with whoever has nothing for it and will not get more. Nor may a super-seed, which hides that it
    /// has everything (BEP 16).
    pub(super) fn is_upload_only(&self) -> bool {
        let shared = &self.config.pieces;
        let knows_all = shared.are_checked() && self.have.count() == shared.have_count();
        self.needless.is_full() && !self.super_seeding && knows_all
    }

    /// What we have may be known now.
    pub(super) fn tell_all_upload_only(&mut self) {
        if self.is_upload_only() {
            let keys: Vec<PeerKey> = self.peers().map(|peer| peer.key).collect();
            keys.into_iter().for_each(|key| self.tell_upload_only(key));
        }
    }

    /// Sees to it that a peer is told that we want nothing more, where that is so, it does not know and wants to. It hears
    /// of all that we have before: libtorrent parts at once with an upload-only peer that has nothing for it.
    pub(super) fn tell_upload_only(&mut self, key: PeerKey) {
        let upload_only = self.is_upload_only();
        let Some(peer) = self.peer_mut(key).filter(|peer| upload_only && !peer.told_upload_only) else {
            return;
        };
        let Some(id) = peer.extensions.id(Extension::UploadOnly) else { return };
        (peer.told_upload_only, peer.upload_only_due) = (true, Some(id));
        self.make_ready(key);
    }

    /// The extension's message: one byte, zero for no. Others make no sense and say nothing.
    pub(super) fn on_upload_only(&mut self, now: Instant, key: PeerKey, payload: &[u8]) {
        let ([said], Some(peer)) = (payload, self.peer_mut(key)) else { return };
        peer.upload_only = *said != 0;
        self.part_if_both_seeds(now, key);
    }

    /// Parts with a peer where neither of us wants anything.
    pub(super) fn part_if_both_seeds(&mut self, now: Instant, key: PeerKey) {
        if self.needless.is_full() && self.peer(key).is_some_and(Peer::wants_nothing) {
            self.part(now, key, PartReason::BothSeeds);
        }
    }
}
