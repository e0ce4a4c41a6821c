//! Signals: the first SIGINT or SIGTERM asks the command to stop and keep what it has, the second quits at once.
//!
//! A thread of its own takes them, so that the second one works whatever the others are doing. What has to be
//! done before stopping is each command's own business.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Exit, Failure};

/// What is said when a signal ends what takes a moment to end.
pub(crate) const LEAVING: &str = "leaving the swarm; once more quits at once";

/// The process's one listener for signals.
pub(crate) struct Stop {
    /// The first signal that came, or 0.
    signal: AtomicI32,
    asked: AtomicBool,
    /// Directories that must not outlive the process even when it quits at once.
    temporary: Mutex<Vec<PathBuf>>,
}

static STOP: OnceLock<Stop> = OnceLock::new();

impl Stop {
    /// Starts to listen. To be called once, before other threads exist.
    pub(crate) fn listen() -> Result<&'static Stop, Failure> {
        let refused = |error| Failure::new(Exit::Refused, format_args!("cannot listen for signals: {error}"));
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(refused)?;
        let stop = STOP.get_or_init(|| Stop {
            signal: AtomicI32::new(0),
            asked: AtomicBool::new(false),
            temporary: Mutex::default(),
        });
        let listener = std::thread::Builder::new().name("signals".into());
        listener
            .spawn(move || {
                for signal in signals.forever() {
                    stop.received(signal);
                }
            })
            .map_err(refused)?;
        Ok(stop)
    }

    /// The exit that a signal asked for, if one came.
    pub(crate) fn requested(&self) -> Option<Exit> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(exit_of(signal)),
        }
    }

    /// Becomes true when a signal comes: for loops that take a flag to be cancelled by.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// A directory that is removed even when a second signal ends the process at once. Whoever made it removes it in
    /// every other case.
    pub(crate) fn remove_on_quit(&self, path: &Path) {
        self.temporary.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    }

    fn received(&self, signal: i32) {
        if self.signal.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.asked.store(true, Ordering::SeqCst);
            return;
        }
        for path in self.temporary.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = std::fs::remove_dir_all(path);
        }
        std::process::exit(i32::from(exit_of(signal).code()));
    }
}

fn exit_of(signal: i32) -> Exit {
    if signal == SIGTERM { Exit::Terminated } else { Exit::Interrupted }
}
