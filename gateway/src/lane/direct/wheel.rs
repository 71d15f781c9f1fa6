//! One timer for all connections of a loop: a wheel of short times, each with those that are to look then.
//!
//! A connection that puts its moment off touches nothing here: its old entry finds that it is not time yet, and is entered
//! again. So a keep-alive that every event puts off costs one entry in twenty seconds.

use std::time::Duration;

use tokio::time::Instant;

/// How exact it is: nobody is called early, and at most so late. Nothing that waits here is in a hurry (keep-alives, deadlines, the
/// window of a drain), and each tick wakes the loop for all that is due in it.
const TICK: Duration = Duration::from_millis(128);
/// Times that it holds, some 33 s. What is further away is looked at then.
const TICKS: usize = 256;

/// When a connection is entered, in ticks since the wheel began; [`NEVER`] where it is not.
pub(super) type Tick = u32;

/// Not entered.
pub(super) const NEVER: Tick = Tick::MAX;

/// See above. Owned by its loop.
#[derive(Debug)]
pub(super) struct Wheel {
    begin: Instant,
    /// The first tick that has not been called.
    now: Tick,
    /// By tick, modulo their number: the tokens to be called.
    ticks: Vec<Vec<u32>>,
    entries: usize,
}

impl Wheel {
    pub(super) fn new(begin: Instant) -> Self {
        Self { begin, now: 0, ticks: vec![Vec::new(); TICKS], entries: 0 }
    }

    /// Enters `token` for `at`, unless its earliest entry, `entered`, is early enough. Returns its earliest entry from now on.
    pub(super) fn enter(&mut self, token: u32, at: Instant, entered: Tick) -> Tick {
        let furthest = self.now.saturating_add(TICKS as Tick - 1);
        let tick = self.tick_after(at).clamp(self.now, furthest);
        if entered <= tick {
            return entered;
        }
        self.ticks[tick as usize % TICKS].push(token);
        self.entries += 1;
        tick
    }

    /// Moves the tokens of the first tick that is over by `now`, and was not called yet, into `due`, which is empty. `None`:
    /// there is none.
    pub(super) fn call(&mut self, now: Instant, due: &mut Vec<u32>) -> Option<Tick> {
        let over = self.ticks_until(now);
        if self.entries == 0 {
            self.now = self.now.max(over.saturating_add(1));
            return None;
        }
        while self.now <= over {
            let tick = self.now;
            self.now += 1;
            let tokens = &mut self.ticks[tick as usize % TICKS];
            if !tokens.is_empty() {
                self.entries -= tokens.len();
                // A tick that had many keeps no room for them.
                *due = std::mem::take(tokens);
                return Some(tick);
            }
        }
        None
    }

    /// When it has to be asked again.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.entries == 0 {
            return None;
        }
        let ticks = self.now..self.now.saturating_add(TICKS as Tick);
        let first = ticks.into_iter().find(|tick| !self.ticks[*tick as usize % TICKS].is_empty())?;
        Some(self.begin + TICK * first)
    }

    /// Whole ticks that are over at `now`.
    fn ticks_until(&self, now: Instant) -> Tick {
        let ticks = now.saturating_duration_since(self.begin).as_millis() / TICK.as_millis();
        // Two years; then the wheel stands still, and connections end as their events and peers have it.
        Tick::try_from(ticks).unwrap_or(NEVER - 1).min(NEVER - 1)
    }

    /// The first tick that is not before `at`.
    fn tick_after(&self, at: Instant) -> Tick {
        let ticks = self.ticks_until(at);
        let exact = self.begin + TICK * ticks >= at;
        if exact { ticks } else { ticks.saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    /// Everything that is called until `now`, in order.
    fn called(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let (mut all, mut due) = (Vec::new(), Vec::new());
        while wheel.call(now, &mut due).is_some() {
            all.append(&mut due);
        }
        all
    }

    #[test]
    fn calls_at_the_first_tick_that_is_not_early() {
        let begin = Instant::now();
        let mut wheel = Wheel::new(begin);
        assert_eq!((wheel.next(), wheel.enter(7, after(begin, 150), NEVER)), (None, 2));
        assert_eq!(wheel.next(), Some(after(begin, 256)));
        assert!(called(&mut wheel, after(begin, 255)).is_empty());
        assert_eq!(called(&mut wheel, after(begin, 256)), [7]);
        assert_eq!((called(&mut wheel, after(begin, 600)), wheel.next()), (vec![], None));
    }

    #[test]
    fn what_is_put_off_is_not_entered_again() {
        let begin = Instant::now();
        let mut wheel = Wheel::new(begin);
        let entered = wheel.enter(1, after(begin, 300), NEVER);
        assert_eq!(wheel.enter(1, after(begin, 20_000), entered), entered);
        assert!(wheel.enter(1, after(begin, 10), entered) < entered, "an earlier moment is");
        assert_eq!(called(&mut wheel, after(begin, 400)), [1, 1]);
    }

    #[test]
    fn the_far_future_is_looked_at_on_the_way() {
        let begin = Instant::now();
        let mut wheel = Wheel::new(begin);
        wheel.enter(1, after(begin, 3_600_000), NEVER);
        let next = wheel.next().unwrap();
        assert!(next < after(begin, 33_000), "{:?}", next - begin);
        assert_eq!(called(&mut wheel, next), [1]);
    }

    #[test]
    fn what_is_due_already_is_called_at_once() {
        let begin = Instant::now();
        let mut wheel = Wheel::new(begin);
        called(&mut wheel, after(begin, 10_000));
        wheel.enter(1, after(begin, 5), NEVER);
        assert_eq!(called(&mut wheel, after(begin, 10_128)), [1]);
    }

    proptest! {
        /// Whatever is entered when, it is called no earlier than its moment and no more than two ticks later.
        #[test]
        fn nobody_is_early_or_forgotten(moments in prop::collection::vec((0_u64..30_000, 0_u64..3_000), 1..60)) {
            let begin = Instant::now();
            let mut wheel = Wheel::new(begin);
            let mut wanted = Vec::new();
            let mut now = 0;
            for (token, (ahead, pause)) in moments.iter().enumerate() {
                wheel.enter(token as u32, after(begin, now + ahead), NEVER);
                wanted.push((token as u32, now + ahead));
                for step in now..=now + pause {
                    for token in called(&mut wheel, after(begin, step)) {
                        let index = wanted.iter().position(|(known, _)| *known == token).unwrap();
                        let (_, at) = wanted.remove(index);
                        prop_assert!((at..=at + 256).contains(&step), "due at {at}, called at {step}");
                    }
                }
                now += pause + 1;
            }
            let rest = called(&mut wheel, after(begin, now + 31_000));
            prop_assert_eq!(rest.len(), wanted.len());
        }
    }
}
