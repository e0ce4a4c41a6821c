//! The io_uring driver: a thin loop over the `io-uring` crate.
//!
//! Owns the ring, the operations in the kernel's hands ([`ops`], [`slab`]) and the receive buffers
//! ([`buffers`]). Set up for one thread that submits and reaps (SINGLE_ISSUER, DEFER_TASKRUN): completions appear
//! only when it enters the kernel with GETEVENTS, in batches, without interrupting it.

mod buffers;
mod ops;
mod slab;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use rustix::fs::OFlags;

pub(super) use self::buffers::RingBuf;

use self::buffers::BufferRing;
use self::ops::{InFlight, Next};
use self::slab::{Key, Slab};
use super::{
    Completion, DriverConfig, DriverError, Op, Outcome, RecvBuf, SendBatch, Socket, Token, Waker, setup, wake,
};

/// The one group of provided buffers.
const BUFFER_GROUP: u16 = 0;
/// How long a driver that is being dropped waits before it asks again for the end of what is in flight.
const DRAIN_PATIENCE: Duration = Duration::from_millis(100);

/// Batches that are kept to stand in for those that are lent.
const MOST_SPARE: usize = 64;

/// Of a note: what was sent was copied after all (`IORING_NOTIF_USAGE_ZC_COPIED`).
const USAGE_COPIED: i32 = i32::MIN;

/// What a completion queue entry is about: the upper two bits of `user_data`.
enum Tag {
    /// An operation.
    Op(Key),
    /// The request to cancel that operation.
    Cancel(Key),
    /// The eventfd that wakes this thread.
    Wake,
    /// Nothing of interest.
    Ignore,
}

impl Tag {
    const SHIFT: u32 = 62;

    fn encode(&self) -> u64 {
        match self {
            Tag::Op(key) => key.0,
            Tag::Cancel(key) => key.0 | 1 << Tag::SHIFT,
            Tag::Wake => 2 << Tag::SHIFT,
            Tag::Ignore => 3 << Tag::SHIFT,
        }
    }

    fn decode(user_data: u64) -> Tag {
        let key = Key(user_data & ((1 << Tag::SHIFT) - 1));
        match user_data >> Tag::SHIFT {
            0 => Tag::Op(key),
            1 => Tag::Cancel(key),
            2 => Tag::Wake,
            _ => Tag::Ignore,
        }
    }
}

/// The driver on io_uring. Use it through [`super::Driver`].
pub struct Ring {
    uring: IoUring,
    /// Invariant: an operation is here from its submission to its last completion queue entry, so that what the
    /// kernel may touch lives as long as it may touch it. When the driver is dropped, what was lent goes: its pages live on
    /// in the kernel, and their connections are over.
    ops: Slab,
    by_token: HashMap<Token, Key>,
    buffers: Rc<BufferRing>,
    /// Receives that found no buffer, in the order in which they ended.
    parked: VecDeque<Key>,
    /// Entries that did not fit the submission queue while the kernel would take none.
    backlog: VecDeque<squeue::Entry>,
    ready: VecDeque<Completion>,
    zero_copy: bool,
    /// Batches that were not copied and are the network's no more, to stand in for others.
    spare_batches: Vec<SendBatch>,
    /// Whether it was said that what was not to be copied was.
    told_of_copies: bool,
    wake: Arc<OwnedFd>,
    wake_armed: bool,
    woken: bool,
    /// Operations whose final completion has not been polled.
    outstanding: usize,
    /// How often the kernel was entered to wait: what a test for spinning looks at.
    #[cfg(test)]
    pub(super) entered: u64,
}

/// Sets a socket up for a ring: blocking, because a ring hands out `EAGAIN` on one that is not.
pub(super) fn adopt(fd: OwnedFd) -> io::Result<Socket> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    if flags.contains(OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(&fd, flags - OFlags::NONBLOCK)?;
    }
    Ok(Socket::plain(fd))
}

impl Ring {
    pub(super) fn new(config: &DriverConfig) -> Result<Ring, DriverError> {
        Ring::on(build(config).map_err(setup("an io_uring"))?, config)
    }

    fn on(uring: IoUring, config: &DriverConfig) -> Result<Ring, DriverError> {
        let buffers = BufferRing::new(config.recv_buffers, config.recv_buffer_bytes)
            .map_err(setup("the receive buffers"))?;
        let (addr, slots) = buffers.queue();
        // SAFETY: the queue has that many slots and lives as long as `buffers`, which the driver keeps until
        // the ring is gone and every operation with it.
        unsafe { uring.submitter().register_buf_ring_with_flags(addr, slots, BUFFER_GROUP, 0) }
            .map_err(setup("a ring of provided buffers"))?;
        let mut ring = Ring {
            uring,
            ops: Slab::default(),
            by_token: HashMap::new(),
            buffers: Rc::new(buffers),
            parked: VecDeque::new(),
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            zero_copy: config.zero_copy,
            spare_batches: Vec::new(),
            told_of_copies: false,
            wake: wake::eventfd().map_err(setup("an eventfd"))?,
            wake_armed: false,
            woken: false,
            outstanding: 0,
            #[cfg(test)]
            entered: 0,
        };
        ring.arm_wake();
        Ok(ring)
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::from_eventfd(Arc::clone(&self.wake))
    }

    pub(super) fn in_flight(&self) -> usize {
        self.outstanding
    }

    pub(super) fn free_recv_buffers(&self) -> usize {
        usize::from(self.buffers.free())
    }

    pub(super) fn push(&mut self, token: Token, op: Op) {
        self.outstanding += 1;
        match InFlight::new(token, op, self.zero_copy) {
            Ok(op) => {
                let key = self.ops.insert(op);
                let before = self.by_token.insert(token, key);
                debug_assert!(before.is_none(), "{token:?} is in flight already");
                self.submit_op(key);
            }
            Err(outcome) => self.ready.push_back(Completion { token, outcome, last: true }),
        }
    }

    pub(super) fn cancel(&mut self, token: Token) {
        let Some(&key) = self.by_token.get(&token) else { return };
        let Some(op) = self.ops.get_mut(key) else { return };
        op.cancelled = true;
        if op.parked {
            self.parked.retain(|&parked| parked != key);
            self.finish(key, Err(super::cancelled()));
        } else {
            self.submit_cancel(key);
        }
    }

    pub(super) fn poll(&mut self) -> Option<Completion> {
        let completion = self.ready.pop_front()?;
        if completion.last {
            self.outstanding -= 1;
        }
        Some(completion)
    }

    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.flush_backlog();
            self.rearm_parked();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut over = left == Some(Duration::ZERO);
            let want = usize::from(self.ready.is_empty() && !over);
            over |= self.enter(want, left)?;
            let woken = std::mem::take(&mut self.woken);
            if over || woken || !self.ready.is_empty() {
                return Ok(());
            }
        }
    }

    /// Submits, waits for `want` completion queue entries, at most `left`, and takes in all there are. Returns
    /// whether the time was over.
    fn enter(&mut self, want: usize, left: Option<Duration>) -> io::Result<bool> {
        #[cfg(test)]
        {
            self.entered += 1;
        }
        let entered = self.enter_once(want, left);
        let reaped = self.reap();
        match entered {
            Ok(_) => Ok(false),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME) => Ok(true),
                // A signal; the caller's loop goes on.
                Some(libc::EINTR) => Ok(false),
                // The completion queue was full, or memory short: better after reaping.
                Some(libc::EBUSY | libc::EAGAIN) if reaped > 0 => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn enter_once(&mut self, want: usize, left: Option<Duration>) -> io::Result<usize> {
        let to_submit = self.uring.submission().len() as u32;
        let timespec = left.map(types::Timespec::from);
        let args = match &timespec {
            Some(timespec) => types::SubmitArgs::new().timespec(timespec),
            None => types::SubmitArgs::new(),
        };
        // GETEVENTS always: it is what makes the kernel run deferred work, and flush completions that had
        // overflowed their queue.
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        // SAFETY: the flags go with the type of the argument, which lives through the call; the entries' memory
        // is kept by `self.ops`.
        unsafe { self.uring.submitter().enter(to_submit, want as u32, flags.bits(), Some(&args)) }
    }

    /// Takes in all entries of the completion queue. Returns how many.
    fn reap(&mut self) -> usize {
        let mut count = 0;
        while let Some(entry) = self.next_entry() {
            self.on_entry(&entry);
            count += 1;
        }
        count
    }

    fn next_entry(&mut self) -> Option<cqueue::Entry> {
        self.uring.completion().next()
    }

    fn on_entry(&mut self, entry: &cqueue::Entry) {
        match Tag::decode(entry.user_data()) {
            Tag::Op(key) => self.on_op(key, entry),
            Tag::Cancel(key) => self.on_cancel(key, entry.result()),
            Tag::Wake => {
                self.woken |= entry.result() >= 0;
                self.wake_armed = cqueue::more(entry.flags());
                if !self.wake_armed && entry.result() != -libc::ECANCELED {
                    self.arm_wake();
                }
            }
            Tag::Ignore => {}
        }
    }

    fn on_op(&mut self, key: Key, entry: &cqueue::Entry) {
        let buf = self.buffer_of(entry);
        let Some(op) = self.ops.get_mut(key) else {
            debug_assert!(false, "a completion of an operation that has ended");
            return;
        };
        if cqueue::notif(entry.flags()) {
            return self.on_note(key, entry.result());
        }
        let token = op.token;
        let (outcome, next) = op.on_result(entry.result(), buf, cqueue::more(entry.flags()));
        if let Some(outcome) = outcome {
            self.complete(token, outcome, false);
        }
        match next {
            Next::More => {}
            Next::Again => self.submit_op(key),
            Next::Park => {
                op_parked(&mut self.ops, key, true);
                self.parked.push_back(key);
            }
            Next::Done(result) => self.finish(key, result),
        }
    }

    /// The provided buffer that came with an entry.
    fn buffer_of(&self, entry: &cqueue::Entry) -> Option<RecvBuf> {
        let id = cqueue::buffer_select(entry.flags())?;
        let len = usize::try_from(entry.result()).unwrap_or(0);
        // SAFETY: the entry says so, and each entry is reaped once.
        Some(unsafe { self.buffers.taken(id, len) }.into())
    }

    /// A request to cancel found nothing, or found the operation just running. No kernel was seen to do that to an
    /// operation that then goes on; but it would be a peer that cannot be parted with, so ask again.
    fn on_cancel(&mut self, key: Key, result: i32) {
        if result < 0 && self.ops.get_mut(key).is_some_and(|op| op.waits_for_a_peer()) {
            self.submit_cancel(key);
        }
    }

    /// The kernel does not read what was sent any more.
    fn on_note(&mut self, key: Key, usage: i32) {
        if usage & USAGE_COPIED != 0 && !std::mem::replace(&mut self.told_of_copies, true) {
            tracing::info!(
                "the kernel copies what is sent all the same: the way leads over a device that needs it"
            );
        }
        if !self.ops.get_mut(key).is_some_and(InFlight::on_note) {
            return;
        }
        if let Some(Outcome::Sent(mut batch, _)) = self.ops.remove(key).map(|op| op.finish(Ok(())))
            && self.spare_batches.len() < MOST_SPARE
        {
            batch.clear();
            self.spare_batches.push(batch);
        }
    }

    fn finish(&mut self, key: Key, result: io::Result<()>) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let token = op.token;
        let outcome = if op.lend() {
            Outcome::Sent(self.spare_batches.pop().unwrap_or_default(), result)
        } else {
            let Some(op) = self.ops.remove(key) else { return };
            op.finish(result)
        };
        self.by_token.remove(&token);
        self.complete(token, outcome, true);
    }

    fn complete(&mut self, token: Token, outcome: Outcome, last: bool) {
        self.ready.push_back(Completion { token, outcome, last });
    }

    /// Lets as many receives go on as there are buffers, the longest waiting first. New submissions run before
    /// what is already armed gets its turn, so these come first; and each that ends without a buffer again has
    /// seen somebody take one, so this never spins.
    fn rearm_parked(&mut self) {
        for _ in 0..self.buffers.free() {
            let Some(key) = self.parked.pop_front() else { return };
            op_parked(&mut self.ops, key, false);
            self.submit_op(key);
        }
    }

    fn arm_wake(&mut self) {
        let entry =
            opcode::PollAdd::new(types::Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        self.wake_armed = true;
        self.submit(entry.user_data(Tag::Wake.encode()));
    }

    fn submit_op(&mut self, key: Key) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let entry = op.entry().user_data(Tag::Op(key).encode());
        self.submit(entry);
    }

    fn submit_cancel(&mut self, key: Key) {
        let entry = opcode::AsyncCancel::new(Tag::Op(key).encode())
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Tag::Cancel(key).encode());
        self.submit(entry);
    }

    /// Queues an entry, behind all that were queued before.
    fn submit(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_submit(&entry) {
            self.backlog.push_back(entry);
        }
    }

    /// Puts an entry in the submission queue; a full one is handed to the kernel first.
    fn try_submit(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: what the entry points to is owned by an operation in `self.ops` (or by `self.wake`) until
            // its last completion queue entry.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return true;
            }
            if self.uring.submit().is_err() {
                return false;
            }
        }
        false
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_submit(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Ends everything the kernel works on, and waits until it has. Returns whether that succeeded.
    fn drain(&mut self) -> bool {
        self.parked.clear();
        self.ops.drop_parked();
        for op in self.ops.iter_mut() {
            op.cancelled = true;
        }
        while !self.ops.is_idle() || self.wake_armed {
            self.submit(
                opcode::AsyncCancel2::new(types::CancelBuilder::any())
                    .build()
                    .user_data(Tag::Ignore.encode()),
            );
            self.flush_backlog();
            // Two: the request to cancel completes at once, whatever became of it.
            if self.enter(2, Some(DRAIN_PATIENCE)).is_err() {
                return false;
            }
            // Sockets, buffers and batches of operations that have ended go at once.
            self.ready.clear();
        }
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.drain() {
            // Cannot fail: it was registered. The buffers themselves may outlive the ring in a `RecvBuf`.
            let _ = self.uring.submitter().unregister_buf_ring(BUFFER_GROUP);
        } else {
            // The kernel may still write to this memory: better lost than reused.
            std::mem::forget(std::mem::take(&mut self.ops));
            std::mem::forget(Rc::clone(&self.buffers));
        }
    }
}

fn op_parked(ops: &mut Slab, key: Key, parked: bool) {
    if let Some(op) = ops.get_mut(key) {
        op.parked = parked;
    }
}

/// Makes the ring with all that this kernel offers (Linux 6.1), or with less.
fn build(config: &DriverConfig) -> io::Result<IoUring> {
    match plain(config).setup_single_issuer().setup_defer_taskrun().build(config.entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain(config).build(config.entries),
        made => made,
    }
}

fn plain(config: &DriverConfig) -> io_uring::Builder {
    let completions = config.completions.max(config.entries);
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_submit_all().setup_cqsize(completions).setup_coop_taskrun();
    builder
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_ring_without_the_newest_features_works_too() {
        let config = DriverConfig::default();
        let uring = plain(&config).build(config.entries).expect("a ring");
        let mut ring = Ring::on(uring, &config).expect("a driver");
        let (mut near, far) = UnixStream::pair().expect("a pair");
        ring.push(Token(1), Op::Recv { socket: adopt(far.into()).expect("adopts") });
        for byte in 0..3 {
            near.write_all(&[byte]).expect("writes");
            ring.wait(None).expect("waits");
            let completion = ring.poll().expect("one is ready");
            assert!(matches!(completion.outcome, Outcome::Received(buf) if *buf == [byte]));
        }
        ring.waker().wake();
        ring.wait(None).expect("waits");
        assert!(ring.poll().is_none());
        ring.cancel(Token(1));
        ring.wait(None).expect("waits");
        assert!(ring.poll().is_some_and(|completion| completion.last));
        assert_eq!(ring.in_flight(), 0);
    }

    #[test]
    fn what_a_completion_is_about_survives_the_trip_through_the_kernel() {
        let key = Key((1 << 62) - 1);
        assert!(matches!(Tag::decode(Tag::Op(key).encode()), Tag::Op(same) if same == key));
        assert!(matches!(Tag::decode(Tag::Cancel(key).encode()), Tag::Cancel(same) if same == key));
        assert!(matches!(Tag::decode(Tag::Wake.encode()), Tag::Wake));
        assert!(matches!(Tag::decode(Tag::Ignore.encode()), Tag::Ignore));
    }
}
