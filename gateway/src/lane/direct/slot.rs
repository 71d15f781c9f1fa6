//! What a loop has of one socket: a head that is read, an answer that is awaited, or a stream.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read as _};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Request;
use shared::net::PeerAddress;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::super::Way;
use super::Arrival;
use super::head::{self, Beginning, Head};
use super::stream::{MAX_EARLY, Stream};
use super::wheel::Tick;
use crate::hub::{Inbox, Wakeup};

pub(super) enum Slot {
    Waiting(Box<Waiting>),
    Opening(Box<Opening>),
    Stream(Box<Stream>),
    /// Within one call of the loop, while one of the others becomes the next.
    Between,
}

/// A socket of which no whole head was read.
pub(super) struct Waiting {
    pub(super) arrival: Arrival,
    pub(super) beginning: Beginning,
    pub(super) timer: Tick,
    /// When it is given up.
    pub(super) until: Instant,
}

/// A request that the router has not answered.
pub(super) struct Opening {
    pub(super) arrival: Arrival,
    /// The head and whatever came behind it.
    pub(super) read: Vec<u8>,
    head_length: usize,
    /// The client wants no other answer on this socket.
    pub(super) closes: bool,
    answer: BoxFuture<'static, Result<Response, Infallible>>,
    wakeup: Arc<Wakeup>,
}

/// What was read of a socket says.
pub(super) enum Said {
    /// Not all yet.
    Part,
    /// It is for this lane.
    Stream(Box<Request<Body>>),
    /// It is for the other lane.
    Other,
    /// The client is gone.
    Gone,
}

impl Waiting {
    pub(super) fn new(arrival: Arrival, until: Instant) -> Self {
        Self { arrival, beginning: Beginning::default(), timer: super::wheel::NEVER, until }
    }

    /// Reads what there is; a head of more than `max_head` bytes is for the other lane to judge.
    pub(super) fn readable(&mut self, scratch: &mut [u8], is_stream: fn(&str) -> bool, max_head: usize) -> Said {
        loop {
            let count = match read(&mut self.arrival, scratch) {
                Ok(Some(0)) | Err(_) => return Said::Gone,
                Ok(Some(count)) => count,
                Ok(None) => return Said::Part,
            };
            match self.beginning.add(&scratch[..count], is_stream, max_head) {
                Head::Part => {}
                Head::Stream(request) => return Said::Stream(request),
                Head::Other => return Said::Other,
            }
        }
    }

    /// Has `router` answer `request`, whose head is all that was read.
    pub(super) fn open(
        self,
        mut request: Box<Request<Body>>,
        router: &Router,
        inbox: &Arc<Inbox>,
        token: u32,
    ) -> Opening {
        let wakeup = Arc::new(Wakeup::on_loop(inbox.clone(), token));
        request.extensions_mut().insert(Way::Direct(wakeup.clone()));
        if let Ok(peer) = self.arrival.socket.peer_addr() {
            request.extensions_mut().insert(PeerAddress(peer.ip()));
        }
        let closes = head::wants_close(request.headers());
        let answer = router.clone().oneshot(*request).boxed();
        let read = self.beginning.into_read();
        Opening { arrival: self.arrival, head_length: read.len(), read, closes, answer, wakeup }
    }
}

impl Opening {
    /// The router's answer, once it is there.
    pub(super) fn poll(&mut self) -> Poll<Response> {
        self.wakeup.looks();
        let waker = Waker::from(self.wakeup.clone());
        self.answer.as_mut().poll(&mut Context::from_waker(&waker)).map(|answer| match answer {
            Ok(answer) => answer,
            Err(never) => match never {},
        })
    }

    /// Reads what the client sends meanwhile. Returns whether it is there; `closed`: the system says that nothing more comes.
    pub(super) fn readable(&mut self, scratch: &mut [u8], closed: bool) -> bool {
        while self.read.len() - self.head_length < MAX_EARLY {
            match read(&mut self.arrival, scratch) {
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(count)) => self.read.extend_from_slice(&scratch[..count]),
                Ok(None) => return true,
            }
        }
        !closed
    }

    /// The bytes behind the head.
    pub(super) fn early(&mut self) -> Vec<u8> {
        self.read.split_off(self.head_length)
    }
}

/// `None`: there is nothing now.
fn read(arrival: &mut Arrival, scratch: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match arrival.socket.read(scratch) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            result => return result.map(Some),
        }
    }
}
