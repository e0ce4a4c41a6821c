//! Super-seeding (BEP 16): a seed that says it has nothing, and then tells each peer of one piece, and of the next only
//! once another peer has that one. So each piece leaves it once before all are elsewhere, whatever the peers choose.
//! Where nobody else on this shard lacks a piece, there is nobody to pass it on to, and having it is enough. Once every piece
//! was told and taken, the seed tells of all it has and is an ordinary one: what leaves with its holders afterwards is given
//! again.

use super::super::PeerKey;
use super::TorrentShard;
use super::suggest::MOST_TRIES;
use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;
use crate::peer::{Peer, PeerPieces};
use crate::time::{Duration, Instant};
use crate::wire::Message;

/// A peer that is served and takes nothing of a piece for this long is told of another, and another peer of that piece.
const PATIENCE: Duration = Duration::from_secs(20);

/// Once all pieces were told, those who do not take theirs are waited for so long: what left with others is nowhere else.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// A piece that a peer was told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revealed {
    piece: PieceIndex,
    /// When it was told, or got something of it last.
    at: Instant,
    /// Bytes of it that the peer was given.
    given: u64,
}

impl TorrentShard {
    /// Tells the peer of a piece, where it may hear of another.
    pub(super) fn reveal(&mut self, now: Instant, key: PeerKey) {
        self.reveal_but(now, key, None);
    }

    fn reveal_but(&mut self, now: Instant, key: PeerKey, but: Option<PieceIndex>) {
        let idle = self.peer(key).is_some_and(|peer| peer.revealed.is_none());
        if !self.super_seeding || !idle {
            return;
        }
        let Some(piece) = self.next_to_reveal(key, but) else { return };
        if let Some(peer) = self.peer_mut(key) {
            peer.revealed = Some(Revealed { piece, at: now, given: 0 });
        }
        let len = u64::from(self.config.layout.piece_len(piece));
        self.givings.give(now, piece, len, key);
        self.say(key, Message::Have { piece: piece.number() });
    }

    /// The peer gets bytes of a piece. Once it got all of one that it was told of, it has it: it will not say so to us, who
    /// had it first.
    pub(super) fn note_given(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, bytes: u32) {
        let (len, count) = (u64::from(self.config.layout.piece_len(piece)), self.config.layout.piece_count());
        let Some(peer) = self.peer_mut(key) else { return };
        let Some(told) = peer.revealed.as_mut().filter(|told| told.piece == piece) else { return };
        (told.given, told.at) = (told.given + u64::from(bytes), now);
        let whole = told.given >= len;
        self.all_told_at = self.all_told_at.and(Some(now));
        let Some(peer) = self.peer_mut(key).filter(|_| whole) else { return };
        if peer.pieces == PeerPieces::None {
            peer.pieces = PeerPieces::Some(Bitfield::empty(count));
        }
        // That it has everything is its own to say: the last bytes are on their way, and may be wrong.
        if let PeerPieces::Some(set) = &mut peer.pieces
            && set.count() + 1 < count
            && set.insert(piece)
        {
            let near = peer.near;
            self.count(now, key, piece, 1);
            if near {
                self.count_near(piece, 1);
            }
        }
        self.was_taken(now, key, piece);
    }

    /// Another peer has what this one was told of.
    pub(super) fn was_passed_on(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let told = |peer: &&mut Peer| peer.revealed.is_some_and(|told| told.piece == piece);
        if let Some(peer) = self.peer_mut(key).filter(told) {
            peer.revealed = None;
            self.reveal(now, key);
        }
    }

    /// The peer has the piece: that is enough where no other peer lacks it.
    pub(super) fn was_taken(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let lacks = |peer: &Peer| peer.key != key && !peer.pieces.contains(piece);
        if self.super_seeding && !self.peers().any(lacks) {
            self.was_passed_on(now, key, piece);
        }
    }

    /// The peer says what it has, and may have been told of a piece before that it had all along: it would never ask for it.
    pub(super) fn forget_revealed(&mut self, key: PeerKey) {
        if let Some(peer) = self.peer_mut(key) {
            let pieces = &peer.pieces;
            peer.revealed.take_if(|told| pieces.contains(told.piece));
        }
    }

    /// Those who do not take what they were told of are told of another piece, and others of theirs. It is over once every
    /// piece was told and taken or is elsewhere, or when nobody takes what is left.
    pub(super) fn look_over_revealed(&mut self, now: Instant) {
        if !self.super_seeding {
            return;
        }
        let keys: Vec<PeerKey> = self.peers().map(|peer| peer.key).collect();
        for key in keys {
            let Some(peer) = self.peer_mut(key) else { continue };
            // One that does not want the piece is not interested, and never served.
            let has = peer.revealed.is_some_and(|told| peer.pieces.contains(told.piece));
            let may_take = !peer.am_choking || !(peer.peer_interested || has);
            let kept = peer.revealed.take_if(|told| may_take && now.since(told.at) > PATIENCE);
            if let Some(told) = kept {
                self.give_back_revealed(told.piece);
            }
            self.reveal_but(now, key, kept.map(|told| told.piece));
        }
        if self.config.pieces.all_given_out() {
            let since = *self.all_told_at.get_or_insert(now);
            let taken = self.suggestions.none_returned() && self.peers().all(|peer| peer.revealed.is_none());
            if taken || now.since(since) > OVER_AFTER {
                self.config.pieces.end_spreading();
            }
        }
        if self.config.layout.pieces().all(|piece| self.picker.availability(piece) > 0) {
            self.config.pieces.end_spreading();
        }
        self.end_if_spread();
    }

    /// Ends it where it is over on any shard.
    pub(super) fn end_if_spread(&mut self) {
        if self.super_seeding && self.config.pieces.is_spread() {
            self.super_seeding = false;
            self.have_log = self.config.layout.pieces().collect();
            self.peers_mut().for_each(|peer| (peer.haves_told, peer.haves_shown) = (0, 0));
            self.announce_haves();
            self.tell_all_upload_only();
        }
    }

    /// A piece that nobody has or was told of, and the peer lacks; others than `but` of those that were not taken.
    fn next_to_reveal(&mut self, key: PeerKey, but: Option<PieceIndex>) -> Option<PieceIndex> {
        let Self { config, slots, suggestions, picker, .. } = self;
        let peer = slots.get(key.slot())?.peer.as_deref()?;
        for _ in 0..MOST_TRIES {
            let fresh =
                config.pieces.next_to_spread(&mut config.rng).and_then(|next| config.layout.piece(next));
            let again = || suggestions.take_returned(but);
            let piece = fresh.or_else(again)?;
            if picker.availability(piece) == 0 && !peer.pieces.contains(piece) {
                return Some(piece);
            }
        }
        None
    }

    /// What the peer did not take is for others.
    pub(super) fn take_revealed_back(&mut self, revealed: Option<Revealed>) {
        if let Some(told) = revealed {
            self.give_back_revealed(told.piece);
        }
    }

    /// Another peer is told of it.
    fn give_back_revealed(&mut self, piece: PieceIndex) {
        self.givings.give_back(piece);
        self.suggestions.give_back(piece);
    }
}
