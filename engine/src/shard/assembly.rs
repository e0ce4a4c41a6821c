//! The bytes of a piece on its way: the buffer, which blocks are in it, and how far it is hashed. A long piece is
//! hashed as it arrives, while its bytes are in the cache.

use std::ops::Range;

use ringtide_hasher::Sha1State;
use ringtide_proto::layout::{PieceIndex, PieceLayout};

use crate::storage::{BUFFER_ALIGN, BufferPool, FrozenRange, PieceBuffer};

/// Bytes that are worth a hash job of their own. Steps of several pieces that arrive side by side are hashed together,
/// where whole pieces would come too far apart: with 4 MiB pieces from 32 slow seeds, 0.46 CPU-seconds per GB by steps and
/// 0.61 by pieces. From one fast seed, steps and pieces of 4 and 16 MiB cost the same, within the noise of about 12 %; steps
/// of 256 KiB gain nothing, as they cut pieces of 1 MiB into unequal lanes.
const STEP: usize = 1 << 20;

/// A piece on its way.
pub(crate) struct Assembly {
    /// Tells this try of the piece from earlier ones, whose hash jobs may still be answered.
    pub(super) generation: u32,
    buffer: PieceBuffer,
    /// Which blocks are in the buffer.
    here: Vec<bool>,
    /// Blocks from the start without a gap.
    prefix: usize,
    block_len: usize,
    /// Bytes that were given to hash jobs.
    submitted: usize,
    /// The state behind `submitted` bytes; none while a job has it.
    state: Option<Sha1State>,
    /// Every block is here: the next job is the last.
    whole: bool,
    /// The digest of each block is needed, too.
    pub(super) wants_digests: bool,
}

/// What a hash worker is to do next for a piece.
pub(super) enum NextJob {
    /// Nothing: a job is under way, or there is too little.
    None,
    /// These bytes.
    Step(Sha1State, FrozenRange),
    /// These bytes, which are the last, of this piece.
    Final(Sha1State, FrozenRange, FrozenRange),
}

/// Memory for a piece. The pool holds twice what the budget leases, so that it has some for whoever leased it; but where
/// receives keep what they may still be writing, there may be less for a moment.
pub(super) fn take_buffer(pool: &BufferPool, len: usize) -> PieceBuffer {
    let apart = || BufferPool::new(len.next_multiple_of(BUFFER_ALIGN)).try_take(len);
    pool.try_take(len).or_else(apart).expect("a pool of its own has room for one")
}

impl Assembly {
    pub(super) fn new(buffer: PieceBuffer, generation: u32, piece: PieceIndex, layout: &PieceLayout) -> Self {
        Self {
            generation,
            buffer,
            here: vec![false; layout.block_count(piece) as usize],
            prefix: 0,
            block_len: layout.block_len() as usize,
            submitted: 0,
            state: Some(Sha1State::new()),
            whole: false,
            wants_digests: false,
        }
    }

    /// Stores a part of a block. Where another receive may be writing these bytes, the buffer is left to it; whether that
    /// was so.
    pub(super) fn store(&mut self, offset: usize, bytes: &[u8], pool: &BufferPool) -> bool {
        let meets = self.buffer.is_landing(&(offset..offset + bytes.len()));
        if meets {
            self.leave_to_landings(pool);
        }
        self.buffer.write(offset, bytes);
        meets
    }

    /// The buffer, to receive into.
    pub(super) fn buffer(&mut self) -> &mut PieceBuffer {
        &mut self.buffer
    }

    /// Whether a receive may be writing some of it.
    pub(super) fn is_landing(&self) -> bool {
        self.buffer.is_landing(&(0..self.buffer.len()))
    }

    /// Receives that are under way keep the memory, and what is here moves.
    pub(super) fn leave_to_landings(&mut self, pool: &BufferPool) {
        self.buffer.leave_to_landings(take_buffer(pool, self.buffer.len()));
    }

    /// The block is in the buffer.
    pub(super) fn finish_block(&mut self, number: u32) {
        self.here[number as usize] = true;
        while self.here.get(self.prefix).is_some_and(|&here| here) {
            self.prefix += 1;
        }
    }

    /// Every block is here.
    pub(super) fn finish(&mut self) {
        self.whole = true;
    }

    /// A hash job gave the state back.
    pub(super) fn resume(&mut self, state: Sha1State) {
        self.state = Some(state);
    }

    /// The piece goes to another shard, where hashing begins anew: a job of ours may be under way.
    pub(super) fn hand_over(&mut self, generation: u32) {
        (self.generation, self.submitted, self.state) = (generation, 0, Some(Sha1State::new()));
    }

    /// What to hash now.
    pub(super) fn next_job(&mut self) -> NextJob {
        let ready = if self.whole {
            self.buffer.len()
        } else {
            (self.prefix * self.block_len).min(self.buffer.len())
        };
        let worth = self.whole || ready - self.submitted >= STEP && self.buffer.len() > STEP;
        if !worth {
            return NextJob::None;
        }
        let Some(state) = self.state.take() else { return NextJob::None };
        let frozen = self.buffer.freeze_to(ready);
        let range: Range<usize> = self.submitted..ready;
        self.submitted = ready;
        let data = frozen.slice(range);
        if self.whole { NextJob::Final(state, data, frozen) } else { NextJob::Step(state, data) }
    }
}
