//! What a disk takes from writes alone, without network, hashing or protocol: large ones past the page cache, several at a
//! time, from plain threads. For the bound; a disk that writes in bursts into a cache of its own may do better later.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringtide_engine::storage::{AlignedBuf, BufferPool};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use crate::bench::{image, stopped};
use crate::exit::Failure;
use crate::parallel::watched;
use crate::stop::Stop;
use crate::text::quoted;

/// Writes under way at a time.
pub(super) const DEPTH: usize = 8;
/// Bytes of each.
const WRITE: usize = 1 << 20;
/// What is written at most, and for how long: enough for a disk to get going.
const MOST_BYTES: u64 = 1 << 30;
const MOST_TIME: Duration = Duration::from_secs(2);

/// Decimal gigabytes per second, the flush at the end included. None where the filesystem writes only through the page cache.
pub(super) fn write_speed(dir: &Path, bytes: u64, stop: &Stop) -> Result<Option<f64>, Failure> {
    let path = dir.join("raw");
    let Some(file) = open_direct(&path) else { return Ok(None) };
    let total = bytes.min(MOST_BYTES).next_multiple_of(WRITE as u64);
    // As the engine does; where it is refused, the file grows with the writes.
    let _ = fallocate(&file, FallocateFlags::empty(), 0, total);
    let speed = measure(&file, total, stop);
    let removed = std::fs::remove_file(&path);
    let cannot = |error: &io::Error| Failure::io(format_args!("cannot write {}", quoted(&path)), error);
    let speed = speed.map_err(|error| cannot(&error))?;
    removed.map_err(|error| cannot(&error))?;
    stop.requested().map_or(Ok(speed), |exit| Err(stopped(exit)))
}

fn open_direct(path: &Path) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path).ok()
}

fn measure(file: &File, total: u64, stop: &Stop) -> io::Result<Option<f64>> {
    let mut state = 0;
    let pool = BufferPool::new(WRITE);
    let Some(mut source) = pool.try_take_aligned(WRITE) else { return Ok(None) };
    source.set_len(WRITE);
    image::fill(source.as_mut_slice(), &mut state);
    let (next, done, began) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    let work = || write_parts(file, &source, &next, &done, total, began, stop);
    let results = watched(DEPTH, work, || {});
    results.into_iter().collect::<io::Result<()>>()?;
    file.sync_all()?;
    Ok(Some(done.into_inner() as f64 / 1e9 / began.elapsed().as_secs_f64()))
}

fn write_parts(
    file: &File,
    source: &AlignedBuf,
    next: &AtomicU64,
    done: &AtomicU64,
    total: u64,
    began: Instant,
    stop: &Stop,
) -> io::Result<()> {
    loop {
        let offset = next.fetch_add(WRITE as u64, Ordering::Relaxed);
        if offset >= total || began.elapsed() > MOST_TIME || stop.requested().is_some() {
            return Ok(());
        }
        file.write_all_at(source.as_slice(), offset)?;
        done.fetch_add(WRITE as u64, Ordering::Relaxed);
    }
}
