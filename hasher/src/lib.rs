//! SHA-1 and SHA-256 for many messages at once, and the merkle trees of BEP 52.
//!
//! ```
//! let messages: [&[u8]; 2] = [b"abc", b"the second of many"];
//! let mut digests = [ringtide_hasher::Sha1Digest::default(); 2];
//! ringtide_hasher::sha1_many(&messages, &mut digests);
//! # assert_eq!(digests[0][..4], [0xa9, 0x99, 0x3e, 0x36]);
//! ```
//!
//! The crate stands by itself: it knows nothing of BitTorrent but those trees.
//!
//! Instructions of one message wait for one another; those of several messages do not, in the lanes of AVX-512 or AVX2
//! registers or in turns on SHA-NI. A core of a Zen 4 hashes four messages at 2.4 times the speed of one and sixteen at 3.8 times
//! (SHA-1; 2.1 times with SHA-256). So hand over many messages together, best sixteen or thirty-two of equal length. After
//! the first call, nothing is allocated but the vectors that some functions return. A message that arrives in parts is fed
//! to a [`Sha1State`]; several of those are fed together by [`update_many`], and the trees of BEP 52 are in [`merkle`].
//!
//! Which code does the work is found at the first call by timing the [`Kernel`]s that the CPU can run, but for the oracle;
//! `RINGTIDE_KERNEL` in the environment restricts them to those it names ([`Dispatcher`]). On x86-64 a C compiler is needed
//! to build `sha1-asm`.
//!
//! This file owns the public calls. `kernel` lists the code, `pass` gives it one safe shape, `plan` chooses, `dispatch` holds the
//! choice, `batch` puts messages in step, `stream` owns buffering and padding, `merkle` the trees; `scalar`, `single`, `sha_ni`
//! and `wide` are the code.

mod batch;
mod dispatch;
mod kernel;
pub mod merkle;
mod pass;
mod plan;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
mod single;
mod stream;
#[cfg(any(target_arch = "x86_64", test))]
mod wide;

pub use dispatch::{Algorithm, Dispatcher, KERNEL_VARIABLE};
pub use kernel::{Kernel, UnknownKernel};
pub use stream::{Sha1State, Sha256State};

/// A SHA-1 digest (FIPS 180-4).
pub type Sha1Digest = [u8; 20];
/// A SHA-256 digest (FIPS 180-4).
pub type Sha256Digest = [u8; 32];

/// Bytes that one compression takes in, for both algorithms. Streams are fastest when fed multiples of it.
pub const BLOCK_BYTES: usize = 64;

/// The SHA-1 digest of one message.
#[must_use]
pub fn sha1(message: &[u8]) -> Sha1Digest {
    let mut state = Sha1State::new();
    state.update(message);
    state.finish()
}

/// The SHA-256 digest of one message.
#[must_use]
pub fn sha256(message: &[u8]) -> Sha256Digest {
    let mut state = Sha256State::new();
    state.update(message);
    state.finish()
}

/// The SHA-1 digests of several messages; `out[i]` becomes that of `messages[i]`. Lengths may differ; equal
/// lengths are the fast case.
///
/// # Panics
/// When the slices differ in length.
pub fn sha1_many(messages: &[&[u8]], out: &mut [Sha1Digest]) {
    Dispatcher::current().sha1_many(messages, out);
}

/// The SHA-256 digests of several messages; `out[i]` becomes that of `messages[i]`.
///
/// # Panics
/// When the slices differ in length.
pub fn sha256_many(messages: &[&[u8]], out: &mut [Sha256Digest]) {
    Dispatcher::current().sha256_many(messages, out);
}

/// Compares messages with a table of digests; `good[i]` becomes whether `messages[i]` has the digest `expected[i]`.
///
/// # Panics
/// When the slices differ in length.
pub fn sha1_verify_many(messages: &[&[u8]], expected: &[Sha1Digest], good: &mut [bool]) {
    Dispatcher::current().sha1_verify_many(messages, expected, good);
}

/// Feeds each stream its next bytes, all of them together: what a hash worker does with the jobs that wait. Multiples of
/// 64 bytes avoid a copy.
pub fn update_many(streams: &mut [(&mut Sha1State, &[u8])]) {
    Dispatcher::current().update_many(streams);
}

/// The digests of several streams as they are; `out[i]` becomes that of `states[i]`.
///
/// # Panics
/// When the slices differ in length.
pub fn finish_many(states: &[&Sha1State], out: &mut [Sha1Digest]) {
    Dispatcher::current().finish_many(states, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_equal_one_by_one() {
        let data: Vec<u8> = (0..2000u32).map(|i| (i * 7 % 251) as u8).collect();
        let messages: Vec<&[u8]> = (0..40).map(|i| &data[i..i + i * 49]).collect();
        let mut sha1s = vec![[0; 20]; messages.len()];
        let mut sha256s = vec![[0; 32]; messages.len()];
        sha1_many(&messages, &mut sha1s);
        sha256_many(&messages, &mut sha256s);
        for (i, message) in messages.iter().enumerate() {
            assert_eq!(sha1s[i], scalar::sha1(message), "message {i}");
            assert_eq!(sha256s[i], scalar::sha256(message), "message {i}");
        }
    }

    #[test]
    fn streams_fed_together_do_not_mix() {
        let (mut a, mut b) = (Sha1State::new(), Sha1State::new());
        update_many(&mut [(&mut a, b"hello ".as_slice()), (&mut b, b"good".as_slice())]);
        update_many(&mut [(&mut b, b"bye".as_slice()), (&mut a, b"world".as_slice())]);
        assert_eq!(a.finish(), scalar::sha1(b"hello world"));
        assert_eq!(b.finish(), scalar::sha1(b"goodbye"));
    }

    #[test]
    fn a_table_tells_the_good_from_the_bad() {
        let messages: [&[u8]; 3] = [b"abc", b"", b"abd"];
        let expected = [scalar::sha1(b"abc"), scalar::sha1(b""), scalar::sha1(b"abc")];
        let mut good = [false, false, true];
        sha1_verify_many(&messages, &expected, &mut good);
        assert_eq!(good, [true, true, false]);
    }

    #[test]
    fn streams_finished_together_equal_the_oracle() {
        let data: Vec<u8> = (0..200u32).map(|i| (i * 7) as u8).collect();
        let mut states = vec![Sha1State::new(); data.len()];
        states.iter_mut().enumerate().for_each(|(len, state)| state.update(&data[..len]));
        let mut digests = vec![[0; 20]; data.len()];
        finish_many(&states.iter().collect::<Vec<_>>(), &mut digests);
        for (len, digest) in digests.iter().enumerate() {
            assert_eq!(*digest, scalar::sha1(&data[..len]), "{len} bytes");
        }
    }

    #[test]
    #[should_panic(expected = "one digest per message")]
    fn a_missing_digest_is_a_bug_of_the_caller() {
        sha1_many(&[b"abc"], &mut []);
    }
}
