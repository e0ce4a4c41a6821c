//! Places for the peers of the process, shared by all shards: a connection holds one from accepting or dialling to its end,
//! on whichever shard it is, so that one on its way between two shards counts once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All places.
#[derive(Debug)]
pub(crate) struct Seats {
    taken: AtomicUsize,
    most: usize,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), most })
    }

    /// A place; none while all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Seat> {
        let one_more = |taken: usize| (taken < self.most).then_some(taken + 1);
        // Nothing else is ordered by it: who sees a place taken a moment late is refused, not harmed.
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Seat(Arc::clone(self)))
    }
}

/// One place, free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_are_said() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take(), seats.take());
        assert!(first.is_some() && second.is_some());
        assert!(seats.take().is_none());
        drop(first);
        assert!(seats.take().is_some());
    }
}
