//! The portable driver: the same operations on monoio's epoll driver, for hosts that refuse io_uring.
//!
//! Owns the runtime and the queue of completions. monoio tells which sockets are ready; the operations are tasks
//! ([`tasks`]) that then make ordinary system calls. Files are read and written at once, in `wait`.
//!
//! Traps of monoio that shape this module: a task that wakes itself goes to the *front* of the run queue, and a
//! root future that wakes itself is polled again before anything else, so both would starve the rest (hence
//! [`Core::next_round`] and the poller); tasks can be woken only inside `block_on` (hence the queues that `wait`
//! works off at its start); a descriptor dropped outside of it stays in monoio's table (hence [`Watched`]).

mod alarm;
mod core;
mod pool;
mod readiness;
mod tasks;
mod watched;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use monoio::{LegacyDriver, RuntimeBuilder};

use self::core::{Control, Core};
pub(super) use self::pool::PooledBuf;
pub(super) use self::watched::Watched;
use super::{Completion, DriverConfig, DriverError, Op, Socket, Token, Waker, setup, wake};

type Runtime = monoio::Runtime<LegacyDriver>;

/// Longer timeouts are as good as none, and more than a clock may count to.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400 * 365);

/// The driver on epoll. Use it through [`super::Driver`].
pub struct Portable {
    runtime: Rc<RefCell<Runtime>>,
    core: Rc<Core>,
    /// Operations to start at the next wait.
    pending: Vec<(Token, Rc<Control>, Op)>,
    /// Cancelled operations to be woken at the next wait.
    cancels: Vec<Rc<Control>>,
    wake: Arc<OwnedFd>,
    outstanding: usize,
}

impl Portable {
    pub(super) fn new(config: &DriverConfig) -> Result<Portable, DriverError> {
        let runtime = RuntimeBuilder::<LegacyDriver>::new().build().map_err(setup("an epoll instance"))?;
        let wake = wake::eventfd().map_err(setup("an eventfd"))?;
        let mut driver = Portable {
            runtime: Rc::new(RefCell::new(runtime)),
            core: Rc::new(Core::new(config).map_err(setup("the receive buffers"))?),
            pending: Vec::new(),
            cancels: Vec::new(),
            wake,
            outstanding: 0,
        };
        driver.start_helpers().map_err(setup("a watch on an eventfd and a timer"))?;
        Ok(driver)
    }

    fn start_helpers(&mut self) -> io::Result<()> {
        let wake = Watched::new(self.wake.try_clone()?, &self.runtime)?;
        let alarm = Watched::new(self.core.alarm.descriptor()?, &self.runtime)?;
        let core = &self.core;
        self.runtime.borrow_mut().block_on(async {
            Core::spawn(core, tasks::wake_up(Rc::clone(core), wake));
            Core::spawn(core, tasks::ring(Rc::clone(core), alarm));
            Core::spawn(core, tasks::poller(Rc::clone(core)));
        });
        Ok(())
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::from_eventfd(Arc::clone(&self.wake))
    }

    pub(super) fn adopt(&mut self, fd: OwnedFd) -> io::Result<Socket> {
        Ok(Socket::watched(Watched::new(fd, &self.runtime)?))
    }

    pub(super) fn in_flight(&self) -> usize {
        self.outstanding
    }

    pub(super) fn free_recv_buffers(&self) -> usize {
        self.core.pool.free()
    }

    pub(super) fn push(&mut self, token: Token, op: Op) {
        self.outstanding += 1;
        let control = self.core.begin(token);
        self.pending.push((token, control, op));
    }

    pub(super) fn cancel(&mut self, token: Token) {
        if let Some(control) = self.core.control(token) {
            control.cancel();
            self.cancels.push(control);
        }
    }

    pub(super) fn poll(&mut self) -> Option<Completion> {
        let completion = self.core.pop()?;
        if completion.last {
            self.outstanding -= 1;
        }
        Some(completion)
    }

    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let core = &self.core;
        let runtime = Rc::downgrade(&self.runtime);
        let (pending, cancels) = (&mut self.pending, &mut self.cancels);
        self.runtime.borrow_mut().block_on(async {
            core.start_round();
            for (token, control, op) in pending.drain(..) {
                tasks::start(core, &runtime, token, control, op);
            }
            for control in cancels.drain(..) {
                control.wake();
            }
            core.pool.serve();
            until_something_happened(core, timeout).await
        })
    }

    /// Ends all tasks: those that wait hold on to the runtime that holds on to them.
    fn drain(&mut self) {
        let core = &self.core;
        self.pending.clear();
        self.cancels.clear();
        self.runtime.borrow_mut().block_on(async {
            core.close();
            poll_fn(|cx| {
                core.root(cx);
                if core.tasks() == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        while core.pop().is_some() {}
    }
}

impl Drop for Portable {
    fn drop(&mut self) {
        self.drain();
    }
}

/// The root future of a wait: lets epoll be looked at once without blocking, so that no socket that is always
/// busy keeps others from being seen, and then waits for a completion, a wake-up, or the end of the time.
async fn until_something_happened(core: &Core, timeout: Option<Duration>) -> io::Result<()> {
    let until = timeout.filter(|&timeout| timeout < TIMEOUT_MAX).map(|timeout| Instant::now() + timeout);
    core.look_at_epoll();
    let result = poll_fn(|cx| {
        core.root(cx);
        if !core.has_looked() {
            return Poll::Pending;
        }
        if core.has_completions() || core.take_woken() {
            return Poll::Ready(Ok(()));
        }
        match until {
            Some(until) if until <= Instant::now() => Poll::Ready(Ok(())),
            Some(until) => match core.alarm.set(until) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            None => Poll::Pending,
        }
    })
    .await;
    // Whoever woke us finds us awake, whatever else there was.
    core.take_woken();
    result
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::super::{Outcome, RecvBuf};
    use super::*;

    fn received(driver: &mut Portable) -> Vec<(u64, RecvBuf)> {
        let completions = std::iter::from_fn(|| driver.poll());
        completions
            .filter_map(|completion| match completion.outcome {
                Outcome::Received(buf) => Some((completion.token.0, buf)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_busy_socket_gets_one_buffer_per_wait() {
        let config = DriverConfig { recv_buffer_bytes: 1024, ..DriverConfig::default() };
        let mut driver = Portable::new(&config).expect("a driver");
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().expect("a pair")).collect();
        for (token, (mut near, far)) in pairs.into_iter().enumerate() {
            near.write_all(&[7; 10 * 1024]).expect("fits the socket");
            let socket = driver.adopt(far.into()).expect("adopts");
            driver.push(Token(token as u64), Op::Recv { socket });
        }
        for _ in 0..10 {
            driver.wait(None).expect("waits");
            let mut tokens: Vec<_> = received(&mut driver).iter().map(|(token, _)| *token).collect();
            tokens.sort_unstable();
            assert_eq!(tokens, [0, 1, 2]);
        }
    }
}
