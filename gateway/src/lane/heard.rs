//! A client's socket that tells its [`Transport`] when something comes while nothing is being answered: the next head has begun.
//! It is above the TLS, whose own bytes begin none.
//!
//! While an event stream is the answer on HTTP/1, nobody waits for what the client sends, and its going has to be seen all the
//! same. hyper looks for it only where nothing stands behind the request. So here all that comes meanwhile is read: requests, which
//! wait for the end of the stream, are kept as far as they are short, and what is more is dropped, with all that would follow.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use shared::net::ClientStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Transport;

/// Kept of what comes during a stream, as on the direct lane.
const KEPT: usize = 8 << 10;
/// Read at a time, and so often before others have their turn.
const PIECE: usize = 4 << 10;
const READS: usize = 16;

pub(super) struct Heard {
    stream: ClientStream,
    transport: Arc<Transport>,
    /// What came during a stream, and is still to be read.
    kept: BytesMut,
    /// Something behind that was dropped: the end of what can be understood.
    dropped: bool,
}

impl Heard {
    pub(super) fn new(stream: ClientStream, transport: Arc<Transport>) -> Self {
        Self { stream, transport, kept: BytesMut::new(), dropped: false }
    }

    /// Reads what comes until there is no more for now. Ready at the end of the client's sending, or with what went wrong.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [MaybeUninit::uninit(); PIECE];
        for _ in 0..READS {
            let mut buf = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.dropped |= self.kept.len() + buf.filled().len() > KEPT;
            if !self.dropped {
                self.kept.extend_from_slice(buf.filled());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.transport.is_streaming() {
            return self.poll_gone(cx);
        }
        if !self.kept.is_empty() {
            let count = self.kept.len().min(buf.remaining());
            buf.put_slice(&self.kept.split_to(count));
            self.transport.heard();
            return Poll::Ready(Ok(()));
        }
        if self.dropped {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.transport.heard();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // hyper comes by here whenever it is woken, whatever it has read.
        if self.transport.is_streaming()
            && let Poll::Ready(gone) = self.poll_gone(cx)
        {
            return Poll::Ready(gone.and(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
