//! Connections to Redis: every one with a deadline, without Nagle's delay, and with a peer that is noticed when it is gone.
//!
//! The library's own defaults would wait for ever in places, and hold small writes back. It must not reconnect by itself:
//! its automatic resubscription loses channels, so whoever holds a connection learns of its end and opens another.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::cluster::Cluster;
use super::sentinel::Sentinels;
use super::server::{Server, prepare};
use super::settings::Settings;
use super::url;

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

/// Leads to a server, to the one that Sentinels name, or to those of a Cluster. Cheap to clone.
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
    Cluster(Arc<Cluster>),
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
            url::Target::Cluster(mut cluster) => {
                cluster.server = prepare(cluster.server, settings)?;
                Target::Cluster(Arc::new(Cluster::new(cluster, shared.clone())))
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

    /// The server to connect to now, for all that is of no channel. Sentinels, or nodes of the Cluster, are asked for it each time,
    /// within the deadline of connecting.
    ///
    /// # Errors
    /// Where none of them says.
    pub async fn server(&self) -> Result<Server, RedisError> {
        self.server_of(0).await
    }

    /// The same for a partition: on a Cluster each may be on another one.
    ///
    /// # Errors
    /// As [`server`](Self::server).
    pub async fn server_of(&self, partition: u16) -> Result<Server, RedisError> {
        match &self.target {
            Target::One(server) => Ok(Server::clone(server)),
            Target::Sentinels(sentinels) => sentinels.server().await,
            Target::Cluster(cluster) => cluster.server(partition).await,
        }
    }

    /// A server for each that has some partition, with one that it has; a single one where there is no Cluster.
    ///
    /// # Errors
    /// As [`server`](Self::server), and where some partition is nowhere.
    pub async fn servers(&self) -> Result<Vec<(u16, Server)>, RedisError> {
        match &self.target {
            Target::Cluster(cluster) => cluster.servers().await,
            Target::One(_) | Target::Sentinels(_) => Ok(vec![(0, self.server().await?)]),
        }
    }

    /// Waits until another server is named for `partition` than is now; for ever where nobody names any. For those who wait before
    /// they try again: it need not be longer than that.
    pub async fn turns(&self, partition: u16) {
        let known = match &self.target {
            Target::One(_) => None,
            Target::Sentinels(sentinels) => sentinels.known(),
            Target::Cluster(cluster) => cluster.known(partition),
        };
        match known {
            Some(server) => server.left().await,
            None => std::future::pending().await,
        }
    }

    /// The server of a partition as it was known the last time, if it is still the one as far as anybody has said since.
    #[must_use]
    pub fn known(&self, partition: u16) -> Option<Server> {
        let known = match &self.target {
            Target::One(server) => Some(Server::clone(server)),
            Target::Sentinels(sentinels) => sentinels.known(),
            Target::Cluster(cluster) => cluster.known(partition),
        };
        known.filter(|server| !server.is_left())
    }

    /// Whether the servers are those of a Cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
    }

    /// A connection for commands. Its end shows in the next command.
    ///
    /// # Errors
    /// Whatever stands in the way, within the deadline, which those who are asked for the server have once more.
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
        // Our own, of Sentinels and of a Cluster's nodes.
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
        for url in [
            "redis://hunter2@h",
            "redis+sentinel://hunter2@h,i/m",
            "redis+sentinel://me:hunter2@h",
            "redis+cluster://me:hunter2@h/1",
        ] {
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
