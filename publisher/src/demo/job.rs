//! One job: counts a text, slowly enough to be watched, and tells how far it is on a channel of its own.
//!
//! `started`, then `progress` for each step, then `done`, `cancelled` or `failed`, which ends the channel. Each event has a
//! `once` key. It goes on to the next one only when it knows what became of the one before: a progress that a slow server
//! carried out after the last event would open the channel again.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use shared::channel::Channel;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use super::count::Count;
use crate::{Event, Once, Publish, PublishError};

/// Steps of a job, whatever its size.
pub(super) const STEPS: usize = 80;
/// From step to step: eight seconds in all.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// How long the broker may be away before the job gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries: the first pause, doubled each time, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// Entries of the channel's history: all of a job's events, with room.
const HISTORY: NonZeroU32 = NonZeroU32::new(200).unwrap();

/// What the job counts, and where it tells of it.
pub(super) struct Job {
    pub(super) publish: Arc<dyn Publish>,
    pub(super) channel: Channel,
    /// As the file was called.
    pub(super) name: String,
    pub(super) body: Bytes,
    /// Cancelled when the process stops.
    pub(super) stop: CancellationToken,
}

/// Why a job does not come to its end.
enum Cut {
    /// Somebody asked for it.
    Cancelled,
    /// Why, for people.
    Failed(String),
}

#[derive(Serialize)]
struct Started<'a> {
    name: &'a str,
    bytes: usize,
}

#[derive(Serialize)]
struct Progress {
    done: usize,
    total: usize,
    percent: usize,
    step: &'static str,
}

#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    bytes: usize,
    lines: usize,
    words: usize,
    sha256: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Failed<'a> {
    detail: &'a str,
}

impl Job {
    /// Says that it begins. One try: who asked for the job is told instead where that fails.
    pub(super) async fn begin(&self) -> Result<(), PublishError> {
        let started = event("started", &Started { name: &self.name, bytes: self.body.len() })?;
        let publication = started.once(once("started")?).history(HISTORY).into_publication()?;
        self.publish.publish(&self.channel, publication).await.map(drop)
    }

    /// Counts, and says how it ended. `cancelled` is done when somebody asked for it to stop.
    pub(super) async fn run(self, mut cancelled: BoxFuture<'static, ()>) {
        let end = match self.count(cancelled.as_mut()).await {
            Ok(count) => {
                let counted = count.finish();
                let (bytes, lines, words) = (counted.bytes, counted.lines, counted.words);
                event("done", &Done { name: &self.name, bytes, lines, words, sha256: &counted.sha256 })
            }
            Err(Cut::Cancelled) => event("cancelled", &Nothing {}),
            Err(Cut::Failed(detail)) => event("failed", &Failed { detail: &detail }),
        };
        let said = match end {
            Ok(end) => self.say("end", end.ended()).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = said {
            // Its readers are left to find out by its silence.
            tracing::warn!(channel = %self.channel, %error, "a demo job could not say how it ended");
        }
    }

    async fn count(&self, mut cancelled: Pin<&mut (dyn Future<Output = ()> + Send)>) -> Result<Count, Cut> {
        let mut ticks = interval_at(Instant::now() + STEP, STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (total, mut count, mut done) = (self.body.len(), Count::default(), 0);
        for step in 1..=STEPS {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Cut::Failed("stopped".to_owned())),
                () = cancelled.as_mut() => return Err(Cut::Cancelled),
                _ = ticks.tick() => {}
            }
            // At most 8 MiB, so the product is far from overflowing.
            let until = total * step / STEPS;
            count.add(&self.body[done..until]);
            done = until;
            let progress = Progress { done, total, percent: 100 * step / STEPS, step: "counting" };
            let told = event("progress", &progress).map_err(|error| error.to_string());
            let told = async { self.say(&format!("progress-{step}"), told?).await };
            told.await.map_err(Cut::Failed)?;
        }
        Ok(count)
    }

    /// Publishes, as often as it takes while the broker is away, for [`PATIENCE`] at most. The error is why not, for people.
    async fn say(&self, key: &str, event: Event) -> Result<(), String> {
        let publication = once(key).and_then(|once| event.once(once).history(HISTORY).into_publication());
        let publication = publication.map_err(|error| error.to_string())?;
        let began = Instant::now();
        let [mut pause, longest] = PAUSES;
        loop {
            let error = match self.publish.publish(&self.channel, publication.clone()).await {
                Ok(_) => return Ok(()),
                Err(error @ PublishError::Unavailable { .. }) => error,
                Err(error) => return Err(error.to_string()),
            };
            if began.elapsed() + pause > PATIENCE {
                return Err(error.to_string());
            }
            sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }
}

fn event<T: Serialize>(name: &str, data: &T) -> Result<Event, PublishError> {
    let event = Event::json(data).map_err(|error| PublishError::Rejected { reason: error.to_string() })?;
    Ok(event.named(name))
}

fn once(key: &str) -> Result<Once, PublishError> {
    Once::parse(key).map_err(|error| PublishError::Refused { field: "once", reason: error.to_string() })
}

#[cfg(test)]
mod tests;
