//! `Scatter`: where the next bytes of a stream go, as far as that can be told: what is expected between payloads is set
//! aside, payloads land where they belong.
//!
//! Owns what the kernel writes until the receive's final completion, and knows how much came and how far it is what was
//! expected. Knows nothing of the wire protocol. Recycled, so that a receive allocates nothing in steady state.

use std::fmt;
use std::ops::Range;

use crate::storage::Landing;

/// The most buffers one `recvmsg` takes (the kernel's `UIO_MAXIOV`).
const IOV_MAX: usize = 1024;

/// What comes next in the stream.
enum Part {
    /// Bytes that are known, set aside.
    Aside(Range<usize>),
    /// Bytes of that landing.
    Landing(usize, Range<usize>),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Aside(range) | Part::Landing(_, range) => range.len(),
        }
    }
}

/// Memory for the next bytes of a stream, in order.
pub struct Scatter {
    parts: Vec<Part>,
    /// What the bytes set aside should be.
    expected: Vec<u8>,
    /// What they are.
    aside: Vec<u8>,
    landings: Vec<Landing>,
    len: usize,
    /// Bytes that came, from the start.
    received: usize,
    iovecs: Vec<libc::iovec>,
    /// Boxed: the kernel is told its address, and the scatter moves.
    header: Box<libc::msghdr>,
}

impl Scatter {
    /// One that takes nothing.
    #[must_use]
    pub fn new() -> Scatter {
        Scatter {
            parts: Vec::new(),
            expected: Vec::new(),
            aside: Vec::new(),
            landings: Vec::new(),
            len: 0,
            received: 0,
            iovecs: Vec::new(),
            header: Box::new(super::empty_header()),
        }
    }

    /// These bytes are expected next; what comes in their place is set aside.
    pub fn expect(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.expected.len();
        self.expected.extend_from_slice(bytes);
        self.push(Part::Aside(start..start + bytes.len()));
    }

    /// So many bytes of which nothing is known may come next: they are set aside.
    pub fn set_aside(&mut self, len: usize) {
        let start = self.expected.len();
        self.expected.resize(start + len, 0);
        self.push(Part::Aside(start..start + len));
    }

    /// The next bytes go to the last so many of the newest landing.
    ///
    /// # Panics
    /// When there is none, or it is shorter.
    pub fn expect_in_newest(&mut self, len: usize) {
        let (newest, landing) = self.landings.iter().enumerate().next_back().expect("a landing comes first");
        let start = landing.len().checked_sub(len).expect("a part of the landing");
        let part = Part::Landing(newest, start..landing.len());
        self.push(part);
    }

    /// Takes a landing, into which nothing goes yet.
    pub fn add_landing(&mut self, landing: Landing) {
        self.landings.push(landing);
    }

    /// The landing that was added last, to be made longer.
    pub fn newest_landing(&mut self) -> Option<&mut Landing> {
        self.landings.last_mut()
    }

    /// All landings, in the order in which they were added.
    pub fn landings_mut(&mut self) -> impl Iterator<Item = &mut Landing> {
        self.landings.iter_mut()
    }

    /// Empties the scatter and hands its landings out; keeps the memory.
    pub fn clear(&mut self) -> impl Iterator<Item = Landing> + '_ {
        self.parts.clear();
        self.expected.clear();
        self.iovecs.clear();
        (self.len, self.received) = (0, 0);
        self.landings.drain(..)
    }

    /// Bytes that fit.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What came, part by part; the last one may be cut short.
    pub fn arrived(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.received;
        self.parts.iter().map_while(move |part| {
            let len = part.len().min(left);
            left -= len;
            (len > 0).then(|| &self.bytes_of(part)[..len])
        })
    }

    /// How many of the parts that came are where they belong: those before the first that is not what was expected.
    #[must_use]
    pub fn as_expected(&self) -> usize {
        let is_expected = |(part, bytes): &(&Part, &[u8])| match part {
            Part::Aside(range) => self.expected[range.clone()].starts_with(bytes),
            Part::Landing(..) => true,
        };
        self.parts.iter().zip(self.arrived()).take_while(is_expected).count()
    }

    /// So many bytes came.
    pub(super) fn set_received(&mut self, count: usize) {
        self.received = count.min(self.len);
    }

    /// Describes the memory for `recvmsg`. The pointer and all it leads to stay valid until the scatter is changed or
    /// dropped, also when it moves.
    pub(super) fn header(&mut self) -> *mut libc::msghdr {
        let Scatter { parts, aside, landings, iovecs, header, expected, .. } = self;
        // Long enough already, but for the first time.
        aside.resize(expected.len().max(aside.len()), 0);
        iovecs.clear();
        for part in parts.iter().take(IOV_MAX) {
            let (at, len) = match part {
                Part::Aside(range) => (aside[range.clone()].as_mut_ptr(), range.len()),
                Part::Landing(number, range) => landings[*number].region(range.clone()),
            };
            iovecs.push(libc::iovec { iov_base: at.cast(), iov_len: len });
        }
        header.msg_iov = iovecs.as_mut_ptr();
        // `usize` or `c_int`, as the C library has it.
        header.msg_iovlen = iovecs.len() as _;
        &raw mut **header
    }

    fn push(&mut self, part: Part) {
        debug_assert!(self.parts.len() < IOV_MAX, "the kernel takes no more");
        self.len += part.len();
        self.parts.push(part);
    }

    fn bytes_of(&self, part: &Part) -> &[u8] {
        match part {
            Part::Aside(range) => &self.aside[range.clone()],
            Part::Landing(number, range) => &self.landings[*number].as_slice()[range.clone()],
        }
    }
}

impl Default for Scatter {
    fn default() -> Scatter {
        Scatter::new()
    }
}

impl fmt::Debug for Scatter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scatter({} of {} bytes in {} parts)", self.received, self.len, self.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{BufferPool, PieceBuffer};

    const LEN: usize = 4096;

    fn buffer() -> PieceBuffer {
        BufferPool::new(4 * LEN).try_take(LEN).expect("within the limit")
    }

    /// "ab", ten bytes at 100, "cd", ten more behind them.
    fn sample(buffer: &mut PieceBuffer) -> Scatter {
        let mut scatter = Scatter::new();
        scatter.expect(b"ab");
        scatter.add_landing(buffer.land(100..110).expect("free"));
        scatter.expect_in_newest(10);
        scatter.expect(b"cd");
        assert!(buffer.land_more(scatter.newest_landing().expect("was added"), 10));
        scatter.expect_in_newest(10);
        scatter
    }

    /// What the kernel does.
    fn receive(scatter: &mut Scatter, bytes: &[u8]) {
        let mut rest = bytes;
        // SAFETY: the header was just made and describes memory of the scatter.
        let header = unsafe { &*scatter.header() };
        // SAFETY: as above.
        for part in unsafe { std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen as _) } {
            let (now, later) = rest.split_at(part.iov_len.min(rest.len()));
            // SAFETY: as above, and nobody looks at it now.
            unsafe { part.iov_base.cast::<u8>().copy_from_nonoverlapping(now.as_ptr(), now.len()) };
            rest = later;
        }
        scatter.set_received(bytes.len());
    }

    #[test]
    fn what_is_expected_goes_where_it_belongs() {
        let mut buffer = buffer();
        let mut scatter = sample(&mut buffer);
        assert_eq!(scatter.len(), 24);
        receive(&mut scatter, b"ab0123456789cd98765");
        assert_eq!(scatter.as_expected(), 4);
        assert_eq!(scatter.arrived().collect::<Vec<_>>(), [&b"ab"[..], b"0123456789", b"cd", b"98765"]);
        scatter.landings_mut().for_each(|landing| assert!(buffer.settle(landing)));
        let parts: Vec<&[u8]> = scatter.arrived().collect();
        buffer.write(100, parts[1]);
        buffer.write(110, parts[3]);
        assert_eq!(buffer.freeze_to(115).as_slice()[100..], *b"012345678998765");
        scatter.clear().for_each(|landing| buffer.release(landing));
        assert!(scatter.is_empty() && scatter.arrived().next().is_none());
    }

    #[test]
    fn it_is_seen_where_something_else_begins() {
        for (bytes, fits) in [
            (&b"x"[..], 0),
            (b"", 0),
            (b"a", 1),
            (b"ab01", 2),
            (b"ab0123456789c", 3),
            (b"ab0123456789xd3", 2),
        ] {
            let mut buffer = buffer();
            let mut scatter = sample(&mut buffer);
            receive(&mut scatter, bytes);
            assert_eq!(scatter.as_expected(), fits, "{bytes:?}");
            assert_eq!(scatter.arrived().collect::<Vec<_>>().concat(), bytes);
        }
    }

    #[test]
    fn a_scatter_is_used_again() {
        let mut buffer = buffer();
        let mut scatter = sample(&mut buffer);
        receive(&mut scatter, b"ab01");
        scatter.clear().for_each(|landing| buffer.release(landing));
        scatter.expect(b"xyz");
        receive(&mut scatter, b"xy");
        assert_eq!((scatter.as_expected(), scatter.arrived().next()), (1, Some(&b"xy"[..])));
    }
}
