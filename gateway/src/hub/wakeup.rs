//! How the hub reaches a connection: wake it, or tell it to close. Nothing is handed over; the connection comes and reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

/// One for each connection, shared by its subscriptions.
#[derive(Debug, Default)]
pub struct Wakeup {
    /// Written by the lane before the connection looks for bytes; taken by the hub after it put some there.
    waker: AtomicWaker,
    /// Set once by [`close`](Self::close); read by the connection whenever it runs.
    closing: AtomicBool,
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

    /// Tells the connection to end, for good.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it was told to end.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
