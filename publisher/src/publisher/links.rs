//! The pool of connections. One is lent to one call at a time, fit for use, and is gone once anything on it went wrong.

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, QueueMode, Runtime, TimeoutType, Timeouts};
use redis::aio::MultiplexedConnection;
use shared::redis::{Client, ClientError, describe};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;

/// Connections that one publisher opens at most. Redis has one thread: more would not make it faster, and each holds
/// memory there.
const MAX_LINKS: usize = 16;

pub(super) struct Links {
    pool: Pool,
    connect_timeout: Duration,
    /// Deadline of a call.
    timeout: Duration,
}

/// A connection lent to one call.
pub(super) struct Link(Connection);

impl Links {
    /// Connects to nothing yet.
    pub(super) fn new(client: &Client) -> Result<Self, ClientError> {
        let info = client.connection_info().clone();
        let manager = Manager::new_with_config(info, client.connection_config())
            .map_err(|error| ClientError::Url(describe(&error)))?;
        let pool = Pool::builder(manager)
            .max_size(MAX_LINKS)
            .runtime(Runtime::Tokio1)
            // The one used last is the least likely to have been forgotten by something on the way.
            .queue_mode(QueueMode::Lifo)
            .build()
            // It cannot fail with a runtime.
            .map_err(|error| ClientError::Url(error.to_string()))?;
        let (connect_timeout, timeout) = (client.settings().connect_timeout, client.settings().command_timeout);
        Ok(Self { pool, connect_timeout, timeout })
    }

    /// When a call that begins now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A connection that answered just now. The failure is one before anything was sent.
    pub(super) async fn lend(&self, deadline: Instant) -> Result<Link, Failure> {
        let rest = deadline.saturating_duration_since(Instant::now());
        // One that hangs may not use up what another needs.
        let recycle = rest.min(self.timeout / 3);
        let timeouts =
            Timeouts { wait: Some(rest), create: Some(rest.min(self.connect_timeout)), recycle: Some(recycle) };
        match timeout_at(deadline, self.pool.timeout_get(&timeouts)).await {
            Ok(Ok(connection)) => Ok(Link(connection)),
            Ok(Err(PoolError::Backend(error))) => Err(Failure::of(&error)),
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) => {
                let reason = format!("all {MAX_LINKS} connections were busy until the deadline");
                Err(Failure::away(reason))
            }
            Ok(Err(PoolError::Timeout(_))) | Err(_) => {
                // Where one hangs the others do, and would keep the next calls from a new one.
                self.pool.retain(|_, _| false);
                Err(Failure::late())
            }
            Ok(Err(error)) => Err(Failure::away(error.to_string())),
        }
    }

    /// See [`Publisher::check`](super::Publisher::check).
    pub(super) async fn check(&self) -> Result<(), String> {
        let deadline = self.deadline();
        let mut link = self.lend(deadline).await.map_err(Failure::into_reason)?;
        let failure = match timeout_at(deadline, redis::cmd("PING").exec_async(link.connection())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::late(),
        };
        link.end(&failure);
        Err(failure.into_reason())
    }
}

impl Link {
    pub(super) fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.0
    }

    /// Gives it back to the pool, or closes it where `failure` is one of the connection.
    pub(super) fn end(self, failure: &Failure) {
        if failure.breaks_link {
            drop(Connection::take(self.0));
        }
    }
}
