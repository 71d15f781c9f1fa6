//! The hub: which channels have someone on this node, and what was published on them lately.
//!
//! An event enters by `Sink::message`, is encoded once, waits in its channel's log, and leaves when a connection reads it
//! there. Fan-out never waits: appending and waking cost the same whether a connection is fast, slow or dead.
//!
//! Locks, always taken in this order: table, channel, partition. No waker is called and nothing is awaited under any.

mod busiest;
mod channel;
pub mod encoded;
mod housekeeping;
mod inbox;
mod listeners;
pub mod log;
mod partition;
mod replay;
mod sink;
mod subscription;
mod wakeup;

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Gauge;
use shared::channel::Channel;
use shared::cursor::{CursorPart, Tag};
use shared::keys::Keys;
use shared::position::Position;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::busiest::BUSIEST;
use self::channel::LocalChannel;
pub use self::channel::{Hole, Live};
pub use self::inbox::{Calls, Inbox, Round};
use self::log::LogLimits;
use self::partition::PartitionState;
pub use self::partition::{Health, Life};
pub use self::replay::{Asked, Replay, ReplaySettings, Ticket};
pub use self::subscription::{Follow, Lagged, Look, Peek, Subscription, all_live};
pub use self::wakeup::Wakeup;
use crate::broker::{Interest, InterestQueue, Partition};
use crate::metrics::HubMetrics;

/// A new connection waits for a broker that is gone no longer than this: a session that was cut is back sooner.
const AWAY_AFTER: Duration = Duration::from_secs(1);

/// Settings of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubSettings {
    /// Bounds of each channel log.
    pub log: LogLimits,
    /// How long a channel stays subscribed after its last connection, since many come right back.
    pub linger: Duration,
    /// Bounds of what is read of channels' pasts.
    pub replay: ReplaySettings,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { log: LogLimits::default(), linger: Duration::from_secs(1), replay: ReplaySettings::default() }
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
    /// Channels whose past somebody wants. Filled under a channel's lock, which cannot wait.
    replays: mpsc::UnboundedSender<Arc<LocalChannel>>,
    /// The other end, until `run` takes it.
    replay_queue: Mutex<Option<replay::Queue>>,
    /// The log may say again that a past cannot be read. Set each time that logs are aged, unset by whoever says it.
    may_tell: AtomicBool,
    /// Channels with the most connections when logs were last aged, which wrote it. Read where there are many channels.
    busiest: Mutex<Vec<(Channel, usize)>>,
}

struct Table {
    /// Every channel that is subscribed, or is to be. Made by `attach`, removed by `sweep`.
    channels: HashSet<ByName>,
    /// Channels that somebody left as the last one, in order of time. Some may have company again.
    lingering: VecDeque<(Instant, Arc<LocalChannel>)>,
    next_generation: u64,
    /// To the broker, in the order in which things happened to `channels`.
    interest: mpsc::UnboundedSender<Interest>,
    /// Set once by `close`: nobody attaches any more.
    closed: bool,
}

/// A channel in the table, found by its name, of which there is one copy.
struct ByName(Arc<LocalChannel>);

impl Borrow<Channel> for ByName {
    fn borrow(&self) -> &Channel {
        &self.0.channel
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.channel.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.channel == other.0.channel
    }
}

impl Eq for ByName {}

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
        #[allow(clippy::disallowed_methods)] // each channel is in it once at most
        let (replays, replay_queue) = mpsc::unbounded_channel();
        let partitions = (0..keys.partitions()).map(|_| PartitionState::default()).collect();
        let table =
            Table { channels: HashSet::new(), lingering: VecDeque::new(), next_generation: 1, interest, closed: false };
        let table = Mutex::new(table);
        let replay_queue = Mutex::new(Some(replay_queue));
        let (may_tell, busiest) = (AtomicBool::new(true), Mutex::default());
        let hub = Self { keys, settings, metrics, partitions, table, replays, replay_queue, may_tell, busiest };
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
            Some(ByName(local)) => local.clone(),
            None => self.subscribe(&mut table, channel),
        };
        let mut state = local.lock();
        state.lingers_until = None;
        let key = state.listeners.insert(wakeup);
        let (next, hole) = (state.log.end(), state.hole().number);
        drop(state);
        Ok(Subscription::new(self.clone(), local, wakeup.clone(), key, next, hole))
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

    /// Whether a session of `partition` is established.
    #[must_use]
    pub fn is_up(&self, partition: Partition) -> bool {
        self.partition(partition).is_some_and(PartitionState::is_up)
    }

    /// Wakes `wakeup` once the watermark has come to `position`, which may be at once.
    pub fn wake_at(&self, partition: Partition, position: Position, wakeup: &Arc<Wakeup>) {
        if self.partition(partition).is_some_and(|partition| partition.wake_at(position, wakeup)) {
            wakeup.call();
        }
    }

    /// Ends every connection, each at a random moment until `until`, and lets nobody attach any more.
    pub fn close(&self, until: Instant) {
        let mut table = self.lock();
        table.closed = true;
        let locals = table.all();
        drop(table);
        for local in locals {
            let (tasks, loops) = local.lock().listeners.for_closing();
            tasks.iter().for_each(|wakeup| wakeup.close(until));
            loops.iter().for_each(|inbox| inbox.close(until));
        }
    }

    /// Ends every connection on `channel`, now. Whoever comes later, as their clients may, begins another life of it.
    pub fn dismiss(&self, channel: &Channel) {
        let mut table = self.lock();
        let Some(ByName(local)) = table.channels.take(channel) else { return };
        table.send(Interest::Unsubscribe { channel: channel.clone() });
        // Under the table's lock: a sweep that finds it knows that it is out.
        local.dismiss();
        drop(table);
        local.call();
    }

    /// Connections on `channel`.
    #[must_use]
    pub fn connections(&self, channel: &Channel) -> usize {
        self.find(channel).map_or(0, |local| local.lock().listeners.len())
    }

    /// Channels that are subscribed, or are to be.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.lock().channels.len()
    }

    fn subscribe(&self, table: &mut Table, channel: &Channel) -> Arc<LocalChannel> {
        let generation = table.next_generation;
        table.next_generation += 1;
        let local = Arc::new(LocalChannel::new(channel.clone(), self.keys.partition(channel), generation));
        table.channels.insert(ByName(local.clone()));
        table.send(Interest::Subscribe { channel: channel.clone(), generation });
        set_count(&self.metrics.broker_subscriptions, table.channels.len());
        local
    }

    /// `wakeup` outlives the locks: with it may go a waker, and with that a connection.
    fn detach(&self, local: &Arc<LocalChannel>, wakeup: &Arc<Wakeup>, key: usize) {
        let mut table = self.lock();
        let mut state = local.lock();
        state.listeners.remove(wakeup, key);
        if !state.listeners.is_empty() {
            return;
        }
        if local.is_dismissed() {
            return;
        }
        let due = Instant::now() + self.settings.linger;
        state.lingers_until = Some(due);
        drop(state);
        table.lingering.push_back((due, local.clone()));
    }

    fn find(&self, channel: &Channel) -> Option<Arc<LocalChannel>> {
        self.lock().channels.get(channel).map(|ByName(local)| local.clone())
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
    fn all(&self) -> Vec<Arc<LocalChannel>> {
        self.channels.iter().map(|ByName(local)| local.clone()).collect()
    }

    fn send(&self, interest: Interest) {
        // A broker that is gone has stopped, and so will this node.
        let _ = self.interest.send(interest);
    }
}

fn call(wakeups: Vec<Arc<Wakeup>>) {
    for wakeup in wakeups {
        wakeup.call();
    }
}

fn set_count(gauge: &Gauge, count: usize) {
    // Exact up to 2^53, far beyond any count here.
    #[allow(clippy::cast_precision_loss)]
    gauge.set(count as f64);
}

#[cfg(test)]
mod tests;
