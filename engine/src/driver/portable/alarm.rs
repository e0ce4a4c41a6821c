//! `Alarm`: ends a wait whose time is up. A timer of the kernel, set again and again: each of monoio's is an allocation.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// A timer, and when it goes off.
pub(super) struct Alarm {
    timer: OwnedFd,
    set_to: Cell<Option<Instant>>,
}

impl Alarm {
    /// One that is not set.
    pub(super) fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Alarm { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, set_to: Cell::new(None) })
    }

    /// What becomes readable when it goes off.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.timer.try_clone()
    }

    /// Sees to it that it goes off by then; maybe earlier, for a wait that ended before.
    pub(super) fn set(&self, at: Instant) -> io::Result<()> {
        if self.set_to.get().is_some_and(|set_to| set_to <= at) {
            return Ok(());
        }
        let left = at.saturating_duration_since(Instant::now());
        // Zero would be never.
        let it_value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos().max(1)),
        };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: none, it_value },
        )?;
        self.set_to.set(Some(at));
        Ok(())
    }

    /// It went off.
    pub(super) fn rang(&self) {
        // Fails only when it was set anew meanwhile, and has not gone off since.
        if rustix::io::read(&self.timer, &mut [0; 8]).is_ok() {
            self.set_to.set(None);
        }
    }
}
