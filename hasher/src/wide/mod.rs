//! Kernels that hash one message in each lane of a vector register, all in step.
//!
//! Owns the vector operations that SHA-1 and SHA-256 need ([`Vector`]), and the way from the states of messages to
//! registers and back. `sha1` and `sha256` are the rounds, written once; `avx2` and `avx512` are the instructions, and
//! `pair` makes two registers of one, for more work that does not wait for itself.

/// The loop over the blocks of all lanes, which both algorithms have in common: `$early` rounds, then eight pairs of rounds.
///
/// The words of the next block are gathered between those pairs, which would otherwise leave the ports that move words
/// between lanes idle, and then wait for them. Expands in an `unsafe fn` that promises `$blocks` blocks in each lane and the
/// instructions of `V`, and calls `round::<V, T>` of its module.
macro_rules! compress {
    ($state:ident, $lanes:ident, $blocks:ident; $($early:literal)*; $($step:literal: $first:literal $second:literal),*) => {
        if $blocks == 0 {
            return;
        }
        // SAFETY: there is a first block.
        let mut w = unsafe { V::gather($lanes, 0) };
        for block in 0..$blocks {
            // The last block is gathered once more, for nothing: one transposition for each run of a kernel.
            let offset = (block + 1).min($blocks - 1) * 64;
            let before = *$state;
            // Every word is overwritten.
            let mut next = w;
            $( round::<V, $early>($state, &mut w); )*
            $(
                // SAFETY: `offset` is that of one of the `$blocks`.
                unsafe { V::gather_step::<$step>($lanes, offset, &mut next) };
                round::<V, $first>($state, &mut w);
                round::<V, $second>($state, &mut w);
            )*
            w = next;
            for (word, before) in $state.iter_mut().zip(before) {
                *word = word.add(before);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pair;
#[cfg(test)]
mod portable;
mod sha1;
mod sha256;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{sha1_avx2_x8, sha256_avx2_x8};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{sha1_avx512_x16, sha1_avx512_x32, sha256_avx512_x16, sha256_avx512_x32};

use crate::pass::{LaneWords, Lanes};

/// A vector of 32-bit words: word `i` belongs to message `i`.
///
/// Whoever makes one answers for the CPU having its instructions; that there is one is then the proof of it, which makes the
/// other methods safe. All of them must be inlined into a function that has the instructions.
trait Vector: Copy {
    /// How many words it holds.
    const LANES: usize;

    /// The same word for every message.
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn splat(word: u32) -> Self;
    /// Word by word.
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn load(words: &[u32]) -> Self;
    /// Word by word.
    fn store(self, words: &mut [u32]);
    /// Modulo 2^32.
    fn add(self, other: Self) -> Self;
    /// As [`add`](Self::add), but a sum that the compiler will not take apart. Free to reorder, it moves the slowest
    /// operand of the longest chain to the front.
    fn add_in_order(self, other: Self) -> Self;
    /// Each word by itself.
    fn rotate_left<const BITS: i32>(self) -> Self;
    /// Each word by itself.
    fn rotate_right<const BITS: i32>(self) -> Self;
    /// Each word by itself, with zeros.
    fn shift_right<const BITS: u32>(self) -> Self;
    /// `a ^ b`.
    fn xor(self, other: Self) -> Self;
    /// `a ^ b ^ c`.
    fn xor3(a: Self, b: Self, c: Self) -> Self;
    /// Bits of `b` where `a` has ones, of `c` where it has zeros.
    fn choose(a: Self, b: Self, c: Self) -> Self;
    /// The bits that at least two of them have.
    fn majority(a: Self, b: Self, c: Self) -> Self;

    /// One of eight steps, in order, that make `into` the sixteen big-endian words at `offset` of each lane: the first words
    /// of all messages, the second ones, and so on.
    ///
    /// # Safety
    /// The CPU has the instructions; `lanes` has [`Self::LANES`] pointers, and behind each 64 bytes from `offset` on can be
    /// read.
    unsafe fn gather_step<const STEP: usize>(lanes: &[*const u8], offset: usize, into: &mut [Self; 16]);

    /// All steps at once.
    ///
    /// # Safety
    /// As [`gather_step`](Self::gather_step).
    #[inline(always)]
    unsafe fn gather(lanes: &[*const u8], offset: usize) -> [Self; 16] {
        // SAFETY: passed on.
        unsafe {
            let mut words = [Self::splat(0); 16];
            Self::gather_step::<0>(lanes, offset, &mut words);
            Self::gather_step::<1>(lanes, offset, &mut words);
            Self::gather_step::<2>(lanes, offset, &mut words);
            Self::gather_step::<3>(lanes, offset, &mut words);
            Self::gather_step::<4>(lanes, offset, &mut words);
            Self::gather_step::<5>(lanes, offset, &mut words);
            Self::gather_step::<6>(lanes, offset, &mut words);
            Self::gather_step::<7>(lanes, offset, &mut words);
            words
        }
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn load_state<V: Vector, const W: usize>(words: &LaneWords<W>) -> [V; W] {
    // SAFETY: passed on.
    unsafe {
        let mut state = [V::splat(0); W];
        for (vector, words) in state.iter_mut().zip(words) {
            *vector = V::load(&words[..V::LANES]);
        }
        state
    }
}

#[inline(always)]
fn store_state<V: Vector, const W: usize>(state: [V; W], words: &mut LaneWords<W>) {
    for (vector, words) in state.into_iter().zip(words) {
        vector.store(&mut words[..V::LANES]);
    }
}

/// Takes `blocks` blocks of each lane into its state with SHA-1.
///
/// # Safety
/// The first [`Vector::LANES`] lanes have that many blocks, and the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn sha1_lanes<V: Vector>(words: &mut LaneWords<5>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe {
        let mut state = load_state::<V, 5>(words);
        sha1::compress::<V>(&mut state, &lanes[..V::LANES], blocks);
        store_state(state, words);
    }
}

/// Takes `blocks` blocks of each lane into its state with SHA-256.
///
/// # Safety
/// The first [`Vector::LANES`] lanes have that many blocks, and the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn sha256_lanes<V: Vector>(words: &mut LaneWords<8>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe {
        let mut state = load_state::<V, 8>(words);
        sha256::compress::<V>(&mut state, &lanes[..V::LANES], blocks);
        store_state(state, words);
    }
}

#[cfg(test)]
mod tests {
    use super::pair::Pair;
    use super::portable::Words4;
    use super::*;
    use crate::pass::{MAX_LANES, ManyLanes, Pass};
    use crate::{Kernel, scalar};

    /// Three blocks in each lane, at an odd address.
    fn check<const W: usize>(
        init: [u32; W],
        lanes: usize,
        run: ManyLanes<W>,
        oracle: fn(&mut [u32; W], &[[u8; 64]]),
    ) {
        // SAFETY: `run` is made of arrays of words, of as many lanes as is said.
        let pass = unsafe { Pass::many(Kernel::Scalar, lanes, run) };
        let bytes: Vec<u8> = (0..lanes * 200 + 1).map(|i| (i * 131 % 251) as u8).collect();
        let messages: Vec<&[[u8; 64]]> =
            (0..lanes).map(|lane| &bytes[1 + lane * 200..].as_chunks().0[..3]).collect();
        // Miri takes seconds for each.
        for busy in (1..=lanes).filter(|&busy| !cfg!(miri) || busy == lanes - 1) {
            let mut words = [init; MAX_LANES];
            pass.run(&mut words[..busy], &messages[..busy], 3);
            for (words, message) in words.iter().zip(&messages[..busy]) {
                let mut expected = init;
                oracle(&mut expected, message);
                assert_eq!(*words, expected);
            }
        }
    }

    #[test]
    fn the_rounds_in_plain_rust_equal_the_oracle() {
        check(scalar::SHA1_INIT, 4, sha1_lanes::<Words4>, scalar::sha1_compress);
        check(scalar::SHA1_INIT, 8, sha1_lanes::<Pair<Words4>>, scalar::sha1_compress);
        check(scalar::SHA256_INIT, 4, sha256_lanes::<Words4>, scalar::sha256_compress);
        check(scalar::SHA256_INIT, 8, sha256_lanes::<Pair<Words4>>, scalar::sha256_compress);
    }
}
