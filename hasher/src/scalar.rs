//! The oracle: SHA-1 and SHA-256 written out as FIPS 180-4 states them, with no thought of speed.
//! Every other kernel is tested against it, and it against the standard's examples (`tests/kernels.rs`). Its padding is its
//! own, so that it checks `stream` too.

use crate::{BLOCK_BYTES, Sha1Digest, Sha256Digest};

/// Initial hash value of SHA-1 (FIPS 180-4, 5.3.1).
pub(crate) const SHA1_INIT: [u32; 5] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];

/// Initial hash value of SHA-256 (FIPS 180-4, 5.3.3).
pub(crate) const SHA256_INIT: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Round constants of SHA-256 (FIPS 180-4, 4.2.2).
pub(crate) const SHA256_K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, //
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, //
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, //
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, //
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, //
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, //
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, //
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The SHA-1 digest of a message, which is copied to be padded.
#[must_use]
pub fn sha1(message: &[u8]) -> Sha1Digest {
    let mut state = SHA1_INIT;
    sha1_compress(&mut state, padded(message).as_chunks().0);
    let mut digest = [0; 20];
    write_words(&state, &mut digest);
    digest
}

/// The SHA-256 digest of a message, which is copied to be padded.
#[must_use]
pub fn sha256(message: &[u8]) -> Sha256Digest {
    let mut state = SHA256_INIT;
    sha256_compress(&mut state, padded(message).as_chunks().0);
    let mut digest = [0; 32];
    write_words(&state, &mut digest);
    digest
}

/// The message followed by a one bit, zeros and its length in bits (FIPS 180-4, 5.1.1).
fn padded(message: &[u8]) -> Vec<u8> {
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % BLOCK_BYTES != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    padded
}

pub(crate) fn write_words(words: &[u32], digest: &mut [u8]) {
    for (out, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *out = word.to_be_bytes();
    }
}

/// SHA-1 of whole blocks (FIPS 180-4, 6.1.2).
pub(crate) fn sha1_compress(state: &mut [u32; 5], blocks: &[[u8; BLOCK_BYTES]]) {
    for block in blocks {
        let mut schedule = [0u32; 80];
        read_words(block, &mut schedule);
        for t in 16..80 {
            let mixed = schedule[t - 3] ^ schedule[t - 8] ^ schedule[t - 14] ^ schedule[t - 16];
            schedule[t] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = *state;
        for (t, word) in schedule.into_iter().enumerate() {
            let (f, k) = match t / 20 {
                0 => ((b & c) | (!b & d), 0x5a827999),
                1 => (b ^ c ^ d, 0x6ed9eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1bbcdc_u32),
                _ => (b ^ c ^ d, 0xca62c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        add_words(state, [a, b, c, d, e]);
    }
}

/// SHA-256 of whole blocks (FIPS 180-4, 6.2.2).
pub(crate) fn sha256_compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK_BYTES]]) {
    for block in blocks {
        let mut schedule = [0u32; 64];
        read_words(block, &mut schedule);
        for t in 16..64 {
            let (w2, w15) = (schedule[t - 2], schedule[t - 15]);
            let s1 = w2.rotate_right(17) ^ w2.rotate_right(19) ^ (w2 >> 10);
            let s0 = w15.rotate_right(7) ^ w15.rotate_right(18) ^ (w15 >> 3);
            let sum = s1.wrapping_add(schedule[t - 7]).wrapping_add(s0);
            schedule[t] = sum.wrapping_add(schedule[t - 16]);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for (word, k) in schedule.into_iter().zip(SHA256_K) {
            let sum1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(sum1).wrapping_add(choice).wrapping_add(k).wrapping_add(word);
            let sum0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            let t2 = sum0.wrapping_add(majority);
            (a, b, c, d, e, f, g, h) = (t1.wrapping_add(t2), a, b, c, d.wrapping_add(t1), e, f, g);
        }
        add_words(state, [a, b, c, d, e, f, g, h]);
    }
}

fn read_words(block: &[u8; BLOCK_BYTES], schedule: &mut [u32]) {
    for (word, bytes) in schedule.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
}

fn add_words<const N: usize>(state: &mut [u32; N], working: [u32; N]) {
    for (word, add) in state.iter_mut().zip(working) {
        *word = word.wrapping_add(add);
    }
}
