//! Which connections are begun when: at a rate, not too many at once, and again for those that come back. It must not do
//! I/O.

use std::collections::VecDeque;

/// Handshakes and requests under way at once: beyond that a server is behind, and more would only be refused.
const MAX_UNDER_WAY: usize = 2_000;
/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// The queue of what is to be begun.
#[derive(Debug)]
pub(super) struct Opening {
    /// New connections per second.
    rate: f64,
    /// Fresh connections `next..end` are to be begun.
    next: usize,
    end: usize,
    /// Connections that come back, no earlier than at a unix time in ns. Nearly in the order of those times.
    returning: VecDeque<(u64, usize)>,
    /// Connections that may be begun by now, at most a tick's worth in advance.
    allowance: f64,
    /// When the allowance was last raised, in ns.
    raised_ns: u64,
    /// Connections whose answer has not begun: each until it is given up, in that order.
    under_way: VecDeque<(u64, usize)>,
    waiting: usize,
}

impl Opening {
    /// Nothing to begin yet.
    pub(super) fn new(rate: f64) -> Self {
        Self {
            rate,
            next: 0,
            end: 0,
            returning: VecDeque::new(),
            allowance: 0.0,
            raised_ns: 0,
            under_way: VecDeque::new(),
            waiting: 0,
        }
    }

    /// The first `end` connections are to be begun.
    pub(super) fn open_up_to(&mut self, end: usize) {
        self.end = end;
    }

    /// No fresh ones are begun any more.
    pub(super) fn stop(&mut self) {
        self.end = self.next;
    }

    /// As at the start.
    pub(super) fn start_over(&mut self) {
        *self = Self::new(self.rate);
    }

    /// This one comes back, no earlier than at `due_ns`.
    pub(super) fn come_back(&mut self, index: usize, due_ns: u64) {
        self.returning.push_back((due_ns, index));
    }

    /// Whether there is anything to begin, now or soon.
    pub(super) fn has_work(&self) -> bool {
        self.next < self.end || !self.returning.is_empty()
    }

    /// Raises what may be begun to `now_ns`.
    pub(super) fn tick(&mut self, now_ns: u64) {
        let passed = if self.raised_ns == 0 { 0 } else { now_ns.saturating_sub(self.raised_ns) };
        self.raised_ns = now_ns;
        // What was not used in 20 ms is gone: a process that was held up does not make up for it by a burst.
        let most = (self.rate / 50.0).max(1.0);
        self.allowance = (self.allowance + passed as f64 / SECOND * self.rate).min(most);
    }

    /// The next one to begin, and whether it is a fresh one.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<(usize, bool)> {
        if self.allowance < 1.0 || self.waiting >= MAX_UNDER_WAY {
            return None;
        }
        let taken = match self.returning.front() {
            Some(&(due_ns, index)) if due_ns <= now_ns => {
                self.returning.pop_front();
                (index, false)
            }
            _ if self.next < self.end => {
                self.next += 1;
                (self.next - 1, true)
            }
            _ => return None,
        };
        self.allowance -= 1.0;
        Some(taken)
    }

    /// This one was begun, and is given up at `deadline_ns` unless its answer begins.
    pub(super) fn begun(&mut self, index: usize, deadline_ns: u64) {
        self.waiting += 1;
        self.under_way.push_back((deadline_ns, index));
    }

    /// One that was under way is not any more.
    pub(super) fn settled(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// One whose time is up by `now_ns`; it may have settled long since.
    pub(super) fn late(&mut self, now_ns: u64) -> Option<usize> {
        let &(deadline_ns, index) = self.under_way.front()?;
        if deadline_ns > now_ns {
            return None;
        }
        self.under_way.pop_front();
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn connections_begin_at_the_rate_and_a_pause_is_not_made_up_for() {
        let mut opening = Opening::new(1_000.0);
        opening.open_up_to(10_000);
        let mut begun = 0;
        let mut now = MS;
        for _ in 0..=100 {
            opening.tick(now);
            while opening.take(now).is_some() {
                begun += 1;
            }
            now += MS;
        }
        assert_eq!(begun, 100);
        opening.tick(now + 10_000 * MS);
        assert_eq!(std::iter::from_fn(|| opening.take(now)).count(), 20);
    }

    #[test]
    fn those_that_come_back_go_first_and_wait_for_their_time() {
        let mut opening = Opening::new(1e6);
        opening.open_up_to(2);
        opening.come_back(7, 5 * MS);
        opening.tick(MS);
        opening.tick(2 * MS);
        assert_eq!(opening.take(2 * MS), Some((0, true)));
        assert_eq!(opening.take(5 * MS), Some((7, false)));
        assert_eq!(opening.take(5 * MS), Some((1, true)));
        assert_eq!(opening.take(5 * MS), None);
        assert!(!opening.has_work());
    }

    #[test]
    fn too_many_under_way_hold_up_the_next_and_late_ones_are_told() {
        let mut opening = Opening::new(1e9);
        opening.open_up_to(5_000);
        opening.tick(MS);
        opening.tick(2 * MS);
        while let Some((index, _)) = opening.take(2 * MS) {
            opening.begun(index, 10 * MS + index as u64);
        }
        assert_eq!(opening.waiting, MAX_UNDER_WAY);
        opening.settled();
        assert!(opening.take(2 * MS).is_some());
        assert_eq!(opening.late(9 * MS), None);
        assert_eq!(opening.late(10 * MS), Some(0));
        assert_eq!(opening.late(10 * MS), None);
    }
}
