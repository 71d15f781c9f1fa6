//! How the hub reaches an event loop that drives many connections: which channels have something new, which connections are
//! to look, that all of them are to end.
//!
//! A publish costs one entry for each loop on which the channel has anybody, whatever their number: the loop goes through
//! them by itself, in pieces ([`Round`]), and no lock is held from one piece to the next.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

use super::channel::LocalChannel;

/// One for each loop.
#[derive(Debug)]
pub struct Inbox {
    /// Filled by whoever has something new; emptied by the loop. A channel is in it once (twice where
    /// the last connection left it and another came meanwhile), and a connection once.
    calls: Mutex<Calls>,
    /// The loop's.
    waker: Waker,
    /// Set once by [`close`](Self::close), for all connections of the loop.
    closing: OnceLock<Instant>,
}

/// What has come for a loop.
#[derive(Debug, Default)]
pub struct Calls {
    /// Channels whose connections here are to look.
    pub rounds: Vec<Round>,
    /// Connections that are to look. Some may be gone, and their tokens somebody else's: looking does no harm.
    pub tokens: Vec<u32>,
}

/// A way through the connections that one channel has on one loop.
#[derive(Debug)]
pub struct Round {
    local: Arc<LocalChannel>,
    /// Key of the connection that is next.
    next: usize,
}

impl Inbox {
    /// Of the loop that `waker` wakes.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self { calls: Mutex::default(), waker, closing: OnceLock::new() }
    }

    /// Moves what has come into `calls`, which is empty.
    pub fn take(&self, calls: &mut Calls) {
        std::mem::swap(&mut *self.lock(), calls);
    }

    /// Whether more than `most` channels wait.
    #[must_use]
    pub fn is_crowded(&self, most: usize) -> bool {
        self.lock().rounds.len() > most
    }

    /// Tells all connections of the loop to end, each at a moment of its own choice until `until`.
    pub fn close(&self, until: Instant) {
        // The first word stands.
        if self.closing.set(until).is_ok() {
            self.waker.wake_by_ref();
        }
    }

    /// Until when its connections have to have ended, if they were told to.
    #[must_use]
    pub fn closing(&self) -> Option<Instant> {
        self.closing.get().copied()
    }

    /// Has the connection `token` look. It is not in `calls` yet.
    pub(super) fn call(&self, token: u32) {
        self.lock().tokens.push(token);
        self.waker.wake_by_ref();
    }

    /// Has all connections on `local` look. It is not in `calls` yet.
    pub(super) fn call_all(&self, local: &Arc<LocalChannel>) {
        self.lock().rounds.push(Round { local: local.clone(), next: 0 });
        self.waker.wake_by_ref();
    }

    /// Nothing under this lock panics half-way.
    fn lock(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Round {
    /// Whether it goes through the same connections as `other`.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.local, &other.local)
    }

    /// Appends up to `limit` connections of the loop of `inbox` to `tokens`. Returns whether there may be more.
    pub fn next(&mut self, inbox: &Arc<Inbox>, tokens: &mut Vec<u32>, limit: usize) -> bool {
        let begins = self.next == 0;
        match self.local.lock().listeners.on_loop(inbox, begins, self.next, limit, tokens) {
            Some(next) => {
                self.next = next;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
