//! What a peer suggests that we take of it (BEP 6), and for how long it is asked for nothing else. A seed that spreads
//! its content suggests each piece to one peer: whoever asks it for another piece takes the turn of something new, and
//! often gets what somebody else is about to pass on. One that merely hints, or falls silent, is asked as any other soon.

use crate::layout::PieceIndex;
use crate::limits::MAX_SUGGESTIONS;
use crate::time::{Duration, Instant};

/// For how long a seed that suggested something is asked for nothing else, from its last suggestion and from the last that
/// was taken up: longer than a piece takes to be passed on, where the next suggestion waits for that.
const HEEDED_FOR: Duration = Duration::from_secs(2);

/// How often the next suggestion is waited for in vain, before none is waited for any more.
const MOST_WAITS: u8 = 8;

/// A seed that suggests so many in a row that we or others have knows nothing of what is elsewhere: it may suggest what it
/// has in memory.
const DOUBTED_AFTER: u8 = 3;

/// A seed that suggests in order names a piece so far at most after the one before: others get those between.
const STEP: u32 = 128;

/// After so many pieces that were taken of it in order, a seed knows that they are wanted so, and suggests them so.
const KNOWN_AFTER: u8 = 4;

/// What a peer suggests.
#[derive(Debug, Default)]
pub(crate) struct Advice {
    /// Pieces that it suggested and that were not begun, the oldest first; at most [`MAX_SUGGESTIONS`].
    pieces: Vec<PieceIndex>,
    /// It is asked for these and nothing else, until then; longer where its answers to requests are on their way.
    heeded_until: Option<Instant>,
    /// How many it suggested in a row that were not new to those we know, up to [`DOUBTED_AFTER`].
    stale: u8,
    /// How often that was in vain.
    waits: u8,
    /// What it suggested last, of use or not.
    last: Option<PieceIndex>,
    /// That followed what it had suggested before.
    in_order: bool,
    /// Pieces that were begun of it, up to [`KNOWN_AFTER`].
    begun: u8,
}

impl Advice {
    /// It suggests something, of use or not.
    pub(crate) fn comes(&mut self, piece: PieceIndex) {
        let last = self.last.replace(piece);
        let follows = |last: PieceIndex| (1..=STEP).contains(&piece.number().saturating_sub(last.number()));
        self.in_order = last.is_some_and(follows);
    }

    /// What it suggests is `new`: neither we nor others that we know have it.
    pub(crate) fn judge(&mut self, new: bool) {
        self.stale = if new { 0 } else { (self.stale + 1).min(DOUBTED_AFTER) };
        if self.stale >= DOUBTED_AFTER {
            self.heeded_until = None;
        }
    }

    /// It suggests a piece that is of use; whether that is news. `heed`: it is to be asked for nothing else.
    pub(crate) fn hear(&mut self, now: Instant, piece: PieceIndex, heed: bool) -> bool {
        if self.pieces.len() >= MAX_SUGGESTIONS || self.pieces.contains(&piece) {
            return false;
        }
        self.pieces.push(piece);
        if heed && self.waits < MOST_WAITS && self.stale < DOUBTED_AFTER {
            self.heeded_until = Some(now + HEEDED_FOR);
        }
        true
    }

    /// The pieces that it suggested and that `useful` holds; the others are forgotten.
    pub(crate) fn pieces(&mut self, useful: impl Fn(PieceIndex) -> bool) -> &[PieceIndex] {
        self.pieces.retain(|&piece| useful(piece));
        &self.pieces
    }

    /// How many it suggested that were not begun.
    pub(crate) const fn len(&self) -> usize {
        self.pieces.len()
    }

    /// One more than are ever kept.
    #[cfg(test)]
    pub(crate) fn overfill(&mut self, piece: PieceIndex) {
        self.pieces.resize(MAX_SUGGESTIONS + 1, piece);
    }

    /// A piece was begun of it.
    pub(crate) fn take_up(&mut self, now: Instant, piece: PieceIndex) {
        self.begun = (self.begun + 1).min(KNOWN_AFTER);
        self.pieces.retain(|&suggested| suggested != piece);
        self.heeded_until = self.heeded_until.map(|_| now + HEEDED_FOR);
    }

    /// Time has passed. `idle`: nothing that it was asked for is on its way.
    pub(crate) fn lapse(&mut self, now: Instant, idle: bool) {
        if idle && self.heeded_until.is_some_and(|until| until <= now) {
            self.heeded_until = None;
            self.waits += 1;
        }
    }

    /// Whether it is asked for what it suggests and nothing else.
    pub(crate) const fn is_heeded(&self) -> bool {
        self.heeded_until.is_some()
    }

    /// It serves us no longer: what it suggested it suggests to others.
    pub(crate) fn forget(&mut self) {
        self.pieces.clear();
        self.heeded_until = None;
    }

    /// Whether it suggests pieces in order, as far as that shows.
    pub(crate) const fn is_in_order(&self) -> bool {
        self.in_order || self.begun >= KNOWN_AFTER
    }

    /// Whether it is told what we have though it has everything: a seed that suggests learns so what is elsewhere, and
    /// who passes on what he got.
    pub(crate) const fn wants_haves(&self) -> bool {
        self.last.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;

    const SECOND: Duration = Duration::from_secs(1);

    fn piece(number: u32) -> PieceIndex {
        PieceLayout::with_block_len(1_000, 1, 1).unwrap().piece(number).unwrap()
    }

    #[test]
    fn a_silent_seed_is_waited_for_a_while() {
        let (mut advice, now) = (Advice::default(), Instant::ZERO);
        assert!(!advice.is_heeded() && !advice.wants_haves());
        advice.comes(piece(1));
        assert!(advice.hear(now, piece(1), true));
        assert!(!advice.hear(now, piece(1), true), "known");
        advice.lapse(now + SECOND, true);
        assert!(advice.wants_haves() && advice.is_heeded());
        advice.take_up(now + SECOND, piece(1));
        advice.lapse(now + SECOND * 2, true);
        assert!(advice.is_heeded());
        advice.lapse(now + SECOND * 9, false);
        assert!(advice.is_heeded(), "its answers are on their way");
        advice.lapse(now + SECOND * 9, true);
        assert!(!advice.is_heeded());
    }

    /// However it times its suggestions.
    #[test]
    fn one_that_falls_silent_again_and_again_is_waited_for_no_more() {
        let (mut advice, mut now) = (Advice::default(), Instant::ZERO);
        let mut waited = Duration::ZERO;
        for number in 0..100 {
            advice.hear(now, piece(number), true);
            advice.take_up(now, piece(number));
            while advice.is_heeded() {
                advice.lapse(now + SECOND, true);
                (now, waited) = (now + SECOND, waited + SECOND);
            }
            if number % 10 == 0 {
                advice.forget();
            }
        }
        assert_eq!(waited, HEEDED_FOR * u32::from(MOST_WAITS));
    }

    #[test]
    fn a_seed_that_suggests_in_order_is_known() {
        let mut advice = Advice::default();
        let mut after = |number| {
            advice.comes(piece(number));
            advice.is_in_order()
        };
        assert_eq!([3, 90, 91, 60, 61, 400].map(&mut after), [false, true, true, false, true, false]);
        (0..KNOWN_AFTER.into()).for_each(|number| advice.take_up(Instant::ZERO, piece(number)));
        assert!(advice.is_in_order(), "it saw how we go");
    }

    #[test]
    fn who_suggests_what_all_have_is_not_heeded() {
        let (mut advice, now) = (Advice::default(), Instant::ZERO);
        assert!(advice.hear(now, piece(1), true));
        (1..DOUBTED_AFTER).for_each(|_| advice.judge(false));
        assert!(advice.is_heeded(), "somebody may have been faster");
        advice.judge(false);
        assert!(!advice.is_heeded());
        advice.judge(true);
        assert!(advice.hear(now, piece(2), true) && advice.is_heeded());
    }

    #[test]
    fn a_hint_is_kept_and_not_waited_for() {
        let (mut advice, now) = (Advice::default(), Instant::ZERO);
        (0..500).for_each(|number| {
            assert_eq!(advice.hear(now, piece(number), false), number < MAX_SUGGESTIONS as u32)
        });
        assert!(!advice.is_heeded());
        assert_eq!(advice.pieces(|piece| piece.number() % 2 == 0).len(), MAX_SUGGESTIONS / 2);
        advice.forget();
        assert_eq!(advice.pieces(|_| true), []);
    }
}
