//! The hyper lane: serves a router on sockets by HTTP/1.0, HTTP/1.1 and HTTP/2, with prior knowledge or by TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use shared::net::{ClientStream, PeerAddress, RequestBody, TimedStream};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::accept::SocketPlace;
use super::heard::Heard;
use super::response::ResponseBody;
use super::transport::Transport;
use super::{Heads, Way};
use crate::metrics::Limited;

/// Most bytes that hyper holds for one HTTP/2 stream beyond a write under way.
const HTTP2_BUFFER: usize = 64 << 10;
/// Streams on one HTTP/2 connection: a browser has one a tab.
const HTTP2_STREAMS: u32 = 250;
/// HTTP/2 pings find a peer that is gone without a word.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// Serves a router on sockets, each in a task of its own.
pub struct HyperLane {
    router: Router,
    write_timeout: Duration,
    heads: Heads,
    /// The tasks: whoever stops waits for them there.
    tasks: TaskTracker,
    /// From then on requests under way finish, and no new ones are taken.
    stop: CancellationToken,
}

/// A socket for the hyper lane.
pub(super) struct Handed {
    pub(super) stream: TcpStream,
    /// Its place among the sockets that there may be.
    pub(super) place: SocketPlace,
    /// What was read of it.
    pub(super) read: Bytes,
    /// What the router has answered to the first request.
    pub(super) answer: Option<Response>,
    /// When it is given up without a whole head: whoever read of it before has waited already. `None`: after as long as any.
    pub(super) head_until: Option<Instant>,
}

impl Handed {
    /// A socket of which nothing was read.
    pub(super) fn new(stream: TcpStream, place: SocketPlace) -> Self {
        Self { stream, place, read: Bytes::new(), answer: None, head_until: None }
    }
}

impl HyperLane {
    /// A lane whose connections run in `tasks` until they end, or until no request is under way after `stop`.
    #[must_use]
    pub fn new(
        router: Router,
        write_timeout: Duration,
        heads: Heads,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { router, write_timeout, heads, tasks, stop })
    }

    pub(super) fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Done from the stop on.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Serves a socket until its connection ends. Called in a runtime.
    pub(super) fn take(&self, handed: Handed) {
        let Handed { stream, place, read, answer, head_until } = handed;
        let address = stream.peer_addr().ok();
        let transport = Transport::new(self.write_timeout);
        let stream = TimedStream::new(stream, transport.peer().clone(), self.write_timeout).with_read(read);
        let served = self.serve(ClientStream::Plain(stream), answer, head_until, transport, address);
        self.tasks.spawn(async move {
            served.await;
            drop(place);
        });
    }

    /// Serves what is on `stream` until it ends, or until `head_until` without a whole head. The connection is on the heap by
    /// itself: inside the future of [`drive`] it would be there twice over.
    pub(super) fn serve(
        &self,
        stream: ClientStream,
        answer: Option<Response>,
        head_until: Option<Instant>,
        transport: Arc<Transport>,
        address: Option<SocketAddr>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let peer = address.map(|address| PeerAddress(address.ip()));
        let service =
            OnTransport { router: self.router.clone(), transport: transport.clone(), peer, answer: Mutex::new(answer) };
        let heard = Heard::new(stream, transport.clone());
        let connection =
            builder(self.tasks.clone(), &self.heads).serve_connection(TokioIo::new(heard), service).into_owned();
        let head_until = head_until.unwrap_or_else(|| Instant::now() + self.heads.timeout);
        drive(Box::pin(connection), transport, address, head_until, self.heads.clone(), self.stop.clone())
    }
}

type Connection = auto::Connection<'static, TokioIo<Heard>, OnTransport, TrackedExecutor>;

async fn drive(
    mut connection: Pin<Box<Connection>>,
    transport: Arc<Transport>,
    peer: Option<SocketAddr>,
    head_until: Instant,
    heads: Heads,
    stop: CancellationToken,
) {
    let mut given_up = pin!(transport.given_up(head_until, heads.timeout));
    let mut stopping = false;
    let result = loop {
        tokio::select! {
            // The connection first: at a stop, a request that was read already is answered.
            biased;
            result = connection.as_mut() => break result,
            () = given_up.as_mut() => {
                if transport.awaits_head() {
                    heads.metrics.over(Limited::HeadTimeout);
                }
                return tracing::debug!(?peer, "gave up a silent or stalled connection");
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = transport.nothing_under_way(), if stopping => {
                return tracing::debug!(?peer, "closed a connection without a whole request");
            }
        }
    };
    if let Err(error) = result {
        heads.count(&*error, &transport);
        // Clients go away all the time.
        tracing::debug!(?peer, error = %error, "connection ended");
    }
}

/// The router, for requests of one connection: each finds the [`Way`] its answer leaves in its extensions.
struct OnTransport {
    router: Router,
    transport: Arc<Transport>,
    peer: Option<PeerAddress>,
    /// To the first request, where the direct lane has had it answered. Taken by it.
    answer: Mutex<Option<Response>>,
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
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let answered = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = async move {
            let mut response = match answered {
                Some(response) => response,
                None => router.oneshot(request).await?,
            };
            // On HTTP/2 only the stream ends, and there is no such header.
            if transport.peer().is_unread() && !http2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let progress = http2.then(|| transport.watch());
            let streaming = (!http2 && is_event_stream(&response)).then(|| transport.streams());
            Ok(response.map(|body| Body::new(ResponseBody::new(body, progress, streaming, under_way))))
        };
        answer.boxed()
    }
}

fn is_event_stream(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

fn builder(tasks: TaskTracker, heads: &Heads) -> auto::Builder<TrackedExecutor> {
    let mut builder = auto::Builder::new(TrackedExecutor(tasks));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(heads.timeout).max_buf_size(heads.most);
    builder
        .http2()
        .max_header_list_size(u32::try_from(heads.most).unwrap_or(u32::MAX))
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
