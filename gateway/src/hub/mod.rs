//! The hub: which channels have someone on this node, and what was published on them lately.
//!
//! An event enters by [`Sink::message`], is encoded once, waits in its channel's log, and leaves when a connection reads it
//! there. Fan-out never waits: appending and waking cost the same whether a connection is fast, slow or dead.
//!
//! Locks, always taken in this order: table, channel, partition. No waker is called and nothing is awaited under any.

mod channel;
pub mod encoded;
pub mod log;
mod partition;
mod subscription;
mod wakeup;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use metrics::Gauge;
use shared::channel::Channel;
use shared::cursor::{CursorPart, Tag};
use shared::keys::Keys;
use shared::position::{Epoch, Position};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::channel::LocalChannel;
use self::encoded::{Encoded, Order};
use self::log::LogLimits;
use self::partition::PartitionState;
pub use self::partition::{Health, Life};
pub use self::subscription::{Lagged, Subscription, all_live};
pub use self::wakeup::Wakeup;
use crate::broker::{Interest, InterestQueue, Join, Lost, Message, Partition, Seen, Sink, Snapshot};
use crate::metrics::HubMetrics;

/// How often [`Hub::run`] looks for channels whose linger is over.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How often it looks for old events in the logs.
const TRIM_INTERVAL: Duration = Duration::from_secs(15);

/// A new connection waits for a broker that is gone no longer than this: a session that was cut is back sooner.
const AWAY_AFTER: Duration = Duration::from_secs(1);

/// Settings of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubSettings {
    /// Bounds of each channel log.
    pub log: LogLimits,
    /// How long a channel stays subscribed after its last connection, since many come right back.
    pub linger: Duration,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { log: LogLimits::default(), linger: Duration::from_secs(1) }
    }
}

/// Share it by `Arc`.
pub struct Hub {
    keys: Keys,
    settings: HubSettings,
    metrics: HubMetrics,
    /// By number of the partition.
    partitions: Vec<PartitionState>,
    table: Mutex<Table>,
}

struct Table {
    /// Every channel that is subscribed, or is to be. Made by `attach`, removed by `sweep`.
    channels: HashMap<Channel, Arc<LocalChannel>>,
    /// Channels that somebody left as the last one, in order of time. Some may have company again.
    lingering: VecDeque<(Instant, Arc<LocalChannel>)>,
    next_generation: u64,
    /// To the broker, in the order in which things happened to `channels`.
    interest: mpsc::UnboundedSender<Interest>,
    /// Set once by `close`: nobody attaches any more.
    closed: bool,
}

/// The hub is closing; nobody attaches any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node is stopping")]
pub struct Closed;

impl Hub {
    /// An empty hub, and the queue by which a broker learns its interest.
    #[must_use]
    pub fn new(keys: Keys, settings: HubSettings, metrics: HubMetrics) -> (Arc<Self>, InterestQueue) {
        // Filled under the table lock, which cannot wait; see `InterestQueue`.
        #[allow(clippy::disallowed_methods)]
        let (interest, queue) = mpsc::unbounded_channel();
        let partitions = (0..keys.partitions()).map(|_| PartitionState::default()).collect();
        let table =
            Table { channels: HashMap::new(), lingering: VecDeque::new(), next_generation: 1, interest, closed: false };
        let hub = Self { keys, settings, metrics, partitions, table: Mutex::new(table) };
        (Arc::new(hub), queue)
    }

    /// Puts a connection on `channel`. It reads what arrives from now on, and is woken by `wakeup`.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn attach(self: &Arc<Self>, channel: &Channel, wakeup: &Arc<Wakeup>) -> Result<Subscription, Closed> {
        let mut table = self.lock();
        if table.closed {
            return Err(Closed);
        }
        let local = match table.channels.get(channel) {
            Some(local) => local.clone(),
            None => self.subscribe(&mut table, channel),
        };
        let mut state = local.lock();
        state.lingers_until = None;
        let key = state.subscribers.insert(wakeup.clone());
        let next = state.log.end();
        drop(state);
        Ok(Subscription::new(self.clone(), local, key, next))
    }

    /// Everything published up to here, on every channel that is live here, is in the logs.
    #[must_use]
    pub fn watermark(&self, partition: Partition) -> Position {
        self.partition(partition).map_or(Position::ZERO, PartitionState::watermark)
    }

    /// What a cursor at `position` looks like now; `None` before the partition's first session.
    #[must_use]
    pub fn cursor(&self, partition: Partition, position: Position) -> Option<CursorPart> {
        let tag = self.partition(partition)?.epoch()?.tag;
        Some(self.part(partition, position, tag))
    }

    /// The life of the partition's data that there is now; `None` before the partition's first session.
    #[must_use]
    pub fn life(&self, partition: Partition) -> Option<Life> {
        let epoch = self.partition(partition)?.epoch()?;
        Some(Life { number: epoch.life, begin: self.part(partition, epoch.begin, epoch.tag) })
    }

    fn part(&self, partition: Partition, position: Position, tag: Tag) -> CursorPart {
        CursorPart { partition: (self.keys.partitions() > 1).then_some(partition), position, tag }
    }

    /// How long ago this node last heard itself, on the partition where that is longest ago; `None` before the first time.
    #[must_use]
    pub fn barrier_age(&self, now: Instant) -> Option<Duration> {
        let ages =
            self.partitions.iter().map(|partition| partition.heard().map(|at| now.saturating_duration_since(at)));
        ages.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// How the broker is doing, on the partition where that is worst.
    #[must_use]
    pub fn health(&self, now: Instant) -> Health {
        let all = self.partitions.iter().map(|partition| partition.health(now));
        let rank = |health: &Health| match health {
            Health::Heard(age) => (0, *age),
            Health::Away(time) => (1, *time),
            Health::Starting => (2, Duration::ZERO),
            Health::Deaf => (3, Duration::ZERO),
        };
        all.max_by_key(rank).unwrap_or(Health::Starting)
    }

    /// Whether `partition` has been without a session for longer than it is worth waiting for one.
    #[must_use]
    pub fn is_away(&self, partition: Partition, now: Instant) -> bool {
        let away = self.partition(partition).and_then(|partition| partition.away(now));
        away.is_some_and(|time| time > AWAY_AFTER)
    }

    /// Ends every connection, and lets nobody attach any more.
    pub fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let locals: Vec<_> = table.channels.values().cloned().collect();
        drop(table);
        for local in locals {
            let wakeups: Vec<_> = local.lock().subscribers.iter().map(|(_, wakeup)| wakeup.clone()).collect();
            for wakeup in wakeups {
                wakeup.close();
            }
        }
    }

    /// Unsubscribes channels whose linger is over, and ages the logs, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let mut trim = tokio::time::interval(TRIM_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        trim.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => self.sweep(Instant::now()),
                _ = trim.tick() => self.trim(Instant::now()),
            }
        }
    }

    /// Unsubscribes channels whose linger was over by `now`. A log goes with its channel.
    pub fn sweep(&self, now: Instant) {
        let mut table = self.lock();
        while let Some((due, local)) = table.lingering.pop_front_if(|(due, _)| *due <= now) {
            // Whoever came and went in between has put the channel into the queue again, for later.
            let mut state = local.lock();
            if state.lingers_until == Some(due) {
                state.lingers_until = None;
                drop(state);
                table.channels.remove(&local.channel);
                table.send(Interest::Unsubscribe { channel: local.channel.clone() });
            }
        }
        set_count(&self.metrics.broker_subscriptions, table.channels.len());
    }

    fn trim(&self, now: Instant) {
        let locals: Vec<_> = self.lock().channels.values().cloned().collect();
        for local in locals {
            local.lock().log.trim(now, &self.settings.log);
        }
    }

    fn subscribe(&self, table: &mut Table, channel: &Channel) -> Arc<LocalChannel> {
        let generation = table.next_generation;
        table.next_generation += 1;
        let local = Arc::new(LocalChannel::new(channel.clone(), self.keys.partition(channel), generation));
        table.channels.insert(channel.clone(), local.clone());
        table.send(Interest::Subscribe { channel: channel.clone(), generation });
        set_count(&self.metrics.broker_subscriptions, table.channels.len());
        local
    }

    fn detach(&self, local: &Arc<LocalChannel>, key: usize) {
        // Dropped after the locks: with it may go a waker, and with that a connection.
        let _wakeup;
        let mut table = self.lock();
        let mut state = local.lock();
        _wakeup = state.subscribers.try_remove(key);
        if !state.subscribers.is_empty() {
            return;
        }
        let due = Instant::now() + self.settings.linger;
        state.lingers_until = Some(due);
        drop(state);
        table.lingering.push_back((due, local.clone()));
    }

    fn find(&self, channel: &Channel) -> Option<Arc<LocalChannel>> {
        self.lock().channels.get(channel).cloned()
    }

    /// Does something to every channel of `partition` that is here.
    fn each(&self, partition: Partition, act: impl Fn(&LocalChannel)) {
        let locals: Vec<_> = self.lock().channels.values().cloned().collect();
        locals.iter().filter(|local| local.partition == partition).for_each(|local| act(local));
    }

    fn partition(&self, partition: Partition) -> Option<&PartitionState> {
        self.partitions.get(usize::from(partition))
    }

    /// Nothing under this lock panics half-way, so a poisoned table is still a whole one.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn send(&self, interest: Interest) {
        // A broker that is gone has stopped, and so will this node.
        let _ = self.interest.send(interest);
    }
}

impl Sink for Hub {
    fn session(&self, partition: Partition, epoch: &Epoch, clock: Position) {
        let tag = Tag::of(epoch, self.keys.partitions());
        let Some(state) = self.partition(partition) else { return };
        let another = state.is_another_life(tag, clock);
        if another {
            // Before the new life is known: whoever sees that sees no events of the old one. Who has some unread is closed
            // like one that is too slow, and comes back.
            self.each(partition, |local| local.lock().log.clear());
        }
        state.begin(tag, clock, another);
    }

    fn established(&self, partition: Partition) {
        if let Some(state) = self.partition(partition) {
            state.establish();
        }
    }

    fn lost(&self, partition: Partition, reason: Lost) {
        if let Some(state) = self.partition(partition) {
            state.lose(reason);
        }
        self.each(partition, |local| local.lock().live = None);
    }

    fn seen(&self, _channel: &Channel, _generation: u64) -> Option<Seen> {
        None
    }

    fn stale(&self, _channel: &Channel, _generation: u64) {}

    fn live(&self, channel: &Channel, generation: u64, snapshot: Snapshot, _join: Join) {
        match self.find(channel) {
            Some(local) if local.generation == generation => wake(local.set_live(snapshot)),
            _ => {}
        }
    }

    fn message(&self, message: Message) {
        let Some(local) = self.find(&message.channel) else { return };
        let Some(partition) = self.partition(local.partition) else { return };
        let stamp = message.stamp;
        let (cursor, order) = match stamp {
            Some(stamp) => {
                (self.cursor(local.partition, stamp.position), Order { position: stamp.position, arrival: 0 })
            }
            None => (None, partition.ephemeral_order()),
        };
        let event = Encoded::new(message, cursor, order, Instant::now());
        self.metrics.received(stamp.is_some(), event.is_envelope());
        let rise = || {
            if let Some(stamp) = stamp {
                partition.raise(stamp.position);
            }
        };
        wake(local.push(Arc::new(event), &self.settings.log, rise));
    }

    fn barrier(&self, partition: Partition, position: Position) {
        if let Some(partition) = self.partition(partition) {
            partition.raise(position);
            partition.set_heard();
        }
    }
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

fn set_count(gauge: &Gauge, count: usize) {
    // Exact up to 2^53, far beyond any count here.
    #[allow(clippy::cast_precision_loss)]
    gauge.set(count as f64);
}

#[cfg(test)]
mod tests;
