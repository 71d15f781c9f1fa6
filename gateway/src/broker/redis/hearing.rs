//! What one Pub/Sub connection hears of one partition, passed on in its order.
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

pub(crate) use self::words::{Attached, Compared, Progress, Suspicion};
use super::super::spare::Spare as _;
use super::super::{Message, Partition, Seen, Sink, Stamp};
use super::ended::Ended;
use super::rest;

mod waits;
mod words;

/// Shared by a session and its Pub/Sub connection; ends with them.
pub(crate) struct Hearing {
    sink: Arc<dyn Sink>,
    partition: Partition,
    /// Name of the Pub/Sub channel on which this node hears itself.
    node_channel: String,
    state: Mutex<State>,
    /// Told when `State::ended`, `State::established`, `State::suspicion` or `State::missed` is set, and of acknowledgements.
    changed: Notify,
    /// Told when `State::barrier` rises.
    barrier_rose: Notify,
}

/// Channels that were live, and of which messages did not arrive.
pub(crate) type Missed = Vec<(Channel, u64)>;

#[derive(Default)]
struct State {
    /// What the session began with; `None` before that, and nothing is passed on.
    epoch: Option<Epoch>,
    /// By name in Redis. Set before SUBSCRIBE is sent, removed before UNSUBSCRIBE is; what comes on any other name is
    /// dropped.
    channels: HashMap<Vec<u8>, Listened>,
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
    /// Channels whose snapshot is still being read.
    behind: usize,
    /// Taken by the session, which attaches them again.
    missed: Missed,
    /// A message came that cannot be one of this session, unless the data have begun another life; it was dropped. Taken by
    /// the session, which asks the server.
    suspicion: Option<Suspicion>,
    /// Why nothing more is passed on. Set once.
    ended: Option<Ended>,
}

/// A channel that is subscribed, or about to be.
struct Listened {
    channel: Channel,
    generation: u64,
    live: bool,
    /// The server has said that it is subscribed.
    acknowledged: bool,
    /// The last event that was passed on; where there was none since it became live, the clock of its snapshot.
    through: Position,
    /// Before it was live: an event that was not heard, though one that came after it was.
    unheard: Position,
}

/// What is done once `clock` is heard.
struct Waiting {
    clock: Position,
    then: Then,
}

enum Then {
    Live(Vec<Attached>),
    Compare(Vec<Compared>),
}

impl Hearing {
    pub(crate) fn new(sink: Arc<dyn Sink>, partition: Partition, node_channel: String) -> Self {
        let (state, changed, barrier_rose) = (Mutex::default(), Notify::new(), Notify::new());
        Self { sink, partition, node_channel, state, changed, barrier_rose }
    }

    /// From here on what is heard belongs to `epoch`.
    pub(crate) fn begin(&self, epoch: &Epoch, clock: Position) {
        let mut state = self.lock();
        self.sink.session(self.partition, epoch, clock);
        (state.epoch, state.heard) = (Some(epoch.clone()), clock);
    }

    /// How far the sink has heard a channel that is not live.
    pub(crate) fn seen(&self, channel: &Channel, generation: u64) -> Option<Seen> {
        self.sink.seen(channel, generation)
    }

    /// Passes on what comes on `channels`: their names in Redis, and the lives in which they are subscribed. They are not live.
    pub(crate) fn listen<'a>(&self, channels: impl Iterator<Item = (&'a String, &'a Channel, u64)>) {
        let listened = |(name, channel, generation): (&String, &Channel, u64)| {
            let channel = channel.clone();
            let (through, unheard) = (Position::ZERO, Position::ZERO);
            let (live, acknowledged) = (false, false);
            (name.clone().into_bytes(), Listened { channel, generation, live, acknowledged, through, unheard })
        };
        self.lock().channels.extend(channels.map(listened));
    }

    /// Drops whatever still comes on `names`.
    pub(crate) fn ignore(&self, names: &[String]) {
        let mut state = self.lock();
        for name in names {
            state.channels.remove(name.as_bytes());
        }
        state.channels.give_back();
    }

    /// What is subscribed, by its names in Redis.
    pub(crate) fn names(&self) -> Vec<String> {
        let state = self.lock();
        let names = state.channels.keys().map(|name| String::from_utf8_lossy(name).into_owned());
        names.chain([self.node_channel.clone()]).collect()
    }

    /// `attached` were subscribed and then read at `clock`: they are live once that is heard, which may be already. As many as
    /// `behind` have still to be read, and come by [`caught_up`](Self::caught_up), one by one.
    pub(crate) fn live_at(&self, clock: Position, attached: Vec<Attached>, behind: usize) {
        let mut state = self.lock();
        state.behind += behind;
        self.when_heard(&mut state, clock, Then::Live(attached));
    }

    /// One that was behind was read at `clock`.
    pub(crate) fn caught_up(&self, clock: Position, attached: Attached) {
        let mut state = self.lock();
        state.behind = state.behind.saturating_sub(1);
        self.when_heard(&mut state, clock, Then::Live(vec![attached]));
    }

    /// The last events of channels were read at `clock`: once that is heard, those that are live must have passed them on.
    pub(crate) fn compare_at(&self, clock: Position, compared: Vec<Compared>) {
        self.when_heard(&mut self.lock(), clock, Then::Compare(compared));
    }

    /// Everything that was wanted at first has been subscribed: once `position` is heard, the session is established.
    pub(crate) fn establish_at(&self, position: Position) {
        let mut state = self.lock();
        state.establish_at = Some(position);
        self.release(&mut state);
    }

    /// How far the connection has come.
    pub(crate) fn progress(&self) -> Progress {
        let state = self.lock();
        Progress { messages: state.messages, heard: state.heard, barrier: state.barrier }
    }

    /// Nothing is passed on any more; the first reason stays.
    pub(crate) fn end(&self, reason: Ended) {
        self.set_ended(&mut self.lock(), reason);
    }

    /// Takes what the server pushed. Called in the order in which it came.
    pub(crate) fn push(&self, info: PushInfo) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        let problem = match info.kind {
            PushKind::Message | PushKind::SMessage => self.message(&mut state, info.data),
            PushKind::SSubscribe => {
                self.subscribed(&mut state, &info.data);
                Ok(())
            }
            PushKind::SUnsubscribe => self.unsubscribed(&state, &info.data),
            PushKind::Disconnection => Err(Ended::Closed),
            _ => Ok(()),
        };
        if let Err(reason) = problem {
            self.set_ended(&mut state, reason);
        }
    }

    fn subscribed(&self, state: &mut State, data: &[Value]) {
        let Some(Value::BulkString(name)) = data.first() else { return };
        if let Some(listened) = state.channels.get_mut(name) {
            listened.acknowledged = true;
            self.changed.notify_waiters();
        }
    }

    /// What we unsubscribe is ignored first. A server that says so by itself has given the partition away.
    fn unsubscribed(&self, state: &State, data: &[Value]) -> Result<(), Ended> {
        let Some(Value::BulkString(name)) = data.first() else { return Err(Ended::Protocol) };
        let ours = *name == self.node_channel.as_bytes() || state.channels.contains_key(name);
        if ours { Err(Ended::Moved) } else { Ok(()) }
    }

    fn message(&self, state: &mut State, data: Vec<Value>) -> Result<(), Ended> {
        let Ok([Value::BulkString(name), Value::BulkString(bytes)]) = <[Value; 2]>::try_from(data) else {
            return Err(Ended::Protocol);
        };
        if name == self.node_channel.as_bytes() {
            return self.barrier(state, &bytes);
        }
        state.messages += 1;
        rest::heard();
        let Some(listened) = state.channels.get_mut(&name) else { return Ok(()) };
        let channel = listened.channel.clone();
        let bytes = Bytes::from(bytes);
        let Some((head, payload)) = message::parse(&bytes) else {
            self.sink.message(Message { channel, payload: bytes, stamp: None });
            return Ok(());
        };
        let suspicion = if state.epoch.as_ref() != Some(&head.epoch) {
            Some(Suspicion::Epoch)
        } else {
            (head.position <= state.heard).then_some(Suspicion::Order)
        };
        if suspicion.is_some() {
            state.suspicion = suspicion;
            self.changed.notify_waiters();
            return Ok(());
        }
        if head.previous > listened.through {
            if listened.live {
                self.miss(listened, &mut state.missed);
            } else {
                listened.unheard = listened.unheard.max(head.previous);
            }
        }
        (state.heard, listened.through) = (head.position, head.position);
        let stamp = Stamp { position: head.position, previous: head.previous };
        self.sink.message(Message { channel, payload: bytes.slice(payload..), stamp: Some(stamp) });
        Ok(())
    }

    /// Messages of a live channel did not arrive.
    fn miss(&self, listened: &mut Listened, missed: &mut Missed) {
        listened.live = false;
        self.sink.stale(&listened.channel, listened.generation);
        missed.push((listened.channel.clone(), listened.generation));
        self.changed.notify_waiters();
    }

    fn barrier(&self, state: &mut State, bytes: &[u8]) -> Result<(), Ended> {
        let Some((position, epoch)) = message::parse_clock(bytes) else { return Err(Ended::Protocol) };
        self.check(state, &epoch)?;
        if position < state.heard {
            return Err(Ended::Order);
        }
        (state.heard, state.barrier) = (position, position);
        self.sink.barrier(self.partition, position);
        self.release(state);
        self.barrier_rose.notify_waiters();
        Ok(())
    }

    /// Another epoch means that events may have been lost: what is known so far is worth nothing.
    fn check(&self, state: &State, epoch: &Epoch) -> Result<(), Ended> {
        if state.epoch.as_ref() == Some(epoch) { Ok(()) } else { Err(Ended::Epoch) }
    }

    /// Reads of several connections and channels come back in any order; what waits stays in the order of its clocks.
    fn when_heard(&self, state: &mut State, clock: Position, then: Then) {
        let at = state.waiting.partition_point(|waiting| waiting.clock <= clock);
        state.waiting.insert(at, Waiting { clock, then });
        self.release(state);
    }

    fn release(&self, state: &mut State) {
        if state.ended.is_some() {
            return;
        }
        while let Some(Waiting { clock, then }) = state.waiting.pop_front_if(|waiting| waiting.clock <= state.barrier) {
            match then {
                Then::Live(attached) => attached.into_iter().for_each(|attached| self.live(state, attached)),
                Then::Compare(compared) => compared.iter().for_each(|compared| self.compare(state, clock, compared)),
            }
        }
        let live = state.waiting.is_empty() && state.behind == 0;
        if live && state.establish_at.is_some_and(|position| position <= state.barrier) {
            (state.establish_at, state.established) = (None, true);
            self.sink.established(self.partition);
            self.changed.notify_waiters();
        }
    }

    fn live(&self, state: &mut State, attached: Attached) {
        let Attached { name, channel, generation, snapshot, join } = attached;
        let listened = state.channels.get_mut(&name);
        if let Some(listened) = listened.filter(|listened| listened.generation == generation) {
            if listened.unheard > snapshot.clock {
                // It is neither in the snapshot nor did it arrive: not live, but attached once more.
                state.missed.push((channel, generation));
                self.changed.notify_waiters();
                return;
            }
            listened.live = true;
            // What came since the snapshot was passed on, and waits in the sink.
            listened.through = listened.through.max(snapshot.clock);
        }
        self.sink.live(&channel, generation, snapshot, join);
    }

    fn compare(&self, state: &mut State, clock: Position, compared: &Compared) {
        // What came while memory was short can be newer than the clock, and be still on its way.
        if compared.last > clock {
            return;
        }
        let Some(listened) = state.channels.get_mut(&compared.name) else { return };
        if !listened.live || listened.generation != compared.generation {
            return;
        }
        let Some(seen) = self.sink.seen(&listened.channel, listened.generation) else { return };
        if seen.last < Some(compared.last) {
            self.miss(listened, &mut state.missed);
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
