//! How often each of many keys does something in time, in bounded memory.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Keys are counted in so many places, each key in one that is chosen at random: however many there are, no more is held than
/// some MiB, and those who share a place are few.
const PLACES: u64 = 1 << 17;
/// After so many requests, places of those who have been quiet are given back.
const TIDY: u32 = 1 << 14;

/// A rate that each key has.
pub struct KeyedRate {
    limiter: RateLimiter<u32, HashMapStateStore<u32>, DefaultClock>,
    hasher: RandomState,
    /// Requests since places were last given back.
    asked: AtomicU32,
}

/// Why a key may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Not before so long.
    For(Duration),
    /// So much at once is never allowed.
    Always,
}

impl KeyedRate {
    /// `rate` a second for each key, `burst` at once.
    #[must_use]
    pub fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let limiter = RateLimiter::hashmap(Quota::per_second(rate).allow_burst(burst));
        Self { limiter, hasher: RandomState::new(), asked: AtomicU32::new(0) }
    }

    /// Takes `count` of `key`'s: all or none.
    ///
    /// # Errors
    /// [`Over`].
    pub fn take(&self, key: &impl Hash, count: NonZeroU32) -> Result<(), Over> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % TIDY == TIDY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let place = u32::try_from(self.hasher.hash_one(key) % PLACES).unwrap_or_default();
        match self.limiter.check_key_n(&place, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => Err(Over::For(later.wait_time_from(self.limiter.clock().now()))),
            Err(_) => Err(Over::Always),
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// [`Over::For`].
    pub fn take_one(&self, key: &impl Hash) -> Result<(), Over> {
        self.take(key, NonZeroU32::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rate: u32, burst: u32) -> KeyedRate {
        KeyedRate::new(NonZeroU32::new(rate).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn each_key_has_its_own() {
        // So slow that none is added while the test runs.
        let rate = rate(1, 2);
        assert_eq!((0..10).filter(|_| rate.take_one(&"a").is_ok()).count(), 2);
        assert!(rate.take_one(&"b").is_ok());
        assert!(matches!(rate.take_one(&"a"), Err(Over::For(time)) if time <= Duration::from_secs(1)));
        assert_eq!(rate.take(&"c", NonZeroU32::new(3).unwrap()), Err(Over::Always));
    }

    /// Of this process, in KiB.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn a_flood_of_keys_fills_its_places_and_nothing_of_them_is_kept() {
        // None is quiet again while it lasts, so no place is given back.
        let rate = rate(1, 1_000_000);
        let (name, before) = ("x".repeat(1_024), resident());
        let mut most = before;
        for number in 0..600_000_u32 {
            let _ = rate.take(&format!("{number}{name}"), NonZeroU32::new(100).unwrap());
            if number % 100_000 == 0 {
                most = most.max(resident());
            }
        }
        most = most.max(resident());
        // 600 MiB of names. Other tests run meanwhile.
        assert!(most < before + (200 << 10), "{before} KiB became {most} KiB");
        let taken = rate.limiter.len() as u64;
        assert!((PLACES * 9 / 10..=PLACES).contains(&taken), "they share {taken} places");
    }

    #[test]
    fn places_of_the_quiet_are_given_back() {
        let rate = rate(1_000_000, 1);
        for number in 0..3 * TIDY {
            let _ = rate.take_one(&number);
        }
        assert!(rate.limiter.len() < 3 * TIDY as usize / 2, "{}", rate.limiter.len());
    }
}
