//! Kernels on SHA-NI: one message, or two to four whose instructions alternate, because each of them alone waits for its
//! own results most of the time.

use std::arch::x86_64::*;

use crate::pass::{LaneWords, Lanes};
use crate::scalar::SHA256_K;

/// Reverses the bytes of each word, in the form that `pshufb` wants.
const REVERSE_WORDS: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
/// Reverses all bytes, and so the words, too.
const REVERSE: [u8; 16] = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];

/// SHA-1 of `N` messages.
///
/// # Safety
/// The CPU has SHA-NI, SSSE3 and SSE4.1; the first `N` lanes have `blocks` blocks.
#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(crate) unsafe fn sha1<const N: usize>(words: &mut LaneWords<5>, lanes: &Lanes, blocks: usize) {
    let zero = _mm_setzero_si128();
    // `a` is the highest word of its register, as the instructions want it.
    let (mut abcd, mut e) = ([zero; N], [zero; N]);
    for i in 0..N {
        abcd[i] = four(words[0][i], words[1][i], words[2][i], words[3][i]);
        e[i] = four(words[4][i], 0, 0, 0);
    }
    // SAFETY: a constant of 16 bytes.
    let reverse = unsafe { _mm_loadu_si128(REVERSE.as_ptr().cast()) };
    for block in 0..blocks {
        let (abcd_before, e_before) = (abcd, e);
        let mut w = [[zero; 4]; N];
        for i in 0..N {
            for (part, words) in w[i].iter_mut().enumerate() {
                // SAFETY: the lane has this block; any alignment will do.
                let loaded = unsafe { _mm_loadu_si128(lanes[i].add(block * 64 + part * 16).cast()) };
                // The first word is to be the highest.
                *words = _mm_shuffle_epi8(loaded, reverse);
            }
        }
        // Four rounds each: what they add is `e` rotated and four words of the schedule.
        macro_rules! four_rounds {
            ($function:literal: $($quad:literal)*) => {$(
                for i in 0..N {
                    if $quad >= 4 {
                        let old = _mm_sha1msg1_epu32(w[i][$quad % 4], w[i][($quad + 1) % 4]);
                        let mixed = _mm_xor_si128(old, w[i][($quad + 2) % 4]);
                        w[i][$quad % 4] = _mm_sha1msg2_epu32(mixed, w[i][($quad + 3) % 4]);
                    }
                    let added = if $quad == 0 {
                        _mm_add_epi32(e[i], w[i][0])
                    } else {
                        _mm_sha1nexte_epu32(e[i], w[i][$quad % 4])
                    };
                    // The next four rounds find their `e` in what is `a` now.
                    e[i] = abcd[i];
                    abcd[i] = _mm_sha1rnds4_epu32::<$function>(abcd[i], added);
                }
            )*};
        }
        four_rounds!(0: 0 1 2 3 4);
        four_rounds!(1: 5 6 7 8 9);
        four_rounds!(2: 10 11 12 13 14);
        four_rounds!(3: 15 16 17 18 19);
        for i in 0..N {
            e[i] = _mm_sha1nexte_epu32(e[i], e_before[i]);
            abcd[i] = _mm_add_epi32(abcd[i], abcd_before[i]);
        }
    }
    for i in 0..N {
        words[0][i] = _mm_extract_epi32::<3>(abcd[i]).cast_unsigned();
        words[1][i] = _mm_extract_epi32::<2>(abcd[i]).cast_unsigned();
        words[2][i] = _mm_extract_epi32::<1>(abcd[i]).cast_unsigned();
        words[3][i] = _mm_extract_epi32::<0>(abcd[i]).cast_unsigned();
        words[4][i] = _mm_extract_epi32::<3>(e[i]).cast_unsigned();
    }
}

/// SHA-256 of `N` messages.
///
/// # Safety
/// The CPU has SHA-NI, SSSE3 and SSE4.1; the first `N` lanes have `blocks` blocks.
#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(crate) unsafe fn sha256<const N: usize>(words: &mut LaneWords<8>, lanes: &Lanes, blocks: usize) {
    let zero = _mm_setzero_si128();
    // The words lie in two registers in the order that the instructions want, first word highest.
    let (mut abef, mut cdgh) = ([zero; N], [zero; N]);
    for i in 0..N {
        abef[i] = four(words[0][i], words[1][i], words[4][i], words[5][i]);
        cdgh[i] = four(words[2][i], words[3][i], words[6][i], words[7][i]);
    }
    // SAFETY: a constant of 16 bytes.
    let reverse = unsafe { _mm_loadu_si128(REVERSE_WORDS.as_ptr().cast()) };
    for block in 0..blocks {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut w = [[zero; 4]; N];
        for i in 0..N {
            for (part, words) in w[i].iter_mut().enumerate() {
                // SAFETY: the lane has this block; any alignment will do.
                let loaded = unsafe { _mm_loadu_si128(lanes[i].add(block * 64 + part * 16).cast()) };
                *words = _mm_shuffle_epi8(loaded, reverse);
            }
        }
        // Four rounds each, two to an instruction.
        macro_rules! four_rounds {
            ($($quad:literal)*) => {$(
                // SAFETY: four of the 64 constants.
                let k = unsafe { _mm_loadu_si128(SHA256_K.as_ptr().add(4 * $quad).cast()) };
                for i in 0..N {
                    if $quad >= 4 {
                        let (old, last) = (w[i][$quad % 4], w[i][($quad + 3) % 4]);
                        let old = _mm_sha256msg1_epu32(old, w[i][($quad + 1) % 4]);
                        let seven_back = _mm_alignr_epi8::<4>(last, w[i][($quad + 2) % 4]);
                        w[i][$quad % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(old, seven_back), last);
                    }
                    let added = _mm_add_epi32(w[i][$quad % 4], k);
                    cdgh[i] = _mm_sha256rnds2_epu32(cdgh[i], abef[i], added);
                    abef[i] = _mm_sha256rnds2_epu32(abef[i], cdgh[i], _mm_shuffle_epi32::<0b11_10>(added));
                }
            )*};
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for i in 0..N {
            abef[i] = _mm_add_epi32(abef[i], abef_before[i]);
            cdgh[i] = _mm_add_epi32(cdgh[i], cdgh_before[i]);
        }
    }
    for i in 0..N {
        words[0][i] = _mm_extract_epi32::<3>(abef[i]).cast_unsigned();
        words[1][i] = _mm_extract_epi32::<2>(abef[i]).cast_unsigned();
        words[2][i] = _mm_extract_epi32::<3>(cdgh[i]).cast_unsigned();
        words[3][i] = _mm_extract_epi32::<2>(cdgh[i]).cast_unsigned();
        words[4][i] = _mm_extract_epi32::<1>(abef[i]).cast_unsigned();
        words[5][i] = _mm_extract_epi32::<0>(abef[i]).cast_unsigned();
        words[6][i] = _mm_extract_epi32::<1>(cdgh[i]).cast_unsigned();
        words[7][i] = _mm_extract_epi32::<0>(cdgh[i]).cast_unsigned();
    }
}

/// Four words, the first one highest.
#[target_feature(enable = "sse2")]
fn four(first: u32, second: u32, third: u32, fourth: u32) -> __m128i {
    let [a, b, c, d] = [first.cast_signed(), second.cast_signed(), third.cast_signed(), fourth.cast_signed()];
    _mm_set_epi32(a, b, c, d)
}
