//! `Pass`: one kernel for one algorithm, in the one shape that all kernels have, and safe to call. Does not choose between
//! them: `plan` does.

use crate::BLOCK_BYTES;
use crate::kernel::Kernel;

/// What one compression takes in.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// Most messages that any kernel hashes in step.
pub(crate) const MAX_LANES: usize = 32;

/// The states of the messages in step: word by word, each for all lanes, as vector registers want them.
pub(crate) type LaneWords<const W: usize> = [[u32; MAX_LANES]; W];

/// Where the next block of each message in step begins.
pub(crate) type Lanes = [*const u8; MAX_LANES];

/// Takes whole blocks into one state of `W` words.
pub(crate) type OneLane<const W: usize> = fn(&mut [u32; W], &[Block]);

/// Takes that many blocks of each lane into its state.
///
/// # Safety
/// Every lane that the kernel has points to that many blocks, and the CPU has the instructions.
pub(crate) type ManyLanes<const W: usize> = unsafe fn(&mut LaneWords<W>, &Lanes, usize);

/// A kernel that this CPU can run, for the algorithm whose state has `W` words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<const W: usize> {
    kernel: Kernel,
    code: Code<W>,
}

#[derive(Clone, Copy, Debug)]
enum Code<const W: usize> {
    One(OneLane<W>),
    #[cfg_attr(
        not(any(target_arch = "x86_64", test)),
        expect(dead_code, reason = "only x86-64 has kernels of several lanes")
    )]
    Many(usize, ManyLanes<W>),
}

impl<const W: usize> Pass<W> {
    pub(crate) fn one(kernel: Kernel, run: OneLane<W>) -> Self {
        Self { kernel, code: Code::One(run) }
    }

    /// # Safety
    /// `run` needs blocks for the first `lanes` lanes and nothing else: the CPU has its instructions.
    #[cfg(any(target_arch = "x86_64", test))]
    pub(crate) unsafe fn many(kernel: Kernel, lanes: usize, run: ManyLanes<W>) -> Self {
        assert!((1..=MAX_LANES).contains(&lanes));
        Self { kernel, code: Code::Many(lanes, run) }
    }

    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// How many messages it hashes in step.
    pub(crate) fn lanes(&self) -> usize {
        match self.code {
            Code::One(_) => 1,
            Code::Many(lanes, _) => lanes,
        }
    }

    /// Takes all blocks of one message into its state.
    #[inline]
    pub(crate) fn run_one(&self, words: &mut [u32; W], blocks: &[Block]) {
        match self.code {
            Code::One(run) => run(words, blocks),
            Code::Many(..) => self.run(std::slice::from_mut(words), &[blocks], blocks.len()),
        }
    }

    /// Takes the first `count` blocks of each message into its state.
    ///
    /// # Panics
    /// When there are no messages or more than lanes, or one has fewer blocks.
    pub(crate) fn run(&self, words: &mut [[u32; W]], messages: &[&[Block]], count: usize) {
        assert!(words.len() == messages.len() && (1..=self.lanes()).contains(&words.len()), "a lane each");
        assert!(messages.iter().all(|blocks| blocks.len() >= count), "blocks in every lane");
        match self.code {
            Code::One(run) => run(&mut words[0], &messages[0][..count]),
            Code::Many(_, run) => {
                // Idle lanes hash the first message once more, and nobody looks at the result.
                let mut lanes: Lanes = [messages[0].as_ptr().cast(); MAX_LANES];
                for (lane, blocks) in lanes.iter_mut().zip(messages) {
                    *lane = blocks.as_ptr().cast();
                }
                let mut states = gather_states(words);
                // SAFETY: every lane points to a message of at least `count` blocks (asserted above), which is
                // borrowed until this function returns; that the CPU has the instructions was promised to `many`.
                unsafe { run(&mut states, &lanes, count) };
                scatter_states(&states, words);
            }
        }
    }
}

fn gather_states<const W: usize>(words: &[[u32; W]]) -> LaneWords<W> {
    let mut states = [[0; MAX_LANES]; W];
    for (lane, words) in words.iter().enumerate() {
        for (of_all, word) in states.iter_mut().zip(words) {
            of_all[lane] = *word;
        }
    }
    states
}

fn scatter_states<const W: usize>(states: &LaneWords<W>, words: &mut [[u32; W]]) {
    for (lane, words) in words.iter_mut().enumerate() {
        for (of_all, word) in states.iter().zip(words) {
            *word = of_all[lane];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar;

    const BLOCKS: [Block; 2] = [[7; BLOCK_BYTES]; 2];

    fn widest() -> Pass<5> {
        let passes = Kernel::available().filter_map(Kernel::passes).map(|passes| passes.sha1);
        passes.max_by_key(Pass::lanes).expect("there is one")
    }

    #[test]
    #[should_panic(expected = "a lane each")]
    fn no_messages_are_refused() {
        widest().run(&mut [], &[], 0);
    }

    #[test]
    #[should_panic(expected = "a lane each")]
    fn more_messages_than_lanes_are_refused() {
        let count = widest().lanes() + 1;
        widest().run(&mut vec![scalar::SHA1_INIT; count], &vec![BLOCKS.as_slice(); count], 2);
    }

    #[test]
    #[should_panic(expected = "blocks in every lane")]
    fn a_message_that_is_too_short_is_refused() {
        let count = widest().lanes();
        let mut messages = vec![BLOCKS.as_slice(); count];
        messages[count - 1] = &BLOCKS[..1];
        widest().run(&mut vec![scalar::SHA1_INIT; count], &messages, 2);
    }

    /// Small, for Miri, which needs no CPU to have the instructions that it knows.
    #[test]
    fn every_kernel_takes_in_blocks_as_the_oracle_does() {
        for kernel in Kernel::available() {
            let bytes: Vec<u8> = (0..kernel.lanes() * 100 + 65).map(|i| (i * 131 % 251) as u8).collect();
            let block = |lane: usize| &bytes[lane * 100 + 1..].as_chunks().0[..1];
            let messages: Vec<&[Block]> = (0..kernel.lanes()).map(block).collect();
            let passes = kernel.passes().expect("it is available");
            let (mut sha1, mut sha256) =
                (vec![scalar::SHA1_INIT; messages.len()], vec![scalar::SHA256_INIT; messages.len()]);
            passes.sha1.run(&mut sha1, &messages, 1);
            passes.sha256.run(&mut sha256, &messages, 1);
            for (i, message) in messages.iter().enumerate() {
                let mut expected = (scalar::SHA1_INIT, scalar::SHA256_INIT);
                scalar::sha1_compress(&mut expected.0, message);
                scalar::sha256_compress(&mut expected.1, message);
                assert_eq!((sha1[i], sha256[i]), expected, "{kernel}");
            }
        }
    }

    #[test]
    fn no_blocks_change_no_state() {
        for kernel in Kernel::available() {
            let mut words = vec![scalar::SHA1_INIT; kernel.lanes()];
            let passes = kernel.passes().expect("it is available");
            passes.sha1.run(&mut words, &vec![[].as_slice(); kernel.lanes()], 0);
            assert!(words.iter().all(|words| *words == scalar::SHA1_INIT), "{kernel}");
        }
    }
}
