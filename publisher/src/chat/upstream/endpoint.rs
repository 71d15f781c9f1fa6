//! The address of an upstream, and the connection to it: TCP, TLS where it is `https`, HTTP/1.1.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const SHAPE: &str = "an upstream is http://host[:port]/path or https://host[:port]/path";
/// A server that is gone without a word is noticed by the kernel before it is by anybody else.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// An address that can be asked. No user, no password, no fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// As it stands in the `Host` header.
    pub(super) authority: String,
    /// Path and query, from the `/` on. May hold a secret.
    pub(super) target: String,
}

/// What opens connections to an endpoint. Trust is looked up by the first one that needs it.
pub(super) struct Connector {
    endpoint: Endpoint,
    /// Written by the first connection with TLS; kept for good, so that sessions are resumed.
    tls: OnceLock<Arc<ClientConfig>>,
}

/// Why there is no connection.
pub(super) struct Unconnected {
    /// For everybody, and always the same words: names no host and no certificate.
    pub(super) told: &'static str,
    /// For the log; may say where to. Empty where that is all.
    pub(super) why: String,
}

/// A connection on which nothing was asked yet. Dropping the second part closes it.
pub(super) type Connection = (SendRequest<Full<Bytes>>, JoinSet<()>);

impl Endpoint {
    /// Reads `url`.
    ///
    /// # Errors
    /// What is wrong, without repeating any of it: it may hold a secret.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| SHAPE.to_owned())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(SHAPE.to_owned()),
        };
        let authority = uri.authority().ok_or(SHAPE)?;
        if authority.as_str().contains('@') {
            return Err("user and password are not for the address of an upstream; chat.key is for a token".to_owned());
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = match authority.as_str().strip_prefix(host).unwrap_or_default().strip_prefix(':') {
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().map_err(|_| "its port is none, 0 to 65535".to_owned())?,
        };
        if bare.is_empty() || (tls && ServerName::try_from(bare).is_err()) {
            return Err(SHAPE.to_owned());
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        // `http://host?query` has no path, and a request has to have one.
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{target}");
        Ok(Self { tls, host: bare.to_owned(), port, authority: authority.as_str().to_owned(), target })
    }

    /// What names it, or a part of it, that nobody needs to know: host, path, query, and its values of at least `least` bytes.
    pub(super) fn parts(&self, least: usize) -> Vec<String> {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut parts = vec![self.authority.clone(), self.host.clone(), query.to_owned()];
        // `/` names nothing.
        parts.extend([&*self.target, path].into_iter().filter(|part| part.len() > 1).map(str::to_owned));
        let raw = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned());
        let read = form_urlencoded::parse(query.as_bytes()).map(|(_, value)| value.into_owned());
        parts.extend(raw.chain(read).filter(|value| value.len() >= least));
        parts
    }

    /// `https://host:port`: where, and nothing that may be secret.
    #[must_use]
    pub fn server(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{scheme}://{host}:{}", self.port)
    }
}

impl Connector {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, tls: OnceLock::new() }
    }

    /// The same, trusting just these certificates.
    #[cfg(test)]
    pub(super) fn trusting(endpoint: Endpoint, roots: RootCertStore) -> Result<Self, String> {
        Ok(Self { endpoint, tls: OnceLock::from(Arc::new(client_config(roots)?)) })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Connects anew. Sets no deadline.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn connect(&self) -> Result<Connection, Unconnected> {
        let Endpoint { tls, host, port, .. } = &self.endpoint;
        let stream = TcpStream::connect((&**host, *port)).await.map_err(|error| no_stream(&error))?;
        let keep_alive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE / 3);
        // Neither changes what is right, so no matter if a system has none.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
        let _ = stream.set_nodelay(true);
        if !tls {
            return handshake(TokioIo::new(stream)).await;
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| Unconnected::without_tls(&error))?;
        let connector = TlsConnector::from(self.tls().await?);
        let stream = connector.connect(name, stream).await.map_err(|error| no_tls(&error))?;
        handshake(TokioIo::new(stream)).await
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, Unconnected> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        // Reads some hundred files.
        let made = tokio::task::spawn_blocking(|| client_config(trusted_by_the_system())).await;
        let made = made.unwrap_or_else(|error| Err(error.to_string()));
        let config = Arc::new(made.map_err(|error| Unconnected::without_tls(&error))?);
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

impl Unconnected {
    fn without_tls(why: &impl ToString) -> Self {
        Self { told: "no connection by TLS", why: why.to_string() }
    }
}

/// What a client by TLS is set to that trusts what the system does, or what `SSL_CERT_FILE` names in its place. Reads some
/// hundred files: for where that may block.
pub(crate) fn trusting_the_system() -> Result<ClientConfig, String> {
    client_config(trusted_by_the_system())
}

fn trusted_by_the_system() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read some of the system's certificates");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, String> {
    if roots.is_empty() {
        return Err("this machine has no trusted certificates".to_owned());
    }
    // Named, and not the process's, so that it does not matter who was first to install one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn handshake(io: impl Read + Write + Unpin + Send + 'static) -> Result<Connection, Unconnected> {
    let made = http1::handshake(io).await;
    let (sender, connection) =
        made.map_err(|error| Unconnected { told: "no connection", why: super::describe(&error) })?;
    let mut driver = JoinSet::new();
    driver.spawn(async {
        // What goes wrong shows in the answer.
        let _ = connection.await;
    });
    Ok((sender, driver))
}

fn no_stream(error: &io::Error) -> Unconnected {
    let told = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        _ => "no connection",
    };
    Unconnected { told, why: error.to_string() }
}

fn no_tls(error: &io::Error) -> Unconnected {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Unconnected { told: "its certificate was refused", why: error.to_string() }
        }
        _ => Unconnected::without_tls(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, server, authority, target) in [
            ("http://h", "http://h:80", "h", "/"),
            (
                "https://api.example.com/v1/chat/completions",
                "https://api.example.com:443",
                "api.example.com",
                "/v1/chat/completions",
            ),
            ("HTTP://[::1]:7/x?y=1#z", "http://[::1]:7", "[::1]:7", "/x?y=1"),
            ("http://h?a=1", "http://h:80", "h", "/?a=1"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            let told = (endpoint.server(), &*endpoint.authority, &*endpoint.target);
            assert_eq!(told, (server.to_owned(), authority, target), "{url}");
        }
    }

    #[test]
    fn what_is_none_is_not_repeated() {
        for url in
            ["", "h", "h/x", "ftp://h/hunter2", "http://", "https://h y/", "http://me:hunter2@h/", "https://h:hunter2/"]
        {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{url}: {error}");
        }
    }
}
