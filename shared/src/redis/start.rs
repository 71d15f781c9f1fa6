//! The first connection of a process: waits for Redis as long as it may, looks whether the server will do, and loads the
//! functions. What is wrong is said together with what to do.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, from_redis_value};
use tokio::time::{Instant, sleep};

use super::client::{Client, describe, first_error};
use super::functions::Functions;
use super::server::Server;
use crate::keys::Keys;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a slot may take that moves from one server of a Cluster to another.
const MOVE: Duration = Duration::from_secs(10);
/// Oldest server, `<major>.<minor>`.
const OLDEST: (u32, u32) = (6, 2);
/// Oldest with sharded Pub/Sub.
const OLDEST_SHARDED: (u32, u32) = (7, 0);

/// Why a process cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Nobody answers, or not in time.
    #[error(
        "cannot reach Redis at {address}: {reason}; start it, set another with --redis-url, or wait for it with --wait-for-redis 30s"
    )]
    Unreachable {
        /// Without its password.
        address: String,
        /// In a few words.
        reason: String,
    },
    /// It answers, and does not let us do what we have to.
    #[error("Redis at {address} refuses: {reason}; see redis.url and redis.password, and the user's permissions (ACL)")]
    Refused {
        /// Without its password.
        address: String,
        /// In a few words.
        reason: String,
    },
    /// It is not a server to work with.
    #[error("Redis at {address} will not do: {reason}")]
    Unsuitable {
        /// Without its password.
        address: String,
        /// In a few words.
        reason: String,
    },
}

/// A server that will do.
#[derive(Debug, Clone)]
pub struct Started {
    /// How to call the functions there.
    pub functions: Functions,
    /// As it says itself, such as `7.0.15`.
    pub version: String,
    /// Itself; of a Cluster, one of those that are there.
    pub server: Server,
}

/// Connects for the first time, looks at the server, and loads the functions.
///
/// Tries again until `redis.wait` is over, as long as nobody answers or the server is still loading its data. What
/// waiting cannot change is told at once.
///
/// # Errors
/// [`StartError`].
pub async fn start(client: &Client, keys: &Keys) -> Result<Started, StartError> {
    let mut patience = Patience::new(client);
    loop {
        match try_once(client, keys).await {
            Err(error) => patience.wait(error).await?,
            started => return started,
        }
    }
}

/// Waits for a server that is not there, until `redis.wait` is over.
pub(super) struct Patience<'c> {
    client: &'c Client,
    began: Instant,
    give_up: Instant,
    told: bool,
}

impl<'c> Patience<'c> {
    pub(super) fn new(client: &'c Client) -> Self {
        let began = Instant::now();
        Self { client, began, give_up: began + client.settings().wait, told: false }
    }

    /// Whether a Cluster is about to move a slot, or to fail over: that is over soon, however short the patience is.
    fn is_moving(&self, reason: &str) -> bool {
        let code = reason.split(' ').next().unwrap_or_default();
        self.client.is_cluster() && ["ASK", "TRYAGAIN", "MOVED", "CLUSTERDOWN"].contains(&code)
    }

    /// Ends when it is time to try again.
    ///
    /// # Errors
    /// The one that it is given, where the time is over or waiting cannot change it.
    pub(super) async fn wait(&mut self, error: StartError) -> Result<(), StartError> {
        let StartError::Unreachable { address, reason } = &error else { return Err(error) };
        let give_up = if self.is_moving(reason) { self.give_up.max(self.began + MOVE) } else { self.give_up };
        if Instant::now() >= give_up {
            return Err(error);
        }
        if !std::mem::replace(&mut self.told, true) {
            let most = humantime::format_duration(self.client.settings().wait);
            tracing::info!(%address, %reason, %most, "waiting for Redis");
        }
        sleep(PAUSE).await;
        Ok(())
    }
}

/// Of a Cluster, servers that are away when a process begins may come later, as they may when it runs: one that is there is enough.
async fn try_once(client: &Client, keys: &Keys) -> Result<Started, StartError> {
    let servers = client.servers().await.map_err(|error| classify(client, &error))?;
    let (mut started, mut away) = (None, None);
    for (partition, server) in servers {
        match try_server(client, &server, keys, partition).await {
            Ok(functions) => started = started.or(Some(functions)),
            Err(error @ StartError::Unreachable { .. }) => {
                if client.is_cluster() {
                    tracing::warn!(server = server.address(), %error, "a server of the Redis Cluster is away");
                }
                away = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let nobody = || classify(client, &io::Error::from(io::ErrorKind::NotConnected).into());
    started.ok_or_else(|| away.unwrap_or_else(nobody))
}

async fn try_server(client: &Client, server: &Server, keys: &Keys, partition: u16) -> Result<Started, StartError> {
    let failed = |error: RedisError| classify(client, &error);
    let mut connection = server.connect().await.map_err(failed)?;
    let version = check(client, &mut connection).await?;
    // By itself first: the client library loses its count where a transaction is refused at its beginning.
    for command in ["MULTI", "EXEC"] {
        redis::cmd(command).exec_async(&mut connection).await.map_err(failed)?;
    }
    let functions = Functions::load_for(&mut connection, keys, partition).await.map_err(failed)?;
    if partition == 0 && keys.partitions() > 1 {
        agree(client, keys, &mut connection).await?;
    }
    let functions = functions.trusting(client.settings().trust_failover);
    Ok(Started { functions, version, server: server.clone() })
}

/// That all who have several partitions of this Redis and prefix have the same number: with another one, nobody would hear anybody. It is
/// written down by whoever is first. Who may not look there, as by an ACL that is older, does not.
async fn agree(client: &Client, keys: &Keys, connection: &mut MultiplexedConnection) -> Result<(), StartError> {
    let ours = keys.partitions();
    let mut pipe = redis::pipe();
    pipe.cmd("SET").arg(keys.agreed()).arg(ours).arg("NX");
    pipe.cmd("GET").arg(keys.agreed());
    let answers: Vec<RedisResult<Value>> =
        pipe.ignore_errors().query_async(connection).await.map_err(|error| classify(client, &error))?;
    let theirs = answers.into_iter().next_back().and_then(Result::ok);
    let theirs = theirs.and_then(|theirs| from_redis_value::<Option<u16>>(theirs).ok()).flatten();
    match theirs.filter(|theirs| *theirs != ours) {
        None => Ok(()),
        Some(theirs) => Err(StartError::Unsuitable {
            address: client.address().to_owned(),
            reason: format!(
                "redis.partitions is {ours}, and {theirs} of those who came before with this prefix: all gateways and publishers \
                 have to have the same; where they are to have another number from now on, delete {} first",
                keys.agreed()
            ),
        }),
    }
}

/// Returns the server's version.
pub(super) async fn check(client: &Client, connection: &mut MultiplexedConnection) -> Result<String, StartError> {
    let mut info = redis::pipe();
    for section in ["server", "cluster", "replication"] {
        info.cmd("INFO").arg(section);
    }
    let answers: Vec<String> = info.query_async(connection).await.map_err(|error| classify(client, &error))?;
    let text = answers.concat();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("");
    let unsuitable = |reason: String| Err(StartError::Unsuitable { address: client.address().to_owned(), reason });
    match (field("cluster_enabled") == "1", client.is_cluster()) {
        (true, false) => {
            return unsuitable(
                "it is part of a Redis Cluster, where classic Pub/Sub sends every message to every node; with a redis.url of \
                 redis+cluster://host:port,... and with redis.partitions messages go by sharded Pub/Sub"
                    .to_owned(),
            );
        }
        (false, true) => {
            return unsuitable("it is no part of a Redis Cluster: redis.url begins with redis://".to_owned());
        }
        _ => {}
    }
    if field("role") == "slave" {
        return unsuitable(format!(
            "it is a read-only replica; use its primary, {}:{}",
            field("master_host"),
            field("master_port")
        ));
    }
    let version = field("redis_version");
    if client.settings().partitions > 1 && parse_version(version).is_some_and(|version| version < OLDEST_SHARDED) {
        return unsuitable(format!("it is version {version:?}, and several partitions (redis.partitions) need 7.0"));
    }
    // Valkey calls itself Redis 7.2 there, whatever its own version.
    if parse_version(version).is_none_or(|version| version < OLDEST) {
        return unsuitable(format!(
            "it is version {version:?}, and {}.{} is the oldest that works",
            OLDEST.0, OLDEST.1
        ));
    }
    Ok(version.to_owned())
}

/// Whether the server pushes messages: by RESP3, which something in between may not know.
///
/// # Errors
/// [`StartError`].
pub async fn check_push(client: &Client, server: &Server) -> Result<(), StartError> {
    let connected = server.connect_with_push(|_| Ok::<_, redis::aio::SendError>(())).await;
    connected.map(drop).map_err(|error| classify(client, &error))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What `error` means for a start.
#[must_use]
pub fn classify(client: &Client, error: &RedisError) -> StartError {
    let error = first_error(error);
    let (address, reason) = (client.address().to_owned(), describe(&error));
    let refused = matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ReadOnly)
    ) || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
    match error.kind() {
        _ if refused => StartError::Refused { address, reason },
        ErrorKind::Io
        | ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain,
        ) => StartError::Unreachable { address, reason },
        _ => StartError::Unsuitable { address, reason },
    }
}
