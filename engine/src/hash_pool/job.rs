//! `HashJob` and `HashDone`: what the hash workers are asked and what they answer.

use std::fmt;
use std::sync::Arc;

use ringtide_hasher::{Sha1Digest, Sha1State};
use ringtide_proto::layout::PieceIndex;

use super::answer::Reply;
use crate::storage::{DirectWrite, FrozenRange, Storage, StorageError, Verified};

/// Feed `data` to `state`; with `last`, finish and judge the piece.
pub struct HashJob {
    /// Comes back with the answer; means nothing here.
    pub key: u64,
    /// What came before `data`.
    pub state: Sha1State,
    /// The next bytes of the piece.
    pub data: FrozenRange,
    /// For the job that holds the piece's last bytes.
    pub last: Option<Final>,
    /// Whether it waits for no others: somebody waits for it. It still joins those that wait.
    pub urgent: bool,
    /// Where the answer goes.
    pub reply: Reply,
}

/// How a piece is judged, and what is done with it.
pub struct Final {
    /// Which piece.
    pub piece: PieceIndex,
    /// All of its bytes.
    pub whole: FrozenRange,
    /// What the torrent states.
    pub expected: Sha1Digest,
    /// Whether a good piece's blocks are hashed too: it was bad before, and now it shows which blocks were.
    pub want_digests: bool,
    /// Where a good piece is written; `None` leaves it in memory.
    pub write: Option<WriteJob>,
}

/// Write the piece once it is verified.
pub struct WriteJob {
    /// The torrent's files.
    pub storage: Arc<Storage>,
    /// Who does the writes that go past the page cache.
    pub direct_by: DirectBy,
}

/// Who does the writes that go past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectBy {
    /// Whoever gets the answer, with its own driver.
    Caller,
    /// The hash worker, with blocking system calls: for drivers that would do no better.
    Worker,
}

/// The answer to a [`HashJob`].
#[derive(Debug)]
pub struct HashDone {
    /// The job's key.
    pub key: u64,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of a [`HashJob`].
pub enum Outcome {
    /// The job was not the last: the state for the next one.
    Partial(Sha1State),
    /// The piece is what the torrent states.
    Good {
        /// The piece, with its bytes.
        piece: Verified,
        /// Per block of 16 KiB, when that was wanted.
        digests: Option<Box<[Sha1Digest]>>,
        /// When it was to be written: how that went, and the direct writes that the caller has to do before
        /// the piece is on disk (none when there is nothing left to do).
        written: Option<Result<Vec<DirectWrite>, StorageError>>,
    },
    /// The piece is not what the torrent states.
    Bad {
        /// The wrong bytes.
        data: FrozenRange,
        /// Per block of 16 KiB, to find out later which were wrong.
        digests: Box<[Sha1Digest]>,
    },
    /// The worker failed, or the pool ended before the job's turn: nothing is known about the piece.
    Lost,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Partial(state) => write!(f, "Partial({} bytes)", state.message_len()),
            Outcome::Good { piece, written, .. } => write!(f, "Good({:?}, {written:?})", piece.piece()),
            Outcome::Bad { data, .. } => write!(f, "Bad({data:?})"),
            Outcome::Lost => f.write_str("Lost"),
        }
    }
}
