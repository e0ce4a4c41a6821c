//! `Mailbox`: messages for one thread, which is woken only when it sleeps.
//!
//! Owns the queue (crossbeam, unbounded: what is sent is bounded by what is in flight) and the promise that no
//! message waits for a sleeper. Waking costs 11-17 us of CPU where a message to somebody awake costs 0.1, so the
//! sender looks first (`SleepFlag` is the protocol, checked with loom).
//!
//! The receiver's loop:
//!
//! ```no_run
//! # use ringtide_engine::{driver::Driver, mailbox::Mailbox};
//! # fn run(driver: &mut Driver, mailbox: &Mailbox<u32>) -> std::io::Result<()> {
//! loop {
//!     while let Some(message) = mailbox.try_recv() { /* ... */ }
//!     let timeout = if mailbox.prepare_sleep() { None } else { Some(std::time::Duration::ZERO) };
//!     driver.wait(timeout)?;
//!     mailbox.awake();
//!     while let Some(completion) = driver.poll() { /* ... */ }
//! }
//! # }
//! ```

mod sleep_flag;

use std::fmt;
use std::sync::Arc;

use crossbeam::channel::{self, Receiver, Sender};

use self::sleep_flag::SleepFlag;
pub use crate::driver::Waker;

/// Whether a thread sleeps, and how to wake it. Shared by all mailboxes of that thread.
pub struct Sleeper {
    flag: SleepFlag,
    waker: Waker,
}

impl Sleeper {
    /// The sleeper that `waker` wakes.
    #[must_use]
    pub fn new(waker: Waker) -> Arc<Sleeper> {
        Arc::new(Sleeper { flag: SleepFlag::new(), waker })
    }

    /// To be called before sleeping: `false` means that there is mail (`has_mail` looks at *all* queues of the
    /// thread) and sleep would be too long.
    pub fn prepare_sleep(&self, has_mail: impl FnOnce() -> bool) -> bool {
        self.flag.prepare_sleep(has_mail)
    }

    /// To be called after sleeping.
    pub fn awake(&self) {
        self.flag.awake();
    }

    /// To be called after putting something in a queue of the thread: wakes it if it sleeps.
    pub fn notify(&self) {
        if self.flag.must_wake() {
            self.waker.wake();
        }
    }
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleeper")
    }
}

/// A queue to a thread that `waker` wakes and that has no other queue.
#[must_use]
pub fn mailbox<T>(waker: Waker) -> (MailSender<T>, Mailbox<T>) {
    shared(&Sleeper::new(waker))
}

/// One of several queues to the thread of `sleeper`, which then sleeps by [`Sleeper::prepare_sleep`].
#[must_use]
pub fn shared<T>(sleeper: &Arc<Sleeper>) -> (MailSender<T>, Mailbox<T>) {
    let (sender, receiver) = channel::unbounded();
    let mail = MailSender { sender, sleeper: Arc::clone(sleeper) };
    (mail, Mailbox { receiver, sleeper: Arc::clone(sleeper) })
}

/// The receiving end; belongs to one thread.
pub struct Mailbox<T> {
    receiver: Receiver<T>,
    sleeper: Arc<Sleeper>,
}

impl<T> Mailbox<T> {
    /// The oldest message.
    #[must_use]
    pub fn try_recv(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// To be called before sleeping: `false` means that there is mail, so don't. For a thread with this one queue.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.sleeper.prepare_sleep(|| !self.is_empty())
    }

    /// To be called after sleeping.
    pub fn awake(&self) {
        self.sleeper.awake();
    }

    /// Who sleeps here.
    #[must_use]
    pub fn sleeper(&self) -> &Arc<Sleeper> {
        &self.sleeper
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({} waiting)", self.receiver.len())
    }
}

/// The sending end.
pub struct MailSender<T> {
    sender: Sender<T>,
    sleeper: Arc<Sleeper>,
}

impl<T> MailSender<T> {
    /// Sends a message and wakes the receiver if it sleeps. Returns whether there is a receiver.
    pub fn send(&self, message: T) -> bool {
        let sent = self.sender.send(message).is_ok();
        self.sleeper.notify();
        sent
    }

    /// Sends a message without waking anybody: for senders of several, who then [notify](Sleeper::notify) the
    /// [sleeper](Self::sleeper) once. Returns whether there is a receiver.
    pub fn post(&self, message: T) -> bool {
        self.sender.send(message).is_ok()
    }

    /// Whom messages wake.
    #[must_use]
    pub fn sleeper(&self) -> &Arc<Sleeper> {
        &self.sleeper
    }
}

impl<T> Clone for MailSender<T> {
    fn clone(&self) -> MailSender<T> {
        MailSender { sender: self.sender.clone(), sleeper: Arc::clone(&self.sleeper) }
    }
}

impl<T> fmt::Debug for MailSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailSender({} waiting)", self.sender.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::driver::{Driver, DriverConfig, IoKind};

    fn counting() -> (Arc<AtomicUsize>, Waker) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&wakes);
        let waker = Waker::from_fn(Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        (wakes, waker)
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let (wakes, waker) = counting();
        let (sender, mailbox) = mailbox(waker);
        assert!(sender.send(1));
        assert!(!mailbox.prepare_sleep(), "there is mail");
        assert_eq!((mailbox.try_recv(), mailbox.try_recv()), (Some(1), None));
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        assert!(mailbox.prepare_sleep());
        assert!(sender.clone().send(2) && sender.send(3));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        mailbox.awake();
        assert!(sender.send(4));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn several_mailboxes_share_one_sleeper() {
        let (wakes, waker) = counting();
        let sleeper = Sleeper::new(waker);
        let ((one, one_box), (two, two_box)) = (shared::<u8>(&sleeper), shared::<char>(&sleeper));
        assert!(sleeper.prepare_sleep(|| !one_box.is_empty() || !two_box.is_empty()));
        assert!(two.send('a') && one.send(1));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        sleeper.awake();
        assert!(!sleeper.prepare_sleep(|| !one_box.is_empty() || !two_box.is_empty()));
    }

    #[test]
    fn what_is_posted_wakes_nobody_until_it_is_said() {
        let (wakes, waker) = counting();
        let (sender, mailbox) = mailbox(waker);
        assert!(mailbox.prepare_sleep());
        assert!(sender.post(1) && sender.post(2));
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        sender.sleeper().notify();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert_eq!((mailbox.try_recv(), mailbox.try_recv()), (Some(1), Some(2)));
    }

    #[test]
    fn sending_to_nobody_says_so() {
        let (sender, mailbox) = mailbox(counting().1);
        drop(mailbox);
        assert!(!sender.send(()));
    }

    #[test]
    fn no_message_is_slept_over() {
        const MESSAGES: u32 = 20_000;
        for kind in [IoKind::Uring, IoKind::Epoll] {
            let mut driver = Driver::new(kind, &DriverConfig::default()).expect("a driver");
            let (sender, mailbox) = mailbox(driver.waker());
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let sender = sender.clone();
                    thread::spawn(move || (0..MESSAGES / 2).for_each(|number| assert!(sender.send(number))))
                })
                .collect();
            let mut received = 0;
            while received < MESSAGES {
                while mailbox.try_recv().is_some() {
                    received += 1;
                }
                // Without a timeout: a lost wake-up would hang here.
                if received < MESSAGES && mailbox.prepare_sleep() {
                    driver.wait(None).expect("waits");
                }
                mailbox.awake();
            }
            senders.into_iter().for_each(|sender| sender.join().expect("sends"));
        }
    }
}
