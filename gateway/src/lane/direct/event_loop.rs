//! A loop: takes sockets, calls from the hub, timers and what the system says, and lets each connection concerned look.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Token};
use slab::Slab;
use tokio::time::Instant;

use super::rest::Rest;
use super::slot::{Said, Slot, Waiting};
use super::stream::Served;
use super::wheel::{NEVER, Tick, Wheel};
use super::{DirectSettings, Door};
use crate::hub::{Inbox, Round};
use crate::metrics::Limited;

/// The token of the alarm; slots count from 0 and never come to it.
pub(super) const ALARM: Token = Token(usize::MAX);
/// Connections that look before the loop sees to its sockets and timers again.
pub(super) const SLICE: usize = 256;
/// More channels than that wait: they do not get fewer by waiting.
const MANY: usize = 16;
/// Events that the system tells at a time.
const EVENTS: usize = SLICE;
/// Read at a time.
const SCRATCH: usize = 16 << 10;
/// What half a request may take when the node stops.
const AT_STOP: Duration = Duration::from_secs(1);

pub(super) struct EventLoop {
    pub(super) settings: DirectSettings,
    pub(super) poll: mio::Poll,
    pub(super) door: Arc<Door>,
    pub(super) inbox: Arc<Inbox>,
    /// By token. A token may be called for when it is somebody else's by now: looking does no harm.
    pub(super) slots: Slab<Slot>,
    wheel: Wheel,
    /// Ways through the connections of a channel that have not begun.
    pub(super) rounds: VecDeque<Round>,
    /// Those that have, and are not at their end.
    pub(super) begun: VecDeque<Round>,
    /// What came for channels of `begun`: it waits for the next rest, so that one pass serves all of it.
    pub(super) later: Vec<Round>,
    pub(super) rest: Rest,
    /// Connections that were called one by one, or have more to write. A stream is in it once.
    pub(super) single: VecDeque<u32>,
    /// More sockets have come than one turn takes.
    is_door_full: bool,
    /// All connections are to end: the next one that has to look for its moment, until each of them has.
    pub(super) closing: Option<usize>,
    /// That has begun.
    pub(super) closes: bool,
    /// The stop was seen.
    pub(super) stopping: bool,
    /// The beginning of this turn.
    pub(super) now: Instant,
    pub(super) scratch: Box<[u8]>,
    /// Room for tokens, empty between uses.
    pub(super) tokens: Vec<u32>,
}

impl EventLoop {
    pub(super) fn new(poll: mio::Poll, door: Arc<Door>, settings: DirectSettings) -> Self {
        let now = Instant::now();
        let rest = Rest::new(settings.rest);
        Self {
            settings,
            poll,
            inbox: Arc::new(Inbox::new(Waker::from(door.alarm.clone()))),
            door,
            slots: Slab::new(),
            wheel: Wheel::new(now),
            rounds: VecDeque::new(),
            begun: VecDeque::new(),
            later: Vec::new(),
            rest,
            single: VecDeque::new(),
            is_door_full: false,
            closing: None,
            closes: false,
            stopping: false,
            now,
            scratch: vec![0; SCRATCH].into(),
            tokens: Vec::with_capacity(SLICE),
        }
    }

    /// Until the stop, and until the last connection has ended after it.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.now = Instant::now();
            if self.rest.is_over(self.now) {
                self.take_calls();
                self.admit();
                self.go_round();
            }
            self.look_single();
            self.close_some();
            self.call_due();
            if self.is_over() {
                return;
            }
            let timeout = self.sleeps();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != ErrorKind::Interrupted
            {
                return tracing::error!(%error, "an event loop cannot ask for events");
            }
            self.door.alarm.is_awake();
            self.now = Instant::now();
            for event in &events {
                self.event(event);
            }
        }
    }

    /// How long it may sleep: not at all while there is something to do.
    fn sleeps(&mut self) -> Option<Duration> {
        if self.closing.is_some() || !self.single.is_empty() {
            return Some(Duration::ZERO);
        }
        let busy = self.is_door_full || !self.rounds.is_empty() || !self.begun.is_empty();
        let (now, timer) = (Instant::now(), self.wheel.next());
        let inbox = &self.inbox;
        let until = match self.rest.until(now, || busy || inbox.is_crowded(MANY)) {
            Some(until) => Some(timer.map_or(until, |timer| timer.min(until))),
            None if busy || !self.later.is_empty() || !self.door.alarm.falls_asleep() => return Some(Duration::ZERO),
            None => timer,
        };
        until.map(|until| until.saturating_duration_since(now))
    }

    fn is_over(&mut self) -> bool {
        if !self.stopping && self.settings.stop.is_cancelled() {
            self.stopping = true;
            self.hurry_heads();
        }
        self.stopping && self.slots.is_empty() && self.door.lock().is_empty()
    }

    /// At a stop, half a request holds nothing up for long.
    fn hurry_heads(&mut self) {
        let until = self.now + AT_STOP;
        for (key, slot) in &mut self.slots {
            if let Slot::Waiting(waiting) = slot {
                waiting.until = waiting.until.min(until);
                waiting.timer = self.wheel.enter(key as u32, waiting.until, waiting.timer);
            }
        }
    }

    fn call_due(&mut self) {
        let mut due = Vec::new();
        while let Some(tick) = self.wheel.call(self.now, &mut due) {
            for token in due.drain(..) {
                self.due(token, tick);
            }
        }
    }

    fn due(&mut self, token: u32, tick: Tick) {
        match self.slots.get_mut(token as usize) {
            Some(Slot::Stream(stream)) if stream.timer == tick => {
                stream.timer = NEVER;
                self.look(token);
            }
            Some(Slot::Waiting(waiting)) if waiting.timer == tick => {
                waiting.timer = NEVER;
                if self.now >= waiting.until {
                    tracing::debug!("gave up a connection without a whole request");
                    // Who sent nothing was beyond no limit, and at a stop it is the node that is in a hurry.
                    if !waiting.beginning.is_empty() && !self.stopping {
                        self.settings.heads.metrics.over(Limited::HeadTimeout);
                    }
                    self.remove(token);
                } else {
                    waiting.timer = self.wheel.enter(token, waiting.until, NEVER);
                }
            }
            // Put off, or of somebody who is gone.
            _ => {}
        }
    }

    /// Takes sockets that have come.
    fn admit(&mut self) {
        let (arrived, is_full) = self.door.take(SLICE);
        self.is_door_full = is_full;
        if !arrived.is_empty() {
            self.rest.works(self.now);
        }
        for arrival in arrived {
            let entry = self.slots.vacant_entry();
            let token = entry.key() as u32;
            let until = self.now + if self.stopping { AT_STOP } else { self.settings.heads.timeout };
            entry.insert(Slot::Waiting(Box::new(Waiting::new(arrival, until))));
            // The request is there already, more often than not.
            self.guarded(token, |this| this.read_head(token, true));
        }
    }

    fn event(&mut self, event: &Event) {
        if event.token() == ALARM {
            return;
        }
        // 32 bits are more than there can be descriptors.
        let token = event.token().0 as u32;
        let closed = event.is_read_closed() || event.is_error();
        self.guarded(token, |this| {
            if event.is_readable() || closed {
                this.readable(token, closed);
            }
            if event.is_writable() {
                this.writable(token);
            }
        });
    }

    /// What goes wrong with one connection is not to end the others of the loop.
    fn guarded(&mut self, token: u32, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            tracing::error!("a connection was closed after a fault of this program");
            self.remove(token);
        }
    }

    fn readable(&mut self, token: u32, closed: bool) {
        let is_there = match self.slots.get_mut(token as usize) {
            None | Some(Slot::Between) => return,
            Some(Slot::Waiting(_)) => {
                self.read_head(token, false);
                // What was read may have been a whole head: that nothing comes behind it is not told again.
                let waits = matches!(self.slots.get(token as usize), Some(Slot::Waiting(_)) | None);
                if closed && !waits {
                    self.readable(token, true);
                }
                return;
            }
            Some(Slot::Opening(opening)) => opening.readable(&mut self.scratch, closed),
            Some(Slot::Stream(stream)) => stream.readable(&mut self.scratch, closed),
        };
        if !is_there {
            self.remove(token);
        }
    }

    fn writable(&mut self, token: u32) {
        let Some(Slot::Stream(stream)) = self.slots.get_mut(token as usize) else { return };
        if stream.is_blocked() {
            let served = stream.writable(self.now, self.settings.write_timeout);
            self.served(token, served);
        }
    }

    /// Lets a connection look for what it has to write.
    pub(super) fn look(&mut self, token: u32) {
        self.guarded(token, |this| this.look_at(token));
    }

    fn look_at(&mut self, token: u32) {
        match self.slots.get_mut(token as usize) {
            Some(Slot::Stream(stream)) => {
                let served = stream.serve(self.now, self.settings.write_timeout);
                self.served(token, served);
            }
            Some(Slot::Opening(_)) => self.poll_answer(token),
            Some(Slot::Waiting(_) | Slot::Between) | None => {}
        }
    }

    pub(super) fn served(&mut self, token: u32, served: Served) {
        match served {
            Served::Until(at) => {
                self.await_room(token);
                if let Some(Slot::Stream(stream)) = self.slots.get_mut(token as usize) {
                    stream.timer = self.wheel.enter(token, at, stream.timer);
                }
            }
            Served::More => self.call(token),
            Served::Ended => self.end(token),
            Served::Gone => self.remove(token),
        }
    }

    /// Reads a request's head; `first`: the socket is not known to the system's events yet.
    fn read_head(&mut self, token: u32, first: bool) {
        let Some(Slot::Waiting(waiting)) = self.slots.get_mut(token as usize) else { return };
        let request = match waiting.readable(&mut self.scratch, self.settings.is_stream, self.settings.heads.most) {
            Said::Gone => return self.remove(token),
            Said::Other => return self.hand_over(token, !first),
            Said::Part => None,
            Said::Stream(request) => Some(request),
        };
        if first && !self.register(token) {
            return self.remove(token);
        }
        let Some(Slot::Waiting(waiting)) = self.slots.get_mut(token as usize) else { return };
        let Some(request) = request else {
            waiting.timer = self.wheel.enter(token, waiting.until, waiting.timer);
            return;
        };
        let Some(Slot::Waiting(waiting)) = self.take(token) else { return };
        let opening = waiting.open(request, &self.settings.router, &self.inbox, token);
        self.put(token, Slot::Opening(Box::new(opening)));
        self.poll_answer(token);
    }
}
