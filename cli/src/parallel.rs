//! Work on several threads while this one watches. Knows nothing of the work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// How often the watcher looks.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// How many threads hash, where nothing else decides: the CPUs this process may use.
pub(crate) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` on each of `threads` threads and calls `watch` on this one until all are done.
///
/// # Panics
/// When the work does.
pub(crate) fn watched<T: Send>(
    threads: usize,
    work: impl Fn() -> T + Sync,
    mut watch: impl FnMut(),
) -> Vec<T> {
    let left = AtomicUsize::new(threads);
    let watcher = thread::current();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let _done = Done { left: &left, watcher: &watcher };
                    work()
                })
            })
            .collect();
        while left.load(Ordering::Acquire) > 0 {
            watch();
            thread::park_timeout(WATCH_EVERY);
        }
        let join = |worker: thread::ScopedJoinHandle<'_, T>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    })
}

/// Says that a thread is done, also when it panics.
struct Done<'a> {
    left: &'a AtomicUsize,
    watcher: &'a Thread,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.left.fetch_sub(1, Ordering::Release);
        self.watcher.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_works_and_is_waited_for() {
        let next = AtomicUsize::new(0);
        let mut results = watched(3, || next.fetch_add(1, Ordering::Relaxed), || {});
        results.sort_unstable();
        assert_eq!(results, [0, 1, 2]);
    }

    #[test]
    fn a_panic_is_passed_on() {
        let panicked = std::panic::catch_unwind(|| watched(2, || panic!("on purpose"), || {}));
        assert!(panicked.is_err());
    }
}
