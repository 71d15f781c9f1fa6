//! Who waits for the cancellation of which channel, in this process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::channel::Channel;
use tokio_util::sync::CancellationToken;

/// The channels somebody waits for. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Waiters {
    /// A channel is here while it has a [`Waiter`]. Written by [`wait`](Self::wait) and by the last waiter's end.
    waiting: Arc<Mutex<HashMap<Channel, Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    /// Waiters of this channel, at least 1.
    count: usize,
    /// Cancelled by [`wake`](Waiters::wake), once and for all: who comes later while others are still here finds it so.
    cancelled: CancellationToken,
}

/// One who waits; the channel is forgotten with its last one.
#[derive(Debug)]
pub struct Waiter {
    waiters: Waiters,
    channel: Channel,
    cancelled: CancellationToken,
}

impl Waiters {
    /// Waits for `channel` from now on. `true`: it is the first to, so whoever listens has to begin.
    #[must_use]
    pub fn wait(&self, channel: &Channel) -> (Waiter, bool) {
        let mut waiting = self.lock();
        let (cancelled, first) = match waiting.entry(channel.clone()) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().count += 1;
                (entry.get().cancelled.clone(), false)
            }
            Entry::Vacant(entry) => {
                let cancelled = CancellationToken::new();
                entry.insert(Waiting { count: 1, cancelled: cancelled.clone() });
                (cancelled, true)
            }
        };
        (Waiter { waiters: self.clone(), channel: channel.clone(), cancelled }, first)
    }

    /// Wakes all who wait for `channel`. Whether there was anybody.
    pub fn wake(&self, channel: &Channel) -> bool {
        let waiting = self.lock();
        let found = waiting.get(channel);
        found.inspect(|waiting| waiting.cancelled.cancel()).is_some()
    }

    /// Channels whose waiters were not woken yet, in no order.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let waiting = self.lock();
        let open = waiting.iter().filter(|(_, waiting)| !waiting.cancelled.is_cancelled());
        open.map(|(channel, _)| channel.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Waiting>> {
        // Nothing under this lock panics half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Done when the channel is cancelled.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        let Some(entry) = waiting.get_mut(&self.channel) else { return };
        entry.count -= 1;
        if entry.count == 0 {
            waiting.remove(&self.channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn all_who_wait_are_woken_and_nobody_is_left() {
        let (waiters, a) = (Waiters::default(), Channel::parse("a").unwrap());
        assert!(!waiters.wake(&a), "nobody waits");
        let (one, first) = waiters.wait(&a);
        let (two, second) = waiters.wait(&a);
        assert!(first && !second);
        assert_eq!(waiters.channels(), [a.clone()]);
        assert!(one.cancelled().now_or_never().is_none());
        assert!(waiters.wake(&a));
        assert!(one.cancelled().now_or_never().is_some() && two.cancelled().now_or_never().is_some());
        assert!(waiters.channels().is_empty());
        let (three, first) = waiters.wait(&a);
        assert!(!first && three.cancelled().now_or_never().is_some(), "while others have not gone it stays so");
        drop((one, two, three));
        let (_four, first) = waiters.wait(&a);
        assert!(first, "a new beginning");
    }
}
