//! What a hash worker does with the work it takes.
//!
//! Owns the order within a batch: all jobs are hashed in one call of the hasher (which kernels run is its choice),
//! then all are judged, and those are answered that need nothing else; then good pieces are written and answered one
//! after the other, urgent ones first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ringtide_hasher::{Sha1Digest, Sha1State, finish_many, sha1_many, update_many};
use ringtide_proto::limits::BLOCK_LEN;

use super::answer::{Calls, Owed};
use super::job::{DirectBy, Final, Outcome, WriteJob};
use super::queue::{Queue, Taken, Turn};
use crate::storage::{DirectWrite, FrozenRange, StorageError, Verified};

/// From here on a write counts as slow, and as long may answers gather for a receiver that sleeps while others of their
/// batch are written. A receiver that is awake takes an answer at once; to be woken costs it 11-17 us, so one wake in
/// this time is less than a hundredth of a core. A batch written into memory is mostly done by then.
const SLOW_WRITE: Duration = Duration::from_millis(2);

/// A hash job as a worker holds it.
pub(super) struct Hashing {
    pub(super) state: Sha1State,
    pub(super) data: FrozenRange,
    pub(super) last: Option<Final>,
    /// Somebody waits for the answer.
    pub(super) urgent: bool,
    pub(super) owed: Owed,
}

/// A good piece that is yet to be written.
struct Good {
    piece: Verified,
    digests: Option<Box<[Sha1Digest]>>,
    write: WriteJob,
    urgent: bool,
    owed: Owed,
}

/// How the writes of a batch go, which says how long their answers may gather.
///
/// The first answer goes out by itself, and once a write was slow, all do. So none lies for longer than
/// [`SLOW_WRITE`] and one write, the first slow one of its batch.
enum Writes {
    NoneYet,
    Fast,
    Slow,
}

impl Writes {
    /// After a write that took so long: how old the oldest answer may be without its receiver being woken now.
    fn patience_after(&mut self, write: Duration) -> Duration {
        let slow = write >= SLOW_WRITE || matches!(self, Self::Slow);
        let is_first = matches!(self, Self::NoneYet);
        *self = if slow { Self::Slow } else { Self::Fast };
        if slow || is_first { Duration::ZERO } else { SLOW_WRITE }
    }
}

/// Works until the queue ends. A panic loses what is in hand (jobs are answered so) and is told; the worker goes on.
pub(super) fn work(queue: &Queue, panicked: impl Fn()) {
    while let Some(taken) = queue.take() {
        let process = || match taken {
            Taken::Batch(batch, turn) => process(batch, turn),
            Taken::Run(run) => run(),
        };
        if catch_unwind(AssertUnwindSafe(process)).is_err() {
            tracing::error!("a hash worker panicked, which is a bug: what it was doing is lost");
            panicked();
        }
    }
}

fn process(mut batch: Vec<Hashing>, turn: Turn<'_>) {
    let recorder = turn.recorder();
    let begun = recorder.map(|_| Instant::now());
    let digests = hash(&mut batch);
    if let (Some(recorder), Some(begun)) = (recorder, begun) {
        recorder.hashed(batch.len(), begun.elapsed());
    }
    drop(turn);
    let mut calls = Calls::new();
    let judged = batch.into_iter().zip(&digests).filter_map(|(job, digest)| judge(job, digest, &mut calls));
    let mut good: Vec<Good> = judged.collect();
    // The disk may take long.
    if !good.is_empty() {
        calls.make();
    }
    good.sort_by_key(|good| !good.urgent);
    let mut writes = Writes::NoneYet;
    for Good { piece, digests, write, urgent: _, owed } in good {
        let begun = Instant::now();
        let written = self::write(&write, &piece);
        let span = begun.elapsed();
        // What is left for the shard to write, it measures.
        if let (Some(recorder), Ok([])) = (recorder, written.as_deref()) {
            recorder.written(span);
        }
        let patience = writes.patience_after(span);
        let written = Some(written);
        owed.answer(Outcome::Good { piece, digests, written }, &mut calls);
        calls.make_after(patience);
    }
}

/// Feeds every job's bytes to its state. The digests so far, which mean something for last jobs only: that they cost
/// a block each keeps them in step.
fn hash(batch: &mut [Hashing]) -> Vec<Sha1Digest> {
    let mut streams: Vec<_> = batch.iter_mut().map(|job| (&mut job.state, job.data.as_slice())).collect();
    update_many(&mut streams);
    let states: Vec<&Sha1State> = batch.iter().map(|job| &job.state).collect();
    let mut digests = vec![Sha1Digest::default(); states.len()];
    finish_many(&states, &mut digests);
    digests
}

/// Answers the job, unless it is a good piece that is to be written.
fn judge(job: Hashing, digest: &Sha1Digest, calls: &mut Calls) -> Option<Good> {
    let Hashing { state, data, last, urgent, owed } = job;
    drop(data);
    let Some(Final { piece, whole, expected, want_digests, write }) = last else {
        owed.answer(Outcome::Partial(state), calls);
        return None;
    };
    let Some(piece) = Verified::by_digest(piece, whole.clone(), digest, &expected) else {
        owed.answer(Outcome::Bad { digests: block_digests(&whole), data: whole }, calls);
        return None;
    };
    let digests = want_digests.then(|| block_digests(&whole));
    // The answer is to be the last to hold the buffer.
    drop(whole);
    match write {
        Some(write) => Some(Good { piece, digests, write, urgent, owed }),
        None => {
            owed.answer(Outcome::Good { piece, digests, written: None }, calls);
            None
        }
    }
}

fn write(job: &WriteJob, piece: &Verified) -> Result<Vec<DirectWrite>, StorageError> {
    match job.direct_by {
        DirectBy::Caller => job.storage.begin_write(piece),
        DirectBy::Worker => job.storage.write_blocking(piece).map(|()| Vec::new()),
    }
}

fn block_digests(piece: &FrozenRange) -> Box<[Sha1Digest]> {
    let blocks: Vec<&[u8]> = piece.as_slice().chunks(BLOCK_LEN as usize).collect();
    let mut digests = vec![Sha1Digest::default(); blocks.len()];
    sha1_many(&blocks, &mut digests);
    digests.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_and_all_behind_a_slow_write_wait_for_no_other() {
        let (fast, slow) = (SLOW_WRITE / 2, SLOW_WRITE);
        let mut writes = Writes::NoneYet;
        let after = [fast, fast, fast, slow, fast, fast].map(|write| writes.patience_after(write));
        let (now, gather) = (Duration::ZERO, SLOW_WRITE);
        assert_eq!(after, [now, gather, gather, now, now, now]);
    }
}
