//! Waiting: polls a condition until it holds. Owns the one deadline of the tests, which tells a hang from slowness and
//! is never a criterion: a test that passes in a second passes as well in a minute.

use std::time::{Duration, Instant};

/// How long anything may take before a test calls it a hang. The longest transfer here takes a minute on two cores; on a
/// machine ten times slower it still passes.
pub const HANG: Duration = Duration::from_secs(600);

const POLL: Duration = Duration::from_millis(20);

/// Polls until `condition` holds.
///
/// # Panics
/// When it does not within [`HANG`]; the message names `what` was awaited.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Polls until `probe` yields a value, and returns it.
///
/// # Panics
/// When it yields none within [`HANG`]; the message names `what` was awaited.
pub fn until_some<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begun.elapsed() < HANG, "waited {} s in vain for {what}", HANG.as_secs());
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_until_the_condition_holds() {
        let mut left = 3;
        until("the third poll", || {
            left -= 1;
            left == 0
        });
        assert_eq!(left, 0);
    }
}
