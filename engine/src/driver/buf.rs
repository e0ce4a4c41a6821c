//! `RecvBuf`: received bytes that go back to where they came from when dropped.

use std::fmt;
use std::ops::Deref;

use super::portable::PooledBuf;
use super::ring::RingBuf;

/// Bytes received, owned. Dropping it gives the buffer back at once, so copy out what you need and drop it
/// while it is hot: all sockets of a driver share its receive buffers.
pub struct RecvBuf(Source);

enum Source {
    /// A provided buffer of the ring.
    Ring(RingBuf),
    /// A buffer of the portable driver's pool.
    Pooled(PooledBuf),
    /// Memory of its own.
    Heap(Vec<u8>),
}

impl From<RingBuf> for RecvBuf {
    fn from(buf: RingBuf) -> RecvBuf {
        RecvBuf(Source::Ring(buf))
    }
}

impl From<PooledBuf> for RecvBuf {
    fn from(buf: PooledBuf) -> RecvBuf {
        RecvBuf(Source::Pooled(buf))
    }
}

impl From<Vec<u8>> for RecvBuf {
    fn from(bytes: Vec<u8>) -> RecvBuf {
        RecvBuf(Source::Heap(bytes))
    }
}

impl RecvBuf {
    /// Whether there was no room for more, so that more may be there.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        match &self.0 {
            Source::Ring(buf) => buf.is_filled(),
            Source::Pooled(_) | Source::Heap(_) => false,
        }
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Ring(buf) => buf.as_slice(),
            Source::Pooled(buf) => buf.as_slice(),
            Source::Heap(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for RecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvBuf({} bytes)", self.len())
    }
}
