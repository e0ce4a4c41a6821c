//! `Usage`: what a process has taken of the machine, told by itself.

use std::ops::Sub;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::{Map, Value};

/// CPU time and context switches of this process, ended threads included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Seconds in user mode.
    pub user_s: f64,
    /// Seconds in the kernel.
    pub sys_s: f64,
    /// How often a thread waited.
    pub voluntary_switches: i64,
    /// How often a thread had to make room for another.
    pub involuntary_switches: i64,
}

impl Usage {
    /// From the start of the process until now.
    ///
    /// # Panics
    /// Never: the kernel does not refuse a process its own figures.
    #[must_use]
    pub fn so_far() -> Self {
        let told = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
        Self {
            user_s: seconds(told.user_time()),
            sys_s: seconds(told.system_time()),
            voluntary_switches: told.voluntary_context_switches(),
            involuntary_switches: told.involuntary_context_switches(),
        }
    }

    /// The figures under their names, for a line of JSON.
    #[must_use]
    pub fn to_json(self) -> Map<String, Value> {
        let entries = [
            ("user_s", self.user_s.into()),
            ("sys_s", self.sys_s.into()),
            ("voluntary_switches", self.voluntary_switches.into()),
            ("involuntary_switches", self.involuntary_switches.into()),
        ];
        entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// What was taken since `earlier`.
impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            sys_s: self.sys_s - earlier.sys_s,
            voluntary_switches: self.voluntary_switches - earlier.voluntary_switches,
            involuntary_switches: self.involuntary_switches - earlier.involuntary_switches,
        }
    }
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows() {
        let before = Usage::so_far();
        let mut spent = Usage::so_far() - before;
        while spent.user_s + spent.sys_s < 0.02 {
            std::hint::black_box((0..1000u64).sum::<u64>());
            spent = Usage::so_far() - before;
        }
        assert!(spent.user_s >= 0.0 && spent.sys_s >= 0.0);
        assert!(spent.to_json().contains_key("user_s"));
    }
}
