//! How many event streams a node opens in time, and when those come back for whom there was no room.
//!
//! Who is turned away is told a moment of its own: each a little later than the one before it, as far apart as streams may be
//! opened. So a crowd that comes at once comes back spread, however large it is, and not all at once again.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// Seconds' worth of streams that may be opened at once.
const BURST: u32 = 2;
/// Latest that anybody is asked to come back: more than `retry:` may say anyway.
const LATEST: Duration = Duration::from_secs(3_600);

/// The rate, and the line of those who wait.
pub struct Connects {
    limiter: DefaultDirectRateLimiter,
    between: Duration,
    /// The longest line.
    most: Duration,
    begun: Instant,
    /// Where the line ends, in nanoseconds since `begun`. Raised by each who joins it; in the past where nobody waits.
    line_end: AtomicU64,
}

impl Connects {
    /// `rate` a second, and twice that at once. The line is no longer than it takes to open `places` connections: nobody else
    /// could be let in anyway, and whoever comes again and again without waiting cannot make it longer for others.
    #[must_use]
    pub fn new(rate: NonZeroU32, places: usize) -> Self {
        let quota = Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST - 1)));
        let between = Duration::from_secs(1) / rate.get();
        let most = between.saturating_mul(u32::try_from(places).unwrap_or(u32::MAX)).min(LATEST);
        Self { limiter: RateLimiter::direct(quota), between, most, begun: Instant::now(), line_end: AtomicU64::new(0) }
    }

    /// Whether one more may be opened now.
    pub fn may_open(&self) -> bool {
        self.limiter.check().is_ok()
    }

    /// Joins the line at `now`: how long it is.
    pub fn join(&self, now: Instant) -> Duration {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.begun));
        let (between, latest) = (nanos(self.between), now.saturating_add(nanos(self.most)));
        let next = |end: u64| end.max(now).saturating_add(between).min(latest);
        let joined = self.line_end.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |end| Some(next(end)));
        // It never refuses.
        let end = next(joined.unwrap_or_else(|end| end));
        Duration::from_nanos(end - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connects(rate: u32, places: usize) -> Connects {
        Connects::new(NonZeroU32::new(rate).unwrap(), places)
    }

    #[test]
    fn twice_the_rate_may_come_at_once_and_no_more() {
        // So slow that none is added while the test runs.
        let connects = connects(1, 100);
        assert_eq!((0..10).filter(|_| connects.may_open()).count(), 2);
    }

    #[test]
    fn a_crowd_is_spread_by_the_rate() {
        let (connects, now) = (connects(5_000, 1_000_000), Instant::now());
        let times: Vec<_> = (0..100_000).map(|_| connects.join(now)).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_micros(200)));
        assert_eq!(*times.last().unwrap(), Duration::from_secs(20));
    }

    #[test]
    fn the_line_moves_on() {
        let (connects, now) = (connects(100, 1_000), Instant::now());
        for _ in 0..50 {
            let _ = connects.join(now);
        }
        assert_eq!(connects.join(now + Duration::from_millis(400)), Duration::from_millis(110));
        assert_eq!(connects.join(now + Duration::from_secs(60)), Duration::from_millis(10), "nobody waits any more");
    }

    #[test]
    fn it_has_an_end() {
        let (few, many, now) = (connects(10, 20), connects(1, 10_000_000), Instant::now());
        assert_eq!((0..1_000).map(|_| few.join(now)).max(), Some(Duration::from_secs(2)));
        assert_eq!((0..10_000).map(|_| many.join(now)).max(), Some(Duration::from_secs(3_600)));
    }
}
