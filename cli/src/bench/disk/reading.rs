//! Reading the content back as `verify` does, from the disk and not from memory.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringtide_engine::storage::{CheckOptions, Content, Mode, Storage, StorageOptions};
use ringtide_proto::metainfo::Metainfo;
use rustix::fs::{Advice, fadvise};

use super::ground::Ground;
use crate::bench::threads::process_cpu;
use crate::exit::{Exit, Failure};
use crate::parallel::{cpus, watched};
use crate::progress::Progress;
use crate::stop::Stop;
use crate::text::quoted;
use crate::units::count;

/// What reading came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// That were read and hashed.
    pub(super) bytes: u64,
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
    /// Whether the kernel was asked to drop it from the page cache before; it does not say whether it did.
    pub(super) cold: bool,
}

impl Reading {
    /// Both, one after the other.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            bytes: self.bytes + later.bytes,
            wall: self.wall + later.wall,
            cpu: self.cpu + later.cpu,
            cold: self.cold && later.cold,
        }
    }
}

/// Waits until a file, if it is there, is on the disk. How long that took.
pub(super) fn flush(path: &Path) -> Result<Duration, Failure> {
    let began = Instant::now();
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::io(format_args!("cannot flush {}", quoted(path)), &error))
        }
        _ => Ok(began.elapsed()),
    }
}

/// Reads and hashes all of it, which must be right. What there is until a signal comes.
pub(super) fn read(ground: &Ground, torrent: &Metainfo, stop: &Stop) -> Result<Reading, Failure> {
    let content = Content::of(torrent)
        .ok_or_else(|| Failure::new(Exit::Other, "the content has no layout; this is a bug"))?;
    let dropped = drop_from_cache(&ground.file());
    dropped.map_err(|error| {
        Failure::io(format_args!("cannot drop {} from the page cache", quoted(ground.file())), &error)
    })?;
    let storage = Storage::open(&ground.content(), content, Mode::Seed, StorageOptions::default())?;
    let (done, mut progress) = (AtomicU64::new(0), Progress::new(torrent.total_length()));
    let (began, cpu_before) = (Instant::now(), process_cpu());
    let options = CheckOptions { done: Some(&done), ..CheckOptions::threads(cpus()) };
    let work = || storage.check_with(torrent.piece_hashes(), options, |_, _| {}, stop.flag());
    // The check has threads of its own; one more here drives it, so that this one can watch.
    let reports = watched(1, work, || progress.update(done.load(Ordering::Relaxed), String::new));
    let (wall, cpu) = (began.elapsed(), process_cpu().saturating_sub(cpu_before));
    let report = reports.into_iter().next().unwrap_or_default();
    if let Some(error) = report.error {
        return Err(error.into());
    }
    if !report.cancelled && report.bad + report.missing > 0 {
        let wrong = count((report.bad + report.missing).into(), "piece");
        let message =
            format!("{wrong} came back other than written: the disk, the memory or this program is broken");
        return Err(Failure::new(Exit::Disk, message));
    }
    Ok(Reading { bytes: report.bytes_read, wall, cpu, cold: !ground.is_memory() })
}

/// Has the kernel forget its copy of a file; what was never written yet it keeps.
fn drop_from_cache(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}
