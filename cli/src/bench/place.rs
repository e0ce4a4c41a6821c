//! `Place`: where the image and its copies lie: in memory where there is room, so that no disk is measured.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use tempfile::TempDir;

use crate::exit::{Exit, Failure};
use crate::text::quoted;
use crate::units::{BinaryBytes, Bytes};

/// Smaller than this, start-up is all that would be measured.
const SMALLEST_DEFAULT: u64 = 64 << 20;
/// Left free for everybody else, and for the memory of seed and leech.
const MARGIN: u64 = 1 << 30;

/// A directory that is removed with everything in it when dropped.
pub(super) struct Place {
    dir: TempDir,
    image_bytes: u64,
    why: String,
}

/// What there must be room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Bytes of the image, if it matters.
    pub(super) size: Option<u64>,
    /// Bytes of it where nothing is asked for and there is room.
    pub(super) default_size: u64,
    /// The image and its copies.
    pub(super) files: u64,
    /// The only directory that will do.
    pub(super) dir: Option<&'a Path>,
}

/// Somewhere the files could lie.
struct Candidate {
    path: PathBuf,
    why: String,
    /// Bytes that can be used.
    room: u64,
}

impl Place {
    /// The first place with room for an image of that size and its copies. Without a size it may be a smaller one.
    pub(super) fn choose(wanted: Wanted<'_>) -> Result<Self, Failure> {
        let candidates =
            wanted.dir.map_or_else(|| Ok(candidates()), |dir| named(dir).map(|dir| vec![dir]))?;
        let (candidate, image_bytes) = pick(candidates, wanted)?;
        let dir = tempfile::Builder::new().prefix("ringtide-bench-").tempdir_in(&candidate.path);
        let dir = dir.map_err(|error| {
            Failure::io(format_args!("cannot make a directory in {}", quoted(&candidate.path)), &error)
        })?;
        for path in [dir.path().to_owned(), dir.path().join("seed"), dir.path().join("leech")] {
            let made = fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
            made.map_err(|error| Failure::io(format_args!("cannot make {}", quoted(&path)), &error))?;
        }
        Ok(Self { dir, image_bytes, why: candidate.why })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn image_bytes(&self) -> u64 {
        self.image_bytes
    }

    /// What kind of place it is.
    pub(super) fn why(&self) -> &str {
        &self.why
    }
}

fn pick(candidates: Vec<Candidate>, wanted: Wanted<'_>) -> Result<(Candidate, u64), Failure> {
    let Wanted { size, default_size, files, dir } = wanted;
    let wanted = size.unwrap_or(default_size);
    let most = candidates.iter().map(|candidate| candidate.room).max().unwrap_or(0);
    let fits = |candidate: &Candidate| candidate.room / files >= wanted;
    let smaller = most / files / (1 << 20) * (1 << 20);
    let mut candidates = candidates.into_iter();
    match size {
        _ if most / files >= wanted => candidates.find(fits).map(|candidate| (candidate, wanted)),
        None if smaller >= SMALLEST_DEFAULT => {
            candidates.find(|candidate| candidate.room == most).map(|candidate| (candidate, smaller))
        }
        _ => None,
    }
    .ok_or_else(|| {
        let copies = if files == 2 { "copy".to_owned() } else { format!("{} copies", files - 1) };
        let (place, advice) = match dir {
            Some(dir) => (quoted(dir), "name a directory with more room"),
            None => (
                "memory or in the temporary directory".to_owned(),
                "set TMPDIR to a place with more room",
            ),
        };
        let message = format!(
            "an image of {} and its {copies} do not fit: {} can be used in {place}; choose a smaller --size, or {advice}",
            BinaryBytes(wanted),
            Bytes(most),
        );
        Failure::new(Exit::Disk, message)
    })
}

/// The directory that was asked for.
fn named(dir: &Path) -> Result<Candidate, Failure> {
    let found = statvfs(dir)
        .map_err(|errno| Failure::io(format_args!("cannot use {}", quoted(dir)), &errno.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    // No blocks at all: a tmpfs without a limit.
    let room = if found.f_blocks == 0 { available_memory().unwrap_or(free) } else { free };
    let why = format!("the filesystem of {}", quoted(dir));
    Ok(Candidate { path: dir.to_owned(), why, room: room.saturating_sub(MARGIN) })
}

fn candidates() -> Vec<Candidate> {
    let memory = Path::new("/dev/shm");
    let temporary = std::env::temp_dir();
    let mut candidates = Vec::new();
    if let (Some(free), Some(available)) = (free_bytes(memory), available_memory()) {
        let room = free.min(available.saturating_sub(MARGIN));
        candidates.push(Candidate { path: memory.to_owned(), why: "tmpfs in memory".to_owned(), room });
    }
    if let Some(free) = free_bytes(&temporary) {
        let why = format!("the filesystem of {}", quoted(&temporary));
        candidates.push(Candidate { path: temporary, why, room: free.saturating_sub(MARGIN) });
    }
    candidates
}

fn free_bytes(path: &Path) -> Option<u64> {
    let found = statvfs(path).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// What the kernel thinks can be used without swapping, within what the control group allows.
fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let number = |name: &str| {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let allowed = number("memory.max").map(|max| max.saturating_sub(number("memory.current").unwrap_or(0)));
    Some(available.min(allowed.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(rooms: [u64; 2]) -> Vec<Candidate> {
        let candidate = |(room, path): (u64, &str)| Candidate { path: path.into(), why: path.into(), room };
        rooms.into_iter().zip(["memory", "disk"]).map(candidate).collect()
    }

    fn picked(rooms: [u64; 2], size: Option<u64>) -> Option<(String, u64)> {
        let wanted = Wanted { size, default_size: 2 << 30, files: 2, dir: None };
        pick(places(rooms), wanted).ok().map(|(candidate, bytes)| (candidate.why, bytes))
    }

    #[test]
    fn memory_comes_first_and_must_hold_both() {
        assert_eq!(picked([4 << 30, 9 << 30], None), Some(("memory".into(), 2 << 30)));
        assert_eq!(picked([(4 << 30) - 1, 9 << 30], None), Some(("disk".into(), 2 << 30)));
        assert_eq!(picked([100, 300], Some(150)), Some(("disk".into(), 150)));
    }

    #[test]
    fn every_copy_needs_room() {
        let wanted = Wanted { size: Some(150), default_size: 1, files: 5, dir: Some(Path::new("/there")) };
        assert_eq!(pick(places([100, 750]), wanted).ok().map(|(_, bytes)| bytes), Some(150));
        let refused = pick(places([100, 749]), wanted).err().expect("a byte too many");
        assert!(refused.message.contains("its 4 copies do not fit"), "{}", refused.message);
        assert!(refused.message.contains("in \"/there\"; choose a smaller --size"), "{}", refused.message);
    }

    #[test]
    fn only_the_default_shrinks() {
        assert_eq!(picked([2 << 30, 1 << 30], None), Some(("memory".into(), 1 << 30)));
        assert_eq!(picked([2 << 30, 1 << 30], Some(2 << 30)), None);
        assert_eq!(picked([100 << 20, 0], None), None, "too small to measure anything");
    }
}
