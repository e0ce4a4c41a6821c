//! New pieces: which peer a seed gave each to first, and whether another had it of that one soon. So a seed, which has
//! nothing to gain, can tell who gives and who only takes, and what was given in vain is given again. "Somebody else has
//! it" is what its other peers say of themselves: nobody can earn anything by what he says of himself.

use std::collections::BTreeMap;

use super::super::PeerKey;
use super::TorrentShard;
use crate::layout::PieceIndex;
use crate::time::{Duration, Instant};

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
        self.given.insert(piece, Given { to, at: now, left: len });
    }

    /// Another is to get it.
    pub(super) fn give_back(&mut self, piece: PieceIndex) {
        self.given.remove(&piece);
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
            (given.at, given.left) = (now, given.left.saturating_sub(u64::from(bytes)));
        }
    }

    /// One of our peers has the piece, or one of another shard's: who passed it on, if somebody did.
    fn passed_on(&mut self, now: Instant, piece: PieceIndex, by: Option<PeerKey>) -> Option<PeerKey> {
        let given = *self.given.get(&piece).filter(|given| Some(given.to) != by)?;
        self.given.remove(&piece);
        self.passed_on = self.passed_on.saturating_add(1);
        let parts = self.passed_on.min(REMEMBERED);
        self.lag = (self.lag * (parts - 1) + now.since(given.at)) / parts;
        Some(given.to)
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
        let suggesting = self.suggestions.began() && !self.super_seeding;
        suggesting
            && !(self.config.pieces.all_given_out()
                && self.givings.is_empty()
                && self.suggestions.none_returned())
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
        let Some(giver) = self.givings.passed_on(now, piece, by) else {
            return self.note_elsewhere(piece, by);
        };
        let len = u64::from(self.config.layout.piece_len(piece));
        if let Some(peer) = self.peer_mut(giver) {
            peer.courier.passes_on(len);
            // It may be trusted with one more.
            self.suggest(giver);
        }
        self.was_passed_on(now, giver, piece);
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
