//! The rounds of SHA-256 (FIPS 180-4, 6.2.2) on vectors. Written once for all instruction sets.

use super::Vector;
use crate::scalar::SHA256_K;

/// Takes `blocks` blocks of each lane into the state.
///
/// # Safety
/// The CPU has the instructions of `V`, and each of the [`Vector::LANES`] lanes has `blocks` blocks.
#[inline(always)]
pub(super) unsafe fn compress<V: Vector>(state: &mut [V; 8], lanes: &[*const u8], blocks: usize) {
    compress!(state, lanes, blocks;
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47;
        0: 48 49, 1: 50 51, 2: 52 53, 3: 54 55, 4: 56 57, 5: 58 59, 6: 60 61, 7: 62 63
    );
}

/// Round `T`, on the block's sixteen words at first and from then on on the last sixteen of the schedule. The words of the
/// state change places instead of values: `a` of round `T` is word `-T mod 8`.
#[inline(always)]
fn round<V: Vector, const T: usize>(state: &mut [V; 8], w: &mut [V; 16]) {
    let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|word| (word + 64 - T) % 8);
    if T >= 16 {
        let (w2, w15) = (w[(T - 2) % 16], w[(T - 15) % 16]);
        let s1 = V::xor3(w2.rotate_right::<17>(), w2.rotate_right::<19>(), w2.shift_right::<10>());
        let s0 = V::xor3(w15.rotate_right::<7>(), w15.rotate_right::<18>(), w15.shift_right::<3>());
        w[T % 16] = w[T % 16].add(w[(T - 7) % 16]).add(s0).add(s1);
    }
    // SAFETY: there are vectors, so there are the instructions.
    let k = unsafe { V::splat(SHA256_K[T]) };
    let early = w[T % 16].add(k).add(state[h]);
    let sum1 =
        V::xor3(state[e].rotate_right::<6>(), state[e].rotate_right::<11>(), state[e].rotate_right::<25>());
    let t1 = early.add_in_order(V::choose(state[e], state[f], state[g])).add_in_order(sum1);
    let sum0 =
        V::xor3(state[a].rotate_right::<2>(), state[a].rotate_right::<13>(), state[a].rotate_right::<22>());
    let t2 = sum0.add(V::majority(state[a], state[b], state[c]));
    state[d] = state[d].add_in_order(t1);
    state[h] = t1.add_in_order(t2);
}
