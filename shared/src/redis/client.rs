//! Connections to Redis: every one with a deadline, without Nagle's delay, and with a peer that is noticed when it is gone.
//!
//! The library's own defaults would wait for ever in places, and hold small writes back. It must not reconnect by itself:
//! its automatic resubscription loses channels, so whoever holds a connection learns of its end and opens another.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion, RedisError, ServerErrorKind,
    TlsCertificates,
};
use socket2::TcpKeepalive;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::sentinel::Sentinels;
use super::settings::Settings;
use super::url;

/// A link that is silent for so long is asked by the kernel whether it is still there, and again every [`PROBES_EVERY`]. Well below
/// the user timeout: beyond that, the first probe that is lost would be the end of it.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const PROBES_EVERY: Duration = Duration::from_secs(2);
/// Sent and not acknowledged for so long: the kernel gives the link up (Linux).
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// After Sentinels have named another server, everybody who asks them every second has left the one before.
const SETTLE: Duration = Duration::from_secs(2);
/// Commands that may wait to be written on one connection; more wait in their callers.
const PIPELINE_BUFFER: usize = 1_024;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `redis.url` is not set.
    #[error("redis.url is not set")]
    NoUrl,
    /// It cannot be read.
    #[error("redis.url: {0}")]
    Url(String),
    /// A file of certificates cannot be read, or holds none.
    #[error("redis.ca_file: {}: {reason}", path.display())]
    CaFile {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Leads to a server, or to the one that Sentinels name. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    target: Target,
    address: Arc<str>,
    settings: Arc<Settings>,
}

#[derive(Clone)]
enum Target {
    One(Box<Server>),
    Sentinels(Arc<Sentinels>),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.address).finish()
    }
}

impl Client {
    /// Reads the URL, and the certificates where there are some. Connects to nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let url = settings.url.as_deref().ok_or(ClientError::NoUrl)?;
        let beside = settings.password.as_deref();
        url::check(url, beside).map_err(ClientError::Url)?;
        let address: Arc<str> = url::without_password(url, beside).into();
        let shared = Arc::new(settings.clone());
        let target = match url::parse(url).map_err(ClientError::Url)? {
            url::Target::Server(info) => {
                Target::One(Box::new(Server::new(prepare(info, settings)?, address.clone(), shared.clone(), false)?))
            }
            url::Target::Sentinels(mut sentinels) => {
                sentinels.server = prepare(sentinels.server, settings)?;
                Target::Sentinels(Arc::new(Sentinels::new(sentinels, shared.clone())?))
            }
        };
        Ok(Self { target, address, settings: shared })
    }

    /// The URL without its password, for people.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server to connect to now. Sentinels are asked for it each time, within the deadline of connecting.
    ///
    /// # Errors
    /// Where no Sentinel says.
    pub async fn server(&self) -> Result<Server, RedisError> {
        match &self.target {
            Target::One(server) => Ok(Server::clone(server)),
            Target::Sentinels(sentinels) => sentinels.server().await,
        }
    }

    /// Waits until Sentinels name another server than they do now; for ever where there are none. For those who wait before they try
    /// again: it need not be longer than that.
    pub async fn turns(&self) {
        let known = match &self.target {
            Target::One(_) => None,
            Target::Sentinels(sentinels) => sentinels.known(),
        };
        match known {
            Some(server) => server.left().await,
            None => std::future::pending().await,
        }
    }

    /// A connection for commands. Its end shows in the next command.
    ///
    /// # Errors
    /// Whatever stands in the way, within the deadline, which Sentinels have once more.
    pub async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        self.server().await?.connect().await
    }

    /// As [`Server::connect_with_push`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with_push(&self, push: impl AsyncPushSender) -> Result<MultiplexedConnection, RedisError> {
        self.server().await?.connect_with_push(push).await
    }
}

/// A server, for as long as it is the one to go to. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    inner: redis::Client,
    address: Arc<str>,
    settings: Arc<Settings>,
    /// Sentinels have named it, so it has to say that it is a primary: they may be behind.
    is_named: bool,
    /// When it took the place of another one, as we were told.
    since: Option<Instant>,
    /// Done once they name another one.
    left: CancellationToken,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.address).finish()
    }
}

impl Server {
    pub(super) fn new(
        info: ConnectionInfo,
        address: Arc<str>,
        settings: Arc<Settings>,
        is_named: bool,
    ) -> Result<Self, ClientError> {
        let inner = redis::Client::open(info).map_err(|error| ClientError::Url(describe(&error)))?;
        Ok(Self { inner, address, settings, is_named, since: None, left: CancellationToken::new() })
    }

    /// The server's URL without its password, for people.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until another server is the one, as Sentinels say; for ever where there are none. Connections to this one had better
    /// end then, though they may still be open: a primary that is cut off from the others is still one to those who reach it.
    pub async fn left(&self) {
        self.left.cancelled().await;
    }

    /// Whether [`left`](Self::left) is done.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.left.is_cancelled()
    }

    /// It takes the place of another one from now on.
    pub(super) fn instead(self) -> Self {
        Self { since: Some(Instant::now()), ..self }
    }

    /// Waits until whoever went to the server before has had the time to learn that it is none any more. What that one acknowledges
    /// meanwhile is lost: whoever is told of a gap only after this is told of that too.
    pub async fn settled(&self) {
        if let Some(since) = self.since {
            sleep_until(since + SETTLE).await;
        }
    }

    /// Whether Sentinels have named it: [`connect`](Self::connect) looks then whether it is a primary.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    pub(super) fn leave(&self) {
        self.left.cancel();
    }

    /// For pools: where and as whom to connect.
    #[must_use]
    pub fn connection_info(&self) -> &ConnectionInfo {
        self.inner.get_connection_info()
    }

    /// For pools: the deadlines.
    #[must_use]
    pub fn connection_config(&self) -> AsyncConnectionConfig {
        connection_config(&self.settings)
    }

    /// A connection for commands. Its end shows in the next command.
    ///
    /// # Errors
    /// Whatever stands in the way, within the deadline.
    pub async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = self.connection_config();
        self.looked_at(self.inner.get_multiplexed_async_connection_with_config(&config)).await
    }

    /// A connection by RESP3, on which the server also pushes: subscriptions' messages and the connection's own end go to
    /// `push`, in order, called on the task that reads the socket.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); a server before Redis 6 knows no RESP3.
    pub async fn connect_with_push(&self, push: impl AsyncPushSender) -> Result<MultiplexedConnection, RedisError> {
        let info = self.inner.get_connection_info();
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = redis::Client::open(info.clone().set_redis_settings(redis))?;
        let config = self.connection_config().set_push_sender(push);
        self.looked_at(client.get_multiplexed_async_connection_with_config(&config)).await
    }

    /// While a failover is under way, Sentinels may still name a server that is a replica by now.
    async fn looked_at(
        &self,
        connecting: impl Future<Output = Result<MultiplexedConnection, RedisError>>,
    ) -> Result<MultiplexedConnection, RedisError> {
        if !self.is_named {
            return connecting.await;
        }
        let looking = async {
            let mut connection = connecting.await?;
            // Not by ROLE, which would be one right more to give.
            let replication: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
            Ok::<_, RedisError>((connection, replication))
        };
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        let (connection, replication) = timeout(self.settings.connect_timeout, looking).await.unwrap_or_else(late)?;
        if replication.lines().any(|line| line == "role:master") {
            return Ok(connection);
        }
        let what = format!("{}, which the Sentinels name, is no primary", self.address);
        Err(io::Error::new(io::ErrorKind::NotConnected, what).into())
    }
}

pub(super) fn connection_config(settings: &Settings) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connect_timeout))
        .set_response_timeout(Some(settings.command_timeout))
        .set_pipeline_buffer_size(PIPELINE_BUFFER)
}

/// With the password that stands beside the URL, the certificates, and how sockets are to be.
fn prepare(mut info: ConnectionInfo, settings: &Settings) -> Result<ConnectionInfo, ClientError> {
    if let Some(password) = &settings.password {
        let redis = info.redis_settings().clone().set_password(password);
        info = info.set_redis_settings(redis);
    }
    let info = info.set_tcp_settings(tcp_settings());
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(info);
    }
    // Whoever installed a provider before us has decided; only one can be the process's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(path) = &settings.ca_file else { return Ok(info) };
    let ca_error = |reason: String| ClientError::CaFile { path: path.clone(), reason };
    let pem = std::fs::read(path).map_err(|error| ca_error(error.to_string()))?;
    if !pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
        return Err(ca_error("it holds no PEM certificate".to_owned()));
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let client = redis::Client::build_with_tls(info, certificates).map_err(|error| ca_error(describe(&error)))?;
    Ok(client.get_connection_info().clone())
}

fn tcp_settings() -> TcpSettings {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(PROBES_EVERY);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keep_alive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    settings
}

/// The first of the server's errors, where several commands went out together; else `error` itself.
#[must_use]
pub fn first_error(error: &RedisError) -> RedisError {
    let all = error.clone().into_server_errors();
    all.and_then(|errors| Some(RedisError::from(errors.first()?.1.clone()))).unwrap_or_else(|| error.clone())
}

/// Whether the server refused because it is full (`maxmemory`, and nothing that it may evict).
#[must_use]
pub fn is_out_of_memory(error: &RedisError) -> bool {
    first_error(error).code() == Some("OOM")
}

/// Whether the server refused because its user may not do that (ACL).
#[must_use]
pub fn is_not_permitted(error: &RedisError) -> bool {
    first_error(error).kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// What went wrong in a few words for people, without the library's own names for it.
#[must_use]
pub fn describe(error: &RedisError) -> String {
    let error = &first_error(error);
    if error.is_connection_refusal() {
        return "connection refused".to_owned();
    }
    if error.is_timeout() {
        return "no answer within the deadline".to_owned();
    }
    match (error.kind(), error.code(), error.detail()) {
        (ErrorKind::AuthenticationFailed, _, _) => "user or password is wrong, or the server has none".to_owned(),
        // Our own, of Sentinels.
        (ErrorKind::InvalidClientConfig, _, Some(detail)) => detail.to_owned(),
        (ErrorKind::Io, _, _) if broken_pipe(error) => "the connection was closed".to_owned(),
        (_, Some(code), Some(detail)) if code != "ERR" => format!("{code} {}", without_arguments(detail)),
        (_, Some(_), Some(detail)) => without_arguments(detail).to_owned(),
        _ => error.to_string(),
    }
}

/// Of an unknown command Redis repeats the arguments, which may be a password.
fn without_arguments(detail: &str) -> &str {
    detail.split_once(", with args beginning with").map_or(detail, |(command, _)| command)
}

fn broken_pipe(error: &RedisError) -> bool {
    error.to_string().contains(&io::Error::from(io::ErrorKind::BrokenPipe).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_and_no_text_has_what_may_be_a_password() {
        for url in ["redis://hunter2@h", "redis+sentinel://hunter2@h,i/m", "redis+sentinel://me:hunter2@h"] {
            let settings = Settings { sentinel_password: Some("hunter2".to_owned()), ..Settings::new(url) };
            assert!(!Client::new(&settings).unwrap_err().to_string().contains("hunter2"), "{url}");
            assert!(!format!("{settings:?}").contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn certificates_are_read_at_once() {
        let with = |path: &std::path::Path| {
            Client::new(&Settings { ca_file: Some(path.to_owned()), ..Settings::new("rediss://127.0.0.1") })
        };
        let folder = tempfile::tempdir().unwrap();
        let missing = with(&folder.path().join("none.pem")).unwrap_err().to_string();
        assert!(missing.starts_with("redis.ca_file: ") && missing.contains("No such file"), "{missing}");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let empty = with(&empty).unwrap_err().to_string();
        assert!(empty.ends_with("it holds no PEM certificate"), "{empty}");
    }
}
