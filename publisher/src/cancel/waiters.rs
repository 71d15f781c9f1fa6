//! Who waits for the cancellation of which channel, in this process.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::channel::Channel;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The channels somebody waits for. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Waiters {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Told when `State::fresh` grows.
    came: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// A channel is here while it has a [`Waiter`]. Written by [`Waiters::wait`] and by the last waiter's end.
    waiting: HashMap<Channel, Waiting>,
    /// Of these, the ones that whoever listens does not know of yet. Written by the same, taken by [`Waiters::fresh`].
    fresh: HashSet<Channel>,
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
        let mut state = self.lock();
        let (cancelled, first) = match state.waiting.entry(channel.clone()) {
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
        if first {
            state.fresh.insert(channel.clone());
            self.inner.came.notify_waiters();
        }
        (Waiter { waiters: self.clone(), channel: channel.clone(), cancelled }, first)
    }

    /// Wakes all who wait for `channel`. Whether there was anybody.
    pub fn wake(&self, channel: &Channel) -> bool {
        let state = self.lock();
        let found = state.waiting.get(channel);
        found.inspect(|waiting| waiting.cancelled.cancel()).is_some()
    }

    /// Channels whose waiters were not woken yet, in no order.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        self.lock().open().cloned().collect()
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Whether somebody waits for `channel`.
    pub(crate) fn has(&self, channel: &Channel) -> bool {
        self.lock().waiting.contains_key(channel)
    }

    /// Waits for channels that somebody has begun to wait for since they were taken the last time, and takes up to `most`
    /// (from 1 on) of them. For a single listener.
    pub(crate) async fn fresh(&self, most: usize) -> Vec<Channel> {
        loop {
            let came = self.inner.came.notified();
            let taken = self.lock().take_fresh(most);
            if !taken.is_empty() {
                return taken;
            }
            came.await;
        }
    }

    /// All that were not woken yet are to be taken again: the listener begins anew.
    pub(crate) fn renew(&self) {
        let mut state = self.lock();
        state.fresh = state.open().cloned().collect();
        self.inner.came.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&self) -> impl Iterator<Item = &Channel> {
        self.waiting.iter().filter(|(_, waiting)| !waiting.cancelled.is_cancelled()).map(|(channel, _)| channel)
    }

    fn take_fresh(&mut self, most: usize) -> Vec<Channel> {
        let taken: Vec<Channel> = self.fresh.iter().take(most).cloned().collect();
        taken.iter().for_each(|channel| _ = self.fresh.remove(channel));
        taken
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
        let mut state = self.waiters.lock();
        let Some(entry) = state.waiting.get_mut(&self.channel) else { return };
        entry.count -= 1;
        if entry.count == 0 {
            state.waiting.remove(&self.channel);
            state.fresh.remove(&self.channel);
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
        assert_eq!(waiters.channels(), std::slice::from_ref(&a));
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

    #[test]
    fn a_listener_is_told_of_each_channel_once_and_of_none_that_went() {
        let (waiters, [a, b]) = (Waiters::default(), ["a", "b"].map(|name| Channel::parse(name).unwrap()));
        let taken = |most| waiters.fresh(most).now_or_never().unwrap_or_default();
        let (one, _) = waiters.wait(&a);
        let (_two, _) = waiters.wait(&a);
        let (three, _) = waiters.wait(&b);
        drop(three);
        assert_eq!(taken(9), std::slice::from_ref(&a));
        assert_eq!(taken(9), []);
        assert!(!waiters.has(&b) && !waiters.is_empty());
        let (_three, _) = waiters.wait(&b);
        assert_eq!(taken(9), std::slice::from_ref(&b), "it came again");
        waiters.renew();
        assert_eq!((taken(1).len(), taken(9).len(), taken(9).len()), (1, 1, 0), "both, a bounded number at a time");
        waiters.wake(&a);
        waiters.renew();
        assert_eq!(taken(9), [b], "nobody has to listen for who was woken");
        drop((one, _two, _three));
        assert!(waiters.is_empty() && waiters.lock().fresh.is_empty());
    }

    #[tokio::test]
    async fn whoever_comes_is_taken_at_once() {
        let (waiters, a) = (Waiters::default(), Channel::parse("a").unwrap());
        let (taken, _waiter) = tokio::join!(waiters.fresh(9), async { waiters.wait(&a).0 });
        assert_eq!(taken, [a]);
    }
}
