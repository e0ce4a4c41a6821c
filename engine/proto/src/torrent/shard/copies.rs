//! Blocks that were asked of more than one: who is to be told once they are here. Requests that others were not made
//! for are in their peer's list alone, so that a block costs no look at all peers.

use std::collections::BTreeMap;

use super::super::PeerKey;
use super::TorrentShard;
use crate::layout::{Block, PieceIndex};

/// Who else may still send a block: each peer of which it was asked while it was asked of another, and each whose request
/// for it is late. Nobody of whom it is not asked any more: the table is no larger than all that peers are asked for.
#[derive(Debug, Default)]
pub(super) struct Copies(BTreeMap<Block, Vec<PeerKey>>);

impl Copies {
    /// The peer may send the block, beside others.
    pub(super) fn note(&mut self, block: Block, peer: PeerKey) {
        let peers = self.0.entry(block).or_default();
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }

    /// The peer was asked for the block: it is noted where others are.
    pub(super) fn join(&mut self, block: Block, peer: PeerKey) {
        if self.are_known(block) {
            self.note(block, peer);
        }
    }

    /// The peer is no longer asked for the block.
    pub(super) fn leave(&mut self, block: Block, peer: PeerKey) {
        // Nearly always empty but in the endgame.
        if self.0.is_empty() {
            return;
        }
        let Some(peers) = self.0.get_mut(&block) else { return };
        peers.retain(|&other| other != peer);
        if peers.is_empty() {
            self.0.remove(&block);
        }
    }

    /// Whether anybody is noted for the block.
    pub(super) fn are_known(&self, block: Block) -> bool {
        !self.0.is_empty() && self.0.contains_key(&block)
    }

    /// Whether anybody else is noted for the block.
    pub(super) fn has_others(&self, block: Block, peer: PeerKey) -> bool {
        self.are_known(block) && self.0[&block].iter().any(|&other| other != peer)
    }

    pub(super) fn contains(&self, block: Block, peer: PeerKey) -> bool {
        self.0.get(&block).is_some_and(|peers| peers.contains(&peer))
    }

    /// Each block with each peer that is noted for it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Block, PeerKey)> + '_ {
        self.0.iter().flat_map(|(&block, peers)| peers.iter().map(move |&peer| (block, peer)))
    }

    /// All of whom the block was asked, if they are several.
    pub(super) fn take(&mut self, block: Block) -> Vec<PeerKey> {
        if self.0.is_empty() { Vec::new() } else { self.0.remove(&block).unwrap_or_default() }
    }

    /// Bytes that the entries take.
    pub(super) fn memory(&self) -> usize {
        let entry = size_of::<Block>() + size_of::<Vec<PeerKey>>();
        self.0.values().map(|peers| entry + peers.capacity() * size_of::<PeerKey>()).sum()
    }

    /// Forgets the blocks of a piece.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        if !self.0.is_empty() {
            self.0.retain(|block, _| block.piece() != piece);
        }
    }
}

impl TorrentShard {
    /// The block is about to be asked of one more: those it was asked of already have to be known from now on. Looks at all
    /// peers, but once a block at most, and only in the endgame.
    pub(super) fn note_askers(&mut self, block: Block) {
        let askers: Vec<PeerKey> =
            self.peers().filter(|peer| peer.was_asked(block)).map(|peer| peer.key).collect();
        askers.into_iter().for_each(|peer| self.copies.note(block, peer));
    }

    /// The block is here, or no longer wanted: whoever was asked for it is told.
    pub(super) fn cancel_copies(&mut self, block: Block, except: Option<PeerKey>) {
        for peer in self.copies.take(block) {
            if Some(peer) != except {
                self.cancel(peer, block);
            }
        }
    }
}
