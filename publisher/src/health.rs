//! Whether the service is ready, and whether Redis is there: asked every few seconds, and told to the log when it changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::Gauge;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::Publisher;
use crate::metrics::redis_up;

/// Between two questions.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Why the service is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotReady {
    /// It has not reached Redis yet.
    Starting,
    /// It is stopping.
    Draining,
    /// Redis has been away for too long.
    RedisAway,
}

/// The state of the service, shared by those who change it and those who ask.
pub(crate) struct Health {
    started: AtomicBool,
    draining: AtomicBool,
    /// Since when Redis has not answered; `None` while it does.
    away_since: Mutex<Option<Instant>>,
    unready_after: Duration,
    up: Gauge,
}

impl Health {
    /// Not started. Redis may be away for `unready_after` until the service counts as not ready. Install the metrics
    /// recorder before.
    #[must_use]
    pub(crate) fn new(unready_after: Duration) -> Self {
        Self {
            started: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            away_since: Mutex::new(None),
            unready_after,
            up: redis_up(),
        }
    }

    /// Redis was reached, and the service begins.
    pub(crate) fn start(&self) {
        self.up.set(1.0);
        self.started.store(true, Ordering::Release);
    }

    /// The service is stopping, from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Why the service is not ready; `None` when it is.
    pub(crate) fn not_ready(&self, now: Instant) -> Option<NotReady> {
        if self.draining.load(Ordering::Acquire) {
            return Some(NotReady::Draining);
        }
        if !self.started.load(Ordering::Acquire) {
            return Some(NotReady::Starting);
        }
        let away_since = *self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        let away_for = now.saturating_duration_since(away_since?);
        (away_for >= self.unready_after).then_some(NotReady::RedisAway)
    }

    /// What Redis answered at `now`. Logs when that is another answer than before.
    fn note(&self, answer: Result<(), String>, now: Instant) {
        let mut away_since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.up.set(if answer.is_ok() { 1.0 } else { 0.0 });
        match (answer, *away_since) {
            (Ok(()), Some(since)) => {
                let after = humantime::format_duration(Duration::from_secs((now - since).as_secs()));
                tracing::info!(%after, "Redis is back");
                *away_since = None;
            }
            (Err(reason), None) => {
                tracing::warn!(reason, "Redis is away; publishes are answered with 503 until it is back");
                *away_since = Some(now);
            }
            _ => {}
        }
    }
}

/// Asks Redis every few seconds, for ever.
pub(crate) async fn watch(health: &Health, publisher: &Publisher) {
    loop {
        let answer = publisher.check().await;
        health.note(answer, Instant::now());
        sleep(CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREADY_AFTER: Duration = Duration::from_secs(30);

    fn away() -> Result<(), String> {
        Err("connection refused".to_owned())
    }

    #[test]
    fn readiness_in_the_course_of_a_life() {
        let health = Health::new(UNREADY_AFTER);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(health.not_ready(start), Some(NotReady::Starting));
        health.start();
        assert_eq!(health.not_ready(start), None);

        health.note(away(), at(10));
        health.note(away(), at(20));
        assert_eq!(health.not_ready(at(39)), None, "a short absence is none of a load balancer's business");
        assert_eq!(health.not_ready(at(40)), Some(NotReady::RedisAway));
        health.note(Ok(()), at(50));
        assert_eq!(health.not_ready(at(50)), None);
        health.note(away(), at(60));
        assert_eq!(health.not_ready(at(61)), None, "every absence counts from its own beginning");

        health.drain();
        assert_eq!(health.not_ready(at(100)), Some(NotReady::Draining));
    }

    #[test]
    fn no_absence_at_all_may_be_allowed() {
        let health = Health::new(Duration::ZERO);
        let now = Instant::now();
        health.start();
        health.note(away(), now);
        assert_eq!(health.not_ready(now), Some(NotReady::RedisAway));
    }
}
