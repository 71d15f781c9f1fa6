//! What one connection's parts tell each other: whether requests are being answered, whether one was left unread, and
//! whether the client stopped taking what is written.
//!
//! A request whose body was not read to its end has to end the connection, since the rest of the body stands before the
//! next request. Two things make that end a clean one: the answer says so, and the socket reads on for a while before it
//! closes, or the client's system would take the answer away from it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// What is known of the client of one connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// Requests under way, each until its answer is gone.
    requests: AtomicUsize,
    /// A request was not read to its end. Set when its body is dropped, or by who answered without reading.
    unread: AtomicBool,
    timed_out: AtomicBool,
}

impl Peer {
    /// From now on a request is under way, until the guard is dropped.
    #[must_use]
    pub fn answering(self: &Arc<Self>) -> Answering {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Whether a request is under way whose answer has not left.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Whether the connection has to end after the answer, since a request was not read to its end.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// It was answered without being read.
    pub(super) fn set_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether it took nothing for the write timeout.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Relaxed)
    }

    /// It took nothing for the write timeout. [`TimedStream`](super::TimedStream) says so of the socket.
    pub fn set_timed_out(&self) {
        self.timed_out.store(true, Ordering::Relaxed);
    }
}

/// A request under way, see [`Peer::answering`]. Dropping it says that its answer is gone.
#[derive(Debug)]
pub struct Answering(Arc<Peer>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body, which tells its [`Peer`] when it is dropped unread.
pub struct RequestBody {
    body: Incoming,
    /// Its end was seen; a chunked body does not know its end before.
    ended: bool,
    peer: Arc<Peer>,
}

impl RequestBody {
    /// The body of a request that came from `peer`.
    #[must_use]
    pub fn new(body: Incoming, peer: Arc<Peer>) -> Self {
        Self { ended: body.is_end_stream(), body, peer }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended = frame.is_none() || self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended {
            self.peer.set_unread();
        }
    }
}
