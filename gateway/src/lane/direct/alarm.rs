//! Wakes a loop from other threads: by the system only where it sleeps, since while it works it looks by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Wake;

/// The loop works; it looks for what has come before it sleeps.
const AWAKE: u8 = 0;
/// It sleeps, or is about to.
const ASLEEP: u8 = 1;
/// Something has come.
const RUNG: u8 = 2;

/// The waker of one loop.
#[derive(Debug)]
pub(super) struct Alarm {
    /// Set to rung by anybody, to the others by the loop.
    state: AtomicU8,
    waker: mio::Waker,
}

impl Alarm {
    pub(super) fn new(waker: mio::Waker) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(AWAKE), waker })
    }

    /// The loop is about to sleep. Returns whether it may: nothing has come since it was last awake.
    pub(super) fn falls_asleep(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The loop is awake, and about to look for what has come.
    pub(super) fn is_awake(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Something has come.
    pub(super) fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) != ASLEEP {
            return;
        }
        if let Err(error) = self.waker.wake() {
            // Its next timer wakes it.
            tracing::error!(%error, "cannot wake an event loop");
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
