//! `Queue`: between those who submit work and the hash workers.
//!
//! Owns the channels that carry the work, and who is woken for it. A channel by itself would wake a worker for every
//! job (11-17 us of CPU each); here a worker that waits for a batch sleeps until one is there, or until its time is up.
//! `backlog` has the rules; the lock around it is held for about a microsecond.

use std::sync::OnceLock;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};

use super::ShortCheck;
use super::backlog::{Backlog, Batching, Next};
use super::stats::HashStats;
use super::worker::Hashing;
use crate::metrics::HashRecorder;

/// Work that is no hash job.
pub(super) type Run = Box<dyn FnOnce() + Send>;

/// What a worker took.
pub(super) enum Taken<'q> {
    /// Jobs to be hashed together; at least one. Until the turn is dropped, the worker counts as hashing: whatever else it
    /// does with the batch comes after.
    Batch(Vec<Hashing>, Turn<'q>),
    Run(Run),
}

/// A batch that is being hashed.
pub(super) struct Turn<'q>(&'q Queue);

impl<'q> Turn<'q> {
    /// Where measurements go, if they are asked for.
    pub(super) fn recorder(&self) -> Option<&'q HashRecorder> {
        self.0.recorder()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.backlog.finish_batch();
        // What came meanwhile may wait no more where buffers are short, and this worker may yet write for long.
        self.0.call(&mut state, Instant::now());
    }
}

/// Between those who submit work and the workers. Jobs are bounded by the buffers that they hold; other work is not
/// bounded here.
pub(super) struct Queue {
    /// Each with when it came.
    jobs: Channel<(Instant, Hashing)>,
    runs: Channel<Run>,
    /// While no batch is being hashed, it ends all waiting.
    short: Option<ShortCheck>,
    state: Mutex<State>,
    /// Where workers wait that have nothing to do.
    idle: Condvar,
    /// Where the one worker waits that waits for a batch.
    gatherer: Condvar,
    /// Where measurements go, once they are asked for.
    recorder: OnceLock<HashRecorder>,
}

/// Both ends of a channel.
struct Channel<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T> Channel<T> {
    fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }
}

struct State {
    backlog: Backlog,
    /// Workers that wait at `idle` and were not called.
    idle: usize,
    /// Workers that were called from `idle` and have not looked yet: each calls another if there is more.
    called: usize,
    /// Whether a worker waits at `gatherer`.
    gathering: bool,
    stats: HashStats,
}

impl Queue {
    pub(super) fn new(batching: Batching, short: Option<ShortCheck>) -> Self {
        let state = State {
            backlog: Backlog::new(batching),
            idle: 0,
            called: 0,
            gathering: false,
            stats: HashStats::default(),
        };
        Self {
            jobs: Channel::new(),
            runs: Channel::new(),
            short,
            state: Mutex::new(state),
            idle: Condvar::new(),
            gatherer: Condvar::new(),
            recorder: OnceLock::new(),
        }
    }

    pub(super) fn submit(&self, job: Hashing) {
        let (now, mut state) = (Instant::now(), self.state.lock());
        if let Some(recorder) = self.recorder() {
            recorder.submitted(state.backlog.waiting());
        }
        state.backlog.push_job(now, job.data.len(), job.urgent);
        // Within the lock, so that the channel and the backlog agree. Cannot fail: `self` has the receiver.
        let _ = self.jobs.sender.send((now, job));
        self.call(&mut state, now);
    }

    pub(super) fn run(&self, run: Run) {
        let mut state = self.state.lock();
        state.backlog.push_run();
        let _ = self.runs.sender.send(run);
        self.call(&mut state, Instant::now());
    }

    /// Nothing more comes: workers end when nothing is left.
    pub(super) fn close(&self) {
        self.state.lock().backlog.close();
        self.idle.notify_all();
        self.gatherer.notify_all();
    }

    /// The next work for the worker that asks; blocks until there is some. `None`: the worker's end.
    pub(super) fn take(&self) -> Option<Taken<'_>> {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            match self.next(&state, now) {
                Next::Run => {
                    state.backlog.take_run();
                    self.call(&mut state, now);
                    return Some(Taken::Run(self.runs.receiver.try_recv().expect("it was counted")));
                }
                Next::Hash => {
                    let batch = self.take_batch(&mut state, now);
                    self.call(&mut state, now);
                    return Some(Taken::Batch(batch, Turn(self)));
                }
                Next::WaitUntil(due) if !state.gathering => {
                    state.gathering = true;
                    self.gatherer.wait_until(&mut state, due);
                    state.gathering = false;
                }
                Next::WaitUntil(_) | Next::Sleep => {
                    state.idle += 1;
                    self.idle.wait_while(&mut state, |state| state.called == 0 && !state.backlog.is_closed());
                    state.called = state.called.saturating_sub(1);
                }
                Next::End => return None,
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.state.lock().backlog.waiting()
    }

    pub(super) fn stats(&self) -> HashStats {
        self.state.lock().stats
    }

    /// Measures from now on.
    pub(super) fn measure(&self) {
        let _ = self.recorder.set(HashRecorder::default());
    }

    /// Where measurements go, if they are asked for.
    pub(super) fn recorder(&self) -> Option<&HashRecorder> {
        self.recorder.get()
    }

    fn next(&self, state: &State, now: Instant) -> Next {
        state.backlog.next(now, || self.short.as_ref().is_some_and(|short| short()))
    }

    fn take_batch(&self, state: &mut State, now: Instant) -> Vec<Hashing> {
        let count = state.backlog.take_batch();
        let jobs = self.jobs.receiver.try_iter().take(count);
        let mut batch = Vec::with_capacity(count);
        match self.recorder() {
            None => batch.extend(jobs.map(|(_, job)| job)),
            Some(recorder) => {
                let mut waiting = recorder.taking();
                batch.extend(jobs.map(|(came, job)| {
                    waiting.waited(now.saturating_duration_since(came));
                    job
                }));
            }
        }
        debug_assert_eq!(batch.len(), count, "the channel and the backlog agree");
        state.stats.count(&batch);
        batch
    }

    /// Calls a worker if there is something for one to do: the one that waits for a batch, else one that is idle.
    /// Busy ones look by themselves when they are done.
    fn call(&self, state: &mut State, now: Instant) {
        match self.next(state, now) {
            Next::Run | Next::Hash if state.gathering => {
                self.gatherer.notify_one();
            }
            // Somebody has to watch the clock.
            Next::WaitUntil(_) if state.gathering => {}
            Next::Run | Next::Hash | Next::WaitUntil(_) if state.idle > 0 && state.called == 0 => {
                state.idle -= 1;
                state.called += 1;
                self.idle.notify_one();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ringtide_hasher::Sha1State;

    use super::*;
    use crate::hash_pool::answer::{Owed, Reply};
    use crate::storage::BufferPool;

    /// Longer than anything takes; past it something hangs.
    const HANG: Duration = Duration::from_secs(60);

    const PATIENT: Batching =
        Batching { most_jobs: 4, wait: Duration::from_secs(3600), ..Batching::THROUGHPUT };

    /// A queue from which a job was taken, so that what comes now waits for others; and the turn of that job.
    fn warm<'q>(queue: &'q Queue, buffers: &BufferPool) -> Turn<'q> {
        push(queue, buffers, false);
        let Some(Taken::Batch(_, turn)) = queue.take() else { panic!("the first job waits for nobody") };
        turn
    }

    fn push(queue: &Queue, buffers: &BufferPool, urgent: bool) {
        let reply: Reply = Arc::new(|_| {});
        let data = buffers.try_take(1).expect("has room").freeze();
        let owed = Owed::new(0, reply);
        queue.submit(Hashing { state: Sha1State::new(), data, last: None, urgent, owed });
    }

    /// A worker that takes a batch, tells of how many jobs, and hashes it until `hashed` has no sender.
    fn worker(queue: &Queue, took: &Sender<usize>, hashed: &Receiver<()>) {
        if let Some(Taken::Batch(jobs, _turn)) = queue.take() {
            let _ = took.send(jobs.len());
            let _ = hashed.recv();
        }
    }

    fn wait_for(queue: &Queue, what: impl Fn(&State) -> bool) {
        while !what(&queue.state.lock()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_end_of_hashing_calls_a_worker_where_buffers_are_short() {
        let (queue, buffers) = (Queue::new(PATIENT, Some(Arc::new(|| true))), BufferPool::new(1 << 20));
        let turn = warm(&queue, &buffers);
        push(&queue, &buffers, false);
        let ((took, taken), (hash, hashed)) = (unbounded(), unbounded());
        std::thread::scope(|scope| {
            scope.spawn(|| worker(&queue, &took, &hashed));
            wait_for(&queue, |state| state.gathering);
            drop(turn);
            let taken = taken.recv_timeout(HANG);
            drop(hash);
            queue.close();
            assert_eq!(taken, Ok(1));
        });
    }

    #[test]
    fn what_a_batch_leaves_is_hashed_meanwhile() {
        let (queue, buffers) = (Queue::new(PATIENT, None), BufferPool::new(1 << 20));
        drop(warm(&queue, &buffers));
        let ((took, taken), (hash, hashed)) = (unbounded(), unbounded());
        std::thread::scope(|scope| {
            (0..2).for_each(|_| {
                scope.spawn(|| worker(&queue, &took, &hashed));
            });
            wait_for(&queue, |state| state.idle == 2);
            push(&queue, &buffers, false);
            wait_for(&queue, |state| state.gathering && state.idle == 1);
            (0..3).for_each(|_| push(&queue, &buffers, false));
            push(&queue, &buffers, true);
            // Either may tell first.
            let mut taken = [(); 2].map(|()| taken.recv_timeout(HANG).unwrap_or(0));
            taken.sort_unstable();
            drop(hash);
            queue.close();
            assert_eq!(taken, [1, 4]);
        });
    }
}
