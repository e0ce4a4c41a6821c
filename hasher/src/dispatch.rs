//! `Dispatcher`: the kernels in use for each algorithm and each number of messages; one for the process, chosen at the first
//! use, or by the environment variable `RINGTIDE_KERNEL`.

use std::fmt;
use std::sync::OnceLock;

use crate::kernel::{CpuFeatures, Kernel, Passes};
use crate::pass::MAX_LANES;
use crate::plan::Plan;
use crate::{Sha1Digest, Sha256Digest, scalar};

/// The environment variable that restricts the choice: names of kernels with commas between them, or `auto`. For tests and
/// measurements.
pub const KERNEL_VARIABLE: &str = "RINGTIDE_KERNEL";

/// Hashes with a choice of kernels. The functions of this crate use [`Dispatcher::current`]; others are for measurements and
/// tests.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    pub(crate) sha1: Plan<5>,
    pub(crate) sha256: Plan<8>,
}

/// An algorithm, where both are spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        })
    }
}

impl Dispatcher {
    /// What this process uses. The first call decides, which takes about a millisecond.
    pub fn current() -> &'static Self {
        static CURRENT: OnceLock<Dispatcher> = OnceLock::new();
        CURRENT.get_or_init(|| {
            let wanted = std::env::var(KERNEL_VARIABLE).ok();
            Self::with(&chosen(wanted.as_deref(), CpuFeatures::detect()))
        })
    }

    /// One that uses this kernel whatever there is to hash; `None` where the CPU cannot run it.
    #[must_use]
    pub fn only(kernel: Kernel) -> Option<Self> {
        kernel.passes().map(|_| Self::with(&[kernel]))
    }

    /// One that chooses among these kernels.
    ///
    /// # Panics
    /// When the CPU can run none of them.
    fn with(kernels: &[Kernel]) -> Self {
        let passes: Vec<Passes> = kernels.iter().filter_map(|kernel| kernel.passes()).collect();
        let sha1: Vec<_> = passes.iter().map(|passes| passes.sha1).collect();
        let mut sha256: Vec<_> = passes.iter().map(|passes| passes.sha256).collect();
        // For the SHA-256 that `Asm` has not, `Crate` stands in, which follows it in `Kernel::ALL`.
        sha256.dedup_by_key(|pass| pass.kernel());
        Self {
            sha1: Plan::calibrate(scalar::SHA1_INIT, &sha1),
            sha256: Plan::calibrate(scalar::SHA256_INIT, &sha256),
        }
    }

    /// The kernels that hash `count` messages of equal length, in the order of their use.
    #[must_use]
    pub fn mix(&self, algorithm: Algorithm, count: usize) -> Vec<Kernel> {
        match algorithm {
            Algorithm::Sha1 => self.sha1.mix(count),
            Algorithm::Sha256 => self.sha256.mix(count),
        }
    }

    /// As [`sha1_many`](crate::sha1_many), by this dispatcher's kernels.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn sha1_many(&self, messages: &[&[u8]], out: &mut [Sha1Digest]) {
        assert_eq!(messages.len(), out.len(), "one digest per message");
        self.sha1_each(messages.iter().copied(), out);
    }

    /// As [`sha256_many`](crate::sha256_many), by this dispatcher's kernels.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn sha256_many(&self, messages: &[&[u8]], out: &mut [Sha256Digest]) {
        assert_eq!(messages.len(), out.len(), "one digest per message");
        self.sha256_each(messages.iter().copied(), out);
    }
}

/// What hashes 1, 2, 4 and so on messages: `sha1 1: crate, 2: sha-ni-x2, ...; sha256 1: crate, ...`.
impl fmt::Display for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts =
            || std::iter::successors(Some(1), |count| Some(count * 2).filter(|count| *count <= MAX_LANES));
        let mixes = |algorithm| {
            counts().map(move |count| format!("{count}: {}", spelled(&self.mix(algorithm, count))))
        };
        let line = |algorithm| mixes(algorithm).collect::<Vec<_>>().join(", ");
        write!(f, "sha1 {}; sha256 {}", line(Algorithm::Sha1), line(Algorithm::Sha256))
    }
}

fn spelled(mix: &[Kernel]) -> String {
    let runs = mix.chunk_by(|a, b| a == b).map(|run| match run {
        [kernel] => kernel.to_string(),
        _ => format!("{} x {}", run.len(), run[0]),
    });
    runs.collect::<Vec<_>>().join(" + ")
}

/// The kernels to choose from. What is asked for and not there is passed over, and nonsense counts as `auto`: a library
/// does not end the process over an environment variable.
fn chosen(wanted: Option<&str>, cpu: CpuFeatures) -> Vec<Kernel> {
    let runnable = || Kernel::ALL.into_iter().filter(|kernel| kernel.runs_on(cpu));
    let names: Vec<_> = wanted.unwrap_or_default().split(',').map(|name| name.trim().parse()).collect();
    let named: Vec<_> = runnable().filter(|kernel| names.contains(&Ok(*kernel))).collect();
    if named.is_empty() {
        // The oracle is for comparison; whatever the CPU is, there is the crates' code.
        return runnable().filter(|kernel| *kernel != Kernel::Scalar).collect();
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: CpuFeatures = CpuFeatures { asm: true, sha_ni: true, avx2: true, avx512: true };
    const OLD: CpuFeatures = CpuFeatures { asm: true, sha_ni: false, avx2: true, avx512: false };
    const OTHER: CpuFeatures = CpuFeatures { asm: false, sha_ni: false, avx2: false, avx512: false };

    #[test]
    fn the_cpu_decides_what_there_is_to_choose_from() {
        assert_eq!(chosen(None, ALL), Kernel::ALL[1..]);
        assert_eq!(chosen(None, OLD), [Kernel::Asm, Kernel::Crate, Kernel::Avx2X8]);
        assert_eq!(chosen(None, OTHER), [Kernel::Crate]);
    }

    #[test]
    fn a_request_restricts_it_where_it_can() {
        assert_eq!(chosen(Some("scalar"), ALL), [Kernel::Scalar]);
        assert_eq!(chosen(Some("avx512-x16, sha-ni"), ALL), [Kernel::ShaNi, Kernel::Avx512X16]);
        assert_eq!(chosen(Some("avx512-x16,crate"), OLD), [Kernel::Crate]);
        for nothing in ["auto", "", "nonsense", "sha-ni"] {
            assert_eq!(chosen(Some(nothing), OTHER), chosen(None, OTHER), "{nothing:?}");
        }
    }

    /// What a CPU with less would use, on this one as far as it goes.
    #[test]
    #[cfg_attr(miri, ignore = "hashes more than Miri can in a reasonable time")]
    fn every_cpu_hashes_right() {
        let data: Vec<u8> = (0..20_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let messages: Vec<&[u8]> = data.chunks(531).collect();
        let without_avx512 = CpuFeatures { avx512: false, ..ALL };
        let without_avx = CpuFeatures { avx2: false, ..without_avx512 };
        let oldest = CpuFeatures { sha_ni: false, ..without_avx };
        for cpu in [ALL, without_avx512, without_avx, OLD, oldest, OTHER] {
            let dispatcher = Dispatcher::with(&chosen(None, cpu));
            let (mut sha1, mut sha256) = (vec![[0; 20]; messages.len()], vec![[0; 32]; messages.len()]);
            dispatcher.sha1_many(&messages, &mut sha1);
            dispatcher.sha256_many(&messages, &mut sha256);
            for (i, message) in messages.iter().enumerate() {
                assert_eq!((sha1[i], sha256[i]), (scalar::sha1(message), scalar::sha256(message)), "{cpu:?}");
            }
            for kernel in (1..=32).flat_map(|count| dispatcher.mix(Algorithm::Sha1, count)) {
                assert!(kernel.runs_on(cpu), "{kernel} on {cpu:?}");
            }
        }
    }

    #[test]
    fn a_dispatcher_says_what_it_uses() {
        let dispatcher = Dispatcher::only(Kernel::Scalar).expect("runs everywhere");
        assert!(
            dispatcher.to_string().starts_with("sha1 1: scalar, 2: 2 x scalar, 4: 4 x scalar, "),
            "{dispatcher}"
        );
        assert!(dispatcher.to_string().ends_with(", 32: 32 x scalar"), "{dispatcher}");
        assert_eq!(dispatcher.mix(Algorithm::Sha256, 3), [Kernel::Scalar; 3]);
    }
}
