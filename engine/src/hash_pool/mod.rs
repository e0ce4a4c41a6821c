//! `HashPool`: the threads that hash pieces, and write them once they are verified.
//!
//! Owns the threads. A worker takes all that waits, up to a batch, and hashes it in one call; it may wait a little for
//! more. The worker that verified a piece also writes what goes through the page cache, which saves a wake. Blocking
//! work on files can be run here too, so that no shard ever waits for a disk.
//!
//! - `job`: what workers are asked and answer
//! - `answer`: how answers reach those who asked
//! - `backlog`: when what waits is worth taking
//! - `queue`: the channels, and who is woken for them
//! - `worker`: what is done with a batch
//! - `stats`: what was done

mod answer;
mod backlog;
mod job;
mod queue;
mod stats;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

pub use answer::{Answers, Reply};
pub use backlog::Batching;
pub use job::{DirectBy, Final, HashDone, HashJob, Outcome, WriteJob};
pub use stats::HashStats;

use answer::Owed;
use queue::Queue;
use worker::{Hashing, work};

use crate::metrics::{HashRecorder, Metrics};

/// Whether buffers are short.
pub type ShortCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// Called by a worker that panicked.
pub type PanicCall = Arc<dyn Fn() + Send + Sync>;

/// How a pool runs.
#[derive(Clone)]
pub struct PoolConfig {
    /// How many workers; at least one.
    pub threads: usize,
    /// How jobs are put together.
    pub batching: Batching,
    /// Says when buffers are too short to let jobs wait, which hold them. Asked under a lock, whenever somebody submits or
    /// looks for work while jobs wait and none are being hashed. `None`: never.
    pub short: Option<ShortCheck>,
    /// Called after each panic of a worker, which is a bug. Jobs get their answers whatever happens, but nobody else tells
    /// those who wait for what [`HashPool::run`] was to do. `None`: it is logged and counted.
    pub panicked: Option<PanicCall>,
}

/// The threads that hash. Dropped, it finishes what was submitted and joins them.
///
/// What waits is not bounded by itself: a job holds a range of a pooled buffer, so the buffer budget bounds how many
/// there can be.
pub struct HashPool {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    panics: Arc<AtomicUsize>,
}

impl HashPool {
    /// Starts `threads` workers, at least one, that wait for nothing.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(threads: usize) -> std::io::Result<HashPool> {
        HashPool::start_with(PoolConfig { threads, batching: Batching::LATENCY, short: None, panicked: None })
    }

    /// Starts workers that run so.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start_with(config: PoolConfig) -> std::io::Result<HashPool> {
        let queue = Arc::new(Queue::new(config.batching, config.short));
        let mut pool = HashPool { queue, workers: Vec::new(), panics: Arc::default() };
        for number in 0..config.threads.max(1) {
            let (queue, panics) = (Arc::clone(&pool.queue), Arc::clone(&pool.panics));
            let panicked = config.panicked.clone();
            let worker = thread::Builder::new().name(format!("ringtide-hash-{number}"));
            // On failure the drop of `pool` ends those that were started.
            pool.workers.push(worker.spawn(move || {
                work(&queue, || {
                    panics.fetch_add(1, Ordering::Relaxed);
                    panicked.iter().for_each(|call| call());
                });
            })?);
        }
        Ok(pool)
    }

    /// Hands a job to the workers. It gets exactly one answer.
    pub fn submit(&self, job: HashJob) {
        let HashJob { key, state, data, last, urgent, reply } = job;
        self.queue.submit(Hashing { state, data, last, urgent, owed: Owed::new(key, reply) });
    }

    /// Runs something that may block, such as reading or allocating a file. Should it panic, nobody is answered but
    /// [`PoolConfig::panicked`] is called.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        self.queue.run(Box::new(work));
    }

    /// Measures from now on.
    pub(crate) fn measure(&self) {
        self.queue.measure();
    }

    /// What was measured since the last time, where it is.
    pub(crate) fn take_metrics(&self) -> Metrics {
        self.queue.recorder().map(HashRecorder::take).unwrap_or_default()
    }

    /// How many workers there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Jobs and other work that no worker has taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// What the workers did.
    #[must_use]
    pub fn stats(&self) -> HashStats {
        self.queue.stats()
    }

    /// How often a worker panicked. A bug if it is not zero: tests should assert on it.
    #[must_use]
    pub fn panics(&self) -> usize {
        self.panics.load(Ordering::Relaxed)
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.queue.close();
        let own = thread::current().id();
        // A reply may hold the last reference to the pool: a worker cannot join itself.
        for worker in self.workers.drain(..).filter(|worker| worker.thread().id() != own) {
            if worker.join().is_err() {
                tracing::error!("a hash worker ended with a panic");
            }
        }
        tracing::info!("hashed {}", self.stats());
    }
}

#[cfg(test)]
mod tests;
