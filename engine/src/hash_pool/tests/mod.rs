//! What is answered, whatever happens, and who is woken; and what the tests of the pool share.

mod waiting;

use std::collections::BTreeMap;
use std::ops::Range;
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
    let post = move |done: HashDone| {
        // A test that failed waits no more: a second panic would hide the first.
        let _ = sender.send(done);
    };
    (Arc::new(post), receiver)
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
fn a_panic_is_told_and_counted_and_the_worker_goes_on() {
    let buffers = BufferPool::new(1 << 20);
    let (tell, told) = unbounded();
    let panicked: PanicCall = Arc::new(move || tell.send(()).expect("the test waits"));
    let (pool, block) = blocked(PoolConfig { panicked: Some(panicked), ..with(Batching::LATENCY) });
    let (reply, answers) = reply();
    pool.run(|| panic!("a bug, for the test"));
    submit(&pool, &buffers, &reply, 1..2);
    drop(block);
    assert_eq!(answered(&answers, 1), [1]);
    // The one worker does what panics before or after the first job, but before the second: it takes turns.
    submit(&pool, &buffers, &reply, 2..3);
    assert!(matches!(answers.recv_timeout(HANG).expect("an answer").outcome, Outcome::Partial(_)));
    assert_eq!((pool.panics(), told.len()), (1, 1));
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

fn with(batching: Batching) -> PoolConfig {
    PoolConfig { threads: 1, batching, short: None, panicked: None }
}

/// Submits so many jobs of a block each and returns once they wait or are taken.
fn submit(pool: &HashPool, buffers: &BufferPool, reply: &Reply, keys: Range<u64>) {
    let data = frozen(buffers, &[5; BLOCK]);
    keys.for_each(|key| pool.submit(job(key, data.clone(), None, reply)));
}

fn answered(answers: &Receiver<HashDone>, count: usize) -> Vec<u64> {
    let mut keys: Vec<_> = (0..count).map(|_| answers.recv_timeout(HANG).expect("an answer").key).collect();
    keys.sort_unstable();
    keys
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
    let (first, first_answers, first_wakes) = Sleepy::new();
    let (rest, rest_answers, rest_wakes) = Sleepy::new();
    let (first, rest): (Reply, Reply) = (first, rest);
    let bad: Reply = Arc::new(|done: HashDone| {
        assert!(matches!(done.outcome, Outcome::Lost), "a bug, for the test");
    });
    submit(&pool, &buffers, &first, 0..3);
    submit(&pool, &buffers, &bad, 3..4);
    submit(&pool, &buffers, &rest, 4..8);
    drop(block);
    assert_eq!(answered(&first_answers, 3), [0, 1, 2]);
    first_wakes.recv_timeout(HANG).expect("those are woken that had their answers before the panic");
    assert_eq!(answered(&rest_answers, 4), [4, 5, 6, 7]);
    rest_wakes.recv_timeout(HANG).expect("those are woken whose jobs were lost");
    submit(&pool, &buffers, &first, 8..9);
    assert_eq!(answered(&first_answers, 1), [8]);
    assert_eq!(pool.panics(), 1);
}

#[test]
fn a_job_that_is_dropped_is_answered_as_lost() {
    let (reply, answers) = reply();
    drop(Owed::new(5, reply));
    assert!(matches!(answers.recv().expect("an answer"), HashDone { key: 5, outcome: Outcome::Lost }));
}
