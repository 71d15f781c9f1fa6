//! Times from one moment to another, as a histogram of microseconds that is exact to three digits and adds up over processes.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that is told apart, in microseconds: an hour.
const MAX_US: u64 = 3_600_000_000;
/// Digits of a value that are kept.
const DIGITS: u8 = 3;

/// Recorded times.
#[derive(Clone)]
pub(crate) struct Times(Option<Histogram<u64>>);

/// Recorded times on their way from one process to another: rising values in microseconds, and how often each was met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counted(Vec<(u64, u64)>);

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Times({} recorded)", self.count())
    }
}

impl Times {
    /// None recorded.
    pub(crate) fn new() -> Self {
        // The bounds are constants that the library takes; if it ever refused them, nothing would be reported.
        Self(Histogram::new_with_bounds(1, MAX_US, DIGITS).ok())
    }

    /// Adds one time, in nanoseconds.
    #[inline]
    pub(crate) fn record_ns(&mut self, ns: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(ns / 1_000);
        }
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// In milliseconds, what a share of `quantile` (0 to 1) took at most; `None` when nothing was recorded.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(histogram.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// In milliseconds, the longest; `None` when nothing was recorded.
    pub(crate) fn max_ms(&self) -> Option<f64> {
        self.quantile_ms(1.0)
    }

    /// For another process.
    pub(crate) fn counted(&self) -> Counted {
        let recorded = self.0.iter().flat_map(Histogram::iter_recorded);
        Counted(recorded.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect())
    }

    /// Adds what another process recorded.
    pub(crate) fn add(&mut self, counted: &Counted) {
        let Some(histogram) = &mut self.0 else { return };
        for &(us, count) in &counted.0 {
            histogram.saturating_record_n(us, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_three_digits_and_add_up_over_processes() {
        let (mut a, mut b) = (Times::new(), Times::new());
        for us in 1..=100_000_u64 {
            let half = if us % 2 == 0 { &mut a } else { &mut b };
            half.record_ns(us * 1_000);
        }
        let mut sum = Times::new();
        sum.add(&a.counted());
        sum.add(&b.counted());
        assert_eq!(sum.count(), 100_000);
        for (quantile, ms) in [(0.5, 50.0), (0.99, 99.0), (0.999, 99.9), (1.0, 100.0)] {
            let seen = sum.quantile_ms(quantile).unwrap();
            assert!((seen - ms).abs() <= ms * 0.001 + 0.001, "{quantile}: {seen}");
        }
        assert_eq!(sum.counted(), { sum.clone() }.counted());
    }

    #[test]
    fn nothing_recorded_has_no_percentile_and_a_day_is_an_hour() {
        assert_eq!((Times::new().quantile_ms(0.5), Times::new().max_ms()), (None, None));
        let mut times = Times::new();
        times.record_ns(86_400_000_000_000);
        let max = times.max_ms().unwrap();
        assert!((3_590_000.0..3_610_000.0).contains(&max), "{max}");
    }
}
