//! `SendBatch`: what one `sendmsg` carries, headers and payloads in the order of the stream.
//!
//! Owns the bytes and keeps the payloads alive until the send's final completion, and knows how much the kernel
//! has taken. Knows nothing of the wire protocol. Recycled, so that a send allocates nothing in steady state.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::storage::{FrozenRange, MappedRange};

/// The most buffers one `sendmsg` takes (the kernel's `UIO_MAXIOV`).
const IOV_MAX: usize = 1024;

/// Immutable bytes at a stable address that a send or a write keeps alive.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A part of a pooled piece buffer.
    Frozen(FrozenRange),
    /// Anything else.
    Shared(Bytes),
}

impl Payload {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Frozen(range) => range.as_slice(),
            Payload::Shared(bytes) => bytes,
        }
    }
}

impl From<FrozenRange> for Payload {
    fn from(range: FrozenRange) -> Payload {
        Payload::Frozen(range)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Payload {
        Payload::Shared(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload::Shared(Bytes::from(bytes))
    }
}

/// A payload and where it stands among the small bytes.
struct Inserted {
    /// How many small bytes go before it. Invariant: never falls from one to the next.
    after: usize,
    body: Body,
}

/// What is sent by reference.
enum Body {
    Payload(Payload, Range<usize>),
    Mapped(MappedRange),
}

impl Body {
    fn region(&self) -> Region {
        match self {
            Body::Payload(payload, range) => Region::of(&payload.as_slice()[range.clone()]),
            Body::Mapped(range) => Region { start: range.as_ptr(), len: range.len() },
        }
    }
}

/// Memory that the kernel is told of. Not a slice: what is mapped may change at any time, so that only the kernel may
/// look at it.
#[derive(Clone, Copy)]
struct Region {
    start: *const u8,
    len: usize,
}

impl Region {
    fn of(bytes: &[u8]) -> Region {
        Region { start: bytes.as_ptr(), len: bytes.len() }
    }
}

/// Bytes to send, in order: small ones copied into one vector, payloads by reference.
pub struct SendBatch {
    bytes: Vec<u8>,
    payloads: Vec<Inserted>,
    payload_bytes: usize,
    /// Bytes the kernel has taken, from the start.
    sent: usize,
    iovecs: Vec<libc::iovec>,
    /// Boxed: the kernel is told its address, and the batch moves.
    header: Box<libc::msghdr>,
}

impl SendBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> SendBatch {
        SendBatch {
            bytes: Vec::new(),
            payloads: Vec::new(),
            payload_bytes: 0,
            sent: 0,
            iovecs: Vec::new(),
            header: Box::new(super::empty_header()),
        }
    }

    /// Empties the batch and lets its payloads go; keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.payloads.clear();
        self.iovecs.clear();
        self.payload_bytes = 0;
        self.sent = 0;
    }

    /// Appends a copy of `bytes`.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The small bytes, for an encoder to append to. They must not be shortened.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a part of a payload, by reference.
    ///
    /// # Panics
    /// When `range` is not inside the payload.
    pub fn push_payload(&mut self, payload: impl Into<Payload>, range: Range<usize>) {
        let payload = payload.into();
        let len = payload.as_slice().len();
        assert!(range.start <= range.end && range.end <= len, "{range:?} of a payload of {len} bytes");
        self.payload_bytes += range.len();
        self.payloads.push(Inserted { after: self.bytes.len(), body: Body::Payload(payload, range) });
    }

    /// Appends bytes of a file that are mapped, by reference. Where the file has become shorter meanwhile, the send fails.
    pub fn push_mapped(&mut self, range: MappedRange) {
        self.payload_bytes += range.len();
        self.payloads.push(Inserted { after: self.bytes.len(), body: Body::Mapped(range) });
    }

    /// Bytes in the batch, sent or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.payload_bytes
    }

    /// Whether there is nothing in the batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is nothing in the batch, and memory that it keeps for more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.bytes.capacity() + self.payloads.capacity() + self.iovecs.capacity() > 0
    }

    /// Bytes the kernel took before the send ended.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Notes that the kernel took `count` more bytes. Returns whether that was the last of them.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.sent += count;
        debug_assert!(self.sent <= self.len());
        self.sent >= self.len()
    }

    /// Describes what is left to send (or its first 1,024 parts) for `sendmsg`. The pointer and all it leads to
    /// stay valid until the batch is changed or dropped, also when it moves.
    pub(super) fn header(&mut self) -> *const libc::msghdr {
        let mut skip = self.sent;
        let mut iovecs = std::mem::take(&mut self.iovecs);
        iovecs.clear();
        for Region { start, len } in self.regions() {
            if skip >= len {
                skip -= len;
                continue;
            }
            if iovecs.len() == IOV_MAX {
                break;
            }
            let rest = start.wrapping_add(skip).cast_mut();
            iovecs.push(libc::iovec { iov_base: rest.cast(), iov_len: len - skip });
            skip = 0;
        }
        self.iovecs = iovecs;
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        // `usize` or `c_int`, as the C library has it.
        self.header.msg_iovlen = self.iovecs.len() as _;
        &raw const *self.header
    }

    /// All parts in order, some of them empty.
    fn regions(&self) -> impl Iterator<Item = Region> {
        let starts = std::iter::once(0).chain(self.payloads.iter().map(|inserted| inserted.after));
        let parts = self.payloads.iter().zip(starts).flat_map(|(inserted, start)| {
            [Region::of(&self.bytes[start..inserted.after]), inserted.body.region()]
        });
        let tail = self.payloads.last().map_or(0, |inserted| inserted.after);
        parts.chain(std::iter::once(Region::of(&self.bytes[tail..])))
    }
}

impl Default for SendBatch {
    fn default() -> SendBatch {
        SendBatch::new()
    }
}

impl fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendBatch({} of {} bytes sent, {} payloads)", self.sent, self.len(), self.payloads.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would see.
    fn described(batch: &mut SendBatch) -> Vec<Vec<u8>> {
        // SAFETY: the header was just made from live slices of the batch.
        unsafe {
            let header = &*batch.header();
            std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen as _)
                .iter()
                .map(|part| std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len).to_vec())
                .collect()
        }
    }

    fn sample() -> SendBatch {
        let mut batch = SendBatch::new();
        batch.push_bytes(b"ab");
        batch.bytes_mut().extend_from_slice(b"c");
        batch.push_payload(Bytes::from_static(b"-0123-"), 1..5);
        batch.push_payload(b"45".to_vec(), 0..2);
        batch.push_bytes(b"d");
        batch
    }

    #[test]
    fn parts_come_in_the_order_they_were_pushed() {
        let mut batch = sample();
        assert_eq!(batch.len(), 10);
        assert_eq!(described(&mut batch), [&b"abc"[..], b"0123", b"45", b"d"]);
    }

    #[test]
    fn any_partial_send_leaves_exactly_the_rest() {
        for first in 0..10 {
            let mut batch = sample();
            assert!(!batch.advance(first));
            assert_eq!(described(&mut batch).concat(), b"abc012345d"[first..]);
            assert!(batch.advance(10 - first));
            assert_eq!(described(&mut batch).concat(), b"");
        }
    }

    #[test]
    fn a_header_describes_at_most_what_the_kernel_takes() {
        let mut batch = SendBatch::new();
        for _ in 0..1500 {
            batch.push_payload(b"xy".to_vec(), 0..2);
        }
        assert_eq!(described(&mut batch).len(), IOV_MAX);
        assert!(!batch.advance(2 * IOV_MAX - 1));
        assert_eq!(described(&mut batch).len(), 1500 - IOV_MAX + 1);
    }

    #[test]
    fn clear_lets_the_payloads_go() {
        let mut batch = sample();
        let payload = Bytes::from(vec![1; 8]);
        batch.push_payload(payload.clone(), 0..8);
        assert!(!payload.is_unique());
        batch.clear();
        assert!(payload.is_unique() && batch.is_empty());
        assert_eq!(described(&mut batch).len(), 0);
    }

    #[test]
    #[should_panic(expected = "of a payload of 3 bytes")]
    fn a_range_beyond_its_payload_is_refused() {
        SendBatch::new().push_payload(vec![1, 2, 3], 2..4);
    }
}
