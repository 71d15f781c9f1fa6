//! What the log has been told, so that it speaks of each thing once and not for each try.

use std::fmt;

use redis::RedisError;
use shared::redis::describe;
use tokio::time::Instant;

/// Why there is no connection any more, or none yet.
#[derive(Debug)]
pub(super) enum Lost {
    /// The server closed it.
    Closed,
    /// Sentinels name another server.
    Left,
    /// It stands, and messages do not arrive.
    Deaf,
    /// A call failed.
    Failed(RedisError),
    /// The same, in words.
    Away(String),
}

/// Lives as long as the task that listens.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Since when nobody listens, once that was told.
    away: Option<Instant>,
    /// That SUBSCRIBE is not permitted was told.
    not_permitted: bool,
}

impl Telling {
    pub(super) fn lost(&mut self, lost: &Lost, address: &str) {
        if self.away.is_some() {
            tracing::debug!(reason = %lost, address, "still nobody listens for cancellations");
            return;
        }
        self.away = Some(Instant::now());
        tracing::warn!(reason = %lost, address, "not listening for cancellations; trying again until it works, and those made meanwhile \
            are found then");
    }

    /// All who wait are listened for.
    pub(super) fn established(&mut self) {
        if let Some(away) = self.away.take() {
            tracing::info!(after = ?away.elapsed(), "listening for cancellations again");
        }
    }

    pub(super) fn not_permitted(&mut self, error: &RedisError) {
        if !std::mem::replace(&mut self.not_permitted, true) {
            tracing::warn!(reason = %describe(error), "this user may not subscribe to cancellations; they are looked for every \
                second instead");
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Deaf => f.write_str("a cancellation was not heard"),
            Self::Left => f.write_str("the Sentinels name another primary"),
            Self::Failed(error) => f.write_str(&describe(error)),
            Self::Away(reason) => f.write_str(reason),
        }
    }
}

impl From<RedisError> for Lost {
    fn from(error: RedisError) -> Self {
        Self::Failed(error)
    }
}
