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

/// Whether buffers are short.
pub type ShortCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// How a pool runs.
#[derive(Clone)]
pub struct PoolConfig {
    /// How many workers; at least one.
    pub threads: usize,
    /// How jobs are put together.
    pub batching: Batching,
    /// Says when buffers are too short to let jobs wait, which hold them. Asked whenever a job comes that might wait, under
    /// a lock. `None`: never.
    pub short: Option<ShortCheck>,
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
        HashPool::start_with(PoolConfig { threads, batching: Batching::LATENCY, short: None })
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
            let worker = thread::Builder::new().name(format!("ringtide-hash-{number}"));
            // On failure the drop of `pool` ends those that were started.
            pool.workers.push(worker.spawn(move || work(&queue, &panics))?);
        }
        Ok(pool)
    }

    /// Hands a job to the workers. It gets exactly one answer.
    pub fn submit(&self, job: HashJob) {
        let HashJob { key, state, data, last, urgent, reply } = job;
        self.queue.submit(Hashing { state, data, last, owed: Owed::new(key, reply) }, urgent);
    }

    /// Runs something that may block, such as reading or allocating a file.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        self.queue.run(Box::new(work));
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
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Range;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
    use ringtide_hasher::{Sha1State, sha1};
    use ringtide_proto::layout::{PieceIndex, PieceLayout};

    use super::*;
    use crate::driver::Waker;
    use crate::mailbox::Sleeper;
    use crate::storage::{BufferPool, FrozenRange};

    const BLOCK: usize = 16 << 10;

    /// Longer than anything takes; past it something hangs.
    const HANG: Duration = Duration::from_secs(60);

    fn reply() -> (Reply, Receiver<HashDone>) {
        let (sender, receiver) = unbounded();
        (Arc::new(move |done: HashDone| sender.send(done).expect("the test waits")), receiver)
    }

    fn frozen(pool: &BufferPool, bytes: &[u8]) -> FrozenRange {
        let mut buffer = pool.try_take(bytes.len()).expect("has room");
        buffer.write(0, bytes);
        buffer.freeze()
    }

    fn piece(number: u32) -> PieceIndex {
        PieceLayout::new(1000, 1).expect("a layout").piece(number).expect("a piece")
    }

    fn job(key: u64, data: FrozenRange, last: Option<Final>, reply: &Reply) -> HashJob {
        HashJob { key, state: Sha1State::new(), data, last, urgent: false, reply: Arc::clone(reply) }
    }

    fn last(whole: &FrozenRange, expected: [u8; 20], want_digests: bool) -> Option<Final> {
        Some(Final { piece: piece(7), whole: whole.clone(), expected, want_digests, write: None })
    }

    #[test]
    fn a_piece_is_hashed_as_it_arrives() {
        let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start(2).expect("starts"));
        let bytes: Vec<u8> = (0..3 * BLOCK).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
        let (reply, answers) = reply();
        let whole = frozen(&buffers, &bytes);
        pool.submit(job(1, whole.slice(0..BLOCK), None, &reply));
        let HashDone { key: 1, outcome: Outcome::Partial(state) } = answers.recv().expect("an answer") else {
            panic!("the first part is no verdict")
        };
        let rest = whole.slice(BLOCK..whole.len());
        pool.submit(HashJob { state, ..job(2, rest, last(&whole, sha1(&bytes), true), &reply) });
        drop(whole);
        match answers.recv().expect("an answer").outcome {
            Outcome::Good { piece: good, digests: Some(digests), written: None } => {
                assert_eq!((good.piece(), good.data().as_slice()), (piece(7), &*bytes));
                assert_eq!(*digests, *bytes.chunks(BLOCK).map(sha1).collect::<Vec<_>>());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(buffers.used_bytes(), 0, "the answer was the last to hold the buffer");
    }

    #[test]
    fn a_bad_piece_comes_back_with_its_blocks_digests() {
        let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start(1).expect("starts"));
        let (reply, answers) = reply();
        let bytes = vec![3; BLOCK + 1];
        let whole = frozen(&buffers, &bytes);
        pool.submit(job(9, whole.clone(), last(&whole, sha1(b"something else"), false), &reply));
        match answers.recv().expect("an answer") {
            HashDone { key: 9, outcome: Outcome::Bad { data, digests } } => {
                assert_eq!(data.as_slice(), bytes);
                assert_eq!(*digests, [sha1(&bytes[..BLOCK]), sha1(&bytes[BLOCK..])]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn many_jobs_on_several_workers_are_all_answered() {
        let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start(3).expect("starts"));
        let (reply, answers) = reply();
        let mut expected = BTreeMap::new();
        for key in 0..200_u64 {
            let bytes = key.to_le_bytes();
            let whole = frozen(&buffers, &bytes);
            let right = key % 3 != 0;
            let digest = if right { sha1(&bytes) } else { [0; 20] };
            pool.submit(job(key, whole.clone(), last(&whole, digest, false), &reply));
            expected.insert(key, right);
        }
        drop(pool);
        let got: BTreeMap<u64, bool> =
            answers.try_iter().map(|done| (done.key, matches!(done.outcome, Outcome::Good { .. }))).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn work_runs_on_a_named_thread() {
        let pool = HashPool::start(1).expect("starts");
        let (sender, receiver) = bounded(1);
        pool.run(move || sender.send(thread::current().name().map(str::to_owned)).expect("the test waits"));
        assert_eq!(receiver.recv().expect("ran").as_deref(), Some("ringtide-hash-0"));
    }

    #[test]
    fn a_panic_is_counted_and_its_jobs_are_answered() {
        let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start(1).expect("starts"));
        let (reply, answers) = reply();
        let (block, blocked) = bounded::<()>(0);
        pool.run(move || {
            let _ = blocked.recv();
        });
        // They wait together while the worker is blocked, so the panic may take the job along; whichever way,
        // there is an answer, and the next job is judged as ever.
        pool.run(|| panic!("a bug, for the test"));
        pool.submit(job(1, frozen(&buffers, b"x"), None, &reply));
        drop(block);
        assert_eq!(answers.recv().expect("an answer").key, 1);
        pool.submit(job(2, frozen(&buffers, b"x"), None, &reply));
        assert!(matches!(answers.recv().expect("an answer").outcome, Outcome::Partial(_)));
        assert_eq!(pool.panics(), 1);
    }

    #[test]
    fn a_reply_that_panics_does_not_end_the_worker() {
        let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start(1).expect("starts"));
        let bad: Reply = Arc::new(|_: HashDone| panic!("a bug, for the test"));
        pool.submit(job(1, frozen(&buffers, b"x"), None, &bad));
        let (reply, answers) = reply();
        pool.submit(job(2, frozen(&buffers, b"x"), None, &reply));
        assert_eq!(answers.recv().expect("an answer").key, 2);
    }

    /// A pool of one worker that is blocked until the sender is dropped, so that work piles up behind it.
    fn blocked(config: PoolConfig) -> (HashPool, Sender<()>) {
        let pool = HashPool::start_with(PoolConfig { threads: 1, ..config }).expect("starts");
        let (block, blocked) = bounded::<()>(0);
        let (taken, is_taken) = bounded(1);
        pool.run(move || {
            taken.send(()).expect("the test waits");
            let _ = blocked.recv();
        });
        is_taken.recv().expect("the worker takes it");
        (pool, block)
    }

    /// Waits for an hour unless something ends it, which a test would notice.
    const PATIENT: Batching = Batching { wait: Duration::from_secs(3600), ..Batching::THROUGHPUT };

    fn with(batching: Batching) -> PoolConfig {
        PoolConfig { threads: 1, batching, short: None }
    }

    /// Submits so many jobs of a block each and returns once they wait or are taken.
    fn submit(pool: &HashPool, buffers: &BufferPool, reply: &Reply, keys: Range<u64>) {
        let data = frozen(buffers, &[5; BLOCK]);
        keys.for_each(|key| pool.submit(job(key, data.clone(), None, reply)));
    }

    fn answered(answers: &Receiver<HashDone>, count: usize) -> Vec<u64> {
        let mut keys: Vec<_> =
            (0..count).map(|_| answers.recv_timeout(HANG).expect("an answer").key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_waits_is_hashed_in_one_batch() {
        let buffers = BufferPool::new(1 << 20);
        let (pool, block) = blocked(with(Batching::LATENCY));
        let (reply, answers) = reply();
        submit(&pool, &buffers, &reply, 0..20);
        assert_eq!((pool.waiting(), pool.stats()), (20, HashStats::default()));
        drop(block);
        assert_eq!(answered(&answers, 20), (0..20).collect::<Vec<_>>());
        let expected = HashStats {
            jobs: 20,
            bytes: 20 * BLOCK as u64,
            batches: 1,
            largest: 20,
            by_size: [0, 0, 0, 0, 1],
        };
        assert_eq!(pool.stats(), expected);
    }

    #[test]
    fn a_batch_has_its_bound() {
        let buffers = BufferPool::new(1 << 20);
        let (pool, block) = blocked(with(Batching::LATENCY));
        let (reply, answers) = reply();
        let most = Batching::LATENCY.most_jobs;
        submit(&pool, &buffers, &reply, 0..most as u64 + 3);
        drop(block);
        answered(&answers, most + 3);
        assert_eq!((pool.stats().batches, pool.stats().largest), (2, most));
    }

    #[test]
    fn a_worker_waits_for_a_batch_until_it_has_enough() {
        for (batching, count) in [
            (Batching { enough_jobs: 5, ..PATIENT }, 5),
            (Batching { enough_bytes: 3 * BLOCK, ..PATIENT }, 3),
        ] {
            let (buffers, pool) =
                (BufferPool::new(1 << 20), HashPool::start_with(with(batching)).expect("starts"));
            let (reply, answers) = reply();
            // Alone, so it is hashed at once; those that follow wait for each other.
            submit(&pool, &buffers, &reply, 0..1);
            answered(&answers, 1);
            submit(&pool, &buffers, &reply, 1..count + 1);
            assert_eq!(answered(&answers, count as usize), (1..=count).collect::<Vec<_>>());
            assert_eq!((pool.stats().batches, pool.stats().largest), (2, count as usize));
        }
    }

    #[test]
    fn several_workers_gather_one_batch() {
        let config = PoolConfig { threads: 3, ..with(Batching { enough_jobs: 8, ..PATIENT }) };
        let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start_with(config).expect("starts"));
        let (reply, answers) = reply();
        submit(&pool, &buffers, &reply, 0..1);
        answered(&answers, 1);
        for round in 0..4_u64 {
            submit(&pool, &buffers, &reply, 8 * round..8 * (round + 1));
            answered(&answers, 8);
        }
        assert_eq!((pool.stats().batches, pool.stats().by_size), (5, [1, 0, 0, 4, 0]));
    }

    #[test]
    fn an_urgent_job_ends_the_wait() {
        let (buffers, pool) =
            (BufferPool::new(1 << 20), HashPool::start_with(with(PATIENT)).expect("starts"));
        let (reply, answers) = reply();
        submit(&pool, &buffers, &reply, 0..1);
        answered(&answers, 1);
        submit(&pool, &buffers, &reply, 1..3);
        pool.submit(HashJob { urgent: true, ..job(3, frozen(&buffers, b"x"), None, &reply) });
        assert_eq!(answered(&answers, 3), [1, 2, 3]);
        assert_eq!(pool.stats().batches, 2);
    }

    #[test]
    fn nothing_waits_while_buffers_are_short() {
        let short = Arc::new(AtomicBool::new(true));
        let is_short = Arc::clone(&short);
        let check: ShortCheck = Arc::new(move || is_short.load(Ordering::Relaxed));
        let config = PoolConfig { short: Some(check), ..with(PATIENT) };
        let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start_with(config).expect("starts"));
        let (reply, answers) = reply();
        for key in 0..4 {
            submit(&pool, &buffers, &reply, key..key + 1);
            assert_eq!(answered(&answers, 1), [key]);
        }
        // Those that come now wait, until one comes when buffers are short again.
        short.store(false, Ordering::Relaxed);
        submit(&pool, &buffers, &reply, 4..6);
        assert_eq!(pool.waiting(), 2);
        short.store(true, Ordering::Relaxed);
        submit(&pool, &buffers, &reply, 6..7);
        assert_eq!(answered(&answers, 3), [4, 5, 6]);
        assert_eq!(pool.stats().largest, 3);
    }

    #[test]
    fn other_work_does_not_wait_for_a_batch() {
        let (buffers, pool) =
            (BufferPool::new(1 << 20), HashPool::start_with(with(PATIENT)).expect("starts"));
        let (reply, answers) = reply();
        submit(&pool, &buffers, &reply, 0..1);
        answered(&answers, 1);
        submit(&pool, &buffers, &reply, 1..3);
        let (sender, receiver) = bounded(1);
        pool.run(move || sender.send(()).expect("the test waits"));
        receiver.recv_timeout(HANG).expect("ran");
        assert_eq!(pool.waiting(), 2);
        drop(pool);
        assert_eq!(answered(&answers, 2), [1, 2], "the end ends the wait");
    }

    /// Answers for a receiver that sleeps and is never awake: every time it is woken counts.
    struct Sleepy {
        sender: Sender<HashDone>,
        sleeper: Arc<Sleeper>,
    }

    impl Sleepy {
        fn new() -> (Arc<Self>, Receiver<HashDone>, Receiver<()>) {
            let ((sender, answers), (wake, wakes)) = (unbounded(), unbounded());
            let sleeper = Sleeper::new(Waker::from_fn(Arc::new(move || {
                let _ = wake.send(());
            })));
            assert!(sleeper.prepare_sleep(|| false));
            (Arc::new(Self { sender, sleeper }), answers, wakes)
        }
    }

    impl Answers for Sleepy {
        fn post(&self, done: HashDone) {
            self.sender.send(done).expect("the test waits");
            // Asleep again at once.
            assert!(self.sleeper.prepare_sleep(|| false));
        }

        fn sleeper(&self) -> Option<&Arc<Sleeper>> {
            Some(&self.sleeper)
        }
    }

    #[test]
    fn each_receiver_is_woken_once_for_a_batch() {
        let buffers = BufferPool::new(1 << 20);
        let (pool, block) = blocked(with(Batching::LATENCY));
        let receivers: Vec<_> = (0..2).map(|_| Sleepy::new()).collect();
        for key in 0..16 {
            for (receiver, _, _) in &receivers {
                let reply: Reply = Arc::clone(receiver) as Reply;
                submit(&pool, &buffers, &reply, key..key + 1);
            }
        }
        drop(block);
        for (_, answers, _) in &receivers {
            answered(answers, 16);
        }
        drop(pool);
        let wakes: Vec<_> = receivers.iter().map(|(_, _, wakes)| wakes.len()).collect();
        assert_eq!(wakes, [1, 1]);
    }

    #[test]
    fn a_panic_in_a_batch_loses_no_answer_and_no_wake() {
        let buffers = BufferPool::new(1 << 20);
        let (pool, block) = blocked(with(Batching::LATENCY));
        let (receiver, answers, wakes) = Sleepy::new();
        let good: Reply = receiver;
        let bad: Reply = Arc::new(|done: HashDone| {
            assert!(matches!(done.outcome, Outcome::Lost), "a bug, for the test");
        });
        submit(&pool, &buffers, &good, 0..3);
        submit(&pool, &buffers, &bad, 3..4);
        submit(&pool, &buffers, &good, 4..8);
        drop(block);
        assert_eq!(answered(&answers, 7), [0, 1, 2, 4, 5, 6, 7]);
        wakes.recv_timeout(HANG).expect("is woken");
        submit(&pool, &buffers, &good, 8..9);
        assert_eq!(answered(&answers, 1), [8]);
        assert_eq!(pool.panics(), 1);
    }

    #[test]
    fn a_job_that_is_dropped_is_answered_as_lost() {
        let (reply, answers) = reply();
        drop(Owed::new(5, reply));
        assert!(matches!(answers.recv().expect("an answer"), HashDone { key: 5, outcome: Outcome::Lost }));
    }
}
