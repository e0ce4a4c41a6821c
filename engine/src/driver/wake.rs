//! `Waker`: gets a sleeping thread out of its wait.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Wakes one thread, from any thread. Clones are cheap. Waking somebody who is awake costs a system call and
/// nothing else; [`crate::mailbox`] avoids that.
#[derive(Clone)]
pub struct Waker(Target);

#[derive(Clone)]
enum Target {
    /// The eventfd a driver waits on.
    EventFd(Arc<OwnedFd>),
    /// Somebody else's way to wake.
    Call(Arc<dyn Fn() + Send + Sync>),
}

impl Waker {
    /// A waker for a thread that sleeps by other means than a driver.
    #[must_use]
    pub fn from_fn(wake: Arc<dyn Fn() + Send + Sync>) -> Waker {
        Waker(Target::Call(wake))
    }

    /// A waker that counts up `eventfd`, which must be non-blocking.
    pub(super) fn from_eventfd(eventfd: Arc<OwnedFd>) -> Waker {
        Waker(Target::EventFd(eventfd))
    }

    /// Wakes.
    pub fn wake(&self) {
        match &self.0 {
            Target::EventFd(eventfd) => {
                // Fails only with EAGAIN, when the counter is full: then the sleeper has been woken 2^64 times.
                let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
            }
            Target::Call(wake) => wake(),
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// A counter to wake a driver with.
pub(super) fn eventfd() -> std::io::Result<Arc<OwnedFd>> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
}
