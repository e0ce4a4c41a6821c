//! What a seed suggests to whom: BEP 6's "Suggest Piece", which it has "for super-seeding without throughput reduction,
//! to avoid redundant downloads". Peers that are served at the same time do not know of each other what they are about to
//! get, and would ask for the same pieces; nor what is had by the many that they are not connected to. Each piece that
//! nobody else has is suggested to one of them, who is expected to pass it on; what came of that is `given`'s. Once all
//! are elsewhere, there is nothing more to suggest.

use super::super::{PeerKey, Rule};
use super::TorrentShard;
use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;
use crate::peer::{Peer, PeerPieces};
use crate::time::Instant;
use crate::wire::Message;

/// Most pieces that are looked at for one to suggest: peers may have nearly all.
pub(super) const MOST_TRIES: u32 = 1_024;

/// What is known of the pieces that are suggested.
#[derive(Debug)]
pub(super) struct Suggestions {
    /// Pieces that somebody who may pass them on asked us for, or has, suggested or not; none until we are a seed.
    taken: Option<Bitfield>,
    /// Pieces that were suggested or given to peers that did not take them, or did not pass them on.
    returned: Vec<PieceIndex>,
    /// The same: each stands there once, however often it came back.
    is_returned: Bitfield,
    /// Most of those who are served want them in order.
    in_order: bool,
}

impl Suggestions {
    /// Of a torrent of so many pieces.
    pub(super) fn new(piece_count: u32) -> Self {
        Self { taken: None, returned: Vec::new(), is_returned: Bitfield::empty(piece_count), in_order: false }
    }

    /// Bytes that the tables take.
    pub(super) fn memory(&self) -> usize {
        let sets = 1 + usize::from(self.taken.is_some());
        self.is_returned.len() as usize / 8 * sets + self.returned.capacity() * size_of::<PieceIndex>()
    }

    /// Panics where the tables do not fit each other.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.returned.len(), self.is_returned.count() as usize, "each is returned once");
        assert!(self.returned.iter().all(|&piece| self.is_returned.contains(piece)));
    }

    /// Whether anything was looked for to suggest.
    pub(super) const fn began(&self) -> bool {
        self.taken.is_some()
    }

    /// Whether there are pieces that nobody is to get, or has. `all_given`: each was suggested to somebody, here or elsewhere.
    pub(super) fn are_left(&self, all_given: bool) -> bool {
        let full = self.taken.as_ref().is_some_and(Bitfield::is_full);
        !full && (!all_given || self.returned.iter().any(|&piece| !self.is_taken(piece)))
    }

    pub(super) const fn none_returned(&self) -> bool {
        self.returned.is_empty()
    }

    /// Somebody is to get the piece, or has it; whether that is new.
    pub(super) fn take(&mut self, piece: PieceIndex) -> bool {
        self.taken.as_mut().is_some_and(|taken| taken.insert(piece))
    }

    /// Another is to get it.
    pub(super) fn give_back(&mut self, piece: PieceIndex) {
        self.taken.as_mut().map(|taken| taken.remove(piece));
        self.put_back(piece);
    }

    /// It may be suggested again, where nobody is to get it.
    fn put_back(&mut self, piece: PieceIndex) {
        if self.is_returned.insert(piece) {
            self.returned.push(piece);
        }
    }

    /// The first that came back and is another than `but`.
    pub(super) fn take_returned(&mut self, but: Option<PieceIndex>) -> Option<PieceIndex> {
        let at = self.returned.iter().position(|&piece| Some(piece) != but)?;
        let piece = self.returned.remove(at);
        self.is_returned.remove(piece);
        Some(piece)
    }

    /// Whether somebody is to get the piece, or has it.
    fn is_taken(&self, piece: PieceIndex) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.contains(piece))
    }

    /// The last that came back, is still to be given and `may` be.
    fn last_again(&mut self, may: impl Fn(PieceIndex) -> bool) -> Option<PieceIndex> {
        for at in (0..self.returned.len()).rev().take(MOST_TRIES as usize) {
            let piece = self.returned[at];
            let (is_taken, may) = (self.is_taken(piece), may(piece));
            if is_taken || may {
                self.forget_returned(at);
            }
            if !is_taken && may {
                return Some(piece);
            }
        }
        None
    }

    /// The first by number of the last that came back, are still to be given and `may` be.
    fn first_again(&mut self, may: impl Fn(PieceIndex) -> bool) -> Option<PieceIndex> {
        let mut first: Option<(PieceIndex, usize)> = None;
        for at in (0..self.returned.len()).rev().take(MOST_TRIES as usize) {
            let piece = self.returned[at];
            if self.is_taken(piece) {
                self.forget_returned(at);
                // What stood last stands there now.
                let len = self.returned.len();
                first = first.map(|(piece, stood)| (piece, if stood == len { at } else { stood }));
            } else if may(piece) && first.is_none_or(|(best, _)| piece < best) {
                first = Some((piece, at));
            }
        }
        let (piece, at) = first?;
        self.forget_returned(at);
        Some(piece)
    }

    fn forget_returned(&mut self, at: usize) {
        let piece = self.returned.swap_remove(at);
        self.is_returned.remove(piece);
    }
}

impl TorrentShard {
    /// Suggests some more pieces to a peer that is served and took up what was suggested.
    pub(super) fn suggest(&mut self, key: PeerKey) {
        if !self.have.is_full() || self.super_seeding || !self.follows(Rule::Suggestions) {
            return;
        }
        let wants = |peer: &&Peer| peer.fast && !peer.am_choking && peer.peer_interested;
        let Some(peer) = self.peer(key).filter(wants) else { return };
        for _ in 0..peer.courier.room(self.givings.shows()) {
            let Some(piece) = self.next_to_suggest(key) else { return };
            if let Some(peer) = self.peer_mut(key) {
                peer.courier.suggest(piece);
            }
            self.say(key, Message::SuggestPiece { piece: piece.number() });
        }
    }

    /// The peer asks for a block of the piece. What one takes who keeps it is still to be given to others.
    pub(super) fn note_taken(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peer_mut(key) else { return };
        let in_order = peer.courier.goes_in_order();
        let (suggested, keeps) = (peer.courier.begins(piece), peer.courier.keeps());
        let anew = peer.courier.goes_in_order() && !in_order;
        if peer.courier.is_deaf() || anew {
            let unheard = if anew { peer.courier.rest() } else { peer.courier.take_suggested() };
            self.take_suggestions_back(unheard);
        }
        if keeps && suggested {
            self.suggestions.put_back(piece);
        }
        if !keeps && self.suggestions.take(piece) {
            self.note_first(now, key, piece);
        }
        if suggested || anew {
            self.suggest(key);
        }
    }

    /// The peer has the piece: it need not be suggested to it, nor to others unless it keeps what it has.
    pub(super) fn note_elsewhere(&mut self, piece: PieceIndex, by: Option<PeerKey>) {
        let keeps = by.and_then(|key| self.peer(key)).is_some_and(|peer| peer.courier.keeps());
        if !keeps {
            self.suggestions.take(piece);
        }
    }

    /// The peer has a piece that may have been suggested to it: it got it of others.
    pub(super) fn note_had(&mut self, key: PeerKey, piece: PieceIndex) {
        if self.suggestions.began()
            && let Some(peer) = self.peer_mut(key)
            && peer.courier.settle(piece)
        {
            self.suggest(key);
        }
    }

    /// There may be more to suggest than a second ago.
    pub(super) fn renew_suggestions(&mut self, now: Instant) {
        if !self.suggestions.began() {
            return;
        }
        self.peers_mut().for_each(|peer| peer.courier.tick(now));
        let served = || self.peers().filter(|peer| !peer.am_choking && peer.peer_interested);
        let ordered = served().filter(|peer| peer.courier.goes_in_order()).count();
        let served: Vec<PeerKey> = served().map(|peer| peer.key).collect();
        self.suggestions.in_order = 2 * ordered > served.len();
        served.into_iter().for_each(|key| self.suggest(key));
    }

    /// What was suggested to a peer that is no longer served is suggested to others.
    pub(super) fn take_suggestions_back(&mut self, suggested: Vec<PieceIndex>) {
        suggested.into_iter().for_each(|piece| self.suggestions.put_back(piece));
    }

    /// Another shard may suggest as well, but not the same piece.
    fn next_to_suggest(&mut self, key: PeerKey) -> Option<PieceIndex> {
        self.begin_suggesting();
        let in_order = self.suggestions.in_order || self.peer(key)?.courier.goes_in_order();
        if in_order { self.next_in_order(key) } else { self.next_of_any(key) }
    }

    /// What is elsewhere need not be suggested.
    fn begin_suggesting(&mut self) {
        let Self { config, suggestions, picker, .. } = self;
        suggestions.taken.get_or_insert_with(|| {
            let mut taken = Bitfield::empty(config.layout.piece_count());
            let elsewhere = config.layout.pieces().filter(|&piece| picker.availability(piece) > 0);
            elsewhere.for_each(|piece| _ = taken.insert(piece));
            taken
        });
    }

    /// The first that nobody is to get, unless it is far from what the peer wants next: those who want all in order are about
    /// to get what comes before, each of another.
    fn next_in_order(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let ahead = self.most_ahead();
        let Self { config, slots, suggestions, have, .. } = self;
        let peer = slots.get(key.slot())?.peer.as_deref()?;
        let first = match &peer.pieces {
            PeerPieces::Some(set) => have.first_without(set, 0)?,
            PeerPieces::None | PeerPieces::All => 0,
        };
        let may =
            |piece: PieceIndex| !peer.pieces.contains(piece) && piece.number().saturating_sub(first) < ahead;
        let given = config.pieces.given_in_order();
        suggestions.first_again(|piece| piece.number() < given && may(piece)).or_else(|| {
            let is =
                |number, what: &dyn Fn(PieceIndex) -> bool| config.layout.piece(number).is_some_and(what);
            let need = |number| is(number, &|piece| !suggestions.is_taken(piece));
            config.layout.piece(config.pieces.next_in_order(need, |number| is(number, &may))?)
        })
    }

    fn next_of_any(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let Self { config, slots, suggestions, .. } = self;
        let peer = slots.get(key.slot())?.peer.as_deref()?;
        let lacks = |piece| !peer.pieces.contains(piece);
        if let Some(piece) = suggestions.last_again(lacks) {
            return Some(piece);
        }
        for _ in 0..MOST_TRIES {
            let piece = config.layout.piece(config.pieces.next_to_spread(&mut config.rng)?)?;
            match (suggestions.is_taken(piece), lacks(piece)) {
                (true, _) => {}
                (false, true) => return Some(piece),
                // It has it, and keeps what it has.
                (false, false) => suggestions.put_back(piece),
            }
        }
        None
    }
}
