//! A loop that has worked rests before it looks for what is new: for twice as long as it worked, within bounds that
//! `lanes.rest` sets.
//!
//! What comes meanwhile is served together. A channel with a thousand listeners and a thousand events a second then costs a
//! write of many events for each of them, rather than a write for each event; and ten thousand channels with an event now and
//! then cost one wake-up for several. The first event after a quiet time waits for nothing, and a loop with more to do than
//! it can do does not rest. While it rests it sees to its timers and to what the system says of its sockets; new sockets wait.

use std::time::Duration;

use tokio::time::Instant;

/// Owned by its loop.
#[derive(Debug)]
pub(super) struct Rest {
    /// The shortest, since to be woken costs more than to write; who has worked for as long always rests. None where it is zero.
    least: Duration,
    /// Since when it works; `None` when it has not found anything to do.
    since: Option<Instant>,
    /// When it was done the last time.
    last: Option<Instant>,
    /// Until when it rests.
    until: Option<Instant>,
}

impl Rest {
    /// Rests for `least` to thrice as long. Who has worked for less, and more than twice as long after the time before, does not.
    pub(super) fn new(least: Duration) -> Self {
        Self { least, since: None, last: None, until: None }
    }

    /// Something was found to do.
    pub(super) fn works(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Whether it is to look for what is new.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now < until) {
            return false;
        }
        self.until = None;
        true
    }

    /// Until when it rests, from now on if it has worked; `None` where there was nothing to do, or is too much (`crowded`).
    pub(super) fn until(&mut self, now: Instant, crowded: impl FnOnce() -> bool) -> Option<Instant> {
        let since = if self.until.is_some() || crowded() { None } else { self.since.take() };
        let Some(since) = since else { return self.until };
        let worked = now.saturating_duration_since(since);
        let last = self.last.replace(now);
        let least = self.least;
        if least.is_zero() {
            return None;
        }
        if worked >= least || last.is_some_and(|last| since.saturating_duration_since(last) <= least * 2) {
            self.until = Some(now + (worked * 2).clamp(least, least * 3));
        }
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn rests_twice_as_long_as_it_worked_within_bounds() {
        let begin = Instant::now();
        for (worked, rests) in [(4, 8), (5, 10), (100, 12)] {
            let mut rest = Rest::new(Duration::from_millis(4));
            rest.works(begin);
            let end = after(begin, worked);
            assert_eq!(rest.until(end, || false), Some(after(end, rests)));
            assert!(!rest.is_over(after(end, rests - 1)));
            assert_eq!(rest.until(after(end, rests - 1), || true), Some(after(end, rests)), "it has begun");
            assert!(rest.is_over(after(end, rests)));
            assert_eq!(rest.until(after(end, rests), || false), None, "nothing came");
        }
    }

    #[test]
    fn a_little_work_needs_rest_only_if_there_was_some_before() {
        let (mut rest, begin) = (Rest::new(Duration::from_millis(4)), Instant::now());
        for (at, rests) in [(0, false), (9, false), (17, true), (40, false), (41, true)] {
            let now = after(begin, at);
            assert!(rest.is_over(now));
            rest.works(now);
            assert_eq!(rest.until(now, || false), rests.then(|| after(now, 4)), "at {at} ms");
        }
    }

    #[test]
    fn without_a_rest_there_is_none() {
        let (mut rest, now) = (Rest::new(Duration::ZERO), Instant::now());
        for at in 0..3 {
            rest.works(after(now, at));
            assert_eq!(rest.until(after(now, at + 50), || false), None);
            assert!(rest.is_over(after(now, at + 50)));
        }
    }

    #[test]
    fn who_did_nothing_or_has_too_much_does_not_rest() {
        let (mut rest, now) = (Rest::new(Duration::from_millis(4)), Instant::now());
        assert!(rest.is_over(now));
        assert_eq!(rest.until(now, || false), None);
        rest.works(now);
        assert_eq!(rest.until(after(now, 5), || true), None);
        assert!(rest.is_over(after(now, 5)));
        assert_eq!(rest.until(after(now, 6), || false), Some(after(now, 18)), "it has worked since");
    }
}
