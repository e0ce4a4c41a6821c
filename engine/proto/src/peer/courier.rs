//! How far a peer is trusted with pieces that nobody else has: what a seed suggested to it, and whether it passes on
//! what it gets. One that does may have ever more under way, like the congestion window of TCP; one that keeps what it
//! gets for itself soon gets nothing new.

use crate::layout::PieceIndex;
use crate::limits::MAX_SUGGESTIONS;
use crate::time::{Duration, Instant};

/// New pieces that a peer may have of which nothing is known: what it takes up while the first is on its way to others.
const FIRST_WINDOW: u32 = 3;

/// Most new pieces that a peer may have and was not seen to pass on: four times as many suggestions as it can hold.
const LARGEST_WINDOW: u32 = 4 * MAX_SUGGESTIONS as u32;

/// Suggestions that a peer has ahead of those that it takes up in a second.
const AHEAD: u32 = 2;

/// A peer that begins so many other pieces while it has suggestions does not follow them.
const DEAF_AFTER: u32 = 8;

/// A peer that begins so many pieces one after the other, which were not suggested to it, wants them in order,
const IN_ORDER_AFTER: u32 = 3;

/// up to so many are remembered,
const MOST_ORDERED: u32 = 8;

/// each at most so far after the last: others give it those between.
const STEP: u32 = 64;

/// One that wants them in order has so many parts of a second fewer ahead: what was suggested to the one is waited for by all.
const IN_ORDER_AHEAD: u32 = 4;

/// One that kept everything is tried again after so long: what is given to it in vain is given to another some seconds later,
/// which is nothing of this time, should it be at the very end.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);

/// What a seed holds of a peer that it gives new pieces to.
#[derive(Debug)]
pub(crate) struct Courier {
    /// Pieces that were suggested to it and that it did not begin.
    suggested: Vec<PieceIndex>,
    /// New pieces that it may have and was not seen to pass on.
    window: u32,
    /// Those that it has.
    unproven: u32,
    /// Suggestions that it took up in this second and in the last.
    taken_up: [u32; 2],
    /// Pieces it began that were not suggested to it, since it took up one that was.
    ignored: u32,
    /// The piece that it began last.
    last: Option<PieceIndex>,
    /// How many it began one after the other that were not suggested to it, less what it began in no order.
    ordered: u32,
    /// It took up what was suggested to it.
    heeds: bool,
    /// When it was found to keep something last.
    kept_at: Instant,
    /// Bytes of pieces that it had of us first, and that others had since.
    pub(crate) passed_on: u64,
}

impl Courier {
    /// One of whom nothing is known.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            suggested: Vec::new(),
            window: FIRST_WINDOW,
            unproven: 0,
            taken_up: [0; 2],
            ignored: 0,
            last: None,
            ordered: 0,
            heeds: false,
            kept_at: now,
            passed_on: 0,
        }
    }

    /// Whether it keeps what is new for itself.
    pub(crate) const fn keeps(&self) -> bool {
        self.window == 0
    }

    /// How many more pieces may be suggested to it: enough for what it asks for until the next suggestion reaches it, and
    /// of those that it is trusted with, where it shows who passes on what.
    pub(crate) fn room(&self, shows: bool) -> usize {
        if self.ignored >= DEAF_AFTER {
            return 0;
        }
        let [now, before] = self.taken_up;
        let share = if self.goes_in_order() { IN_ORDER_AHEAD } else { 1 };
        let ahead = (AHEAD + now.max(before) / share).min(MAX_SUGGESTIONS as u32);
        let trusted = if shows { self.window.saturating_sub(self.unproven) } else { ahead };
        (ahead.min(trusted) as usize).saturating_sub(self.suggested.len())
    }

    /// How many were suggested to it that it did not begin.
    pub(crate) const fn suggested(&self) -> usize {
        self.suggested.len()
    }

    /// The piece is suggested to it.
    pub(crate) fn suggest(&mut self, piece: PieceIndex) {
        self.suggested.push(piece);
    }

    /// It asks for a block of the piece. Whether that was suggested to it.
    pub(crate) fn begins(&mut self, piece: PieceIndex) -> bool {
        let last = self.last.replace(piece);
        let (new, suggested) = (last != Some(piece), self.settle(piece));
        if suggested {
            (self.ignored, self.heeds) = (0, true);
        } else if new {
            self.ignored += u32::from(!self.suggested.is_empty());
            self.note_order(last, piece);
        }
        suggested
    }

    /// Pieces that others gave up are begun out of order, and not far back.
    fn note_order(&mut self, last: Option<PieceIndex>, piece: PieceIndex) {
        let last = last.unwrap_or(piece);
        if piece.number().abs_diff(last.number()) > STEP {
            self.ordered /= 2;
        } else if piece >= last {
            self.ordered = (self.ordered + 1).min(MOST_ORDERED);
        }
    }

    /// Whether it takes what is suggested to it.
    pub(crate) const fn heeds(&self) -> bool {
        self.heeds && self.ignored < DEAF_AFTER
    }

    /// Whether it wants pieces in order.
    pub(crate) const fn goes_in_order(&self) -> bool {
        self.ordered >= IN_ORDER_AFTER
    }

    /// The piece need not be suggested to it any more. Whether it was.
    pub(crate) fn settle(&mut self, piece: PieceIndex) -> bool {
        let Some(at) = self.suggested.iter().position(|&suggested| suggested == piece) else { return false };
        self.suggested.swap_remove(at);
        self.taken_up[0] += 1;
        true
    }

    /// What was suggested to it and may be suggested to others: it follows no suggestions.
    pub(crate) fn take_suggested(&mut self) -> Vec<PieceIndex> {
        std::mem::take(&mut self.suggested)
    }

    /// The same as it is no longer served, or others are suggested: it may follow those.
    pub(crate) fn rest(&mut self) -> Vec<PieceIndex> {
        self.heeds &= self.ignored < DEAF_AFTER;
        self.ignored = 0;
        self.take_suggested()
    }

    /// Whether it follows no suggestions, and has some.
    pub(crate) fn is_deaf(&self) -> bool {
        self.ignored >= DEAF_AFTER && !self.suggested.is_empty()
    }

    /// It is the first to get a new piece.
    pub(crate) const fn gets_new(&mut self) {
        self.unproven += 1;
    }

    /// Whether it has new pieces that nobody else was seen to have.
    pub(crate) const fn has_new(&self) -> bool {
        self.unproven > 0
    }

    /// Another has a piece that it got first.
    pub(crate) fn passes_on(&mut self, bytes: u64) {
        self.passed_on += bytes;
        self.unproven = self.unproven.saturating_sub(1);
        self.window = (self.window + 1).min(LARGEST_WINDOW);
    }

    /// Some pieces that it got first nobody else has, and others are to get them: it kept them, or did not get them whole.
    pub(crate) const fn loses(&mut self, now: Instant, kept: u32, not_whole: u32) {
        self.unproven = self.unproven.saturating_sub(kept + not_whole);
        if kept > 0 {
            (self.window, self.kept_at) = (self.window / 2, now);
        }
    }

    /// A second has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.taken_up = [0, self.taken_up[0]];
        if self.window == 0 && now.since(self.kept_at) >= FORGIVEN_AFTER {
            self.window = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;

    fn piece(number: u32) -> PieceIndex {
        PieceLayout::with_block_len(1_000, 1, 1).unwrap().piece(number).unwrap()
    }

    #[test]
    fn who_passes_on_is_trusted_with_more() {
        let mut peer = Courier::new(Instant::ZERO);
        for round in 0..LARGEST_WINDOW {
            (0..2).for_each(|_| peer.gets_new());
            (0..2).for_each(|_| peer.passes_on(10));
            assert!(!peer.keeps() && peer.passed_on == u64::from(round + 1) * 20);
        }
        (0..LARGEST_WINDOW).for_each(|_| peer.gets_new());
        assert_eq!((peer.room(true), peer.room(false)), (0, AHEAD as usize), "bounded");
    }

    #[test]
    fn who_keeps_everything_gets_nothing_new_for_a_while() {
        let mut peer = Courier::new(Instant::ZERO);
        let mut risked = 0;
        while !peer.keeps() {
            let before = risked;
            while peer.room(true) > 0 {
                risked += 1;
                peer.gets_new();
            }
            peer.loses(Instant::ZERO, risked - before, 0);
        }
        assert!(peer.room(true) == 0 && risked <= 4, "{risked}");
        peer.tick(Instant::ZERO + FORGIVEN_AFTER);
        assert!(!peer.keeps());
    }

    #[test]
    fn what_did_not_come_whole_is_not_held_against_it() {
        let mut peer = Courier::new(Instant::ZERO);
        (0..3).for_each(|_| peer.gets_new());
        peer.loses(Instant::ZERO, 0, 3);
        assert_eq!(peer.room(true), AHEAD as usize);
    }

    #[test]
    fn the_faster_it_takes_them_up_the_more_it_has_ahead() {
        let mut peer = Courier::new(Instant::ZERO);
        let mut next = 0;
        for _ in 0..10 {
            for _ in 0..peer.room(false) {
                peer.suggest(piece(next));
                next += 1;
            }
            let all: Vec<PieceIndex> = peer.suggested.clone();
            assert!(all.into_iter().all(|piece| peer.begins(piece)));
        }
        assert_eq!(peer.room(false), MAX_SUGGESTIONS);
        (0..2).for_each(|_| peer.tick(Instant::ZERO));
        assert_eq!(peer.room(false), AHEAD as usize);
    }

    #[test]
    fn who_does_not_follow_is_not_suggested_to() {
        let mut peer = Courier::new(Instant::ZERO);
        (100..1_000).for_each(|number| assert!(!peer.begins(piece(number))));
        assert_eq!(peer.room(true), AHEAD as usize, "there was nothing to follow");
        peer.suggest(piece(1));
        for number in 100..100 + DEAF_AFTER {
            assert!(!peer.is_deaf());
            (0..3).for_each(|_| assert!(!peer.begins(piece(number))));
        }
        assert!(peer.is_deaf());
        assert_eq!((peer.take_suggested(), peer.room(true), peer.is_deaf()), (vec![piece(1)], 0, false));
        assert_eq!((peer.rest(), peer.room(true)), (vec![], AHEAD as usize));
    }

    #[test]
    fn who_goes_in_order_is_known() {
        let after = |numbers: &[u32]| {
            let mut peer = Courier::new(Instant::ZERO);
            numbers.iter().for_each(|&number| assert!(!peer.begins(piece(number))));
            peer.goes_in_order()
        };
        assert!(!after(&[700, 10, 300, 20, 950]) && !after(&[3, 4]));
        assert!(after(&[0, 1, 5]) && after(&[700, 10, 11, 12, 40]));
        assert!(after(&[0, 5, 9, 2, 10]), "it went on with what others gave up");
        assert!(!after(&[0, 1, 5, 700]));
    }

    #[test]
    fn who_takes_what_is_suggested_heeds() {
        let mut peer = Courier::new(Instant::ZERO);
        peer.suggest(piece(1));
        assert!(!peer.heeds());
        peer.begins(piece(1));
        peer.rest();
        assert!(peer.heeds(), "though it is no longer served");
        peer.suggest(piece(2));
        (100..100 + DEAF_AFTER).for_each(|number| _ = peer.begins(piece(number)));
        assert!(!peer.heeds());
        peer.rest();
        assert!(!peer.heeds(), "until it does again");
    }
}
