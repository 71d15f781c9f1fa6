//! What hyper reads in the bytes that the direct lane reads: the lanes have to agree on every request.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::request::Parts;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

/// As much as a head may have on either lane.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// What hyper makes of bytes after which nothing comes for now.
pub(super) struct Seen {
    /// The first request, and whether it has no body.
    pub(super) request: Option<(Parts, bool)>,
    /// What it answered by itself.
    pub(super) said: Vec<u8>,
    /// It ended the connection.
    pub(super) ended: bool,
}

/// The router never answers, so there is one request at most.
pub(super) fn hyper(bytes: &[u8]) -> Seen {
    let request = Rc::new(RefCell::new(None));
    let said = Rc::new(RefCell::new(Vec::new()));
    let note = service_fn(|asked: Request<Incoming>| {
        let (parts, body) = asked.into_parts();
        *request.borrow_mut() = Some((parts, body.is_end_stream()));
        pending::<Result<Response<String>, Infallible>>()
    });
    let socket = Socket { left: bytes.to_vec(), said: said.clone() };
    let mut builder = http1::Builder::new();
    let connection = builder.header_read_timeout(None).max_buf_size(MAX_HEAD).serve_connection(socket, note);
    let ended = pin!(connection).poll(&mut Context::from_waker(Waker::noop())).is_ready();
    Seen { request: request.take(), said: said.take(), ended }
}

/// Has these bytes, and takes any.
struct Socket {
    left: Vec<u8>,
    said: Rc<RefCell<Vec<u8>>>,
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let count = self.left.len().min(to.remaining());
        if count == 0 {
            return Poll::Pending;
        }
        to.put_slice(&self.left[..count]);
        self.left.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.said.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
