//! What is made on disk, and what is refused.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use ringtide_engine::hash_pool::{DirectBy, Final, HashDone, HashJob, HashPool, Outcome, WriteJob};
use ringtide_engine::storage::{
    Cause, Content, ContentFile, DirectChoice, ErrorKind, Mode, PieceCheck, Storage, StorageOptions,
    WriteCounts, WritePolicy,
};
use ringtide_hasher::Sha1State;

use crate::support::{Mounted, Sample, in_memory, on_disk};

#[test]
fn a_tree_is_made_as_described() {
    let (sample, holder) = (Sample::several(), in_memory());
    let storage = sample.open(holder.path(), Mode::Download).expect("opens");
    assert_eq!(std::fs::metadata(holder.path().join("tree/a/empty")).expect("is made at once").len(), 0);
    sample.write_all(&storage);
    storage.finish().expect("is flushed");
    sample.assert_on_disk(holder.path());
    let mode =
        |path: &str| std::fs::metadata(holder.path().join(path)).expect("is there").permissions().mode();
    assert_ne!(mode("tree/b/c/second") & 0o100, 0, "is executable");
    assert_eq!(mode("tree/a/first") & 0o111, 0, "is not");
    assert!(!holder.path().join("tree/.pad").exists(), "padding is not on disk");
}

#[test]
fn links_are_made_in_the_end() {
    let holder = in_memory();
    let link = ContentFile { link: Some("a/file".into()), ..ContentFile::new("b/link", 0) };
    let content = Content::directory("tree", vec![ContentFile::new("a/file", 10), link], 16_384);
    let sample = Sample::new(content.expect("a layout"), 1);
    let storage = sample.open(holder.path(), Mode::Download).expect("opens");
    assert!(!holder.path().join("tree/b").exists());
    sample.write_all(&storage);
    storage.finish().expect("is flushed");
    assert_eq!(std::fs::read(holder.path().join("tree/b/link")).expect("leads to the file"), sample.bytes);
}

#[test]
fn a_link_planted_in_the_way_is_refused_and_named() {
    let (sample, holder, outside) = (Sample::several(), in_memory(), in_memory());
    std::fs::create_dir(holder.path().join("tree")).expect("is made");
    symlink(outside.path(), holder.path().join("tree/b")).expect("is made");
    let error = sample.open(holder.path(), Mode::Download).err().expect("is refused");
    assert_eq!((error.cause(), error.kind()), (&Cause::Symlink, ErrorKind::Path));
    assert_eq!(error.path(), holder.path().join("tree/b"));
    assert_eq!(std::fs::read_dir(outside.path()).expect("lists").count(), 0, "nothing was made outside");
}

#[test]
fn a_link_planted_later_is_refused_too() {
    let (sample, holder, outside) = (Sample::several(), in_memory(), in_memory());
    let storage = sample.open(holder.path(), Mode::Download).expect("opens");
    std::fs::write(outside.path().join("victim"), "kept").expect("is written");
    symlink(outside.path().join("victim"), holder.path().join("tree/third")).expect("is made");
    let last = sample
        .content
        .layout()
        .pieces()
        .find_map(|piece| storage.write_blocking(&sample.verified(piece)).err());
    assert_eq!(last.expect("the third file cannot be written").cause(), &Cause::Symlink);
    assert_eq!(std::fs::read(outside.path().join("victim")).expect("reads"), b"kept");
}

#[test]
fn the_directory_itself_may_be_a_link() {
    let (sample, holder, elsewhere) = (Sample::single(100_000, 16_384), in_memory(), in_memory());
    let link = elsewhere.path().join("link");
    symlink(holder.path(), &link).expect("is made");
    let storage = sample.open(&link, Mode::Download).expect("opens");
    sample.write_all(&storage);
    sample.assert_on_disk(holder.path());
}

#[test]
fn a_file_where_a_directory_should_be_is_an_error_about_the_path() {
    let (sample, holder) = (Sample::single(10, 16_384), in_memory());
    let file = holder.path().join("file");
    std::fs::write(&file, "x").expect("is written");
    let error = sample.open(&file, Mode::Download).err().expect("is refused");
    assert_eq!((error.kind(), error.path()), (ErrorKind::Path, &*file));
}

#[test]
fn a_longer_file_that_was_there_is_cut_in_the_end() {
    let (sample, holder) = (Sample::single(100_000, 16_384), in_memory());
    let mut longer = sample.bytes.clone();
    longer.extend_from_slice(b"something behind the end");
    std::fs::write(holder.path().join("image"), longer).expect("is written");
    let storage = sample.open(holder.path(), Mode::Download).expect("opens");
    assert_eq!(sample.check(&storage, 1).0.good, storage.content().layout().piece_count());
    storage.finish().expect("is flushed");
    sample.assert_on_disk(holder.path());
}

#[test]
fn content_is_found_in_its_holder_and_by_itself() {
    let (several, single, holder) = (Sample::several(), Sample::single(100_000, 16_384), in_memory());
    for sample in [&several, &single] {
        sample.write_all(&sample.open(holder.path(), Mode::Download).expect("opens"));
    }
    let renamed = holder.path().join("renamed");
    std::fs::copy(holder.path().join("image"), &renamed).expect("is copied");
    let places = [
        (&several, holder.path().to_owned()),
        (&several, holder.path().join("tree")),
        (&single, holder.path().to_owned()),
        (&single, holder.path().join("image")),
        (&single, renamed),
    ];
    for (sample, place) in places {
        let storage = sample.open(&place, Mode::Seed).expect("opens");
        assert_eq!(sample.check(&storage, 1).0.good, storage.content().layout().piece_count(), "{place:?}");
    }
    let error = several.open(&holder.path().join("image"), Mode::Seed).err().expect("is refused");
    assert_eq!(error.cause(), &Cause::NotA("directory"));
    let error = single.open(&holder.path().join("none"), Mode::Seed).err().expect("is refused");
    assert_eq!(error.kind(), ErrorKind::Path);
}

#[test]
fn memory_is_written_through_the_cache_by_the_worker() {
    let (sample, holder) = (Sample::single(10 * 65_536 + 5, 65_536), in_memory());
    let storage = sample.open(holder.path(), Mode::Download).expect("opens");
    assert_eq!(storage.write_policy(), WritePolicy::Cached);
    for piece in sample.content.layout().pieces() {
        assert!(storage.begin_write(&sample.verified(piece)).expect("is written").is_empty());
    }
    let counts = WriteCounts { cached_writes: 11, cached_bytes: 655_365, ..WriteCounts::default() };
    assert_eq!(storage.write_counts(), counts);
    sample.assert_on_disk(holder.path());
}

#[test]
#[ignore = "needs root: makes and mounts an ext4"]
fn ext4_is_written_past_the_cache_but_for_the_tail() {
    let (sample, disk) = (Sample::single(10 * 65_536 + 5000, 65_536), Mounted::ext4(64 << 20));
    let storage = sample.open(disk.path(), Mode::Download).expect("opens");
    assert_eq!(storage.write_policy(), WritePolicy::Direct);
    sample.write_all(&storage);
    let counts = storage.write_counts();
    assert_eq!((counts.direct_writes, counts.direct_bytes), (10, 655_360));
    assert_eq!((counts.cached_writes, counts.cached_bytes), (1, 5000));
    storage.finish().expect("is flushed");
    sample.assert_on_disk(disk.path());
    let off = StorageOptions { direct: DirectChoice::Off, max_open_files: None };
    let storage = sample.open_with(disk.path(), Mode::Download, off).expect("opens");
    assert_eq!(storage.write_policy(), WritePolicy::Cached);
}

#[test]
#[ignore = "needs root: makes and mounts an ext4"]
fn allocated_blocks_are_holes_until_they_are_written() {
    let (sample, disk) = (Sample::single(32 << 20, 65_536), Mounted::ext4(64 << 20));
    let storage = sample.open(disk.path(), Mode::Download).expect("opens");
    storage.write_blocking(&sample.verified(sample.piece(100))).expect("is written");
    storage.flush().expect("is flushed");
    let meta = std::fs::metadata(disk.path().join("image")).expect("is there");
    assert!(meta.len() == 32 << 20 && meta.blocks() * 512 >= 32 << 20, "all of it is allocated");
    let (report, _) = sample.check(&storage, 2);
    assert_eq!((report.good, report.missing, report.bytes_read), (1, 511, 65_536));
}

#[test]
fn the_hash_pool_writes_what_it_verified() {
    for (holder, direct_by) in [(in_memory(), DirectBy::Caller), (on_disk(), DirectBy::Worker)] {
        let sample = Sample::several();
        let storage = Arc::new(sample.open(holder.path(), Mode::Download).expect("opens"));
        let pool = HashPool::start(2).expect("starts");
        let (sender, answers) = std::sync::mpsc::channel();
        let reply: ringtide_engine::hash_pool::Reply =
            Arc::new(move |done: HashDone| sender.send(done).expect("the test waits"));
        for piece in sample.content.layout().pieces() {
            let whole = sample.verified(piece).data().clone();
            let write = Some(WriteJob { storage: Arc::clone(&storage), direct_by });
            let expected = sample.hashes[piece.index()];
            pool.submit(HashJob {
                key: u64::from(piece.number()),
                state: Sha1State::new(),
                data: whole.clone(),
                last: Some(Final { piece, whole, expected, want_digests: false, write }),
                urgent: false,
                reply: Arc::clone(&reply),
            });
        }
        for _ in sample.content.layout().pieces() {
            match answers.recv().expect("an answer").outcome {
                Outcome::Good { written: Some(Ok(left)), .. } => assert!(left.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        sample.assert_on_disk(holder.path());
        assert_eq!(pool.panics(), 0);
    }
}

#[test]
fn what_needs_no_write_is_answered_first_and_then_what_is_urgent() {
    let (holder, sample) = (in_memory(), Sample::several());
    let storage = Arc::new(sample.open(holder.path(), Mode::Download).expect("opens"));
    let pool = HashPool::start(1).expect("starts");
    let (sender, answers) = std::sync::mpsc::channel();
    let reply: ringtide_engine::hash_pool::Reply =
        Arc::new(move |done: HashDone| sender.send(done).expect("the test waits"));
    // The worker is kept busy until all jobs wait, so that they are one batch.
    let ((block, blocked), (taken, is_taken)) =
        (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel());
    pool.run(move || {
        taken.send(()).expect("the test waits");
        let _ = blocked.recv();
    });
    is_taken.recv().expect("the worker takes it");
    for (key, piece) in sample.content.layout().pieces().take(4).enumerate() {
        let (whole, write) = (sample.verified(piece).data().clone(), key < 2);
        let write = write.then(|| WriteJob { storage: Arc::clone(&storage), direct_by: DirectBy::Worker });
        // The last one is bad.
        let expected = if key == 3 { [0; 20] } else { sample.hashes[piece.index()] };
        pool.submit(HashJob {
            key: key as u64,
            state: Sha1State::new(),
            data: whole.clone(),
            last: Some(Final { piece, whole, expected, want_digests: false, write }),
            // What waits together is one batch all the same.
            urgent: key == 1,
            reply: Arc::clone(&reply),
        });
    }
    drop(block);
    let order: Vec<u64> = (0..4).map(|_| answers.recv().expect("an answer").key).collect();
    assert_eq!(order, [2, 3, 1, 0]);
    assert_eq!(pool.stats().batches, 1);
}

#[test]
fn few_files_are_open_however_many_there_are() {
    let holder = in_memory();
    let files = (0..5_000).map(|index| ContentFile::new(format!("{}/{index}", index % 50), 100));
    let sample = Sample::new(Content::directory("tree", files.collect(), 16_384).expect("a layout"), 3);
    let options = StorageOptions { max_open_files: Some(64), ..StorageOptions::default() };
    let storage = sample.open_with(holder.path(), Mode::Download, options).expect("opens");
    for piece in sample.content.layout().pieces() {
        storage.write_blocking(&sample.verified(piece)).expect("is written");
        assert!(storage.open_files() <= 64);
    }
    storage.finish().expect("is flushed");
    let here = format!("{}/", holder.path().display());
    let (report, _) = sample.check(&storage, 4);
    assert_eq!(report.good, sample.content.layout().piece_count());
    let mut buf = vec![0; 16_384];
    for piece in sample.content.layout().pieces().filter(|piece| piece.number() < 30) {
        storage.read_blocking(piece, 0, &mut buf).expect("is read");
    }
    let open = std::fs::read_dir("/proc/self/fd").expect("lists").flatten();
    let open = open.filter(|fd| {
        std::fs::read_link(fd.path()).is_ok_and(|to| to.display().to_string().starts_with(&here))
    });
    assert!(open.count() <= 64);
}

#[test]
fn of_files_that_are_not_wanted_only_shared_pieces_come_to_disk() {
    let link = |to: &str, wanted| ContentFile {
        link: Some("wanted".into()),
        wanted,
        ..ContentFile::new(format!("links/{to}"), 0)
    };
    let unwanted = |path: &str, len| ContentFile { wanted: false, ..ContentFile::new(path, len) };
    let files = vec![
        unwanted("alone", 200_000),
        unwanted("before", 200_000),
        unwanted("none", 0),
        ContentFile::new("empty", 0),
        ContentFile::new("wanted", 100_000),
        unwanted("after", 300_000),
        link("made", true),
        link("not-made", false),
    ];
    let content = Content::directory("tree", files, 65_536).expect("a layout");
    for direct in [DirectChoice::Off, DirectChoice::On] {
        let (sample, holder) = (Sample::new(content.clone(), 3), on_disk());
        let options = StorageOptions { direct, ..StorageOptions::default() };
        let at = |path: &str| holder.path().join("tree").join(path);
        // Somebody's own file, longer than the torrent's.
        std::fs::create_dir(holder.path().join("tree")).expect("is made");
        std::fs::write(at("after"), vec![7; 400_000]).expect("is written");
        let storage = sample.open_with(holder.path(), Mode::Download, options).expect("opens");
        assert!(at("empty").exists() && !at("none").exists(), "{direct:?}");
        // `wanted` is bytes 400,000 to 500,000.
        for number in 6..=7 {
            storage.write_blocking(&sample.verified(sample.piece(number))).expect("is written");
        }
        storage.finish().expect("is flushed");
        let read = |path: &str| std::fs::read(at(path)).expect("is there");
        assert!(read("wanted") == sample.bytes[400_000..500_000], "{direct:?}");
        assert!(read("links/made") == read("wanted") && !at("links/not-made").exists());
        assert!(!at("alone").exists(), "shares nothing");
        let before = std::fs::metadata(at("before")).expect("is there");
        assert!(before.len() == 200_000 && before.blocks() * 512 < 100_000, "its end and a hole: {before:?}");
        assert!(read("after").len() == 400_000, "not ours to cut");
        assert!(read("after")[..24_288] == sample.bytes[500_000..524_288] && read("after")[24_288] == 7);
        let (report, pieces) = sample.check(&storage, 2);
        let good: Vec<usize> =
            (0..pieces.len()).filter(|&piece| pieces[piece] == Some(PieceCheck::Good)).collect();
        assert_eq!((report.error, good), (None, vec![6, 7]), "{direct:?}: both are found again");
    }
}

/// A disk that has no room for what is not wanted is large enough.
#[test]
fn room_is_needed_for_what_is_wanted() {
    let files = |wanted| {
        vec![ContentFile::new("small", 10), ContentFile { wanted, ..ContentFile::new("huge", 1 << 46) }]
    };
    let open = |wanted| {
        let content = Content::directory("tree", files(wanted), 64 << 20).ok()?;
        let holder = on_disk();
        let opened = Storage::open(holder.path(), content, Mode::Download, StorageOptions::default());
        Some(opened.map(drop).map_err(|error| error.kind()))
    };
    assert_eq!((open(true), open(false)), (Some(Err(ErrorKind::Disk)), Some(Ok(()))));
}

/// A file may have its length and nothing else, as where its end came with a piece that it shares: what is lacking of it needs
/// room, once that is known.
#[test]
fn room_is_needed_for_holes_that_are_lacking() {
    let holder = on_disk();
    let huge = 1 << 43;
    let content = Content::single("huge", huge, 64 << 20).expect("is laid out");
    std::fs::File::create(holder.path().join("huge")).expect("is made").set_len(huge).expect("is sparse");
    let storage = Storage::open(holder.path(), content, Mode::Download, StorageOptions::default());
    let storage = storage.expect("it may be whole: zeros");
    let lacking = |lacks: &dyn Fn(u32) -> bool| {
        storage.check_room_for(|piece| lacks(piece.number())).map_err(|error| error.kind())
    };
    assert_eq!(lacking(&|_| true), Err(ErrorKind::Disk));
    assert_eq!((lacking(&|_| false), lacking(&|number| number == 7)), (Ok(()), Ok(())));
}
