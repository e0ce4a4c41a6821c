//! `Backlog`: what waits for a hash worker, in numbers, and when it is worth taking.
//!
//! Owns the rules of waiting for a batch, and nothing else: it holds no jobs, reads no clock and blocks nobody, so
//! that every rule can be tested by itself. `queue` holds the jobs and asks it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How jobs are put together.
///
/// A pass of 16 lanes costs about as much as hashing three messages one by one, however many lanes are idle. So jobs that
/// come close together are worth waiting for, and full batches are not spread over idle workers. The bounds keep what
/// waits, and for how long, small beside the buffers that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most jobs that a worker takes at a time; at least one is taken.
    pub most_jobs: usize,
    /// No further job is taken once a batch has so many bytes, but at least one.
    pub most_bytes: usize,
    /// As many jobs are worth no more waiting.
    pub enough_jobs: usize,
    /// As many bytes are worth no more waiting.
    pub enough_bytes: usize,
    /// How long the oldest job waits for others at the most. Zero: not at all.
    pub wait: Duration,
}

impl Batching {
    /// For throughput: what `get` and `seed` run with.
    ///
    /// Measured with 1 MiB pieces into tmpfs on two Zen 4 cores that had other work, the seeds included: medians of the user
    /// CPU-seconds per GB of the whole leech, where workers wait for at most so many ms.
    ///
    /// | wait | one fast seed, 1.5 GB/s | 32 seeds of 16 MB/s |
    /// | --- | --- | --- |
    /// | 0 | 0.49 | 0.59 |
    /// | 2 | 0.50 | 0.58 |
    /// | 5 | 0.36 | 0.42 |
    /// | 8 | 0.38 | 0.46 |
    /// | 15 | 0.35 | 0.44 |
    ///
    /// (One by one with single streams it was 0.79 and 0.77.) From 5 ms on they are ties; at 500 MB/s, 8 ms gather the 4
    /// pieces from which lanes pay.
    ///
    /// 16 jobs fill the lanes of one pass, and 16 MiB are half of the L3 cache that they should still be in when they are
    /// written; 32 and 32 MiB were no better. A batch of what piled up anyway may be twice that: there are kernels of 32
    /// lanes, and most of the default memory is still free for what arrives meanwhile.
    pub const THROUGHPUT: Self = Self {
        most_jobs: 32,
        most_bytes: 32 << 20,
        enough_jobs: 16,
        enough_bytes: 16 << 20,
        wait: Duration::from_millis(8),
    };

    /// For latency: nobody waits for others; what waits anyway is still taken together.
    pub const LATENCY: Self = Self { wait: Duration::ZERO, ..Self::THROUGHPUT };

    /// The same for a hasher that hashes up to so many messages in step: more than fill its lanes are worth no waiting, and
    /// where it hashes them one by one nothing is.
    #[must_use]
    pub fn for_lanes(self, lanes: usize) -> Self {
        let wait = if lanes > 1 { self.wait } else { Duration::ZERO };
        Self { enough_jobs: self.enough_jobs.min(lanes), wait, ..self }
    }
}

/// Other work that goes first after each batch. A batch may have 32 jobs and takes ms with its writes, so one read for
/// an upload after each would be few; and it is bounded, so that uploads do not keep pieces from being verified. Not
/// measured.
const RUNS_PER_BATCH: usize = 8;

/// What waits, and since when.
#[derive(Debug)]
pub(super) struct Backlog {
    batching: Batching,
    /// Hash jobs that no worker has taken, in the order in which they came.
    jobs: VecDeque<Waiting>,
    /// The sum of their bytes.
    bytes: usize,
    /// The earliest of their due times; `Some` exactly while there are any.
    due: Option<Instant>,
    /// When the last hash job came.
    last_came: Option<Instant>,
    /// Batches that workers have taken and not hashed yet. That they may be writing does not count.
    under_way: usize,
    /// Other work that no worker has taken.
    runs: usize,
    /// How much other work goes first before the next batch, where both wait: neither starves the other.
    runs_first: usize,
    /// Nothing more comes.
    closed: bool,
}

/// A hash job.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    bytes: usize,
    /// When it is to be taken at the latest.
    due: Instant,
}

/// What a worker is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Take other work.
    Run,
    /// Take hash jobs.
    Hash,
    /// See to it that somebody looks again by then: hash jobs wait for others until then.
    WaitUntil(Instant),
    /// Nothing is there.
    Sleep,
    /// Nothing is there, and nothing will come.
    End,
}

impl Backlog {
    pub(super) fn new(batching: Batching) -> Self {
        // With batches of nothing, what waits would wait for ever.
        let (most_jobs, most_bytes) = (batching.most_jobs.max(1), batching.most_bytes.max(1));
        Self {
            batching: Batching { most_jobs, most_bytes, ..batching },
            jobs: VecDeque::new(),
            bytes: 0,
            due: None,
            last_came: None,
            under_way: 0,
            runs: 0,
            runs_first: 0,
            closed: false,
        }
    }

    /// A hash job came. An `urgent` one waits for nobody, and neither does a job that came long after the one before
    /// it: at that pace waiting brings none.
    pub(super) fn push_job(&mut self, now: Instant, bytes: usize, urgent: bool) {
        let wait = self.batching.wait;
        let lonely = self.last_came.is_none_or(|last| now.saturating_duration_since(last) > wait);
        let due = if urgent || lonely { now } else { now + wait };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        self.last_came = Some(now);
        self.jobs.push_back(Waiting { bytes, due });
        self.bytes += bytes;
    }

    pub(super) fn push_run(&mut self) {
        self.runs += 1;
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What is to be done. `short`: whether buffers are, so that nothing waits while no worker hashes. While one does, what
    /// comes meanwhile gathers as ever: a part of a batch on a second core would cost as much as all of it a moment later.
    pub(super) fn next(&self, now: Instant, short: impl FnOnce() -> bool) -> Next {
        let ready =
            self.due.is_some_and(|due| self.is_enough() || due <= now || self.under_way == 0 && short());
        if self.runs > 0 && (self.runs_first > 0 || !ready) {
            return Next::Run;
        }
        match self.due {
            Some(_) if ready => Next::Hash,
            Some(due) => Next::WaitUntil(due),
            None if self.closed => Next::End,
            None => Next::Sleep,
        }
    }

    fn is_enough(&self) -> bool {
        self.closed
            || self.jobs.len() >= self.batching.enough_jobs
            || self.bytes >= self.batching.enough_bytes
    }

    /// A worker takes other work.
    pub(super) fn take_run(&mut self) {
        self.runs -= 1;
        self.runs_first = self.runs_first.saturating_sub(1);
    }

    /// A worker takes a batch of hash jobs, the oldest ones: how many.
    pub(super) fn take_batch(&mut self) -> usize {
        let (mut count, mut bytes) = (0, 0);
        while count < self.batching.most_jobs && bytes < self.batching.most_bytes {
            let Some(job) = self.jobs.pop_front() else { break };
            (count, bytes) = (count + 1, bytes + job.bytes);
        }
        self.bytes -= bytes;
        self.due = self.jobs.iter().map(|job| job.due).min();
        self.under_way += 1;
        self.runs_first = RUNS_PER_BATCH;
        count
    }

    /// A worker has hashed a batch.
    pub(super) fn finish_batch(&mut self) {
        self.under_way -= 1;
    }

    /// All that no worker has taken.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.len() + self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCHING: Batching = Batching {
        most_jobs: 6,
        most_bytes: 600,
        enough_jobs: 4,
        enough_bytes: 400,
        wait: Duration::from_millis(5),
    };

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A backlog to which a job came and was taken just now, so that the next one is not lonely; and now.
    fn busy(batching: Batching) -> (Backlog, Instant) {
        let (mut backlog, now) = (Backlog::new(batching), Instant::now());
        backlog.push_job(now, 10, false);
        assert_eq!(backlog.next(now, || false), Next::Hash, "the first job of all is lonely");
        assert_eq!(take(&mut backlog), 1);
        (backlog, now)
    }

    /// Takes a batch and finishes it; its size.
    fn take(backlog: &mut Backlog) -> usize {
        let size = backlog.take_batch();
        backlog.finish_batch();
        size
    }

    #[test]
    fn a_job_waits_for_others_until_its_time_is_up() {
        let (mut backlog, now) = busy(BATCHING);
        backlog.push_job(now + ms(1), 10, false);
        backlog.push_job(now + ms(4), 10, false);
        let due = now + ms(6);
        assert_eq!(backlog.next(now + ms(4), || false), Next::WaitUntil(due), "the oldest counts");
        assert_eq!(backlog.next(due, || false), Next::Hash);
        assert_eq!(take(&mut backlog), 2);
        assert_eq!(backlog.next(due, || false), Next::Sleep);
    }

    #[test]
    fn a_lonely_job_waits_for_nobody() {
        let (mut backlog, now) = busy(BATCHING);
        backlog.push_job(now + ms(6), 10, false);
        assert_eq!(backlog.next(now + ms(6), || false), Next::Hash);
    }

    #[test]
    fn enough_jobs_or_bytes_end_the_wait() {
        let (mut backlog, now) = busy(BATCHING);
        (0..3).for_each(|_| backlog.push_job(now, 10, false));
        assert_eq!(backlog.next(now, || false), Next::WaitUntil(now + ms(5)));
        backlog.push_job(now, 10, false);
        assert_eq!(backlog.next(now, || false), Next::Hash);
        assert_eq!(take(&mut backlog), 4);
        backlog.push_job(now, 400, false);
        assert_eq!(backlog.next(now, || false), Next::Hash);
    }

    #[test]
    fn urgency_pressure_and_the_end_end_the_wait() {
        let (mut backlog, now) = busy(BATCHING);
        backlog.push_job(now, 10, false);
        assert_eq!(backlog.next(now, || true), Next::Hash);
        assert_eq!(backlog.next(now, || false), Next::WaitUntil(now + ms(5)));
        backlog.push_job(now + ms(1), 10, true);
        assert_eq!(backlog.next(now + ms(1), || false), Next::Hash);
        assert_eq!(take(&mut backlog), 2, "an urgent job takes those along that wait");
        backlog.push_job(now + ms(1), 10, false);
        assert_eq!(backlog.next(now + ms(1), || false), Next::WaitUntil(now + ms(6)));
        backlog.close();
        assert_eq!(backlog.next(now + ms(1), || false), Next::Hash);
        assert_eq!(take(&mut backlog), 1);
        assert_eq!(backlog.next(now + ms(1), || false), Next::End);
    }

    #[test]
    fn pressure_leaves_parts_of_a_batch_to_the_worker_that_hashes() {
        let (mut backlog, now) = busy(BATCHING);
        backlog.push_job(now, 10, false);
        assert_eq!(backlog.take_batch(), 1);
        backlog.push_job(now, 10, false);
        assert_eq!(backlog.next(now, || true), Next::WaitUntil(now + ms(5)));
        assert_eq!(backlog.next(now + ms(5), || true), Next::Hash, "but no longer than ever");
        backlog.finish_batch();
        assert_eq!(backlog.next(now, || true), Next::Hash);
    }

    #[test]
    fn for_latency_nothing_waits() {
        let (mut backlog, now) = busy(Batching { wait: Duration::ZERO, ..BATCHING });
        for _ in 0..2 {
            backlog.push_job(now, 10, false);
            assert_eq!(backlog.next(now, || false), Next::Hash);
        }
        assert_eq!(take(&mut backlog), 2, "what waits anyway is taken together");
    }

    #[test]
    fn a_batch_is_bounded_in_jobs_and_in_bytes() {
        let (mut backlog, now) = busy(BATCHING);
        (0..9).for_each(|_| backlog.push_job(now, 10, false));
        assert_eq!((take(&mut backlog), take(&mut backlog)), (6, 3));
        (0..5).for_each(|_| backlog.push_job(now, 250, false));
        assert_eq!(
            (take(&mut backlog), take(&mut backlog)),
            (3, 2),
            "the one that reaches the bound is the last"
        );
    }

    #[test]
    fn what_a_batch_leaves_behind_waits_in_its_turn() {
        let (mut backlog, now) = busy(BATCHING);
        (0..6).for_each(|_| backlog.push_job(now, 10, true));
        backlog.push_job(now + ms(4), 10, false);
        assert_eq!(take(&mut backlog), 6);
        assert_eq!(backlog.next(now + ms(5), || false), Next::WaitUntil(now + ms(9)));
        assert_eq!((take(&mut backlog), backlog.bytes), (1, 0));
    }

    #[test]
    fn a_batch_of_nothing_has_a_job() {
        for batching in [Batching { most_jobs: 0, ..BATCHING }, Batching { most_bytes: 0, ..BATCHING }] {
            let (mut backlog, now) = busy(batching);
            backlog.push_job(now, 10, true);
            assert_eq!((take(&mut backlog), backlog.waiting()), (1, 0));
        }
    }

    #[test]
    fn jobs_and_other_work_take_turns() {
        let (mut backlog, now) = busy(Batching { wait: Duration::ZERO, most_jobs: 1, ..BATCHING });
        (0..2).for_each(|_| backlog.push_job(now, 10, false));
        (0..2 * RUNS_PER_BATCH).for_each(|_| backlog.push_run());
        for _ in 0..2 {
            for _ in 0..RUNS_PER_BATCH {
                assert_eq!(backlog.next(now, || false), Next::Run);
                backlog.take_run();
            }
            assert_eq!(backlog.next(now, || false), Next::Hash);
            assert_eq!(take(&mut backlog), 1);
        }
        assert_eq!((backlog.next(now, || false), backlog.waiting()), (Next::Sleep, 0));
    }

    #[test]
    fn other_work_is_done_while_jobs_wait() {
        let (mut backlog, now) = busy(BATCHING);
        backlog.push_job(now, 10, false);
        (0..2).for_each(|_| backlog.push_run());
        for _ in 0..2 {
            assert_eq!(backlog.next(now, || false), Next::Run);
            backlog.take_run();
        }
        assert_eq!(backlog.next(now, || false), Next::WaitUntil(now + ms(5)));
    }
}
