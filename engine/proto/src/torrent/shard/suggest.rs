//! What a seed suggests to whom: BEP 6's "Suggest Piece", which it has "for super-seeding without throughput reduction,
//! to avoid redundant downloads". Peers that are served at the same time do not know of each other what they are about to
//! get, and would ask for the same pieces. Each piece that nobody else has is suggested once, to one of them. Once all
//! were, there is nothing more to suggest.

use std::collections::BTreeMap;

use super::super::PeerKey;
use super::TorrentShard;
use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;
use crate::limits::MAX_SUGGESTIONS;
use crate::time::Instant;
use crate::wire::Message;

/// Suggestions that a peer has and did not take up: what it asks for in the time that the next one takes to reach it.
const SUGGESTED_AHEAD: usize = 8;

/// Most pieces that are looked at for one to suggest: peers may have nearly all.
pub(super) const MOST_TRIES: u32 = 1_024;

/// What is known of the pieces that are suggested.
#[derive(Debug, Default)]
pub(super) struct Suggestions {
    /// Pieces that somebody asked us for, suggested or not; none until we are a seed.
    taken: Option<Bitfield>,
    /// Who was the first to ask for a piece that nobody had, until another has it.
    given: BTreeMap<PieceIndex, PeerKey>,
    /// Pieces suggested to peers that did not take them up and will not.
    pub(super) returned: Vec<PieceIndex>,
}

impl Suggestions {
    /// The peer is the one to get the piece first.
    pub(super) fn give(&mut self, piece: PieceIndex, peer: PeerKey) {
        self.given.insert(piece, peer);
        self.taken.as_mut().map(|taken| taken.insert(piece));
    }

    /// Another is to get it.
    pub(super) fn give_back(&mut self, piece: PieceIndex) {
        self.given.remove(&piece);
        self.taken.as_mut().map(|taken| taken.remove(piece));
        self.returned.push(piece);
    }
}

impl TorrentShard {
    /// Suggests some more pieces to a peer that is served and took up what was suggested.
    pub(super) fn suggest(&mut self, key: PeerKey) {
        if !self.have.is_full() || self.super_seeding {
            return;
        }
        let wants = |peer: &&crate::peer::Peer| peer.fast && !peer.am_choking && peer.peer_interested;
        let Some(peer) = self.peer(key).filter(wants) else { return };
        for _ in peer.suggested_by_us.len()..SUGGESTED_AHEAD {
            let Some(piece) = self.next_to_suggest(key) else { return };
            if let Some(peer) = self.peer_mut(key) {
                peer.suggested_by_us.push(piece);
            }
            self.say(key, Message::SuggestPiece { piece: piece.number() });
        }
    }

    /// The peer asks for a block of the piece.
    pub(super) fn note_taken(&mut self, key: PeerKey, piece: PieceIndex) {
        let first = self.suggestions.taken.as_mut().is_some_and(|taken| taken.insert(piece));
        if first && self.picker.availability(piece) == 0 {
            self.suggestions.given.insert(piece, key);
        }
        let Some(peer) = self.peer_mut(key) else { return };
        if let Some(at) = peer.suggested_by_us.iter().position(|&suggested| suggested == piece) {
            peer.suggested_by_us.swap_remove(at);
            self.suggest(key);
        }
    }

    /// More peers than before have the piece: whoever had it of us first passed it on. A seed cannot tell otherwise who
    /// gives and who only takes.
    pub(super) fn note_spread(&mut self, now: Instant, piece: PieceIndex) {
        if self.suggestions.given.is_empty() || self.picker.availability(piece) < 2 {
            return;
        }
        let len = u64::from(self.config.layout.piece_len(piece));
        let giver = self.suggestions.given.remove(&piece);
        let Some(peer) = giver.and_then(|key| self.peer_mut(key)) else { return };
        peer.passed_on += len;
        let key = peer.key;
        self.was_passed_on(now, key, piece);
    }

    /// What was suggested to a peer that is no longer served is suggested to others.
    pub(super) fn take_suggestions_back(&mut self, suggested: &mut Vec<PieceIndex>) {
        self.suggestions.returned.append(suggested);
    }

    /// Another shard may suggest as well, but not the same piece.
    fn next_to_suggest(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let Self { config, slots, suggestions, picker, .. } = self;
        let peer = slots.get(key.slot())?.peer.as_deref()?;
        let count = config.layout.piece_count();
        let taken = suggestions.taken.get_or_insert_with(|| Bitfield::empty(count));
        for _ in 0..MOST_TRIES {
            let next = || config.layout.piece(config.pieces.next_to_spread(&mut config.rng)?);
            let piece = suggestions.returned.pop().or_else(next)?;
            if picker.availability(piece) == 0 && !taken.contains(piece) && !peer.pieces.contains(piece) {
                return Some(piece);
            }
        }
        None
    }

    /// A peer suggests a piece: of those that are as rare, it is to be taken from there. One that suggests more than
    /// any does is not listened to (BEP 6 leaves it to us).
    pub(super) fn on_suggestion(&mut self, key: PeerKey, number: u32) {
        let Some(piece) = self.config.layout.piece(number) else { return };
        let of_use = self.picker.contains(piece);
        let Some(peer) = self.peer_mut(key).filter(|peer| peer.fast) else { return };
        let known = peer.suggested_to_us.contains(&piece);
        if of_use && !known && peer.suggested_to_us.len() < MAX_SUGGESTIONS {
            peer.suggested_to_us.push(piece);
        }
    }
}
