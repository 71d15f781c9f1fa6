//! The connections to one server. One of the pool is lent to one call at a time, fit for use, and is gone once anything on it went wrong.
//! Small publishes share one that is not of the pool, the [line](super::line).
//!
//! The pool asks a connection by PING whether it is there each time that it lends it (deadpool-redis knows no other way).
//! What takes one is large or rare, so that this round trip does not show.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, QueueMode, Runtime, Timeouts};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};
use shared::redis::{Client, Functions, Server, describe};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::library::Library;
use super::line::{self, Line, Place};
use super::target::Target;

/// Connections that one publisher opens to a server at most, beside the line. Redis has one thread: more would not make it faster, and
/// each holds memory there.
const MAX_LINKS: usize = 16;

pub(super) struct Links {
    target: Target,
    /// To the server that was the one when it was needed last; `None`: nobody has needed it yet.
    pools: Mutex<Option<Pools>>,
    line: Line,
    pub(super) library: Library,
    connect_timeout: Duration,
    /// Deadline of a call.
    timeout: Duration,
}

/// Of one server.
#[derive(Clone)]
struct Pools {
    server: Server,
    any: Pool,
    /// For those who keep a connection waiting: they are not to keep others from having one.
    waiting: Pool,
}

/// A connection lent to one call.
pub(super) struct Link {
    connection: MultiplexedConnection,
    /// The same as the pool's, which has it back at the end.
    lent: Option<Connection>,
    /// Something was asked on it and not answered yet. Where that is all there is, it is closed: whoever got it next would wait for it.
    is_asked: bool,
    /// Where it is from.
    pool: Pool,
    /// To which it leads.
    server: Server,
}

impl Links {
    /// Connects to nothing yet.
    pub(super) fn new(target: Target, client: &Client, functions: Functions) -> Self {
        let settings = client.settings();
        let (connect_timeout, timeout) = (settings.connect_timeout, settings.command_timeout);
        let line = Line::new(target.clone(), timeout);
        let library = Library::new(target.clone(), functions);
        Self { target, pools: Mutex::default(), line, library, connect_timeout, timeout }
    }

    /// Those of the server there is now.
    async fn pools(&self) -> Result<Pools, Failure> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let failed = |error| Failure::of(&error);
        let server = self.target.server().await.map_err(failed)?;
        if server.is_named() {
            // The pool does not look whether it is a primary.
            server.connect().await.map_err(failed)?;
        }
        let (any, waiting) = (open(&server)?, open(&server)?);
        let mut current = self.lock();
        // Meanwhile somebody else may have come as far.
        _ = current.take_if(|pools| self.target.is_left(&pools.server));
        Ok(current.get_or_insert(Pools { server, any, waiting }).clone())
    }

    /// The same, unless the server is no longer the one.
    fn current(&self) -> Option<Pools> {
        let mut current = self.lock();
        _ = current.take_if(|pools| self.target.is_left(&pools.server));
        current.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pools>> {
        // Nothing under this lock can panic half-way.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server was the wrong one: no other connection to it is better.
    fn forget_idle(&self) {
        if let Some(Pools { any, waiting, .. }) = self.current() {
            let _ = (any.retain(|_, _| false), waiting.retain(|_, _| false));
        }
    }

    /// The way that so many commands of so many bytes take. The failure is one before anything was sent. `once`: they
    /// cannot be repeated. `alone`: they keep the connection waiting, and nobody else is to wait with it.
    pub(super) async fn way(
        &self,
        commands: usize,
        bytes: usize,
        once: bool,
        alone: bool,
        deadline: Instant,
    ) -> Result<Way<'_>, Failure> {
        if !alone && commands <= line::MAX_COMMANDS && bytes <= line::MAX_BYTES {
            return Ok(Way::Together(self.line.place(bytes, once, deadline).await?, self));
        }
        Ok(Way::Alone(Box::new(self.lend_from(alone, deadline).await?), &self.line))
    }

    /// A connection that answered just now. The failure is one before anything was sent.
    ///
    /// Something on the way, such as a NAT, may have forgotten a connection that was idle: nothing on it is answered or
    /// refused. Where one hangs the others do, so half of the time is for all of them, and the rest for a new one.
    pub(super) async fn lend(&self, deadline: Instant) -> Result<Link, Failure> {
        self.lend_from(false, deadline).await
    }

    /// `waits`: it is to be kept waiting.
    async fn lend_from(&self, waits: bool, deadline: Instant) -> Result<Link, Failure> {
        let pools = timeout_at(deadline, self.pools()).await.unwrap_or_else(|_| Err(Failure::late()))?;
        let (server, pool) = (pools.server, if waits { pools.waiting } else { pools.any });
        let idle = pool.status().available > 0;
        let for_idle = deadline.checked_sub(self.timeout / 2).filter(|_| idle);
        if let Some(for_idle) = for_idle {
            match timeout_at(for_idle, self.lend_one(&server, &pool)).await {
                Ok(result) => return result,
                Err(_) => _ = pool.retain(|_, _| false),
            }
        }
        timeout_at(deadline, self.lend_one(&server, &pool)).await.unwrap_or_else(|_| Err(Failure::late()))
    }

    async fn lend_one(&self, server: &Server, pool: &Pool) -> Result<Link, Failure> {
        let timeouts = Timeouts {
            wait: Some(self.timeout),
            create: Some(self.connect_timeout.min(self.timeout)),
            recycle: Some(self.timeout / 2),
        };
        match pool.timeout_get(&timeouts).await {
            Ok(connection) => {
                let (pool, server) = (pool.clone(), server.clone());
                Ok(Link { connection: (*connection).clone(), lent: Some(connection), is_asked: false, pool, server })
            }
            Err(PoolError::Backend(error)) => Err(Failure::of(&error)),
            Err(PoolError::Timeout(_)) => Err(Failure::late()),
            Err(error) => Err(Failure::away(error.to_string())),
        }
    }

    /// Calls `cmd` once, within the deadline.
    pub(super) async fn ask(&self, cmd: &Cmd, deadline: Instant) -> Result<(), Failure> {
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

fn open(server: &Server) -> Result<Pool, Failure> {
    let manager = Manager::new_with_config(server.connection_info().clone(), server.connection_config())
        .map_err(|error| Failure::away(describe(&error)))?;
    Pool::builder(manager)
        .max_size(MAX_LINKS)
        .runtime(Runtime::Tokio1)
        // The one used last is the least likely to have been forgotten by something on the way.
        .queue_mode(QueueMode::Lifo)
        .build()
        // It cannot fail with a runtime.
        .map_err(|error| Failure::away(error.to_string()))
}

impl Link {
    pub(super) fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }

    /// Gives it back to the pool, or closes it where `failure` is one of the connection; and with it all that are idle where
    /// the server is the wrong one.
    pub(super) fn end(mut self, failure: &Failure) {
        self.is_asked |= failure.breaks_link;
        if failure.is_elsewhere {
            let _ = self.pool.retain(|_, _| false);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(connection) = self.lent.take_if(|_| self.is_asked) {
            drop(Connection::take(connection));
        }
    }
}

/// How one pipeline of publishes gets to Redis.
pub(super) enum Way<'a> {
    /// On the line, with those of other calls.
    Together(Place<'a>, &'a Links),
    /// On a connection of its own. Beside it the line, which leads to the same server.
    Alone(Box<Link>, &'a Line),
}

impl Way<'_> {
    /// Whether the server at the other end is no longer the one.
    pub(super) fn is_left(&self) -> bool {
        match self {
            Self::Together(place, _) => place.is_left(),
            Self::Alone(link, _) => link.server.is_left(),
        }
    }

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
        link.is_asked = true;
        let answered = timeout_at(deadline, commands.query_async(link.connection())).await;
        link.is_asked = answered.is_err();
        match answered {
            Ok(answers) => answers.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::late()),
        }
    }

    /// As [`Link::end`].
    pub(super) fn end(self, failure: &Failure) {
        match self {
            Self::Together(place, links) => {
                place.give_up(failure);
                if failure.is_elsewhere {
                    links.forget_idle();
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
