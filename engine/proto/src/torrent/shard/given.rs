//! New pieces: which peer a seed gave each to first, and whether another had it of that one soon. So a seed, which has
//! nothing to gain, can tell who gives and who only takes, and what was given in vain is given again. "Somebody else has
//! it" is what its other peers say of themselves: nobody can earn anything by what he says of himself, nor by what another
//! of the same address says, nor for a piece that did not leave whole.

use std::collections::BTreeMap;

use super::super::PeerKey;
use super::TorrentShard;
use crate::layout::PieceIndex;
use crate::time::{Duration, Instant};

/// What it takes to pass a piece on counts as no less, so that accomplices cannot make those who are honest look late,
const LEAST_LAG: Duration = Duration::from_millis(250);

/// and as no more: who is waited for without end is not held to anything.
const MOST_LAG: Duration = Duration::from_secs(60);

/// As many pieces must have been passed on before it is known how long that takes.
const ENOUGH: u32 = 8;

/// A piece that was not passed on within so many times as long as it takes on average was kept, and
const PATIENCE: u32 = 3;

/// so much later: all of it is seen by news that is gathered for a tenth of a second.
const NEWS: Duration = Duration::from_millis(500);

/// The average is that of so many of the last.
const REMEMBERED: u32 = 16;

/// A piece that one peer has, or is about to get, and no other.
#[derive(Clone, Copy, Debug)]
struct Given {
    to: PeerKey,
    /// When some of it left for that peer last, or was asked for.
    at: Instant,
    /// Bytes that have not left for it.
    left: u64,
    /// None of it has.
    untouched: bool,
}

/// What became of a piece that is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    to: PeerKey,
    /// That peer passed it on. Else it may be somebody else's doing, or is said by the peer's own accomplice.
    earned: bool,
}

/// The pieces that one peer got of us and no other was seen to have.
#[derive(Debug, Default)]
pub(super) struct Givings {
    given: BTreeMap<PieceIndex, Given>,
    /// How many were passed on.
    passed_on: u32,
    /// How long that takes, on average.
    lag: Duration,
}

impl Givings {
    /// The peer is the first to get the piece.
    pub(super) fn give(&mut self, now: Instant, piece: PieceIndex, len: u64, to: PeerKey) {
        self.given.insert(piece, Given { to, at: now, left: len, untouched: true });
    }

    /// Bytes that the table takes.
    pub(super) fn memory(&self) -> usize {
        self.given.len() * size_of::<(PieceIndex, Given)>()
    }

    /// Another is to get it.
    pub(super) fn give_back(&mut self, piece: PieceIndex) {
        self.given.remove(&piece);
    }

    /// The same for all that the peer has.
    fn take_of(&mut self, to: PeerKey) -> Vec<PieceIndex> {
        let pieces: Vec<PieceIndex> =
            self.given.iter().filter(|(_, given)| given.to == to).map(|(&piece, _)| piece).collect();
        pieces.iter().for_each(|piece| _ = self.given.remove(piece));
        pieces
    }

    /// Whether none is on its way to others.
    pub(super) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether peers say what they have, so that it shows who passes on what. Those that are not ours need not say it to
    /// one who has everything.
    pub(super) const fn shows(&self) -> bool {
        self.passed_on > 0
    }

    /// Some of the piece leaves for a peer.
    fn note_sent(&mut self, now: Instant, piece: PieceIndex, to: PeerKey, bytes: u32) {
        if let Some(given) = self.given.get_mut(&piece).filter(|given| given.to == to) {
            (given.at, given.untouched) = (now, false);
            given.left = given.left.saturating_sub(u64::from(bytes));
        }
    }

    /// Whether the piece is that peer's, and nothing of it left.
    fn is_untouched(&self, piece: PieceIndex, to: PeerKey) -> bool {
        self.given.get(&piece).is_some_and(|given| given.to == to && given.untouched)
    }

    /// To whom the piece was given.
    fn holder(&self, piece: PieceIndex) -> Option<PeerKey> {
        self.given.get(&piece).map(|given| given.to)
    }

    /// Another peer has the piece, `foreign` to the one that got it: what became of it, if it was given to somebody.
    fn elsewhere(&mut self, now: Instant, piece: PieceIndex, foreign: bool) -> Option<Outcome> {
        let given = self.given.remove(&piece)?;
        let earned = foreign && given.left == 0;
        if earned {
            self.passed_on = self.passed_on.saturating_add(1);
            let parts = self.passed_on.min(REMEMBERED);
            let lag = now.since(given.at).clamp(LEAST_LAG, MOST_LAG);
            self.lag = (self.lag * (parts - 1) + lag) / parts;
        }
        Some(Outcome { to: given.to, earned })
    }

    /// Those that were not passed on in time: to whom they were given, and whether they left whole.
    fn late(&self, now: Instant) -> Vec<(PieceIndex, PeerKey, bool)> {
        if self.passed_on < ENOUGH {
            return Vec::new();
        }
        let patience = self.lag * PATIENCE + NEWS;
        let late = self.given.iter().filter(|(_, given)| now.since(given.at) > patience);
        late.map(|(&piece, given)| (piece, given.to, given.left == 0)).collect()
    }
}

impl TorrentShard {
    /// Whether there are pieces that may be with one peer alone, or with none.
    pub(super) fn has_to_spread(&self) -> bool {
        let left = || self.suggestions.are_left(self.config.pieces.all_given_out());
        self.suggestions.began() && !self.super_seeding && (!self.givings.is_empty() || left())
    }

    /// The peer asks for a piece that was given to nobody.
    pub(super) fn note_first(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let len = u64::from(self.config.layout.piece_len(piece));
        self.givings.give(now, piece, len, key);
        if let Some(peer) = self.peer_mut(key) {
            peer.courier.gets_new();
        }
    }

    /// Some bytes of the piece leave for the peer.
    pub(super) fn note_leaving(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, bytes: u32) {
        self.givings.note_sent(now, piece, key, bytes);
    }

    /// A peer has the piece, or one of another shard: whoever had it of us first passed it on.
    pub(super) fn note_spread(&mut self, now: Instant, piece: PieceIndex, by: Option<PeerKey>) {
        if !self.have.is_full() {
            return;
        }
        let Some(holder) = self.givings.holder(piece).filter(|&holder| Some(holder) != by) else {
            return self.note_elsewhere(piece, by);
        };
        let addr = |key| self.peer(key).map(|peer| peer.addr.ip());
        let foreign = by.is_none_or(|by| addr(by) != addr(holder));
        let Some(Outcome { to, earned }) = self.givings.elsewhere(now, piece, foreign) else { return };
        let len = u64::from(self.config.layout.piece_len(piece));
        if let Some(peer) = self.peer_mut(to) {
            if earned {
                peer.courier.passes_on(len);
            } else {
                peer.courier.loses(now, 0, 1);
            }
            // It may be trusted with one more.
            self.suggest(to);
        }
        self.was_passed_on(now, to, piece);
    }

    /// The peer took a request for the piece back, or it was dropped: it is given to others where nothing of it left.
    pub(super) fn note_dropped(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let waits = |peer: &crate::peer::Peer| peer.uploads.iter().any(|span| span.piece() == piece);
        let undone = self.givings.is_untouched(piece, key) && !self.peer(key).is_some_and(waits);
        if !undone || self.super_seeding {
            return;
        }
        self.givings.give_back(piece);
        self.suggestions.give_back(piece);
        if let Some(peer) = self.peer_mut(key) {
            peer.courier.loses(now, 0, 1);
        }
    }

    /// The peer is gone, and what it alone has with it.
    pub(super) fn take_givings_back(&mut self, key: PeerKey) {
        for piece in self.givings.take_of(key) {
            self.suggestions.give_back(piece);
        }
    }

    /// What was not passed on is given to others; who kept it is trusted less.
    pub(super) fn look_over_given(&mut self, now: Instant) {
        if self.super_seeding {
            return;
        }
        let mut losses: BTreeMap<PeerKey, [u32; 2]> = BTreeMap::new();
        for (piece, key, whole) in self.givings.late(now) {
            let waits = |peer: &crate::peer::Peer| peer.uploads.iter().any(|span| span.piece() == piece);
            if !whole && self.peer(key).is_some_and(waits) {
                continue;
            }
            losses.entry(key).or_default()[usize::from(!whole)] += 1;
            self.suggestions.give_back(piece);
            self.givings.give_back(piece);
        }
        for (key, [kept, not_whole]) in losses {
            if let Some(peer) = self.peer_mut(key) {
                peer.courier.loses(now, kept, not_whole);
            }
        }
    }
}
