//! A client's socket, and what is known of it: whether it takes what is written.
//!
//! Two things can stand still. The socket: bytes were offered and it takes none. Or, on HTTP/2, one stream's window: the
//! socket is fine, but hyper does not come back for the stream's next bytes. Either ends the transport after the write
//! timeout.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

/// How long, and how much, of an unread request is read and dropped before the connection closes.
const LINGER_TIME: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;

/// What handlers and bodies know of the socket they answer on.
#[derive(Debug)]
pub struct Transport {
    opened: Instant,
    write_timeout: Duration,
    /// Set when something stood still for the write timeout; read when a body is dropped.
    timed_out: AtomicBool,
    /// Fires at the first request; the value says whether it came by HTTP/2.
    requested: Notify,
    http2: AtomicBool,
    /// A request's body was not read to its end, so that the connection has to end after the answer. Set when the body is
    /// dropped.
    unread: AtomicBool,
    /// The event streams of an HTTP/2 connection; those that ended are dropped when the list is next gone through.
    streams: Mutex<Vec<Weak<Progress>>>,
}

/// Whether hyper came back after it was handed bytes. Written by the body, read by the transport's owner.
#[derive(Debug)]
pub(super) struct Progress {
    opened: Instant,
    /// Milliseconds since `opened` at which bytes were handed over, plus one; 0 while the body has nothing to say.
    since: AtomicU64,
}

impl Progress {
    pub(super) fn handed_over(&self, now: Instant) {
        self.since.store(self.age(now) + 1, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn stands_still(&self, now: Instant, timeout: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && u128::from(self.age(now).saturating_sub(since - 1)) >= timeout.as_millis()
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Transport {
    pub(super) fn new(write_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            write_timeout,
            timed_out: AtomicBool::new(false),
            requested: Notify::new(),
            http2: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            streams: Mutex::default(),
        })
    }

    /// Whether something on it stood still for the write timeout.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Relaxed)
    }

    pub(super) fn set_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether the connection has to end after the answer.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Notes that a request came.
    pub(super) fn request(&self, http2: bool) {
        self.http2.store(http2, Ordering::Relaxed);
        self.requested.notify_one();
    }

    /// Watches one more event stream.
    pub(super) fn watch(&self) -> Arc<Progress> {
        let progress = Arc::new(Progress { opened: self.opened, since: AtomicU64::new(0) });
        if self.http2.load(Ordering::Relaxed) {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.retain(|stream| stream.strong_count() > 0);
            streams.push(Arc::downgrade(&progress));
        }
        progress
    }

    /// Ends when the transport is to be given up: no request within `first_request`, or an HTTP/2 stream that stood still
    /// for the write timeout.
    pub(super) async fn given_up(&self, first_request: Duration) {
        if tokio::time::timeout(first_request, self.requested.notified()).await.is_err() {
            return;
        }
        while self.http2.load(Ordering::Relaxed) {
            sleep(self.write_timeout / 4).await;
            if self.any_stands_still(Instant::now()) {
                self.timed_out.store(true, Ordering::Relaxed);
                return;
            }
        }
        // HTTP/1.1 has one body at a time, and the socket itself tells.
        std::future::pending::<()>().await;
    }

    fn any_stands_still(&self, now: Instant) -> bool {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.iter().filter_map(Weak::upgrade).any(|stream| stream.stands_still(now, self.write_timeout))
    }
}

/// The socket, whose writes fail once it took nothing for the write timeout.
pub(super) struct TimedStream {
    stream: TcpStream,
    transport: Arc<Transport>,
    /// Runs while the socket does not take what is offered.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Runs from the close on, while the rest of an unread body is read and dropped.
    lingering: Option<Linger>,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    /// Bytes that may still come.
    left: usize,
}

impl TimedStream {
    pub(super) fn new(stream: TcpStream, transport: Arc<Transport>) -> Self {
        Self { stream, transport, blocked: None, lingering: None }
    }

    /// The system gives up by itself where its own timer (`TCP_USER_TIMEOUT`) is the first to run out.
    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        if matches!(result, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut) {
            self.transport.timed_out.store(true, Ordering::Relaxed);
        }
    }

    /// Reads what the client still sends, within bounds: closing over it would reset the connection, and take the answer
    /// from a client that has not read it yet.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger =
            self.lingering.get_or_insert_with(|| Linger { until: Box::pin(sleep(LINGER_TIME)), left: LINGER_BYTES });
        let mut buffer = [0; 16 << 10];
        while linger.left > 0 {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    linger.left = linger.left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return linger.until.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }

    fn timed<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.note(&result);
            self.blocked = None;
            return result;
        }
        let timeout = self.transport.write_timeout;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if blocked.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.transport.timed_out.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(&result);
        result
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.timed(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.timed(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.transport.is_unread() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
