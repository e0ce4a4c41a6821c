//! The rounds of SHA-1 (FIPS 180-4, 6.1.2) on vectors. Written once for all instruction sets.

use super::Vector;

/// Takes `blocks` blocks of each lane into the state.
///
/// # Safety
/// The CPU has the instructions of `V`, and each of the [`Vector::LANES`] lanes has `blocks` blocks.
#[inline(always)]
pub(super) unsafe fn compress<V: Vector>(state: &mut [V; 5], lanes: &[*const u8], blocks: usize) {
    compress!(state, lanes, blocks;
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63;
        0: 64 65, 1: 66 67, 2: 68 69, 3: 70 71, 4: 72 73, 5: 74 75, 6: 76 77, 7: 78 79
    );
}

/// Round `T`, on the block's sixteen words at first and from then on on the last sixteen of the schedule. The words of the
/// state change places instead of values: `a` of round `T` is word `-T mod 5`.
#[inline(always)]
fn round<V: Vector, const T: usize>(state: &mut [V; 5], w: &mut [V; 16]) {
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|word| (word + 80 - T) % 5);
    if T >= 16 {
        // The youngest word comes last; the oldest first, since its register is free from now on.
        let mixed = V::xor3(w[T % 16], w[(T - 14) % 16], w[(T - 8) % 16]);
        w[T % 16] = mixed.xor(w[(T - 3) % 16]).rotate_left::<1>();
    }
    let (f, k) = match T / 20 {
        0 => (V::choose(state[b], state[c], state[d]), 0x5a827999),
        1 => (V::xor3(state[b], state[c], state[d]), 0x6ed9eba1),
        2 => (V::majority(state[b], state[c], state[d]), 0x8f1bbcdc),
        _ => (V::xor3(state[b], state[c], state[d]), 0xca62c1d6),
    };
    // What is known early is added first: `a` comes from the round before, and each round waits for it.
    // SAFETY: there are vectors, so there are the instructions.
    let k = unsafe { V::splat(k) };
    let early = w[T % 16].add(k).add(state[e]);
    state[e] = early.add_in_order(f).add_in_order(state[a].rotate_left::<5>());
    state[b] = state[b].rotate_left::<30>();
}
