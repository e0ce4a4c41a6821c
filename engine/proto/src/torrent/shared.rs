//! What the shards of a torrent share without a message: the state of every piece, and the bytes of memory that
//! pieces in assembly may take. The only atomics of the protocol; everything else crosses by message. Loom
//! models are at the end.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::ShardId;
use crate::layout::PieceIndex;
use crate::picker::Selection;
use crate::rng::Rng;

/// Where a piece stands. A failed hash or write goes back to `Free`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// Not yet looked for on disk: nobody may claim it.
    Unchecked,
    /// Nobody has it or assembles it.
    Free,
    /// That shard alone assembles it.
    Claimed(ShardId),
    /// Received, its hash not yet known.
    Verifying(ShardId),
    /// Right, not yet on disk.
    Writing(ShardId),
    /// On disk and right: may be offered and read.
    Have,
    /// Not on disk, and not wanted: nobody may claim it.
    Unwanted,
}

/// Not a piece.
const NOWHERE: u32 = u32::MAX;

const FREE: u8 = 0;
const UNCHECKED: u8 = 1;
const HAVE: u8 = 2;
const UNWANTED: u8 = 3;
const CLAIMED: u8 = 0x10;
const VERIFYING: u8 = 0x20;
const WRITING: u8 = 0x30;

impl PieceState {
    fn encode(self) -> u8 {
        match self {
            Self::Free => FREE,
            Self::Unchecked => UNCHECKED,
            Self::Have => HAVE,
            Self::Unwanted => UNWANTED,
            Self::Claimed(shard) => CLAIMED | shard.0,
            Self::Verifying(shard) => VERIFYING | shard.0,
            Self::Writing(shard) => WRITING | shard.0,
        }
    }

    fn decode(raw: u8) -> Self {
        let shard = ShardId(raw & 0x0f);
        match raw & 0xf0 {
            CLAIMED => Self::Claimed(shard),
            VERIFYING => Self::Verifying(shard),
            WRITING => Self::Writing(shard),
            _ if raw == HAVE => Self::Have,
            _ if raw == UNCHECKED => Self::Unchecked,
            _ if raw == UNWANTED => Self::Unwanted,
            _ => Self::Free,
        }
    }
}

/// The state of every piece of a torrent, one byte each, changed by compare-and-swap.
#[derive(Debug)]
pub struct SharedPieces {
    states: Box<[AtomicU8]>,
    /// What is wanted; all, where there is none.
    selection: Option<Selection>,
    /// How many states are `Free`; may lag behind them by the moment between the two stores.
    free: AtomicU32,
    /// How many states are `Have`; never ahead of them.
    have: AtomicU32,
    /// How many wanted pieces are not `Have`; never behind the states.
    missing: AtomicU32,
    /// How many states are `Unchecked`; never behind them.
    unchecked: AtomicU32,
    /// Where a seed began to spread its pieces, and how many it went through since.
    spread_from: AtomicU32,
    spread: AtomicU32,
    /// How many of the first pieces were spread to those who want them in order, or passed over.
    in_order: AtomicU32,
    /// Super-seeding is over.
    is_spread: AtomicBool,
}

impl SharedPieces {
    /// A torrent of `count` pieces, none of them looked for yet.
    pub fn unchecked(count: u32) -> Self {
        Self::all(count, UNCHECKED, 0)
    }

    /// A torrent of `count` pieces of which nothing is on disk.
    pub fn free(count: u32) -> Self {
        Self::all(count, FREE, count)
    }

    /// A torrent of `count` pieces that are all on disk and right.
    pub fn complete(count: u32) -> Self {
        let pieces = Self::all(count, HAVE, 0);
        pieces.have.store(count, Ordering::Release);
        pieces.missing.store(0, Ordering::Release);
        pieces
    }

    /// The same torrent, of which only some is wanted. For pieces that were not looked for yet.
    ///
    /// # Panics
    /// Where some were, or the selection is another torrent's.
    pub fn selecting(self, selection: Selection) -> Self {
        assert!(self.have_count() == 0 && self.free_count() == 0, "looked for already");
        assert_eq!(self.piece_count(), selection.piece_count());
        self.missing.store(selection.wanted_count(), Ordering::Release);
        Self { selection: Some(selection), ..self }
    }

    fn all(count: u32, state: u8, free: u32) -> Self {
        Self {
            states: (0..count).map(|_| AtomicU8::new(state)).collect(),
            selection: None,
            free: AtomicU32::new(free),
            have: AtomicU32::new(0),
            missing: AtomicU32::new(count),
            unchecked: AtomicU32::new(if state == UNCHECKED { count } else { 0 }),
            spread_from: AtomicU32::new(NOWHERE),
            spread: AtomicU32::new(0),
            in_order: AtomicU32::new(0),
            is_spread: AtomicBool::new(false),
        }
    }

    /// Number of pieces.
    pub fn piece_count(&self) -> u32 {
        self.states.len() as u32
    }

    /// Where the piece stands.
    pub fn state(&self, piece: PieceIndex) -> PieceState {
        PieceState::decode(self.states[piece.index()].load(Ordering::Acquire))
    }

    /// Whether the piece is on disk and right.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.state(piece) == PieceState::Have
    }

    /// How many pieces nobody assembles.
    pub fn free_count(&self) -> u32 {
        self.free.load(Ordering::Acquire)
    }

    /// How many pieces are on disk and right.
    pub fn have_count(&self) -> u32 {
        self.have.load(Ordering::Acquire)
    }

    /// Whether all pieces were looked for on disk.
    pub fn are_checked(&self) -> bool {
        self.unchecked.load(Ordering::Acquire) == 0
    }

    /// Whether all pieces are on disk and right.
    pub fn is_complete(&self) -> bool {
        self.have_count() == self.piece_count()
    }

    /// What is wanted; all, where there is none.
    pub const fn selection(&self) -> Option<&Selection> {
        self.selection.as_ref()
    }

    /// Whether the piece is wanted.
    pub fn wants(&self, piece: PieceIndex) -> bool {
        self.selection.as_ref().is_none_or(|selection| selection.wants(piece))
    }

    /// How many pieces are wanted, on disk or not.
    pub fn wanted_count(&self) -> u32 {
        self.selection.as_ref().map_or(self.piece_count(), Selection::wanted_count)
    }

    /// How many wanted pieces are not on disk and right.
    pub fn missing_count(&self) -> u32 {
        self.missing.load(Ordering::Acquire)
    }

    /// Whether all that is wanted is on disk and right: a seed, or a partial seed (BEP 21).
    pub fn is_finished(&self) -> bool {
        self.missing_count() == 0
    }

    /// The next piece that a seed gives to somebody, by number: each once, whichever shard asks. They begin at a random
    /// one, so that several seeds do not spread the same.
    pub(super) fn next_to_spread(&self, rng: &mut Rng) -> Option<u32> {
        let count = self.piece_count();
        loop {
            let more = |past| (past < count).then_some(past + 1);
            let past = self.spread.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
            let from = rng.below(count as usize) as u32;
            let begun = self.spread_from.compare_exchange(NOWHERE, from, Ordering::AcqRel, Ordering::Acquire);
            let from = begun.map_or_else(|begun| begun, |_| from);
            let number = (from + past) % count;
            if number >= self.given_in_order() {
                return Some(number);
            }
        }
    }

    /// The same in order, for a peer who wants it so: the first, where that one `may` be given to it. Those that were given
    /// out, or that there is no `need` to give, are passed over.
    pub(super) fn next_in_order(&self, need: impl Fn(u32) -> bool, may: impl Fn(u32) -> bool) -> Option<u32> {
        loop {
            let next = self.in_order.load(Ordering::Acquire);
            if next >= self.piece_count() {
                return None;
            }
            let give = need(next) && !self.was_spread(next);
            if give && !may(next) {
                return None;
            }
            let taken = self.in_order.compare_exchange(next, next + 1, Ordering::AcqRel, Ordering::Acquire);
            if give && taken.is_ok() {
                return Some(next);
            }
        }
    }

    /// How many of the first pieces [`next_in_order`](Self::next_in_order) went through.
    pub(super) fn given_in_order(&self) -> u32 {
        self.in_order.load(Ordering::Acquire)
    }

    /// Whether [`next_to_spread`](Self::next_to_spread) gave the piece out.
    fn was_spread(&self, number: u32) -> bool {
        let (count, from) = (self.piece_count(), self.spread_from.load(Ordering::Acquire));
        from != NOWHERE && (number + count - from) % count < self.spread.load(Ordering::Acquire)
    }

    /// Whether every piece was given out by [`next_to_spread`](Self::next_to_spread) or
    /// [`next_in_order`](Self::next_in_order).
    pub(super) fn all_given_out(&self) -> bool {
        self.spread.load(Ordering::Acquire).max(self.given_in_order()) >= self.piece_count()
    }

    /// Super-seeding is over, on all shards.
    pub(super) fn end_spreading(&self) {
        self.is_spread.store(true, Ordering::Release);
    }

    /// Whether super-seeding is over.
    pub(super) fn is_spread(&self) -> bool {
        self.is_spread.load(Ordering::Acquire)
    }

    /// Takes a free piece for `shard`; false where somebody was faster or it is not free.
    #[must_use]
    pub fn claim(&self, piece: PieceIndex, shard: ShardId) -> bool {
        let claimed = self.change(piece, PieceState::Free, PieceState::Claimed(shard));
        if claimed {
            self.free.fetch_sub(1, Ordering::AcqRel);
        }
        claimed
    }

    /// Gives an unchecked piece its result: `Have` where `good`, else `Free` or `Unwanted`. False where it was checked
    /// before.
    pub fn checked(&self, piece: PieceIndex, good: bool) -> bool {
        let to = match (good, self.wants(piece)) {
            (true, _) => PieceState::Have,
            (false, true) => PieceState::Free,
            (false, false) => PieceState::Unwanted,
        };
        let changed = self.change(piece, PieceState::Unchecked, to);
        match to {
            PieceState::Have if changed => self.count_had(piece),
            PieceState::Free if changed => drop(self.free.fetch_add(1, Ordering::AcqRel)),
            _ => {}
        }
        if changed {
            self.unchecked.fetch_sub(1, Ordering::AcqRel);
        }
        changed
    }

    /// The owner has received all of it.
    pub(super) fn verifying(&self, piece: PieceIndex, owner: ShardId) {
        self.step(piece, PieceState::Claimed(owner), PieceState::Verifying(owner));
    }

    /// Its hash is right.
    pub(super) fn writing(&self, piece: PieceIndex, owner: ShardId) {
        self.step(piece, PieceState::Verifying(owner), PieceState::Writing(owner));
    }

    /// Its data is on disk.
    pub(super) fn have(&self, piece: PieceIndex, owner: ShardId) {
        self.step(piece, PieceState::Writing(owner), PieceState::Have);
        self.count_had(piece);
    }

    /// Its hash was wrong and the owner begins again.
    pub(super) fn retry(&self, piece: PieceIndex, owner: ShardId) {
        self.step(piece, PieceState::Verifying(owner), PieceState::Claimed(owner));
    }

    /// The owner, at whatever stage, gives it up.
    pub(super) fn release(&self, piece: PieceIndex, owner: ShardId) {
        let from = self.state(piece);
        let owned = [PieceState::Claimed(owner), PieceState::Verifying(owner), PieceState::Writing(owner)];
        assert!(owned.contains(&from), "shard {owner:?} released {piece:?}, which is {from:?}");
        self.step(piece, from, PieceState::Free);
        self.free.fetch_add(1, Ordering::AcqRel);
    }

    /// The owner hands a claimed piece to another shard.
    pub(super) fn transfer(&self, piece: PieceIndex, from: ShardId, to: ShardId) {
        self.step(piece, PieceState::Claimed(from), PieceState::Claimed(to));
    }

    fn count_had(&self, piece: PieceIndex) {
        self.have.fetch_add(1, Ordering::AcqRel);
        if self.wants(piece) {
            self.missing.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn change(&self, piece: PieceIndex, from: PieceState, to: PieceState) -> bool {
        let state = &self.states[piece.index()];
        state.compare_exchange(from.encode(), to.encode(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// A change that only the owner makes: anything else in its way is a bug of ours.
    fn step(&self, piece: PieceIndex, from: PieceState, to: PieceState) {
        let changed = self.change(piece, from, to);
        assert!(changed, "{piece:?} is {:?}, not {from:?}", self.state(piece));
    }
}

/// Bytes that pieces in assembly may take, for the whole process.
#[derive(Debug)]
pub struct Budget {
    /// Only ever raised.
    limit: AtomicU64,
    /// Never above `limit`.
    used: AtomicU64,
}

impl Budget {
    /// At most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit: AtomicU64::new(limit), used: AtomicU64::new(0) }
    }

    /// The most that may be leased, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Raises the limit to `bytes`, where it is lower: a torrent with long pieces needs a few of them.
    pub fn raise_to(&self, bytes: u64) {
        self.limit.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Leased now, in bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Takes `bytes`; false where they are not left.
    #[must_use]
    pub fn lease(&self, bytes: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit());
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        assert!(before >= bytes, "released {bytes} bytes of {before} leased");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;
    use crate::picker::Priority;

    fn pieces(count: u32) -> (SharedPieces, PieceLayout) {
        (SharedPieces::free(count), PieceLayout::new(u64::from(count) * 16384, 16384).unwrap())
    }

    #[test]
    fn states_survive_their_byte() {
        for shard in 0..16 {
            let id = ShardId(shard);
            for state in [PieceState::Claimed(id), PieceState::Verifying(id), PieceState::Writing(id)] {
                assert_eq!(PieceState::decode(state.encode()), state);
            }
        }
        for state in [PieceState::Free, PieceState::Unchecked, PieceState::Have, PieceState::Unwanted] {
            assert_eq!(PieceState::decode(state.encode()), state);
        }
    }

    /// In order to some, in any order to others: each once.
    #[test]
    fn a_seed_gives_each_piece_out_once() {
        let shared = SharedPieces::complete(100);
        let mut rng = Rng::new(1);
        let mut given = Vec::new();
        while !shared.all_given_out() {
            given.extend(shared.next_to_spread(&mut rng));
            given.extend(shared.next_in_order(|number| number != 3, |_| true));
        }
        let in_all = given.len();
        given.sort_unstable();
        given.dedup();
        assert!(given.len() == in_all && in_all >= 99, "{given:?}");
    }

    #[test]
    fn a_piece_goes_its_way_once() {
        let (shared, layout) = pieces(2);
        let (piece, a, b) = (layout.piece(1).unwrap(), ShardId(0), ShardId(1));
        assert!(shared.claim(piece, a) && !shared.claim(piece, b));
        shared.transfer(piece, a, b);
        shared.verifying(piece, b);
        shared.retry(piece, b);
        shared.verifying(piece, b);
        shared.writing(piece, b);
        shared.have(piece, b);
        assert_eq!((shared.free_count(), shared.have_count()), (1, 1));
        assert!(!shared.claim(piece, a));
    }

    #[test]
    #[should_panic(expected = "released piece 0")]
    fn only_the_owner_releases() {
        let (shared, layout) = pieces(1);
        let piece = layout.piece(0).unwrap();
        assert!(shared.claim(piece, ShardId(1)));
        shared.release(piece, ShardId(0));
    }

    #[test]
    fn unchecked_pieces_are_not_claimed() {
        let shared = SharedPieces::unchecked(2);
        let layout = PieceLayout::new(32768, 16384).unwrap();
        let (first, second) = (layout.piece(0).unwrap(), layout.piece(1).unwrap());
        assert!(!shared.claim(first, ShardId(0)));
        assert!(shared.checked(first, true) && !shared.are_checked());
        assert!(shared.checked(second, false) && shared.are_checked());
        assert!(!shared.checked(first, false), "a result is final");
        assert!(shared.has(first) && shared.claim(second, ShardId(0)));
    }

    #[test]
    fn what_is_not_wanted_is_not_claimed_and_not_missed() {
        let layout = PieceLayout::with_block_len(4, 1, 1).unwrap();
        let files = [Priority::Skip, Priority::Normal, Priority::High, Priority::Skip];
        let selection = Selection::of_files(&layout, files.map(|priority| (1, priority)));
        let shared = SharedPieces::unchecked(4).selecting(selection);
        let piece = |number| layout.piece(number).unwrap();
        assert_eq!((shared.wanted_count(), shared.missing_count()), (2, 2));
        for (number, good) in [(0, false), (1, false), (2, true), (3, true)] {
            assert!(shared.checked(piece(number), good));
        }
        assert_eq!((shared.free_count(), shared.have_count(), shared.missing_count()), (1, 2, 1));
        assert_eq!(shared.state(piece(0)), PieceState::Unwanted);
        assert!(shared.has(piece(3)), "what is there is there, wanted or not");
        assert!(!shared.claim(piece(0), ShardId(0)) && shared.claim(piece(1), ShardId(0)));
        shared.verifying(piece(1), ShardId(0));
        shared.writing(piece(1), ShardId(0));
        assert!(!shared.is_finished());
        shared.have(piece(1), ShardId(0));
        assert!(shared.is_finished() && !shared.is_complete());
        assert!(SharedPieces::unchecked(4).selecting(Selection::nothing(4)).is_finished());
        assert!(SharedPieces::complete(4).is_finished() && !SharedPieces::free(4).is_finished());
    }

    #[test]
    fn the_budget_is_never_exceeded() {
        let budget = Budget::new(10);
        assert!(budget.lease(10) && !budget.lease(1));
        budget.release(4);
        assert!(!budget.lease(u64::MAX) && budget.lease(4));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::layout::PieceLayout;
    use loom::sync::Arc;

    #[test]
    fn one_claim_wins_and_a_release_can_be_claimed() {
        loom::model(|| {
            let shared = Arc::new(SharedPieces::free(1));
            let piece = PieceLayout::new(1, 1).unwrap().piece(0).unwrap();
            let claim = |shard: u8| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    let won = shared.claim(piece, ShardId(shard));
                    if won {
                        shared.verifying(piece, ShardId(shard));
                        shared.release(piece, ShardId(shard));
                    }
                    won
                })
            };
            let (a, b) = (claim(0), claim(1));
            assert!(a.join().unwrap() | b.join().unwrap());
            assert_eq!((shared.state(piece), shared.free_count()), (PieceState::Free, 1));
        });
    }

    #[test]
    fn what_is_had_is_seen_whole() {
        loom::model(|| {
            let shared = Arc::new(SharedPieces::free(1));
            let data = Arc::new(AtomicU32::new(0));
            let piece = PieceLayout::new(1, 1).unwrap().piece(0).unwrap();
            let writer = {
                let (shared, data) = (Arc::clone(&shared), Arc::clone(&data));
                loom::thread::spawn(move || {
                    assert!(shared.claim(piece, ShardId(0)));
                    shared.verifying(piece, ShardId(0));
                    shared.writing(piece, ShardId(0));
                    data.store(7, Ordering::Relaxed);
                    shared.have(piece, ShardId(0));
                })
            };
            if shared.is_complete() || shared.is_finished() {
                assert!(shared.has(piece), "the counts are never ahead of the state");
            }
            if shared.has(piece) {
                assert_eq!(data.load(Ordering::Relaxed), 7);
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn leases_never_exceed_the_budget() {
        loom::model(|| {
            let budget = Arc::new(Budget::new(3));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let budget = Arc::clone(&budget);
                    loom::thread::spawn(move || {
                        let got = budget.lease(2);
                        assert!(budget.used() <= 3);
                        if got {
                            budget.release(2);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(budget.used(), 0);
        });
    }
}
