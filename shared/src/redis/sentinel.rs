//! Asks Sentinels which server is the primary, anew for every connection, and every second whether it still is.
//!
//! They are asked all at once, each within the deadline of connecting. Of what they say that counts which has the highest epoch: one
//! that was cut off from the others, or has just come back, still names the primary before. Whoever is first waits a moment for the
//! others; whoever is behind what was known already, until the deadline. One that is slow is not cut short by that: what it says is for
//! nobody then, but its connection stays.

mod choice;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError, RedisResult};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use self::choice::{Named, choose};
use super::client::{ClientError, describe};
use super::server::{Server, at, connection_config};
use super::settings::Settings;
use super::url;

/// How long the first answer waits for others, which may know better: longer than one within a data centre takes, and nobody
/// notices it, since what waits is a connection.
const OTHERS: Duration = Duration::from_millis(200);
/// How often they are asked whether it still is the primary.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Some Sentinels that know a primary by name. Dropping it ends the watch.
pub(super) struct Sentinels {
    all: Vec<Arc<Sentinel>>,
    name: Arc<str>,
    /// As whom to go to the servers, and how.
    server: ConnectionInfo,
    settings: Arc<Settings>,
    /// What they have named the last time. Written by whoever asked.
    named: Mutex<Option<(Named, Server)>>,
    /// The task that asks every second, from the first answer on; it ends with the runtime that it was started on.
    watch: Mutex<JoinSet<()>>,
    /// Of the questions that are out. Each ends by its deadline.
    asking: TaskTracker,
}

struct Sentinel {
    client: redis::Client,
    /// `host:port`.
    place: String,
    /// `None`: not asked yet, or the last one failed. Held while it is asked, so one asks at a time.
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    /// The log has said that it does not answer.
    is_told: AtomicBool,
}

impl Sentinels {
    /// Connects to nothing yet.
    pub(super) fn new(of: url::Sentinels, settings: Arc<Settings>) -> Result<Self, ClientError> {
        let url::Sentinels { places, name, server } = of;
        let mut user = RedisConnectionInfo::default();
        if let Some(password) = &settings.sentinel_password {
            user = user.set_password(password);
        }
        if let Some(name) = &settings.sentinel_user {
            user = user.set_username(name);
        }
        let sentinel = |(host, port): (String, u16)| {
            let place = url::host_and_port(&host, port);
            let info = at(&server, host, port).set_redis_settings(user.clone());
            let client = redis::Client::open(info).map_err(|error| ClientError::Url(describe(&error)))?;
            let (connection, is_told) = (tokio::sync::Mutex::default(), AtomicBool::new(false));
            Ok(Arc::new(Sentinel { client, place, connection, is_told }))
        };
        let all = places.into_iter().map(sentinel).collect::<Result<Vec<_>, _>>()?;
        let (named, watch, asking) = (Mutex::default(), Mutex::default(), TaskTracker::new());
        Ok(Self { all, name: name.into(), server, settings, named, watch, asking })
    }

    /// The primary as they name it now.
    pub(super) async fn server(self: &Arc<Self>) -> Result<Server, RedisError> {
        let server = self.ask().await?;
        let mut watching = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        while watching.try_join_next().is_some() {}
        if watching.is_empty() {
            watching.spawn(watch(Arc::downgrade(self)));
        }
        Ok(server)
    }

    /// The primary as they named it the last time.
    pub(super) fn known(&self) -> Option<Server> {
        self.named().as_ref().map(|(_, server)| server.clone())
    }

    async fn ask(&self) -> Result<Server, RedisError> {
        let deadline = Instant::now() + self.settings.connect_timeout;
        let known = self.named().as_ref().map(|(named, _)| named.epoch);
        let ask = |sentinel: &Arc<Sentinel>| {
            let (sentinel, name, settings) = (sentinel.clone(), self.name.clone(), self.settings.clone());
            // It outlives this call, up to the deadline: a connection that is being opened is not thrown away.
            self.asking.spawn(async move { sentinel.ask(&name, &settings, deadline).await })
        };
        let mut asked: FuturesUnordered<_> = self.all.iter().map(ask).collect();
        let (mut answers, mut failures, mut until) = (Vec::new(), Vec::new(), deadline);
        while let Ok(Some(answer)) = timeout_at(until, asked.next()).await {
            match answer {
                Ok(Ok(named)) => {
                    if known.is_none_or(|known| known <= named.epoch) {
                        until = until.min(Instant::now() + OTHERS);
                    }
                    answers.push(named);
                }
                Ok(Err(failure)) => failures.push(failure),
                // The runtime ends.
                Err(_) => {}
            }
        }
        if answers.is_empty() { Err(failure(failures, self.all.len())) } else { self.settle(answers) }
    }

    /// Takes note of what they say. Where it is another server than before, that one is left.
    fn settle(&self, answers: Vec<Named>) -> Result<Server, RedisError> {
        let mut known = self.named();
        let chosen = choose(known.as_ref().map(|(named, _)| named), answers, self.all.len());
        let Some(named) = chosen else { return Err(late()) };
        if let Some((before, server)) = &mut *known
            && before.is_at(&named)
        {
            *before = named;
            return Ok(server.clone());
        }
        let info = at(&self.server, named.host.clone(), named.port);
        let scheme = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) { "rediss" } else { "redis" };
        let address = format!("{scheme}://{}", url::host_and_port(&named.host, named.port));
        let mut server = Server::new(info, address.into(), self.settings.clone(), true).map_err(io::Error::other)?;
        if known.is_some() {
            server = server.instead();
        }
        if let Some((_, before)) = known.replace((named, server.clone())) {
            tracing::info!(before = before.address(), now = server.address(), "the Sentinels name another primary");
            before.leave();
        }
        Ok(server)
    }

    fn named(&self) -> MutexGuard<'_, Option<(Named, Server)>> {
        // Nothing under this lock can panic half-way.
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sentinel {
    /// Says once in the log that it does not answer, and once that it does again: as long as others do, nobody else notices.
    async fn ask(&self, name: &str, settings: &Settings, deadline: Instant) -> Result<Named, Failure> {
        let answer = timeout_at(deadline, self.ask_once(name, settings)).await.unwrap_or_else(|_| Err(late()));
        match &answer {
            Ok(_) if self.is_told.swap(false, Ordering::Relaxed) => {
                tracing::info!(sentinel = self.place, "a Sentinel answers again");
            }
            Err(error) if !self.is_told.swap(true, Ordering::Relaxed) => {
                tracing::warn!(sentinel = self.place, reason = %describe(error), "a Sentinel does not say who is the primary");
            }
            _ => {}
        }
        answer.map_err(|error| Failure { sentinel: self.place.clone(), error })
    }

    async fn ask_once(&self, name: &str, settings: &Settings) -> Result<Named, RedisError> {
        let mut kept = self.connection.lock().await;
        // Gone while it is in use: one that was given up half-way is not used again.
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.client.get_multiplexed_async_connection_with_config(&connection_config(settings)).await?,
        };
        // While a failover is under way the first still tells the address before, beside the epoch of the new one; the second tells
        // the new address, and no epoch.
        let mut both = redis::pipe();
        both.cmd("SENTINEL").arg("MASTER").arg(name);
        both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let answer: RedisResult<Answers> = both.query_async(&mut connection).await;
        if answer.as_ref().map_or_else(|error| !error.is_io_error(), |_| true) {
            *kept = Some(connection);
        }
        let (fields, address) = answer?;
        let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        let named = address.filter(|(host, _)| !host.is_empty()).zip(epoch);
        let named = named.map(|((host, port), epoch)| Named { host, port, epoch });
        named.ok_or_else(|| io::Error::other("its answer cannot be read").into())
    }
}

/// The fields of the primary, and its address.
type Answers = (HashMap<String, String>, Option<(String, u16)>);

/// Of one Sentinel.
struct Failure {
    sentinel: String,
    error: RedisError,
}

/// What none of `all` has said. Only where each of them refuses is that what it will be.
fn failure(mut failures: Vec<Failure>, all: usize) -> RedisError {
    let refuses = |failure: &Failure| !failure.error.is_io_error();
    let is_final = failures.len() == all && failures.iter().all(refuses);
    failures.sort_by_key(|failure| !refuses(failure));
    let Some(Failure { sentinel, error }) = failures.into_iter().next() else { return late() };
    let hint = match error.kind() {
        ErrorKind::AuthenticationFailed => ", see redis.sentinel_user and redis.sentinel_password",
        _ if error.code() == Some("NOAUTH") => ", see redis.sentinel_password",
        _ => "",
    };
    let what = format!("Sentinel {sentinel}: {}{hint}", describe(&error));
    match is_final {
        true => (ErrorKind::InvalidClientConfig, "no Sentinel says who is the primary", what).into(),
        false => io::Error::new(io::ErrorKind::NotConnected, what).into(),
    }
}

fn late() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "no Sentinel has answered within the deadline").into()
}

/// Asks again and again: whoever has a connection to a primary that is none any more learns of it, even where that one still answers.
async fn watch(sentinels: Weak<Sentinels>) {
    let mut is_told = false;
    loop {
        sleep(WATCH_INTERVAL).await;
        let Some(sentinels) = sentinels.upgrade() else { return };
        match sentinels.ask().await {
            Ok(_) if std::mem::take(&mut is_told) => tracing::info!("the Sentinels answer again"),
            Ok(_) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        reason = %describe(&error),
                        "no Sentinel tells who is the primary; connections to the one before stay"
                    );
                }
            }
        }
    }
}
