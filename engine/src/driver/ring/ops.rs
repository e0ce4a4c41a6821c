//! `InFlight`: one operation in the kernel's hands, all that the kernel may touch for it, and what a completion
//! queue entry means for it.
//!
//! Makes submission entries and reads results; queues nothing itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use socket2::SockAddr;

use super::super::{
    Op, Outcome, Payload, RecvBuf, Scatter, SendBatch, Socket, Token, cancelled, read_too_long, socket,
};
use super::BUFFER_GROUP;
use crate::storage::AlignedBuf;

/// The most bytes one read or write moves (the kernel's `MAX_RW_COUNT`).
const RW_MAX: usize = 0x7fff_f000;

const SEND_FLAGS: u32 = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;

/// Fewer bytes are copied as cheaply as their pages are pinned.
const ZERO_COPY_MIN: usize = 64 << 10;

/// Asks that the note on a send tells whether it was copied after all (`IORING_SEND_ZC_REPORT_USAGE`).
const REPORT_USAGE: u16 = 1 << 3;

/// An operation that the kernel works on, or that waits for a receive buffer.
pub(super) struct InFlight {
    pub(super) token: Token,
    /// Whether somebody asked for its end: it is not submitted again.
    pub(super) cancelled: bool,
    /// Whether it waits for a receive buffer, so the kernel does not know it.
    pub(super) parked: bool,
    work: Work,
}

/// What the kernel does, with everything it may touch on the heap: this value moves.
enum Work {
    Accept {
        listener: Socket,
    },
    Connect {
        fd: OwnedFd,
        addr: Box<SockAddr>,
    },
    RecvSome {
        socket: Socket,
        buf: Vec<u8>,
    },
    Recv {
        socket: Socket,
    },
    RecvInto {
        socket: Socket,
        scatter: Box<Scatter>,
        received: usize,
    },
    /// `notes`: so many times the kernel will say that it does not read the batch any more.
    Send {
        socket: Socket,
        batch: SendBatch,
        zero_copy: bool,
        notes: u32,
    },
    /// What was sent, and is not to be touched until those notes have come: the network may need it once more.
    Lent {
        batch: SendBatch,
        notes: u32,
    },
    Read {
        file: Arc<OwnedFd>,
        offset: u64,
        buf: AlignedBuf,
        len: usize,
        done: usize,
    },
    Write {
        file: Arc<OwnedFd>,
        offset: u64,
        data: Payload,
        done: usize,
    },
    Sync {
        file: Arc<OwnedFd>,
    },
}

/// What is to be done with an operation after a completion queue entry.
#[derive(Debug)]
pub(super) enum Next {
    /// The kernel goes on by itself.
    More,
    /// Submit it again.
    Again,
    /// Submit it again when there is a receive buffer.
    Park,
    /// It has ended, with this count of bytes or error.
    Done(io::Result<()>),
}

impl InFlight {
    /// Prepares an operation, or says how it ended already.
    pub(super) fn new(token: Token, op: Op, zero_copy: bool) -> Result<InFlight, Outcome> {
        let work = match op {
            Op::Accept { listener } => Work::Accept { listener },
            Op::Connect { addr, bind } => {
                connect(addr, bind).map_err(|error| Outcome::Connected(Err(error)))?
            }
            Op::RecvSome { socket, max } => Work::RecvSome { socket, buf: vec![0; max] },
            Op::Recv { socket } => Work::Recv { socket },
            Op::RecvInto { scatter, .. } if scatter.is_empty() => {
                return Err(Outcome::ReceivedInto(scatter, Ok(0)));
            }
            Op::RecvInto { socket, scatter } => Work::RecvInto { socket, scatter, received: 0 },
            Op::Send { batch, .. } if batch.is_empty() => return Err(Outcome::Sent(batch, Ok(()))),
            Op::Send { socket, batch } => {
                let zero_copy = zero_copy && batch.len() >= ZERO_COPY_MIN;
                Work::Send { socket, batch, zero_copy, notes: 0 }
            }
            Op::Read { buf, len, .. } if len > buf.capacity() => {
                return Err(Outcome::Read(buf, Err(read_too_long())));
            }
            Op::Read { mut buf, len: 0, .. } => {
                buf.set_len(0);
                return Err(Outcome::Read(buf, Ok(0)));
            }
            Op::Read { file, offset, buf, len } => Work::Read { file, offset, buf, len, done: 0 },
            Op::Write { data, .. } if data.as_slice().is_empty() => return Err(Outcome::Written(Ok(()))),
            Op::Write { file, offset, data } => Work::Write { file, offset, data, done: 0 },
            Op::Sync { file } => Work::Sync { file },
        };
        Ok(InFlight { token, cancelled: false, parked: false, work })
    }

    /// The submission entry for what is left to do.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        match &mut self.work {
            Work::Accept { listener } => {
                opcode::AcceptMulti::new(fd_of(listener)).flags(libc::SOCK_CLOEXEC).build()
            }
            Work::Connect { fd, addr } => {
                opcode::Connect::new(fd_of(fd), addr.as_ptr().cast(), addr.len()).build()
            }
            Work::RecvSome { socket, buf } => {
                opcode::Recv::new(fd_of(socket), buf.as_mut_ptr(), clamped(buf.len())).build()
            }
            Work::Recv { socket } => opcode::RecvMulti::new(fd_of(socket), BUFFER_GROUP).build(),
            Work::RecvInto { socket, scatter, .. } => {
                opcode::RecvMsg::new(fd_of(socket), scatter.header()).build()
            }
            Work::Send { socket, batch, zero_copy: true, .. } => {
                opcode::SendMsgZc::new(fd_of(socket), batch.header())
                    .flags(SEND_FLAGS)
                    .ioprio(REPORT_USAGE)
                    .build()
            }
            Work::Send { socket, batch, .. } => {
                opcode::SendMsg::new(fd_of(socket), batch.header()).flags(SEND_FLAGS).build()
            }
            Work::Lent { .. } => unreachable!("over, and not submitted again"),
            Work::Read { file, offset, buf, len, done } => {
                // SAFETY: `done <= len <= capacity`, so this is inside the buffer or one past its end.
                let at = unsafe { buf.as_mut_ptr().add(*done) };
                opcode::Read::new(fd_of(file), at, clamped(*len - *done))
                    .offset(*offset + *done as u64)
                    .build()
            }
            Work::Write { file, offset, data, done } => {
                let rest = &data.as_slice()[*done..];
                opcode::Write::new(fd_of(file), rest.as_ptr(), clamped(rest.len()))
                    .offset(*offset + *done as u64)
                    .build()
            }
            Work::Sync { file } => opcode::Fsync::new(fd_of(file)).flags(types::FsyncFlags::DATASYNC).build(),
        }
    }

    /// Takes in one completion queue entry: the result, the buffer it came with if any, and whether the kernel
    /// goes on. What it hands out is not the operation's last outcome; [`InFlight::finish`] makes that.
    pub(super) fn on_result(
        &mut self,
        result: i32,
        buf: Option<RecvBuf>,
        more: bool,
    ) -> (Option<Outcome>, Next) {
        let result = match usize::try_from(result) {
            Ok(count) => Ok(count),
            Err(_) => Err(-result),
        };
        // A send does not go on by itself: more means a note.
        let more = match &mut self.work {
            Work::Send { notes, .. } => {
                *notes += u32::from(more);
                false
            }
            _ => more,
        };
        let (outcome, next) = self.work.on_result(result, buf);
        let next = match next {
            Next::Again | Next::Park if more => Next::More,
            Next::Again | Next::Park if self.cancelled => Next::Done(Err(cancelled())),
            next => next,
        };
        (outcome, next)
    }

    /// The kernel does not read the memory of one send any more. Whether that was all that is awaited of an operation
    /// that is over.
    pub(super) fn on_note(&mut self) -> bool {
        let (Work::Send { notes, .. } | Work::Lent { notes, .. }) = &mut self.work else { return false };
        *notes -= 1;
        *notes == 0 && self.is_lent()
    }

    /// Whether only notes are awaited.
    pub(super) fn is_lent(&self) -> bool {
        matches!(self.work, Work::Lent { .. })
    }

    /// Keeps what was sent, where the kernel may still read it; whether that is so.
    pub(super) fn lend(&mut self) -> bool {
        let Work::Send { batch, notes, .. } = &mut self.work else { return false };
        if *notes > 0 {
            self.work = Work::Lent { batch: std::mem::take(batch), notes: *notes };
        }
        self.is_lent()
    }

    /// The final outcome of an operation that has ended.
    pub(super) fn finish(self, result: io::Result<()>) -> Outcome {
        match self.work {
            Work::Accept { .. } => Outcome::Accepted(Err(result.err().unwrap_or_else(cancelled))),
            Work::Connect { fd, .. } => Outcome::Connected(result.map(|()| Socket::plain(fd))),
            Work::RecvSome { buf, .. } => match result {
                Ok(()) if !buf.is_empty() => Outcome::Received(buf.into()),
                result => Outcome::RecvEnded(result),
            },
            Work::Recv { .. } => Outcome::RecvEnded(result),
            Work::RecvInto { mut scatter, received, .. } => {
                scatter.set_received(received);
                Outcome::ReceivedInto(scatter, result.map(|()| received))
            }
            Work::Send { batch, .. } | Work::Lent { batch, .. } => Outcome::Sent(batch, result),
            Work::Read { mut buf, done, .. } => {
                buf.set_len(done);
                Outcome::Read(buf, result.map(|()| done))
            }
            Work::Write { .. } => Outcome::Written(result),
            Work::Sync { .. } => Outcome::Synced(result),
        }
    }

    /// Whether cancelling surely works on it sooner or later, so that a request which came at a bad moment is
    /// worth repeating. Not so for files: a disk finishes what it began.
    pub(super) fn waits_for_a_peer(&self) -> bool {
        !matches!(self.work, Work::Read { .. } | Work::Write { .. } | Work::Sync { .. } | Work::Lent { .. })
    }
}

impl Work {
    fn on_result(&mut self, result: Result<usize, i32>, buf: Option<RecvBuf>) -> (Option<Outcome>, Next) {
        match self {
            Work::Accept { .. } => on_accepted(result),
            Work::Recv { .. } => on_received(result, buf),
            _ => (None, self.on_single(result)),
        }
    }

    fn on_single(&mut self, result: Result<usize, i32>) -> Next {
        if result == Err(libc::EINTR) {
            return Next::Again;
        }
        match (self, result) {
            (Work::RecvSome { buf, .. }, Ok(count)) => buf.truncate(count),
            (Work::RecvInto { received, .. }, Ok(count)) => *received = count,
            (Work::Send { batch, .. }, Ok(count)) if count > 0 => {
                if !batch.advance(count) {
                    return Next::Again;
                }
            }
            (Work::Write { data, done, .. }, Ok(count)) if count > 0 => {
                *done += count;
                if *done < data.as_slice().len() {
                    return Next::Again;
                }
            }
            (Work::Send { .. } | Work::Write { .. }, Ok(_)) => {
                return Next::Done(Err(io::ErrorKind::WriteZero.into()));
            }
            (Work::Read { len, done, .. }, Ok(count)) => {
                *done += count;
                if count > 0 && *done < *len {
                    return Next::Again;
                }
            }
            (
                Work::Send { zero_copy: zero_copy @ true, .. },
                Err(libc::ENOBUFS | libc::ENOMEM | libc::EOPNOTSUPP | libc::EINVAL),
            ) => {
                *zero_copy = false;
                return Next::Again;
            }
            // Direct I/O that met the end of the file and asks again from there, out of alignment.
            (Work::Read { done, .. }, Err(libc::EINVAL)) if *done > 0 => {}
            (_, Ok(_)) => {}
            (_, Err(errno)) => return Next::Done(Err(io::Error::from_raw_os_error(errno))),
        }
        Next::Done(Ok(()))
    }
}

fn on_accepted(result: Result<usize, i32>) -> (Option<Outcome>, Next) {
    match result {
        // SAFETY: the kernel made this descriptor for us and nobody else knows it.
        Ok(fd) => (accepted(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }), Next::Again),
        Err(libc::ECONNABORTED | libc::EINTR | libc::EPROTO) => (None, Next::Again),
        Err(errno) => (None, Next::Done(Err(io::Error::from_raw_os_error(errno)))),
    }
}

/// `None` when the peer is gone already.
fn accepted(fd: OwnedFd) -> Option<Outcome> {
    let socket = Socket::plain(fd);
    let addr = socket.peer_addr().ok()?;
    socket::send_at_once(&socket);
    Some(Outcome::Accepted(Ok((socket, addr))))
}

fn on_received(result: Result<usize, i32>, buf: Option<RecvBuf>) -> (Option<Outcome>, Next) {
    match result {
        Ok(0) => (None, Next::Done(Ok(()))),
        Ok(_) => (buf.map(Outcome::Received), Next::Again),
        Err(libc::ENOBUFS) => (None, Next::Park),
        Err(libc::EINTR) => (None, Next::Again),
        Err(errno) => (None, Next::Done(Err(io::Error::from_raw_os_error(errno)))),
    }
}

fn connect(addr: SocketAddr, bind: Option<SocketAddr>) -> io::Result<Work> {
    Ok(Work::Connect { fd: socket::outgoing(addr, bind)?, addr: Box::new(addr.into()) })
}

fn fd_of(fd: &impl AsFd) -> types::Fd {
    types::Fd(fd.as_fd().as_raw_fd())
}

fn clamped(len: usize) -> u32 {
    len.min(RW_MAX) as u32
}
