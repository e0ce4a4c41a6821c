//! `Plan`: which kernel hashes how many messages. Found by timing the kernels that the CPU can run, not by its model:
//! what is fastest depends on the width of its registers, the latency of its instructions and what it shares.

use std::time::{Duration, Instant};

use crate::kernel::Kernel;
use crate::pass::{Block, MAX_LANES, Pass};

/// Blocks of each message in the shorter trial of a kernel, and in the longer one. A price is their difference, so that what
/// a call costs by itself, and the clock, do not count; the longer one is short enough for the L1 cache.
const TRIAL_BLOCKS: [usize; 2] = [8, 56];

/// How often each kernel is tried. The fastest trial counts, since nothing but the kernel itself slows all of them.
const TRIALS: usize = 12;

/// The share of its own cost that a wider kernel must save: below that it is noise, and the narrower one keeps fewer lines of
/// a cache busy than the trial shows, whose messages all lie in the L1 cache.
const WORTH: f64 = 0.05;

/// The best kernel for each number of messages.
#[derive(Clone, Debug)]
pub(crate) struct Plan<const W: usize> {
    /// What to begin with for the last 1, 2, ... messages; once those are hashed, there are fewer.
    first: [Pass<W>; MAX_LANES],
    /// What to use while there are more than that.
    steady: Pass<W>,
}

/// A kernel and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Priced<const W: usize> {
    pub(crate) pass: Pass<W>,
    /// Time for one block of every lane; idle lanes cost as much as busy ones.
    pub(crate) cost: f64,
}

impl<const W: usize> Plan<W> {
    /// The best plan with these kernels, by trying them. Takes some hundred microseconds.
    ///
    /// # Panics
    /// When there are none.
    pub(crate) fn calibrate(init: [u32; W], passes: &[Pass<W>]) -> Self {
        if let [only] = passes {
            return Self { first: [*only; MAX_LANES], steady: *only };
        }
        let mut best = [[Duration::MAX; 2]; Kernel::ALL.len()];
        // In turns, so that a slow moment of the machine spoils a turn of several kernels and not all turns of one.
        for _ in 0..TRIALS {
            for (best, pass) in best.iter_mut().zip(passes) {
                for (best, blocks) in best.iter_mut().zip(TRIAL_BLOCKS) {
                    *best = trial(init, pass, blocks).min(*best);
                }
            }
        }
        let price = |(pass, [short, long]): (&Pass<W>, [Duration; 2])| {
            let cost = long.saturating_sub(short).as_secs_f64();
            // A clock too coarse to tell any of them apart leaves the widest as the best for many.
            Priced { pass: *pass, cost: if cost > 0.0 { cost } else { 1.0 } }
        };
        Self::cheapest(&mut passes.iter().zip(best).map(price).collect::<Vec<_>>())
    }

    /// The cheapest mix for each number of messages of equal length, at these prices, of which none is zero; of mixes that
    /// cost the same but for [`WORTH`], the one that begins with the narrowest kernel.
    pub(crate) fn cheapest(priced: &mut [Priced<W>]) -> Self {
        priced.sort_by_key(|priced| priced.pass.lanes());
        // What 0, 1, 2, ... messages cost at the least.
        let mut least = [0.0; MAX_LANES + 1];
        let with = |least: &[f64], priced: &Priced<W>, count: usize| {
            priced.cost + least[count.saturating_sub(priced.pass.lanes())]
        };
        for count in 1..=MAX_LANES {
            let costs = priced.iter().map(|priced| with(&least, priced, count));
            least[count] = costs.fold(f64::INFINITY, f64::min);
        }
        let narrowest = |is_good: &dyn Fn(&Priced<W>) -> bool| {
            priced.iter().find(|priced| is_good(priced)).map_or(priced[0].pass, |priced| priced.pass)
        };
        let first = std::array::from_fn(|at| {
            narrowest(&|priced| with(&least, priced, at + 1) - least[at + 1] <= WORTH * priced.cost)
        });
        let per_lane = |priced: &Priced<W>| priced.cost / priced.pass.lanes() as f64;
        let least_per_lane = priced.iter().map(per_lane).fold(f64::INFINITY, f64::min);
        let steady = narrowest(&|priced| per_lane(priced) <= least_per_lane * (1.0 + WORTH));
        Self { first, steady }
    }

    /// The kernel for one message.
    #[inline]
    pub(crate) fn one(&self) -> &Pass<W> {
        &self.first[0]
    }

    /// What to begin with for the last `count` messages, [`MAX_LANES`] at most.
    #[inline]
    pub(crate) fn first(&self, count: usize) -> &Pass<W> {
        &self.first[count.clamp(1, MAX_LANES) - 1]
    }

    /// What to use while more than [`MAX_LANES`] messages are left.
    #[inline]
    pub(crate) fn steady(&self) -> &Pass<W> {
        &self.steady
    }

    /// The kernels that hash `count` messages of equal length, in the order of their use.
    pub(crate) fn mix(&self, mut count: usize) -> Vec<Kernel> {
        let mut kernels = Vec::new();
        while count > 0 {
            let pass = if count > MAX_LANES { self.steady() } else { self.first(count) };
            kernels.push(pass.kernel());
            count = count.saturating_sub(pass.lanes());
        }
        kernels
    }
}

fn trial<const W: usize>(init: [u32; W], pass: &Pass<W>, blocks: usize) -> Duration {
    let message: [Block; TRIAL_BLOCKS[1]] = [[0x5a; 64]; TRIAL_BLOCKS[1]];
    let mut words = [init; MAX_LANES];
    let messages = [message.as_slice(); MAX_LANES];
    let lanes = pass.lanes();
    let begun = Instant::now();
    pass.run(&mut words[..lanes], std::hint::black_box(&messages[..lanes]), blocks);
    std::hint::black_box(&mut words);
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scalar;

    /// A pass of that many lanes that is never run.
    fn pass(kernel: Kernel) -> Pass<5> {
        // SAFETY: `idle` touches no lane.
        unsafe { Pass::many(kernel, kernel.lanes(), idle) }
    }

    fn idle(_: &mut crate::pass::LaneWords<5>, _: &crate::pass::Lanes, _: usize) {}

    /// What those messages cost by the plan.
    fn cost_of(plan: &Plan<5>, priced: &[Priced<5>], count: usize) -> f64 {
        let of =
            |kernel| priced.iter().find(|priced| priced.pass.kernel() == kernel).expect("is priced").cost;
        plan.mix(count).into_iter().map(of).sum()
    }

    #[test]
    fn the_cheapest_mix_is_found() {
        use Kernel::{Avx512X16, Avx512X32, ShaNi, ShaNiX4};
        let prices = [(ShaNi, 1.0), (ShaNiX4, 1.4), (Avx512X16, 3.0), (Avx512X32, 3.5)];
        let mut priced = prices.map(|(kernel, cost)| Priced { pass: pass(kernel), cost });
        let plan = Plan::cheapest(&mut priced);
        assert_eq!(plan.mix(1), [ShaNi]);
        assert_eq!(plan.mix(2), [ShaNiX4]);
        assert_eq!(plan.mix(4), [ShaNiX4]);
        assert_eq!(plan.mix(8), [ShaNiX4, ShaNiX4]);
        assert_eq!(plan.mix(9), [Avx512X16]);
        assert_eq!(plan.mix(16), [Avx512X16]);
        assert_eq!(plan.mix(17), [Avx512X32]);
        assert_eq!(plan.mix(32), [Avx512X32]);
        assert_eq!(plan.mix(64), [Avx512X32, Avx512X32]);
    }

    #[test]
    fn a_wider_kernel_that_gains_nothing_is_left_alone() {
        use Kernel::{Avx512X16, Avx512X32, ShaNi};
        let prices = [(ShaNi, 1.0), (Avx512X32, 5.95), (Avx512X16, 3.0)];
        let mut priced = prices.map(|(kernel, cost)| Priced { pass: pass(kernel), cost });
        assert_eq!(Plan::cheapest(&mut priced).mix(32), [Avx512X16, Avx512X16]);
    }

    #[test]
    fn more_messages_than_lanes_are_hashed_by_the_best_kernel_per_message() {
        use Kernel::{Avx512X16, ShaNi, ShaNiX4};
        let prices = [(ShaNi, 1.0), (ShaNiX4, 2.0), (Avx512X16, 7.9)];
        let mut priced = prices.map(|(kernel, cost)| Priced { pass: pass(kernel), cost });
        let plan = Plan::cheapest(&mut priced);
        assert_eq!(plan.mix(48), [ShaNiX4; 12], "sixteen lanes save less than they should");
    }

    #[test]
    fn a_clock_that_stands_still_leaves_a_plan() {
        let mut priced = Kernel::ALL.map(|kernel| Priced { pass: pass(kernel), cost: 1.0 });
        let plan = Plan::cheapest(&mut priced);
        assert_eq!((plan.mix(1).len(), plan.mix(32), plan.mix(64).len()), (1, vec![Kernel::Avx512X32], 2));
    }

    proptest! {
        /// Against the best there is, found by trying all: less than the margin is lost, for few messages and for many.
        #[test]
        fn no_plan_is_far_from_the_best(prices in prop::collection::vec(0.5f64..1.5, Kernel::ALL.len())) {
            // About what such kernels cost: wider ones more, but less for each lane.
            let cost = |(kernel, noise): (Kernel, &f64)| (kernel.lanes() as f64).powf(0.6) * noise;
            let mut priced: Vec<_> = Kernel::ALL
                .into_iter()
                .zip(&prices)
                .map(|each| Priced { pass: pass(each.0), cost: cost(each) })
                .collect();
            let plan = Plan::cheapest(&mut priced);
            let dearest = priced.iter().map(|priced| priced.cost).fold(0.0, f64::max);
            let mut best = vec![0.0];
            for count in 1..=200_usize {
                let with = |priced: &Priced<5>| priced.cost + best[count.saturating_sub(priced.pass.lanes())];
                best.push(priced.iter().map(with).fold(f64::INFINITY, f64::min));
                // What is left over behind the steady kernel may not be what the best mix leaves over.
                let rest = if count > MAX_LANES { dearest } else { 1e-9 };
                let bound = (best[count] + rest) / (1.0 - WORTH);
                prop_assert!(cost_of(&plan, &priced, count) <= bound, "{count}: {:?}", plan.mix(count));
            }
        }
    }

    #[test]
    fn a_calibrated_plan_has_a_kernel_for_every_number() {
        let passes: Vec<_> = Kernel::available().filter_map(|kernel| Some(kernel.passes()?.sha1)).collect();
        let plan = Plan::calibrate(scalar::SHA1_INIT, &passes);
        for count in 1..=40 {
            assert!(plan.first(count).lanes() <= MAX_LANES);
        }
        assert_eq!(Plan::calibrate(scalar::SHA1_INIT, &passes[..1]).first(32).kernel(), passes[0].kernel());
    }
}
