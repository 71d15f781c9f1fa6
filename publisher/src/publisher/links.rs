//! The connections. One of the pool is lent to one call at a time, fit for use, and is gone once anything on it went wrong.
//! Small publishes share one that is not of the pool, the [line](super::line).
//!
//! The pool asks a connection by PING whether it is there each time that it lends it (deadpool-redis knows no other way).
//! What takes one is large or rare, so that this round trip does not show.

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, QueueMode, Runtime, Timeouts};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};
use shared::redis::{Client, ClientError, describe};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::line::{self, Line, Place};

/// Connections that one publisher opens at most, beside the line. Redis has one thread: more would not make it faster, and
/// each holds memory there.
const MAX_LINKS: usize = 16;

pub(super) struct Links {
    pool: Pool,
    line: Line,
    connect_timeout: Duration,
    /// Deadline of a call.
    timeout: Duration,
}

/// A connection lent to one call.
pub(super) struct Link {
    connection: Connection,
    /// Where it is from.
    pool: Pool,
}

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
        let line = Line::new(client, timeout);
        Ok(Self { pool, line, connect_timeout, timeout })
    }

    /// The way that so many commands of so many bytes take. The failure is one before anything was sent. `once`: they
    /// cannot be repeated.
    pub(super) async fn way(
        &self,
        commands: usize,
        bytes: usize,
        once: bool,
        deadline: Instant,
    ) -> Result<Way<'_>, Failure> {
        if commands <= line::MAX_COMMANDS && bytes <= line::MAX_BYTES {
            return Ok(Way::Together(self.line.place(bytes, once, deadline).await?, &self.pool));
        }
        Ok(Way::Alone(self.lend(deadline).await?, &self.line))
    }

    /// When a call that begins now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A connection that answered just now. The failure is one before anything was sent.
    ///
    /// Something on the way, such as a NAT, may have forgotten a connection that was idle: nothing on it is answered or
    /// refused. Where one hangs the others do, so half of the time is for all of them, and the rest for a new one.
    pub(super) async fn lend(&self, deadline: Instant) -> Result<Link, Failure> {
        let idle = self.pool.status().available > 0;
        let for_idle = deadline.checked_sub(self.timeout / 2).filter(|_| idle);
        if let Some(for_idle) = for_idle {
            match timeout_at(for_idle, self.lend_one()).await {
                Ok(result) => return result,
                Err(_) => _ = self.pool.retain(|_, _| false),
            }
        }
        timeout_at(deadline, self.lend_one()).await.unwrap_or_else(|_| Err(Failure::late()))
    }

    async fn lend_one(&self) -> Result<Link, Failure> {
        let timeouts = Timeouts {
            wait: Some(self.timeout),
            create: Some(self.connect_timeout.min(self.timeout)),
            recycle: Some(self.timeout / 2),
        };
        match self.pool.timeout_get(&timeouts).await {
            Ok(connection) => Ok(Link { connection, pool: self.pool.clone() }),
            Err(PoolError::Backend(error)) => Err(Failure::of(&error)),
            Err(PoolError::Timeout(_)) => Err(Failure::late()),
            Err(error) => Err(Failure::away(error.to_string())),
        }
    }

    /// Calls `cmd` once, within the deadline.
    pub(super) async fn ask(&self, cmd: &Cmd) -> Result<(), Failure> {
        let deadline = self.deadline();
        let mut link = self.lend(deadline).await?;
        let failure = match timeout_at(deadline, cmd.exec_async(link.connection())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::late(),
        };
        link.end(&failure);
        Err(failure)
    }
}

impl Link {
    pub(super) fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }

    /// Gives it back to the pool, or closes it where `failure` is one of the connection; and with it all that are idle where
    /// the server is the wrong one.
    pub(super) fn end(self, failure: &Failure) {
        if failure.breaks_link {
            drop(Connection::take(self.connection));
        }
        if failure.is_elsewhere {
            let _ = self.pool.retain(|_, _| false);
        }
    }
}

/// How one pipeline of publishes gets to Redis.
pub(super) enum Way<'a> {
    /// On the line, with those of other calls. Beside it the pool, whose connections lead to the same server.
    Together(Place<'a>, &'a Pool),
    /// On a connection of its own. Beside it the line.
    Alone(Link, &'a Line),
}

impl Way<'_> {
    /// The commands' answers, or why there are none; then nobody knows what was carried out.
    pub(super) async fn send(
        &mut self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<RedisResult<Value>>, Failure> {
        let link = match self {
            Self::Together(place, _) => return place.send(commands, deadline).await,
            Self::Alone(link, _) => link,
        };
        match timeout_at(deadline, commands.query_async(link.connection())).await {
            Ok(answers) => answers.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::late()),
        }
    }

    /// As [`Link::end`].
    pub(super) fn end(self, failure: &Failure) {
        match self {
            Self::Together(place, pool) => {
                place.give_up(failure);
                if failure.is_elsewhere {
                    let _ = pool.retain(|_, _| false);
                }
            }
            Self::Alone(link, line) => {
                if failure.is_elsewhere {
                    line.forget();
                }
                link.end(failure);
            }
        }
    }
}
