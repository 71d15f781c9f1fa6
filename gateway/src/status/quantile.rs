//! A quantile out of a histogram's buckets, of what was counted between two readings.

/// Buckets of a histogram: upper bounds, which rise to infinity, and how many values were at most that, each including those before.
pub(super) type Buckets = Vec<(f64, u64)>;

/// The value that a share `q` (0 to 1) of what came between `before` and `after` stays below; within its bucket as if values lay evenly, as
/// Prometheus has it. Beyond the last bound it is that bound. `None` where nothing came.
pub(super) fn quantile(q: f64, before: &[(f64, u64)], after: &[(f64, u64)]) -> Option<f64> {
    // A histogram that is not there yet has counted nothing.
    let earlier = |bound: f64| before.iter().find(|(known, _)| *known == bound).map_or(0, |(_, count)| *count);
    let counts: Vec<(f64, u64)> =
        after.iter().map(|(bound, count)| (*bound, count.saturating_sub(earlier(*bound)))).collect();
    let total = counts.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let rank = q.clamp(0.0, 1.0) * to_f64(total);
    let at = counts.iter().position(|(_, count)| to_f64(*count) >= rank)?;
    let (low, below) = at.checked_sub(1).map_or((0.0, 0), |before| counts[before]);
    let (high, upto) = counts[at];
    if high.is_infinite() {
        return Some(low);
    }
    let within = upto.saturating_sub(below);
    let share = if within == 0 { 1.0 } else { (rank - to_f64(below)) / to_f64(within) };
    Some(low + (high - low) * share)
}

/// Exact up to 2^53, far beyond any count here.
#[allow(clippy::cast_precision_loss)]
pub(super) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: f64 = f64::INFINITY;

    fn of(q: f64, counts: &[(f64, u64)]) -> Option<f64> {
        quantile(q, &[], counts)
    }

    #[test]
    fn within_a_bucket_values_lie_evenly() {
        let counts = [(1.0, 0), (2.0, 10), (4.0, 20), (END, 20)];
        assert_eq!(of(0.5, &counts), Some(2.0));
        assert_eq!(of(0.25, &counts), Some(1.5));
        assert_eq!(of(0.75, &counts), Some(3.0));
        assert_eq!(of(1.0, &counts), Some(4.0));
    }

    #[test]
    fn the_first_bucket_begins_at_nothing_and_the_last_bound_is_the_most() {
        assert_eq!(of(0.5, &[(1.0, 4), (END, 4)]), Some(0.5));
        assert_eq!(of(0.99, &[(1.0, 0), (2.0, 1), (END, 100)]), Some(2.0));
        assert_eq!(of(0.5, &[(END, 3)]), Some(0.0));
    }

    #[test]
    fn only_what_came_in_between() {
        let before = [(1.0, 1_000), (2.0, 1_000), (END, 1_000)];
        let after = [(1.0, 1_000), (2.0, 1_010), (END, 1_010)];
        assert_eq!(quantile(0.5, &before, &after), Some(1.5));
        assert_eq!(quantile(0.5, &after, &after), None, "nothing came");
        assert_eq!(quantile(0.5, &after, &before), None, "what goes backwards is nothing");
        assert_eq!(quantile(0.5, &[], &[]), None);
    }
}
