//! What one Pub/Sub connection hears, passed on in its order.
//!
//! The client library calls [`Hearing::push`] on the task that reads the socket, for each message, one after the other:
//! there is no queue between socket and hub that could overflow or reorder. Whoever publishes faster than this node can
//! pass on fills Redis' output buffer for it, and Redis then ends the session.
//!
//! One lock, taken by the reading task and by the session; under it the hub is called, which never calls back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::{PushInfo, PushKind, Value};
use bytes::Bytes;
use shared::channel::Channel;
use shared::position::{Epoch, Position};
use shared::redis::message;
use tokio::sync::Notify;

use super::super::{Join, Message, Sink, Snapshot, Stamp};
use super::PARTITION;
use super::session::Ended;

/// Shared by a session and its Pub/Sub connection; ends with them.
pub(super) struct Hearing {
    sink: Arc<dyn Sink>,
    /// Name of the Pub/Sub channel on which this node hears itself.
    node_channel: String,
    state: Mutex<State>,
    /// Told when `State::ended`, `State::established` or `State::suspicion` is set.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What the session began with; `None` before that, and nothing is passed on.
    epoch: Option<Epoch>,
    /// By name in Redis. Set before SUBSCRIBE is sent, removed before UNSUBSCRIBE is; what comes on any other name is
    /// dropped.
    channels: HashMap<Vec<u8>, Channel>,
    /// The highest position heard, of an event or a barrier.
    heard: Position,
    /// The highest barrier heard.
    barrier: Position,
    /// Messages of any channel but the node's own so far: shows that the connection is alive.
    messages: u64,
    /// The session is established once this was heard and nothing is waiting; `None` before that is known, and after.
    establish_at: Option<Position>,
    established: bool,
    /// Snapshots whose barrier was not heard yet, in order of their clocks.
    waiting: VecDeque<Waiting>,
    /// A message came that cannot be one of this session, unless the data have begun another life; it was dropped. Taken by
    /// the session, which asks the server.
    suspicion: Option<Suspicion>,
    /// Why nothing more is passed on. Set once.
    ended: Option<Ended>,
}

/// What is wrong with a durable message. Anybody who may publish can write one by hand, so by itself it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// It is of another epoch.
    Epoch,
    /// Its position is not above the last.
    Order,
}

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) messages: u64,
    pub(super) heard: Position,
    pub(super) barrier: Position,
}

/// Channels that are live once `clock` is heard.
struct Waiting {
    clock: Position,
    channels: Vec<Attached>,
}

/// A channel that was subscribed and then read.
pub(super) struct Attached {
    pub(super) channel: Channel,
    pub(super) generation: u64,
    pub(super) snapshot: Snapshot,
    pub(super) join: Join,
}

impl Hearing {
    pub(super) fn new(sink: Arc<dyn Sink>, node_channel: String) -> Self {
        Self { sink, node_channel, state: Mutex::default(), changed: Notify::new() }
    }

    /// From here on what is heard belongs to `epoch`.
    pub(super) fn begin(&self, epoch: &Epoch, clock: Position) {
        let mut state = self.lock();
        self.sink.session(PARTITION, epoch, clock);
        (state.epoch, state.heard) = (Some(epoch.clone()), clock);
    }

    /// Passes on what comes on `channels`, whose names in Redis stand first.
    pub(super) fn listen(&self, channels: impl IntoIterator<Item = (String, Channel)>) {
        self.lock().channels.extend(channels.into_iter().map(|(name, channel)| (name.into_bytes(), channel)));
    }

    /// Drops whatever still comes on `names`.
    pub(super) fn ignore(&self, names: &[String]) {
        let mut state = self.lock();
        for name in names {
            state.channels.remove(name.as_bytes());
        }
    }

    /// `channels` were subscribed and then read at `clock`: they are live once that is heard, which may be already.
    pub(super) fn live_at(&self, clock: Position, channels: Vec<Attached>) {
        let mut state = self.lock();
        state.waiting.push_back(Waiting { clock, channels });
        self.release(&mut state);
    }

    /// Everything that was wanted at first has been subscribed: once `position` is heard, the session is established.
    pub(super) fn establish_at(&self, position: Position) {
        let mut state = self.lock();
        state.establish_at = Some(position);
        self.release(&mut state);
    }

    /// Waits until the session is established.
    pub(super) async fn established(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().established {
                return;
            }
            changed.await;
        }
    }

    /// Waits for a message that cannot be one of this session.
    pub(super) async fn suspicious(&self) -> Suspicion {
        loop {
            let changed = self.changed.notified();
            if let Some(suspicion) = self.lock().suspicion.take() {
                return suspicion;
            }
            changed.await;
        }
    }

    /// How far the connection has come.
    pub(super) fn progress(&self) -> Progress {
        let state = self.lock();
        Progress { messages: state.messages, heard: state.heard, barrier: state.barrier }
    }

    /// Nothing is passed on any more; the first reason stays.
    pub(super) fn end(&self, reason: Ended) {
        self.set_ended(&mut self.lock(), reason);
    }

    /// Waits until nothing is passed on any more. Returns why.
    pub(super) async fn ended(&self) -> Ended {
        loop {
            let changed = self.changed.notified();
            if let Some(ended) = &self.lock().ended {
                return ended.clone();
            }
            changed.await;
        }
    }

    /// Takes what the server pushed. Called in the order in which it came.
    pub(super) fn push(&self, info: PushInfo) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        let problem = match info.kind {
            PushKind::Message => self.message(&mut state, info.data),
            PushKind::Disconnection => Err(Ended::Closed),
            _ => Ok(()),
        };
        if let Err(reason) = problem {
            self.set_ended(&mut state, reason);
        }
    }

    fn message(&self, state: &mut State, data: Vec<Value>) -> Result<(), Ended> {
        let Ok([Value::BulkString(name), Value::BulkString(bytes)]) = <[Value; 2]>::try_from(data) else {
            return Err(Ended::Protocol);
        };
        if name == self.node_channel.as_bytes() {
            return self.barrier(state, &bytes);
        }
        state.messages += 1;
        let Some(channel) = state.channels.get(&name).cloned() else { return Ok(()) };
        let bytes = Bytes::from(bytes);
        let Some((head, payload)) = message::parse(&bytes) else {
            self.sink.message(Message { channel, payload: bytes, stamp: None });
            return Ok(());
        };
        let suspicion = if self.check(state, &head.epoch).is_err() {
            Some(Suspicion::Epoch)
        } else {
            (head.position <= state.heard).then_some(Suspicion::Order)
        };
        if suspicion.is_some() {
            state.suspicion = suspicion;
            self.changed.notify_waiters();
            return Ok(());
        }
        state.heard = head.position;
        let stamp = Stamp { position: head.position, previous: head.previous };
        self.sink.message(Message { channel, payload: bytes.slice(payload..), stamp: Some(stamp) });
        Ok(())
    }

    fn barrier(&self, state: &mut State, bytes: &[u8]) -> Result<(), Ended> {
        let Some((position, epoch)) = message::parse_clock(bytes) else { return Err(Ended::Protocol) };
        self.check(state, &epoch)?;
        if position < state.heard {
            return Err(Ended::Order);
        }
        (state.heard, state.barrier) = (position, position);
        self.sink.barrier(PARTITION, position);
        self.release(state);
        Ok(())
    }

    /// Another epoch means that events may have been lost: what is known so far is worth nothing.
    fn check(&self, state: &State, epoch: &Epoch) -> Result<(), Ended> {
        if state.epoch.as_ref() == Some(epoch) { Ok(()) } else { Err(Ended::Epoch) }
    }

    fn release(&self, state: &mut State) {
        if state.ended.is_some() {
            return;
        }
        while let Some(waiting) = state.waiting.pop_front_if(|waiting| waiting.clock <= state.barrier) {
            for Attached { channel, generation, snapshot, join } in waiting.channels {
                self.sink.live(&channel, generation, snapshot, join);
            }
        }
        if state.waiting.is_empty() && state.establish_at.is_some_and(|position| position <= state.barrier) {
            (state.establish_at, state.established) = (None, true);
            self.sink.established(PARTITION);
            self.changed.notify_waiters();
        }
    }

    fn set_ended(&self, state: &mut State, reason: Ended) {
        state.ended.get_or_insert(reason);
        self.changed.notify_waiters();
    }

    /// Nothing under this lock panics half-way, so a poisoned state is still a whole one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
