//! Super-seeding (BEP 16): a seed that says it has nothing, and then tells each peer of one piece, and of the next only
//! once another peer has that one. So each piece leaves it once before all are elsewhere, whatever the peers choose.
//! Where nobody else lacks a piece, there is nobody to pass it on to, and having it is enough. Once every piece is
//! elsewhere, the seed tells of all it has and is an ordinary one.

use super::super::PeerKey;
use super::TorrentShard;
use crate::layout::PieceIndex;
use crate::peer::PeerPieces;
use crate::time::{Duration, Instant};
use crate::wire::Message;

/// A peer that did not pass a piece on for this long is told of another, and another peer of that piece.
const PATIENCE: Duration = Duration::from_secs(20);

/// A piece that a peer was told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revealed {
    piece: PieceIndex,
    at: Instant,
    /// Bytes of it that the peer was given.
    given: u64,
}

impl TorrentShard {
    /// Tells the peer of a piece, where it may hear of another.
    pub(super) fn reveal(&mut self, now: Instant, key: PeerKey) {
        let idle = self.peer(key).is_some_and(|peer| peer.revealed.is_none());
        if !self.super_seeding || !idle {
            return;
        }
        let Some(piece) = self.next_to_suggest(key) else { return };
        if let Some(peer) = self.peer_mut(key) {
            peer.revealed = Some(Revealed { piece, at: now, given: 0 });
        }
        self.suggestions.give(piece, key);
        self.say(key, Message::Have { piece: piece.number() });
    }

    /// The peer gets bytes of a piece. Once it got all of one that it was told of, it has it: it will not say so to us, who
    /// had it first.
    pub(super) fn note_given(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, bytes: u32) {
        let len = u64::from(self.config.layout.piece_len(piece));
        let peer = self.peer_mut(key);
        let Some(told) = peer.and_then(|peer| peer.revealed.as_mut()).filter(|told| told.piece == piece)
        else {
            return;
        };
        told.given += u64::from(bytes);
        if told.given >= len {
            self.on_have(now, key, piece.number());
        }
    }

    /// Another peer has what this one was told of.
    pub(super) fn was_passed_on(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let told = |peer: &&mut crate::peer::Peer| peer.revealed.is_some_and(|told| told.piece == piece);
        if let Some(peer) = self.peer_mut(key).filter(told) {
            peer.revealed = None;
            self.reveal(now, key);
        }
    }

    /// The peer has the piece: that is enough where no other peer lacks it.
    pub(super) fn was_taken(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let lacks = |peer: &crate::peer::Peer| peer.key != key && !peer.pieces.contains(piece);
        if self.super_seeding && !self.peers().any(lacks) {
            self.was_passed_on(now, key, piece);
        }
    }

    /// Those who keep what they have are told of another piece, and others of theirs; whether all is elsewhere.
    pub(super) fn look_over_revealed(&mut self, now: Instant) {
        if !self.super_seeding {
            return;
        }
        let keys: Vec<PeerKey> = self.peers().map(|peer| peer.key).collect();
        for &key in &keys {
            let Some(peer) = self.peer_mut(key) else { continue };
            if let Some(told) = peer.revealed.take_if(|told| now.since(told.at) > PATIENCE) {
                self.suggestions.give_back(told.piece);
            }
        }
        keys.into_iter().for_each(|key| self.reveal(now, key));
        let elsewhere = |piece| self.picker.availability(piece) > 0;
        let seed = self.peers().any(|peer| peer.pieces == PeerPieces::All);
        if seed || self.config.layout.pieces().all(elsewhere) {
            self.end_super_seeding();
        }
    }

    /// What the peer did not take is for others.
    pub(super) fn take_revealed_back(&mut self, revealed: Option<Revealed>) {
        if let Some(told) = revealed {
            self.suggestions.give_back(told.piece);
        }
    }

    fn end_super_seeding(&mut self) {
        self.super_seeding = false;
        self.have_log = self.config.layout.pieces().collect();
        self.peers_mut().for_each(|peer| peer.haves_told = 0);
        self.announce_haves();
    }
}
