//! The seam between those who publish (HTTP, library, command line) and whoever carries it out (a broker).

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use shared::channel::Channel;
use shared::cursor::CursorPart;
use shared::envelope::Envelope;
use shared::position::Position;

/// Entries that a channel's history keeps where nothing else is said.
pub const DEFAULT_HISTORY: u32 = 1_000;
/// How long a channel's history is kept after its last event, where nothing else is said.
pub const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
/// Longest that a history may be asked to live: a hundred years.
pub const MAX_TTL: Duration = Duration::from_secs(3_153_600_000);
/// How long a `once` key is remembered, per channel.
pub const ONCE_TTL: Duration = Duration::from_secs(600);
/// Longest `once` key, in bytes.
pub const MAX_ONCE_BYTES: usize = 128;

/// An idempotency key: a second publish with the same key on the same channel within [`ONCE_TTL`] changes nothing and is
/// answered with the position of the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Once(String);

/// Why a text is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    /// Empty, or longer than [`MAX_ONCE_BYTES`].
    #[error("a once key has 1 to {MAX_ONCE_BYTES} bytes, this one {bytes}")]
    Length {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Control characters and white space are refused.
    #[error("a once key may not have {character:?} (no control characters, no white space)")]
    Character {
        /// The first such character.
        character: char,
    },
}

impl Once {
    /// Checks `key`.
    ///
    /// # Errors
    /// [`OnceError`].
    pub fn parse(key: &str) -> Result<Self, OnceError> {
        if !(1..=MAX_ONCE_BYTES).contains(&key.len()) {
            return Err(OnceError::Length { bytes: key.len() });
        }
        match key.chars().find(|c| c.is_control() || c.is_whitespace()) {
            Some(character) => Err(OnceError::Character { character }),
            None => Ok(Self(key.to_owned())),
        }
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One event to publish on one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The envelope as JSON, or any other bytes, which clients then get whole as data.
    pub payload: Bytes,
    /// Live only: no position, no history, never replayed; `end` in it is ignored.
    pub ephemeral: bool,
    /// Idempotency key; means nothing for an ephemeral one.
    pub once: Option<Once>,
    /// Entries that the channel's history keeps; [`DEFAULT_HISTORY`] where `None`.
    pub history: Option<NonZeroU32>,
    /// How long the history lives at least, in whole seconds; [`DEFAULT_TTL`] where `None`, at most [`MAX_TTL`]. Never
    /// shortened by a later publish.
    pub ttl: Option<Duration>,
}

impl Publication {
    /// A durable event with the defaults.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ephemeral: false, once: None, history: None, ttl: None }
    }

    /// A durable event with the defaults.
    ///
    /// # Errors
    /// None that an envelope can cause; the type is serde_json's.
    pub fn envelope(envelope: &Envelope) -> serde_json::Result<Self> {
        Ok(Self::new(envelope.to_payload()?))
    }

    /// The same, live only.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        Self { ephemeral: true, ..self }
    }

    /// The same, with an idempotency key.
    #[must_use]
    pub fn once(self, once: Once) -> Self {
        Self { once: Some(once), ..self }
    }
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where the event stands in its partition; `None` for an ephemeral one.
    pub position: Option<Position>,
    /// The same as clients know it: what a stream would send back to go on right after this event.
    pub cursor: Option<CursorPart>,
    /// Gateway nodes with someone on the channel, at that instant; 0 for a duplicate.
    pub receivers: u64,
    /// The `once` key was known: nothing was published, and `position` is that of the first time.
    pub duplicate: bool,
}

/// Why nothing was published, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker cannot be had right now; trying again later makes sense.
    #[error("the broker is not available: {reason}")]
    Unavailable {
        /// For a person to read; holds no secret.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The publication itself is wrong, or contradicts what its channel is for. Nothing was published.
    #[error("{reason}")]
    Refused {
        /// What of it, by its name in JSON.
        field: &'static str,
        /// For a person to read; names the field.
        reason: String,
    },
    /// The broker answered with an error that the same publish would meet again, such as a key of another type or a
    /// permission that is lacking. As far as is known, nothing was published.
    #[error("the broker refuses: {reason}")]
    Rejected {
        /// For a person to read; holds no secret.
        reason: String,
    },
}

/// Carries out publications. Implemented by every broker.
pub trait Publish: Send + Sync + 'static {
    /// Publishes one event: position, history and delivery in one step, seen whole or not at all.
    ///
    /// The future may be dropped before it is done, as when a request's deadline passes: then the event was published, or
    /// it was not, and only a `once` key tells the next try apart.
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>>;

    /// Publishes events in this order, each for itself: one that fails does not take back those before it. Returns one
    /// outcome an event, in order. Events that were published keep the batch's order among themselves; where the broker keeps its
    /// partitions on several servers (Redis Cluster), those of each partition do, and so those of each channel.
    ///
    /// Where a broker has no better way, they are published one after the other.
    fn publish_batch<'a>(
        &'a self,
        batch: Vec<(Channel, Publication)>,
    ) -> BoxFuture<'a, Vec<Result<Receipt, PublishError>>> {
        async move {
            let mut outcomes = Vec::with_capacity(batch.len());
            for (channel, publication) in batch {
                // A broker in memory never waits; a large batch would keep its thread from everybody else.
                tokio::task::coop::consume_budget().await;
                outcomes.push(self.publish(&channel, publication).await);
            }
            outcomes
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_keys() {
        assert_eq!(Once::parse("order-7/paid").unwrap().as_str(), "order-7/paid");
        assert_eq!(Once::parse(""), Err(OnceError::Length { bytes: 0 }));
        assert_eq!(Once::parse(&"x".repeat(129)), Err(OnceError::Length { bytes: 129 }));
        assert_eq!(Once::parse("a b"), Err(OnceError::Character { character: ' ' }));
        assert_eq!(Once::parse("a\0"), Err(OnceError::Character { character: '\0' }));
    }
}
