//! How many upload slots there are: four and one at first (BEP 3), and more where the uplink carries more. Two ideas,
//! the first libtorrent's (its rate-based choker counts the peers that take a rate worth a slot, and that rate rises
//! with each): a line of a rate is worth its square root in slots, as each new one should carry more than those before it
//! lose. And a line that is not full although all slots are taken is held up by those who have them, so another slot
//! helps, as long as the rate rises or is below what the line carried before.

use crate::limits::{MAX_SLOTS, OPTIMISTIC_SLOTS, RATE_SLOTS};
use crate::time::Duration;

/// The fewest slots.
pub(super) const LEAST: usize = RATE_SLOTS + OPTIMISTIC_SLOTS;

/// Bytes a second to a slot, of a line that is worth one: 5 at 13 Mbit/s, 19 at 200 Mbit/s, the most from 840 Mbit/s on.
const WORTH: u64 = 64 * 1024;

/// A line is not worth so many slots that a piece takes each longer than this: nobody can pass on what is not whole. It
/// matters for pieces of many MiB. Where slow peers leave the line empty, there are more all the same.
const PIECE_TIME: Duration = Duration::from_secs(1);

/// After how many reviews with a full line one slot fewer is tried.
const SHRINK_AFTER: u32 = 8;

/// How many slots there are.
#[derive(Debug)]
pub(super) struct SlotCount {
    /// From [`LEAST`] to [`MAX_SLOTS`].
    count: usize,
    /// Bytes of a piece.
    piece_len: u32,
    /// The most bytes a second that went out, slowly forgotten: lines change.
    peak: u64,
    /// For how many reviews the line was full.
    full_for: u32,
}

impl SlotCount {
    /// Of a torrent with pieces of so many bytes.
    pub(super) const fn new(piece_len: u32) -> Self {
        Self { count: LEAST, piece_len, peak: 0, full_for: 0 }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// So many bytes a second went out since the last review. `wanted`: all slots were taken, and others wait.
    pub(super) fn review(&mut self, rate: u64, wanted: bool) {
        let rises = rate > self.peak + self.peak / 16;
        self.peak = rate.max(self.peak - self.peak / 64);
        let full = rate >= self.peak - self.peak / 16;
        self.full_for = if full && !rises { self.full_for + 1 } else { 0 };
        if wanted && (rises || !full) {
            self.count += 1 + self.count / 8;
        } else if self.full_for >= SHRINK_AFTER {
            (self.count, self.full_for) = (self.count - 1, 0);
        }
        let least = (self.peak / WORTH).isqrt() as usize;
        let pieces = self.peak.saturating_mul(PIECE_TIME.as_secs()) / u64::from(self.piece_len.max(1));
        let least = least.min(usize::try_from(pieces).unwrap_or(MAX_SLOTS));
        self.count = self.count.max(least).clamp(LEAST, MAX_SLOTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u32 = 16 * 1024;

    /// The count after each of the reviews.
    fn counts(reviews: impl IntoIterator<Item = (u64, bool)>) -> Vec<usize> {
        let mut slots = SlotCount::new(PIECE);
        let count = |(rate, wanted)| {
            slots.review(rate, wanted);
            slots.count()
        };
        reviews.into_iter().map(count).collect()
    }

    #[test]
    fn a_line_is_worth_the_root_of_its_rate() {
        assert_eq!(counts([(0, true), (1_000, false)]), [5, 5]);
        assert_eq!(counts([(25_000_000, false)]), [19]);
        assert_eq!(counts([(125_000_000, false)]), [MAX_SLOTS], "1 Gbit/s");
        assert_eq!(counts([(u64::MAX, true)]), [MAX_SLOTS]);
    }

    #[test]
    fn huge_pieces_are_given_to_few_at_a_time() {
        let count = |piece_len: u32| {
            let mut slots = SlotCount::new(piece_len);
            slots.review(125_000_000, true);
            slots.count()
        };
        assert_eq!([2 << 20, 4 << 20, 16 << 20, 64 << 20].map(count), [MAX_SLOTS, 29, 7, LEAST + 1]);
    }

    #[test]
    fn slow_peers_get_as_many_slots_as_the_line_has_room_for() {
        let mut slots = SlotCount::new(4 << 20);
        for _ in 0..40 {
            slots.review(slots.count() as u64 * 1_250_000, true);
        }
        assert!(slots.count() > 30, "{slots:?}");
    }

    #[test]
    fn slots_are_added_while_the_line_is_not_full_and_others_wait() {
        let half_empty = std::iter::once((1_000_000, true)).chain(std::iter::repeat_n((500_000, true), 5));
        assert_eq!(counts(half_empty), [6, 7, 8, 10, 12, 14]);
        let nobody_waits =
            std::iter::once((1_000_000, false)).chain(std::iter::repeat_n((500_000, false), 5));
        assert_eq!(counts(nobody_waits), [5; 6]);
    }

    #[test]
    fn a_full_line_loses_slots_one_by_one() {
        let rising = (1..6).map(|step| (100_000 << step, true));
        let full = std::iter::repeat_n((100_000 << 5, true), 40);
        let counts = counts(rising.chain(full));
        let most = counts.iter().copied().max().unwrap();
        let last = *counts.last().unwrap();
        assert!((LEAST + 2..MAX_SLOTS).contains(&most) && last == most - 5, "{counts:?}");
    }
}
