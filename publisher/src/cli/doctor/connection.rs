//! One connection as a browser makes it: name, TCP, TLS with ALPN, HTTP/1.1 or HTTP/2. Each step is timed, has a deadline,
//! and fails with its own words. It must not know what is asked for.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::cli::url::Url;

/// Name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A request that is no stream, to the end of its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer that is no stream.
const MAX_BODY: usize = 64 << 10;

/// What the answers come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// How a connection came about.
#[derive(Debug, Clone)]
pub(super) struct How {
    pub(super) address: SocketAddr,
    /// Name and TCP.
    pub(super) connect: Duration,
    /// The handshake, where there is one.
    pub(super) tls: Option<Duration>,
    pub(super) protocol: Protocol,
}

/// Why there is no connection, in words that follow on "it".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreachable {
    pub(super) stage: Stage,
    pub(super) why: String,
}

/// At which step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Name,
    Tcp,
    Tls,
    Certificate,
    Http,
}

/// Opens connections to one server.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) url: Url,
    /// Offers both protocols; `None` for plain HTTP.
    tls: Option<Arc<ClientConfig>>,
}

/// A connection on which nothing was asked yet. Dropping it closes it.
pub(super) struct Connected {
    sender: Sender,
    pub(super) how: How,
    driver: JoinSet<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A request, but for what the connection itself says.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// When the request was sent, and how long it took from then to the head.
    pub(super) asked: Instant,
    pub(super) took: Duration,
}

impl Dialer {
    /// `trust` is used for `https` alone.
    pub(super) fn new(url: &Url, trust: Option<&ClientConfig>) -> Self {
        Self { url: url.clone(), tls: trust.filter(|_| url.tls).map(|config| Arc::new(config.clone())) }
    }

    /// Connects anew; with `offer` of HTTP/1.1 the server is offered nothing else.
    ///
    /// # Errors
    /// [`Unreachable`], within the deadline.
    pub(super) async fn dial(&self, offer: Protocol) -> Result<Connected, Unreachable> {
        let begin = Instant::now();
        let deadline = begin + CONNECT_TIMEOUT;
        let stream = self.tcp(deadline).await?;
        let address = stream.peer_addr().map_err(|error| Unreachable::new(Stage::Tcp, &error))?;
        // Changes nothing that is right.
        let _ = stream.set_nodelay(true);
        let connect = begin.elapsed();
        let Some(config) = &self.tls else {
            let (sender, driver) = over(TokioIo::new(stream), Protocol::Http1).await?;
            return Ok(Connected {
                sender,
                driver,
                how: How { address, connect, tls: None, protocol: Protocol::Http1 },
            });
        };
        let mut config = (**config).clone();
        config.alpn_protocols = match offer {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let name = ServerName::try_from(self.url.host.clone());
        let name = name.map_err(|error| Unreachable::new(Stage::Tls, &error))?;
        let begin = Instant::now();
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = match timeout_at(deadline, handshake).await {
            Ok(stream) => stream.map_err(|error| no_tls(&error))?,
            Err(_) => return Err(Unreachable::late(Stage::Tls)),
        };
        let tls = Some(begin.elapsed());
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
        let (sender, driver) = over(TokioIo::new(stream), protocol).await?;
        Ok(Connected { sender, driver, how: How { address, connect, tls, protocol } })
    }

    async fn tcp(&self, deadline: Instant) -> Result<TcpStream, Unreachable> {
        let Url { host, port, .. } = &self.url;
        let found = timeout_at(deadline, tokio::net::lookup_host((&**host, *port))).await;
        let found = found.map_err(|_| Unreachable::late(Stage::Name))?;
        let mut addresses: Vec<SocketAddr> = found.map_err(|error| Unreachable::new(Stage::Name, &error))?.collect();
        // Where a name has several, each connection begins with another one.
        fastrand::shuffle(&mut addresses);
        match timeout_at(deadline, TcpStream::connect(&*addresses)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(Unreachable { stage: Stage::Tcp, why: "the connection is refused".to_owned() })
            }
            Ok(Err(error)) => Err(Unreachable::new(Stage::Tcp, &error)),
            Err(_) => Err(Unreachable::late(Stage::Tcp)),
        }
    }

    /// One request on a connection of its own, and its whole answer.
    ///
    /// # Errors
    /// Why there is none, within the deadline.
    pub(super) async fn exchange(&self, ask: &Ask) -> Result<Answer, String> {
        let mut connected = self.dial(Protocol::Http1).await.map_err(|error| error.why)?;
        let asked = Instant::now();
        let exchange = async {
            let response = connected.send(&self.url, ask).await?;
            let took = asked.elapsed();
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body, asked, took })
        };
        timeout(EXCHANGE_TIMEOUT, exchange).await.unwrap_or_else(|_| Err("there is no answer within 10 s".to_owned()))
    }
}

impl Connected {
    /// Sends a request and waits for the head of its answer, without a deadline.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn send(&mut self, url: &Url, ask: &Ask) -> Result<Response<Incoming>, String> {
        let Ask { method, target, headers, body } = ask;
        let mut request = Request::builder().method(method.clone());
        request = match self.how.protocol {
            Protocol::Http1 => request.uri(target).header(HOST, &url.authority),
            Protocol::Http2 => request.uri(format!("{}{target}", url.server())),
        };
        let mut request = request.body(Full::new(body.clone())).map_err(|error| error.to_string())?;
        request.headers_mut().extend(headers.clone());
        let sent = match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        sent.map_err(|error| describe(&error))
    }

    /// What keeps the connection open, for who reads an answer to its end.
    pub(super) fn into_driver(self) -> (JoinSet<()>, impl Sized) {
        (self.driver, self.sender)
    }
}

impl Ask {
    /// A `GET` without headers.
    pub(super) fn get(target: &str) -> Self {
        Self { method: Method::GET, target: target.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }
}

impl Unreachable {
    fn new(stage: Stage, error: &impl ToString) -> Self {
        Self { stage, why: error.to_string() }
    }

    fn late(stage: Stage) -> Self {
        let what = match stage {
            Stage::Name => "the name is not found",
            Stage::Tcp => "there is no connection",
            Stage::Tls | Stage::Certificate => "the TLS handshake does not end",
            Stage::Http => "HTTP does not begin",
        };
        Self { stage, why: format!("{what} within 10 s") }
    }
}

async fn over(
    io: impl Read + Write + Unpin + Send + 'static,
    protocol: Protocol,
) -> Result<(Sender, JoinSet<()>), Unreachable> {
    let wrong = |error: hyper::Error| Unreachable { stage: Stage::Http, why: describe(&error) };
    let mut driver = JoinSet::new();
    // What goes wrong with either shows in the answer.
    let sender = match protocol {
        Protocol::Http1 => {
            let (sender, connection) = http1::handshake(io).await.map_err(wrong)?;
            driver.spawn(async { drop(connection.await) });
            Sender::Http1(sender)
        }
        Protocol::Http2 => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(wrong)?;
            driver.spawn(async { drop(connection.await) });
            Sender::Http2(sender)
        }
    };
    Ok((sender, driver))
}

fn no_tls(error: &io::Error) -> Unreachable {
    let certificate = |why: &str| Unreachable { stage: Stage::Certificate, why: why.to_owned() };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                certificate("its certificate has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                certificate("its certificate is not valid yet: it is too new, or a clock is wrong")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                certificate("its certificate is for another name")
            }
            CertificateError::UnknownIssuer => certificate(
                "its certificate is of an authority that this machine does not trust, or the one between is not sent along",
            ),
            other => certificate(&format!("its certificate is refused: {other}")),
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            Unreachable { stage: Stage::Tls, why: "it does not speak TLS on that port".to_owned() }
        }
        _ => Unreachable { stage: Stage::Tls, why: format!("the TLS handshake fails: {error}") },
    }
}

/// The innermost reason, in the system's words.
pub(super) fn describe(error: &hyper::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
