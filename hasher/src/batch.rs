//! Many messages through one plan: who is hashed in step with whom, and who takes the place of one that is done.

use crate::pass::{Block, MAX_LANES, Pass};
use crate::plan::Plan;

/// A message, or a part of one, on its way into a state of `W` words.
pub(crate) trait Job<const W: usize> {
    /// The state.
    fn words(&mut self) -> &mut [u32; W];
    /// What can be hashed next; empty when the job is done.
    fn blocks(&self) -> &[Block];
    /// That many of the blocks are hashed.
    fn advance(&mut self, count: usize);
}

/// Hashes all jobs and gives each back through `done`. Takes a new job whenever one is done, so lanes idle only when
/// fewer jobs are left than the widest kernel has lanes.
pub(crate) fn hash_all<const W: usize, J: Job<W>>(
    plan: &Plan<W>,
    jobs: impl IntoIterator<Item = J>,
    mut done: impl FnMut(J),
) {
    let mut jobs = jobs.into_iter().fuse();
    let mut active = Active { slots: [const { None }; MAX_LANES], count: 0 };
    loop {
        let mut more = true;
        while more && active.count < MAX_LANES {
            match jobs.next() {
                Some(job) if job.blocks().is_empty() => done(job),
                Some(job) => active.push(job),
                None => more = false,
            }
        }
        if active.count == 0 {
            return;
        }
        active.step(if more { plan.steady() } else { plan.first(active.count) });
        active.remove_finished(&mut done);
    }
}

/// The jobs under way: the first `count` slots.
struct Active<J> {
    slots: [Option<J>; MAX_LANES],
    count: usize,
}

impl<J> Active<J> {
    fn push(&mut self, job: J) {
        self.slots[self.count] = Some(job);
        self.count += 1;
    }

    /// Runs one kernel on as many jobs as it takes, until the shortest of them is done.
    fn step<const W: usize>(&mut self, pass: &Pass<W>)
    where
        J: Job<W>,
    {
        let lanes = pass.lanes().min(self.count);
        let mut words = [[0; W]; MAX_LANES];
        for (words, job) in words.iter_mut().zip(self.slots[..lanes].iter_mut().flatten()) {
            *words = *job.words();
        }
        let mut messages: [&[Block]; MAX_LANES] = [&[]; MAX_LANES];
        for (message, job) in messages.iter_mut().zip(self.slots[..lanes].iter().flatten()) {
            *message = job.blocks();
        }
        let shortest = messages[..lanes].iter().map(|blocks| blocks.len()).min().unwrap_or(0);
        pass.run(&mut words[..lanes], &messages[..lanes], shortest);
        for (words, job) in words.iter().zip(self.slots[..lanes].iter_mut().flatten()) {
            *job.words() = *words;
            job.advance(shortest);
        }
    }

    fn remove_finished<const W: usize>(&mut self, done: &mut impl FnMut(J))
    where
        J: Job<W>,
    {
        for slot in (0..self.count).rev() {
            if self.slots[slot].as_ref().is_some_and(|job| job.blocks().is_empty()) {
                self.count -= 1;
                self.slots.swap(slot, self.count);
                done(self.slots[self.count].take().expect("a slot below the count is taken"));
            }
        }
    }
}
