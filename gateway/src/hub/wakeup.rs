//! How the hub reaches a connection: wake it, or tell it to close. Nothing is handed over; the connection comes and reads.

use std::sync::OnceLock;
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// One for each connection, shared by its subscriptions.
#[derive(Debug, Default)]
pub struct Wakeup {
    /// Written by the lane before the connection looks for bytes; taken by the hub after it put some there.
    waker: AtomicWaker,
    /// Set once by [`close`](Self::close); read by the connection whenever it runs.
    closing: OnceLock<Instant>,
}

impl Wakeup {
    /// Whom to wake from now on. Call it before looking, or a wake in between is lost.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The connection's waker, for a caller that holds a lock and wakes after letting go of it. A connection that is running
    /// right now wakes itself again.
    #[must_use]
    pub fn take(&self) -> Option<Waker> {
        self.waker.take()
    }

    /// Tells the connection to end, for good, at a moment of its own choice until `until`.
    pub fn close(&self, until: Instant) {
        // The first word stands.
        let _ = self.closing.set(until);
        self.waker.wake();
    }

    /// Until when it has to have ended, if it was told to.
    #[must_use]
    pub fn closing(&self) -> Option<Instant> {
        self.closing.get().copied()
    }
}
