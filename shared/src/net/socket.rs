//! A client's socket: its writes fail once it took nothing for the write timeout, and its close waits for what the client
//! is still sending.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Peer;

/// How long, and how much, of an unread request is read and dropped before the connection closes.
const LINGER_TIME: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;

/// A socket whose writes fail, with [`TimedOut`](io::ErrorKind::TimedOut), once it took nothing for the write timeout; its
/// [`Peer`] is told. Closing it reads on, 5 s and 64 MiB at most, where a request was left unread.
pub struct TimedStream {
    stream: TcpStream,
    /// What somebody has read of it before; read first.
    read: Bytes,
    /// That was read, and whoever read it has had no time to act on it.
    was_read: bool,
    peer: Arc<Peer>,
    write_timeout: Duration,
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
    /// The accepted `stream` of `peer`.
    #[must_use]
    pub fn new(stream: TcpStream, peer: Arc<Peer>, write_timeout: Duration) -> Self {
        Self { stream, read: Bytes::new(), was_read: false, peer, write_timeout, blocked: None, lingering: None }
    }

    /// The same, of which `read` was read already.
    #[must_use]
    pub fn with_read(self, read: Bytes) -> Self {
        Self { read, ..self }
    }

    /// Whose socket it is.
    #[cfg(test)]
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The system gives up by itself where its own timer (`TCP_USER_TIMEOUT`) is the first to run out.
    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        if matches!(result, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut) {
            self.peer.set_timed_out();
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
            self.blocked = None;
            self.note(&result);
            return result;
        }
        let timeout = self.write_timeout;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(blocked.as_mut().poll(cx));
        self.peer.set_timed_out();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.has_remaining() {
            let count = self.read.len().min(buf.remaining());
            buf.put_slice(&self.read.split_to(count));
            self.was_read = self.read.is_empty();
            return Poll::Ready(Ok(()));
        }
        if std::mem::take(&mut self.was_read) {
            // A client that closed its sending half behind a request is gone, but not before that request was begun: as where
            // the system tells of the two one after the other.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
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
        if self.peer.is_unread() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
