//! `ShardRecorder` and `HashRecorder`: what the threads of an engine record into.
//!
//! A shard owns its recorder and gives what is in it away when it is asked to by mail. The hash workers share one,
//! behind a lock that is taken a few times a batch, never per block.

use std::mem;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use ringtide_proto::time::Instant;

use super::Metrics;

/// What a shard measures.
#[derive(Debug, Default)]
pub(crate) struct ShardRecorder(Metrics);

impl ShardRecorder {
    /// A block is here that was asked for then; the peer has yet to answer `outstanding` other requests.
    pub(crate) fn block(&mut self, now: Instant, asked_at: Instant, outstanding: usize) {
        self.0.request_to_block_us.record_span(now.since(asked_at));
        self.0.requests_outstanding.record(outstanding as u64);
    }

    /// So many bytes came to where their blocks belong.
    pub(crate) fn landed(&mut self, bytes: usize) {
        self.0.landed_bytes.record(bytes as u64);
    }

    /// A piece turned out right whose first block was asked for then.
    pub(crate) fn piece(&mut self, now: Instant, begun_at: Instant) {
        self.0.piece_us.record_span(now.since(begun_at));
    }

    /// A piece was written past the page cache, which began then.
    pub(crate) fn written(&mut self, now: Instant, began: Instant) {
        self.0.write_us.record_span(now.since(began));
    }

    /// What was recorded since the last time.
    pub(crate) fn take(&mut self) -> Metrics {
        mem::take(&mut self.0)
    }
}

/// What the hash workers measure.
#[derive(Debug, Default)]
pub(crate) struct HashRecorder(Mutex<Metrics>);

impl HashRecorder {
    /// A job was added to `waiting` others.
    pub(crate) fn submitted(&self, waiting: usize) {
        self.0.lock().hash_backlog.record(waiting as u64);
    }

    /// Jobs are being taken: for each, [`Taking::waited`].
    pub(crate) fn taking(&self) -> Taking<'_> {
        Taking(self.0.lock())
    }

    /// A batch of so many jobs was hashed.
    pub(crate) fn hashed(&self, jobs: usize, span: Duration) {
        let mut metrics = self.0.lock();
        (0..jobs).for_each(|_| metrics.hash_us.record_span(span));
    }

    /// A piece was written by the worker that verified it.
    pub(crate) fn written(&self, span: Duration) {
        self.0.lock().write_us.record_span(span);
    }

    /// What was recorded since the last time.
    pub(crate) fn take(&self) -> Metrics {
        mem::take(&mut *self.0.lock())
    }
}

/// What is recorded of the jobs that a worker takes, all behind one lock.
pub(crate) struct Taking<'r>(MutexGuard<'r, Metrics>);

impl Taking<'_> {
    /// One waited so long.
    pub(crate) fn waited(&mut self, wait: Duration) {
        self.0.hash_wait_us.record_span(wait);
    }
}
