//! The I/O seam: what a shard asks of the kernel ([`Op`]), what comes back ([`Completion`]), and the two
//! drivers behind it.
//!
//! Owns the types of the seam and the choice of driver. Owns no policy: who is read from, how much, and when is
//! the shard's business. `ring` runs operations on io_uring, `portable` the same ones on epoll.
//!
//! The rules, the same for both:
//! - A [`Token`] names one operation from `push` to its **final** completion (`last`), of which there is exactly
//!   one; it may be used again afterwards.
//! - An operation owns everything the kernel may touch until then. [`Driver::cancel`] is a request: the final
//!   completion still comes, with `ECANCELED` unless the operation was faster.
//! - At most one receive ([`Op::Recv`], [`Op::RecvSome`], [`Op::RecvInto`]), one [`Op::Send`] and one [`Op::Accept`] per socket.
//! - Nothing moves outside [`Driver::wait`]; completions that are not polled stay queued.
//! - A driver lives and dies on one thread.

mod batch;
mod buf;
mod portable;
mod probe;
mod ring;
mod scatter;
mod socket;
mod tcp_info;
mod wake;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub use batch::{Payload, SendBatch};
pub use buf::RecvBuf;
pub use probe::{IoChoice, IoKind, ParseIoChoiceError, probe};
pub use scatter::Scatter;
pub use socket::Socket;
pub use tcp_info::TcpInfo;
pub use wake::Waker;

use crate::storage::AlignedBuf;

/// Sizes of a driver. All of its memory is allocated when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverConfig {
    /// Receive buffers shared by all sockets; a [`RecvBuf`] that is not dropped keeps one from the others.
    pub recv_buffers: u16,
    /// Bytes of a receive buffer. Less than 64 KiB costs a quarter to twice as much CPU per byte.
    pub recv_buffer_bytes: u32,
    /// Submissions that fit between two waits without a system call of their own (ring only).
    pub entries: u32,
    /// Completions the kernel can post before it has to queue them in memory of its own (ring only).
    pub completions: u32,
    /// Whether larger sends are not copied (SENDMSG_ZC, ring only). A send's completion then brings an empty batch in
    /// place of its own, which is kept until the kernel has done with it. Where the kernel refuses (locked memory is
    /// short, the socket cannot), it copies.
    pub zero_copy: bool,
}

impl Default for DriverConfig {
    /// 64 buffers of 64 KiB (4 MiB), 512 submissions, 4,096 completions (96 KiB of queues).
    fn default() -> DriverConfig {
        DriverConfig {
            recv_buffers: 64,
            recv_buffer_bytes: 64 << 10,
            entries: 512,
            completions: 4096,
            zero_copy: false,
        }
    }
}

/// Names an operation in flight. Chosen by the caller, unique among those of one driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One thing for the kernel to do.
#[derive(Debug)]
pub enum Op {
    /// Takes connections until cancelled or failed: many [`Outcome::Accepted`], the last one an error.
    /// Connections that died in the queue are skipped; running out of descriptors (`EMFILE`) ends it.
    /// Connections have `TCP_NODELAY` set.
    Accept {
        /// A listening socket.
        listener: Socket,
    },
    /// Opens a TCP connection (`TCP_NODELAY` set). Has no timeout of its own: cancel it.
    Connect {
        /// The peer.
        addr: SocketAddr,
        /// The local address to connect from, port 0 for any.
        bind: Option<SocketAddr>,
    },
    /// Receives once: 1 to `max` bytes, never more, so that what follows a handshake stays in the socket.
    RecvSome {
        /// A connected socket.
        socket: Socket,
        /// The most bytes to take; at least 1.
        max: usize,
    },
    /// Receives until the end of the stream: many [`Outcome::Received`], then one [`Outcome::RecvEnded`]. When
    /// all receive buffers are out, sockets wait for one in the order in which they needed it.
    Recv {
        /// A connected socket.
        socket: Socket,
    },
    /// Receives once, into the scatter: at least a byte, unless it is the end of the stream. One completion, which
    /// returns the scatter.
    RecvInto {
        /// A connected socket.
        socket: Socket,
        /// Where the bytes go.
        scatter: Box<Scatter>,
    },
    /// Sends all of the batch; ends early only with an error. One completion, which returns the batch.
    Send {
        /// A connected socket.
        socket: Socket,
        /// What to send.
        batch: SendBatch,
    },
    /// Reads exactly `len` bytes at `offset`, fewer only at the end of the file.
    Read {
        /// A file open for reading.
        file: Arc<OwnedFd>,
        /// Bytes from the start of the file.
        offset: u64,
        /// Where the bytes go; its valid length is set to what was read.
        buf: AlignedBuf,
        /// Bytes to read; at most the buffer's capacity, or the outcome is `InvalidInput`.
        len: usize,
    },
    /// Writes all of `data` at `offset`.
    Write {
        /// A file open for writing.
        file: Arc<OwnedFd>,
        /// Bytes from the start of the file.
        offset: u64,
        /// What to write.
        data: Payload,
    },
    /// Makes the file's data durable (fdatasync). Not ordered after writes still in flight.
    Sync {
        /// A file open for writing.
        file: Arc<OwnedFd>,
    },
}

/// What became of an operation, or of a part of one.
#[derive(Debug)]
pub struct Completion {
    /// The operation.
    pub token: Token,
    /// What happened.
    pub outcome: Outcome,
    /// Whether this is the operation's final completion.
    pub last: bool,
}

/// What happened. Errors are the kernel's; a cancelled operation ends with `ECANCELED`.
#[derive(Debug)]
pub enum Outcome {
    /// A connection and who made it.
    Accepted(io::Result<(Socket, SocketAddr)>),
    /// A connection was opened, or not.
    Connected(io::Result<Socket>),
    /// Bytes of the stream, never none; in the order of the stream.
    Received(RecvBuf),
    /// No more bytes will come from this operation: `Ok` at the end of the stream.
    RecvEnded(io::Result<()>),
    /// The scatter, and how many bytes came: none at the end of the stream, or where the scatter takes none.
    ReceivedInto(Box<Scatter>, io::Result<usize>),
    /// The batch was sent (then [`SendBatch::sent`] is its length), or a part of it and an error. An empty one in its
    /// place where it was not copied ([`DriverConfig::zero_copy`]).
    Sent(SendBatch, io::Result<()>),
    /// The buffer, and how many bytes were read into it.
    Read(AlignedBuf, io::Result<usize>),
    /// All data was written, or an unknown part of it and an error.
    Written(io::Result<()>),
    /// The file's data is durable, or nobody knows.
    Synced(io::Result<()>),
}

/// Why there is no driver.
#[derive(Debug)]
pub enum DriverError {
    /// io_uring was asked for and the kernel refuses it.
    UringRefused {
        /// Why, in words for a person.
        reason: String,
    },
    /// The kernel refused something a driver cannot do without.
    Setup {
        /// What was being set up.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DriverError::UringRefused { reason } => {
                write!(f, "io_uring cannot be used here: {reason}; allow it, or choose --io epoll (or auto)")
            }
            DriverError::Setup { what, error } => write!(f, "cannot set up {what}: {error}"),
        }
    }
}

impl std::error::Error for DriverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DriverError::UringRefused { .. } => None,
            DriverError::Setup { error, .. } => Some(error),
        }
    }
}

/// Shorthand for `map_err`: names what was being set up.
fn setup(what: &'static str) -> impl FnOnce(io::Error) -> DriverError {
    move |error| DriverError::Setup { what, error }
}

/// A driver of one thread: operations in, completions out.
///
/// ```no_run
/// # use ringtide_engine::driver::{Driver, DriverConfig, IoKind, Op, Token};
/// # fn run(addr: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
/// let mut driver = Driver::new(IoKind::Uring, &DriverConfig::default())?;
/// driver.push(Token(1), Op::Connect { addr, bind: None });
/// while driver.in_flight() > 0 {
///     driver.wait(None)?;
///     while let Some(completion) = driver.poll() {
///         println!("{completion:?}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub enum Driver {
    /// On io_uring.
    Ring(Box<ring::Ring>),
    /// On epoll.
    Portable(Box<portable::Portable>),
}

impl Driver {
    /// Makes a driver; call on the thread that will use it.
    ///
    /// # Errors
    /// When the kernel refuses; [`probe()`] says beforehand what it would allow.
    pub fn new(kind: IoKind, config: &DriverConfig) -> Result<Driver, DriverError> {
        Ok(match kind {
            IoKind::Uring => Driver::Ring(Box::new(ring::Ring::new(config)?)),
            IoKind::Epoll => Driver::Portable(Box::new(portable::Portable::new(config)?)),
        })
    }

    /// What this driver runs on.
    #[must_use]
    pub fn kind(&self) -> IoKind {
        match self {
            Driver::Ring(_) => IoKind::Uring,
            Driver::Portable(_) => IoKind::Epoll,
        }
    }

    /// Makes [`Driver::wait`] return, from any thread, now or the next time it is called.
    #[must_use]
    pub fn waker(&self) -> Waker {
        match self {
            Driver::Ring(ring) => ring.waker(),
            Driver::Portable(portable) => portable.waker(),
        }
    }

    /// Takes over a connected or listening stream socket made elsewhere. Sets it blocking or non-blocking, as
    /// this driver needs it.
    ///
    /// # Errors
    /// When the descriptor is none the kernel can wait on.
    pub fn adopt(&mut self, fd: OwnedFd) -> io::Result<Socket> {
        match self {
            Driver::Ring(_) => ring::adopt(fd),
            Driver::Portable(portable) => portable.adopt(fd),
        }
    }

    /// Queues an operation. Never fails: errors come as completions.
    pub fn push(&mut self, token: Token, op: Op) {
        match self {
            Driver::Ring(ring) => ring.push(token, op),
            Driver::Portable(portable) => portable.push(token, op),
        }
    }

    /// Asks for an operation to end soon. Does nothing when there is none by this name.
    pub fn cancel(&mut self, token: Token) {
        match self {
            Driver::Ring(ring) => ring.cancel(token),
            Driver::Portable(portable) => portable.cancel(token),
        }
    }

    /// Submits what is queued and returns when a completion can be polled, when woken, or after `timeout`
    /// (`None`: never; zero: at once). Rarely returns early for no reason.
    ///
    /// # Errors
    /// When the kernel fails in a way that no operation is to blame for; the driver is of no more use.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Driver::Ring(ring) => ring.wait(timeout),
            Driver::Portable(portable) => portable.wait(timeout),
        }
    }

    /// The next completion, without entering the kernel.
    pub fn poll(&mut self) -> Option<Completion> {
        match self {
            Driver::Ring(ring) => ring.poll(),
            Driver::Portable(portable) => portable.poll(),
        }
    }

    /// Operations whose final completion has not been polled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match self {
            Driver::Ring(ring) => ring.in_flight(),
            Driver::Portable(portable) => portable.in_flight(),
        }
    }

    /// Receive buffers that are neither in a [`RecvBuf`] nor in a queued completion.
    #[must_use]
    pub fn free_recv_buffers(&self) -> usize {
        match self {
            Driver::Ring(ring) => ring.free_recv_buffers(),
            Driver::Portable(portable) => portable.free_recv_buffers(),
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({}, {} in flight)", self.kind(), self.in_flight())
    }
}

/// How a cancelled operation ends.
fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

/// A header for `sendmsg` or `recvmsg` that describes nothing.
fn empty_header() -> libc::msghdr {
    // SAFETY: a `msghdr` is plain integers and pointers, for which zero is a valid value and means "none".
    unsafe { std::mem::zeroed() }
}

/// How a `Read` ends that would write beyond its buffer.
fn read_too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a read longer than its buffer")
}
