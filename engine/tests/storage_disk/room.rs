//! Disks that are full.

use ringtide_engine::storage::{Cause, ErrorKind, Mode};

use crate::support::{Mounted, Sample};

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn a_download_that_cannot_fit_is_refused_before_it_begins() {
    let (sample, disk) = (Sample::single(8 << 20, 65_536), Mounted::tmpfs(1 << 20));
    let error = sample.open(disk.path(), Mode::Download).err().expect("is refused");
    assert_eq!(error.cause(), &Cause::NoSpace { needed: 8 << 20, free: 1 << 20 });
    assert_eq!(error.kind(), ErrorKind::Disk);
    assert_eq!(std::fs::read_dir(disk.path()).expect("lists").count(), 0, "nothing was made");
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn a_disk_that_fills_up_meanwhile_is_an_error_that_names_the_file() {
    let (sample, disk) = (Sample::single(3 << 20, 65_536), Mounted::tmpfs(4 << 20));
    let storage = sample.open(disk.path(), Mode::Download).expect("opens");
    storage.write_blocking(&sample.verified(sample.piece(0))).expect("is written");
    std::fs::write(disk.path().join("other"), vec![0; 2 << 20]).expect("is written");
    let full = sample
        .content
        .layout()
        .pieces()
        .find_map(|piece| storage.write_blocking(&sample.verified(piece)).err());
    let full = full.expect("the disk is full");
    assert_eq!((full.kind(), full.path()), (ErrorKind::Disk, &*disk.path().join("image")));
    assert!(full.to_string().contains("make room"), "{full}");
    std::fs::remove_file(disk.path().join("other")).expect("is removed");
    sample.write_all(&storage);
    sample.assert_on_disk(disk.path());
}

#[test]
#[ignore = "needs root: makes and mounts an ext4"]
fn an_ext4_that_fills_up_before_the_allocation_says_how_much_is_needed() {
    let (sample, disk) = (Sample::single(32 << 20, 65_536), Mounted::ext4(64 << 20));
    let storage = sample.open(disk.path(), Mode::Download).expect("opens");
    std::fs::write(disk.path().join("other"), vec![0; 40 << 20]).expect("is written");
    let error = storage.write_blocking(&sample.verified(sample.piece(3))).expect_err("the disk is full");
    assert!(matches!(error.cause(), Cause::NoSpace { needed: 33_554_432, .. }), "{error}");
}

#[test]
#[ignore = "needs root: makes and mounts an ext4"]
fn what_is_allocated_already_is_not_needed_again() {
    let (sample, disk) = (Sample::single(32 << 20, 65_536), Mounted::ext4(64 << 20));
    let storage = sample.open(disk.path(), Mode::Download).expect("opens");
    storage.write_blocking(&sample.verified(sample.piece(3))).expect("is written");
    drop(storage);
    let storage = sample.open(disk.path(), Mode::Download).expect("the rest is allocated");
    sample.write_all(&storage);
    sample.assert_on_disk(disk.path());
}
