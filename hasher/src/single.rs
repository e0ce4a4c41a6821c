//! One message at a time through other people's code: the `sha1` and `sha2` crates (which use SHA-NI where the CPU
//! has it) and `sha1-asm` (which does not need it). Does not choose between them: `kernel` does.

use crate::BLOCK_BYTES;

/// SHA-1 by the `sha1` crate.
pub(crate) fn sha1_crate(state: &mut [u32; 5], blocks: &[[u8; BLOCK_BYTES]]) {
    sha1::block_api::compress(state, blocks);
}

/// SHA-1 by hand-written x86-64 assembly that runs on every such CPU.
#[cfg(target_arch = "x86_64")]
pub(crate) fn sha1_asm(state: &mut [u32; 5], blocks: &[[u8; BLOCK_BYTES]]) {
    sha1_asm::compress(state, blocks);
}

/// SHA-256 by the `sha2` crate.
pub(crate) fn sha256_crate(state: &mut [u32; 8], blocks: &[[u8; BLOCK_BYTES]]) {
    sha2::block_api::compress256(state, blocks);
}
