//! `Reply`, `Owed` and `Calls`: how answers reach those who asked.
//!
//! Owns two guarantees, whatever happens to the worker: every job gets exactly one answer, and whoever was sent one
//! is woken. A worker posts several answers of a batch before it wakes their receivers, each once: waking costs more than
//! all the rest of an answer. How many, `worker` says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::{HashDone, Outcome};
use crate::mailbox::Sleeper;

/// Where answers go. A closure will do for a receiver that notices answers by itself, such as a channel's.
pub trait Answers: Send + Sync {
    /// Takes an answer; called on a worker's thread, so it should only pass it on. Wakes nobody.
    fn post(&self, done: HashDone);

    /// Who is to be woken after answers were posted; several may name the same.
    fn sleeper(&self) -> Option<&Arc<Sleeper>> {
        None
    }
}

impl<F: Fn(HashDone) + Send + Sync> Answers for F {
    fn post(&self, done: HashDone) {
        self(done);
    }
}

/// Where answers go; jobs of one origin share it.
pub type Reply = Arc<dyn Answers>;

/// An answer that is owed. Dropped without one, it answers [`Outcome::Lost`] and wakes the receiver.
pub(super) struct Owed {
    key: u64,
    reply: Option<Reply>,
}

impl Owed {
    pub(super) fn new(key: u64, reply: Reply) -> Owed {
        Owed { key, reply: Some(reply) }
    }

    /// Answers; `calls` wakes the receiver.
    pub(super) fn answer(mut self, outcome: Outcome, calls: &mut Calls) {
        if let Some(reply) = self.reply.take() {
            // Noted first: a reply that panics may have posted.
            calls.note(&reply);
            reply.post(HashDone { key: self.key, outcome });
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.post(HashDone { key: self.key, outcome: Outcome::Lost });
            if let Some(sleeper) = reply.sleeper() {
                sleeper.notify();
            }
        }
    }
}

/// Receivers that were sent answers and not woken yet. Wakes them when dropped.
pub(super) struct Calls {
    due: Vec<Arc<Sleeper>>,
    /// When the oldest of those answers was posted.
    since: Option<Instant>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self { due: Vec::new(), since: None }
    }

    /// Wakes everybody once, if the oldest answer has waited for that for `patience`.
    pub(super) fn make_after(&mut self, patience: Duration) {
        if self.since.is_some_and(|since| since.elapsed() >= patience) {
            self.make();
        }
    }

    /// Wakes everybody once.
    pub(super) fn make(&mut self) {
        self.since = None;
        self.due.drain(..).for_each(|sleeper| sleeper.notify());
    }

    fn note(&mut self, reply: &Reply) {
        let Some(sleeper) = reply.sleeper() else { return };
        self.since.get_or_insert_with(Instant::now);
        // A handful of shards at the most.
        if !self.due.iter().any(|known| Arc::ptr_eq(known, sleeper)) {
            self.due.push(Arc::clone(sleeper));
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.make();
    }
}
