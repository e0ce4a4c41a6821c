//! `SleepFlag`: the protocol by which a sender knows whether the receiver must be woken.
//!
//! Both sides write, then look at what the other wrote: the receiver sets the flag and looks at its queues, the
//! sender queues a message and looks at the flag. The SeqCst fences between forbid that both look too early. Uses
//! nothing but an atomic, so that loom can check it.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Whether a thread sleeps or is about to.
pub(super) struct SleepFlag {
    sleeping: AtomicBool,
}

impl SleepFlag {
    pub(super) fn new() -> SleepFlag {
        SleepFlag { sleeping: AtomicBool::new(false) }
    }

    /// The receiver is about to sleep, if this returns `true`: nothing was in its queues after the flag was up,
    /// and who queues something from now on sees the flag.
    pub(super) fn prepare_sleep(&self, has_mail: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_mail() {
            self.awake();
            return false;
        }
        true
    }

    /// The receiver is awake and will look at its queues before it sleeps.
    pub(super) fn awake(&self) {
        // A store would do, as a sender's exchange leaves no gap in the order of writes; loom does not know that.
        self.sleeping.swap(false, Ordering::Relaxed);
    }

    /// After queueing: whether the receiver sleeps and nobody else wakes it.
    pub(super) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load keeps the flag's cache line shared while the receiver is awake, which is nearly always.
        self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::*;

    /// A queue of which only the length matters, an eventfd, and the flag under test.
    struct Model {
        flag: SleepFlag,
        queued: AtomicUsize,
        wakes: Mutex<usize>,
        woken: Condvar,
    }

    impl Model {
        /// Queues `count` messages one by one and then looks once.
        fn send(&self, count: usize) {
            for _ in 0..count {
                self.queued.fetch_add(1, Ordering::Release);
            }
            if self.flag.must_wake() {
                *self.wakes.lock().unwrap() += 1;
                self.woken.notify_one();
            }
        }

        /// Receives until `expected` messages came; loom reports a deadlock when one is slept over.
        fn receive(&self, expected: usize) {
            loop {
                let seen = self.queued.load(Ordering::Acquire);
                if seen == expected {
                    return;
                }
                if self.flag.prepare_sleep(|| self.queued.load(Ordering::Acquire) > seen) {
                    let mut wakes = self.wakes.lock().unwrap();
                    while *wakes == 0 {
                        wakes = self.woken.wait(wakes).unwrap();
                    }
                    *wakes = 0;
                }
                self.flag.awake();
            }
        }
    }

    fn check(senders: usize, each: usize, at_once: usize) {
        let mut builder = loom::model::Builder::new();
        // Without a bound this takes hours; a slept-over message takes two preemptions.
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let model = Arc::new(Model {
                flag: SleepFlag::new(),
                queued: AtomicUsize::new(0),
                wakes: Mutex::new(0),
                woken: Condvar::new(),
            });
            let senders: Vec<_> = (0..senders)
                .map(|_| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || (0..each).for_each(|_| model.send(at_once)))
                })
                .collect();
            model.receive(senders.len() * each * at_once);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }

    #[test]
    fn mailbox_one_sender_is_never_slept_over() {
        check(1, 2, 1);
    }

    #[test]
    fn mailbox_two_senders_are_never_slept_over() {
        check(2, 1, 1);
    }

    #[test]
    fn mailbox_messages_posted_together_are_never_slept_over() {
        check(1, 1, 2);
    }
}
