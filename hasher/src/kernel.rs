//! Which code hashes: chosen once per process from what the CPU has, or by the environment variable
//! `RINGTIDE_KERNEL` (`scalar`, `asm`, `crate`, `auto`), which exists for tests and measurements.
//! Does not own the code itself.

use std::fmt;
use std::sync::OnceLock;

use crate::BLOCK_BYTES;
use crate::{scalar, single};

/// The environment variable that overrides the choice.
pub const KERNEL_VARIABLE: &str = "RINGTIDE_KERNEL";

/// A way to hash one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The oracle: correct and slow.
    Scalar,
    /// `sha1-asm` for SHA-1, the `sha2` crate for SHA-256: x86-64 without SHA-NI.
    Asm,
    /// The `sha1` and `sha2` crates: SHA-NI on x86-64, the SHA extensions on aarch64.
    Crate,
}

/// A function that takes whole blocks into a state of `W` words.
pub(crate) type Compress<const W: usize> = fn(&mut [u32; W], &[[u8; BLOCK_BYTES]]);

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
struct CpuFeatures {
    x86_64: bool,
    sha_ni: bool,
}

impl Kernel {
    /// The kernel this process uses. The first call decides.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Kernel> = OnceLock::new();
        *CURRENT.get_or_init(|| choose(std::env::var(KERNEL_VARIABLE).ok().as_deref(), CpuFeatures::detect()))
    }

    pub(crate) fn sha1(self) -> Compress<5> {
        match self {
            Self::Scalar => scalar::sha1_compress,
            #[cfg(target_arch = "x86_64")]
            Self::Asm => single::sha1_asm,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Asm => single::sha1_crate,
            Self::Crate => single::sha1_crate,
        }
    }

    pub(crate) fn sha256(self) -> Compress<8> {
        match self {
            Self::Scalar => scalar::sha256_compress,
            Self::Asm | Self::Crate => single::sha256_crate,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Asm => "asm",
            Self::Crate => "crate",
        })
    }
}

impl CpuFeatures {
    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        // The sha1 crate's SHA-NI code uses SSSE3 and SSE4.1 too and falls back to slow code without them.
        let sha_ni = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        Self { x86_64: true, sha_ni }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self { x86_64: false, sha_ni: false }
    }
}

/// An unknown request counts as `auto`: a library does not end the process over an environment variable.
fn choose(requested: Option<&str>, cpu: CpuFeatures) -> Kernel {
    match requested {
        Some("scalar") => Kernel::Scalar,
        Some("asm") if cpu.x86_64 => Kernel::Asm,
        Some("crate") => Kernel::Crate,
        _ if cpu.x86_64 && !cpu.sha_ni => Kernel::Asm,
        _ => Kernel::Crate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_X86: CpuFeatures = CpuFeatures { x86_64: true, sha_ni: true };
    const OLD_X86: CpuFeatures = CpuFeatures { x86_64: true, sha_ni: false };
    const OTHER: CpuFeatures = CpuFeatures { x86_64: false, sha_ni: false };

    #[test]
    fn the_cpu_decides() {
        assert_eq!(choose(None, NEW_X86), Kernel::Crate);
        assert_eq!(choose(None, OLD_X86), Kernel::Asm);
        assert_eq!(choose(None, OTHER), Kernel::Crate);
    }

    #[test]
    fn a_request_overrides_it_where_it_can() {
        for cpu in [NEW_X86, OLD_X86, OTHER] {
            assert_eq!(choose(Some("scalar"), cpu), Kernel::Scalar);
            assert_eq!(choose(Some("crate"), cpu), Kernel::Crate);
            assert_eq!(choose(Some("auto"), cpu), choose(None, cpu));
            assert_eq!(choose(Some("nonsense"), cpu), choose(None, cpu));
        }
        assert_eq!(choose(Some("asm"), NEW_X86), Kernel::Asm);
        assert_eq!(choose(Some("asm"), OTHER), Kernel::Crate);
    }
}
