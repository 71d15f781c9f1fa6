//! Latencies counted in fixed buckets that every connection shares; it must not allocate or lock while counting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets an octave, as a power of two: 32, so a percentile reads at most 1/32 (3.2 %) too high.
const SUB_BITS: u32 = 5;
const SUB_BUCKETS: u64 = 1 << SUB_BITS;
/// The longest latency told apart: 2^40 ns, about 18 minutes. Longer ones share the last bucket.
const LIMIT_BITS: u32 = 40;
const BUCKETS: usize = ((LIMIT_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// A log-linear histogram: linear buckets of 1 ns below 32 ns, from there 32 equal buckets in each doubling.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    max_ns: AtomicU64,
}

impl Histogram {
    /// An empty one; about 9 KB.
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max_ns: AtomicU64::new(0) }
    }

    /// Counts one latency, in nanoseconds.
    pub(crate) fn record(&self, ns: u64) {
        let Some(bucket) = self.buckets.get(index(ns)) else { return };
        bucket.fetch_add(1, Ordering::Relaxed);
        self.max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// The longest latency recorded, exactly; `None` when empty.
    pub(crate) fn max(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.max_ns.load(Ordering::Relaxed)))
    }

    /// Number of latencies recorded.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The latency that a share `quantile` (0.0 to 1.0) of all stays at or below, rounded up to the end of its bucket and
    /// never above the maximum; `None` when empty.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let max = self.max()?;
        let rank = ((quantile.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= rank {
                return Some(Duration::from_nanos(highest(index)).min(max));
            }
        }
        Some(max)
    }
}

/// The bucket of a latency.
fn index(ns: u64) -> usize {
    let ns = ns.min((1 << LIMIT_BITS) - 1);
    if ns < SUB_BUCKETS {
        return ns as usize;
    }
    let octave = ns.ilog2() - SUB_BITS;
    // The leading one moves into the octave number: `ns >> octave` lies in 32..64.
    ((u64::from(octave) << SUB_BITS) + (ns >> octave)) as usize
}

/// The longest latency of a bucket, in nanoseconds.
fn highest(index: usize) -> u64 {
    let index = index as u64;
    if index < SUB_BUCKETS {
        return index;
    }
    let octave = (index >> SUB_BITS) - 1;
    let within = index - (octave << SUB_BITS);
    ((within + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        for bucket in 0..BUCKETS - 1 {
            let end = highest(bucket);
            assert_eq!(index(end), bucket);
            assert_eq!(index(end + 1), bucket + 1);
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
        assert_eq!(highest(BUCKETS - 1), (1 << LIMIT_BITS) - 1);
    }

    #[test]
    fn nothing_recorded_is_nothing_said() {
        let histogram = Histogram::new();
        assert_eq!((histogram.count(), histogram.quantile(0.5), histogram.max()), (0, None, None));
    }

    #[test]
    fn percentiles_are_within_a_bucket_of_the_exact_ones() {
        let histogram = Histogram::new();
        for micros in 1..=1_000_u64 {
            histogram.record(micros * 1_000);
        }
        for (quantile, exact_us) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let told = histogram.quantile(quantile).unwrap().as_secs_f64() * 1e6;
            assert!(told >= exact_us && told <= exact_us * (1.0 + 1.0 / 32.0), "{quantile}: {told} for {exact_us}");
        }
        assert_eq!(histogram.max(), Some(Duration::from_millis(1)));
    }

    #[test]
    fn one_straggler_in_a_hundred_shows_in_the_maximum_and_not_in_p99() {
        let histogram = Histogram::new();
        for _ in 0..99 {
            histogram.record(1_000_000);
        }
        histogram.record(5_000_000_000);
        assert!(histogram.quantile(0.99).unwrap() < Duration::from_millis(2));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_secs(5)));
        assert_eq!(histogram.count(), 100);
    }
}
