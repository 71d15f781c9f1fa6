//! One channel on this node: its log, and the connections on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use shared::channel::Channel;
use slab::Slab;
use tokio::time::Instant;

use super::encoded::Encoded;
use super::log::{Log, LogLimits};
use super::wakeup::Wakeup;
use crate::broker::{Partition, Snapshot};

/// One life of a channel here, from its first subscription until a linger after the last. A later life is another value.
#[derive(Debug)]
pub(super) struct LocalChannel {
    pub(super) channel: Channel,
    pub(super) partition: Partition,
    /// Tells this life from others of the same channel.
    pub(super) generation: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Written by the broker's messages; read by connections.
    pub(super) log: Log,
    /// What the broker read when the channel became live; `None` until then.
    pub(super) live: Option<Snapshot>,
    /// The connections on it. An entry is made by `Hub::attach` and ends with its `Subscription`.
    pub(super) subscribers: Slab<Arc<Wakeup>>,
    /// When the channel may go, if nobody comes; `None` while somebody is here. Written under the hub's table lock.
    pub(super) lingers_until: Option<Instant>,
}

impl LocalChannel {
    pub(super) fn new(channel: Channel, partition: Partition, generation: u64) -> Self {
        Self { channel, partition, generation, state: Mutex::default() }
    }

    /// Nothing under this lock panics half-way, so a poisoned state is still a whole one.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `event`, lets the watermark `rise` over it, and returns whom to wake.
    ///
    /// All under the one lock. Were the watermark to rise after it, somebody could look in between, find the event not yet
    /// readable, and be in nobody's list; or attach behind an event that its beginning does not cover.
    pub(super) fn push(&self, event: Arc<Encoded>, limits: &LogLimits, rise: impl FnOnce()) -> Vec<Waker> {
        let mut state = self.lock();
        state.log.push(event, limits);
        rise();
        state.wakers()
    }

    /// Notes that the channel is live. Returns whom to wake.
    pub(super) fn set_live(&self, snapshot: Snapshot) -> Vec<Waker> {
        let mut state = self.lock();
        state.live = Some(snapshot);
        state.wakers()
    }
}

impl State {
    /// Wakers are collected under the lock and called after it: a waker may run or drop a connection, which comes back here.
    fn wakers(&self) -> Vec<Waker> {
        self.subscribers.iter().filter_map(|(_, wakeup)| wakeup.take()).collect()
    }
}
