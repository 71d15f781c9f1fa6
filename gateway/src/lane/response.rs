//! A response's body: until it is gone its request is under way.
//!
//! On HTTP/2 it leaves in pieces and tells its transport whether hyper comes back for the next one. hyper asks for more only
//! while the stream's window is open: in pieces, an answer that nobody takes stays here, where it is seen, rather than in
//! hyper's buffers. On HTTP/1.1 the socket itself tells, and bytes pass through as they are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use shared::net::Answering;
use tokio::time::Instant;

use super::transport::{Progress, Streaming};

/// Most bytes handed over at a time: an HTTP/2 frame at its usual size.
const PIECE: usize = 16 << 10;

/// See above.
pub(super) struct ResponseBody {
    body: AxumBody,
    /// What is left of the last frame.
    rest: Bytes,
    /// On HTTP/2.
    progress: Option<Arc<Progress>>,
    /// An event stream on HTTP/1.
    _streaming: Option<Streaming>,
    _answering: Answering,
}

impl ResponseBody {
    pub(super) fn new(
        body: AxumBody,
        progress: Option<Arc<Progress>>,
        streaming: Option<Streaming>,
        answering: Answering,
    ) -> Self {
        Self { body, rest: Bytes::new(), progress, _streaming: streaming, _answering: answering }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let Some(progress) = &self.progress else { return Frame::data(std::mem::take(&mut self.rest)) };
        progress.handed_over(Instant::now());
        Frame::data(self.rest.split_to(self.rest.len().min(PIECE)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = frame {
            return match frame.into_data() {
                Ok(data) => {
                    this.rest = data;
                    Poll::Ready(Some(Ok(this.piece())))
                }
                Err(trailers) => Poll::Ready(Some(Ok(trailers))),
            };
        }
        if let Some(progress) = &this.progress {
            progress.waiting();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        match hint.exact() {
            Some(exact) => hint.set_exact(exact.saturating_add(rest)),
            None => hint.set_lower(hint.lower().saturating_add(rest)),
        }
        hint
    }
}
