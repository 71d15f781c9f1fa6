//! TLS on a port that is listened on: certificate and key from PEM files, which may change while it is served, and one
//! handshake, which has a deadline.
//!
//! Under the TLS lies a [`TimedStream`], so the write timeout, and the close that reads on, are about the socket itself.

mod pair;
mod stream;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::pair::{Stamp, stamp};
pub use self::stream::ClientStream;
use super::{Peer, TimedStream};
use crate::config::ConfigError;

/// From a socket that was accepted to the end of its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes that wait in one connection's TLS layer in each direction.
const BUFFER: usize = 64 << 10;
/// For who speaks plain HTTP to a port of TLS, and would otherwise see but a connection that ended.
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 40\r\n\
                         Connection: close\r\n\r\nThis port speaks TLS: begin by https://\n";

/// The `[tls]` section, the same for gateway and publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// PEM file: the certificate of this server, then those between it and its authority. Without it the port is plain.
    pub certificate: Option<PathBuf>,
    /// PEM file: the private key of that certificate.
    pub key: Option<PathBuf>,
}

impl TlsSettings {
    /// Rules between keys, each error naming its key (`tls.key`). Files are not opened.
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let missing = |key: &str, other: &str| {
            vec![ConfigError::invalid(other, format!("there is no {key} to go with it, and TLS takes both"))]
        };
        match (&self.certificate, &self.key) {
            (Some(_), None) => missing("tls.key", "tls.certificate"),
            (None, Some(_)) => missing("tls.certificate", "tls.key"),
            _ => Vec::new(),
        }
    }

    /// Reads the files, and says what is wrong with either.
    #[must_use]
    pub fn check_files(&self) -> Vec<ConfigError> {
        let certificate = self.certificate.as_deref().map(|file| pair::certificates(file).map(drop));
        let key = self.key.as_deref().map(|file| pair::private_key(file).map(drop));
        let mut wrong: Vec<_> = certificate.into_iter().chain(key).filter_map(Result::err).collect();
        if wrong.is_empty()
            && let (Some(certificate), Some(key)) = (&self.certificate, &self.key)
        {
            wrong.extend(read(certificate, key, &[]).err());
        }
        wrong.into_iter().map(ConfigError::from).collect()
    }

    /// Whether the port speaks TLS.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.certificate.is_some() && self.key.is_some()
    }
}

/// Why certificate and key cannot be used: which setting, which file, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {}: {reason}", file.display())]
pub struct TlsError {
    pub(super) key: &'static str,
    pub(super) file: PathBuf,
    pub(super) reason: String,
}

impl From<TlsError> for ConfigError {
    fn from(TlsError { key, file, reason }: TlsError) -> Self {
        Self::invalid(key, format!("{}: {reason}", file.display()))
    }
}

/// How sockets of one port come to speak TLS 1.2 or 1.3. Shared by its listener and by whoever reloads the files.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// What is offered by ALPN, the dearest first.
    protocols: Vec<Vec<u8>>,
    /// What handshakes from now on use. Written by [`reload`](Self::reload), read by each handshake at its beginning;
    /// connections keep the one they began with.
    current: RwLock<Current>,
    /// What the files looked like before they were last read, well or not. Written and read by whoever reloads.
    seen: Mutex<[Stamp; 2]>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// By which a pair is known that has not changed: its key fits, so it has not changed either.
    chain: Vec<CertificateDer<'static>>,
}

impl Tls {
    /// Reads certificate and key; `None` where none are set. `protocols` are offered by ALPN, such as `h2` and `http/1.1`.
    ///
    /// # Errors
    /// [`TlsError`]: a file that cannot be read or holds no such thing, or a key of another certificate.
    pub fn load(settings: &TlsSettings, protocols: &[&str]) -> Result<Option<Arc<Self>>, TlsError> {
        let (Some(certificate), Some(key)) = (settings.certificate.clone(), settings.key.clone()) else {
            return Ok(None);
        };
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let seen = Mutex::new([stamp(&certificate), stamp(&key)]);
        let current = RwLock::new(read(&certificate, &key, &protocols)?);
        Ok(Some(Arc::new(Self { certificate, key, protocols, current, seen })))
    }

    /// Reads the files again. Handshakes that begin from now on use what is in them; connections that are open stay as they
    /// are. Returns whether anything else is in use now. It reads files: call it where that may block.
    ///
    /// # Errors
    /// [`TlsError`], as [`load`](Self::load); then nothing has changed.
    pub fn reload(&self) -> Result<bool, TlsError> {
        // Before they are read: what is written meanwhile shows as a change the next time.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.stamps();
        let new = read(&self.certificate, &self.key, &self.protocols)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.chain != new.chain;
        if changed {
            *current = new;
        }
        Ok(changed)
    }

    /// Whether the files look otherwise than when they were last read, well or not: by time, length and identity.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != self.stamps()
    }

    fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.certificate), stamp(&self.key)]
    }

    /// The handshake of an accepted socket. `peer` is told when the socket takes nothing for `write_timeout`.
    ///
    /// # Errors
    /// Whatever keeps it from becoming a TLS connection; [`TimedOut`](io::ErrorKind::TimedOut) after
    /// [`HANDSHAKE_TIMEOUT`]. It is about this one client.
    pub async fn accept(
        &self,
        socket: TcpStream,
        peer: Arc<Peer>,
        write_timeout: Duration,
    ) -> io::Result<ClientStream> {
        let handshake = self.handshake(socket, peer, write_timeout);
        timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn handshake(&self, socket: TcpStream, peer: Arc<Peer>, write_timeout: Duration) -> io::Result<ClientStream> {
        let mut first = [0];
        let is_empty = socket.peek(&mut first).await? == 0;
        let stream = TimedStream::new(socket, peer.clone(), write_timeout);
        if is_empty {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A method's name; TLS begins with the byte 22.
        if first[0].is_ascii_uppercase() {
            refuse(stream, &peer).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP where TLS is spoken"));
        }
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner).config.clone();
        let bounded = |connection: &mut rustls::ServerConnection| connection.set_buffer_limit(Some(BUFFER));
        let stream = TlsAcceptor::from(config).accept_with(stream, bounded).await?;
        Ok(ClientStream::Tls(Box::new(stream)))
    }
}

/// Says in plain HTTP that this is no port for it.
async fn refuse(mut stream: TimedStream, peer: &Peer) -> io::Result<()> {
    stream.write_all(SPEAK_TLS.as_bytes()).await?;
    peer.set_unread();
    stream.shutdown().await
}

fn read(certificate: &Path, key: &Path, protocols: &[Vec<u8>]) -> Result<Current, TlsError> {
    let chain = pair::certificates(certificate)?;
    let secret = pair::private_key(key)?;
    let wrong = |error: &rustls::Error| TlsError {
        key: "tls.key",
        file: key.to_owned(),
        reason: match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("it is not the key of the certificate in {}", certificate.display())
            }
            other => other.to_string(),
        },
    };
    let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions = versions.with_safe_default_protocol_versions().map_err(|error| wrong(&error))?;
    let config = versions.with_no_client_auth().with_single_cert(chain.clone(), secret);
    let mut config = config.map_err(|error| wrong(&error))?;
    config.alpn_protocols = protocols.to_vec();
    // What a client needs to come back quickly, it keeps itself. The secret under it is this configuration's own, so that
    // nobody comes back to a certificate that was replaced.
    config.ticketer = ring::Ticketer::new().map_err(|error| wrong(&error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Current { config: Arc::new(config), chain })
}

#[cfg(test)]
mod tests;
