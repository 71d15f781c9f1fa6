//! One event stream on one socket: writes what its connection has to say, as far as the socket takes it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read as _};
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpStream;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::time::Instant;

use super::super::accept::SocketPlace;
use super::framing::{BODY_END, CHUNK_END, ChunkSize};
use super::wheel::{NEVER, Tick};
use crate::connection::{CloseReason, Connection, Next, Pieces};

/// Writes of one connection before others have their turn: one that is given much of the past holds nobody up.
const WRITES: usize = 8;
/// What is kept of requests that a client sends while its stream is open; more waits in its system.
pub(super) const MAX_EARLY: usize = 4 << 10;

/// Owned by its loop. Dropping it closes the socket, and detaches and uncounts the connection.
pub(super) struct Stream {
    pub(super) socket: TcpStream,
    pub(super) place: SocketPlace,
    /// Its earliest entry in the wheel.
    pub(super) timer: Tick,
    /// It is among those that the loop has look one by one.
    pub(super) is_called: bool,
    /// The system tells when the socket takes bytes again. Set the first time that it is full.
    pub(super) is_watched: bool,
    /// The socket does not outlive the stream.
    pub(super) closes: bool,
    connection: Connection,
    rare: Option<Box<Rare>>,
}

/// What few streams have, and only for a while.
#[derive(Default)]
struct Rare {
    /// What the socket did not take, in order.
    unsent: VecDeque<Bytes>,
    /// When it last took something.
    since: Option<Instant>,
    /// The connection has ended; what is unsent is all there is.
    ended: bool,
    /// What the client sent behind its request.
    early: Vec<u8>,
}

/// What became of a look at a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing more until then, unless it is called.
    Until(Instant),
    /// There is more: later, so that others have their turn.
    More,
    /// All was written, the end of the body too.
    Ended,
    /// The client is gone, or takes nothing.
    Gone,
}

impl Stream {
    /// `early`: what was read of the socket behind the request.
    pub(super) fn new(
        socket: TcpStream,
        place: SocketPlace,
        connection: Connection,
        closes: bool,
        early: Vec<u8>,
    ) -> Self {
        let rare = (!early.is_empty()).then(|| Box::new(Rare { early, ..Rare::default() }));
        Self { socket, place, timer: NEVER, is_called: false, is_watched: false, closes, connection, rare }
    }

    /// Writes the answer's head together with what the connection says first.
    pub(super) fn open(&mut self, head: &[u8], now: Instant, write_timeout: Duration) -> Served {
        self.connection.wakeup().looks();
        match self.connection.next(now) {
            Next::Write(data) => match self.write(head, &data, now) {
                Ok(()) => self.serve(now, write_timeout),
                Err(error) => self.failed(&error),
            },
            // It always says something first.
            Next::Wait(_) | Next::End => Served::Gone,
        }
    }

    /// Writes what there is.
    pub(super) fn serve(&mut self, now: Instant, write_timeout: Duration) -> Served {
        // Before looking: what is published in between calls again.
        self.connection.wakeup().looks();
        for _ in 0..WRITES {
            if self.is_blocked() {
                return self.blocked(now, write_timeout);
            }
            if self.rare.as_ref().is_some_and(|rare| rare.ended) {
                return Served::Ended;
            }
            let written = match self.connection.next(now) {
                Next::Write(data) => self.write(&[], &data, now),
                Next::Wait(until) => return Served::Until(until),
                Next::End => self.write_end(now),
            };
            if let Err(error) = written {
                return self.failed(&error);
            }
        }
        Served::More
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&mut self, now: Instant, write_timeout: Duration) -> Served {
        match self.flush(now) {
            Ok(()) => self.serve(now, write_timeout),
            Err(error) => self.failed(&error),
        }
    }

    /// Whether something waits for the socket.
    pub(super) fn is_blocked(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.unsent.is_empty())
    }

    /// Reads what the client sends: the next request, or that it is gone. Returns whether it is there; `closed`: the system says
    /// that nothing more comes.
    pub(super) fn readable(&mut self, scratch: &mut [u8], closed: bool) -> bool {
        loop {
            let room = MAX_EARLY - self.rare.as_ref().map_or(0, |rare| rare.early.len()).min(MAX_EARLY);
            if room == 0 {
                // More waits in its system, and is read when the stream has ended.
                return !closed;
            }
            let most = room.min(scratch.len());
            match self.socket.read(&mut scratch[..most]) {
                Ok(0) => return false,
                Ok(read) => self.rare.get_or_insert_default().early.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) => {
                    self.failed(&error);
                    return false;
                }
            }
        }
    }

    /// Its socket, the socket's place, and what the client sent behind its request.
    pub(super) fn into_parts(self) -> (TcpStream, SocketPlace, Vec<u8>) {
        (self.socket, self.place, self.rare.map(|rare| rare.early).unwrap_or_default())
    }

    /// One chunk, by one call of the system, behind `head`.
    fn write(&mut self, head: &[u8], data: &Pieces, now: Instant) -> io::Result<()> {
        let size = ChunkSize::new(data.len());
        let data = data.pieces();
        let mut all: SmallVec<[IoSlice<'_>; 8]> = SmallVec::with_capacity(data.len() + 3);
        all.extend([IoSlice::new(head), IoSlice::new(size.as_bytes())]);
        all.extend(data.iter().map(|piece| IoSlice::new(piece)));
        all.push(IoSlice::new(CHUNK_END));
        let sent = send(&self.socket, &all)?;
        if sent == all.iter().map(|piece| piece.len()).sum::<usize>() {
            return Ok(());
        }
        let before = [Bytes::copy_from_slice(head), Bytes::copy_from_slice(size.as_bytes())];
        let pieces = before.into_iter().chain(data.iter().cloned()).chain([Bytes::from_static(CHUNK_END)]);
        self.keep(pieces, sent, now);
        Ok(())
    }

    fn write_end(&mut self, now: Instant) -> io::Result<()> {
        let sent = send(&self.socket, &[IoSlice::new(BODY_END)])?;
        self.rare.get_or_insert_default().ended = true;
        if sent < BODY_END.len() {
            self.keep([Bytes::from_static(BODY_END)], sent, now);
        }
        Ok(())
    }

    /// Keeps what stands behind the first `sent` bytes of `pieces`.
    fn keep(&mut self, pieces: impl IntoIterator<Item = Bytes>, mut sent: usize, now: Instant) {
        let rare = self.rare.get_or_insert_default();
        rare.since = Some(now);
        for mut piece in pieces {
            let gone = sent.min(piece.len());
            sent -= gone;
            if gone < piece.len() {
                rare.unsent.push_back(piece.split_off(gone));
            }
        }
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        let Some(rare) = &mut self.rare else { return Ok(()) };
        while !rare.unsent.is_empty() {
            let pieces: Vec<IoSlice<'_>> = rare.unsent.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut sent = send(&self.socket, &pieces)?;
            if sent == 0 {
                return Ok(());
            }
            rare.since = Some(now);
            while let Some(mut piece) = rare.unsent.pop_front() {
                if sent < piece.len() {
                    rare.unsent.push_front(piece.split_off(sent));
                    break;
                }
                sent -= piece.len();
            }
        }
        if rare.early.is_empty() && !rare.ended {
            self.rare = None;
        }
        Ok(())
    }

    /// The socket is full. The system says when a third of its buffer is free again: whoever does not take that much in the
    /// write timeout is given up, on the hyper lane too.
    fn blocked(&mut self, now: Instant, write_timeout: Duration) -> Served {
        match self.rare.as_ref().and_then(|rare| rare.since) {
            Some(since) if now < since + write_timeout => Served::Until(since + write_timeout),
            _ => {
                self.connection.set_reason(CloseReason::WriteTimeout);
                Served::Gone
            }
        }
    }

    fn failed(&mut self, error: &io::Error) -> Served {
        // The system gives up by itself where its own timer (`TCP_USER_TIMEOUT`) is the first to run out.
        if error.kind() == ErrorKind::TimedOut {
            self.connection.set_reason(CloseReason::WriteTimeout);
        }
        Served::Gone
    }
}

/// How much the socket took; 0 when it is full.
fn send(socket: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match SockRef::from(socket).send_vectored(pieces) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}
