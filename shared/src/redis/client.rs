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
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError,
    ServerErrorKind, TlsCertificates,
};
use socket2::TcpKeepalive;

use super::settings::Settings;

/// A link that is silent for so long is asked by the kernel whether it is still there, and again every [`PROBES_EVERY`]. Well below
/// the user timeout: beyond that, the first probe that is lost would be the end of it.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const PROBES_EVERY: Duration = Duration::from_secs(2);
/// Sent and not acknowledged for so long: the kernel gives the link up (Linux).
const USER_TIMEOUT: Duration = Duration::from_secs(10);
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

/// Opens connections to one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: redis::Client,
    address: Arc<str>,
    settings: Arc<Settings>,
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
        check_url(url).map_err(ClientError::Url)?;
        let mut info = url.into_connection_info().map_err(|error| ClientError::Url(describe(&error)))?;
        if let Some(password) = &settings.password {
            let redis = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(redis);
        }
        let info = info.set_tcp_settings(tcp_settings());
        let inner = open(info, settings)?;
        Ok(Self { inner, address: without_password(url).into(), settings: Arc::new(settings.clone()) })
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

    /// For pools: where and as whom to connect.
    #[must_use]
    pub fn connection_info(&self) -> &ConnectionInfo {
        self.inner.get_connection_info()
    }

    /// For pools: the deadlines.
    #[must_use]
    pub fn connection_config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(Some(self.settings.command_timeout))
            .set_pipeline_buffer_size(PIPELINE_BUFFER)
    }

    /// A connection for commands. Its end shows in the next command.
    ///
    /// # Errors
    /// Whatever stands in the way, within the deadline.
    pub async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        self.inner.get_multiplexed_async_connection_with_config(&self.connection_config()).await
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
        client.get_multiplexed_async_connection_with_config(&self.connection_config().set_push_sender(push)).await
    }
}

fn open(info: ConnectionInfo, settings: &Settings) -> Result<redis::Client, ClientError> {
    let url_error = |error: RedisError| ClientError::Url(describe(&error));
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return redis::Client::open(info).map_err(url_error);
    }
    // Whoever installed a provider before us has decided; only one can be the process's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(path) = &settings.ca_file else {
        return redis::Client::open(info).map_err(url_error);
    };
    let ca_error = |reason: String| ClientError::CaFile { path: path.clone(), reason };
    let pem = std::fs::read(path).map_err(|error| ca_error(error.to_string()))?;
    if !pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
        return Err(ca_error("it holds no PEM certificate".to_owned()));
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    redis::Client::build_with_tls(info, certificates).map_err(|error| ca_error(describe(&error)))
}

fn tcp_settings() -> TcpSettings {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(PROBES_EVERY);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keep_alive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    settings
}

/// Whether `url` asks for TLS.
pub(super) fn is_tls(url: &str) -> bool {
    url.starts_with("rediss://") || url.starts_with("valkeys://")
}

/// Whether `url` can be used; the error holds nothing of it.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    const SHAPE: &str = "a Redis URL is redis://[user[:password]@]host[:port], with rediss:// for TLS";
    let schemes = ["redis://", "rediss://", "valkey://", "valkeys://"];
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(SHAPE.to_owned());
    }
    if url.contains('#') {
        return Err(
            "a Redis URL has no fragment; a # in a password is written %23, or the password goes into redis.password"
                .to_owned(),
        );
    }
    if url.contains('?') {
        return Err("a Redis URL has no query here: the protocol is chosen for each connection".to_owned());
    }
    let info = url.into_connection_info().map_err(|error| format!("{}; {SHAPE}", describe(&error)))?;
    match info.redis_settings().db() {
        0 => Ok(()),
        db => Err(format!(
            "a Redis URL has no database here, this one has {db}: Pub/Sub knows none, and two clusters would hear each \
             other; redis.prefix keeps them apart"
        )),
    }
}

/// `url` with `***` for a password, the port always there; `redis` where it cannot be read, since then nobody knows what
/// of it is secret.
pub(super) fn without_password(url: &str) -> String {
    let Ok(info) = url.into_connection_info() else { return "redis".to_owned() };
    let scheme = if is_tls(url) { "rediss" } else { "redis" };
    let redis = info.redis_settings();
    let user = match (redis.username(), redis.password()) {
        (Some(user), Some(_)) => format!("{user}:***@"),
        (Some(user), None) => format!("{user}@"),
        (None, Some(_)) => ":***@".to_owned(),
        (None, None) => String::new(),
    };
    let db = match redis.db() {
        0 => String::new(),
        db => format!("/{db}"),
    };
    let ipv6 = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            format!("{scheme}://{user}{}:{port}{db}", ipv6(host))
        }
        _ => "redis".to_owned(),
    }
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
    fn addresses_hide_passwords() {
        for (url, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
            ("redis://127.0.0.1:6399/2", "redis://127.0.0.1:6399/2"),
            ("redis://:hunter2@h", "redis://:***@h:6379"),
            ("redis://me:hunter2@h:1", "redis://me:***@h:1"),
            ("rediss://me:hunter2@h", "rediss://me:***@h:6379"),
            ("valkeys://h", "rediss://h:6379"),
            ("redis://[::1]:7", "redis://[::1]:7"),
            ("redis://me:hunter2@", "redis"),
        ] {
            assert_eq!(without_password(url), shown, "{url}");
        }
    }

    #[test]
    fn urls_that_are_none() {
        for url in [
            "",
            "127.0.0.1:6379",
            "http://h",
            "redis://",
            "redis://h:99999",
            "redis://h/x",
            "rediss://h#insecure",
            "redis://h?protocol=resp2",
            "redis://h/1",
        ] {
            let error = check_url(url).unwrap_err();
            assert!(error.contains("a Redis URL "), "{url}: {error}");
        }
        let secret = check_url("redis://me:hunter2@h:99999").unwrap_err();
        assert!(!secret.contains("hunter2"), "{secret}");
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
