//! `Kernel`: the pieces of code that can hash, and which of them this CPU can run. Does not own the code, nor the choice
//! between them (`plan`).

use std::fmt;
use std::str::FromStr;

use crate::pass::Pass;
use crate::{scalar, single};

#[cfg(target_arch = "x86_64")]
use crate::{sha_ni, wide};

/// A way to hash one message, or several in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The oracle: correct and slow.
    Scalar,
    /// `sha1-asm`: x86-64 without SHA-NI. It has no SHA-256, for which [`Kernel::Crate`] stands in.
    Asm,
    /// The `sha1` and `sha2` crates: SHA-NI on x86-64, the SHA extensions on aarch64.
    Crate,
    /// SHA-NI, one message.
    ShaNi,
    /// SHA-NI, two messages whose instructions alternate.
    ShaNiX2,
    /// SHA-NI, three messages.
    ShaNiX3,
    /// SHA-NI, four messages.
    ShaNiX4,
    /// AVX2, eight messages in the lanes of its registers.
    Avx2X8,
    /// AVX-512, sixteen messages.
    Avx512X16,
    /// AVX-512, sixteen messages in each of two sets of registers whose instructions alternate.
    Avx512X32,
}

impl Kernel {
    /// All kernels, those of one message first.
    pub const ALL: [Self; 10] = [
        Self::Scalar,
        Self::Asm,
        Self::Crate,
        Self::ShaNi,
        Self::ShaNiX2,
        Self::ShaNiX3,
        Self::ShaNiX4,
        Self::Avx2X8,
        Self::Avx512X16,
        Self::Avx512X32,
    ];

    /// The kernels that this CPU can run.
    pub fn available() -> impl Iterator<Item = Self> {
        let cpu = CpuFeatures::detect();
        Self::ALL.into_iter().filter(move |kernel| kernel.runs_on(cpu))
    }

    /// How many messages it hashes in step.
    #[must_use]
    pub fn lanes(self) -> usize {
        match self {
            Self::Scalar | Self::Asm | Self::Crate | Self::ShaNi => 1,
            Self::ShaNiX2 => 2,
            Self::ShaNiX3 => 3,
            Self::ShaNiX4 => 4,
            Self::Avx2X8 => 8,
            Self::Avx512X16 => 16,
            Self::Avx512X32 => 32,
        }
    }

    pub(crate) fn runs_on(self, cpu: CpuFeatures) -> bool {
        match self {
            Self::Scalar | Self::Crate => true,
            Self::Asm => cpu.asm,
            Self::ShaNi | Self::ShaNiX2 | Self::ShaNiX3 | Self::ShaNiX4 => cpu.sha_ni,
            Self::Avx2X8 => cpu.avx2,
            Self::Avx512X16 | Self::Avx512X32 => cpu.avx512,
        }
    }

    /// Its code, where this CPU can run it.
    pub(crate) fn passes(self) -> Option<Passes> {
        if !self.runs_on(CpuFeatures::detect()) {
            return None;
        }
        let one = |sha1, sha256| Passes { sha1: Pass::one(self, sha1), sha256: Pass::one(self, sha256) };
        #[cfg(target_arch = "x86_64")]
        let many = |sha1, sha256| {
            let lanes = self.lanes();
            // SAFETY: the code below has as many lanes as its kernel says, and the CPU has the features, as was just asked.
            unsafe { Passes { sha1: Pass::many(self, lanes, sha1), sha256: Pass::many(self, lanes, sha256) } }
        };
        Some(match self {
            Self::Scalar => one(scalar::sha1_compress, scalar::sha256_compress),
            Self::Crate => one(single::sha1_crate, single::sha256_crate),
            #[cfg(target_arch = "x86_64")]
            Self::Asm => Passes {
                sha1: Pass::one(self, single::sha1_asm),
                sha256: Pass::one(Self::Crate, single::sha256_crate),
            },
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => many(sha_ni::sha1::<1>, sha_ni::sha256::<1>),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX2 => many(sha_ni::sha1::<2>, sha_ni::sha256::<2>),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX3 => many(sha_ni::sha1::<3>, sha_ni::sha256::<3>),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX4 => many(sha_ni::sha1::<4>, sha_ni::sha256::<4>),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2X8 => many(wide::sha1_avx2_x8, wide::sha256_avx2_x8),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512X16 => many(wide::sha1_avx512_x16, wide::sha256_avx512_x16),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512X32 => many(wide::sha1_avx512_x32, wide::sha256_avx512_x32),
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Asm => "asm",
            Self::Crate => "crate",
            Self::ShaNi => "sha-ni",
            Self::ShaNiX2 => "sha-ni-x2",
            Self::ShaNiX3 => "sha-ni-x3",
            Self::ShaNiX4 => "sha-ni-x4",
            Self::Avx2X8 => "avx2-x8",
            Self::Avx512X16 => "avx512-x16",
            Self::Avx512X32 => "avx512-x32",
        }
    }
}

/// A kernel's code.
pub(crate) struct Passes {
    pub(crate) sha1: Pass<5>,
    pub(crate) sha256: Pass<8>,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKernel(String);

impl fmt::Display for UnknownKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Kernel::ALL.map(Kernel::name).join(", ");
        write!(f, "no kernel is called {:?}; there are {names}", self.0)
    }
}

impl std::error::Error for UnknownKernel {}

impl FromStr for Kernel {
    type Err = UnknownKernel;

    fn from_str(name: &str) -> Result<Self, UnknownKernel> {
        let found = Self::ALL.into_iter().find(|kernel| kernel.name() == name);
        found.ok_or_else(|| UnknownKernel(name.to_owned()))
    }
}

/// What of a CPU decides which kernels it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuFeatures {
    /// Whether `sha1-asm` can run, which needs no feature.
    pub(crate) asm: bool,
    /// With SSSE3 and SSE4.1, which the kernels use beside it.
    pub(crate) sha_ni: bool,
    pub(crate) avx2: bool,
    /// F and BW.
    pub(crate) avx512: bool,
}

impl CpuFeatures {
    /// Asks the CPU once; the standard library remembers. It also asks whether the system saves the registers.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn detect() -> Self {
        Self {
            // Miri runs no assembly.
            asm: !cfg!(miri),
            sha_ni: is_x86_feature_detected!("sha")
                && is_x86_feature_detected!("ssse3")
                && is_x86_feature_detected!("sse4.1"),
            avx2: is_x86_feature_detected!("avx2"),
            avx512: is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn detect() -> Self {
        Self { asm: false, sha_ni: false, avx2: false, avx512: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kernel in Kernel::ALL {
            assert_eq!(kernel.to_string().parse(), Ok(kernel));
        }
        let error = "avx9".parse::<Kernel>().expect_err("there is none");
        assert!(error.to_string().contains("\"avx9\"") && error.to_string().contains("sha-ni-x4"), "{error}");
    }

    #[test]
    fn a_cpu_without_a_feature_has_no_kernel_of_it() {
        let cpu = |sha_ni, avx2, avx512| CpuFeatures { asm: true, sha_ni, avx2, avx512 };
        let kernels = |cpu| Kernel::ALL.into_iter().filter(|kernel| kernel.runs_on(cpu)).count();
        assert_eq!(kernels(cpu(true, true, true)), Kernel::ALL.len());
        assert_eq!(kernels(cpu(true, true, false)), 8);
        assert_eq!(kernels(cpu(false, true, false)), 4);
        assert_eq!(kernels(cpu(false, false, false)), 3);
        assert_eq!(kernels(CpuFeatures { asm: false, ..cpu(false, false, false) }), 2);
    }

    #[test]
    fn a_kernel_has_code_exactly_where_it_runs() {
        for kernel in Kernel::ALL {
            let runs = kernel.runs_on(CpuFeatures::detect());
            assert_eq!(kernel.passes().is_some(), runs, "{kernel}");
            if let Some(passes) = kernel.passes() {
                assert_eq!((passes.sha1.lanes(), passes.sha256.lanes()), (kernel.lanes(), kernel.lanes()));
            }
        }
    }
}
