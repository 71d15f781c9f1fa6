//! The broker on Redis: Pub/Sub for what is live, Streams for history, one function call to tell the time.
//!
//! It runs on a thread of its own, so that a busy fan-out does not keep it from reading. There, `run` holds one session
//! after the other: `session` opens its two connections, `hearing` is what the Pub/Sub connection hears, and between two
//! sessions it waits, `backoff` each time longer. It reconnects and resubscribes by itself: the client library's own way to
//! do so loses channels.

mod backoff;
mod hearing;
mod read;
mod session;
mod wanted;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::aio::MultiplexedConnection;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::start::{StartError, check_push, start};
use shared::redis::{Client, ClientError, Functions, Settings, describe};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use self::session::{Ended, Session};
use self::wanted::Wanted;
use super::{Between, Broker, BrokerError, InterestQueue, Lost, Partition, Sink, Snapshot};
use crate::metrics::BrokerMetrics;

/// Bytes of the node's own name in its name in Redis, which has 64 at most.
const MAX_NODE_NAME: usize = 48;

/// Since when Redis is away, as the log has said; `None` while a session is established, and before the first.
type Away = Option<Instant>;

/// A single server is one partition.
const PARTITION: Partition = 0;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] ClientError),
    /// The prefix cannot be used.
    #[error("redis.prefix: {0}")]
    Prefix(#[from] shared::keys::KeysError),
    /// Redis cannot be had, or will not do.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// The broker. Share it by `Arc`.
pub struct RedisBroker {
    client: Client,
    keys: Keys,
    /// Name of this process in Redis, another at each start: the last part of the channel on which it hears itself.
    node: String,
    /// How the functions are called on the server there is now. Written by `connect`, and by a session that finds them gone.
    functions: Mutex<Functions>,
    /// For [`Broker::read`]: the connection for commands of the session there is now. Written by `run` alone.
    commands: Mutex<Option<MultiplexedConnection>>,
    metrics: BrokerMetrics,
}

impl RedisBroker {
    /// Connects for the first time: fails where the process had better not begin.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(settings: &Settings, node: &str, metrics: BrokerMetrics) -> Result<Self, ConnectError> {
        let (client, keys) = (Client::new(settings)?, settings.keys()?);
        let started = start(&client, &keys).await?;
        check_push(&client).await?;
        tracing::info!(address = client.address(), version = %started.version, "connected to Redis");
        Ok(Self {
            client,
            keys,
            node: format!("{node:.MAX_NODE_NAME$}.{:08x}", fastrand::u32(..)),
            functions: Mutex::new(started.functions),
            commands: Mutex::new(None),
            metrics,
        })
    }

    /// Holds one session after the other until `stop`.
    async fn sessions(&self, mut interest: InterestQueue, sink: Arc<dyn Sink>, stop: CancellationToken) {
        let mut wanted = Wanted::default();
        let mut backoff = Backoff::default();
        let mut away: Away = None;
        loop {
            let opened = tokio::select! {
                () = stop.cancelled() => return,
                opened = Session::open(self, sink.clone()) => opened,
            };
            let ended = match opened {
                Ok(session) => {
                    *self.commands() = Some(session.commands());
                    let ended = tokio::select! {
                        () = stop.cancelled() => Ended::Stopped,
                        ended = session.run(&mut wanted, &mut interest, &mut backoff, &mut away) => ended,
                    };
                    *self.commands() = None;
                    self.metrics.up.set(0.0);
                    ended
                }
                Err(ended) => ended,
            };
            if ended == Ended::Stopped {
                return;
            }
            self.metrics.session_ended(ended.reason());
            sink.lost(PARTITION, if ended == Ended::Deaf { Lost::Deaf } else { Lost::Away });
            self.is_away(&ended, &mut away);
            if !self.wait(backoff.next(), &mut wanted, &mut interest, &stop).await {
                return;
            }
        }
    }

    /// The log speaks once for each time that Redis goes away.
    fn is_away(&self, ended: &Ended, away: &mut Away) {
        let address = self.client.address();
        if away.is_some() {
            tracing::debug!(address, reason = %ended, "still no session with Redis");
            return;
        }
        *away = Some(Instant::now());
        tracing::warn!(address, reason = %ended, "lost the session with Redis; streams stay open, trying again");
    }

    /// A session is established.
    fn is_back(&self, away: &mut Away) {
        self.metrics.up.set(1.0);
        if let Some(since) = away.take() {
            tracing::info!(address = self.client.address(), after = ?since.elapsed(), "Redis is back");
        }
    }

    /// Waits before the next try, taking note of what the hub wants meanwhile. `false`: stop.
    async fn wait(
        &self,
        pause: std::time::Duration,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        stop: &CancellationToken,
    ) -> bool {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep_until(until) => return true,
                item = interest.recv() => match item {
                    Some(item) => wanted.note(item),
                    None => return false,
                },
            }
        }
    }

    fn functions(&self) -> Functions {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_functions(&self, functions: Functions) {
        *self.functions.lock().unwrap_or_else(PoisonError::into_inner) = functions;
    }

    fn commands(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for RedisBroker {
    fn run(
        self: Arc<Self>,
        interest: InterestQueue,
        sink: Arc<dyn Sink>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        async move {
            // Dropping this future ends the thread's work too, a moment later.
            let stop = stop.child_token();
            let _guard = stop.clone().drop_guard();
            let (done, ended) = oneshot::channel();
            let work = move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return tracing::error!(%error, "cannot start the thread that talks to Redis"),
                };
                runtime.block_on(self.sessions(interest, sink, stop));
                let _ = done.send(());
            };
            if let Err(error) = std::thread::Builder::new().name("redis".to_owned()).spawn(work) {
                return tracing::error!(%error, "cannot start the thread that talks to Redis");
            }
            // An error means that the thread is gone all the same.
            let _ = ended.await;
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        between: Between,
        limit: usize,
    ) -> BoxFuture<'a, Result<Snapshot, BrokerError>> {
        async move {
            let connection = self.commands().clone();
            let Some(mut connection) = connection else {
                return Err(BrokerError { reason: "there is no session with Redis".to_owned() });
            };
            let functions = self.functions();
            let read =
                read::channel(&mut connection, &functions, &self.keys, &self.node, channel, between, limit).await;
            let (snapshot, _epoch) = read.map_err(|error| BrokerError { reason: describe(&error) })?;
            Ok(snapshot)
        }
        .boxed()
    }
}
