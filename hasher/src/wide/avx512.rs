//! Sixteen messages in AVX-512 registers, or thirty-two in pairs of them.

use std::arch::x86_64::*;

use super::pair::Pair;
use super::{LaneWords, Lanes, Vector, sha1_lanes, sha256_lanes};

/// SHA-1 of sixteen messages.
///
/// # Safety
/// The CPU has AVX-512F and AVX-512BW; the first 16 lanes have `blocks` blocks.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn sha1_avx512_x16(words: &mut LaneWords<5>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe { sha1_lanes::<Words16>(words, lanes, blocks) }
}

/// SHA-1 of thirty-two messages.
///
/// # Safety
/// The CPU has AVX-512F and AVX-512BW; the first 32 lanes have `blocks` blocks.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn sha1_avx512_x32(words: &mut LaneWords<5>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe { sha1_lanes::<Pair<Words16>>(words, lanes, blocks) }
}

/// SHA-256 of sixteen messages.
///
/// # Safety
/// The CPU has AVX-512F and AVX-512BW; the first 16 lanes have `blocks` blocks.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn sha256_avx512_x16(words: &mut LaneWords<8>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe { sha256_lanes::<Words16>(words, lanes, blocks) }
}

/// SHA-256 of thirty-two messages.
///
/// # Safety
/// The CPU has AVX-512F and AVX-512BW; the first 32 lanes have `blocks` blocks.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn sha256_avx512_x32(words: &mut LaneWords<8>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe { sha256_lanes::<Pair<Words16>>(words, lanes, blocks) }
}

/// A register of sixteen words. Where there is one, the CPU has the instructions: whoever makes one answers for that.
#[derive(Clone, Copy)]
struct Words16(__m512i);

/// Reverses the bytes of each word, in the form that `vpshufb` wants: the same for each 128 bits.
const REVERSE: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

// Truth tables of `vpternlogd`: bit 4a + 2b + c is the result for these bits.
const XOR3: i32 = 0b1001_0110;
const CHOOSE: i32 = 0b1100_1010;
const MAJORITY: i32 = 0b1110_1000;

impl Vector for Words16 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: the caller promises the instructions.
        Self(unsafe { _mm512_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    unsafe fn load(words: &[u32]) -> Self {
        let words: &[u32; 16] = words.try_into().expect("sixteen words");
        // SAFETY: 64 bytes of a live array, at any alignment; the caller promises the instructions.
        Self(unsafe { _mm512_loadu_epi32(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, words: &mut [u32]) {
        let words: &mut [u32; 16] = words.try_into().expect("sixteen words");
        // SAFETY: 64 bytes of a live array that is ours alone, at any alignment; there is a `Words16`, so there are the instructions.
        unsafe { _mm512_storeu_epi32(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn add_in_order(self, other: Self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { add_opaque(self.0, other.0) })
    }

    #[inline(always)]
    fn rotate_left<const BITS: i32>(self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_rol_epi32::<BITS>(self.0) })
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32>(self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_ror_epi32::<BITS>(self.0) })
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_srli_epi32::<BITS>(self.0) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_ternarylogic_epi32::<XOR3>(a.0, b.0, c.0) })
    }

    #[inline(always)]
    fn choose(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_ternarylogic_epi32::<CHOOSE>(a.0, b.0, c.0) })
    }

    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: there is a `Words16`, so there are the instructions.
        Self(unsafe { _mm512_ternarylogic_epi32::<MAJORITY>(a.0, b.0, c.0) })
    }

    /// Steps 0 to 3 read four lanes each, whole blocks at once: lanes a power of two apart share the few ways of one set of
    /// the L1 cache, which would not keep a block for a second look. Steps 4 to 7 put the words of four lanes each beside
    /// those of the others.
    #[inline(always)]
    unsafe fn gather_step<const STEP: usize>(lanes: &[*const u8], offset: usize, into: &mut [Self; 16]) {
        let at = STEP % 4;
        // SAFETY: the caller promises the instructions, and sixteen lanes with 64 bytes each from `offset` on.
        unsafe {
            if STEP < 4 {
                let rows = transpose_each_4x4([
                    row(lanes[4 * at], offset),
                    row(lanes[4 * at + 1], offset),
                    row(lanes[4 * at + 2], offset),
                    row(lanes[4 * at + 3], offset),
                ]);
                into[4 * at..4 * at + 4].copy_from_slice(&rows.map(Self));
            } else {
                let quarters = [into[at].0, into[4 + at].0, into[8 + at].0, into[12 + at].0];
                let words = transpose_quarters(quarters).map(Self);
                [into[at], into[4 + at], into[8 + at], into[12 + at]] = words;
            }
        }
    }
}

/// Sixteen words of a lane, in the order of this machine.
///
/// # Safety
/// The CPU has the instructions, and behind the lane are 64 bytes from `offset` on.
#[inline(always)]
unsafe fn row(lane: *const u8, offset: usize) -> __m512i {
    // SAFETY: the caller promises the instructions and the bytes; any alignment will do.
    unsafe {
        let reverse = _mm512_broadcast_i32x4(_mm_loadu_si128(REVERSE.as_ptr().cast()));
        _mm512_shuffle_epi8(_mm512_loadu_si512(lane.add(offset).cast()), reverse)
    }
}

/// In each 128 bits, four words of four rows become four words of one column each.
///
/// # Safety
/// The CPU has the instructions.
#[inline(always)]
unsafe fn transpose_each_4x4([r0, r1, r2, r3]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller promises the instructions.
    unsafe {
        let (low01, high01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (low23, high23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        [
            _mm512_unpacklo_epi64(low01, low23),
            _mm512_unpackhi_epi64(low01, low23),
            _mm512_unpacklo_epi64(high01, high23),
            _mm512_unpackhi_epi64(high01, high23),
        ]
    }
}

/// The first 128 bits of all four, then the second ones, and so on.
///
/// # Safety
/// The CPU has the instructions.
#[inline(always)]
unsafe fn transpose_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller promises the instructions.
    unsafe {
        let (even_ab, odd_ab) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        [
            _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd),
            _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd),
            _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd),
            _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd),
        ]
    }
}

/// A sum that the compiler cannot look into.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_opaque(a: __m512i, b: __m512i) -> __m512i {
    if cfg!(miri) {
        return _mm512_add_epi32(a, b);
    }
    let sum;
    // SAFETY: this function has the instruction, which touches nothing but these registers.
    unsafe {
        std::arch::asm!(
            "vpaddd {sum}, {a}, {b}",
            sum = lateout(zmm_reg) sum, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
