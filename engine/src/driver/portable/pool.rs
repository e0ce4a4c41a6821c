//! `Pool`: the receive buffers of a portable driver, bounded in number, granted in the order of need.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use super::super::cancelled;
use super::core::Control;

/// Receive buffers, allocated when first needed.
pub(super) struct Pool {
    unused: RefCell<Vec<Box<[u8]>>>,
    buffer_bytes: usize,
    count: usize,
    /// Buffers in use. Invariant: at most `count`.
    lent: Cell<usize>,
    /// Tasks that need a buffer, longest waiting first.
    waiting: RefCell<VecDeque<Rc<Control>>>,
}

impl Pool {
    pub(super) fn new(count: u16, buffer_bytes: u32) -> io::Result<Pool> {
        if count == 0 || buffer_bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no buffers, or empty ones"));
        }
        Ok(Pool {
            unused: RefCell::default(),
            buffer_bytes: buffer_bytes as usize,
            count: usize::from(count),
            lent: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    pub(super) fn free(&self) -> usize {
        self.count - self.lent.get()
    }

    /// A buffer, as soon as there is one and those who came before have theirs.
    pub(super) async fn take(self: &Rc<Self>, control: &Rc<Control>) -> io::Result<PooledBuf> {
        if self.waiting.borrow().is_empty()
            && let Some(bytes) = self.lend()
        {
            return Ok(self.wrap(bytes));
        }
        self.waiting.borrow_mut().push_back(Rc::clone(control));
        poll_fn(|cx| {
            if let Some(bytes) = control.granted.take() {
                return Poll::Ready(Ok(self.wrap(bytes)));
            }
            match control.check(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => {
                    self.waiting.borrow_mut().retain(|waiting| !Rc::ptr_eq(waiting, control));
                    Poll::Ready(Err(error))
                }
            }
        })
        .await
        .and_then(|buf| if control.is_cancelled() { Err(cancelled()) } else { Ok(buf) })
    }

    /// Grants buffers to those who wait, as far as there are any. Inside the runtime only.
    pub(super) fn serve(&self) {
        while !self.waiting.borrow().is_empty()
            && let Some(bytes) = self.lend()
        {
            let Some(control) = self.waiting.borrow_mut().pop_front() else { return };
            control.granted.set(Some(bytes));
            control.wake();
        }
    }

    fn lend(&self) -> Option<Box<[u8]>> {
        if self.free() == 0 {
            return None;
        }
        self.lent.set(self.lent.get() + 1);
        let unused = self.unused.borrow_mut().pop();
        Some(unused.unwrap_or_else(|| vec![0; self.buffer_bytes].into_boxed_slice()))
    }

    fn wrap(self: &Rc<Self>, bytes: Box<[u8]>) -> PooledBuf {
        PooledBuf { pool: Rc::clone(self), bytes, len: 0 }
    }
}

/// A buffer of the pool. Dropping it returns it; who waits for one gets it in the next wait.
pub(crate) struct PooledBuf {
    pool: Rc<Pool>,
    bytes: Box<[u8]>,
    len: usize,
}

impl PooledBuf {
    /// All of the buffer.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(super) fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.bytes.len());
        self.len = len;
    }

    /// The bytes received.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.unused.borrow_mut().push(bytes);
        self.pool.lent.set(self.pool.lent.get() - 1);
    }
}
