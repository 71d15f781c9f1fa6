//! One connection on one channel: a place in the channel's log, given back on drop.

use std::sync::Arc;
use std::task::Poll;

use shared::position::Position;

use super::channel::LocalChannel;
use super::encoded::Encoded;
use super::wakeup::Wakeup;
use super::{Closed, Hub};
use crate::broker::{Partition, Snapshot};

/// Made by [`Hub::attach`]; dropping it detaches.
pub struct Subscription {
    hub: Arc<Hub>,
    local: Arc<LocalChannel>,
    /// Key in the channel's subscribers.
    key: usize,
    /// Index in the log of the next event to take.
    next: u64,
}

/// Events that this subscription has not taken have left the log: the connection is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unread events have left the channel log")]
pub struct Lagged;

impl Subscription {
    pub(super) fn new(hub: Arc<Hub>, local: Arc<LocalChannel>, key: usize, next: u64) -> Self {
        Self { hub, local, key, next }
    }

    /// Its channel's partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.local.partition
    }

    /// What the broker read when the channel became live; `None` until it is.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.local.lock().live.clone()
    }

    /// Appends to `events` at most `limit` that are not taken yet and may be written, in order: durable ones up to
    /// `watermark`, and what stands before. Returns whether there are more.
    ///
    /// # Errors
    /// [`Lagged`].
    pub fn peek(&self, watermark: Position, limit: usize, events: &mut Vec<Arc<Encoded>>) -> Result<bool, Lagged> {
        let state = self.local.lock();
        let unread = state.log.from(self.next).ok_or(Lagged)?;
        let mut ready = unread.take_while(|event| event.order().position <= watermark);
        events.extend(ready.by_ref().take(limit).cloned());
        Ok(ready.next().is_some())
    }

    /// Takes the next `count` events, which [`peek`](Self::peek) has shown.
    pub fn advance(&mut self, count: u64) {
        self.next += count;
    }
}

/// Waits until all of `subscriptions` are live. It has no deadline of its own.
///
/// # Errors
/// [`Closed`]: the node stopped first.
pub async fn all_live(subscriptions: &[Subscription], wakeup: &Wakeup) -> Result<(), Closed> {
    std::future::poll_fn(|cx| {
        wakeup.register(cx.waker());
        if wakeup.is_closing() {
            return Poll::Ready(Err(Closed));
        }
        let live = subscriptions.iter().all(|subscription| subscription.local.lock().live.is_some());
        if live { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.detach(&self.local, self.key);
    }
}
