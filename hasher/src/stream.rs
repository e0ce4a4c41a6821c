//! Messages that arrive in parts: what is buffered, and the padding at the end. Does not own the compression.

use std::fmt;

use crate::batch::{Job, hash_all};
use crate::kernel::Kernel;
use crate::pass::{Block, Pass};
use crate::plan::Plan;
use crate::{BLOCK_BYTES, Dispatcher, Sha1Digest, Sha256Digest, scalar};

/// A message of which a part has been hashed. `W` is the number of words of the algorithm's state.
#[derive(Clone)]
struct Stream<const W: usize> {
    words: [u32; W],
    /// The first `len % 64` bytes are waiting for the rest of their block.
    tail: Block,
    /// Bytes fed so far.
    len: u64,
    pass: Pass<W>,
}

impl<const W: usize> Stream<W> {
    fn new(init: [u32; W], pass: Pass<W>) -> Self {
        Self { words: init, tail: [0; BLOCK_BYTES], len: 0, pass }
    }

    fn update(&mut self, bytes: &[u8]) {
        let pass = self.pass;
        let Part { words, blocks } = self.take_in(bytes);
        if !blocks.is_empty() {
            pass.run_one(words, blocks);
        }
    }

    /// Takes in the bytes, but for whole blocks among them, which the caller has to hash.
    fn take_in<'s>(&'s mut self, bytes: &'s [u8]) -> Part<'s, W> {
        let waiting = self.waiting();
        self.len += bytes.len() as u64;
        let (blocks, rest) = self.fill_tail(waiting, bytes).as_chunks();
        // Where a block is still incomplete, nothing is left: the tail is not overwritten.
        self.tail[..rest.len()].copy_from_slice(rest);
        Part { words: &mut self.words, blocks }
    }

    /// Completes a block of which `waiting` bytes are there, and returns what is left of the bytes.
    fn fill_tail<'b>(&mut self, waiting: usize, bytes: &'b [u8]) -> &'b [u8] {
        if waiting == 0 {
            return bytes;
        }
        let (head, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - waiting));
        self.tail[waiting..waiting + head.len()].copy_from_slice(head);
        if waiting + head.len() == BLOCK_BYTES {
            self.pass.run_one(&mut self.words, &[self.tail]);
        }
        rest
    }

    fn finish(mut self) -> [u32; W] {
        let last = Last::of(&self.tail[..self.waiting()], self.len);
        self.pass.run_one(&mut self.words, last.blocks());
        self.words
    }

    fn waiting(&self) -> usize {
        (self.len % BLOCK_BYTES as u64) as usize
    }
}

/// Whole blocks that are to be taken into the state of a stream.
#[must_use = "its blocks are not hashed yet"]
struct Part<'s, const W: usize> {
    words: &'s mut [u32; W],
    blocks: &'s [Block],
}

impl<const W: usize> Job<W> for Part<'_, W> {
    fn words(&mut self) -> &mut [u32; W] {
        self.words
    }

    fn blocks(&self) -> &[Block] {
        self.blocks
    }

    fn advance(&mut self, count: usize) {
        self.blocks = &self.blocks[count..];
    }
}

/// The end of a message with its padding (FIPS 180-4, 5.1.1).
struct Last {
    blocks: [Block; 2],
    /// The length takes eight bytes; where they do not fit into the first block, there are two.
    count: usize,
    hashed: usize,
}

impl Last {
    /// `rest` is what is left of a message of `len` bytes behind its whole blocks.
    fn of(rest: &[u8], len: u64) -> Self {
        let mut blocks = [[0; BLOCK_BYTES]; 2];
        blocks[0][..rest.len()].copy_from_slice(rest);
        blocks[0][rest.len()] = 0x80;
        let count = if rest.len() < BLOCK_BYTES - 8 { 1 } else { 2 };
        // Wraps for messages that FIPS 180-4 does not allow, and nobody can feed.
        blocks[count - 1][BLOCK_BYTES - 8..].copy_from_slice(&len.wrapping_mul(8).to_be_bytes());
        Self { blocks, count, hashed: 0 }
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks[self.hashed..self.count]
    }
}

/// A whole message, or the end of one.
struct Message<'m, const W: usize> {
    index: usize,
    words: [u32; W],
    /// Its whole blocks, hashed before `last`.
    body: &'m [Block],
    last: Last,
}

impl<'m, const W: usize> Message<'m, W> {
    fn whole(index: usize, init: [u32; W], bytes: &'m [u8]) -> Self {
        let (body, rest) = bytes.as_chunks();
        Self { index, words: init, body, last: Last::of(rest, bytes.len() as u64) }
    }

    fn end_of(index: usize, stream: &Stream<W>) -> Self {
        let last = Last::of(&stream.tail[..stream.waiting()], stream.len);
        Self { index, words: stream.words, body: &[], last }
    }
}

impl<const W: usize> Job<W> for Message<'_, W> {
    fn words(&mut self) -> &mut [u32; W] {
        &mut self.words
    }

    fn blocks(&self) -> &[Block] {
        if self.body.is_empty() { self.last.blocks() } else { self.body }
    }

    fn advance(&mut self, count: usize) {
        if self.body.is_empty() { self.last.hashed += count } else { self.body = &self.body[count..] }
    }
}

/// Hashes whole messages and tells the final state of each, in any order.
fn many<'m, const W: usize>(
    plan: &Plan<W>,
    init: [u32; W],
    messages: impl Iterator<Item = &'m [u8]>,
    mut done: impl FnMut(usize, &[u32; W]),
) {
    let messages = messages.enumerate().map(|(index, bytes)| Message::whole(index, init, bytes));
    hash_all(plan, messages, |message| done(message.index, &message.words));
}

impl Dispatcher {
    /// The SHA-1 digests of the messages; `out[i]` becomes that of message `i`.
    ///
    /// # Panics
    /// When there are more messages than places for digests.
    pub(crate) fn sha1_each<'m>(&self, messages: impl Iterator<Item = &'m [u8]>, out: &mut [Sha1Digest]) {
        many(&self.sha1, scalar::SHA1_INIT, messages, |i, words| out[i] = sha1_digest(words));
    }

    /// The SHA-256 digests of the messages; `out[i]` becomes that of message `i`.
    ///
    /// # Panics
    /// When there are more messages than places for digests.
    pub(crate) fn sha256_each<'m>(&self, messages: impl Iterator<Item = &'m [u8]>, out: &mut [Sha256Digest]) {
        many(&self.sha256, scalar::SHA256_INIT, messages, |i, words| out[i] = sha256_digest(words));
    }

    /// As [`sha1_verify_many`](crate::sha1_verify_many), by this dispatcher's kernels.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn sha1_verify_many(&self, messages: &[&[u8]], expected: &[Sha1Digest], good: &mut [bool]) {
        assert_eq!(messages.len(), expected.len(), "one digest per message");
        assert_eq!(messages.len(), good.len(), "one answer per message");
        let compare = |i: usize, words: &[u32; 5]| good[i] = sha1_digest(words) == expected[i];
        many(&self.sha1, scalar::SHA1_INIT, messages.iter().copied(), compare);
    }

    /// As [`update_many`](crate::update_many), by this dispatcher's kernels; only a block that was begun earlier is completed by
    /// its state's own.
    pub fn update_many(&self, streams: &mut [(&mut Sha1State, &[u8])]) {
        let parts = streams.iter_mut().map(|(state, bytes)| state.0.take_in(bytes));
        hash_all(&self.sha1, parts, drop);
    }

    /// As [`finish_many`](crate::finish_many), by this dispatcher's kernels.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn finish_many(&self, states: &[&Sha1State], out: &mut [Sha1Digest]) {
        assert_eq!(states.len(), out.len(), "one digest per state");
        let ends = states.iter().enumerate().map(|(index, state)| Message::end_of(index, &state.0));
        hash_all(&self.sha1, ends, |done| out[done.index] = sha1_digest(&done.words));
    }
}

/// The state of a SHA-1 digest in the making. Clone it to keep a point to return to.
#[derive(Clone)]
pub struct Sha1State(Stream<5>);

impl Sha1State {
    /// The state of the empty message, hashed with the best kernel for one message.
    pub fn new() -> Self {
        Self(Stream::new(scalar::SHA1_INIT, *Dispatcher::current().sha1.one()))
    }

    /// As [`new`](Self::new) with a kernel of the caller's choice, for tests and measurements: one of many lanes leaves all
    /// but one idle. `None` where this CPU cannot run it.
    #[must_use]
    pub fn with_kernel(kernel: Kernel) -> Option<Self> {
        Some(Self(Stream::new(scalar::SHA1_INIT, kernel.passes()?.sha1)))
    }

    /// Takes in the next bytes of the message, whose length is to stay below 2^61 bytes (FIPS 180-4). Multiples of 64 bytes
    /// avoid a copy.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> Sha1Digest {
        sha1_digest(&self.0.finish())
    }

    /// Bytes taken in so far.
    #[must_use]
    pub fn message_len(&self) -> u64 {
        self.0.len
    }
}

impl Default for Sha1State {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sha1State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1State({} bytes)", self.0.len)
    }
}

/// The state of a SHA-256 digest in the making.
#[derive(Clone)]
pub struct Sha256State(Stream<8>);

impl Sha256State {
    /// The state of the empty message, hashed with the best kernel for one message.
    pub fn new() -> Self {
        Self(Stream::new(scalar::SHA256_INIT, *Dispatcher::current().sha256.one()))
    }

    /// As [`new`](Self::new) with a kernel of the caller's choice, for tests and measurements: one of many lanes leaves all
    /// but one idle. `None` where this CPU cannot run it.
    #[must_use]
    pub fn with_kernel(kernel: Kernel) -> Option<Self> {
        Some(Self(Stream::new(scalar::SHA256_INIT, kernel.passes()?.sha256)))
    }

    /// Takes in the next bytes of the message, whose length is to stay below 2^61 bytes (FIPS 180-4). Multiples of 64 bytes
    /// avoid a copy.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> Sha256Digest {
        sha256_digest(&self.0.finish())
    }
}

impl Default for Sha256State {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sha256State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256State({} bytes)", self.0.len)
    }
}

fn sha1_digest(words: &[u32; 5]) -> Sha1Digest {
    let mut digest = [0; 20];
    scalar::write_words(words, &mut digest);
    digest
}

fn sha256_digest(words: &[u32; 8]) -> Sha256Digest {
    let mut digest = [0; 32];
    scalar::write_words(words, &mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sha1_in_parts(kernel: Kernel, message: &[u8], part: usize) -> Sha1Digest {
        let mut state = Sha1State::with_kernel(kernel).expect("it is available");
        message.chunks(part).for_each(|part| state.update(part));
        state.finish()
    }

    fn sha256_in_parts(kernel: Kernel, message: &[u8], part: usize) -> Sha256Digest {
        let mut state = Sha256State::with_kernel(kernel).expect("it is available");
        message.chunks(part).for_each(|part| state.update(part));
        state.finish()
    }

    /// All lengths up to four blocks, at several splits, on every kernel.
    #[test]
    fn every_length_and_kernel_equals_the_oracle() {
        let data: Vec<u8> = (0..4 * BLOCK_BYTES + 1).map(|i| (i * 131 + 7) as u8).collect();
        for kernel in Kernel::available() {
            for len in 0..=4 * BLOCK_BYTES {
                let message = &data[..len];
                for part in [1, 13, 63, 64, 65, 128, 1000] {
                    assert_eq!(
                        sha1_in_parts(kernel, message, part),
                        scalar::sha1(message),
                        "{kernel} {len} {part}"
                    );
                    let expected = scalar::sha256(message);
                    assert_eq!(sha256_in_parts(kernel, message, part), expected, "{kernel} {len} {part}");
                }
            }
        }
    }

    #[test]
    fn a_clone_is_a_point_to_return_to() {
        let mut state = Sha1State::new();
        state.update(b"common ");
        let mut other = state.clone();
        state.update(b"one");
        other.update(b"two");
        assert_eq!(state.message_len(), 10);
        assert_eq!(state.finish(), scalar::sha1(b"common one"));
        assert_eq!(other.finish(), scalar::sha1(b"common two"));
    }

    #[test]
    fn states_may_cross_threads() {
        fn is_send<T: Send + Clone>() {}
        is_send::<Sha1State>();
        is_send::<Sha256State>();
    }

    proptest! {
        #[test]
        fn random_messages_at_random_splits_and_alignments(
            data in prop::collection::vec(any::<u8>(), 0..4000),
            skip in 0usize..70,
            splits in prop::collection::vec(0usize..300, 0..20),
        ) {
            let message = &data[skip.min(data.len())..];
            for kernel in Kernel::available() {
                let mut sha1 = Sha1State::with_kernel(kernel).expect("it is available");
                let mut sha256 = Sha256State::with_kernel(kernel).expect("it is available");
                let mut rest = message;
                for split in &splits {
                    let (part, after) = rest.split_at((*split).min(rest.len()));
                    sha1.update(part);
                    sha256.update(part);
                    rest = after;
                }
                sha1.update(rest);
                sha256.update(rest);
                prop_assert_eq!(sha1.finish(), scalar::sha1(message));
                prop_assert_eq!(sha256.finish(), scalar::sha256(message));
            }
        }
    }
}
