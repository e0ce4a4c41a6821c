//! A torrent's bytes on disk, and the memory they pass through.

mod buffer;
mod pool;

pub use buffer::{AlignedBuf, FrozenRange, PieceBuffer};
pub use pool::{BUFFER_ALIGN, BufferPool};
