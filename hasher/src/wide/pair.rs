//! Two vectors as one of twice the width. Their operations alternate, so one's results are waited for while the other's
//! are computed.

use super::Vector;

/// Lanes of the first vector, then lanes of the second.
#[derive(Clone, Copy)]
pub(super) struct Pair<V>(V, V);

impl<V: Vector> Vector for Pair<V> {
    const LANES: usize = 2 * V::LANES;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: passed on.
        unsafe { Self(V::splat(word), V::splat(word)) }
    }

    #[inline(always)]
    unsafe fn load(words: &[u32]) -> Self {
        // SAFETY: passed on.
        unsafe { Self(V::load(&words[..V::LANES]), V::load(&words[V::LANES..])) }
    }

    #[inline(always)]
    fn store(self, words: &mut [u32]) {
        self.0.store(&mut words[..V::LANES]);
        self.1.store(&mut words[V::LANES..]);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0.add(other.0), self.1.add(other.1))
    }

    #[inline(always)]
    fn add_in_order(self, other: Self) -> Self {
        Self(self.0.add_in_order(other.0), self.1.add_in_order(other.1))
    }

    #[inline(always)]
    fn rotate_left<const BITS: i32>(self) -> Self {
        Self(self.0.rotate_left::<BITS>(), self.1.rotate_left::<BITS>())
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32>(self) -> Self {
        Self(self.0.rotate_right::<BITS>(), self.1.rotate_right::<BITS>())
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        Self(self.0.shift_right::<BITS>(), self.1.shift_right::<BITS>())
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(self.0.xor(other.0), self.1.xor(other.1))
    }

    #[inline(always)]
    fn xor3(a: Self, b: Self, c: Self) -> Self {
        Self(V::xor3(a.0, b.0, c.0), V::xor3(a.1, b.1, c.1))
    }

    #[inline(always)]
    fn choose(a: Self, b: Self, c: Self) -> Self {
        Self(V::choose(a.0, b.0, c.0), V::choose(a.1, b.1, c.1))
    }

    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        Self(V::majority(a.0, b.0, c.0), V::majority(a.1, b.1, c.1))
    }

    #[inline(always)]
    unsafe fn gather_step<const STEP: usize>(lanes: &[*const u8], offset: usize, into: &mut [Self; 16]) {
        let (mut first, mut second) = ([into[0].0; 16], [into[0].1; 16]);
        for word in 0..16 {
            (first[word], second[word]) = (into[word].0, into[word].1);
        }
        // SAFETY: the caller promises the lanes of both.
        unsafe {
            V::gather_step::<STEP>(&lanes[..V::LANES], offset, &mut first);
            V::gather_step::<STEP>(&lanes[V::LANES..], offset, &mut second);
        }
        for word in 0..16 {
            into[word] = Self(first[word], second[word]);
        }
    }
}
