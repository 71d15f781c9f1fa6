//! What a worker does to its sockets: begin, ask, read, end. It must not look into what was read.

use std::io::{ErrorKind, Read as _, Write as _};

use mio::{Interest, Token};

use super::Worker;
use super::slot::{Slot, Stage};
use super::socket;
use crate::args::Scenario;
use crate::clock::unix_ns;
use crate::verify::{Published, Tracker};

/// How long connecting and the answer's head may take.
const OPEN_TIMEOUT_NS: u64 = 20_000_000_000;
/// Pause before a connection that could not come back tries again,
const RETRY_NS: u64 = 200_000_000;
/// and how long it tries.
const GIVE_UP_NS: u64 = 60_000_000_000;
/// Reads of one socket in a row, so that one that floods does not hold up the others.
const READS_IN_A_ROW: usize = 4;

impl Worker {
    /// Begins the connections whose time has come.
    pub(super) fn open_due(&mut self, now_ns: u64) {
        self.opening.tick(now_ns);
        while let Some((index, fresh)) = self.opening.take(now_ns) {
            if fresh {
                self.books.stats.begun += 1;
            }
            if let Err(error) = self.begin(index) {
                self.fail(index, &format!("connect: {error}"));
            }
        }
    }

    fn begin(&mut self, index: usize) -> std::io::Result<()> {
        let now_ns = unix_ns();
        let number = self.books.connection(index);
        let plan = &self.books.plan;
        let slot = &mut self.slots[index];
        slot.began_ns = now_ns;
        slot.stage = Stage::Connecting;
        self.opening.begun(index, now_ns + OPEN_TIMEOUT_NS);
        let server = &plan.servers[server_of(slot, plan.layout.server(number), plan.servers.len())];
        let stuck = plan.layout.is_stuck(number);
        let source = plan.layout.source(number).filter(|_| is_loopback(server.address));
        let mut socket = socket::connect(server.address, source, stuck)?;
        // Only a stuck reader must not be told that there is something to read.
        let interest = if stuck { Interest::WRITABLE } else { Interest::READABLE | Interest::WRITABLE };
        self.poll.registry().register(&mut socket, Token(index), interest)?;
        slot.socket = Some(socket);
        Ok(())
    }

    /// Something happened on a socket; `closed` if its end is near, so that it must be read up to it.
    pub(super) fn look_at(&mut self, index: usize, closed: bool) {
        match self.slots.get(index).map(|slot| slot.stage) {
            Some(Stage::Connecting) => self.ask(index),
            Some(Stage::Head | Stage::Open) => self.read(index, closed),
            Some(Stage::Stuck) if closed => {
                self.books.account.stuck_closed += 1;
                self.slots[index].close(Stage::Over);
            }
            _ => {}
        }
    }

    /// Sends the request once the socket has connected.
    fn ask(&mut self, index: usize) {
        let request = self.request(index);
        let Some(socket) = self.slots[index].socket.as_mut() else { return };
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            return self.fail(index, &format!("connect: {error}"));
        }
        match socket.write(request.as_bytes()) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) => self.fail(index, &format!("request: {error}")),
            // The send buffer of a new connection holds any request.
            Ok(length) if length < request.len() => self.fail(index, "request: sent in part"),
            Ok(_) if self.books.plan.layout.is_stuck(self.books.connection(index)) => {
                self.opening.settled();
                let slot = &mut self.slots[index];
                slot.stage = Stage::Stuck;
                self.books.account.stuck += 1;
                self.books.opened(slot.began_ns, unix_ns());
            }
            Ok(_) => self.slots[index].stage = Stage::Head,
        }
    }

    fn request(&self, index: usize) -> String {
        let number = self.books.connection(index);
        let plan = &self.books.plan;
        let slot = &self.slots[index];
        let server = &plan.servers[server_of(slot, plan.layout.server(number), plan.servers.len())];
        let channel = plan.layout.channel(plan.layout.key(number), slot.round);
        let broad = plan.layout.broad_key(number).map(|key| plan.layout.channel(key, 0));
        let path = server.url.path_of(&channel, broad.as_deref());
        let host = &server.url.authority.text;
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n");
        if let Some(cursor) = self.books.cursors.get(index).filter(|cursor| !cursor.is_empty()) {
            request.push_str(&format!("Last-Event-ID: {}\r\n", String::from_utf8_lossy(cursor)));
        }
        request.push_str("\r\n");
        request
    }

    /// Reads once, as a rule: what comes later is told anew. Near the end of the connection, up to it.
    fn read(&mut self, index: usize, closed: bool) {
        for _ in 0..READS_IN_A_ROW {
            let slot = &mut self.slots[index];
            let Some(socket) = slot.socket.as_mut() else { return };
            let length = match socket.read(&mut self.buffer) {
                Ok(0) => return self.end(index, "the server ended the stream"),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.end(index, &error.to_string()),
            };
            let now_ns = unix_ns();
            let was_open = slot.stage == Stage::Open;
            let taken = slot.take(index, &self.buffer[..length], now_ns, &mut self.books);
            if !was_open && slot.stage == Stage::Open {
                self.opening.settled();
                if self.books.plan.layout.scenario == Scenario::Tokens {
                    self.ready.push((self.books.plan.range.start + index as u32, slot.round));
                }
            }
            match taken {
                Err(error) => return self.end(index, &error.0),
                Ok(true) => return self.end(index, "the server ended the stream"),
                Ok(false) if length < self.buffer.len() && !closed => return,
                Ok(false) => {}
            }
        }
        self.again.push(index);
    }

    /// The stream has ended, or cannot be read on.
    fn end(&mut self, index: usize, reason: &str) {
        let slot = &mut self.slots[index];
        if slot.stage != Stage::Open {
            return self.fail(index, reason);
        }
        match self.books.plan.layout.scenario {
            Scenario::Tokens => self.end_of_tokens(index, reason),
            Scenario::Storm => {
                self.books.stats.dropped += 1;
                self.leave(index, unix_ns());
                // Perhaps its server is gone.
                self.slots[index].moved = self.slots[index].moved.wrapping_add(1);
            }
            _ => {
                slot.close(Stage::Over);
                self.books.stats.dropped += 1;
                self.books.account.reasons.add(format!("dropped: {reason}"), 1);
            }
        }
    }

    /// A stream of tokens is over; the connection begins the next one.
    fn end_of_tokens(&mut self, index: usize, reason: &str) {
        let complete = self.slots[index].is_complete();
        let slot = &mut self.slots[index];
        slot.close(Stage::Over);
        let published = Published { attempted: self.books.plan.tokens, unsure: Vec::new() };
        let verdict = slot.tracker.verdict(&published);
        self.books.account.verdict.add(&verdict);
        slot.tracker = Tracker::starting_at(0);
        slot.round += 1;
        slot.was_open = false;
        if complete && verdict.lost == 0 {
            self.books.stats.completed += 1;
        } else {
            self.books.stats.dropped += 1;
            self.books.account.reasons.add(format!("dropped: {reason} before the last event"), 1);
        }
        if !self.last_streams {
            slot.stage = Stage::Away;
            self.opening.come_back(index, 0);
        }
    }

    /// An open connection goes, to come back with its cursor.
    pub(super) fn leave(&mut self, index: usize, now_ns: u64) {
        let slot = &mut self.slots[index];
        slot.close(Stage::Away);
        self.books.stats.left += 1;
        self.books.stats.last_left_ns = now_ns;
        if slot.left_ns == 0 {
            slot.left_ns = now_ns;
            self.books.stats.waiting += 1;
        }
        slot.back_ns = 0;
        self.opening.come_back(index, now_ns);
    }

    /// A connection that is not open cannot be opened: it comes to nothing, unless it has been away and may try again.
    fn fail(&mut self, index: usize, reason: &str) {
        let now_ns = unix_ns();
        self.opening.settled();
        let slot = &mut self.slots[index];
        if slot.left_ns > 0 && now_ns.saturating_sub(slot.left_ns) < GIVE_UP_NS {
            slot.close(Stage::Away);
            slot.moved = slot.moved.wrapping_add(1);
            self.opening.come_back(index, now_ns + RETRY_NS);
            return;
        }
        if slot.left_ns > 0 {
            self.books.stats.waiting = self.books.stats.waiting.saturating_sub(1);
        }
        slot.close(Stage::Over);
        self.books.stats.failed += 1;
        self.books.account.reasons.add(format!("failed: {reason}"), 1);
    }

    /// Gives up what takes too long to open.
    pub(super) fn give_up_late(&mut self, now_ns: u64) {
        while let Some(index) = self.opening.late(now_ns) {
            let slot = &self.slots[index];
            let opening = matches!(slot.stage, Stage::Connecting | Stage::Head);
            if opening && now_ns.saturating_sub(slot.began_ns) >= OPEN_TIMEOUT_NS {
                self.fail(index, &format!("no answer within {} s", OPEN_TIMEOUT_NS / 1_000_000_000));
            }
        }
    }
}

/// Number of the server that a connection goes to: one that was dropped goes on to the next.
fn server_of(slot: &Slot, first: u32, servers: usize) -> usize {
    (first as usize + usize::from(slot.moved)) % servers
}

fn is_loopback(address: std::net::SocketAddr) -> bool {
    address.is_ipv4() && address.ip().is_loopback()
}
