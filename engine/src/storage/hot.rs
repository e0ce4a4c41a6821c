//! `HotPieces`: pieces that were just verified and are still in memory, to be given from there. For pieces written
//! around the page cache, which would otherwise be read back from the disk at once: what was rare is asked for first.
//!
//! Owns what is kept and for how long. Of use to all torrents of the process; bounded by bytes, the oldest go first.
//! Nothing is kept while nobody asks, for memory that is used again at once is still in the CPU's caches.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use ringtide_proto::layout::PieceIndex;
use ringtide_proto::time::{Duration, Instant};

use super::buffer::FrozenRange;
use super::verified::Verified;

/// After this time without an upload that would have been served, pieces are no longer kept.
const INTEREST: Duration = Duration::from_secs(30);

/// A piece of a torrent, which has that number.
type Key = (u32, PieceIndex);

/// The pieces that are kept.
pub(crate) struct HotPieces {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pieces: HashMap<Key, FrozenRange>,
    /// In the order in which they came. Invariant: the keys of `pieces`.
    order: VecDeque<Key>,
    /// Invariant: the sum of their lengths, at most the limit.
    bytes: usize,
    asked: Option<Instant>,
}

impl HotPieces {
    /// Keeps at most so many bytes.
    pub(crate) fn new(limit: usize) -> HotPieces {
        HotPieces { limit, state: Mutex::default() }
    }

    /// The piece, if it is kept. Notes that somebody asks.
    pub(crate) fn find(&self, now: Instant, torrent: u32, piece: PieceIndex) -> Option<FrozenRange> {
        let mut state = self.state.lock();
        state.asked = Some(now);
        state.pieces.get(&(torrent, piece)).cloned()
    }

    /// Keeps a piece, if somebody asked lately.
    pub(crate) fn keep(&self, now: Instant, torrent: u32, piece: &Verified) {
        let (key, data) = ((torrent, piece.piece()), piece.data());
        let mut state = self.state.lock();
        let wanted = state.asked.is_some_and(|asked| now.since(asked) < INTEREST);
        let fits = wanted && data.len() <= self.limit && !state.pieces.contains_key(&key);
        let old = state.make_room(match (wanted, fits) {
            (false, _) => 0,
            (true, false) => self.limit,
            (true, true) => self.limit - data.len(),
        });
        if fits {
            state.pieces.insert(key, data.clone());
            state.order.push_back(key);
            state.bytes += data.len();
        }
        // Giving memory back takes a while: nobody is to wait for it.
        drop(state);
        drop(old);
    }

    /// The torrent's pieces can be had otherwise from now on.
    pub(crate) fn forget(&self, torrent: u32) {
        let mut state = self.state.lock();
        state.order.retain(|key| key.0 != torrent);
        let gone: Vec<_> = state.pieces.extract_if(|key, _| key.0 == torrent).collect();
        state.bytes -= gone.iter().map(|(_, data)| data.len()).sum::<usize>();
        drop(state);
    }
}

impl State {
    /// Takes out the oldest until at most `room` bytes are kept.
    fn make_room(&mut self, room: usize) -> Vec<FrozenRange> {
        let mut old = Vec::new();
        while self.bytes > room
            && let Some(data) = self.order.pop_front().and_then(|key| self.pieces.remove(&key))
        {
            self.bytes -= data.len();
            old.push(data);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use ringtide_hasher::sha1;
    use ringtide_proto::layout::PieceLayout;

    use super::super::BufferPool;
    use super::*;

    const LEN: usize = 4096;

    fn piece(number: u32) -> Verified {
        let layout = PieceLayout::new(100 * LEN as u64, LEN as u32).expect("a layout");
        let mut buffer = BufferPool::new(LEN).try_take(LEN).expect("has room");
        buffer.write(0, &[number as u8; LEN]);
        let data = buffer.freeze();
        let digest = sha1(data.as_slice());
        Verified::check(layout.piece(number).expect("a piece"), data, &digest).expect("is right")
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn has(hot: &HotPieces, torrent: u32, number: u32) -> bool {
        let found = hot.find(at(0), torrent, piece(number).piece());
        found.inspect(|data| assert_eq!(data.as_slice(), [number as u8; LEN])).is_some()
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let hot = HotPieces::new(10 * LEN);
        hot.keep(at(0), 1, &piece(1));
        assert!(!has(&hot, 1, 1));
        hot.keep(at(1), 1, &piece(1));
        assert!(has(&hot, 1, 1));
        hot.keep(at(40), 1, &piece(2));
        assert!(!has(&hot, 1, 1) && !has(&hot, 1, 2), "nobody asked for longer than the interest lasts");
    }

    #[test]
    fn the_oldest_go_first_and_the_limit_holds() {
        let hot = HotPieces::new(3 * LEN);
        assert!(!has(&hot, 1, 0));
        (0..5).for_each(|number| hot.keep(at(1), 1, &piece(number)));
        assert_eq!([0, 1, 2, 3, 4].map(|number| has(&hot, 1, number)), [false, false, true, true, true]);
        assert_eq!(hot.state.lock().bytes, 3 * LEN);
        hot.keep(at(1), 1, &piece(4));
        assert_eq!(hot.state.lock().bytes, 3 * LEN, "what is there is not counted twice");
    }

    #[test]
    fn a_piece_longer_than_the_limit_is_not_kept() {
        let hot = HotPieces::new(LEN - 1);
        assert!(!has(&hot, 1, 0));
        hot.keep(at(1), 1, &piece(0));
        assert!(!has(&hot, 1, 0));
    }

    #[test]
    fn torrents_are_told_apart_and_forgotten() {
        let hot = HotPieces::new(10 * LEN);
        assert!(!has(&hot, 1, 1));
        hot.keep(at(1), 1, &piece(1));
        hot.keep(at(1), 2, &piece(2));
        assert!(!has(&hot, 2, 1) && has(&hot, 2, 2));
        hot.forget(1);
        assert!(!has(&hot, 1, 1) && has(&hot, 2, 2));
        let state = hot.state.lock();
        assert_eq!((state.bytes, state.order.len()), (LEN, 1));
    }
}
