//! Messages that arrive in parts: what is buffered, and the padding at the end. Does not own the compression.

use std::fmt;

use crate::kernel::{Compress, Kernel};
use crate::{BLOCK_BYTES, Sha1Digest, Sha256Digest, scalar};

/// A message of which a part has been hashed. `W` is the number of words of the algorithm's state.
#[derive(Clone)]
struct Stream<const W: usize> {
    words: [u32; W],
    /// The first `len % 64` bytes are waiting for the rest of their block.
    tail: [u8; BLOCK_BYTES],
    /// Bytes fed so far.
    len: u64,
    compress: Compress<W>,
}

impl<const W: usize> Stream<W> {
    fn new(init: [u32; W], compress: Compress<W>) -> Self {
        Self { words: init, tail: [0; BLOCK_BYTES], len: 0, compress }
    }

    fn update(&mut self, bytes: &[u8]) {
        let bytes = self.fill_tail(bytes);
        let (blocks, rest) = bytes.as_chunks();
        if !blocks.is_empty() {
            (self.compress)(&mut self.words, blocks);
            self.len += bytes.len() as u64 - rest.len() as u64;
        }
        if !rest.is_empty() {
            self.tail[..rest.len()].copy_from_slice(rest);
            self.len += rest.len() as u64;
        }
    }

    /// Completes a block that was begun, and returns what is left. Where something is left, the tail is empty.
    fn fill_tail<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let waiting = self.waiting();
        if waiting == 0 {
            return bytes;
        }
        let (head, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - waiting));
        self.tail[waiting..waiting + head.len()].copy_from_slice(head);
        self.len += head.len() as u64;
        if waiting + head.len() == BLOCK_BYTES {
            (self.compress)(&mut self.words, &[self.tail]);
        }
        rest
    }

    /// Pads (FIPS 180-4, 5.1.1) and returns the final state.
    fn finish(mut self) -> [u32; W] {
        let bits = self.len.wrapping_mul(8);
        let waiting = self.waiting();
        let mut last = [[0; BLOCK_BYTES]; 2];
        last[0][..waiting].copy_from_slice(&self.tail[..waiting]);
        last[0][waiting] = 0x80;
        // The length takes eight bytes; where they do not fit, there is one block more.
        let count = if waiting < BLOCK_BYTES - 8 { 1 } else { 2 };
        last[count - 1][BLOCK_BYTES - 8..].copy_from_slice(&bits.to_be_bytes());
        (self.compress)(&mut self.words, &last[..count]);
        self.words
    }

    fn waiting(&self) -> usize {
        (self.len % BLOCK_BYTES as u64) as usize
    }
}

/// The state of a SHA-1 digest in the making. Clone it to keep a point to return to.
#[derive(Clone)]
pub struct Sha1State(Stream<5>);

impl Sha1State {
    /// The state of the empty message, hashed with this process's kernel.
    pub fn new() -> Self {
        Self::with_kernel(Kernel::current())
    }

    /// As [`new`](Self::new) with a kernel of the caller's choice.
    pub fn with_kernel(kernel: Kernel) -> Self {
        Self(Stream::new(scalar::SHA1_INIT, kernel.sha1()))
    }

    /// Takes in the next bytes of the message. Multiples of 64 bytes avoid a copy.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Sha1Digest {
        let mut digest = [0; 20];
        write_words(&self.0.finish(), &mut digest);
        digest
    }

    /// Bytes taken in so far.
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
    /// The state of the empty message, hashed with this process's kernel.
    pub fn new() -> Self {
        Self::with_kernel(Kernel::current())
    }

    /// As [`new`](Self::new) with a kernel of the caller's choice.
    pub fn with_kernel(kernel: Kernel) -> Self {
        Self(Stream::new(scalar::SHA256_INIT, kernel.sha256()))
    }

    /// Takes in the next bytes of the message. Multiples of 64 bytes avoid a copy.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Sha256Digest {
        let mut digest = [0; 32];
        write_words(&self.0.finish(), &mut digest);
        digest
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

fn write_words(words: &[u32], digest: &mut [u8]) {
    for (out, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *out = word.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KERNELS: [Kernel; 3] = [Kernel::Scalar, Kernel::Asm, Kernel::Crate];

    fn sha1_in_parts(kernel: Kernel, message: &[u8], part: usize) -> Sha1Digest {
        let mut state = Sha1State::with_kernel(kernel);
        message.chunks(part).for_each(|part| state.update(part));
        state.finish()
    }

    fn sha256_in_parts(kernel: Kernel, message: &[u8], part: usize) -> Sha256Digest {
        let mut state = Sha256State::with_kernel(kernel);
        message.chunks(part).for_each(|part| state.update(part));
        state.finish()
    }

    /// All lengths up to four blocks, at several splits, on every kernel.
    #[test]
    fn every_length_and_kernel_equals_the_oracle() {
        let data: Vec<u8> = (0..4 * BLOCK_BYTES + 1).map(|i| (i * 131 + 7) as u8).collect();
        for kernel in KERNELS {
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
            for kernel in KERNELS {
                let mut sha1 = Sha1State::with_kernel(kernel);
                let mut sha256 = Sha256State::with_kernel(kernel);
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
