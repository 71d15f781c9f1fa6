//! When a connection ends by itself: at a random moment of the node's drain window, or of the last fifth of its lifetime, so
//! that clients do not come back all at once.

use std::time::Duration;

use tokio::time::Instant;

use super::close::CloseReason;

/// How long after its moment a connection may still write what is pending: one that is always behind would never end.
const LATE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Leave {
    /// It has to end then: when its lifetime is over, or at its moment of the drain where that is earlier.
    at: Option<Instant>,
    /// Which of the two.
    reason: CloseReason,
    /// The moment of the drain was chosen: the node is stopping.
    drains: bool,
}

impl Leave {
    pub(super) fn new(now: Instant, max_lifetime: Option<Duration>, rng: &mut fastrand::Rng) -> Self {
        let lifetime = max_lifetime.map(|most| most.mul_f64(0.8 + 0.2 * rng.f64()));
        let at = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        Self { at, reason: CloseReason::Lifetime, drains: false }
    }

    /// Why it has to end at `now`, if it has to. `closing`: the node is, until then.
    pub(super) fn is_due(
        &mut self,
        now: Instant,
        closing: Option<Instant>,
        rng: &mut fastrand::Rng,
    ) -> Option<CloseReason> {
        if let Some(until) = closing
            && !std::mem::replace(&mut self.drains, true)
        {
            let moment = now + until.saturating_duration_since(now).mul_f64(rng.f64());
            if self.at.is_none_or(|at| moment < at) {
                (self.at, self.reason) = (Some(moment), CloseReason::Drain);
            }
        }
        self.at.is_some_and(|at| now >= at).then_some(self.reason)
    }

    /// Whether it should have ended a while ago.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| now.saturating_duration_since(due) >= LATE)
    }

    /// When it has to be asked again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spread_over_the_window() {
        let now = Instant::now();
        let until = now + Duration::from_secs(20);
        let mut moments = Vec::new();
        for seed in 0..1_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut leave = Leave::new(now, None, &mut rng);
            assert_eq!(leave.is_due(now, None, &mut rng), None);
            assert_eq!(leave.due(), None);
            if leave.is_due(now, Some(until), &mut rng).is_none() {
                let moment = leave.due().unwrap();
                assert_eq!(leave.is_due(moment - Duration::from_millis(1), Some(until), &mut rng), None);
                assert_eq!(leave.is_due(moment, Some(until), &mut rng), Some(CloseReason::Drain));
                moments.push(moment);
            }
        }
        for second in 0..20 {
            let within = |at: &&Instant| (**at - now).as_secs() == second;
            let count = moments.iter().filter(within).count();
            assert!((25..=85).contains(&count), "{count} of 1,000 in second {second}");
        }
    }

    #[test]
    fn without_a_window_at_once() {
        let (now, mut rng) = (Instant::now(), fastrand::Rng::with_seed(1));
        let mut leave = Leave::new(now, None, &mut rng);
        assert_eq!(leave.is_due(now, Some(now), &mut rng), Some(CloseReason::Drain));
    }

    #[test]
    fn lifetimes_are_80_to_100_percent() {
        let now = Instant::now();
        let ages: Vec<_> = (0..200)
            .map(|seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut leave = Leave::new(now, Some(Duration::from_secs(100)), &mut rng);
                let due = leave.due().unwrap();
                assert_eq!(leave.is_due(due - Duration::from_millis(1), None, &mut rng), None);
                assert_eq!(leave.is_due(due, None, &mut rng), Some(CloseReason::Lifetime));
                (due - now).as_secs()
            })
            .collect();
        assert!(ages.iter().all(|age| (80..=100).contains(age)));
        assert!(ages.iter().min().unwrap() < &84 && ages.iter().max().unwrap() > &96);
    }
}
