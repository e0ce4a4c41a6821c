//! `Threads`: the CPU time of each thread of this process, as the kernel counts it (`/proc/self/task/*/schedstat`).
//!
//! Threads of the engine have names; what the kernel does for them in threads of its own (`iou-wrk-`) is listed too.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a thread took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadTime {
    /// At most 15 bytes: the kernel cuts longer ones.
    pub(crate) name: String,
    /// Seconds on a CPU.
    pub(crate) cpu_s: f64,
    /// Seconds that it was ready to run and no CPU was free.
    pub(crate) waited_s: f64,
}

impl ThreadTime {
    /// Whether it carries peers.
    pub(crate) fn is_shard(&self) -> bool {
        self.number_after("ringtide-").is_some()
    }

    /// Whether it hashes.
    pub(crate) fn is_hasher(&self) -> bool {
        self.number_after("ringtide-hash-").is_some()
    }

    fn number_after(&self, prefix: &str) -> Option<u32> {
        self.name.strip_prefix(prefix)?.parse().ok()
    }
}

/// All threads at one moment, by their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(BTreeMap<u32, ThreadTime>);

impl Threads {
    /// Those of this process now. Empty where the kernel does not tell.
    pub(crate) fn now() -> Self {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let threads = tasks.filter_map(|task| {
            let id = task.file_name().to_str()?.parse().ok()?;
            // One that ended meanwhile has neither.
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let (cpu_s, waited_s) = parse(&fs::read_to_string(task.path().join("schedstat")).ok()?)?;
            Some((id, ThreadTime { name: name.trim_end().to_owned(), cpu_s, waited_s }))
        });
        Self(threads.collect())
    }

    /// What each thread took since then, by name. One that began meanwhile took all that it did.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<ThreadTime> {
        let took = self.0.iter().map(|(id, now)| {
            let before = earlier.0.get(id).map_or((0.0, 0.0), |before| (before.cpu_s, before.waited_s));
            ThreadTime {
                name: now.name.clone(),
                cpu_s: (now.cpu_s - before.0).max(0.0),
                waited_s: (now.waited_s - before.1).max(0.0),
            }
        });
        let mut took: Vec<_> = took.collect();
        took.sort_by(|a, b| a.name.cmp(&b.name));
        took
    }
}

/// CPU time of the whole process until now, user and system, threads that have ended included.
pub(crate) fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Seconds on a CPU and seconds waiting for one (Documentation/scheduler/sched-stats.rst of Linux: nanoseconds).
fn parse(schedstat: &str) -> Option<(f64, f64)> {
    let mut fields = schedstat.split_whitespace().map(|field| field.parse::<u64>().ok());
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    Some((seconds(fields.next()??), seconds(fields.next()??)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_is_in_nanoseconds() {
        assert_eq!(parse("1500000000 250000000 7\n"), Some((1.5, 0.25)));
        assert_eq!((parse(""), parse("1"), parse("x y z")), (None, None, None));
    }

    #[test]
    fn a_thread_that_works_is_seen() {
        let before = Threads::now();
        let (done, wait) = crossbeam::channel::bounded::<()>(0);
        let worker = std::thread::Builder::new().name("ringtide-hash-3".to_owned());
        let worker = worker.spawn(move || {
            let begun = process_cpu();
            while process_cpu() < begun + Duration::from_millis(5) {}
            let _ = wait.recv();
        });
        let found = loop {
            let took = Threads::now().since(&before);
            let found = took.into_iter().find(|thread| thread.is_hasher() && thread.cpu_s > 0.0);
            if let Some(found) = found {
                break found;
            }
        };
        assert!(found.name == "ringtide-hash-3" && !found.is_shard());
        drop(done);
        worker.expect("starts").join().expect("ends");
    }

    #[test]
    fn kinds_of_threads_are_told_apart() {
        let thread = |name: &str| ThreadTime { name: name.to_owned(), cpu_s: 0.0, waited_s: 0.0 };
        assert!(thread("ringtide-12").is_shard() && !thread("ringtide-12").is_hasher());
        assert!(!thread("ringtide-contro").is_shard() && !thread("iou-wrk-12").is_shard());
    }
}
