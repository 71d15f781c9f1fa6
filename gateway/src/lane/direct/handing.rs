//! How a socket comes to its next state: from head to answer, from answer to stream, to the other lane, or to its end.

use std::io::{ErrorKind, Read as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::Ordering;
use std::task::Poll;

use axum::response::Response;
use bytes::Bytes;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use tokio::time::Instant;

use super::super::Carried;
use super::super::hyper::Handed;
use super::event_loop::EventLoop;
use super::slot::Slot;
use super::stream::Stream;
use super::{Arrival, framing};

/// Reads of a socket before it is closed, of 16 KiB each: nobody is held up by what a client sends for nothing.
const READS_AT_END: usize = 32;

impl EventLoop {
    /// Asks the router for its answer, and sends it if it is there.
    pub(super) fn poll_answer(&mut self, token: u32) {
        let Some(Slot::Opening(opening)) = self.slots.get_mut(token as usize) else { return };
        let Poll::Ready(answer) = opening.poll() else { return };
        match answer.extensions().get::<Carried>().and_then(Carried::take) {
            Some(connection) => {
                let Some(Slot::Opening(mut opening)) = self.take(token) else { return };
                let early = opening.early();
                let Arrival { socket, place } = opening.arrival;
                let mut stream = Box::new(Stream::new(socket, place, connection, opening.closes, early));
                let head = framing::head(answer.into_parts().0, opening.closes);
                let served = stream.open(&head, self.now, self.settings.write_timeout);
                self.put(token, Slot::Stream(stream));
                self.served(token, served);
            }
            // Answers that are no streams are hyper's to write.
            None => self.hand_over_with(token, Some(answer), true),
        }
    }

    /// Gives a socket of which this lane wants nothing to the other one. `registered`: the system tells of it here.
    pub(super) fn hand_over(&mut self, token: u32, registered: bool) {
        self.hand_over_with(token, None, registered);
    }

    fn hand_over_with(&mut self, token: u32, answer: Option<Response>, registered: bool) {
        let (arrival, read, head_until) = match self.forget(token) {
            // It is given up when it would have been here, or a head in many pieces would have the time twice.
            Some(Slot::Waiting(waiting)) => (waiting.arrival, waiting.beginning.into_read(), Some(waiting.until)),
            Some(Slot::Opening(opening)) => (opening.arrival, opening.read, None),
            Some(Slot::Stream(_) | Slot::Between) | None => return,
        };
        self.give_away(arrival, read, answer, head_until, registered);
    }

    /// A stream has ended: its socket may have another request.
    pub(super) fn end(&mut self, token: u32) {
        let Some(Slot::Stream(stream)) = self.forget(token) else { return };
        let closes = stream.closes || self.stopping;
        let (socket, place, early) = stream.into_parts();
        if closes {
            // What was written arrives before the end does.
            let _ = socket.shutdown(Shutdown::Write);
            self.throw_away(&socket);
            return;
        }
        self.give_away(Arrival { socket, place }, early, None, None, true);
    }

    /// Reads what the client has sent: closed over that, the connection would be reset, which may take away what was written.
    fn throw_away(&mut self, mut socket: &mio::net::TcpStream) {
        for _ in 0..READS_AT_END {
            match socket.read(&mut self.scratch) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn give_away(
        &mut self,
        arrival: Arrival,
        read: Vec<u8>,
        answer: Option<Response>,
        head_until: Option<Instant>,
        registered: bool,
    ) {
        let Arrival { socket, place } = arrival;
        if registered {
            // Or it would go on telling of a descriptor that is another's.
            if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd())) {
                return tracing::debug!(%error, "cannot give a socket to the other lane");
            }
        }
        match tokio::net::TcpStream::from_std(TcpStream::from(socket)) {
            Ok(stream) => {
                let read = Bytes::from(read);
                self.settings.hyper.take(Handed { stream, place, read, answer, head_until });
            }
            Err(error) => tracing::error!(%error, "cannot give a socket to the other lane"),
        }
    }

    /// Has the system tell of a socket. Returns whether it does.
    pub(super) fn register(&mut self, token: u32) -> bool {
        let Some(Slot::Waiting(waiting)) = self.slots.get(token as usize) else { return false };
        let descriptor = waiting.arrival.socket.as_raw_fd();
        let token = Token(token as usize);
        let result = self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE);
        if let Err(error) = &result {
            tracing::error!(%error, "cannot have events of a socket");
        }
        result.is_ok()
    }

    /// Has the system tell when a socket that is full takes bytes again. Most never are, so they are not asked about before.
    pub(super) fn await_room(&mut self, token: u32) {
        let Some(Slot::Stream(stream)) = self.slots.get_mut(token as usize) else { return };
        if !stream.is_blocked() || std::mem::replace(&mut stream.is_watched, true) {
            return;
        }
        let (descriptor, interest) = (stream.socket.as_raw_fd(), Interest::READABLE | Interest::WRITABLE);
        let result = self.poll.registry().reregister(&mut SourceFd(&descriptor), Token(token as usize), interest);
        if let Err(error) = result {
            // It ends at its write timeout.
            tracing::error!(%error, "cannot have events of a socket");
        }
    }

    /// Closes a socket and ends what was on it.
    pub(super) fn remove(&mut self, token: u32) {
        self.forget(token);
    }

    fn forget(&mut self, token: u32) -> Option<Slot> {
        let slot = self.slots.try_remove(token as usize)?;
        self.door.held.fetch_sub(1, Ordering::Relaxed);
        Some(slot)
    }

    /// What is in a slot, until `put` puts something there.
    pub(super) fn take(&mut self, token: u32) -> Option<Slot> {
        self.slots.get_mut(token as usize).map(|slot| std::mem::replace(slot, Slot::Between))
    }

    pub(super) fn put(&mut self, token: u32, state: Slot) {
        if let Some(slot) = self.slots.get_mut(token as usize) {
            *slot = state;
        }
    }
}
