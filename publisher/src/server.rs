//! Accepts sockets and serves a router on them by HTTP/1.0 and HTTP/1.1. It must not know any route.
//!
//! No HTTP/2: those who publish are backends, which keep a few connections open anyway, and one socket a request under
//! way is easy to bound.

mod answer;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::Counter;
use shared::net::{ClientStream, Peer, PeerAddress, RequestBody, TimedStream, Tls, is_about_one_peer, set_options};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use self::answer::Answer;

/// Sockets that may wait to be accepted, as far as the system allows (`net.core.somaxconn`).
const BACKLOG: i32 = 1_024;
/// For a request's head, and between requests. Longer than the 60 s for which nginx keeps an idle connection to us, so that
/// it is never this side that closes under a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Most bytes that hyper holds for one connection beyond a write under way; also the longest request head.
const BUFFER: usize = 64 << 10;
/// Between attempts to accept after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// At a stop, the time for the last bytes of an answer, and for a request that is about to be whole.
const STOP_PAUSE: Duration = Duration::from_secs(1);

/// How a listener treats its sockets.
#[derive(Clone)]
pub(crate) struct ServerSettings {
    /// A socket that takes nothing for so long is closed.
    pub(crate) write_timeout: Duration,
    /// Sockets at a time; more wait to be accepted.
    pub(crate) max_sockets: usize,
    /// Certificate and key, and what counts sockets that did not come to speak TLS; `None`: the port is plain.
    pub(crate) tls: Option<(Arc<Tls>, Counter)>,
}

/// Binds `address`, see [`shared::net::bind`].
///
/// # Errors
/// Those of the system; most often that the port is taken.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    shared::net::bind(address, BACKLOG)
}

/// Accepts until `stop`, then lets requests under way finish and takes no new ones. Connections run in `tasks`: wait for
/// them there.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ServerSettings,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let sockets = Arc::new(Semaphore::new(settings.max_sockets.min(Semaphore::MAX_PERMITS)));
    let (mut refused, mut full) = (false, false);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&listener, &sockets, &mut full, settings.max_sockets) => accepted,
        };
        match accepted {
            Ok((stream, address, place)) => {
                if std::mem::take(&mut refused) {
                    tracing::info!("accepting connections again");
                }
                if let Err(error) = set_options(&stream, settings.write_timeout) {
                    tracing::debug!(%address, %error, "cannot set socket options");
                }
                let connection = Accepted { stream, address, router: router.clone(), stop: stop.clone() };
                let served = connection.serve(settings.write_timeout, settings.tls.clone());
                tasks.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) if is_about_one_peer(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!(%error, "cannot accept connections; is the open file limit too low?");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place first, then a socket to take it. Says once that all places are taken, until a tenth of them is free again.
async fn accept(
    listener: &TcpListener,
    sockets: &Arc<Semaphore>,
    full: &mut bool,
    max: usize,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let free = sockets.available_permits();
    if free == 0 && !*full {
        tracing::warn!(max, "a port has as many sockets as it may; more wait to be accepted");
    }
    *full = free == 0 || (*full && free <= max / 10);
    let place = sockets.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, place))
}

/// A socket that was accepted, and what it needs.
struct Accepted {
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
}

impl Accepted {
    /// From the socket's first byte, or its handshake, until its connection ends.
    async fn serve(self, write_timeout: Duration, tls: Option<(Arc<Tls>, Counter)>) {
        let Self { stream, address, router, stop } = self;
        let peer = Arc::new(Peer::default());
        let stream = match tls {
            None => ClientStream::Plain(TimedStream::new(stream, peer.clone(), write_timeout)),
            Some((tls, failed)) => {
                let accepted = tokio::select! {
                    // Nothing was asked yet.
                    () = stop.cancelled() => return,
                    accepted = tls.accept(stream, peer.clone(), write_timeout) => accepted,
                };
                match accepted {
                    Ok(stream) => stream,
                    Err(error) => {
                        failed.increment(1);
                        return tracing::debug!(%address, %error, "no TLS on a connection");
                    }
                }
            }
        };
        drive(stream, router, peer, address, stop).await;
    }
}

async fn drive(stream: ClientStream, router: Router, peer: Arc<Peer>, address: SocketAddr, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
    // On the heap: it is large, and this future would hold it twice.
    let mut connection = Box::pin(builder.serve_connection(
        TokioIo::new(stream),
        OnPeer { router, peer: peer.clone(), address: PeerAddress(address.ip()) },
    ));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            finish(connection, &peer).await
        }
    };
    if let Err(error) = result {
        // Clients go away all the time.
        tracing::debug!(%address, %error, "connection ended");
    }
}

type Connection = http1::Connection<TokioIo<ClientStream>, OnPeer>;

/// Lets a request under way be answered. One that is not whole yet holds nothing up.
async fn finish(mut connection: Pin<Box<Connection>>, peer: &Peer) -> hyper::Result<()> {
    loop {
        match tokio::time::timeout(STOP_PAUSE, connection.as_mut()).await {
            Ok(result) => return result,
            Err(_) if peer.is_answering() => {}
            Err(_) => return Ok(()),
        }
    }
}

/// The router, for requests of one connection.
struct OnPeer {
    router: Router,
    peer: Arc<Peer>,
    address: PeerAddress,
}

impl Service<Request<Incoming>> for OnPeer {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (router, peer) = (self.router.clone(), self.peer.clone());
        let answering = peer.answering();
        let mut request = request.map(|body| Body::new(RequestBody::new(body, peer.clone())));
        request.extensions_mut().insert(self.address);
        let answer = async move {
            let mut response = router.oneshot(request).await?;
            if peer.is_unread() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Body::new(Answer::new(body, answering))))
        };
        answer.boxed()
    }
}

#[cfg(test)]
mod tests;
