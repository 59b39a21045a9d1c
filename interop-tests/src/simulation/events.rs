//! What happens when: a heap of events, and a clock that jumps from one to the next.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

/// Events that are due, by time; of those due at the same time the one that was put in first comes first.
#[derive(Debug)]
pub(super) struct Events<E> {
    heap: BinaryHeap<Due<E>>,
    now: Duration,
    number: u64,
}

#[derive(Debug)]
struct Due<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Events<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), now: Duration::ZERO, number: 0 }
    }

    /// The time of the event that came last.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Lets something happen then; what is late happens now.
    pub(super) fn at(&mut self, at: Duration, event: E) {
        self.number += 1;
        self.heap.push(Due { at: at.max(self.now), number: self.number, event });
    }

    /// Lets something happen after so long.
    pub(super) fn after(&mut self, wait: Duration, event: E) {
        self.at(self.now + wait, event);
    }

    /// The next event; it is its time now.
    pub(super) fn next(&mut self) -> Option<E> {
        let due = self.heap.pop()?;
        self.now = due.at;
        Some(due.event)
    }
}

// The greatest is what a heap gives first, so the earliest is the greatest.
impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Due<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_comes_first_and_of_the_same_time_the_first_one() {
        let mut events = Events::new();
        for (ms, event) in [(20, 'c'), (10, 'a'), (30, 'e'), (10, 'b'), (20, 'd')] {
            events.at(Duration::from_millis(ms), event);
        }
        let order: String = std::iter::from_fn(|| events.next()).collect();
        assert_eq!((order.as_str(), events.now()), ("abcde", Duration::from_millis(30)));
        events.at(Duration::ZERO, 'f');
        assert_eq!((events.next(), events.now()), (Some('f'), Duration::from_millis(30)), "no way back");
    }
}
