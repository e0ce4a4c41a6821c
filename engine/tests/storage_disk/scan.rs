//! All ways of reading and hashing pieces agree with the obvious one, whatever the shapes.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;
use ringtide_engine::storage::{
    CheckOptions, Content, ContentFile, Fault, FileId, Found, Mode, ReadWay, Scan, ZeroDigests, scan_pieces,
};
use ringtide_hasher::sha1;
use ringtide_proto::layout::PieceIndex;
use rustix::fs::{Advice, fadvise};

use crate::support::{Sample, in_memory, on_disk};

const WAYS: [ReadWay; 4] = [ReadWay::Auto, ReadWay::Mapped, ReadWay::Cached, ReadWay::Direct];

/// A sample's files in a directory, and what a scan tells of them.
struct Scanned<'a> {
    sample: &'a Sample,
    dir: &'a Path,
    found: Mutex<Vec<Option<Found>>>,
    faults: Mutex<Vec<Fault>>,
    passed: AtomicU64,
    read: AtomicU64,
    cancel: AtomicBool,
    /// Whether `open` and `mapped` are looked at.
    watched: bool,
    /// Most descriptors of the sample's files that were open at a time.
    open: AtomicUsize,
    /// Most bytes of the sample's files that were mapped when a step was done.
    mapped: AtomicUsize,
    /// Done to a file once it was opened and measured.
    on_open: fn(&Path),
    /// Done to the directory when a piece is found.
    on_found: fn(&Scanned<'a>),
}

impl<'a> Scanned<'a> {
    fn new(sample: &'a Sample, dir: &'a Path) -> Self {
        Scanned {
            sample,
            dir,
            found: Mutex::new(vec![None; sample.hashes.len()]),
            faults: Mutex::default(),
            passed: AtomicU64::new(0),
            read: AtomicU64::new(0),
            cancel: AtomicBool::new(false),
            watched: false,
            open: AtomicUsize::new(0),
            mapped: AtomicUsize::new(0),
            on_open: |_| {},
            on_found: |_| {},
        }
    }

    fn run(&self, threads: usize, way: ReadWay) -> bool {
        scan_pieces(&self.sample.content, self, threads, way)
    }

    fn path(&self, file: FileId) -> std::path::PathBuf {
        self.dir.join(&self.sample.content.file(file).path)
    }

    /// Every piece was found as it is.
    fn assert_complete(&self) {
        let zeros = ZeroDigests::new(*self.sample.content.layout());
        for piece in self.sample.content.layout().pieces() {
            let digest = match self.found.lock().expect("no panic")[piece.index()] {
                Some(Found::Digest(digest)) => digest,
                Some(Found::Hole) => zeros.of(piece),
                other => panic!("{piece:?} is {other:?}"),
            };
            assert_eq!(digest, self.sample.hashes[piece.index()], "{piece:?}");
        }
        assert_eq!(self.passed.load(Ordering::Relaxed), self.sample.bytes.len() as u64);
        assert_eq!(*self.faults.lock().expect("no panic"), []);
    }

    fn count(&self, is: impl Fn(&Option<Found>) -> bool) -> usize {
        self.found.lock().expect("no panic").iter().filter(|found| is(found)).count()
    }
}

impl Scan for Scanned<'_> {
    fn open(&self, file: FileId) -> Option<(OwnedFd, u64)> {
        let path = self.path(file);
        let opened = File::open(&path).ok()?;
        let len = opened.metadata().expect("has a length").len();
        if self.watched {
            self.open.fetch_max(descriptors_below(self.dir), Ordering::Relaxed);
        }
        (self.on_open)(&path);
        Some((opened.into(), len))
    }

    fn failed(&self, _file: FileId, fault: Fault) {
        self.faults.lock().expect("no panic").push(fault);
    }

    fn found(&self, piece: PieceIndex, found: Found) {
        let before = self.found.lock().expect("no panic")[piece.index()].replace(found);
        assert_eq!(before, None, "{piece:?} is told once");
        (self.on_found)(self);
    }

    fn passed(&self, bytes: u64, read: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
        self.read.fetch_add(read, Ordering::Relaxed);
        if self.watched {
            self.mapped.fetch_max(mapped_below(self.dir), Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// How many descriptors of this process lead to files in that directory.
fn descriptors_below(dir: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("is there").flatten();
    open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|file| file.starts_with(dir))).count()
}

/// How many bytes of files in that directory this process has mapped.
fn mapped_below(dir: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("is there");
    // "7f1200000000-7f1200080000 r--p 00000000 08:01 1234    /tmp/x/f0"
    let ours = maps.lines().filter(|line| line.contains(dir.to_str().expect("is text")));
    let len = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        Some(usize::from_str_radix(end, 16).ok()? - usize::from_str_radix(start, 16).ok()?)
    };
    ours.map(|line| len(line).expect("a range")).sum()
}

/// Writes the sample's files, padding excepted.
fn write(sample: &Sample, dir: &Path) {
    let mut rest = &sample.bytes[..];
    for (index, len) in lens(&sample.content).into_iter().enumerate() {
        let (bytes, after) = rest.split_at(len);
        rest = after;
        if let Some((_, file)) = sample.content.real_files().find(|(id, _)| id.index() == index) {
            std::fs::write(dir.join(&file.path), bytes).expect("is written");
        }
    }
}

/// How many bytes of the torrent each file has.
fn lens(content: &Content) -> Vec<usize> {
    let mut lens = vec![0; content.file_count()];
    for piece in content.layout().pieces() {
        for span in content.piece_spans(piece) {
            lens[span.file.index()] += span.range.len();
        }
    }
    lens
}

fn content(files: &[(usize, bool)], piece_len: u32) -> Content {
    let file = |(index, (len, pad)): (usize, &(usize, bool))| match pad {
        true => ContentFile::pad(*len as u64),
        false => ContentFile::new(format!("f{index}"), *len as u64),
    };
    Content::directory("d", files.iter().enumerate().map(file).collect(), piece_len).expect("a layout")
}

fn image(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).expect("opens")
}

/// Small files, files of a few pages, and files that are worth mapping and reading past the cache.
fn a_file() -> impl Strategy<Value = (usize, bool)> {
    let len = prop_oneof![0..2_usize, 1..9000_usize, 60_000..70_000_usize, 200_000..1_500_000_usize];
    (len, prop::bool::weighted(0.15))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn all_ways_agree_on_odd_shapes(
        files in prop::collection::vec(a_file(), 1..12),
        piece_len in prop_oneof![Just(1000_u32), Just(16_384), Just(65_536), Just(100_001), Just(1 << 20)],
        threads in prop_oneof![Just(1_usize), Just(3)],
    ) {
        let sample = Sample::new(content(&files, piece_len), 3);
        let dir = on_disk();
        write(&sample, dir.path());
        for way in WAYS {
            let scanned = Scanned::new(&sample, dir.path());
            prop_assert!(scanned.run(threads, way));
            scanned.assert_complete();
        }
    }
}

#[test]
fn pieces_longer_than_a_step_are_hashed_in_strips() {
    // The windows of one thread's groups are larger than what is populated at once.
    let sample = Sample::single(100 * (1 << 20) + 12_345, 12 << 20);
    for dir in [in_memory(), on_disk()] {
        write(&sample, dir.path());
        for (way, threads) in WAYS.into_iter().flat_map(|way| [(way, 1), (way, 3)]) {
            let scanned = Scanned::new(&sample, dir.path());
            assert!(scanned.run(threads, way));
            scanned.assert_complete();
            assert_eq!(scanned.read.load(Ordering::Relaxed), sample.bytes.len() as u64, "{way:?}");
        }
    }
}

#[test]
fn pieces_run_through_thousands_of_small_files() {
    let files: Vec<_> = (0..3000).map(|index| (index * 37 % 5000, index % 50 == 7)).collect();
    let sample = Sample::new(content(&files, 256 << 10), 5);
    let dir = in_memory();
    write(&sample, dir.path());
    for (way, threads) in WAYS.into_iter().flat_map(|way| [(way, 1), (way, 3)]) {
        let scanned = Scanned::new(&sample, dir.path());
        assert!(scanned.run(threads, way));
        scanned.assert_complete();
    }
}

/// Large files past the page cache, small ones asked for ahead.
#[test]
fn content_that_is_not_in_the_page_cache_is_found() {
    let mut files: Vec<_> = (0..400).map(|index| (2000 + index * 13, false)).collect();
    files.insert(200, (40 << 20, false));
    files.push((700_000, false));
    let sample = Sample::new(content(&files, 256 << 10), 9);
    let dir = on_disk();
    write(&sample, dir.path());
    for threads in [1, 3] {
        for (id, _) in sample.content.real_files() {
            let file = image(&dir.path().join(&sample.content.file(id).path));
            file.sync_all().expect("is flushed");
            fadvise(&file, 0, None, Advice::DontNeed).expect("is dropped from the cache");
        }
        let scanned = Scanned::new(&sample, dir.path());
        assert!(scanned.run(threads, ReadWay::Auto));
        scanned.assert_complete();
    }
}

/// Each strip is a file of its own, and all pieces are one group.
#[test]
fn a_group_of_many_files_keeps_those_of_two_steps_only() {
    const OPEN_FILES: usize = 40;
    const FILE: usize = 512 << 10;
    let sample = Sample::new(content(&[(FILE, false); 128], 4 << 20), 4);
    let dir = on_disk();
    write(&sample, dir.path());
    for way in WAYS {
        let scanned = Scanned { watched: true, ..Scanned::new(&sample, dir.path()) };
        assert!(scanned.run(1, way));
        scanned.assert_complete();
        let (open, mapped) = (scanned.open.into_inner(), scanned.mapped.into_inner());
        assert!(
            (1..=2 * OPEN_FILES + 2 * 16).contains(&open),
            "{way:?}: two each, and those of two steps: {open}"
        );
        assert!(mapped <= 2 * 16 * FILE, "{way:?}: {mapped}");
        assert!(mapped > 0 || way != ReadWay::Mapped, "measures what is mapped");
    }
}

#[test]
fn islands_in_a_sparse_file_are_read_and_nothing_else() {
    const PIECE: usize = 128 << 10;
    let mut sample = Sample::single(64 * PIECE as u64, PIECE as u32);
    let islands = [0..4096, 10 * PIECE - 4096..10 * PIECE + 8192, 40 * PIECE..42 * PIECE];
    let mut bytes = vec![0; sample.bytes.len()];
    for island in &islands {
        bytes[island.clone()].copy_from_slice(&sample.bytes[island.clone()]);
    }
    sample.hashes = bytes.chunks(PIECE).map(sha1).collect();
    sample.bytes = bytes;
    for dir in [in_memory(), on_disk()] {
        let file = File::create(dir.path().join("image")).expect("is made");
        file.set_len(sample.bytes.len() as u64).expect("gets its length");
        for island in &islands {
            file.write_all_at(&sample.bytes[island.clone()], island.start as u64).expect("is written");
        }
        for way in WAYS {
            let scanned = Scanned::new(&sample, dir.path());
            assert!(scanned.run(2, way));
            scanned.assert_complete();
            assert_eq!(scanned.count(|found| *found == Some(Found::Hole)), 64 - 5, "{way:?}");
            // In an ordinary read a hole ends with a bite of 32 KiB.
            let read = scanned.read.load(Ordering::Relaxed);
            assert!(
                (2 * PIECE as u64..=2 * PIECE as u64 + 4 * (32 << 10)).contains(&read),
                "{way:?}: {read}"
            );
        }
    }
}

/// The file has half its length from the moment it was measured.
#[test]
fn a_file_that_shrinks_before_it_is_read_loses_its_end_only() {
    let sample = Sample::single(64 * 65_536, 65_536);
    for (way, dir) in WAYS.into_iter().flat_map(|way| [(way, in_memory()), (way, on_disk())]) {
        write(&sample, dir.path());
        let mut scanned = Scanned::new(&sample, dir.path());
        scanned.on_open = |path| image(path).set_len(32 * 65_536).expect("is cut");
        assert!(scanned.run(1, way));
        let found = scanned.found.lock().expect("no panic").clone();
        for (number, found) in found.iter().enumerate() {
            let expected = if number < 32 { Found::Digest(sample.hashes[number]) } else { Found::NotThere };
            assert_eq!(*found, Some(expected), "{way:?}: piece {number}");
        }
        assert!(scanned.faults.lock().expect("no panic").contains(&Fault::TooShort), "{way:?}");
    }
}

/// Long pieces are mapped for several steps: the window breaks in the midst of them.
#[test]
fn a_file_that_shrinks_between_steps_loses_its_end_only() {
    let sample = Sample::single(4 * (16 << 20), 16 << 20);
    for way in [ReadWay::Mapped, ReadWay::Cached] {
        let dir = in_memory();
        write(&sample, dir.path());
        let cut = Cutting { inner: Scanned::new(&sample, dir.path()), done: AtomicBool::new(false) };
        assert!(scan_pieces(&sample.content, &cut, 1, way));
        let found = cut.inner.found.lock().expect("no panic").clone();
        assert_eq!(
            found[..2],
            [Some(Found::Digest(sample.hashes[0])), Some(Found::Digest(sample.hashes[1]))]
        );
        assert_eq!(found[2..], [Some(Found::NotThere); 2], "{way:?}");
    }
}

/// Cuts the file in the midst of the third piece when the first step is done.
struct Cutting<'a> {
    inner: Scanned<'a>,
    done: AtomicBool,
}

impl Scan for Cutting<'_> {
    fn open(&self, file: FileId) -> Option<(OwnedFd, u64)> {
        self.inner.open(file)
    }

    fn failed(&self, file: FileId, fault: Fault) {
        self.inner.failed(file, fault);
    }

    fn found(&self, piece: PieceIndex, found: Found) {
        self.inner.found(piece, found);
    }

    fn passed(&self, bytes: u64, read: u64) {
        self.inner.passed(bytes, read);
        if !self.done.swap(true, Ordering::Relaxed) {
            image(&self.inner.dir.join("image")).set_len((2 << 24) + (5 << 20)).expect("is cut");
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_missing_file_is_looked_for_and_the_rest_found() {
    let sample = Sample::new(content(&[(300_000, false), (300_000, false), (300_000, false)], 100_000), 1);
    let dir = on_disk();
    write(&sample, dir.path());
    std::fs::remove_file(dir.path().join("f1")).expect("is removed");
    for way in WAYS {
        let scanned = Scanned::new(&sample, dir.path());
        assert!(scanned.run(2, way));
        assert_eq!(scanned.count(|found| matches!(found, Some(Found::Digest(_)))), 6, "{way:?}");
        assert_eq!(scanned.count(|found| *found == Some(Found::NotThere)), 3, "{way:?}");
        assert_eq!(scanned.passed.load(Ordering::Relaxed), 900_000, "progress comes to its end");
    }
}

#[test]
fn a_cancelled_scan_tells_no_more() {
    let sample = Sample::single(200 * 65_536, 65_536);
    let dir = on_disk();
    write(&sample, dir.path());
    for way in WAYS {
        let mut scanned = Scanned::new(&sample, dir.path());
        scanned.on_found = |scanned| scanned.cancel.store(true, Ordering::Relaxed);
        assert!(!scanned.run(1, way), "{way:?}");
        assert_eq!(scanned.count(Option::is_some), 1, "{way:?}");
    }
}

#[test]
fn a_check_counts_what_it_has_done() {
    let (sample, holder) = (Sample::several(), in_memory());
    sample.write_all(&sample.open(holder.path(), Mode::Download).expect("opens"));
    let storage = sample.open(holder.path(), Mode::Seed).expect("opens");
    for way in WAYS {
        let done = AtomicU64::new(0);
        let options = CheckOptions { way, done: Some(&done), ..CheckOptions::threads(2) };
        let report = storage.check_with(&sample.hashes, options, |_, _| {}, &AtomicBool::new(false));
        assert_eq!(report.good, storage.content().layout().piece_count(), "{way:?}");
        assert_eq!(done.into_inner(), storage.content().layout().total_len());
        assert_eq!(report.bytes_read, 100_000 + 300_001 + 1 + 65_536, "padding is not read");
    }
}
