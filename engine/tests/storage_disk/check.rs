//! What a check finds on disks in every state.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ringtide_engine::storage::{CheckOptions, Content, Mode, PieceCheck, ReadWay, Storage, StorageOptions};
use ringtide_hasher::sha1;

use crate::support::{Sample, in_memory, on_disk};

#[test]
fn nothing_on_disk_is_all_missing() {
    let (sample, holder) = (Sample::several(), in_memory());
    let storage = sample.open(holder.path(), Mode::Seed).expect("opens");
    let (report, found) = sample.check(&storage, 3);
    assert!(found.iter().all(|found| *found == Some(PieceCheck::Missing)));
    let files: Vec<_> = sample.content.real_files().map(|(id, _)| id).collect();
    assert_eq!((report.missing_files, report.error, report.bytes_read), (files, None, 0));
}

#[test]
fn wrong_and_missing_bytes_are_told_apart() {
    let (sample, holder) = (Sample::several(), in_memory());
    sample.write_all(&sample.open(holder.path(), Mode::Download).expect("opens"));
    let second = OpenOptions::new().write(true).open(holder.path().join("tree/b/c/second")).expect("opens");
    second.write_all_at(b"?", 100_000).expect("is written");
    std::fs::remove_file(holder.path().join("tree/a/empty")).expect("is removed");
    std::fs::remove_file(holder.path().join("tree/a/fourth")).expect("is removed");
    let storage = sample.open(holder.path(), Mode::Seed).expect("opens");
    let (report, found) = sample.check(&storage, 2);
    let of = |number: usize| found[number].expect("is told");
    // The first file ends in the second piece, whose rest is padding; the second begins the third piece.
    assert_eq!(
        (of(0), of(1), of(2), of(3)),
        (PieceCheck::Good, PieceCheck::Good, PieceCheck::Good, PieceCheck::Bad)
    );
    assert_eq!(found.last(), Some(&Some(PieceCheck::Missing)));
    let names = report.missing_files.iter().map(|id| sample.content.file(*id).path.display().to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["a/empty", "a/fourth"]);
}

#[test]
fn a_short_file_lacks_its_last_pieces_only() {
    let (sample, holder) = (Sample::single(10 * 65_536, 65_536), in_memory());
    sample.write_all(&sample.open(holder.path(), Mode::Download).expect("opens"));
    let file = OpenOptions::new().write(true).open(holder.path().join("image")).expect("opens");
    file.set_len(4 * 65_536 + 1).expect("is cut");
    let storage = sample.open(holder.path(), Mode::Seed).expect("opens");
    let (report, found) = sample.check(&storage, 2);
    assert_eq!((report.good, report.bad, report.missing), (4, 0, 6));
    assert_eq!(found[4], Some(PieceCheck::Missing));
}

/// What was hashed before the cut is good, what was not is missing, and nothing is bad.
#[test]
fn a_file_that_shrinks_during_the_check_is_no_disaster() {
    for way in [ReadWay::Auto, ReadWay::Mapped, ReadWay::Cached] {
        let (sample, holder) = (Sample::single(64 * 65_536, 65_536), in_memory());
        sample.write_all(&sample.open(holder.path(), Mode::Download).expect("opens"));
        let storage = sample.open(holder.path(), Mode::Seed).expect("opens");
        let file = OpenOptions::new().write(true).open(holder.path().join("image")).expect("opens");
        let on_piece = |_, _| file.set_len(65_536).expect("is cut");
        let options = CheckOptions { way, ..CheckOptions::threads(1) };
        let report = storage.check_with(&sample.hashes, options, on_piece, &AtomicBool::new(false));
        assert_eq!((report.bad, report.good + report.missing), (0, 64), "{way:?}");
        assert!((1..64).contains(&report.good), "{way:?}: {} are good", report.good);
        assert_eq!((report.error, report.cancelled), (None, false));
    }
}

#[test]
fn an_unreadable_file_is_reported_and_counts_as_missing() {
    let (sample, holder) = (Sample::several(), in_memory());
    sample.write_all(&sample.open(holder.path(), Mode::Download).expect("opens"));
    let third = holder.path().join("tree/third");
    std::fs::remove_file(&third).expect("is removed");
    std::os::unix::fs::symlink("a/first", &third).expect("is made");
    let storage = sample.open(holder.path(), Mode::Seed).expect("opens");
    let (report, _) = sample.check(&storage, 1);
    assert_eq!(report.error.expect("is reported").path(), third);
    assert_eq!((report.missing, report.missing_files.len()), (1, 0));
}

#[test]
fn zeros_in_a_hole_are_good_where_zeros_belong() {
    let holder = in_memory();
    let content = Content::single("image", 3 * 65_536 + 10, 65_536).expect("a layout");
    let file = std::fs::File::create(holder.path().join("image")).expect("is made");
    file.set_len(3 * 65_536 + 10).expect("gets its length");
    let zeros = vec![0; 65_536];
    let hashes = [sha1(&zeros), sha1(b"not zeros"), sha1(&zeros), sha1(&zeros[..10])];
    let storage =
        Storage::open(holder.path(), content, Mode::Seed, StorageOptions::default()).expect("opens");
    let report = storage.check(&hashes, 2, |_, _| {}, &AtomicBool::new(false));
    assert_eq!((report.good, report.missing, report.bytes_read), (3, 1, 0));
}

#[test]
fn a_cancelled_check_stops() {
    let (sample, holder) = (Sample::single(64 * 65_536, 65_536), in_memory());
    sample.write_all(&sample.open(holder.path(), Mode::Download).expect("opens"));
    let storage = sample.open(holder.path(), Mode::Seed).expect("opens");
    let (cancel, told) = (AtomicBool::new(false), AtomicU32::new(0));
    let on_piece = |_, _| cancel.store(told.fetch_add(1, Ordering::Relaxed) == 9, Ordering::Relaxed);
    let report = storage.check(&sample.hashes, 1, on_piece, &cancel);
    assert_eq!((report.good, report.cancelled), (10, true));
}

/// 800,000 pieces, of which nothing but one was written. The check reads that one and no more, with a few
/// system calls for the rest; at one call and 1 us for each piece it would still be within a second.
#[test]
fn a_sparse_giant_is_checked_without_reading_it() {
    let holder = on_disk();
    let content = Content::single("giant", 800_000 * 262_144, 262_144).expect("a layout");
    let file = std::fs::File::create(holder.path().join("giant")).expect("is made");
    file.set_len(800_000 * 262_144).expect("gets its length");
    let piece = vec![7; 262_144];
    file.write_all_at(&piece, 500_000 * 262_144).expect("is written");
    let mut hashes = vec![[1; 20]; 800_000];
    hashes[500_000] = sha1(&piece);
    // A file that has its length needs no room, so this opens on a disk of any size.
    for mode in [Mode::Seed, Mode::Download] {
        let storage =
            Storage::open(holder.path(), content.clone(), mode, StorageOptions::default()).expect("opens");
        let told = AtomicU32::new(0);
        let on_piece = |_, _| {
            told.fetch_add(1, Ordering::Relaxed);
        };
        let begun = std::time::Instant::now();
        let report = storage.check(&hashes, 2, on_piece, &AtomicBool::new(false));
        println!("800,000 pieces took {:?}", begun.elapsed());
        assert_eq!((report.good, report.bad, report.missing), (1, 0, 799_999));
        assert_eq!((report.bytes_read, told.into_inner()), (262_144, 800_000));
    }
}
