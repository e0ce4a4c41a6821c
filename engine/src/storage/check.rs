//! Checking what is on disk: at the start of a download or a seed, and for `ringtide verify`.
//!
//! Owns what a check makes of what a [scan](super::scan) finds: pieces that are good, bad or missing, and files that
//! are not there. A sparse file costs what was written of it. Files may be missing, short, or shrink meanwhile:
//! bytes that are not there make a piece missing.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use ringtide_hasher::Sha1Digest;
use ringtide_proto::layout::PieceIndex;

use super::content::FileId;
use super::error::StorageError;
use super::scan::{Fault, Found, ReadWay, Scan, ZeroDigests, scan_pieces};
use super::target::Target;
use super::{Mode, Storage};

/// What a check found out about a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceCheck {
    /// The bytes have the hash that the torrent states.
    Good,
    /// The bytes are there and wrong.
    Bad,
    /// Not all bytes are there: a file is missing, too short or unreadable, or nothing was ever written.
    Missing,
}

/// The sum of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Pieces that are good.
    pub good: u32,
    /// Pieces whose bytes are wrong.
    pub bad: u32,
    /// Pieces that are not, or not all, there.
    pub missing: u32,
    /// Files that are not there, in order.
    pub missing_files: Vec<FileId>,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// The first failure other than a file that is not there; what it concerned counts as missing.
    pub error: Option<StorageError>,
    /// Whether the check was cancelled: the sums are then not complete.
    pub cancelled: bool,
}

/// How a check goes about it.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions<'a> {
    /// How many threads read and hash; at least one.
    pub threads: usize,
    /// How they read.
    pub way: ReadWay,
    /// Where to count the bytes of the torrent that were dealt with, holes and missing files included.
    pub done: Option<&'a AtomicU64>,
}

impl CheckOptions<'_> {
    /// That many threads, and the best way.
    #[must_use]
    pub fn threads(threads: usize) -> Self {
        CheckOptions { threads, way: ReadWay::Auto, done: None }
    }
}

impl Storage {
    /// Compares every piece with its hash, by `threads` threads, and tells `on_piece` of each, from those
    /// threads and in any order. Pieces that are still to be reported must not be written meanwhile. Stops
    /// soon, and between two pieces, when `cancel` becomes true. Blocks until it is done.
    ///
    /// # Panics
    /// When there are fewer hashes than pieces.
    pub fn check(
        &self,
        hashes: &[Sha1Digest],
        threads: usize,
        on_piece: impl Fn(PieceIndex, PieceCheck) + Sync,
        cancel: &AtomicBool,
    ) -> CheckReport {
        self.check_with(hashes, CheckOptions::threads(threads), on_piece, cancel)
    }

    /// As [`check`](Self::check), with more to choose.
    ///
    /// # Panics
    /// When there are fewer hashes than pieces.
    pub fn check_with(
        &self,
        hashes: &[Sha1Digest],
        options: CheckOptions<'_>,
        on_piece: impl Fn(PieceIndex, PieceCheck) + Sync,
        cancel: &AtomicBool,
    ) -> CheckReport {
        if matches!(self.target, Target::Synthetic(_)) {
            return self.check_synthetic(on_piece, cancel);
        }
        let check = Check::new(self, hashes, options, &on_piece, cancel);
        let complete = scan_pieces(&self.content, &check, options.threads, options.way);
        check.into_report(complete)
    }

    /// Content that is made up is all there for a seed, and none of it for a download.
    fn check_synthetic(&self, on_piece: impl Fn(PieceIndex, PieceCheck), cancel: &AtomicBool) -> CheckReport {
        let mut report = CheckReport::default();
        for piece in self.content.layout().pieces() {
            if cancel.load(Ordering::Relaxed) {
                return CheckReport { cancelled: true, ..report };
            }
            match self.mode {
                Mode::Seed => {
                    report.good += 1;
                    on_piece(piece, PieceCheck::Good);
                }
                Mode::Download => {
                    report.missing += 1;
                    on_piece(piece, PieceCheck::Missing);
                }
            }
        }
        report
    }
}

type OnPiece<'a> = &'a (dyn Fn(PieceIndex, PieceCheck) + Sync);

/// What the threads of a check share.
struct Check<'a> {
    storage: &'a Storage,
    hashes: &'a [Sha1Digest],
    done: Option<&'a AtomicU64>,
    on_piece: OnPiece<'a>,
    cancel: &'a AtomicBool,
    zeros: ZeroDigests,
    report: Mutex<CheckReport>,
}

impl Scan for Check<'_> {
    fn open(&self, file: FileId) -> Option<(OwnedFd, u64)> {
        let opened = self.storage.target.open_apart(&self.storage.content, file);
        opened.map_err(|error| self.failed_with(error)).ok()
    }

    fn failed(&self, file: FileId, fault: Fault) {
        match fault {
            Fault::Os(errno) => self.failed_with(StorageError::os("read", self.storage.path(file), errno)),
            // As in a download that was stopped.
            Fault::TooShort => {}
        }
    }

    fn found(&self, piece: PieceIndex, found: Found) {
        let check = self.judge(piece, found);
        let mut report = self.report.lock();
        match check {
            PieceCheck::Good => report.good += 1,
            PieceCheck::Bad => report.bad += 1,
            PieceCheck::Missing => report.missing += 1,
        }
        drop(report);
        (self.on_piece)(piece, check);
    }

    fn passed(&self, bytes: u64, read: u64) {
        if let Some(done) = self.done {
            done.fetch_add(bytes, Ordering::Relaxed);
        }
        if read > 0 {
            self.report.lock().bytes_read += read;
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

impl<'a> Check<'a> {
    fn new(
        storage: &'a Storage,
        hashes: &'a [Sha1Digest],
        options: CheckOptions<'a>,
        on_piece: OnPiece<'a>,
        cancel: &'a AtomicBool,
    ) -> Self {
        let layout = *storage.content.layout();
        assert!(hashes.len() >= layout.piece_count() as usize, "a hash for every piece");
        let (zeros, report) = (ZeroDigests::new(layout), Mutex::default());
        Check { storage, hashes, done: options.done, on_piece, cancel, zeros, report }
    }

    fn judge(&self, piece: PieceIndex, found: Found) -> PieceCheck {
        let expected = self.hashes[piece.index()];
        match found {
            Found::NotThere => PieceCheck::Missing,
            Found::Digest(digest) if digest == expected => PieceCheck::Good,
            Found::Digest(_) => PieceCheck::Bad,
            // A hole reads as zeros, and zeros may be what belongs there (a sparse image).
            Found::Hole if self.zeros.of(piece) == expected => PieceCheck::Good,
            Found::Hole => PieceCheck::Missing,
        }
    }

    fn failed_with(&self, error: StorageError) {
        if !error.is_missing() {
            self.report.lock().error.get_or_insert(error);
        }
    }

    fn into_report(self, complete: bool) -> CheckReport {
        let missing_files = self.missing_files();
        CheckReport { missing_files, cancelled: !complete, ..self.report.into_inner() }
    }

    /// A scan passes a piece by at its first missing file and never comes to an empty one, so files are
    /// looked for once more, where any can be missing.
    fn missing_files(&self) -> Vec<FileId> {
        let Target::Directory(place) = &self.storage.target else { return Vec::new() };
        let content = &self.storage.content;
        let all_there = self.report.lock().missing == 0;
        let candidates = content.real_files().filter(|(_, file)| !all_there || file.len == 0);
        let ids = candidates.map(|(id, _)| id);
        ids.filter(|id| match place.tree.stat(&place.path(content, *id)) {
            Ok(found) => found.is_none(),
            Err(error) => {
                self.failed_with(error);
                false
            }
        })
        .collect()
    }
}
