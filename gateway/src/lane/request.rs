//! A request's body, which tells its transport when nobody read it to the end.
//!
//! Such a connection has to end after the answer, since the rest of the body stands before the next request. Two things make
//! that end a clean one: the answer says so, and the transport reads on for a while before it closes, or the client's
//! system would take the answer away from it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::transport::Transport;

/// See above.
pub(super) struct RequestBody {
    body: Incoming,
    /// Its end was seen; a chunked body does not know its end before.
    ended: bool,
    transport: Arc<Transport>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, transport: Arc<Transport>) -> Self {
        Self { ended: body.is_end_stream(), body, transport }
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
            self.transport.set_unread();
        }
    }
}
