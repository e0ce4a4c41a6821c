//! `Watched`: a descriptor registered with the epoll instance of a portable driver, for as long as it lives.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};

use monoio::net::TcpStream;
use rustix::fs::OFlags;

use super::Runtime;

/// A non-blocking descriptor that monoio tells the readiness of. monoio has no type for just any descriptor, so
/// its `TcpStream` stands in; nothing but `readable` and `writable` of it is used.
pub(crate) struct Watched {
    /// Always there, but for a moment in `drop`.
    stream: Option<TcpStream>,
    runtime: Weak<RefCell<Runtime>>,
}

impl Watched {
    /// Registers a descriptor; outside the runtime.
    pub(super) fn new(fd: OwnedFd, runtime: &Rc<RefCell<Runtime>>) -> io::Result<Watched> {
        let weak = Rc::downgrade(runtime);
        runtime.borrow_mut().block_on(async { Watched::inside(fd, &weak) })
    }

    /// Registers a descriptor; inside the runtime.
    pub(super) fn inside(fd: OwnedFd, runtime: &Weak<RefCell<Runtime>>) -> io::Result<Watched> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        if !flags.contains(OFlags::NONBLOCK) {
            rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        }
        let stream = TcpStream::from_std(fd.into())?;
        Ok(Watched { stream: Some(stream), runtime: Weak::clone(runtime) })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.stream.as_ref().expect("taken only by drop")
    }

    /// Takes the descriptor out, no longer registered. A copy of it, that is: monoio closes the original, which
    /// costs a system call and spares us its unsound way of giving it up.
    ///
    /// # Errors
    /// Gives the value back when there is no descriptor to spare.
    pub(crate) fn into_fd(self) -> Result<OwnedFd, Watched> {
        match rustix::io::fcntl_dupfd_cloexec(&self, 3) {
            Ok(fd) => Ok(fd),
            Err(_) => Err(self),
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = self.stream().as_raw_fd();
        // SAFETY: the stream owns the descriptor and keeps it open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Drop for Watched {
    /// Closes inside the runtime, where monoio takes the descriptor off its table.
    fn drop(&mut self) {
        let stream = self.stream.take();
        let Some(runtime) = self.runtime.upgrade() else { return };
        // Borrowed: then this runs in a task, inside the runtime.
        if let Ok(mut runtime) = runtime.try_borrow_mut() {
            runtime.block_on(async { drop(stream) });
        }
    }
}
