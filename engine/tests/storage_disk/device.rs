//! Downloads onto a block device.

use ringtide_engine::storage::{Cause, ErrorKind, Mode, WritePolicy};

use crate::support::{Loop, Mounted, Sample};

#[test]
#[ignore = "needs root: a loop device"]
fn an_image_is_written_to_a_device_and_read_from_it() {
    let (sample, device) = (Sample::single(1_000_001, 65_536), Loop::new(2 << 20));
    let storage = sample.open(device.path(), Mode::Download).expect("opens");
    assert_eq!(storage.write_policy(), WritePolicy::Direct);
    sample.write_all(&storage);
    storage.finish().expect("is flushed");
    assert!(storage.write_counts().direct_writes >= 15, "{:?}", storage.write_counts());
    drop(storage);
    let found = std::fs::read(device.path()).expect("is read");
    assert!(found[..1_000_001] == sample.bytes);
    let storage = sample.open(device.path(), Mode::Seed).expect("opens");
    assert_eq!(sample.check(&storage, 2).0.good, 16);
}

#[test]
#[ignore = "needs root: a loop device"]
fn a_device_that_is_too_small_is_refused() {
    let (sample, device) = (Sample::single(2 << 20, 65_536), Loop::new(1 << 20));
    let error = sample.open(device.path(), Mode::Download).err().expect("is refused");
    assert_eq!(error.cause(), &Cause::DeviceTooSmall { needed: 2 << 20, available: 1 << 20 });
}

#[test]
#[ignore = "needs root: makes and mounts an ext4"]
fn a_mounted_device_is_refused_and_unharmed() {
    let (sample, disk) = (Sample::single(1 << 20, 65_536), Mounted::ext4(32 << 20));
    let before = std::fs::read(disk.device()).expect("is read");
    let error = sample.open(disk.device(), Mode::Download).err().expect("is refused");
    let by = format!("mounted at {}", disk.path().display());
    assert_eq!((error.cause(), error.kind()), (&Cause::DeviceInUse(by), ErrorKind::Path));
    assert!(std::fs::read(disk.device()).expect("is read") == before);
}

#[test]
#[ignore = "needs root: a loop device"]
fn a_device_that_another_download_writes_to_is_refused() {
    let (sample, device) = (Sample::single(1 << 20, 65_536), Loop::new(2 << 20));
    let _first = sample.open(device.path(), Mode::Download).expect("opens");
    let error = sample.open(device.path(), Mode::Download).err().expect("is refused");
    assert!(matches!(error.cause(), Cause::DeviceInUse(_)), "{error}");
}

#[test]
#[ignore = "needs root: a loop device"]
fn several_files_do_not_go_onto_a_device() {
    let device = Loop::new(2 << 20);
    let error = Sample::several().open(device.path(), Mode::Download).err().expect("is refused");
    assert_eq!(error.cause(), &Cause::SeveralFiles);
}
