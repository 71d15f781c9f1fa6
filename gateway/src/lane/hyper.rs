//! The hyper lane: accepts sockets and serves a router on them by HTTP/1.0, HTTP/1.1 and HTTP/2 with prior knowledge.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use shared::net::{RequestBody, TimedStream, is_about_one_peer, set_options};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::Way;
use super::response::ResponseBody;
use super::transport::Transport;

/// Sockets that may wait to be accepted, as far as the system allows (`net.core.somaxconn`): a whole node's clients come at
/// once when another one fails.
const BACKLOG: i32 = 4_096;
/// For a request's head, and between requests. Longer than the 60 s for which nginx keeps an idle connection to us, so that
/// it is never this side that closes under a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Most bytes that hyper holds for one HTTP/1.1 connection beyond a write under way; also the longest request head.
const HTTP1_BUFFER: usize = 64 << 10;
/// The same for an HTTP/2 stream.
const HTTP2_BUFFER: usize = 64 << 10;
/// Longest head of an HTTP/2 request, the same as [`HTTP1_BUFFER`] allows.
const MAX_HEAD: u32 = 64 << 10;
/// Streams on one HTTP/2 connection: a browser has one a tab.
const HTTP2_STREAMS: u32 = 250;
/// HTTP/2 pings find a peer that is gone without a word.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// Between attempts to accept after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds `address`, see [`shared::net::bind`].
///
/// # Errors
/// Those of the system; most often that the port is taken.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    shared::net::bind(address, BACKLOG)
}

/// How a listener treats its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneSettings {
    /// A socket that takes nothing for so long is closed.
    pub write_timeout: Duration,
    /// Sockets at a time; more wait to be accepted.
    pub max_sockets: usize,
}

/// Accepts until `stop`, then lets requests under way finish and takes no new ones. Connections run in `tasks`: wait for them
/// there.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: LaneSettings,
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
            Ok((stream, peer, place)) => {
                if std::mem::take(&mut refused) {
                    tracing::info!("accepting connections again");
                }
                if let Err(error) = set_options(&stream, settings.write_timeout) {
                    tracing::debug!(%peer, %error, "cannot set socket options");
                }
                let transport = Transport::new(settings.write_timeout);
                let connection = connection(stream, &transport, router.clone(), tasks.clone());
                let driven = drive(connection, transport, peer, stop.clone());
                tasks.spawn(async move {
                    driven.await;
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
        tracing::warn!(max, "as many sockets as the open file limit allows; more wait to be accepted");
    }
    *full = free == 0 || (*full && free <= max / 10);
    let place = sockets.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

type Connection = auto::Connection<'static, TokioIo<TimedStream>, OnTransport, TrackedExecutor>;

/// On the heap by itself: inside the future of [`drive`] it would be there twice over.
fn connection(
    stream: TcpStream,
    transport: &Arc<Transport>,
    router: Router,
    tasks: TaskTracker,
) -> Pin<Box<Connection>> {
    let io = TokioIo::new(TimedStream::new(stream, transport.peer().clone(), transport.write_timeout()));
    let service = OnTransport { router, transport: transport.clone() };
    Box::pin(builder(tasks).serve_connection(io, service).into_owned())
}

async fn drive(
    mut connection: Pin<Box<Connection>>,
    transport: Arc<Transport>,
    peer: SocketAddr,
    stop: CancellationToken,
) {
    let mut given_up = pin!(transport.given_up(HEADER_TIMEOUT));
    let mut stopping = false;
    let result = loop {
        tokio::select! {
            result = connection.as_mut() => break result,
            () = given_up.as_mut() => return tracing::debug!(%peer, "gave up a silent or stalled connection"),
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = transport.nothing_under_way(), if stopping => {
                return tracing::debug!(%peer, "closed a connection without a whole request");
            }
        }
    };
    if let Err(error) = result {
        // Clients go away all the time.
        tracing::debug!(%peer, error = %error, "connection ended");
    }
}

/// The router, for requests of one connection: each finds the [`Way`] its answer leaves in its extensions.
struct OnTransport {
    router: Router,
    transport: Arc<Transport>,
}

impl Service<Request<Incoming>> for OnTransport {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (router, transport) = (self.router.clone(), self.transport.clone());
        let http2 = request.version() == Version::HTTP_2;
        let under_way = transport.request(http2);
        let mut request = request.map(|body| Body::new(RequestBody::new(body, transport.peer().clone())));
        request.extensions_mut().insert(Way::Hyper(transport.clone()));
        let answer = async move {
            let mut response = router.oneshot(request).await?;
            // On HTTP/2 only the stream ends, and there is no such header.
            if transport.peer().is_unread() && !http2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let progress = http2.then(|| transport.watch());
            Ok(response.map(|body| Body::new(ResponseBody::new(body, progress, under_way))))
        };
        answer.boxed()
    }
}

fn builder(tasks: TaskTracker) -> auto::Builder<TrackedExecutor> {
    let mut builder = auto::Builder::new(TrackedExecutor(tasks));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .max_header_list_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_send_buf_size(HTTP2_BUFFER);
    builder
}

/// HTTP/2 streams run in the same tracker as their connections.
#[derive(Clone)]
struct TrackedExecutor(TaskTracker);

impl<F> Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
