//! How long to wait before the next try: a random part of a bound that doubles (full jitter), so that nodes which lost
//! Redis together do not come back together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Tries since the last sign of health.
    tries: u32,
}

impl Backoff {
    /// Something worked: begin again from the shortest.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.tries.min(16)).min(MOST);
        self.tries = self.tries.saturating_add(1);
        bound.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_most_and_begin_again() {
        let longest = |backoff: &mut Backoff, tries: u32| {
            (0..200).map(|_| Backoff { tries: backoff.tries + tries }.next()).max().unwrap()
        };
        let mut backoff = Backoff::default();
        for (tries, bound) in [(0, FIRST), (1, FIRST * 2), (3, FIRST * 8), (6, MOST), (40, MOST)] {
            let longest = longest(&mut backoff, tries);
            assert!(longest <= bound && longest > bound / 2, "{tries}: {longest:?} of {bound:?}");
        }
        backoff.next();
        backoff.next();
        assert_eq!(backoff.tries, 2);
        backoff.reset();
        assert_eq!(backoff.tries, 0);
    }
}
