//! `Device`: a block device that a torrent of one file is written to or read from.
//!
//! Owns the checks that keep a mounted or otherwise used device from being overwritten.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Dev, FileType, Mode, OFlags, SeekFrom, fstat, ioctl_blksszget, major, minor, seek};
use rustix::io::Errno;

use super::error::{Cause, StorageError};
use super::split::Alignment;

pub(super) struct Device {
    path: PathBuf,
    /// Opened exclusively when it is to be written: nobody can mount it meanwhile.
    fd: Arc<OwnedFd>,
    direct: Option<(Arc<OwnedFd>, Alignment)>,
    len: u64,
}

impl Device {
    /// Whether the path leads to a block device.
    pub(super) fn is_at(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| FileType::from_raw_mode(meta.mode()).is_block_device())
    }

    /// Opens a device that has room for `needed` bytes and that nothing else uses.
    pub(super) fn open_to_write(path: &Path, needed: u64) -> Result<Device, StorageError> {
        let meta = fs::metadata(path).map_err(|error| os("examine", path, &error))?;
        if let Some(user) = used_by(meta.rdev()) {
            return Err(StorageError::new("write to", path, Cause::DeviceInUse(user)));
        }
        let fd = match open(path, OFlags::RDWR | OFlags::EXCL) {
            Err(Errno::BUSY) => {
                let user = "mounted or claimed by another program".to_owned();
                return Err(StorageError::new("write to", path, Cause::DeviceInUse(user)));
            }
            result => result.map_err(|errno| StorageError::os("open", path, errno))?,
        };
        let device = Device::new(path, fd, needed)?;
        let direct = device.open_direct();
        Ok(Device { direct, ..device })
    }

    /// Opens a device that holds at least `needed` bytes, to read only.
    pub(super) fn open_to_read(path: &Path, needed: u64) -> Result<Device, StorageError> {
        let fd = open(path, OFlags::RDONLY).map_err(|errno| StorageError::os("open", path, errno))?;
        Device::new(path, fd, needed)
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// A descriptor past the page cache, where the device allows it.
    pub(super) fn direct(&self) -> Option<&(Arc<OwnedFd>, Alignment)> {
        self.direct.as_ref()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the device.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn new(path: &Path, fd: OwnedFd, needed: u64) -> Result<Device, StorageError> {
        let available =
            seek(&fd, SeekFrom::End(0)).map_err(|errno| StorageError::os("measure", path, errno))?;
        if available < needed {
            return Err(StorageError::new("use", path, Cause::DeviceTooSmall { needed, available }));
        }
        Ok(Device { path: path.to_owned(), fd: Arc::new(fd), direct: None, len: available })
    }

    fn open_direct(&self) -> Option<(Arc<OwnedFd>, Alignment)> {
        let fd = open(&self.path, OFlags::WRONLY | OFlags::DIRECT).ok()?;
        let same = fstat(&fd).ok()?.st_rdev == fstat(&self.fd).ok()?.st_rdev;
        let sector = ioctl_blksszget(&fd).ok()?;
        let alignment = Alignment::of_file(&fd).unwrap_or(Alignment::new(sector, sector));
        same.then(|| (Arc::new(fd), alignment))
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn os(operation: &'static str, path: &Path, error: &std::io::Error) -> StorageError {
    StorageError::os(operation, path, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// What uses the device or one of its partitions, as far as this mount namespace shows; the exclusive open
/// finds the rest.
fn used_by(device: Dev) -> Option<String> {
    let name = format!("{}:{}", major(device), minor(device));
    let sys = Path::new("/sys/dev/block").join(&name);
    let mut numbers = vec![name];
    for entry in fs::read_dir(&sys).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            numbers.extend(fs::read_to_string(entry.path().join("dev")).map(|dev| dev.trim().to_owned()));
        }
    }
    mounted_at(&numbers).or_else(|| swapped_to(&numbers)).or_else(|| held_by(&numbers))
}

fn mounted_at(numbers: &[String]) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // "36 35 98:0 /mnt1 /mnt2 rw,noatime ...": the third field is the device, the fifth the mount point.
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?;
        let point = fields.nth(1)?;
        numbers.iter().any(|number| number == device).then(|| format!("mounted at {point}"))
    })
}

fn swapped_to(numbers: &[String]) -> Option<String> {
    let swaps = fs::read_to_string("/proc/swaps").ok()?;
    swaps.lines().skip(1).find_map(|line| {
        let path = line.split_whitespace().next()?;
        let device = fs::metadata(path).ok()?.rdev();
        numbers
            .contains(&format!("{}:{}", major(device), minor(device)))
            .then(|| format!("swap space, {path}"))
    })
}

fn held_by(numbers: &[String]) -> Option<String> {
    numbers.iter().find_map(|number| {
        let holders = fs::read_dir(Path::new("/sys/dev/block").join(number).join("holders")).ok()?;
        let holder = holders.flatten().next()?.file_name();
        Some(format!("part of {}", holder.to_string_lossy()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_filesystem_counts_as_mounted() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("is readable");
        let number = mounts.lines().next().and_then(|line| line.split(' ').nth(2)).expect("has a device");
        let user = mounted_at(&[number.to_owned()]).expect("is mounted");
        assert!(user.starts_with("mounted at /"), "{user}");
        assert_eq!(mounted_at(&["4095:77".to_owned()]), None);
    }

    #[test]
    fn a_directory_or_file_is_no_device() {
        assert!(!Device::is_at(Path::new("/")));
        assert!(!Device::is_at(Path::new("/dev/null")));
    }
}
