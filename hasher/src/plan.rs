//! `Plan`: which kernel hashes how many messages. Found by timing the kernels that the CPU can run, not by its model:
//! what is fastest depends on the width of its registers, the latency of its instructions and what it shares.

use std::time::{Duration, Instant};

use crate::kernel::Kernel;
use crate::pass::{Block, MAX_LANES, Pass};

/// Blocks of each message in a trial: 1 KiB, which stays in the L1 cache and takes each kernel some microseconds at most.
const TRIAL_BLOCKS: usize = 16;

/// How often each kernel is tried. The fastest trial counts, since nothing but the kernel itself slows all of them.
const TRIALS: usize = 12;

/// A wider kernel must be at least this much cheaper than a narrower mix: below that it is noise, and the narrower one
/// keeps fewer lines of a cache busy than the trial shows, whose messages all lie in the L1 cache.
const WORTH: f64 = 0.95;

/// The best kernel for each number of messages.
#[derive(Clone, Debug)]
pub(crate) struct Plan<const W: usize> {
    /// What to begin with for 1, 2, ... messages; once those are hashed, there are fewer.
    first: [Pass<W>; MAX_LANES],
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
            return Self { first: [*only; MAX_LANES] };
        }
        let mut best = [Duration::MAX; Kernel::ALL.len()];
        // In turns, so that a slow moment of the machine spoils a turn of several kernels and not all turns of one.
        for _ in 0..TRIALS {
            for (best, pass) in best.iter_mut().zip(passes) {
                *best = trial(init, pass).min(*best);
            }
        }
        let cost = |time: Duration| time.as_secs_f64() / TRIAL_BLOCKS as f64;
        let priced = passes.iter().zip(best).map(|(pass, time)| Priced { pass: *pass, cost: cost(time) });
        Self::cheapest(&mut priced.collect::<Vec<_>>())
    }

    /// The cheapest mix for each number of messages of equal length, at these prices.
    pub(crate) fn cheapest(priced: &mut [Priced<W>]) -> Self {
        priced.sort_by_key(|priced| priced.pass.lanes());
        let mut first = [priced[0].pass; MAX_LANES];
        let mut costs = [0.0; MAX_LANES + 1];
        for count in 1..=MAX_LANES {
            costs[count] = f64::INFINITY;
            for Priced { pass, cost } in priced.iter() {
                let cost = cost + costs[count.saturating_sub(pass.lanes())];
                if cost < costs[count] * if pass.lanes() == 1 { 1.0 } else { WORTH } {
                    (costs[count], first[count - 1]) = (cost, *pass);
                }
            }
        }
        Self { first }
    }

    /// The kernel for one message.
    #[inline]
    pub(crate) fn one(&self) -> &Pass<W> {
        &self.first[0]
    }

    /// What to begin with when `count` messages wait.
    #[inline]
    pub(crate) fn first(&self, count: usize) -> &Pass<W> {
        &self.first[count.clamp(1, MAX_LANES) - 1]
    }
}

fn trial<const W: usize>(init: [u32; W], pass: &Pass<W>) -> Duration {
    let message: [Block; TRIAL_BLOCKS] = [[0x5a; 64]; TRIAL_BLOCKS];
    let mut words = [init; MAX_LANES];
    let messages = [message.as_slice(); MAX_LANES];
    let lanes = pass.lanes();
    let begun = Instant::now();
    pass.run(&mut words[..lanes], std::hint::black_box(&messages[..lanes]), TRIAL_BLOCKS);
    std::hint::black_box(&mut words);
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar;

    /// A pass of that many lanes that is never run.
    fn pass(kernel: Kernel) -> Pass<5> {
        // SAFETY: `idle` touches no lane.
        unsafe { Pass::many(kernel, kernel.lanes(), idle) }
    }

    fn idle(_: &mut crate::pass::LaneWords<5>, _: &crate::pass::Lanes, _: usize) {}

    fn mix(plan: &Plan<5>, mut count: usize) -> Vec<Kernel> {
        let mut kernels = Vec::new();
        while count > 0 {
            let pass = plan.first(count);
            kernels.push(pass.kernel());
            count = count.saturating_sub(pass.lanes());
        }
        kernels
    }

    #[test]
    fn the_cheapest_mix_is_found() {
        use Kernel::{Avx512X16, Avx512X32, ShaNi, ShaNiX4};
        let prices = [(ShaNi, 1.0), (ShaNiX4, 1.4), (Avx512X16, 3.0), (Avx512X32, 3.5)];
        let mut priced = prices.map(|(kernel, cost)| Priced { pass: pass(kernel), cost });
        let plan = Plan::cheapest(&mut priced);
        assert_eq!(mix(&plan, 1), [ShaNi]);
        assert_eq!(mix(&plan, 2), [ShaNiX4]);
        assert_eq!(mix(&plan, 4), [ShaNiX4]);
        assert_eq!(mix(&plan, 8), [ShaNiX4, ShaNiX4]);
        assert_eq!(mix(&plan, 9), [Avx512X16]);
        assert_eq!(mix(&plan, 16), [Avx512X16]);
        assert_eq!(mix(&plan, 17), [Avx512X32]);
        assert_eq!(mix(&plan, 32), [Avx512X32]);
        assert_eq!(mix(&plan, 64), [Avx512X32, Avx512X32]);
    }

    #[test]
    fn a_wider_kernel_that_gains_nothing_is_left_alone() {
        use Kernel::{Avx512X16, Avx512X32, ShaNi};
        let prices = [(ShaNi, 1.0), (Avx512X32, 5.95), (Avx512X16, 3.0)];
        let mut priced = prices.map(|(kernel, cost)| Priced { pass: pass(kernel), cost });
        assert_eq!(mix(&Plan::cheapest(&mut priced), 32), [Avx512X16, Avx512X16]);
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
