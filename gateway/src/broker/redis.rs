//! The broker on Redis: Pub/Sub for what is live, Streams for history, one function call to tell the time.
//!
//! It runs on a thread of its own, so that a busy fan-out does not keep it from reading. There, `sessions` holds one session
//! after the other, of each partition: `session` opens it on two connections to the partition's server (`links`), `hearing` is what
//! the Pub/Sub connection hears, and between two sessions it waits, `backoff` each time longer. A channel that was heard before goes on where it was (`catch_up`), and once
//! a minute each is compared with what Redis has of it (`sweep`). It reconnects and resubscribes by itself: the client
//! library's own way to do so loses channels.

mod backoff;
mod barrier;
pub(crate) mod catch_up;
pub(crate) mod ended;
pub(crate) mod hearing;
pub mod leases;
mod library;
mod links;
pub mod needs;
mod read;
mod reader;
mod rest;
mod session;
mod sessions;
mod sweep;
mod telling;
pub(crate) mod wanted;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::start::{StartError, check_push, start};
use shared::redis::{Client, ClientError, Settings, describe};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::ended::Ended;
use self::hearing::Hearing;
use self::library::Library;
use self::links::Links;
use self::reader::{ReadError, Reader};
use self::telling::Telling;
use super::past::PastLimits;
use super::{Between, Broker, BrokerError, InterestQueue, Partition, Sink, Snapshot};
use crate::metrics::BrokerMetrics;

/// Bytes of the node's own name in its name in Redis, which has 64 at most.
const MAX_NODE_NAME: usize = 48;

/// How often each channel is compared with Redis, where nothing else is said.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(60);

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
    library: Arc<Library>,
    links: Links,
    /// For [`Broker::read`]: the sessions there are now, by partition. Written by `sessions` alone.
    current: Mutex<Vec<Option<Current>>>,
    /// What the log has been told. Written by sessions.
    telling: Mutex<Telling>,
    past_limits: PastLimits,
    check_interval: Duration,
    /// How long the thread that hears rests.
    rest: Duration,
    /// The log has said that a history cannot be read. Unset when a session begins.
    told_unreadable: AtomicBool,
    metrics: BrokerMetrics,
}

/// A session, for those who read.
#[derive(Clone)]
struct Current {
    reader: Reader,
    hearing: Arc<Hearing>,
}

impl RedisBroker {
    /// Connects for the first time: fails where the process had better not begin.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(settings: &Settings, node: &str, metrics: BrokerMetrics) -> Result<Self, ConnectError> {
        let (client, keys) = (Client::new(settings)?, settings.keys()?);
        let started = start(&client, &keys).await?;
        check_push(&client, &started.server).await?;
        let node = format!("{node:.MAX_NODE_NAME$}.{:08x}", fastrand::u32(..));
        let partitions = keys.partitions();
        tracing::info!(address = client.address(), version = %started.version, node, "connected to Redis");
        Ok(Self {
            client,
            keys,
            node,
            library: Arc::new(Library::new(started.functions)),
            links: Links::default(),
            current: Mutex::new(vec![None; usize::from(partitions)]),
            telling: Mutex::default(),
            past_limits: PastLimits::default(),
            check_interval: CHECK_INTERVAL,
            rest: Duration::ZERO,
            told_unreadable: AtomicBool::new(false),
            metrics,
        })
    }

    /// How often each channel is compared with what Redis has of it; a minute where this is not called.
    #[must_use]
    pub fn with_check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = interval;
        self
    }

    /// How much of what came while a channel was not heard is read; beyond that there is a gap.
    #[must_use]
    pub fn with_past_limits(mut self, limits: PastLimits) -> Self {
        self.past_limits = limits;
        self
    }

    /// How long the thread that hears rests where one message comes soon after the other; never where this is not called.
    #[must_use]
    pub fn with_rest(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }

    /// Once in each session: streams that come back to such a channel are told of a gap.
    fn tell_unreadable(&self, channel: &Channel, error: &ReadError) {
        let ReadError::Redis(error) = error else { return };
        let reason = describe(error);
        if self.told_unreadable.swap(true, Ordering::Relaxed) {
            return tracing::debug!(%channel, reason, "the history of a channel cannot be read");
        }
        tracing::warn!(%channel, reason, "the history of a channel cannot be read; who comes back to it is told of a gap");
    }

    /// The session of `partition` that there is now.
    fn current(&self, partition: Partition) -> Option<Current> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.get(usize::from(partition)).cloned().flatten()
    }

    fn set_current(&self, partition: Partition, now: Option<Current>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.get_mut(usize::from(partition)) {
            *current = now;
        }
    }

    fn telling(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads in the session there is now. What was read stands only if that is still there.
    async fn read_now(&self, channel: &Channel, between: Between, limit: usize) -> Result<Snapshot, BrokerError> {
        let failed = |reason: &str| BrokerError { reason: reason.to_owned() };
        let Some(Current { reader, hearing }) = self.current(self.keys.partition(channel)) else {
            return Err(failed("there is no session with Redis"));
        };
        // A call has its deadline, but there may be more than one.
        let deadline = self.client.settings().command_timeout * 2;
        let read = async {
            match reader.read(self, channel, between, limit).await {
                Err(error) if error.is_of_one_channel() => {
                    self.tell_unreadable(channel, &error);
                    reader.without_history(self, channel).await
                }
                read => read,
            }
        };
        let snapshot = match timeout(deadline, read).await {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(ReadError::Redis(error))) => return Err(failed(&describe(&error))),
            Ok(Err(ReadError::Epoch)) => {
                hearing.end(Ended::Epoch);
                return Err(failed("its data have begun another life"));
            }
            Err(_) => return Err(failed("no answer within the deadline")),
        };
        let is_current = self.current(reader.partition).is_some_and(|now| now.reader.epoch == reader.epoch);
        if is_current { Ok(snapshot) } else { Err(failed("the session with Redis was lost meanwhile")) }
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
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let rest = self.rest;
                let runtime = match runtime.enable_all().on_thread_park(move || rest::before_sleep(rest)).build() {
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
        self.read_now(channel, between, limit).boxed()
    }
}
