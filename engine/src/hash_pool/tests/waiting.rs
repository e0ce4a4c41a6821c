//! What waits for a batch and what does not, with real workers.

use std::sync::atomic::AtomicBool;

use super::*;

/// Waits for an hour unless something ends it, which a test would notice.
const PATIENT: Batching = Batching { wait: Duration::from_secs(3600), ..Batching::THROUGHPUT };

#[test]
fn what_waits_is_hashed_in_one_batch() {
    let buffers = BufferPool::new(1 << 20);
    let (pool, block) = blocked(with(Batching::LATENCY));
    let (reply, answers) = reply();
    submit(&pool, &buffers, &reply, 0..20);
    assert_eq!((pool.waiting(), pool.stats()), (20, HashStats::default()));
    drop(block);
    assert_eq!(answered(&answers, 20), (0..20).collect::<Vec<_>>());
    let expected =
        HashStats { jobs: 20, bytes: 20 * BLOCK as u64, batches: 1, largest: 20, by_size: [0, 0, 0, 0, 1] };
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
    for (batching, count) in
        [(Batching { enough_jobs: 5, ..PATIENT }, 5), (Batching { enough_bytes: 3 * BLOCK, ..PATIENT }, 3)]
    {
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
    let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start_with(with(PATIENT)).expect("starts"));
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
    // Those that come now wait for each other, at the longest until one comes when buffers are short again.
    short.store(false, Ordering::Relaxed);
    submit(&pool, &buffers, &reply, 4..6);
    assert_eq!(pool.waiting(), 2);
    short.store(true, Ordering::Relaxed);
    submit(&pool, &buffers, &reply, 6..7);
    assert_eq!(answered(&answers, 3), [4, 5, 6]);
    assert!(pool.stats().largest >= 2);
}

#[test]
fn other_work_does_not_wait_for_a_batch() {
    let (buffers, pool) = (BufferPool::new(1 << 20), HashPool::start_with(with(PATIENT)).expect("starts"));
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

/// Workers of which one has hashed a job that came alone, so that what comes now waits for others.
fn warm(config: PoolConfig) -> (HashPool, BufferPool) {
    let (pool, buffers) = (HashPool::start_with(config).expect("starts"), BufferPool::new(1 << 20));
    let (reply, answers) = reply();
    submit(&pool, &buffers, &reply, 0..1);
    answered(&answers, 1);
    (pool, buffers)
}

#[test]
fn the_wait_ends_though_nothing_comes() {
    let wait = Duration::from_millis(1);
    for threads in [1, 3] {
        let (pool, buffers) = warm(PoolConfig { threads, ..with(Batching { wait, ..PATIENT }) });
        let (reply, answers) = reply();
        for round in 0..20 {
            submit(&pool, &buffers, &reply, 2 * round..2 * (round + 1));
            assert_eq!(answered(&answers, 2), [2 * round, 2 * round + 1]);
        }
    }
}

#[test]
fn a_second_worker_is_called_for_what_a_batch_leaves() {
    let batching = Batching { most_jobs: 4, ..PATIENT };
    let (pool, buffers) = warm(PoolConfig { threads: 2, ..with(batching) });
    let (reply, answers) = reply();
    let (release, held) = bounded::<()>(0);
    let holding: Reply = Arc::new(move |_: HashDone| {
        let _ = held.recv();
    });
    submit(&pool, &buffers, &holding, 0..1);
    submit(&pool, &buffers, &reply, 1..5);
    pool.submit(HashJob { urgent: true, ..job(5, frozen(&buffers, b"x"), None, &reply) });
    assert_eq!(answered(&answers, 2), [4, 5], "while the first worker is held");
    drop(release);
    assert_eq!(answered(&answers, 3), [1, 2, 3]);
}

#[test]
fn somebody_watches_the_clock_while_other_work_blocks() {
    let wait = Duration::from_millis(50);
    let (pool, buffers) = warm(PoolConfig { threads: 2, ..with(Batching { wait, ..PATIENT }) });
    let (reply, answers) = reply();
    submit(&pool, &buffers, &reply, 1..3);
    let (release, held) = bounded::<()>(0);
    pool.run(move || {
        let _ = held.recv();
    });
    assert_eq!(answered(&answers, 2), [1, 2]);
    drop(release);
}

#[test]
fn a_worker_that_answers_does_not_count_as_hashing() {
    let config = PoolConfig { threads: 2, short: Some(Arc::new(|| true)), ..with(PATIENT) };
    let (pool, buffers) = warm(config);
    let (reply, answers) = reply();
    let ((release, held), (holds, is_held)) = (bounded::<()>(0), bounded(1));
    let holding: Reply = Arc::new(move |_: HashDone| {
        let _ = holds.send(());
        let _ = held.recv();
    });
    submit(&pool, &buffers, &holding, 1..2);
    is_held.recv_timeout(HANG).expect("it is hashed at once");
    submit(&pool, &buffers, &reply, 2..3);
    assert_eq!(answered(&answers, 1), [2]);
    drop(release);
}
