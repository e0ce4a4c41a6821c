//! Checking what is on disk: at the start of a download or a seed, and for `ringtide verify`.
//!
//! Owns the walk over all pieces by several threads. Holes are skipped with SEEK_DATA, so a sparse file costs
//! what was written of it. Files may be missing, short, or shrink meanwhile: everything is read with pread
//! into a buffer, and bytes that are not there make a piece missing.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use ringtide_hasher::{Sha1Digest, Sha1State};
use ringtide_proto::layout::PieceIndex;
use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::Errno;

use super::Storage;
use super::content::{FileId, FileSpan};
use super::error::StorageError;
use super::positioned::read_up_to;
use super::target::Target;

/// Bytes read at a time: long enough for the disk, short enough to stay in the L2 cache while it is hashed.
const READ_LEN: usize = 512 << 10;

/// A thread takes about this many bytes of neighbouring pieces at a time, so that it reads on in one file.
const RUN_BYTES: u32 = 16 << 20;

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

impl Storage {
    /// Compares every piece with its hash, by `threads` threads, and tells `on_piece` of each, from those
    /// threads and in any order. Pieces that are still to be reported must not be written meanwhile. Stops
    /// between two pieces when `cancel` becomes true. Blocks until it is done.
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
        let check = Check::new(self, hashes, &on_piece, cancel);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| Walker::new(&check).run());
            }
            Walker::new(&check).run();
        });
        check.into_report()
    }
}

type OnPiece<'a> = &'a (dyn Fn(PieceIndex, PieceCheck) + Sync);

/// What the threads of a check share.
struct Check<'a> {
    storage: &'a Storage,
    hashes: &'a [Sha1Digest],
    on_piece: OnPiece<'a>,
    cancel: &'a AtomicBool,
    /// The next piece that no thread has taken.
    next: AtomicU32,
    run_len: u32,
    /// Digest of a full piece, and of the last one, when all bytes are zero: what a hole reads as.
    zeros: [OnceLock<Sha1Digest>; 2],
    report: Mutex<CheckReport>,
}

impl<'a> Check<'a> {
    fn new(
        storage: &'a Storage,
        hashes: &'a [Sha1Digest],
        on_piece: OnPiece<'a>,
        cancel: &'a AtomicBool,
    ) -> Self {
        let layout = storage.content.layout();
        assert!(hashes.len() >= layout.piece_count() as usize, "a hash for every piece");
        Check {
            storage,
            hashes,
            on_piece,
            cancel,
            next: AtomicU32::new(0),
            run_len: (RUN_BYTES / layout.nominal_piece_len()).clamp(1, 1 << 10),
            zeros: Default::default(),
            report: Mutex::default(),
        }
    }

    /// The next run of pieces to look at.
    fn take_run(&self) -> impl Iterator<Item = PieceIndex> + use<'a> {
        let layout = *self.storage.content.layout();
        // Cannot wrap: at most 2^21 pieces, and each thread stops at the first empty run.
        let first = self.next.fetch_add(self.run_len, Ordering::Relaxed);
        (first..first + self.run_len).map_while(move |number| layout.piece(number))
    }

    fn is_zeros(&self, piece: PieceIndex) -> bool {
        let layout = self.storage.content.layout();
        let len = layout.piece_len(piece);
        let known = &self.zeros[usize::from(len < layout.nominal_piece_len())];
        *known.get_or_init(|| digest_of_zeros(len as usize)) == self.hashes[piece.index()]
    }

    fn failed(&self, error: StorageError) {
        if !error.is_missing() {
            self.report.lock().error.get_or_insert(error);
        }
    }

    fn into_report(self) -> CheckReport {
        let missing_files = self.missing_files();
        CheckReport { missing_files, ..self.report.into_inner() }
    }

    /// The walkers pass a piece by at its first missing file and never come to an empty one, so files are
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
                self.failed(error);
                false
            }
        })
        .collect()
    }
}

/// One thread of a check.
struct Walker<'a, 'b> {
    check: &'b Check<'a>,
    buf: Vec<u8>,
    open: Option<OpenFile>,
    sums: CheckReport,
}

/// Why bytes of a piece could not be had; the cause is already noted.
struct NotThere;

impl<'a, 'b> Walker<'a, 'b> {
    fn new(check: &'b Check<'a>) -> Self {
        Walker { check, buf: vec![0; READ_LEN], open: None, sums: CheckReport::default() }
    }

    fn run(mut self) {
        loop {
            let mut pieces = self.check.take_run().peekable();
            if pieces.peek().is_none() {
                break;
            }
            for piece in pieces {
                if self.check.cancel.load(Ordering::Relaxed) {
                    self.sums.cancelled = true;
                    return self.add_up();
                }
                let found = self.look_at(piece);
                self.count(found);
                (self.check.on_piece)(piece, found);
            }
        }
        self.add_up();
    }

    fn look_at(&mut self, piece: PieceIndex) -> PieceCheck {
        match self.digest(piece) {
            Err(NotThere) => PieceCheck::Missing,
            Ok(Some(digest)) if digest == self.check.hashes[piece.index()] => PieceCheck::Good,
            Ok(Some(_)) => PieceCheck::Bad,
            // A hole reads as zeros, and zeros may be what belongs there (a sparse image).
            Ok(None) if self.check.is_zeros(piece) => PieceCheck::Good,
            Ok(None) => PieceCheck::Missing,
        }
    }

    /// The digest of the piece, or `None` when there is nothing but holes and padding.
    fn digest(&mut self, piece: PieceIndex) -> Result<Option<Sha1Digest>, NotThere> {
        let mut state = Sha1State::new();
        // Bytes that were passed over as zeros so far; `None` once there was data.
        let mut zeros = Some(0);
        for span in self.check.storage.content.piece_spans(piece) {
            let is_zeros = span.pad || self.is_hole(&span)?;
            match &mut zeros {
                Some(len) if is_zeros => *len += span.range.len(),
                None if is_zeros => update_with_zeros(&mut state, span.range.len()),
                _ => {
                    update_with_zeros(&mut state, zeros.take().unwrap_or(0));
                    self.hash_span(&mut state, &span)?;
                }
            }
        }
        Ok(zeros.is_none().then(|| state.finish()))
    }

    fn is_hole(&mut self, span: &FileSpan) -> Result<bool, NotThere> {
        let file = self.file(span.file)?;
        if file.len < span.file_end() {
            return Err(NotThere);
        }
        Ok(file.next_data(span.file_offset) >= span.file_end())
    }

    fn hash_span(&mut self, state: &mut Sha1State, span: &FileSpan) -> Result<(), NotThere> {
        self.file(span.file)?;
        let Some(open) = &self.open else { return Err(NotThere) };
        let Ok(fd) = &open.fd else { return Err(NotThere) };
        let mut offset = span.file_offset;
        while offset < span.file_end() {
            let left = usize::try_from(span.file_end() - offset).unwrap_or(READ_LEN);
            let buf = &mut self.buf[..left.min(READ_LEN)];
            let read = read_up_to(fd, buf, offset).map_err(|errno| {
                let path = self.check.storage.path(span.file);
                self.check.failed(StorageError::os("read", path, errno));
                NotThere
            })?;
            self.sums.bytes_read += read as u64;
            if read < buf.len() {
                return Err(NotThere);
            }
            state.update(buf);
            offset += read as u64;
        }
        Ok(())
    }

    /// The file, opened by this thread alone: the kernel reads ahead per descriptor.
    fn file(&mut self, id: FileId) -> Result<&mut OpenFile, NotThere> {
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            self.open = Some(OpenFile::open(self.check, id));
        }
        self.open.as_mut().filter(|open| open.fd.is_ok()).ok_or(NotThere)
    }

    fn count(&mut self, found: PieceCheck) {
        match found {
            PieceCheck::Good => self.sums.good += 1,
            PieceCheck::Bad => self.sums.bad += 1,
            PieceCheck::Missing => self.sums.missing += 1,
        }
    }

    fn add_up(&self) {
        let mut report = self.check.report.lock();
        report.good += self.sums.good;
        report.bad += self.sums.bad;
        report.missing += self.sums.missing;
        report.bytes_read += self.sums.bytes_read;
        report.cancelled |= self.sums.cancelled;
    }
}

/// A file as one thread has it open.
struct OpenFile {
    id: FileId,
    /// An error is remembered too, so that a missing file is looked for once and not per piece.
    fd: Result<OwnedFd, NotThere>,
    len: u64,
    /// No data lies from the first offset to the second.
    gap: (u64, u64),
}

impl OpenFile {
    fn open(check: &Check<'_>, id: FileId) -> OpenFile {
        match check.storage.target.open_apart(&check.storage.content, id) {
            Ok((fd, len)) => {
                // Only advice: without it the kernel reads less ahead.
                let _ = fadvise(&fd, 0, None, Advice::Sequential);
                OpenFile { id, fd: Ok(fd), len, gap: (0, 0) }
            }
            Err(error) => {
                check.failed(error);
                OpenFile { id, fd: Err(NotThere), len: 0, gap: (0, 0) }
            }
        }
    }

    /// Where data begins at or after `offset`.
    fn next_data(&mut self, offset: u64) -> u64 {
        let (start, end) = self.gap;
        if !(start..end).contains(&offset) {
            self.gap = (offset, self.seek_data(offset));
        }
        self.gap.1
    }

    fn seek_data(&self, offset: u64) -> u64 {
        let Ok(fd) = &self.fd else { return offset };
        match seek(fd, SeekFrom::Data(offset)) {
            Ok(found) => found,
            // There is no data any more.
            Err(Errno::NXIO) => u64::MAX,
            // Block devices and some filesystems cannot tell: everything is data.
            Err(_) => offset,
        }
    }
}

fn digest_of_zeros(len: usize) -> Sha1Digest {
    let mut state = Sha1State::new();
    update_with_zeros(&mut state, len);
    state.finish()
}

fn update_with_zeros(state: &mut Sha1State, mut len: usize) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while len > 0 {
        let part = len.min(ZEROS.len());
        state.update(&ZEROS[..part]);
        len -= part;
    }
}
