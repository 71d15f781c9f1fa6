//! An event stream as a response body of ready bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

use super::transport::Transport;
use crate::connection::{CloseReason, Connection, Next};

/// Polls a [`Connection`] for its bytes. Owned by hyper, and dropped by it when the client goes away.
pub struct EventStream {
    connection: Connection,
    /// Until when the connection has nothing to say.
    sleep: Pin<Box<Sleep>>,
    transport: Arc<Transport>,
}

impl EventStream {
    /// A body for a response that leaves by `transport`.
    #[must_use]
    pub fn new(connection: Connection, transport: Arc<Transport>) -> Self {
        Self { connection, sleep: Box::pin(sleep_until(Instant::now())), transport }
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            // Before looking: what is published in between wakes us again.
            this.connection.wakeup().register(cx.waker());
            match this.connection.next(Instant::now()) {
                Next::Write(pieces) => return Poll::Ready(Some(Ok(Frame::data(pieces.into_bytes())))),
                Next::End => return Poll::Ready(None),
                Next::Wait(until) => {
                    if this.sleep.deadline() != until {
                        this.sleep.as_mut().reset(until);
                    }
                    if this.sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if self.transport.is_timed_out() {
            self.connection.set_reason(CloseReason::WriteTimeout);
        }
    }
}
