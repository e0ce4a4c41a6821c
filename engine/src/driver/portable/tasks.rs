//! One task per socket operation: waits for readiness, makes the system call, queues the outcome. File operations
//! are no tasks: they are done at once.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::{Rc, Weak};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};
use socket2::SockRef;

use super::super::{
    Op, Outcome, Payload, RecvBuf, Scatter, SendBatch, Socket, Token, cancelled, read_too_long, socket,
};
use super::Runtime;
use super::core::{Control, Core};
use super::readiness::{readable, writable};
use super::watched::Watched;
use crate::storage::AlignedBuf;

/// Connections taken before others get their turn.
const ACCEPTS_PER_TURN: usize = 16;

/// Starts an operation, or does it. Inside the runtime only.
pub(super) fn start(
    core: &Rc<Core>,
    runtime: &Weak<RefCell<Runtime>>,
    token: Token,
    control: Rc<Control>,
    op: Op,
) {
    let shared = Rc::clone(core);
    match op {
        Op::Accept { listener } => {
            let accept = accept(shared, Weak::clone(runtime), token, control, listener);
            Core::spawn(core, accept);
        }
        Op::Connect { addr, bind } => {
            let runtime = Weak::clone(runtime);
            Core::spawn(core, async move {
                let connected = connect(&runtime, &control, addr, bind).await;
                shared.finish(token, Outcome::Connected(connected));
            });
        }
        Op::RecvSome { socket, max } => Core::spawn(core, async move {
            let outcome = match receive_some(&control, &socket, max).await {
                Ok(bytes) if !bytes.is_empty() => Outcome::Received(bytes.into()),
                ended => Outcome::RecvEnded(ended.map(drop)),
            };
            drop(socket);
            shared.finish(token, outcome);
        }),
        Op::Recv { socket } => Core::spawn(core, async move {
            let ended = receive(&shared, token, &control, &socket).await;
            drop(socket);
            shared.finish(token, Outcome::RecvEnded(ended));
        }),
        Op::RecvInto { socket, mut scatter } => Core::spawn(core, async move {
            let received = receive_into(&control, &socket, &mut scatter).await;
            drop(socket);
            shared.finish(token, Outcome::ReceivedInto(scatter, received));
        }),
        Op::Send { socket, batch } => start_send(core, token, control, socket, batch),
        Op::Read { .. } | Op::Write { .. } | Op::Sync { .. } => {
            core.finish(token, file_outcome(op, control.is_cancelled()));
        }
    }
}

/// Sends at once what the socket takes; a task waits for the rest.
fn start_send(core: &Rc<Core>, token: Token, control: Rc<Control>, socket: Socket, mut batch: SendBatch) {
    match send_now(&socket, &mut batch) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        sent => return core.finish(token, Outcome::Sent(batch, sent)),
    }
    let shared = Rc::clone(core);
    Core::spawn(core, async move {
        let sent = send(&control, &socket, &mut batch).await;
        drop(socket);
        shared.finish(token, Outcome::Sent(batch, sent));
    });
}

async fn accept(
    core: Rc<Core>,
    runtime: Weak<RefCell<Runtime>>,
    token: Token,
    control: Rc<Control>,
    listener: Socket,
) {
    let ended = loop {
        if let Err(error) = accept_turn(&core, &runtime, token, &control, &listener).await {
            break error;
        }
    };
    drop(listener);
    core.finish(token, Outcome::Accepted(Err(ended)));
}

/// Takes some connections, or waits for one.
async fn accept_turn(
    core: &Core,
    runtime: &Weak<RefCell<Runtime>>,
    token: Token,
    control: &Control,
    listener: &Socket,
) -> io::Result<()> {
    for _ in 0..ACCEPTS_PER_TURN {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => {
                let socket = Socket::watched(Watched::inside(fd, runtime)?);
                // Without a peer the connection died in the queue.
                if let Ok(addr) = socket.peer_addr() {
                    socket::send_at_once(&socket);
                    core.progress(token, Outcome::Accepted(Ok((socket, addr))));
                }
            }
            Err(Errno::AGAIN) => return readable(watched(listener)?, control).await,
            Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => {}
            Err(error) => return Err(error.into()),
        }
    }
    core.turn_over(control).await
}

async fn connect(
    runtime: &Weak<RefCell<Runtime>>,
    control: &Control,
    addr: SocketAddr,
    bind: Option<SocketAddr>,
) -> io::Result<Socket> {
    let fd = socket::outgoing(addr, bind)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    match rustix::net::connect(&fd, &addr) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let watched = Watched::inside(fd, runtime)?;
    writable(&watched, control).await?;
    match SockRef::from(&watched).take_error()? {
        Some(error) => Err(error),
        None => Ok(Socket::watched(watched)),
    }
}

/// Receives once; nothing at the end of the stream.
async fn receive_some(control: &Control, socket: &Socket, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; max];
    loop {
        match rustix::net::recv(socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
            Err(Errno::AGAIN) => readable(watched(socket)?, control).await?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives once; nothing at the end of the stream.
async fn receive_into(control: &Control, socket: &Socket, scatter: &mut Scatter) -> io::Result<usize> {
    while !scatter.is_empty() {
        // SAFETY: the header describes memory that the scatter owns, and nobody looks at it during the call.
        let received =
            unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), scatter.header(), libc::MSG_DONTWAIT) };
        match usize::try_from(received) {
            Ok(count) => {
                scatter.set_received(count);
                return Ok(count);
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => {
                    readable(watched(socket)?, control).await?;
                }
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(0)
}

/// Receives until the end of the stream, one buffer per turn.
async fn receive(core: &Core, token: Token, control: &Rc<Control>, socket: &Socket) -> io::Result<()> {
    let watched = watched(socket)?;
    loop {
        // First, so that a socket without data holds no buffer while it waits.
        readable(watched, control).await?;
        let mut buf = core.pool.take(control).await?;
        match rustix::net::recv(watched, buf.space(), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(()),
            Ok((_, count)) => {
                buf.set_len(count);
                core.progress(token, Outcome::Received(RecvBuf::from(buf)));
                core.turn_over(control).await?;
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                drop(buf);
                core.pool.serve();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends the rest of a batch, as the socket takes it.
async fn send(control: &Control, socket: &Socket, batch: &mut SendBatch) -> io::Result<()> {
    loop {
        writable(watched(socket)?, control).await?;
        match send_now(socket, batch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
    }
}

/// Sends until the socket takes no more (`WouldBlock`) or the batch is sent.
fn send_now(socket: &Socket, batch: &mut SendBatch) -> io::Result<()> {
    while batch.sent() < batch.len() {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the header describes slices that the batch owns; the call only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), batch.header(), flags) };
        match usize::try_from(sent) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                batch.advance(count);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

fn file_outcome(op: Op, is_cancelled: bool) -> Outcome {
    let allowed = if is_cancelled { Err(cancelled()) } else { Ok(()) };
    match op {
        Op::Read { file, offset, mut buf, len } => {
            let read = allowed.and_then(|()| read(&file, offset, &mut buf, len));
            Outcome::Read(buf, read)
        }
        Op::Write { file, offset, data } => {
            Outcome::Written(allowed.and_then(|()| write(&file, offset, &data)))
        }
        Op::Sync { file } => {
            Outcome::Synced(allowed.and_then(|()| rustix::fs::fdatasync(&file).map_err(Into::into)))
        }
        _ => unreachable!("not an operation on a file"),
    }
}

fn read(file: &OwnedFd, offset: u64, buf: &mut AlignedBuf, len: usize) -> io::Result<usize> {
    if len > buf.capacity() {
        return Err(read_too_long());
    }
    buf.set_len(len);
    let mut done = 0;
    let result = loop {
        if done == len {
            break Ok(len);
        }
        match rustix::io::pread(file, &mut buf.as_mut_slice()[done..], offset + done as u64) {
            Ok(0) => break Ok(done),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            // Direct I/O that met the end of the file and asks again from there, out of alignment.
            Err(Errno::INVAL) if done > 0 => break Ok(done),
            Err(error) => break Err(error.into()),
        }
    };
    buf.set_len(done);
    result
}

fn write(file: &OwnedFd, offset: u64, data: &Payload) -> io::Result<()> {
    let mut rest = data.as_slice();
    let mut offset = offset;
    while !rest.is_empty() {
        match rustix::io::pwrite(file, rest, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                rest = &rest[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Notes every wake-up.
pub(super) async fn wake_up(core: Rc<Core>, eventfd: Watched) {
    let control = core.helper();
    while readable(&eventfd, &control).await.is_ok() {
        // Sets the counter to zero; fails only when it is zero already.
        if rustix::io::read(&eventfd, &mut [0; 8]).is_ok() {
            core.wake_up();
        }
    }
}

/// Notes every alarm.
pub(super) async fn ring(core: Rc<Core>, alarm: Watched) {
    let control = core.helper();
    while readable(&alarm, &control).await.is_ok() {
        core.ring();
    }
}

/// See [`Core::look_at_epoll`].
pub(super) async fn poller(core: Rc<Core>) {
    core.poll_looks().await;
}

fn watched(socket: &Socket) -> io::Result<&Watched> {
    socket.as_watched().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "a socket of another kind of driver; adopt it first")
    })
}
