//! Hashing the pieces of a new torrent on all cores.
//!
//! Owns what a new torrent makes of what the engine's scan finds: the table of hashes, and that files which change
//! meanwhile are an error. Memory: the scan's, which is bounded, and 20 bytes per piece.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ringtide_engine::storage::{
    Content, ContentFile, Fault, FileId, Found as FoundPiece, ReadWay, Scan, ZeroDigests, scan_pieces,
};
use ringtide_hasher::Sha1Digest;
use ringtide_proto::layout::PieceIndex;
use rustix::fs::OFlags;

use super::walk::{Found, Shape, SourceFile, Stamp};
use crate::exit::{Exit, Failure};
use crate::parallel::{cpus, watched};
use crate::progress::Progress;
use crate::stop::Stop;
use crate::text::quoted;

/// The SHA-1 of every piece, in order.
pub(super) fn hash(found: &Found, piece_length: u32, stop: &Stop) -> Result<Vec<Sha1Digest>, Failure> {
    let content = content(found, piece_length)?;
    let job = Job::new(found, &content, stop.flag());
    let mut progress = Progress::new(content.layout().total_len());
    // The scan has threads of its own; one more here drives it, so that this one can watch.
    let work = || scan_pieces(&content, &job, cpus(), ReadWay::Auto);
    watched(1, work, || progress.update(job.done.load(Ordering::Relaxed), String::new));
    drop(progress);
    if let Some(exit) = stop.requested() {
        return Err(Failure::new(exit, "stopped; nothing was written"));
    }
    let hashes = job.into_hashes()?;
    // A change behind the reader's back leaves a torrent that nobody can seed.
    found.files.iter().try_for_each(|file| check_unchanged(file, fs::metadata(&file.path)))?;
    Ok(hashes)
}

fn content(found: &Found, piece_length: u32) -> Result<Content, Failure> {
    // Only the arithmetic is used; the files are opened by the paths they were found at.
    let content = match found.shape {
        Shape::File => Content::single("", found.total_len(), piece_length),
        Shape::Directory => {
            let files = found.files.iter().map(|file| ContentFile::new("", file.len())).collect();
            Content::directory("", files, piece_length)
        }
    };
    content.map_err(|error| Failure::usage(format_args!("{error}; choose a larger --piece-length")))
}

/// What the scan is made for.
struct Job<'a> {
    found: &'a Found,
    zeros: ZeroDigests,
    hashes: Mutex<Vec<Sha1Digest>>,
    /// Bytes that are hashed.
    done: AtomicU64,
    /// Why this cannot succeed any more.
    failure: OnceLock<Failure>,
    cancel: &'a AtomicBool,
}

impl<'a> Job<'a> {
    fn new(found: &'a Found, content: &Content, cancel: &'a AtomicBool) -> Self {
        let layout = *content.layout();
        Self {
            found,
            zeros: ZeroDigests::new(layout),
            hashes: Mutex::new(vec![Sha1Digest::default(); layout.piece_count() as usize]),
            done: AtomicU64::new(0),
            failure: OnceLock::new(),
            cancel,
        }
    }

    fn into_hashes(self) -> Result<Vec<Sha1Digest>, Failure> {
        match self.failure.into_inner() {
            Some(failure) => Err(failure),
            None => Ok(self.hashes.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn hashes(&self) -> MutexGuard<'_, Vec<Sha1Digest>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: Failure) {
        // The first one is told; what comes after it may follow from it.
        let _ = self.failure.set(failure);
    }
}

impl Scan for Job<'_> {
    fn open(&self, file: FileId) -> Option<(OwnedFd, u64)> {
        let source = &self.found.files[file.index()];
        let opened = open(source).map_err(|failure| self.fail(failure)).ok()?;
        Some((opened.into(), source.len()))
    }

    fn failed(&self, file: FileId, fault: Fault) {
        let source = &self.found.files[file.index()];
        self.fail(match fault {
            Fault::Os(errno) => cannot_read(&source.path, &errno.into()),
            Fault::TooShort => changed(source),
        });
    }

    fn found(&self, piece: PieceIndex, found: FoundPiece) {
        match found {
            FoundPiece::Digest(digest) => self.hashes()[piece.index()] = digest,
            FoundPiece::Hole => self.hashes()[piece.index()] = self.zeros.of(piece),
            // `open` or `failed` has told why, and what was told first counts; but never go on without its hash.
            FoundPiece::NotThere => self.fail(not_read(piece)),
        }
    }

    fn passed(&self, bytes: u64, _read: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.failure.get().is_some()
    }
}

fn open(source: &SourceFile) -> Result<File, Failure> {
    // Without NONBLOCK, a FIFO that took the file's place would block until someone opens its other end.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&source.path);
    let file = file.map_err(|error| cannot_read(&source.path, &error))?;
    check_unchanged(source, file.metadata())?;
    Ok(file)
}

fn check_unchanged(source: &SourceFile, meta: io::Result<fs::Metadata>) -> Result<(), Failure> {
    let meta = meta.map_err(|error| cannot_read(&source.path, &error))?;
    if Stamp::from(&meta) == source.stamp { Ok(()) } else { Err(changed(source)) }
}

fn changed(source: &SourceFile) -> Failure {
    let path = quoted(&source.path);
    let message =
        format!("{path} changed while it was hashed; run the command again when nothing writes to it");
    Failure::new(Exit::BadInput, message)
}

fn not_read(piece: PieceIndex) -> Failure {
    let message = format!("piece {} could not be read; run the command again", piece.number());
    Failure::new(Exit::BadInput, message)
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format_args!("cannot read {}", quoted(path)), error)
}

#[cfg(test)]
mod tests {
    use super::super::walk;
    use super::*;

    /// A job whose files lose their second half as soon as they are opened.
    struct Shrinking<'a>(Job<'a>);

    impl Scan for Shrinking<'_> {
        fn open(&self, file: FileId) -> Option<(OwnedFd, u64)> {
            let opened = self.0.open(file)?;
            let path = &self.0.found.files[file.index()].path;
            let file = OpenOptions::new().write(true).open(path).expect("opens");
            file.set_len(opened.1 / 2).expect("is cut");
            Some(opened)
        }

        fn failed(&self, file: FileId, fault: Fault) {
            self.0.failed(file, fault);
        }

        fn found(&self, piece: PieceIndex, found: FoundPiece) {
            self.0.found(piece, found);
        }

        fn passed(&self, bytes: u64, read: u64) {
            self.0.passed(bytes, read);
        }

        fn is_cancelled(&self) -> bool {
            self.0.is_cancelled()
        }
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_hashed_is_an_error() {
        for way in [ReadWay::Auto, ReadWay::Mapped, ReadWay::Cached, ReadWay::Direct] {
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(dir.path().join("image"), vec![7; 1 << 20]).expect("is written");
            let found = walk::walk(&dir.path().join("image"), None).expect("is found");
            let content = content(&found, 65_536).expect("a layout");
            let cancel = AtomicBool::new(false);
            let job = Shrinking(Job::new(&found, &content, &cancel));
            assert!(!scan_pieces(&content, &job, 2, way), "ends early: {way:?}");
            let failure = job.0.into_hashes().expect_err("has changed");
            assert!(failure.message.contains("changed while it was hashed"), "{way:?}: {failure:?}");
        }
    }

    #[test]
    fn a_piece_without_a_hash_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("image"), vec![7; 100_000]).expect("is written");
        let found = walk::walk(&dir.path().join("image"), None).expect("is found");
        let content = content(&found, 65_536).expect("a layout");
        let cancel = AtomicBool::new(false);
        let job = Job::new(&found, &content, &cancel);
        let pieces: Vec<_> = content.layout().pieces().collect();
        job.found(pieces[0], FoundPiece::Digest(Sha1Digest::default()));
        job.found(pieces[1], FoundPiece::NotThere);
        let failure = job.into_hashes().expect_err("lacks one");
        assert!(failure.message.starts_with("piece 1 could not be read"), "{failure:?}");
    }

    #[test]
    fn holes_are_hashed_as_zeros() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("image");
        File::create(&path).and_then(|file| file.set_len(300_000)).expect("is made");
        let found = walk::walk(&path, None).expect("is found");
        let content = content(&found, 65_536).expect("a layout");
        let cancel = AtomicBool::new(false);
        let job = Job::new(&found, &content, &cancel);
        assert!(scan_pieces(&content, &job, 1, ReadWay::Auto));
        let expected: Vec<_> = vec![0; 300_000].chunks(65_536).map(ringtide_hasher::sha1).collect();
        assert_eq!(job.done.load(Ordering::Relaxed), 300_000);
        assert_eq!(job.into_hashes().expect("are there"), expected);
    }
}
