//! What one connection's parts tell each other of its requests: whether one is being answered, and whether one was left
//! unread.
//!
//! A request whose body was not read to its end has to end the connection, since the rest of the body stands before the
//! next request. Two things make that end a clean one: the answer says so, and the socket reads on for a while before it
//! closes, or the client's system would take the answer away from it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// See above. One a connection.
#[derive(Debug, Default)]
pub(super) struct Peer {
    unread: AtomicBool,
    answering: AtomicBool,
}

impl Peer {
    /// Whether the connection has to end after the answer.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether a request is under way whose answer has not left.
    pub(super) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// From now on a request is under way, until the guard is dropped. HTTP/1.1 has one at a time.
    pub(super) fn answering(self: Arc<Self>) -> Answering {
        self.answering.store(true, Ordering::Relaxed);
        Answering(self)
    }
}

/// See [`Peer::answering`].
#[derive(Debug)]
pub(super) struct Answering(Arc<Peer>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Relaxed);
    }
}

/// A request's body, which tells when it is dropped unread.
pub(super) struct RequestBody {
    body: Incoming,
    /// Its end was seen; a chunked body does not know its end before.
    ended: bool,
    peer: Arc<Peer>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, peer: Arc<Peer>) -> Self {
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
            self.peer.unread.store(true, Ordering::Relaxed);
        }
    }
}

/// A response's body: until it is gone its request is under way.
pub(super) struct Answer {
    body: AxumBody,
    _answering: Answering,
}

impl Answer {
    pub(super) fn new(body: AxumBody, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
