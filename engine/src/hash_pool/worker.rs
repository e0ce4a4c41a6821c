//! What a hash worker does with the jobs it takes.
//!
//! Owns batching: all that a worker took is hashed in one call of the hasher, then judged, written and
//! answered in order. Which kernels run is the hasher's choice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::Receiver;
use ringtide_hasher::{Sha1Digest, Sha1State, sha1_many, update_many};
use ringtide_proto::limits::BLOCK_LEN;

use super::job::{DirectBy, Final, Outcome, Owed, WriteJob};
use crate::storage::{DirectWrite, FrozenRange, StorageError, Verified};

/// Most jobs that a worker hashes together. The kernels are single streams yet, so more would only make the
/// first wait for the last.
const MOST_TOGETHER: usize = 4;

/// What the channel carries.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are Hash, which a box would only cost an allocation"
)]
pub(super) enum Work {
    Hash(Hashing),
    Run(Box<dyn FnOnce() + Send>),
}

/// A hash job as a worker holds it.
pub(super) struct Hashing {
    pub(super) state: Sha1State,
    pub(super) data: FrozenRange,
    pub(super) last: Option<Final>,
    pub(super) owed: Owed,
}

/// Works until the channel is closed and empty. A panic loses the jobs in hand (which are answered so) and is
/// counted; the worker goes on.
pub(super) fn work(receiver: &Receiver<Work>, workers: usize, panics: &AtomicUsize) {
    while let Ok(first) = receiver.recv() {
        // A share only: the other workers are awake or about to be.
        let share = (receiver.len() / workers).min(MOST_TOGETHER - 1);
        let batch: Vec<Work> = std::iter::once(first).chain(receiver.try_iter().take(share)).collect();
        if catch_unwind(AssertUnwindSafe(|| process(batch))).is_err() {
            panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a hash worker panicked; its pieces are downloaded again");
        }
    }
}

fn process(batch: Vec<Work>) {
    let mut hashing = Vec::with_capacity(batch.len());
    let mut running = Vec::new();
    for work in batch {
        match work {
            Work::Hash(job) => hashing.push(job),
            Work::Run(run) => running.push(run),
        }
    }
    let mut streams: Vec<_> = hashing.iter_mut().map(|job| (&mut job.state, job.data.as_slice())).collect();
    update_many(&mut streams);
    for job in hashing {
        finish(job);
    }
    for run in running {
        run();
    }
}

fn finish(job: Hashing) {
    let Hashing { state, data, last, owed } = job;
    drop(data);
    let outcome = match last {
        None => Outcome::Partial(state),
        Some(last) => judge(last, &state.finish()),
    };
    owed.answer(outcome);
}

fn judge(last: Final, digest: &Sha1Digest) -> Outcome {
    let Some(piece) = Verified::by_digest(last.piece, last.whole.clone(), digest, &last.expected) else {
        return Outcome::Bad { digests: block_digests(&last.whole), data: last.whole };
    };
    let digests = last.want_digests.then(|| block_digests(&last.whole));
    let written = last.write.map(|job| write(&job, &piece));
    Outcome::Good { piece, digests, written }
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
