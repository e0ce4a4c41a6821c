//! `Timers`: which of many are to be looked at when, nearly all of them idle. Owns the order; each that is kept in it holds
//! its own [`Planned`] time.

use std::collections::BTreeSet;

use ringtide_proto::time::Instant;

/// When one is to be looked at, as [`Timers`] has it.
#[derive(Debug, Default)]
pub(crate) struct Planned(Option<Instant>);

/// When each that waits for a time is to be looked at. Invariant: holds exactly what is planned, at that time.
#[derive(Debug)]
pub(crate) struct Timers<K>(BTreeSet<(Instant, K)>);

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Plans it for `next` instead of what was planned. Costs nothing where that is the same, as it is most times.
    pub(crate) fn plan(&mut self, key: K, planned: &mut Planned, next: Option<Instant>) {
        if planned.0 == next {
            return;
        }
        if let Some(before) = std::mem::replace(&mut planned.0, next) {
            self.0.remove(&(before, key));
        }
        next.map(|at| self.0.insert((at, key)));
    }

    /// All that are due, the most overdue first. They stay in here until they are planned anew: each is to be looked at
    /// once, whatever it asks for next, so that one that is due again at once keeps nobody waiting.
    pub(crate) fn due(&self, now: Instant) -> Vec<K> {
        let due = self.0.iter().take_while(|&&(at, _)| at <= now);
        due.map(|&(_, key)| key).collect()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use ringtide_proto::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_due_comes_in_order() {
        let (mut timers, mut planned) = (Timers::default(), [(); 4].map(|()| Planned::default()));
        for (key, seconds) in [(0, 3), (1, 1), (2, 9), (3, 1)] {
            timers.plan(key, &mut planned[key], Some(at(seconds)));
        }
        assert_eq!((timers.due(at(0)), timers.next()), (vec![], Some(at(1))));
        assert_eq!(timers.due(at(3)), [1, 3, 0]);
    }

    #[test]
    fn a_new_plan_replaces_the_old_one() {
        let (mut timers, mut planned) = (Timers::default(), Planned::default());
        timers.plan('x', &mut planned, Some(at(1)));
        timers.plan('x', &mut planned, Some(at(5)));
        timers.plan('x', &mut planned, Some(at(5)));
        assert_eq!((timers.due(at(4)), timers.due(at(5))), (vec![], vec!['x']));
        timers.plan('x', &mut planned, None);
        assert_eq!((timers.due(at(9)), timers.next()), (vec![], None));
    }

    #[test]
    fn one_that_is_always_due_keeps_nobody_waiting() {
        let (mut timers, mut planned) = (Timers::default(), [(); 2].map(|()| Planned::default()));
        timers.plan(0, &mut planned[0], Some(at(0)));
        timers.plan(1, &mut planned[1], Some(at(1)));
        let looked_at = timers.due(at(2));
        for &key in &looked_at {
            let next = (key == 0).then(|| at(0));
            timers.plan(key, &mut planned[key], next);
        }
        assert_eq!((looked_at, timers.due(at(2))), (vec![0, 1], vec![0]));
    }
}
