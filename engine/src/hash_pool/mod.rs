//! `HashPool`: the threads that hash pieces, and write them once they are verified.
//!
//! Owns the threads and their channel. `job` is what they are asked and answer, `worker` is what they do. The
//! worker that verified a piece also writes what goes through the page cache, which saves a wake. Blocking
//! work on files can be run here too, so that no shard ever waits for a disk.

mod job;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Sender, unbounded};

pub use job::{DirectBy, Final, HashDone, HashJob, Outcome, Reply, WriteJob};

use job::Owed;
use worker::{Hashing, Work, work};

/// The threads that hash. Dropped, it finishes what was submitted and joins them.
///
/// The channel is not bounded by itself: a job holds a range of a pooled buffer, so the buffer budget bounds
/// how many there can be.
pub struct HashPool {
    /// `None` only while dropping.
    sender: Option<Sender<Work>>,
    workers: Vec<JoinHandle<()>>,
    panics: Arc<AtomicUsize>,
}

impl HashPool {
    /// Starts `threads` workers, at least one.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(threads: usize) -> std::io::Result<HashPool> {
        let threads = threads.max(1);
        let (sender, receiver) = unbounded();
        let panics = Arc::new(AtomicUsize::new(0));
        let mut pool = HashPool { sender: Some(sender), workers: Vec::new(), panics };
        for number in 0..threads {
            let (receiver, panics) = (receiver.clone(), Arc::clone(&pool.panics));
            let name = format!("ringtide-hash-{number}");
            let worker = thread::Builder::new().name(name);
            // On failure the drop of `pool` ends those that were started.
            pool.workers.push(worker.spawn(move || work(&receiver, threads, &panics))?);
        }
        Ok(pool)
    }

    /// Hands a job to whichever worker is free. It gets exactly one answer.
    pub fn submit(&self, job: HashJob) {
        let HashJob { key, state, data, last, reply } = job;
        self.send(Work::Hash(Hashing { state, data, last, owed: Owed::new(key, reply) }));
    }

    /// Runs something that may block, such as reading or allocating a file.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        self.send(Work::Run(Box::new(work)));
    }

    /// How many workers there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Jobs that no worker has taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sender.as_ref().map_or(0, Sender::len)
    }

    /// How often a worker panicked. A bug if it is not zero: tests should assert on it.
    #[must_use]
    pub fn panics(&self) -> usize {
        self.panics.load(Ordering::Relaxed)
    }

    fn send(&self, work: Work) {
        if let Some(sender) = &self.sender {
            // Cannot fail while workers live, and they live until `drop`. If it did, the job would be dropped
            // and so answered with `Lost`.
            let _ = sender.send(work);
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.sender = None;
        let own = thread::current().id();
        // A reply may hold the last reference to the pool: a worker cannot join itself.
        for worker in self.workers.drain(..).filter(|worker| worker.thread().id() != own) {
            if worker.join().is_err() {
                tracing::error!("a hash worker ended with a panic");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crossbeam::channel::{Receiver, bounded};
    use ringtide_hasher::{Sha1State, sha1};
    use ringtide_proto::layout::{PieceIndex, PieceLayout};

    use super::*;
    use crate::storage::{BufferPool, FrozenRange};

    const BLOCK: usize = 16 << 10;

    fn reply() -> (Reply, Receiver<HashDone>) {
        let (sender, receiver) = unbounded();
        (Arc::new(move |done| sender.send(done).expect("the test waits")), receiver)
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
        HashJob { key, state: Sha1State::new(), data, last, reply: Arc::clone(reply) }
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
        let bad: Reply = Arc::new(|_| panic!("a bug, for the test"));
        pool.submit(job(1, frozen(&buffers, b"x"), None, &bad));
        let (reply, answers) = reply();
        pool.submit(job(2, frozen(&buffers, b"x"), None, &reply));
        assert_eq!(answers.recv().expect("an answer").key, 2);
    }

    #[test]
    fn a_job_that_is_dropped_is_answered_as_lost() {
        let (reply, answers) = reply();
        drop(Owed::new(5, reply));
        assert!(matches!(answers.recv().expect("an answer"), HashDone { key: 5, outcome: Outcome::Lost }));
    }
}
