//! A torrent's bytes on disk, and the memory they pass through.
//!
//! [`Storage`] is one torrent's files, shared by shards, hash workers and the control plane. This file owns
//! opening it; `write`, `read`, `flush` and `check` are what can be done with it, `scan` is how all pieces of a
//! content are hashed. `content` is the arithmetic between pieces and files, `target`, `tree` and `device` are
//! where the files are, `synthetic` is content that is made up and needs none, `split` decides what goes past the page
//! cache. [`BufferPool`] is the memory, and `landing` says who may write it. Who calls what from which thread is not
//! decided here.

mod buffer;
mod check;
mod content;
mod device;
mod error;
mod fd_cache;
mod flush;
mod hot;
mod landing;
mod mapped;
mod pool;
mod positioned;
mod read;
mod scan;
mod split;
mod synthetic;
mod target;
mod tree;
mod verified;
mod write;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use ringtide_proto::layout::PieceIndex;
use rustix::fs::{FileType, Stat, fstatvfs};

pub use buffer::{AlignedBuf, FrozenRange, PieceBuffer};
pub use check::{CheckOptions, CheckReport, PieceCheck};
pub use content::{Content, ContentFile, FileId, FileSpan, Spans};
pub use error::{Cause, ErrorKind, StorageError};
pub use landing::Landing;
pub use mapped::MappedRange;
pub use pool::{BUFFER_ALIGN, BufferPool};
pub use read::{ReadPart, ReadSource};
pub use scan::{Fault, Found, ReadWay, Scan, ZeroDigests, scan_pieces};
pub use synthetic::Synthetic;
pub use verified::Verified;
pub use write::DirectWrite;

pub(crate) use fd_cache::descriptors_for_files;
use fd_cache::{Access, FdCache};
pub(crate) use hot::HotPieces;
use mapped::Mappings;
use split::Alignment;
use target::Target;

/// What the files are opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To be completed: the target is a directory, which is made, or a block device.
    Download,
    /// To be read only: the target is the directory that holds the content, or the content itself.
    Seed,
}

/// Whether pieces are written past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectChoice {
    /// Where the kernel says that it can be done.
    #[default]
    Auto,
    /// Also where it does not say so.
    On,
    /// Never.
    Off,
}

/// Which way the pieces of a download are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePolicy {
    /// Whole pages past the page cache by whoever takes the [`DirectWrite`]s, the rest through it.
    Direct,
    /// Everything through the page cache, by the thread that verified the piece.
    Cached,
}

/// How a [`Storage`] behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageOptions {
    /// Whether pieces are written past the page cache.
    pub direct: DirectChoice,
    /// Most descriptors kept open; by default what suits the process's limit, together with all other torrents.
    pub max_open_files: Option<usize>,
}

/// How much was written which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Direct writes that were handed out or done.
    pub direct_writes: u64,
    /// Their bytes.
    pub direct_bytes: u64,
    /// Writes through the page cache.
    pub cached_writes: u64,
    /// Their bytes.
    pub cached_bytes: u64,
}

/// The files of one torrent. All methods can be called from any thread; those that may block say so.
pub struct Storage {
    content: Content,
    target: Target,
    mode: Mode,
    /// How direct writes must be aligned, where they are done.
    alignment: Option<Alignment>,
    fds: FdCache,
    mappings: Mappings,
    /// Per file, a set of the `FILE_` bits.
    states: Box<[AtomicU8]>,
    /// Held while a file is made and allocated, so that this is done once.
    preparing: Mutex<()>,
    /// Directories with new entries, beneath the tree, that `flush` has to make durable.
    changed_directories: Mutex<BTreeSet<PathBuf>>,
    /// Nothing will be written any more: reads may read ahead.
    finished: AtomicBool,
    direct: Counter,
    cached: Counter,
}

/// The file exists and has its length.
const FILE_PREPARED: u8 = 1;
/// Something was written to it since the storage was opened.
const FILE_WRITTEN: u8 = 2;

#[derive(Default)]
struct Counter {
    writes: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Storage {
    /// Opens the files of `content`. Blocks.
    ///
    /// For a download this makes the directory, the empty files and the first file, and finds out whether
    /// there is room for what is missing.
    ///
    /// # Errors
    /// When the path is not what it should be, a symbolic link is in the way, a device is in use or too small,
    /// something is not permitted, or there is not enough room.
    pub fn open(
        path: &Path,
        content: Content,
        mode: Mode,
        options: StorageOptions,
    ) -> Result<Storage, StorageError> {
        let target = match mode {
            Mode::Download => Target::to_download(path, &content)?,
            Mode::Seed => Target::to_read(path, &content)?,
        };
        let mut storage = Storage::of(target, content, mode, options);
        if mode == Mode::Download {
            storage.check_room()?;
            storage.check_neighbours()?;
            storage.create_empty_files()?;
            storage.alignment = storage.find_alignment(options.direct)?;
        }
        Ok(storage)
    }

    /// Content that is made up: reads come from memory, and what is written is thrown away. `content` must describe it:
    /// `None` where it does not.
    #[must_use]
    pub fn synthetic(synthetic: Synthetic, content: Content, mode: Mode) -> Option<Storage> {
        let fits = synthetic.fits(content.layout());
        let target = Target::Synthetic(synthetic);
        fits.then(|| Storage::of(target, content, mode, StorageOptions::default()))
    }

    fn of(target: Target, content: Content, mode: Mode, options: StorageOptions) -> Storage {
        let states = (0..content.file_count()).map(|_| AtomicU8::new(0)).collect();
        Storage {
            content,
            target,
            mode,
            alignment: None,
            fds: options.max_open_files.map_or_else(FdCache::of_process, FdCache::new),
            mappings: Mappings::default(),
            states,
            preparing: Mutex::new(()),
            changed_directories: Mutex::default(),
            finished: AtomicBool::new(mode == Mode::Seed),
            direct: Counter::default(),
            cached: Counter::default(),
        }
    }

    /// What the torrent consists of.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Which way pieces are written.
    #[must_use]
    pub fn write_policy(&self) -> WritePolicy {
        if self.alignment.is_some() { WritePolicy::Direct } else { WritePolicy::Cached }
    }

    /// How much was written which way, so far.
    #[must_use]
    pub fn write_counts(&self) -> WriteCounts {
        WriteCounts {
            direct_writes: self.direct.writes.load(Ordering::Relaxed),
            direct_bytes: self.direct.bytes.load(Ordering::Relaxed),
            cached_writes: self.cached.writes.load(Ordering::Relaxed),
            cached_bytes: self.cached.bytes.load(Ordering::Relaxed),
        }
    }

    /// How many descriptors are kept open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.fds.len()
    }

    /// Where a file is, for messages.
    #[must_use]
    pub fn path(&self, file: FileId) -> PathBuf {
        self.target.path(&self.content, file)
    }

    /// Compares what is missing with what is free, so that a full disk shows before anything is downloaded. A file that has
    /// its length already may be a whole one with holes: what it lacks is known once it was [checked](Self::check), see
    /// [`check_room_for`](Self::check_room_for). Of files that are not wanted a piece or two may come to disk, which are
    /// not counted.
    fn check_room(&self) -> Result<(), StorageError> {
        self.compare_room(|_, file, stat| {
            let complete =
                stat.is_some_and(|stat| u64::try_from(stat.st_size).is_ok_and(|size| size >= file.len));
            if complete { 0 } else { unallocated(file, stat) }
        })
    }

    /// Compares what is to be written of the pieces that are lacking with what is free: a file may have its length and next to
    /// nothing of its content, where its end was written with a piece that it shares. Of what is allocated nothing is needed.
    /// Blocks.
    ///
    /// # Errors
    /// [`Cause::NoSpace`], and what looking at a file says.
    pub fn check_room_for(&self, lacks: impl Fn(PieceIndex) -> bool) -> Result<(), StorageError> {
        let mut lacking = vec![0_u64; self.content.file_count()];
        for piece in self.content.layout().pieces().filter(|&piece| lacks(piece)) {
            for span in self.content.piece_spans(piece) {
                lacking[span.file.index()] += span.range.len() as u64;
            }
        }
        self.compare_room(|id, file, stat| match lacking[id.index()] {
            0 => 0,
            lacking => lacking.min(unallocated(file, stat)),
        })
    }

    /// Holds what the wanted files need against what is free.
    fn compare_room(
        &self,
        needs: impl Fn(FileId, &ContentFile, Option<&Stat>) -> u64,
    ) -> Result<(), StorageError> {
        let Target::Directory(place) = &self.target else { return Ok(()) };
        let mut needed = 0;
        for (id, file) in self.content.wanted_files() {
            let found = place.tree.stat(&place.path(&self.content, id))?;
            needed += needs(id, file, found.as_ref());
        }
        match self.free_bytes() {
            Some(free) if needed > free => {
                let path = place.tree.full(Path::new(""));
                Err(StorageError::new("download to", path, Cause::NoSpace { needed, free }))
            }
            _ => Ok(()),
        }
    }

    /// Looks at what lies where a part of a file that is not wanted will be written, so that a link or a directory in its
    /// place shows before anything is downloaded, too.
    fn check_neighbours(&self) -> Result<(), StorageError> {
        let Target::Directory(place) = &self.target else { return Ok(()) };
        for id in self.content.neighbours() {
            let path = place.path(&self.content, id);
            let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode).is_file();
            if place.tree.stat(&path)?.is_some_and(|stat| !is_file(&stat)) {
                return Err(StorageError::new("open", place.tree.full(&path), Cause::NotA("regular file")));
            }
        }
        Ok(())
    }

    /// Bytes that can be allocated where the files are, as far as that is known.
    fn free_bytes(&self) -> Option<u64> {
        let Target::Directory(place) = &self.target else { return None };
        let found = fstatvfs(place.tree.root()).ok()?;
        // No blocks at all: a filesystem that does not count them, such as a tmpfs without a limit.
        if found.f_blocks == 0 { None } else { found.f_bavail.checked_mul(found.f_frsize) }
    }

    fn create_empty_files(&self) -> Result<(), StorageError> {
        let empty = self.content.wanted_files().filter(|(_, file)| file.len == 0);
        for (id, _) in empty {
            self.prepare(id)?;
        }
        Ok(())
    }

    /// Asks the filesystem by way of the first file, which is made for that, without its length.
    fn find_alignment(&self, choice: DirectChoice) -> Result<Option<Alignment>, StorageError> {
        let first = self.content.wanted_files().find(|(_, file)| file.len > 0);
        let (Some((id, _)), DirectChoice::Auto | DirectChoice::On) = (first, choice) else { return Ok(None) };
        let fd = match self.target.open(&self.content, id, Access::Read) {
            Err(error) if error.is_missing() => self.create(id)?,
            result => result?,
        };
        let page = Alignment::new(4096, 4096);
        Ok(self.target.alignment(&fd).or((choice == DirectChoice::On).then_some(page)))
    }

    /// The descriptor of a file that exists.
    fn fd(&self, file: FileId, access: Access) -> Result<Arc<OwnedFd>, StorageError> {
        self.fds.get_or_open((file, access), || self.target.open(&self.content, file, access))
    }
}

/// Bytes of the file that have no place on the disk yet.
fn unallocated(file: &ContentFile, found: Option<&Stat>) -> u64 {
    let blocks = found.and_then(|stat| u64::try_from(stat.st_blocks).ok()).unwrap_or(0);
    file.len.saturating_sub(blocks * 512)
}
