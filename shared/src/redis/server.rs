//! One server, for as long as it is the one to go to: how it is connected to, and how whoever holds a connection learns that
//! another one is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisError, TlsCertificates};
use socket2::TcpKeepalive;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{ClientError, describe};
use super::settings::Settings;

/// A link that is silent for so long is asked by the kernel whether it is still there, and again every [`PROBES_EVERY`]. Well below
/// the user timeout: beyond that, the first probe that is lost would be the end of it.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const PROBES_EVERY: Duration = Duration::from_secs(2);
/// Sent and not acknowledged for so long: the kernel gives the link up (Linux).
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// After another server was named, everybody who asks every second has left the one before.
const SETTLE: Duration = Duration::from_secs(2);
/// Commands that may wait to be written on one connection; more wait in their callers.
const PIPELINE_BUFFER: usize = 1_024;

/// A server, for as long as it is the one to go to. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    inner: redis::Client,
    address: Arc<str>,
    settings: Arc<Settings>,
    /// Sentinels or nodes of a Cluster have named it, so it has to say that it is a primary: they may be behind.
    is_named: bool,
    /// When it took the place of another one, as we were told.
    since: Option<Instant>,
    /// Done once they name another one.
    left: CancellationToken,
    /// It took the place of one that may have lost data, and nobody has begun on it since.
    doubted: Arc<AtomicBool>,
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
        Ok(Self {
            inner,
            address,
            settings,
            is_named,
            since: None,
            left: CancellationToken::new(),
            doubted: Arc::default(),
        })
    }

    /// The server's URL without its password, for people.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until another server is the one, as Sentinels or a Cluster's nodes say; for ever where there are none. Connections to this
    /// one had better end then, though they may still be open: a primary that is cut off from the others is still one to those who
    /// reach it.
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

    /// The same, and that one, or one before it on which nobody has begun, may have lost data that were acknowledged.
    pub(super) fn doubted(self) -> Self {
        self.doubted.store(true, Ordering::Relaxed);
        self
    }

    /// Whether data may have been lost on the way to this server that it may not know of: on a Cluster, one whose partition came from
    /// a server that was lost. Until somebody has begun another life of them, or knows that there is one: [`believe`](Self::believe).
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// What it says of its data is true from now on.
    pub fn believe(&self) {
        self.doubted.store(false, Ordering::Relaxed);
    }

    /// Waits until whoever went to the server before has had the time to learn that it is none any more. What that one acknowledges
    /// meanwhile is lost: whoever is told of a gap only after this is told of that too.
    pub async fn settled(&self) {
        if let Some(since) = self.since {
            sleep_until(since + SETTLE).await;
        }
    }

    /// Whether others have named it: [`connect`](Self::connect) looks then whether it is a primary.
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

    /// Deadline of a call.
    #[must_use]
    pub fn command_timeout(&self) -> Duration {
        self.settings.command_timeout
    }

    /// As in the settings.
    #[must_use]
    pub fn trusts_failover(&self) -> bool {
        self.settings.trust_failover
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

    /// While a failover is under way, others may still name a server that is a replica by now.
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
        let what = format!("{}, which is named as the primary, is none", self.address);
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
pub(super) fn prepare(mut info: ConnectionInfo, settings: &Settings) -> Result<ConnectionInfo, ClientError> {
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

/// The template's user, certificates and settings, at another place.
pub(super) fn at(template: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let addr = match template.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    template.clone().set_addr(addr)
}
