//! How the hub reaches a connection: wake it, or tell it to close. Nothing is handed over; the connection comes and reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::inbox::Inbox;

/// One for each connection, shared by its subscriptions.
#[derive(Debug, Default)]
pub struct Wakeup(Kind);

#[derive(Debug)]
enum Kind {
    /// A connection that a task of its own drives. On the heap by itself: the other kind is small, and there are many of it.
    Task(Box<Task>),
    /// One of many on an event loop, which is told of a channel once, however many of its connections are on it.
    Loop {
        inbox: Arc<Inbox>,
        token: u32,
        /// The token is in the inbox. Set by whoever puts it there; unset by the loop before the connection looks.
        called: AtomicBool,
    },
}

#[derive(Debug, Default)]
struct Task {
    /// Written by the lane before the connection looks for bytes; taken by the hub after it put some there.
    waker: AtomicWaker,
    /// Set once by [`Wakeup::close`]; read by the connection whenever it runs.
    closing: OnceLock<Instant>,
}

impl Default for Kind {
    fn default() -> Self {
        Self::Task(Box::default())
    }
}

impl Wakeup {
    /// Of the connection that the loop of `inbox` knows by `token`.
    #[must_use]
    pub fn on_loop(inbox: Arc<Inbox>, token: u32) -> Self {
        Self(Kind::Loop { inbox, token, called: AtomicBool::new(false) })
    }

    /// Whom to wake from now on. Call it before looking, or a wake in between is lost. On a loop it says that the connection
    /// looks: the loop is woken in any case.
    pub fn register(&self, waker: &Waker) {
        match &self.0 {
            Kind::Task(task) => task.waker.register(waker),
            Kind::Loop { .. } => self.looks(),
        }
    }

    /// The connection is about to look, without a waker: it is one on a loop.
    pub fn looks(&self) {
        if let Kind::Loop { called, .. } = &self.0 {
            called.store(false, Ordering::Release);
        }
    }

    /// Wakes the connection. One that is running right now runs again.
    pub fn call(&self) {
        match &self.0 {
            Kind::Task(task) => task.waker.wake(),
            Kind::Loop { inbox, token, called } => {
                if !called.swap(true, Ordering::AcqRel) {
                    inbox.call(*token);
                }
            }
        }
    }

    /// Tells the connection to end, for good, at a moment of its own choice until `until`. On a loop that goes for all.
    pub fn close(&self, until: Instant) {
        match &self.0 {
            Kind::Task(task) => {
                // The first word stands.
                let _ = task.closing.set(until);
                task.waker.wake();
            }
            Kind::Loop { inbox, .. } => inbox.close(until),
        }
    }

    /// Until when it has to have ended, if it was told to.
    #[must_use]
    pub fn closing(&self) -> Option<Instant> {
        match &self.0 {
            Kind::Task(task) => task.closing.get().copied(),
            Kind::Loop { inbox, .. } => inbox.closing(),
        }
    }

    /// Where its loop is, and what it is called there.
    pub(super) fn on(&self) -> Option<(&Arc<Inbox>, u32)> {
        match &self.0 {
            Kind::Task(_) => None,
            Kind::Loop { inbox, token, .. } => Some((inbox, *token)),
        }
    }
}

/// So that what has to be awaited before a connection opens wakes it by the same way.
impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.call();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
    }
}
