//! Cancellations on the embedded broker: a mark for an hour, and whoever waits is woken.
//!
//! They have a lock of their own, not that of the histories: nothing here has a place in any order of events.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use publisher::{CANCEL_TTL, Cancel, PublishError, Waiters};
use shared::channel::Channel;

use super::{FULL_RETRY_AFTER, MemoryBroker, SWEEP_BATCH, TimeOfDay};

/// Cheap to clone; clones are the same. Those who wait hold one.
#[derive(Clone)]
pub(super) struct Cancels {
    marks: Arc<Mutex<Marks>>,
    waiters: Waiters,
    now: TimeOfDay,
    /// Marks at most.
    max: usize,
}

/// Times are Unix milliseconds.
#[derive(Default)]
struct Marks {
    /// When each expires. A mark ends when it is forgotten after that.
    expires: HashMap<Channel, u64>,
    /// The same by time: exactly one item a mark.
    due: BTreeSet<(u64, Channel)>,
}

impl Cancels {
    pub(super) fn new(now: TimeOfDay, max: usize) -> Self {
        Self { marks: Arc::default(), waiters: Waiters::default(), now, max }
    }

    /// Refused where another mark would be one too many: to forget the oldest within its hour would break a promise, and
    /// nobody would know.
    fn cancel(&self, channel: &Channel) -> Result<u64, PublishError> {
        let now = (self.now)();
        let mut marks = self.lock();
        marks.forget(now);
        if marks.expires.len() >= self.max && !marks.expires.contains_key(channel) {
            let reason = format!("the embedded broker holds {} cancellations, its limit", self.max);
            return Err(PublishError::Unavailable { reason, retry_after: FULL_RETRY_AFTER });
        }
        marks.add(channel, now);
        // Under the lock: who looks for a mark waits already.
        Ok(u64::from(self.waiters.wake(channel)))
    }

    async fn cancelled(self, channel: Channel) {
        let (waiter, _) = self.waiters.wait(&channel);
        let marked = self.lock().holds(&channel, (self.now)());
        if !marked {
            waiter.cancelled().await;
        }
    }

    /// Forgets some of those that expired by `now`.
    pub(super) fn sweep(&self, now: u64) {
        self.lock().forget(now);
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Nothing under this lock panics half-way.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// Marks `channel` for an hour from now on.
    fn add(&mut self, channel: &Channel, now: u64) {
        let expires = now.saturating_add(u64::try_from(CANCEL_TTL.as_millis()).unwrap_or(u64::MAX));
        if let Some(before) = self.expires.insert(channel.clone(), expires) {
            self.due.remove(&(before, channel.clone()));
        }
        self.due.insert((expires, channel.clone()));
    }

    fn holds(&self, channel: &Channel, now: u64) -> bool {
        self.expires.get(channel).is_some_and(|expires| *expires > now)
    }

    fn forget(&mut self, now: u64) {
        for _ in 0..SWEEP_BATCH {
            if self.due.first().is_none_or(|(expires, _)| *expires > now) {
                return;
            }
            if let Some((_, channel)) = self.due.pop_first() {
                self.expires.remove(&channel);
            }
        }
    }
}

impl Cancel for MemoryBroker {
    fn cancel<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<u64, PublishError>> {
        async move { self.cancels.cancel(channel) }.boxed()
    }

    fn cancelled(&self, channel: &Channel) -> BoxFuture<'static, ()> {
        self.cancels.clone().cancelled(channel.clone()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn world(max: usize) -> (Cancels, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let clock = time.clone();
        (Cancels::new(Arc::new(move || clock.load(Ordering::Relaxed)), max), time)
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn is_cancelled(cancels: &Cancels, name: &str) -> bool {
        cancels.clone().cancelled(channel(name)).now_or_never().is_some()
    }

    fn held(cancels: &Cancels) -> usize {
        let marks = cancels.lock();
        assert_eq!(marks.due.len(), marks.expires.len());
        marks.expires.len()
    }

    #[test]
    fn remembered_for_an_hour_from_the_last_time() {
        let (cancels, time) = world(9);
        assert_eq!(cancels.cancel(&channel("a")), Ok(0));
        assert!(!is_cancelled(&cancels, "b"));
        time.fetch_add(HOUR_MS - 1, Ordering::Relaxed);
        assert!(is_cancelled(&cancels, "a"));
        assert_eq!(cancels.cancel(&channel("a")), Ok(0));
        time.fetch_add(HOUR_MS - 1, Ordering::Relaxed);
        cancels.sweep(time.load(Ordering::Relaxed));
        assert!(is_cancelled(&cancels, "a"));
        time.fetch_add(1, Ordering::Relaxed);
        assert!(!is_cancelled(&cancels, "a"), "also where nobody has swept");
        assert_eq!(held(&cancels), 1);
        cancels.sweep(time.load(Ordering::Relaxed));
        assert_eq!(held(&cancels), 0);
    }

    #[test]
    fn one_too_many_is_refused_until_one_expires() {
        let (cancels, time) = world(2);
        let cancel = |name: &str| cancels.cancel(&channel(name));
        cancel("a").unwrap();
        time.fetch_add(1, Ordering::Relaxed);
        cancel("b").unwrap();
        let Err(PublishError::Unavailable { reason, retry_after }) = cancel("c") else { panic!("there was room") };
        assert_eq!(reason, "the embedded broker holds 2 cancellations, its limit");
        assert_eq!(retry_after, FULL_RETRY_AFTER);
        assert_eq!(cancel("b"), Ok(0), "one that is there");
        time.fetch_add(HOUR_MS - 1, Ordering::Relaxed);
        assert_eq!(cancel("c"), Ok(0));
        assert_eq!(held(&cancels), 2);
    }

    #[test]
    fn nothing_is_left_of_those_who_waited() {
        let (cancels, _) = world(9);
        assert!(!is_cancelled(&cancels, "a"));
        assert_eq!(cancels.cancel(&channel("a")), Ok(0));
        assert!(is_cancelled(&cancels, "a"));
        assert_eq!(cancels.waiters.channels(), []);
    }

    #[test]
    fn a_clock_that_steps_back_keeps_one_mark_a_channel() {
        let (cancels, time) = world(9);
        cancels.cancel(&channel("a")).unwrap();
        time.store(500, Ordering::Relaxed);
        cancels.cancel(&channel("b")).unwrap();
        cancels.cancel(&channel("a")).unwrap();
        time.store(500 + HOUR_MS, Ordering::Relaxed);
        cancels.sweep(500 + HOUR_MS);
        assert_eq!(held(&cancels), 0);
    }
}
