//! `Socket`: a stream or listening socket that a driver can use, closed when nobody refers to it any more.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::net::Shutdown;
use socket2::SockRef;

use super::portable::Watched;

/// A shared reference to a socket of one driver. Operations in flight hold one too, so the descriptor closes
/// (and the peer learns of it) only when those have ended: [`Socket::shutdown`] works at once.
#[derive(Clone)]
pub struct Socket(Rc<Inner>);

enum Inner {
    /// Of a ring, blocking: the ring would hand out `EAGAIN` on a non-blocking one.
    Plain(OwnedFd),
    /// Of the portable driver, non-blocking and registered with its epoll instance.
    Watched(Watched),
}

impl Socket {
    pub(super) fn plain(fd: OwnedFd) -> Socket {
        Socket(Rc::new(Inner::Plain(fd)))
    }

    pub(super) fn watched(watched: Watched) -> Socket {
        Socket(Rc::new(Inner::Watched(watched)))
    }

    /// The portable driver's handle; `None` for a socket of a ring.
    pub(super) fn as_watched(&self) -> Option<&Watched> {
        match &*self.0 {
            Inner::Plain(_) => None,
            Inner::Watched(watched) => Some(watched),
        }
    }

    /// Takes the descriptor out, to hand it to another thread's driver.
    ///
    /// # Errors
    /// Gives the socket back while others refer to it: an operation that has not ended, or a clone.
    pub fn into_fd(self) -> Result<OwnedFd, Socket> {
        match Rc::try_unwrap(self.0).map_err(Socket)? {
            Inner::Plain(fd) => Ok(fd),
            Inner::Watched(watched) => {
                watched.into_fd().map_err(|watched| Socket(Rc::new(Inner::Watched(watched))))
            }
        }
    }

    /// Ends both directions now, whatever is in flight: receives end, sends fail, the peer sees the end.
    pub fn shutdown(&self) {
        // Fails only when there is no connection (any more), which is what was asked for.
        let _ = rustix::net::shutdown(self, Shutdown::Both);
    }

    /// The address at this end.
    ///
    /// # Errors
    /// When this is not an IP socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        SockRef::from(self).local_addr()?.as_socket().ok_or_else(not_ip)
    }

    /// The address at the other end.
    ///
    /// # Errors
    /// When there is no connection, or it is none over IP.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        SockRef::from(self).peer_addr()?.as_socket().ok_or_else(not_ip)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &*self.0 {
            Inner::Plain(fd) => fd.as_fd(),
            Inner::Watched(watched) => watched.as_fd(),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({:?})", self.as_fd())
    }
}

fn not_ip() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not an IP socket")
}

/// Has small messages sent at once. Not possible on what is no TCP socket, nor needed there.
pub(super) fn send_at_once(socket: &Socket) {
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
}

/// Makes an unconnected TCP socket for an outgoing connection, blocking as sockets are by default.
///
/// # Errors
/// When the kernel has no socket to give, or `bind` is not an address of this host.
pub(super) fn outgoing(addr: SocketAddr, bind: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bind) = bind {
        socket.set_reuse_address(true)?;
        socket.bind(&bind.into())?;
    }
    Ok(socket.into())
}
