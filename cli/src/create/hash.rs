//! Hashing the pieces of a new torrent on all cores.
//!
//! Threads take runs of neighbouring pieces and read each file onwards in large reads. Memory: 512 KiB per
//! thread, 20 bytes per piece, whatever the size of the content. Files that change meanwhile are an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ringtide_engine::storage::{Content, ContentFile, FileId, FileSpan};
use ringtide_hasher::{Sha1, Sha1Digest};
use ringtide_proto::layout::PieceIndex;
use rustix::fs::{Advice, OFlags, fadvise};

use super::walk::{Found, Shape, SourceFile, Stamp};
use crate::exit::{Exit, Failure};
use crate::parallel::{cpus, watched};
use crate::progress::Progress;
use crate::stop::Stop;
use crate::text::quoted;

/// Bytes of a read: long enough for the disk, short enough to be hashed from the L2 cache.
const READ_LEN: usize = 512 << 10;
/// About how many bytes of neighbouring pieces a thread takes at a time.
const RUN_BYTES: u32 = 16 << 20;

/// The SHA-1 of every piece, in order.
pub(super) fn hash(found: &Found, piece_length: u32, stop: &Stop) -> Result<Vec<Sha1Digest>, Failure> {
    let content = content(found, piece_length)?;
    let job = Job {
        found,
        run_len: (RUN_BYTES / piece_length).clamp(1, 1 << 10),
        content: &content,
        next: AtomicU32::new(0),
        done: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        cancel: stop.flag(),
    };
    let mut progress = Progress::new(content.layout().total_len());
    let parts = watched(
        cpus(),
        || job.work().inspect_err(|_| job.ended.store(true, Ordering::Relaxed)),
        || progress.update(job.done.load(Ordering::Relaxed), String::new),
    );
    drop(progress);
    if let Some(exit) = stop.requested() {
        return Err(Failure::new(exit, "stopped; nothing was written"));
    }
    let mut hashes = vec![[0; 20]; content.layout().piece_count() as usize];
    for part in parts {
        part?.into_iter().for_each(|(piece, digest)| hashes[piece.index()] = digest);
    }
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

/// What the threads share.
struct Job<'a> {
    found: &'a Found,
    content: &'a Content,
    run_len: u32,
    /// The next piece that no thread has taken.
    next: AtomicU32,
    /// Bytes that are hashed.
    done: AtomicU64,
    /// Another thread failed.
    ended: AtomicBool,
    cancel: &'a AtomicBool,
}

impl Job<'_> {
    fn work(&self) -> Result<Vec<(PieceIndex, Sha1Digest)>, Failure> {
        let mut reader = Reader { job: self, open: None, buf: vec![0; READ_LEN] };
        let mut hashes = Vec::new();
        loop {
            let first = self.next.fetch_add(self.run_len, Ordering::Relaxed);
            let layout = self.content.layout();
            // Cannot wrap: pieces are at most 2^21, and each thread stops at its first empty run.
            let run = (first..first + self.run_len).map_while(|number| layout.piece(number));
            let mut is_empty = true;
            for piece in run {
                if self.cancel.load(Ordering::Relaxed) || self.ended.load(Ordering::Relaxed) {
                    return Ok(hashes);
                }
                is_empty = false;
                hashes.push((piece, reader.piece(piece)?));
            }
            if is_empty {
                return Ok(hashes);
            }
        }
    }
}

/// One thread, with the file that it reads.
struct Reader<'a> {
    job: &'a Job<'a>,
    open: Option<(FileId, File)>,
    buf: Vec<u8>,
}

impl Reader<'_> {
    fn piece(&mut self, piece: PieceIndex) -> Result<Sha1Digest, Failure> {
        let mut state = Sha1::new();
        for span in self.job.content.piece_spans(piece) {
            self.span(&mut state, &span)?;
        }
        Ok(state.finish())
    }

    fn span(&mut self, state: &mut Sha1, span: &FileSpan) -> Result<(), Failure> {
        let source = &self.job.found.files[span.file.index()];
        let file = match &self.open {
            Some((id, file)) if *id == span.file => file,
            _ => &self.open.insert((span.file, open(source)?)).1,
        };
        let mut offset = span.file_offset;
        while offset < span.file_end() {
            let left = usize::try_from(span.file_end() - offset).unwrap_or(READ_LEN);
            let buf = &mut self.buf[..left.min(READ_LEN)];
            file.read_exact_at(buf, offset).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => changed(source),
                _ => cannot_read(&source.path, &error),
            })?;
            state.update(buf);
            offset += buf.len() as u64;
            self.job.done.fetch_add(buf.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn open(source: &SourceFile) -> Result<File, Failure> {
    // Without NONBLOCK, a FIFO that took the file's place would block until someone opens its other end.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&source.path);
    let file = file.map_err(|error| cannot_read(&source.path, &error))?;
    check_unchanged(source, file.metadata())?;
    // Only advice: without it the kernel reads less ahead.
    let _ = fadvise(&file, 0, None, Advice::Sequential);
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

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format_args!("cannot read {}", quoted(path)), error)
}
