//! Memory of huge pages, where the kernel has any.

use std::io;

use memmap2::{Advice, MmapMut};

/// So many bytes, all zero, that begin where a page does.
///
/// # Errors
/// When there is no memory.
pub fn huge(len: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(len.max(1))?;
    // A kernel without huge pages refuses, and does without.
    let _ = memory.advise(Advice::HugePage);
    Ok(memory)
}
