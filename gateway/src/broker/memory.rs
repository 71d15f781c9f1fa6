//! The embedded broker: positions, history, expiry, `end` and idempotency as on Redis, in the memory of one process.
//!
//! One lock over all of it, and messages are passed on while it is held: that is what makes a publish one step, and its
//! order the order in which connections see it. They are woken after it. Nothing outlives the process; the next one has
//! another epoch.

mod cancels;
mod channels;
mod history;
mod orders;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use publisher::{Publication, Publish, PublishError, Receipt};
use shared::channel::Channel;
use shared::cursor::{CursorPart, Tag};
use shared::envelope::Payload;
use shared::position::{Epoch, Position};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::cancels::Cancels;
use self::history::{History, Size};
use self::orders::Told;
use super::spare::Spare as _;
use super::{
    Between, Broker, BrokerError, Entry, Interest, InterestQueue, Join, Message, Partition, Sink, Snapshot, Stamp, Wake,
};

/// There is only one partition here.
const PARTITION: Partition = 0;
/// How often the node hears itself, and so how old an idle stream's cursor can be.
pub const BARRIER_INTERVAL: Duration = Duration::from_secs(5);
/// A clock older than this is raised to the time of day by a barrier or a read.
const CLOCK_AGE_MS: u64 = 60_000;
/// What a publisher is told when the broker is full: history expires slowly.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How often expired channels are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Most channels that one look for expired ones goes through, so that the lock is never held for long.
const SWEEP_BATCH: usize = 1_000;
/// Places of entries long gone that [`State::oldest`] may hold beside those of as many that are there.
const OLDEST_SLACK: usize = 1_024;

/// Time of day in Unix milliseconds; a test brings its own.
pub type TimeOfDay = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Bounds on what the broker keeps.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Bytes of history over all channels; beyond it the oldest entries of all go first, and who resumes from before them
    /// is told of a gap.
    pub max_bytes: usize,
    /// Channels of which anything is remembered, `once` keys, and cancellations, each; beyond it what would add one is
    /// refused: a durable publish, a cancellation.
    pub max_keys: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        // A laptop's worth: with 1 KiB events some 230,000 of them.
        Self { max_bytes: 256 << 20, max_keys: 1_000_000 }
    }
}

/// The broker. Share it by `Arc`.
pub struct MemoryBroker {
    limits: MemoryLimits,
    epoch: Epoch,
    tag: Tag,
    now: TimeOfDay,
    state: Mutex<State>,
    cancels: Cancels,
    told: Told,
}

struct State {
    /// At or after the position of every event so far. Written by publishes, reads and barriers, never lowered.
    clock: Position,
    /// Every channel of which anything is remembered. An entry ends when all of it expired.
    channels: HashMap<Channel, History>,
    /// When to look at each of `channels` next: exactly one item a channel.
    due: BTreeSet<(u64, Channel)>,
    /// Entries in the order they came, so that the oldest of all can go first. One here may be gone already from its
    /// channel (trimmed or expired); then popping it does nothing.
    oldest: VecDeque<(Channel, Position)>,
    /// The sum over `channels`.
    size: Size,
    /// Channels that the hub wants. Written by `run` alone.
    interest: HashSet<Channel>,
    /// The log has said that the broker is full; it says so again only once a tenth had become free in between.
    told_full: bool,
    /// Where messages go; set by `run`, and until then nobody can be interested.
    sink: Option<Arc<dyn Sink>>,
}

impl MemoryBroker {
    /// An empty broker with an epoch of its own.
    #[must_use]
    pub fn new(limits: MemoryLimits) -> Self {
        Self::with_time(limits, Arc::new(unix_ms))
    }

    /// The same with another time of day.
    #[must_use]
    pub fn with_time(limits: MemoryLimits, now: TimeOfDay) -> Self {
        let epoch = Epoch::from_bits(fastrand::u64(..));
        let state = State {
            clock: Position::ZERO.advance(now()),
            channels: HashMap::new(),
            due: BTreeSet::new(),
            oldest: VecDeque::new(),
            size: Size::default(),
            interest: HashSet::new(),
            told_full: false,
            sink: None,
        };
        let cancels = Cancels::new(now.clone(), limits.max_keys);
        let told = Told::new(now.clone(), limits.max_keys);
        Self { limits, tag: Tag::of(&epoch, 1), epoch, now, state: Mutex::new(state), cancels, told }
    }

    /// Nothing under this lock panics half-way, so a poisoned state is still a whole one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_now(&self, channel: &Channel, publication: Publication) -> Result<Receipt, PublishError> {
        let now = (self.now)();
        let mut state = self.lock();
        if publication.ephemeral {
            let message = Message { channel: channel.clone(), payload: publication.payload, stamp: None };
            let (receivers, wake) = state.deliver(message);
            drop(state);
            call(wake);
            return Ok(Receipt { position: None, cursor: None, receivers, duplicate: false });
        }
        state.expire(channel, now);
        if let Some(position) = state.known_once(channel, &publication, now) {
            return Ok(self.receipt(position, 0, true));
        }
        let new_channel = !state.channels.contains_key(channel);
        let (channels, once_keys) = (
            state.channels.len() + usize::from(new_channel),
            state.size.once_keys + usize::from(publication.once.is_some()),
        );
        for (what, count) in [("channels", channels), ("once keys", once_keys)] {
            if count > self.limits.max_keys {
                let reason = format!("the embedded broker holds {} {what}, its limit", self.limits.max_keys);
                if !std::mem::replace(&mut state.told_full, true) {
                    tracing::warn!(%reason, "durable publishes are refused");
                }
                return Err(PublishError::Unavailable { reason, retry_after: FULL_RETRY_AFTER });
            }
        }
        state.told_full &= channels.max(once_keys) > self.limits.max_keys / 10 * 9;
        let message = state.append(channel, publication, now, self.limits.max_bytes);
        let position = state.clock;
        let (receivers, wake) = state.deliver(message);
        drop(state);
        call(wake);
        Ok(self.receipt(position, receivers, false))
    }

    fn receipt(&self, position: Position, receivers: u64, duplicate: bool) -> Receipt {
        let cursor = CursorPart { partition: None, position, tag: self.tag };
        Receipt { position: Some(position), cursor: Some(cursor), receivers, duplicate }
    }

    fn apply(&self, interest: Interest) {
        let now = (self.now)();
        let mut state = self.lock();
        match interest {
            Interest::Subscribe { channel, generation } => {
                state.interest.insert(channel.clone());
                let snapshot = state.snapshot(&channel, now);
                let sink = state.sink.clone();
                // What is published from now on may be passed on before the following is said; see `Sink::live`.
                drop(state);
                if let Some(sink) = sink {
                    // Everything up to here was passed on, and who comes back with a cursor need not wait to be believed.
                    sink.barrier(PARTITION, snapshot.clock);
                    // There are no sessions here, so nothing was seen before.
                    sink.live(&channel, generation, snapshot, Join::Anew);
                }
            }
            Interest::Unsubscribe { channel } => {
                state.interest.remove(&channel);
                state.interest.give_back();
            }
        }
    }

    fn barrier(&self) {
        let now = (self.now)();
        let mut state = self.lock();
        state.raise_clock(now);
        let (sink, clock) = (state.sink.clone(), state.clock);
        drop(state);
        if let Some(sink) = sink {
            sink.barrier(PARTITION, clock);
        }
    }

    fn sweep(&self) {
        let now = (self.now)();
        self.lock().sweep(now);
        self.cancels.sweep(now);
        self.told.sweep(now);
    }

    fn start(&self, sink: Arc<dyn Sink>) {
        let mut state = self.lock();
        sink.session(PARTITION, &self.epoch, state.clock);
        state.sink = Some(sink);
    }
}

impl State {
    /// Gives `publication` its position and puts it into the history. The message says the same to the connections.
    fn append(&mut self, channel: &Channel, publication: Publication, now: u64, max_bytes: usize) -> Message {
        let ended = Payload::ends(&publication.payload);
        let history = self.channels.entry(channel.clone()).or_default();
        let previous = history.last_position();
        let position = self.clock.max(previous).advance(now);
        let stamp = Stamp { position, previous };
        let (added, removed) =
            history.push(Entry { stamp, payload: publication.payload.clone() }, ended, &publication, now);
        self.size += added;
        self.size -= removed;
        self.oldest.push_back((channel.clone(), position));
        self.clock = position;
        self.schedule(channel);
        self.evict(max_bytes);
        Message { channel: channel.clone(), payload: publication.payload, stamp: Some(stamp) }
    }

    /// Passes `message` on if the hub wants it. The answer counts nodes, of which there is one, and says how to wake those
    /// who read it once the lock is free: there may be ten thousand.
    fn deliver(&self, message: Message) -> (u64, Option<Wake>) {
        let wanted = self.interest.contains(&message.channel);
        match &self.sink {
            Some(sink) if wanted => (1, sink.append(message)),
            _ => (0, None),
        }
    }

    fn known_once(&self, channel: &Channel, publication: &Publication, now: u64) -> Option<Position> {
        self.channels.get(channel)?.known_once(publication.once.as_ref()?, now)
    }

    /// As the atomic read of a channel on Redis, which begins with the clock.
    fn snapshot(&mut self, channel: &Channel, now: u64) -> Snapshot {
        self.expire(channel, now);
        self.raise_clock(now);
        let last = self.channels.get(channel).and_then(History::last);
        // What goes for want of room are entries alone: each last position stays its time.
        Snapshot { clock: self.clock, time_ms: now, evicts: false, last, entries: Vec::new() }
    }

    fn raise_clock(&mut self, now: u64) {
        if now.saturating_sub(self.clock.ms) > CLOCK_AGE_MS {
            self.clock = self.clock.advance(now);
        }
    }

    fn evict(&mut self, max_bytes: usize) {
        while self.size.bytes > max_bytes {
            let Some((channel, position)) = self.oldest.pop_front() else { return };
            if let Some(history) = self.channels.get_mut(&channel) {
                self.size -= history.remove_first(position);
            }
        }
        if self.oldest.len() > 2 * self.size.entries + OLDEST_SLACK {
            let channels = &self.channels;
            self.oldest
                .retain(|(channel, position)| channels.get(channel).is_some_and(|history| history.holds(*position)));
        }
    }

    /// Removes what expired of one channel. The channel itself stays until [`sweep`](Self::sweep) comes to it.
    fn expire(&mut self, channel: &Channel, now: u64) {
        if let Some(history) = self.channels.get_mut(channel) {
            self.size -= history.expire(now);
        }
    }

    /// Puts the channel where it is to be looked at next, or removes it when nothing of it is left.
    fn schedule(&mut self, channel: &Channel) {
        let Some(history) = self.channels.get_mut(channel) else { return };
        let next = history.next_expiry();
        if history.due == next {
            return;
        }
        if let Some(due) = history.due.take() {
            self.due.remove(&(due, channel.clone()));
        }
        history.due = next;
        match next {
            Some(next) => _ = self.due.insert((next, channel.clone())),
            None => _ = self.channels.remove(channel),
        }
    }

    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEEP_BATCH {
            let Some((due, channel)) = self.due.first().cloned() else { return };
            if due > now {
                return;
            }
            self.expire(&channel, now);
            self.schedule(&channel);
        }
    }
}

impl Publish for MemoryBroker {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        async move { self.publish_now(channel, publication) }.boxed()
    }
}

impl Broker for MemoryBroker {
    fn run(
        self: Arc<Self>,
        mut interest: InterestQueue,
        sink: Arc<dyn Sink>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        async move {
            self.start(sink);
            let mut barrier = tokio::time::interval(BARRIER_INTERVAL);
            let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
            barrier.set_missed_tick_behavior(MissedTickBehavior::Delay);
            sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    item = interest.recv() => match item {
                        Some(item) => self.apply(item),
                        None => return,
                    },
                    _ = barrier.tick() => self.barrier(),
                    _ = sweep.tick() => self.sweep(),
                }
            }
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        between: Between,
        limit: usize,
    ) -> BoxFuture<'a, Result<Snapshot, BrokerError>> {
        async move {
            let now = (self.now)();
            let mut state = self.lock();
            let mut snapshot = state.snapshot(channel, now);
            snapshot.entries =
                state.channels.get(channel).map(|history| history.newest(between, limit)).unwrap_or_default();
            let (sink, clock) = (state.sink.clone(), state.clock);
            drop(state);
            if let Some(sink) = sink {
                sink.barrier(PARTITION, clock);
            }
            Ok(snapshot)
        }
        .boxed()
    }
}

fn call(wake: Option<Wake>) {
    if let Some(wake) = wake {
        wake();
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
