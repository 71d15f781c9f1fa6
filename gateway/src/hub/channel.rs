//! One channel on this node: its log, how far it was heard, and the connections on it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::channel::Channel;
use shared::continuity::Gap;
use shared::position::Position;
use tokio::time::Instant;

use super::encoded::Encoded;
use super::listeners::Listeners;
use super::log::{Log, LogLimits};
use super::replay::Replays;
use crate::broker::{Join, Last, Partition, Seen, Snapshot};

/// One life of a channel here, from its first subscription until a linger after the last. A later life is another value.
#[derive(Debug)]
pub(super) struct LocalChannel {
    pub(super) channel: Channel,
    pub(super) partition: Partition,
    /// Tells this life from others of the same channel.
    pub(super) generation: u64,
    /// Counts the changes of `state` that a connection has to look at, so that one that has seen this number needs no lock to
    /// know that there is nothing new. Raised under the lock, before the change. It may come round: nobody sleeps through
    /// four thousand million events of a log that holds thousands.
    version: AtomicU32,
    /// Its connections are to end, and nobody comes any more. Set once by [`dismiss`](Self::dismiss), which raises `version`.
    dismissed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Written by the broker's messages; read by connections.
    pub(super) log: Log,
    /// Set while the channel is live; durable events go into the log only then.
    pub(super) live: Option<Live>,
    /// The channel's last durable event, as far as the log goes. Written with the log and by snapshots.
    pub(super) last: Option<Last>,
    /// Durable events that came since the channel was subscribed, until it is live: then it shows which of them are new.
    /// `None` while there are none.
    pending: Option<Box<Pending>>,
    /// What there is to say of a channel that was cut off; `None` for most.
    cut: Option<Box<Cut>>,
    /// Reads of the channel's past, and what came of the last one; `None` before somebody asked.
    pub(super) replays: Option<Box<Replays>>,
    /// The connections on it.
    pub(super) listeners: Listeners,
    /// When the channel may go, if nobody comes; `None` while somebody is here. Written under the hub's table lock.
    pub(super) lingers_until: Option<Instant>,
}

/// Of a channel that was live and is not, or has missed something. Made when that happens, and kept as long as it says
/// anything.
#[derive(Debug, Default)]
struct Cut {
    /// How far it was complete when it was live the last time, and in which life of the data. Written when it ceases to be.
    complete: Option<(u64, Position)>,
    /// Messages were missed in the midst of a session, beyond this position; the next snapshot makes it a hole.
    missed: Option<Position>,
    /// The latest hole in what connections were told here. Written by snapshots.
    hole: Hole,
}

/// Since when the channel is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// The clock of the snapshot that made it so: whatever came after it is in the log.
    pub clock: Position,
    /// The life of the data that it is one of.
    pub life: u64,
}

/// Events that open connections cannot be given any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Counts the holes of a channel; 0 is none.
    pub number: u32,
    /// Whoever has not gone beyond it finds everything in the log; `None`: nobody does.
    pub safe: Option<Position>,
    /// From here on the log is complete.
    pub end: Position,
    /// Why.
    pub gap: Gap,
}

impl Default for Hole {
    fn default() -> Self {
        Self { number: 0, safe: None, end: Position::ZERO, gap: Gap::DataLost }
    }
}

/// Bounded like the log: the oldest go first.
#[derive(Debug, Default)]
struct Pending {
    events: VecDeque<Arc<Encoded>>,
    bytes: usize,
    /// Position of the last that had to go.
    dropped: Position,
}

impl LocalChannel {
    pub(super) fn new(channel: Channel, partition: Partition, generation: u64) -> Self {
        Self {
            channel,
            partition,
            generation,
            version: AtomicU32::new(1),
            dismissed: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// See the field.
    pub(super) fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// See the field.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Acquire)
    }

    /// Ends its connections, once they look.
    pub(super) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.change().lingers_until = None;
    }

    /// The lock, for a change that connections have to look at.
    fn change(&self) -> MutexGuard<'_, State> {
        let state = self.lock();
        self.version.fetch_add(1, Ordering::Release);
        state
    }

    /// Nothing under this lock panics half-way, so a poisoned state is still a whole one.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event that arrived, and lets the watermark `rise` over it. Returns whether connections are to look.
    ///
    /// Both under the one lock. Were the watermark to rise after it, somebody could attach behind an event that its beginning
    /// does not cover.
    pub(super) fn push(&self, event: Arc<Encoded>, limits: &LogLimits, rise: impl FnOnce()) -> bool {
        let mut state = self.change();
        let readable = event.cursor().is_none() || state.live.is_some();
        if readable {
            state.append(event, limits);
        } else {
            state.pending.get_or_insert_default().push(event, limits);
        }
        rise();
        readable
    }

    /// The channel is live in `life`. `caught_up` are the snapshot's entries, encoded. Connections are to look.
    pub(super) fn set_live(
        &self,
        life: u64,
        snapshot: &Snapshot,
        join: Join,
        caught_up: Vec<Arc<Encoded>>,
        limits: &LogLimits,
    ) {
        let mut state = self.change();
        let clock = snapshot.clock;
        let cut = state.cut.take();
        // Heard up to there, and here is something before that: it did not arrive.
        let complete = cut.as_ref().and_then(|cut| cut.complete).filter(|(of, _)| *of == life);
        let complete = complete.map(|(_, complete)| complete);
        let late = caught_up.first().is_some_and(|event| Some(event.order().position) <= complete);
        let certain = state.last.map_or(Position::ZERO, |last| last.position);
        let missed = cut.as_ref().and_then(|cut| cut.missed).or(late.then_some(certain));
        // Of what it was before, it only remembers which holes there were.
        let hole = cut.map(|cut| cut.hole).filter(|hole| hole.number > 0);
        state.cut = hole.map(|hole| Box::new(Cut { hole, ..Cut::default() }));
        match join {
            Join::Anew => state.log.raise_floor(clock),
            Join::CaughtUp => {
                caught_up.into_iter().for_each(|event| state.log.push(event, limits));
                if missed.is_some() {
                    state.tear(missed, clock, Gap::DataLost);
                }
            }
            Join::Hole(gap) => {
                state.log.raise_floor(clock);
                state.tear(None, clock, gap);
            }
        }
        state.last = snapshot.last;
        state.live = Some(Live { clock, life });
        let Some(pending) = state.pending.take() else { return };
        for event in pending.events {
            if event.order().position > clock {
                state.append(event, limits);
            }
        }
        if pending.dropped > clock {
            state.log.raise_floor(pending.dropped);
        }
    }

    /// The session is over, the watermark being `watermark`.
    pub(super) fn set_lost(&self, watermark: Position) {
        let mut state = self.change();
        state.pending = None;
        if let Some(live) = state.live.take() {
            state.cut.get_or_insert_default().complete = Some((live.life, live.clock.max(watermark)));
        }
    }

    /// Messages did not arrive after the last one that did.
    pub(super) fn set_stale(&self) {
        let mut state = self.change();
        let Some(live) = state.live.take() else { return };
        let certain = live.clock.max(state.last.map_or(Position::ZERO, |last| last.position));
        let cut = state.cut.get_or_insert_default();
        cut.complete = Some((live.life, certain));
        cut.missed.get_or_insert(certain);
    }

    /// The data have begun another life, at `clock`.
    pub(super) fn restart(&self, clock: Position) {
        let mut state = self.change();
        state.log.restart(clock);
        (state.live, state.last, state.pending) = (None, None, None);
        if let Some(cut) = &mut state.cut {
            (cut.complete, cut.missed) = (None, None);
        }
        if let Some(replays) = &mut state.replays {
            replays.forget();
        }
    }

    /// How far the channel was heard in `life`, the watermark being `watermark`.
    pub(super) fn seen(&self, life: u64, watermark: Position) -> Option<Seen> {
        let state = self.lock();
        let complete = match (state.live, state.cut.as_ref().and_then(|cut| cut.complete)) {
            (Some(live), _) => (live.life == life).then(|| live.clock.max(watermark))?,
            (None, Some((of, complete))) => (of == life).then_some(complete)?,
            (None, None) => return None,
        };
        Some(Seen { last: state.last.map(|last| last.position), complete })
    }
}

impl State {
    fn append(&mut self, event: Arc<Encoded>, limits: &LogLimits) {
        if event.cursor().is_some() {
            self.last = Some(Last { position: event.order().position, ended: event.ends() });
        }
        self.log.push(event, limits);
    }

    /// The latest hole in what connections were told here.
    pub(super) fn hole(&self) -> Hole {
        self.cut.as_ref().map(|cut| cut.hole).unwrap_or_default()
    }

    fn tear(&mut self, safe: Option<Position>, end: Position, gap: Gap) {
        let hole = &mut self.cut.get_or_insert_default().hole;
        *hole = Hole { number: hole.number + 1, safe, end, gap };
    }
}

impl Pending {
    fn push(&mut self, event: Arc<Encoded>, limits: &LogLimits) {
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > 1 && (self.events.len() > limits.events || self.bytes > limits.bytes) {
            if let Some(event) = self.events.pop_front() {
                self.bytes -= event.size();
                self.dropped = self.dropped.max(event.order().position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Growth here is growth times a hundred thousand: raise the bound knowingly.
    #[test]
    fn an_idle_channel_is_small() {
        assert!(size_of::<LocalChannel>() <= 304, "{}", size_of::<LocalChannel>());
    }
}
