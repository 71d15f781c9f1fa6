//! The thread that hears Redis rests for a moment when one message comes soon after the other, and then takes all that came:
//! thousands of messages a second would wake it thousands of times, and a wake-up costs more than a message.
//!
//! The first message after a quiet time waits for nothing. A thread's own, since it is about the thread's sleep.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

thread_local! {
    /// Something was heard since the last sleep. Set by whoever hears, taken before the thread sleeps.
    static HEARD: Cell<bool> = const { Cell::new(false) };
    /// When that was so the last time.
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A message was heard on this thread.
pub(super) fn heard() {
    HEARD.set(true);
}

/// The thread is about to wait for what comes: it rests for `rest` where it heard something, and something no more than twice as
/// long before.
pub(super) fn before_sleep(rest: Duration) {
    if !HEARD.replace(false) || rest.is_zero() {
        return;
    }
    let now = Instant::now();
    let soon = LAST.replace(Some(now)).is_some_and(|last| now.saturating_duration_since(last) <= rest * 2);
    if soon {
        // All of this thread is to stand still: the system holds what comes.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(rest);
    }
}
