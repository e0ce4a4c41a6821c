//! Eight messages in AVX2 registers: worth it on CPUs with neither AVX-512 nor SHA-NI.

use std::arch::x86_64::*;

use super::{LaneWords, Lanes, Vector, sha1_lanes, sha256_lanes};

/// SHA-1 of eight messages.
///
/// # Safety
/// The CPU has AVX2; the first 8 lanes have `blocks` blocks.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn sha1_avx2_x8(words: &mut LaneWords<5>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe { sha1_lanes::<Words8>(words, lanes, blocks) }
}

/// SHA-256 of eight messages.
///
/// # Safety
/// The CPU has AVX2; the first 8 lanes have `blocks` blocks.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn sha256_avx2_x8(words: &mut LaneWords<8>, lanes: &Lanes, blocks: usize) {
    // SAFETY: passed on.
    unsafe { sha256_lanes::<Words8>(words, lanes, blocks) }
}

/// A register of eight words. Where there is one, the CPU has the instructions: whoever makes one answers for that.
#[derive(Clone, Copy)]
struct Words8(__m256i);

/// Reverses the bytes of each word, in the form that `vpshufb` wants: the same for each 128 bits.
const REVERSE: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

impl Words8 {
    /// `left` and the rest of 32 bits to the right. The counts are constants, so these become shifts by immediates.
    #[inline(always)]
    fn rotate(self, left: i32) -> Self {
        // SAFETY: there is a `Words8`, so there are the instructions.
        Self(unsafe {
            let up = _mm256_sllv_epi32(self.0, _mm256_set1_epi32(left));
            let down = _mm256_srlv_epi32(self.0, _mm256_set1_epi32(32 - left));
            _mm256_or_si256(up, down)
        })
    }
}

impl Vector for Words8 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: the caller promises the instructions.
        Self(unsafe { _mm256_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    unsafe fn load(words: &[u32]) -> Self {
        let words: &[u32; 8] = words.try_into().expect("eight words");
        // SAFETY: 32 bytes of a live array, at any alignment; the caller promises the instructions.
        Self(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, words: &mut [u32]) {
        let words: &mut [u32; 8] = words.try_into().expect("eight words");
        // SAFETY: 32 bytes of a live array that is ours alone, at any alignment; there is a `Words8`, so there are the instructions.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: there is a `Words8`, so there are the instructions.
        Self(unsafe { _mm256_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn add_in_order(self, other: Self) -> Self {
        // SAFETY: there is a `Words8`, so there are the instructions.
        Self(unsafe { add_opaque(self.0, other.0) })
    }

    #[inline(always)]
    fn rotate_left<const BITS: i32>(self) -> Self {
        self.rotate(BITS)
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32>(self) -> Self {
        self.rotate(32 - BITS)
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        // SAFETY: there is a `Words8`, so there are the instructions.
        Self(unsafe { _mm256_srlv_epi32(self.0, _mm256_set1_epi32(BITS.cast_signed())) })
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: there is a `Words8`, so there are the instructions.
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    fn xor3(a: Self, b: Self, c: Self) -> Self {
        a.xor(b).xor(c)
    }

    #[inline(always)]
    fn choose(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: there is a `Words8`, so there are the instructions.
        Self(unsafe { _mm256_xor_si256(c.0, _mm256_and_si256(a.0, _mm256_xor_si256(b.0, c.0))) })
    }

    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: there is a `Words8`, so there are the instructions.
        Self(unsafe {
            let either = _mm256_or_si256(a.0, b.0);
            _mm256_or_si256(_mm256_and_si256(either, c.0), _mm256_and_si256(a.0, b.0))
        })
    }

    /// Steps 0 to 3 take four words of each lane, and transpose each 4 x 4 of them where they are, which puts them in the
    /// order of the lanes.
    #[inline(always)]
    unsafe fn gather_step<const STEP: usize>(lanes: &[*const u8], offset: usize, into: &mut [Self; 16]) {
        if STEP < 4 {
            // SAFETY: the caller promises the instructions, and eight lanes with 64 bytes each from `offset` on.
            let words = unsafe { quarter(lanes, offset + 16 * STEP) };
            into[4 * STEP..4 * STEP + 4].copy_from_slice(&words);
        }
    }
}

/// Four words of each lane: the first words of all lanes, the second ones, and so on.
///
/// # Safety
/// The CPU has the instructions, and the eight lanes have 16 bytes from `offset` on.
#[inline(always)]
unsafe fn quarter(lanes: &[*const u8], offset: usize) -> [Words8; 4] {
    // SAFETY: the caller promises the instructions.
    unsafe {
        let (r0, r1) = (row(lanes, 0, offset), row(lanes, 1, offset));
        let (r2, r3) = (row(lanes, 2, offset), row(lanes, 3, offset));
        let (low01, high01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
        let (low23, high23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
        [
            Words8(_mm256_unpacklo_epi64(low01, low23)),
            Words8(_mm256_unpackhi_epi64(low01, low23)),
            Words8(_mm256_unpacklo_epi64(high01, high23)),
            Words8(_mm256_unpackhi_epi64(high01, high23)),
        ]
    }
}

/// Four words of each of the lanes r and r + 4, one lane in each 128 bits.
///
/// # Safety
/// The CPU has the instructions, and the eight lanes have 16 bytes from `offset` on.
#[inline(always)]
unsafe fn row(lanes: &[*const u8], r: usize, offset: usize) -> __m256i {
    // SAFETY: the caller promises the instructions and the bytes; any alignment will do.
    unsafe {
        let reverse = _mm256_broadcastsi128_si256(_mm_loadu_si128(REVERSE.as_ptr().cast()));
        let low = _mm_loadu_si128(lanes[r].add(offset).cast());
        let high = _mm_loadu_si128(lanes[r + 4].add(offset).cast());
        _mm256_shuffle_epi8(_mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high), reverse)
    }
}

/// A sum that the compiler cannot look into.
#[inline]
#[target_feature(enable = "avx2")]
fn add_opaque(a: __m256i, b: __m256i) -> __m256i {
    if cfg!(miri) {
        return _mm256_add_epi32(a, b);
    }
    let sum;
    // SAFETY: this function has the instruction, which touches nothing but these registers.
    unsafe {
        std::arch::asm!(
            "vpaddd {sum}, {a}, {b}",
            sum = lateout(ymm_reg) sum, a = in(ymm_reg) a, b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
