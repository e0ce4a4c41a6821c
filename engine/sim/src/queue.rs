//! What will happen, by time. Knows no event by itself; of those at the same time the first added comes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ringtide_proto::time::Instant;

/// Events in the order of their time. The heap moves small keys about; the events lie still.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    events: Vec<Option<E>>,
    /// Places of `events` that are free.
    vacant: Vec<u32>,
    added: u64,
}

impl<E> Queue<E> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), vacant: Vec::new(), added: 0 }
    }

    pub(crate) fn add(&mut self, at: Instant, event: E) {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() as u32 - 1
        });
        self.events[place as usize] = Some(event);
        self.added += 1;
        self.heap.push(Reverse((at, self.added, place)));
    }

    /// When the next event is.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, E)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.vacant.push(place);
        Some((at, self.events[place as usize].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_and_then_by_turn() {
        let mut queue = Queue::new();
        for (nanos, event) in [(5, 'd'), (3, 'a'), (3, 'b'), (9, 'e'), (3, 'c')] {
            queue.add(Instant::from_nanos(nanos), event);
        }
        assert_eq!(queue.pop(), Some((Instant::from_nanos(3), 'a')));
        queue.add(Instant::from_nanos(1), 'x');
        assert_eq!(queue.next_at(), Some(Instant::from_nanos(1)));
        let rest: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(rest, "xbcde");
        assert_eq!((queue.next_at(), queue.events.len()), (None, 5));
    }
}
