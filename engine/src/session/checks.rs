//! `Checks`: whose content is looked for on disk, and who waits for that. Owns the order and how many go on at a time; what
//! a check does is in `torrent`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Purpose;
use crate::event::TorrentId;

/// How many torrents are looked for on disk at a time, each by as many threads as hash: one that is large does not keep
/// small ones waiting, and a thousand do not start a thousand threads.
const CHECKS_AT_ONCE: usize = 4;

/// How many of them may be seeds, whose checks take hours where there is much: a download must not wait for one to end.
const SEEDS_AT_ONCE: usize = CHECKS_AT_ONCE - 1;

/// Looks at the disk, on a thread of its own.
pub(super) type Check = Box<dyn FnOnce() + Send>;

/// A torrent's place among those that wait: downloads first, which somebody waits for, then the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    seed: bool,
    bytes: u64,
    torrent: TorrentId,
}

impl Place {
    pub(super) fn new(purpose: Purpose, bytes: u64, torrent: TorrentId) -> Self {
        Self { seed: purpose == Purpose::Seed, bytes, torrent }
    }
}

/// The checks that go on and those that wait.
#[derive(Default)]
pub(super) struct Checks {
    running: BTreeSet<Place>,
    waiting: BTreeMap<Place, Check>,
}

impl Checks {
    pub(super) fn add(&mut self, place: Place, check: Check) {
        self.waiting.insert(place, check);
    }

    /// The check of that torrent is over.
    pub(super) fn ended(&mut self, torrent: TorrentId) {
        self.running.retain(|place| place.torrent != torrent);
    }

    /// Whether none goes on, so that none will end.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins as many of those that wait as may go on at a time.
    ///
    /// # Errors
    /// When the system refuses a thread: the check goes on waiting, and so do those behind it.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.begin_on(start_thread)
    }

    fn begin_on(&mut self, start: impl Fn(Check) -> Result<(), (Check, io::Error)>) -> io::Result<()> {
        while let Some((place, check)) = self.next() {
            if let Err((check, error)) = start(check) {
                self.waiting.insert(place, check);
                return Err(error);
            }
            self.running.insert(place);
        }
        Ok(())
    }

    fn next(&mut self) -> Option<(Place, Check)> {
        let first = self.waiting.first_entry()?;
        let seeds = self.running.iter().filter(|place| place.seed).count();
        let full = self.running.len() >= CHECKS_AT_ONCE || (first.key().seed && seeds >= SEEDS_AT_ONCE);
        (!full).then(|| first.remove_entry())
    }
}

/// Runs the check on a thread of its own, or gives it back.
fn start_thread(check: Check) -> Result<(), (Check, io::Error)> {
    // A thread that cannot be started drops what it was to do, so the check waits outside.
    let handed = Arc::new(Mutex::new(Some(check)));
    let taken = Arc::clone(&handed);
    let body = move || {
        let check = taken.lock().take();
        check.into_iter().for_each(|check| check());
    };
    let started = std::thread::Builder::new().name("ringtide-check".to_owned()).spawn(body);
    let Err(error) = started else { return Ok(()) };
    let check = handed.lock().take();
    check.map_or(Ok(()), |check| Err((check, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a check that does nothing.
    fn add(checks: &mut Checks, purpose: Purpose, bytes: u64, torrent: u32) {
        checks.add(Place::new(purpose, bytes, TorrentId(torrent)), Box::new(|| {}));
    }

    /// Begins what may go on; which torrents' checks do.
    fn begin(checks: &mut Checks) -> Vec<u32> {
        checks.begin_on(|_| Ok(())).expect("there are threads");
        checks.running.iter().map(|place| place.torrent.0).collect()
    }

    #[test]
    fn the_smallest_are_first() {
        let mut checks = Checks::default();
        (0..6).for_each(|number| add(&mut checks, Purpose::Download, u64::from(10 - number), number));
        assert_eq!(begin(&mut checks), [5, 4, 3, 2]);
        checks.ended(TorrentId(4));
        assert_eq!(begin(&mut checks), [5, 3, 2, 1]);
    }

    #[test]
    fn a_download_waits_for_no_seed() {
        let mut checks = Checks::default();
        (0..5).for_each(|number| add(&mut checks, Purpose::Seed, 1, number));
        assert_eq!(begin(&mut checks), [0, 1, 2], "one place is for downloads");
        add(&mut checks, Purpose::Download, 1 << 40, 9);
        assert_eq!(begin(&mut checks), [9, 0, 1, 2]);
        add(&mut checks, Purpose::Download, 1 << 40, 8);
        checks.ended(TorrentId(1));
        assert_eq!(begin(&mut checks), [8, 9, 0, 2], "before the seeds that came first");
    }

    #[test]
    fn a_check_without_a_thread_waits_on_with_those_behind_it() {
        let mut checks = Checks::default();
        (0..3).for_each(|number| add(&mut checks, Purpose::Download, 1, number));
        let refuse = |check| Err((check, io::Error::from(io::ErrorKind::WouldBlock)));
        assert!(checks.begin_on(refuse).is_err() && checks.is_idle());
        assert_eq!(begin(&mut checks), [0, 1, 2]);
    }

    #[test]
    fn a_thread_runs_the_check() {
        let (sender, ran) = std::sync::mpsc::channel();
        let started = start_thread(Box::new(move || sender.send(()).expect("is awaited")));
        assert!(started.is_ok() && ran.recv().is_ok());
    }
}
