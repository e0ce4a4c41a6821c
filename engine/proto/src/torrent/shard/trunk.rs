//! How much peers of other racks are asked for at a time (`--lan`): a window over all of them together, as all of it may have
//! to go through one narrow link that the whole rack shares. Pipelines go by the rate of each peer, and would keep a second's
//! worth asked of each; what waits in such a link for seconds counts as late, is asked for again elsewhere, and crosses twice.
//!
//! The window opens while blocks come soon after they were asked for and closes when they do not, as that of S. Shalunov,
//! G. Hazel, J. Iyengar, M. Kuehlewind, "Low extra delay background transport" (RFC 6817, 2012): by delay, not by loss.

use super::super::PeerKey;
use super::TorrentShard;
use crate::limits::BLOCK_LEN;
use crate::peer::Peer;
use crate::time::{Duration, Instant};

/// Blocks that come sooner than this open the window: longer than any sender sleeps between its batches (Transmission: half
/// a second).
const SOON: Duration = Duration::from_millis(600);

/// Blocks that take longer close it: well before anybody is taken to have stalled.
const LONG: Duration = Duration::from_millis(1_200);

/// What is asked for at first.
const FIRST: u64 = 16 * BLOCK_LEN as u64;

/// The window is never wider: what 10 Gbit/s hold in a second.
const WIDEST: u64 = 1_250_000_000;

/// What may be asked of peers of other racks.
#[derive(Debug)]
pub(super) struct Trunk {
    /// Bytes; a block may always be asked for.
    window: u64,
    /// What was asked for before this came too late to tell more.
    narrowed_at: Instant,
    /// What was asked for and had not come, and was not late, when somebody was to be asked last.
    in_use: u64,
    /// Somebody was not asked who might have been.
    held_back: bool,
}

impl Trunk {
    pub(super) const fn new() -> Self {
        Self { window: FIRST, narrowed_at: Instant::ZERO, in_use: 0, held_back: false }
    }

    /// The window is so wide now.
    #[cfg(test)]
    pub(super) const fn set_window(&mut self, bytes: u64) {
        self.window = bytes;
    }

    /// Whether so many more bytes would be too many beside those that were asked for and have not come.
    fn is_full(&mut self, in_use: u64, bytes: u64) -> bool {
        self.in_use = in_use;
        let full = in_use > 0 && in_use + bytes > self.window;
        self.held_back |= full;
        full
    }

    /// A block came that was asked for then. A window of which half is not used is wide enough.
    fn note(&mut self, now: Instant, asked_at: Instant, bytes: u64) {
        let took = now.since(asked_at);
        if took < SOON && self.window <= 2 * self.in_use.max(FIRST) {
            self.window = (self.window + bytes).min(WIDEST);
        } else if took > LONG && asked_at >= self.narrowed_at {
            self.window = (self.window / 2).max(bytes);
            self.narrowed_at = now;
        }
    }
}

impl TorrentShard {
    /// Whether as much is asked of peers of other racks as may be, and this is one of them.
    pub(super) fn is_trunk_full(&mut self, key: PeerKey) -> bool {
        if !self.is_across(key) {
            return false;
        }
        // What is late may never come: whoever is silent would shut out all others.
        let counts = |peer: &&Peer| !(peer.near || peer.stalled || peer.snubbed);
        let asked = self.peers().filter(counts).flat_map(|peer| &peer.asked);
        let asked = asked.filter(|asked| !asked.late).count();
        let block_len = u64::from(self.config.layout.block_len());
        let Some(rack) = &mut self.rack else { return false };
        rack.trunk.is_full(asked as u64 * block_len, block_len)
    }

    /// A block came from the peer: whoever was held back may be asked now.
    pub(super) fn note_crossed(&mut self, now: Instant, key: PeerKey, asked_at: Instant, bytes: u32) {
        let across = self.is_across(key);
        let Some(rack) = &mut self.rack else { return };
        if !across {
            rack.near_bytes += u64::from(bytes);
            return;
        }
        rack.trunk.note(now, asked_at, u64::from(bytes));
    }

    /// Whether others may be asked, now that this one was.
    pub(super) fn stir_held_back(&mut self, key: PeerKey) {
        let held = self.rack.as_ref().is_some_and(|rack| rack.trunk.held_back);
        // What a near peer gives leaves the window as it is.
        if held && self.is_across(key) && !self.is_trunk_full(key) {
            self.stirred = true;
            if let Some(rack) = &mut self.rack {
                rack.trunk.held_back = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_LEN as u64;

    /// What is in use and how wide the window is after so many seconds on a way that carries so many bytes a second, where as
    /// much is asked for as may be.
    fn settle(trunk: &mut Trunk, now: &mut Instant, rate: u64, seconds: u64) -> u64 {
        let (mut asked, mut in_use) = (std::collections::VecDeque::new(), 0);
        let end = *now + Duration::from_secs(seconds);
        while *now < end {
            while !trunk.is_full(in_use, BLOCK) {
                asked.push_back(*now);
                in_use += BLOCK;
            }
            *now += Duration::from_micros(BLOCK * 1_000_000 / rate);
            in_use -= BLOCK;
            trunk.note(*now, asked.pop_front().unwrap(), BLOCK);
        }
        in_use
    }

    #[test]
    fn a_window_holds_about_a_second_of_what_the_way_carries() {
        let (mut trunk, mut now) = (Trunk::new(), Instant::ZERO);
        for rate in [1_000_000, 10_000_000, 1_000_000, 100_000, 1_000_000] {
            let in_use = settle(&mut trunk, &mut now, rate, 60);
            let least = (rate / 2).saturating_sub(BLOCK);
            assert!((least..=rate * 3 / 2).contains(&in_use), "{in_use} of {rate}");
        }
    }

    #[test]
    fn a_window_that_is_not_used_grows_no_further() {
        let (mut trunk, now) = (Trunk::new(), Instant::ZERO);
        assert!(!trunk.is_full(BLOCK, BLOCK));
        (0..10_000).for_each(|_| trunk.note(now, now, BLOCK));
        assert!(trunk.window <= 2 * FIRST + BLOCK, "{trunk:?}");
    }

    /// However narrow: nothing would ever come otherwise.
    #[test]
    fn one_block_may_always_be_asked_for() {
        let (mut trunk, now) = (Trunk::new(), Instant::ZERO);
        for step in 1..40 {
            trunk.note(now + Duration::from_secs(4 * step), now + Duration::from_secs(4 * step - 2), 1);
        }
        assert!(!trunk.is_full(0, BLOCK) && trunk.is_full(BLOCK, BLOCK) && trunk.held_back);
    }
}
