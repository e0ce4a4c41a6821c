//! `Core`: what the tasks of a portable driver share, and `Control`, the handle on one of them.
//!
//! Owns the queue of completions, the table of operations in flight, and the rounds that keep busy sockets fair.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::super::{Completion, DriverConfig, Outcome, Token, cancelled};
use super::alarm::Alarm;
use super::pool::Pool;

/// Handles that are kept to be used again: as many as a wait may end, and of some 64 bytes.
const MOST_SPARE: usize = 256;

/// One operation in flight, as its task and the driver see it.
#[derive(Default)]
pub(super) struct Control {
    cancelled: Cell<bool>,
    /// Wakes the task.
    task: RefCell<Option<Waker>>,
    /// A receive buffer that was handed to the task while it waited for one.
    pub(super) granted: Cell<Option<Box<[u8]>>>,
}

impl Control {
    pub(super) fn cancel(&self) {
        self.cancelled.set(true);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Lets the task run. Inside the runtime only.
    pub(super) fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// To be called by everything the task waits on: fails when it was cancelled, and else sees to it that
    /// `wake` reaches it.
    pub(super) fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        if self.is_cancelled() {
            return Err(cancelled());
        }
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        Ok(())
    }
}

/// What the tasks share.
pub(super) struct Core {
    pub(super) pool: Rc<Pool>,
    pub(super) alarm: Alarm,
    ready: RefCell<VecDeque<Completion>>,
    controls: RefCell<HashMap<Token, Rc<Control>>>,
    helpers: RefCell<Vec<Rc<Control>>>,
    /// Wakes the root future of `wait`.
    root: RefCell<Option<Waker>>,
    woken: Cell<bool>,
    /// Tasks that had their turn and have more to do, in order.
    next_round: RefCell<Vec<Waker>>,
    /// Memory for the round after that: rounds take turns with it, so none allocates.
    spare_round: Cell<Vec<Waker>>,
    /// Handles of operations that are over, to be used again.
    spare_controls: RefCell<VecDeque<Rc<Control>>>,
    poller: RefCell<Option<Waker>>,
    look: Cell<Look>,
    closing: Cell<bool>,
    /// Tasks alive.
    tasks: Cell<usize>,
}

/// How far the look at epoll is that every wait begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Wanted,
    Done,
}

impl Core {
    pub(super) fn new(config: &DriverConfig) -> io::Result<Core> {
        Ok(Core {
            pool: Rc::new(Pool::new(config.recv_buffers, config.recv_buffer_bytes)?),
            alarm: Alarm::new()?,
            ready: RefCell::default(),
            controls: RefCell::default(),
            helpers: RefCell::default(),
            root: RefCell::default(),
            woken: Cell::new(false),
            next_round: RefCell::default(),
            spare_round: Cell::default(),
            spare_controls: RefCell::default(),
            poller: RefCell::default(),
            look: Cell::new(Look::Done),
            closing: Cell::new(false),
            tasks: Cell::new(0),
        })
    }

    /// Runs a task of this driver. Inside the runtime only.
    pub(super) fn spawn(core: &Rc<Core>, task: impl Future<Output = ()> + 'static) {
        core.tasks.set(core.tasks.get() + 1);
        let core = Rc::clone(core);
        drop(monoio::spawn(async move {
            task.await;
            core.tasks.set(core.tasks.get() - 1);
            core.wake_root();
        }));
    }

    pub(super) fn tasks(&self) -> usize {
        self.tasks.get()
    }

    pub(super) fn begin(&self, token: Token) -> Rc<Control> {
        let control = self.spare_control().unwrap_or_default();
        let before = self.controls.borrow_mut().insert(token, Rc::clone(&control));
        debug_assert!(before.is_none(), "{token:?} is in flight already");
        control
    }

    /// A handle for a task that is no operation; it is cancelled when the driver is dropped.
    pub(super) fn helper(&self) -> Rc<Control> {
        let control = Rc::<Control>::default();
        self.helpers.borrow_mut().push(Rc::clone(&control));
        control
    }

    pub(super) fn control(&self, token: Token) -> Option<Rc<Control>> {
        self.controls.borrow().get(&token).cloned()
    }

    /// Queues an outcome that is not the last one.
    pub(super) fn progress(&self, token: Token, outcome: Outcome) {
        self.queue(Completion { token, outcome, last: false });
    }

    /// Queues the last outcome.
    pub(super) fn finish(&self, token: Token, outcome: Outcome) {
        let control = self.controls.borrow_mut().remove(&token);
        // Its task has it until it ends, which is soon, and waits for nothing any more: its memory is not kept.
        if let Some(control) = &control {
            control.task.take();
        }
        let mut spare = self.spare_controls.borrow_mut();
        if spare.len() < MOST_SPARE {
            spare.extend(control);
        }
        drop(spare);
        self.queue(Completion { token, outcome, last: true });
    }

    /// A handle that nobody has any more.
    fn spare_control(&self) -> Option<Rc<Control>> {
        let mut control = self.spare_controls.borrow_mut().pop_front()?;
        *Rc::get_mut(&mut control)? = Control::default();
        Some(control)
    }

    fn queue(&self, completion: Completion) {
        self.ready.borrow_mut().push_back(completion);
        self.wake_root();
    }

    pub(super) fn pop(&self) -> Option<Completion> {
        self.ready.borrow_mut().pop_front()
    }

    pub(super) fn has_completions(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    /// Registers the root future to be woken.
    pub(super) fn root(&self, cx: &Context<'_>) {
        *self.root.borrow_mut() = Some(cx.waker().clone());
    }

    fn wake_root(&self) {
        if let Some(root) = self.root.borrow().as_ref() {
            root.wake_by_ref();
        }
    }

    /// The alarm went off: whoever waits looks at the clock.
    pub(super) fn ring(&self) {
        self.alarm.rang();
        self.wake_root();
    }

    pub(super) fn wake_up(&self) {
        self.woken.set(true);
        self.wake_root();
    }

    pub(super) fn take_woken(&self) -> bool {
        self.woken.replace(false)
    }

    /// Waits for the next call of `wait`. For a task that has queued a completion (so that this wait ends) and
    /// would go on at once: one turn each per wait is what keeps busy sockets fair.
    pub(super) async fn turn_over(&self, control: &Control) -> io::Result<()> {
        let mut waited = false;
        poll_fn(|cx| {
            control.check(cx)?;
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(Ok(()));
            }
            self.next_round.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Wakes the tasks that had their turn in the last wait.
    pub(super) fn start_round(&self) {
        let mut round = self.next_round.replace(self.spare_round.take());
        for task in round.drain(..) {
            task.wake();
        }
        self.spare_round.set(round);
    }

    /// Has the runtime look at epoll without blocking: it does so between two rounds of tasks, and the poller
    /// makes one round necessary.
    pub(super) fn look_at_epoll(&self) {
        self.look.set(Look::Wanted);
        if let Some(poller) = self.poller.take() {
            poller.wake();
        }
    }

    /// Whether the look has been had, and the tasks it woke have run.
    pub(super) fn has_looked(&self) -> bool {
        self.look.get() == Look::Done
    }

    /// The poller's life: it is woken before a look at epoll and runs after it.
    pub(super) async fn poll_looks(&self) {
        poll_fn(|cx| {
            if self.closing.get() {
                return Poll::Ready(());
            }
            *self.poller.borrow_mut() = Some(cx.waker().clone());
            if self.look.replace(Look::Done) == Look::Wanted {
                self.wake_root();
            }
            Poll::Pending
        })
        .await;
    }

    /// Cancels everything. Inside the runtime only.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.look_at_epoll();
        self.start_round();
        let controls: Vec<_> = self.controls.borrow().values().cloned().collect();
        for control in controls.into_iter().chain(self.helpers.take()) {
            control.cancel();
            control.wake();
        }
    }
}
