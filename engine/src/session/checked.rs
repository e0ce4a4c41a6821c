//! What a check tells the control plane: the pieces that it looked at, in batches, and its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ringtide_proto::layout::PieceIndex;
use ringtide_proto::torrent::CoreInput;

use super::Inbox;
use crate::event::TorrentId;
use crate::mailbox::MailSender;
use crate::shard::ToControl;
use crate::storage::{CheckReport, StorageError};

/// Results of a check are passed on in batches: so many, or after so long.
const CHECKED_BATCH: usize = 512;
const CHECKED_SPAN: Duration = Duration::from_millis(50);

/// Tells of the end of a check, of which it is the first local variable, also where that is a panic: the torrent would
/// count as being checked for ever, and nobody else would get its place.
pub(super) struct CheckEnd<'c> {
    torrent: TorrentId,
    checking: &'c AtomicBool,
    mail: &'c MailSender<Inbox>,
    /// What the check found, once it did.
    pub(super) report: Option<CheckReport>,
    /// There is no room for what is lacking.
    pub(super) no_room: Option<StorageError>,
}

impl<'c> CheckEnd<'c> {
    /// Clears `checking` as the check ends.
    pub(super) fn of(torrent: TorrentId, checking: &'c AtomicBool, mail: &'c MailSender<Inbox>) -> Self {
        Self { torrent, checking, mail, report: None, no_room: None }
    }
}

impl Drop for CheckEnd<'_> {
    fn drop(&mut self) {
        if self.report.is_none() {
            let reason = "checking what is on disk ended with a panic, which is a bug".to_owned();
            self.mail.send(Inbox::Shard(ToControl::ShardFailed(reason)));
        }
        let report = self.report.take();
        let report = report.unwrap_or_else(|| CheckReport { cancelled: true, ..CheckReport::default() });
        self.checking.store(false, Ordering::Release);
        if let Some(error) = self.no_room.take() {
            self.mail.send(Inbox::Shard(ToControl::StorageFailed(self.torrent, error)));
        }
        self.mail.send(Inbox::CheckDone(self.torrent, Box::new(report)));
    }
}

/// Gathers results of a check; dropped, it passes on what is left.
pub(super) struct CheckedBatch {
    torrent: TorrentId,
    mail: MailSender<Inbox>,
    gathered: Mutex<(Vec<PieceIndex>, Vec<PieceIndex>, std::time::Instant)>,
}

impl CheckedBatch {
    pub(super) fn new(torrent: TorrentId, mail: MailSender<Inbox>) -> Self {
        Self { torrent, mail, gathered: Mutex::new((Vec::new(), Vec::new(), std::time::Instant::now())) }
    }

    pub(super) fn add(&self, piece: PieceIndex, good: bool) {
        let mut gathered = self.gathered.lock();
        if good {
            gathered.0.push(piece)
        } else {
            gathered.1.push(piece)
        }
        let full = gathered.0.len() + gathered.1.len() >= CHECKED_BATCH;
        if full || gathered.2.elapsed() >= CHECKED_SPAN {
            self.pass_on(&mut gathered);
        }
    }

    fn pass_on(&self, gathered: &mut (Vec<PieceIndex>, Vec<PieceIndex>, std::time::Instant)) {
        let (found, lacking) = (std::mem::take(&mut gathered.0), std::mem::take(&mut gathered.1));
        gathered.2 = std::time::Instant::now();
        self.mail.send(Inbox::Checked(self.torrent, CoreInput::Checked { found, lacking }));
    }
}

impl Drop for CheckedBatch {
    fn drop(&mut self) {
        self.pass_on(&mut self.gathered.lock());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::driver::Waker;
    use crate::mailbox::{Sleeper, shared};

    /// What a check of torrent 7 tells that ends with `report`.
    fn told(report: Option<CheckReport>) -> Vec<Inbox> {
        let (sender, mail) = shared::<Inbox>(&Sleeper::new(Waker::from_fn(Arc::new(|| {}))));
        let checking = AtomicBool::new(true);
        CheckEnd::of(TorrentId(7), &checking, &sender).report = report;
        assert!(!checking.load(Ordering::Relaxed));
        std::iter::from_fn(|| mail.try_recv()).collect()
    }

    #[test]
    fn a_check_tells_what_it_found() {
        let told = told(Some(CheckReport { good: 3, ..CheckReport::default() }));
        let [Inbox::CheckDone(TorrentId(7), report)] = &told[..] else { panic!("{} messages", told.len()) };
        assert_eq!((report.good, report.cancelled), (3, false));
    }

    #[test]
    fn a_check_that_panics_ends_too_and_is_a_failure() {
        let told = told(None);
        let [Inbox::Shard(ToControl::ShardFailed(_)), Inbox::CheckDone(TorrentId(7), report)] = &told[..]
        else {
            panic!("{} messages", told.len())
        };
        assert!(report.cancelled);
    }
}
