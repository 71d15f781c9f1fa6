//! The events of one answer on their way: to the channel, each once and in order, and from there to whoever asked.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use shared::channel::Channel;
use shared::envelope::Payload;
use shared::event_stream::encode;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::pace::Total;
use crate::{DEFAULT_HISTORY, Event, Once, Publication, Publish, PublishError, Receipt};

/// How long one event is tried for. Within what a `once` key is remembered, by far.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the first two tries; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// See above.
pub(super) struct Events {
    publish: Arc<dyn Publish>,
    channel: Channel,
    /// Begins the `once` keys: a channel may be used for one answer after the other.
    id: String,
    /// Of the next event.
    number: u64,
    /// Where the events are read by whoever asked; gone once that one is, or was too slow.
    reader: Option<mpsc::Sender<Bytes>>,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Done<'a> {
    reason: &'a str,
    #[serde(flatten)]
    total: Total,
}

#[derive(Serialize)]
struct Failed<'a> {
    reason: &'a str,
    detail: &'a str,
    #[serde(flatten)]
    total: Total,
}

impl Events {
    pub(super) fn new(
        publish: Arc<dyn Publish>,
        channel: Channel,
        id: String,
        reader: Option<mpsc::Sender<Bytes>>,
    ) -> Self {
        Self { publish, channel, id, number: 0, reader }
    }

    /// Where they go.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The first event. It is not tried again, since somebody waits who can.
    pub(super) async fn question(&mut self, text: &str) -> Result<(), PublishError> {
        let publication = self.publication("question", &Text { text })?;
        let receipt = self.publish.publish(&self.channel, publication.clone()).await?;
        self.published(&publication, &receipt);
        Ok(())
    }

    pub(super) async fn chunk(&mut self, text: &str) -> Result<(), PublishError> {
        let publication = self.publication("chunk", &Text { text })?;
        self.publish(publication).await
    }

    pub(super) async fn done(&mut self, reason: &str, total: Total) -> Result<(), PublishError> {
        let publication = self.last("done", &Done { reason, total })?;
        self.publish(publication).await
    }

    pub(super) async fn failed(&mut self, reason: &str, detail: &str, total: Total) -> Result<(), PublishError> {
        let publication = self.last("failed", &Failed { reason, detail, total })?;
        self.publish(publication).await
    }

    fn publication(&self, name: &str, data: &impl Serialize) -> Result<Publication, PublishError> {
        self.event(name, data, &self.number.to_string())?.into_publication()
    }

    /// With a key of its own: of an event before it that was refused nobody knows for sure that it is not there, and its key
    /// would make this one a duplicate.
    fn last(&self, name: &str, data: &impl Serialize) -> Result<Publication, PublishError> {
        self.event(name, data, "end")?.ended().into_publication()
    }

    fn event(&self, name: &str, data: &impl Serialize, key: &str) -> Result<Event, PublishError> {
        let refused = |field, reason: String| PublishError::Refused { field, reason };
        let once = Once::parse(&format!("{}-{key}", self.id));
        let once = once.map_err(|error| refused("once", error.to_string()))?;
        let event = Event::json(data).map_err(|error| refused("data", error.to_string()))?;
        let event = event.named(name).once(once);
        // All of it is to be had for those who come back, whatever the channel's settings say of others.
        Ok(NonZeroU32::new(DEFAULT_HISTORY).into_iter().fold(event, Event::history))
    }

    /// Tries while the broker is away, and an error then means that nobody can be told anything.
    async fn publish(&mut self, publication: Publication) -> Result<(), PublishError> {
        let give_up = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        loop {
            let error = match self.publish.publish(&self.channel, publication.clone()).await {
                Ok(receipt) => {
                    self.published(&publication, &receipt);
                    return Ok(());
                }
                Err(error @ PublishError::Unavailable { .. }) => error,
                Err(error) => return Err(error),
            };
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if Instant::now() + jittered > give_up {
                return Err(error);
            }
            sleep(jittered).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The next event is another one, and the reader gets this one as a gateway would write it.
    fn published(&mut self, publication: &Publication, receipt: &Receipt) {
        self.number += 1;
        let Some(reader) = &self.reader else { return };
        let mut block = Vec::with_capacity(publication.payload.len() + 96);
        encode::fields(&mut block, &Payload::parse(&publication.payload).to_event());
        if let Some(cursor) = receipt.cursor {
            encode::id(&mut block, &cursor.to_string());
        }
        encode::end(&mut block);
        // One that is gone or slow is nobody's loss but its own: it comes back to the channel.
        if reader.try_send(block.into()).is_err() {
            self.reader = None;
        }
    }
}
