//! When an idle connection says something, and what: a comment, or a named event for clients that watch for it.

use std::time::Duration;

use shared::event_stream::encode;
use tokio::time::Instant;

/// Settings of the keep-alive, the same for all connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAliveSettings {
    /// Longest silence. Each time it is shortened by up to a tenth, so that connections opened together do not speak together.
    pub interval: Duration,
    /// Name of the event sent instead of a comment.
    pub event: Option<String>,
}

/// The timer of one connection. Any write puts it off.
#[derive(Debug)]
pub(super) struct KeepAlive {
    due: Instant,
}

impl KeepAlive {
    pub(super) fn new(now: Instant, settings: &KeepAliveSettings, rng: &mut fastrand::Rng) -> Self {
        Self { due: now + jitter(settings.interval, rng) }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn put_off(&mut self, now: Instant, settings: &KeepAliveSettings, rng: &mut fastrand::Rng) {
        self.due = now + jitter(settings.interval, rng);
    }
}

impl KeepAliveSettings {
    /// The block, with `id` where the cursor moved without an event.
    pub(super) fn block(&self, id: Option<&str>) -> Vec<u8> {
        let mut block = Vec::with_capacity(64);
        match &self.event {
            Some(event) => {
                block.extend_from_slice(b"event: ");
                block.extend_from_slice(event.as_bytes());
                block.push(b'\n');
                encode::data(&mut block, "");
            }
            None => block.extend_from_slice(b":\n"),
        }
        if let Some(id) = id {
            encode::id(&mut block, id);
        }
        encode::end(&mut block);
        block
    }
}

/// 90-100 % of `interval`.
fn jitter(interval: Duration, rng: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(0.9 + 0.1 * rng.f64())
}
