//! Four words in an array: the vector operations in plain Rust, so that the rounds and the way into and out of them can be
//! tested anywhere, under Miri too.

use super::Vector;

#[derive(Clone, Copy)]
pub(super) struct Words4([u32; 4]);

impl Words4 {
    fn map2(self, other: Self, op: impl Fn(u32, u32) -> u32) -> Self {
        Self(std::array::from_fn(|lane| op(self.0[lane], other.0[lane])))
    }
}

impl Vector for Words4 {
    const LANES: usize = 4;

    unsafe fn splat(word: u32) -> Self {
        Self([word; 4])
    }

    unsafe fn load(words: &[u32]) -> Self {
        Self(words.try_into().expect("four words"))
    }

    fn store(self, words: &mut [u32]) {
        words.copy_from_slice(&self.0);
    }

    fn add(self, other: Self) -> Self {
        self.map2(other, u32::wrapping_add)
    }

    fn add_in_order(self, other: Self) -> Self {
        self.add(other)
    }

    fn rotate_left<const BITS: i32>(self) -> Self {
        Self(self.0.map(|word| word.rotate_left(BITS.cast_unsigned())))
    }

    fn rotate_right<const BITS: i32>(self) -> Self {
        Self(self.0.map(|word| word.rotate_right(BITS.cast_unsigned())))
    }

    fn shift_right<const BITS: u32>(self) -> Self {
        Self(self.0.map(|word| word >> BITS))
    }

    fn xor(self, other: Self) -> Self {
        self.map2(other, |a, b| a ^ b)
    }

    fn xor3(a: Self, b: Self, c: Self) -> Self {
        a.xor(b).xor(c)
    }

    fn choose(a: Self, b: Self, c: Self) -> Self {
        a.map2(b.xor(c), |a, differ| a & differ).xor(c)
    }

    fn majority(a: Self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            let (a, b, c) = (a.0[lane], b.0[lane], c.0[lane]);
            (a & b) | (a & c) | (b & c)
        }))
    }

    unsafe fn gather_step<const STEP: usize>(lanes: &[*const u8], offset: usize, into: &mut [Self; 16]) {
        if STEP > 0 {
            return;
        }
        for (word, into) in into.iter_mut().enumerate() {
            *into = Self(std::array::from_fn(|lane| {
                // SAFETY: the caller promises four lanes with 64 bytes each from `offset` on.
                let bytes = unsafe { lanes[lane].add(offset + 4 * word).cast::<[u8; 4]>().read_unaligned() };
                u32::from_be_bytes(bytes)
            }));
        }
    }
}
