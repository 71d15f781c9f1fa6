//! The past of a channel, read from the broker for connections whose cursor lies before the log: one read however many ask,
//! shared by all of them, and bounded over all channels.
//!
//! A connection asks ([`Subscription::past`](super::Subscription::past)); the channel goes into a queue, once; the worker
//! ([`run`]) reads, encodes, leaves the result with the channel, and wakes the connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use shared::continuity::{Evidence, Gap, Tail, unbroken};
use shared::position::{Position, Stamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::room::{Room, UNIT};
use super::Hub;
use super::channel::LocalChannel;
use super::encoded::Encoded;
use crate::broker::past::{self, Past, PastLimits};
use crate::broker::{Broker, BrokerError, Last};
use crate::metrics::HistoryRead;

mod room;

/// Reads under way at a time.
const READS: usize = 16;
/// A result that nobody asked for so long is dropped.
const UNUSED: Duration = Duration::from_secs(10);
/// Where there is no room: one that nobody has come to take for so long goes too.
const UNTAKEN: Duration = Duration::from_secs(1);
/// Bounds of reading the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplaySettings {
    /// What one connection is given of one channel; beyond it there is a gap.
    pub limits: PastLimits,
    /// Bytes of all results that are held at a time, about.
    pub max_bytes: usize,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        Self { limits: PastLimits::default(), max_bytes: 256 << 20 }
    }
}

/// Channels that somebody asked for the past of; each at most once, so it holds no more than there are channels.
pub(super) type Queue = mpsc::UnboundedReceiver<Arc<LocalChannel>>;

/// Reads of one channel's past. Part of the channel's state.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// Reads that have begun so far.
    begun: u64,
    /// Where the next read is to begin; `None` where nobody waits for one.
    wanted: Option<Position>,
    /// Where the read under way began; `None` where there is none.
    under_way: Option<Position>,
    /// The last that succeeded. Kept a while for those who come after it.
    current: Option<Arc<Replay>>,
    /// When somebody was last given it, or it came.
    used: Option<Instant>,
    /// Somebody was given it.
    given: bool,
    /// The channel stands in the list of those that may hold a result. Written by [`Room`].
    listed: bool,
    /// Number of the last read that failed.
    failed: u64,
    /// Number of the last read that is over, well or not.
    over: u64,
}

/// What somebody who asks for the past is told.
#[derive(Debug)]
pub enum Asked {
    /// Here it is.
    Ready(Arc<Replay>),
    /// It is being read; ask again with this ticket when woken.
    Wait(Ticket),
    /// It could not be read; ask anew, later.
    Failed,
}

/// A place in the queue for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Of the read.
    number: u64,
    /// That read had begun when the ticket was given, so what it says of the present may be too old.
    late: bool,
}

impl Replays {
    /// The past from `after` on, joining a log that begins at `floor`, in `life`. `ticket` is the number that was told
    /// before; where `fresh` is said, nothing that was read before will do. The second value: the channel has to be queued.
    pub(super) fn ask(
        &mut self,
        after: Position,
        floor: Position,
        life: u64,
        ticket: Option<Ticket>,
        fresh: bool,
        now: Instant,
    ) -> (Asked, bool) {
        let current = self.current.as_ref().filter(|replay| replay.life == life && floor <= replay.clock);
        let answers = |replay: &&Arc<Replay>| match ticket {
            Some(ticket) if !ticket.late => replay.number >= ticket.number && replay.reaches(after),
            Some(ticket) => replay.number >= ticket.number && replay.covers(after),
            None => !fresh && replay.covers(after),
        };
        if let Some(replay) = current.filter(answers) {
            (self.used, self.given) = (Some(now), true);
            return (Asked::Ready(replay.clone()), false);
        }
        match ticket {
            Some(ticket) if self.failed >= ticket.number => return (Asked::Failed, false),
            // Else its result does not cover this, does not join the log any more, or had to make room: anew.
            Some(ticket) if self.over < ticket.number => return (Asked::Wait(ticket), false),
            None if !fresh && self.under_way.is_some_and(|from| from <= after) => {
                return (Asked::Wait(Ticket { number: self.begun, late: true }), false);
            }
            _ => {}
        }
        let queued = self.wanted.is_some();
        self.wanted = Some(self.wanted.map_or(after, |wanted| wanted.min(after)));
        (Asked::Wait(Ticket { number: self.begun + 1, late: false }), !queued)
    }

    /// The next read begins. Returns its number, and where it begins.
    fn begin(&mut self) -> Option<(u64, Position)> {
        let wanted = self.wanted.take()?;
        self.begun += 1;
        // The last one did not reach back far enough for somebody, or is too old. This one reaches as far as any may ask, so
        // that there are two reads, not one for each cursor.
        let after = if self.current.is_some() { Position::ZERO } else { wanted };
        self.under_way = Some(after);
        Some((self.begun, after))
    }

    /// Read `number` is over; `None`: it failed. Two may be under way at a time, and end in any order. Returns what is of no
    /// use any more.
    fn end(&mut self, number: u64, replay: Option<Replay>, now: Instant) -> Option<Arc<Replay>> {
        if number == self.begun {
            self.under_way = None;
        }
        self.over = self.over.max(number);
        let Some(replay) = replay.map(Arc::new) else {
            self.failed = self.failed.max(number);
            return None;
        };
        if self.current.as_ref().is_some_and(|current| current.number > number) {
            return Some(replay);
        }
        (self.given, self.used) = (false, Some(now));
        self.current.replace(replay)
    }

    /// The data have begun another life.
    pub(super) fn forget(&mut self) {
        self.current = None;
    }

    /// Drops what nobody was given lately.
    pub(super) fn trim(&mut self, now: Instant) {
        if self.is_unused(now, UNUSED) {
            self.current = None;
        }
    }

    /// Drops what was given to somebody: others ask anew. What came just now is still to be taken.
    pub(super) fn make_room(&mut self, now: Instant) {
        if self.given || self.is_unused(now, UNTAKEN) {
            self.current = None;
        }
    }

    /// Whether there is a result that takes room.
    fn is_held(&self) -> bool {
        self.current.is_some()
    }

    fn is_unused(&self, now: Instant, least: Duration) -> bool {
        self.used.is_none_or(|used| now.saturating_duration_since(used) > least)
    }
}

/// The recent past of a channel, encoded, up to one instant.
#[derive(Debug)]
pub struct Replay {
    number: u64,
    life: u64,
    /// Everything up to here is in it, as far as it is left; whatever is later comes through the log.
    pub clock: Position,
    /// The channel's last event at that instant.
    pub last: Option<Last>,
    evidence: Evidence,
    /// See [`Past::after`].
    after: Position,
    too_far: bool,
    stamps: Vec<Stamp>,
    events: Vec<Arc<Encoded>>,
    /// How many of `stamps`, from the end, follow on from one another.
    unbroken: usize,
    /// Its share of the budget.
    _room: OwnedSemaphorePermit,
}

impl Replay {
    /// Whether somebody at `cursor` misses nothing with this.
    ///
    /// # Errors
    /// The gap; [`Gap::DataLost`] is one of the whole partition.
    pub fn resume(&self, cursor: Position) -> Result<(), Gap> {
        if self.too_far && cursor < self.after {
            return Err(Gap::TooFar);
        }
        let from = self.stamps.partition_point(|stamp| stamp.position <= cursor);
        let unbroken = self.stamps.len() - from <= self.unbroken;
        self.evidence.resume(cursor, self.stamps.get(from).map(|first| Tail { first: *first, unbroken }))
    }

    /// Where all the history that is left begins, and the gap before it if there was more.
    #[must_use]
    pub fn earliest(&self) -> (Position, Option<Gap>) {
        let from = self.stamps.len() - self.unbroken;
        match self.stamps.get(from) {
            // More than a stream is given: the newest of it.
            Some(first) if self.too_far => (first.previous, Some(Gap::TooFar)),
            None if self.too_far => (self.clock, Some(Gap::TooFar)),
            Some(first) if first.previous == Position::ZERO && from == 0 => (Position::ZERO, None),
            Some(first) => (first.previous, Some(Gap::Trimmed)),
            None if self.last.is_some() || !self.stamps.is_empty() => (self.clock, Some(Gap::Expired)),
            None => (Position::ZERO, None),
        }
    }

    /// Where the last `count` of its events begin.
    pub(super) fn newest(&self, count: usize) -> Position {
        match self.stamps.len().checked_sub(count.saturating_add(1)) {
            Some(before) => self.stamps[before].position,
            None => self.stamps.first().map_or(Position::ZERO, |first| first.previous),
        }
    }

    /// Its events after `position`, in order.
    #[must_use]
    pub fn after(&self, position: Position) -> &[Arc<Encoded>] {
        &self.events[self.stamps.partition_point(|stamp| stamp.position <= position)..]
    }

    /// Whether it decides for somebody at `cursor`.
    fn covers(&self, cursor: Position) -> bool {
        cursor <= self.clock && self.reaches(cursor)
    }

    /// Whether it goes back as far as `cursor`, or as far as any may.
    fn reaches(&self, cursor: Position) -> bool {
        self.too_far || self.after <= cursor
    }
}

/// Reads what is asked for, until `stop`.
pub(super) async fn run(hub: Arc<Hub>, broker: Arc<dyn Broker>, mut queue: Queue, stop: CancellationToken) {
    let room = Room::new(hub.settings.replay.max_bytes);
    let mut reads = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            local = queue.recv(), if reads.len() < READS => match local {
                Some(local) => reads.push(read(&hub, broker.as_ref(), local, &room)),
                None => return,
            },
            Some(()) = reads.next() => {}
        }
    }
}

async fn read(hub: &Arc<Hub>, broker: &dyn Broker, local: Arc<LocalChannel>, all_room: &Room) {
    // What it may come to, payloads and encoded. The rest is given back.
    let most = units(hub.settings.replay.limits.bytes.saturating_mul(2)).min(units(hub.settings.replay.max_bytes));
    let Some(room) = all_room.take(most).await else { return give_up(hub, &local) };
    // Begun as late as possible: whoever asked until now is served by this read.
    let Some((number, after)) = local.lock().replays.as_mut().and_then(|replays| replays.begin()) else { return };
    let life = hub.life(local.partition).map(|life| life.number);
    let page = |between, limit| broker.read(&local.channel, between, limit);
    let past = past::read(after, hub.settings.replay.limits, page).await;
    let same_life = life.filter(|life| hub.life(local.partition).is_some_and(|now| now.number == *life));
    let replay = match (past, same_life) {
        (Ok(past), Some(life)) => Some(encode(hub, &local, past, number, life, room)),
        (Ok(_), None) => None,
        (Err(error), _) => {
            tell_unread(hub, &local, &error);
            None
        }
    };
    hub.metrics.history_read(if replay.is_some() { HistoryRead::Done } else { HistoryRead::Failed });
    let is_there = replay.is_some();
    // Dropped after the lock: what it gives back may wake the next read.
    let _before;
    let mut state = local.lock();
    _before = state.replays.as_mut().and_then(|replays| replays.end(number, replay, Instant::now()));
    drop(state);
    if is_there {
        all_room.is_taken_by(&local);
    }
    local.call();
}

/// Connections hold all the room there is.
fn give_up(hub: &Hub, local: &Arc<LocalChannel>) {
    let mut state = local.lock();
    let Some(replays) = state.replays.as_mut() else { return };
    let Some((number, _)) = replays.begin() else { return };
    replays.end(number, None, Instant::now());
    drop(state);
    hub.metrics.history_read(HistoryRead::Failed);
    tell_unread(
        hub,
        local,
        &BrokerError { reason: "replay.max_bytes are held by streams that read slowly".to_owned() },
    );
    local.call();
}

/// Without a session it is no wonder. With one, streams wait for this until they are cut, so the log says it, a few times a
/// minute at most.
fn tell_unread(hub: &Hub, local: &LocalChannel, error: &BrokerError) {
    let channel = &local.channel;
    if !hub.is_up(local.partition) || !hub.may_tell.swap(false, Ordering::Relaxed) {
        return tracing::debug!(%channel, %error, "cannot read the past of a channel");
    }
    tracing::warn!(%channel, %error, "cannot read the past of a channel; streams that come back to it wait");
}

fn encode(
    hub: &Hub,
    local: &LocalChannel,
    past: Past,
    number: u64,
    life: u64,
    mut room: OwnedSemaphorePermit,
) -> Replay {
    let Past { snapshot, after, too_far } = past;
    let evidence = snapshot.evidence();
    let stamps: Vec<Stamp> = snapshot.entries.iter().map(|entry| entry.stamp).collect();
    let events = hub.encode_entries(&local.channel, local.partition, snapshot.entries);
    let bytes: usize = events.iter().map(|event| event.size()).sum();
    let spare = room.num_permits().saturating_sub(bytes / UNIT + 1);
    drop(room.split(spare));
    let unbroken = unbroken(&stamps, evidence.last);
    let (clock, last) = (snapshot.clock, snapshot.last);
    Replay { number, life, clock, last, evidence, after, too_far, stamps, events, unbroken, _room: room }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1)
}
