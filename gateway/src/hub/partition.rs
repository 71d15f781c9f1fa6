//! What this node knows of one partition: its session, its epoch's tag, its watermark.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::cursor::{CursorPart, Tag};
use shared::position::Position;
use tokio::time::Instant;

use super::encoded::Order;
use super::wakeup::Wakeup;
use crate::broker::Lost;

/// Written by the broker's calls alone; read by every connection that looks for events.
#[derive(Debug, Default)]
pub(super) struct PartitionState(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Of the epoch of the last session that began; `None` before the first.
    epoch: Option<EpochView>,
    watermark: Position,
    /// Ephemeral events so far: orders those that arrive at the same watermark.
    arrivals: u64,
    /// When the last barrier of this session came.
    heard: Option<Instant>,
    /// Since when there is no established session; `None` while there is one, and before the first was lost.
    away: Option<Instant>,
    /// A session ended because this node did not hear itself, and none has been established since.
    deaf: bool,
    /// Who waits for the watermark to come to a position. An entry goes when it has.
    waiting: Vec<(Position, Arc<Wakeup>)>,
}

/// An epoch as connections see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EpochView {
    pub(super) tag: Tag,
    /// The clock when its first session here began: nothing before it can be had.
    pub(super) begin: Position,
    /// Counts lives of the data. An epoch whose clock went back begins another one.
    pub(super) life: u64,
}

/// One unbroken life of a partition's data, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Another number: positions from before mean nothing any more.
    pub number: u64,
    /// Where it begins.
    pub begin: CursorPart,
}

/// How a partition's broker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has not been heard yet.
    Starting,
    /// It was last heard so long ago.
    Heard(Duration),
    /// There has been no established session for so long.
    Away(Duration),
    /// The server takes what this node says to itself, and the node does not hear it.
    Deaf,
}

impl PartitionState {
    /// Whether a session of `tag` at `clock` goes on from the one before. A clock that is behind what was heard already has
    /// gone back, by whatever: events below would never be read.
    pub(super) fn is_another_life(&self, tag: Tag, clock: Position) -> bool {
        let inner = self.lock();
        inner.epoch.is_some_and(|epoch| epoch.tag != tag || clock < inner.watermark)
    }

    /// A session begins. The logs of an older life have been cleared before.
    pub(super) fn begin(&self, tag: Tag, clock: Position, another_life: bool) {
        let mut inner = self.lock();
        inner.heard = None;
        if another_life {
            // Positions of the old one never come; those who wait are woken with their channels.
            inner.waiting.clear();
        }
        match inner.epoch {
            Some(_) if !another_life => inner.watermark = inner.watermark.max(clock),
            before => {
                let life = before.map_or(0, |epoch| epoch.life + 1);
                inner.epoch = Some(EpochView { tag, begin: clock, life });
                inner.watermark = clock;
            }
        }
    }

    /// The session is established.
    pub(super) fn establish(&self) {
        let mut inner = self.lock();
        (inner.away, inner.deaf) = (None, false);
    }

    /// The session is over.
    pub(super) fn lose(&self, reason: Lost) {
        let mut inner = self.lock();
        inner.away.get_or_insert_with(Instant::now);
        inner.deaf |= reason == Lost::Deaf;
    }

    /// Raises the watermark; a lower position changes nothing. Returns whom to wake.
    pub(super) fn raise(&self, position: Position) -> Vec<Arc<Wakeup>> {
        let mut inner = self.lock();
        inner.watermark = inner.watermark.max(position);
        inner.arrived()
    }

    /// Wakes `wakeup` when the watermark comes to `position`. Returns whether it has to be woken at once.
    pub(super) fn wake_at(&self, position: Position, wakeup: &Arc<Wakeup>) -> bool {
        let mut inner = self.lock();
        if inner.watermark >= position {
            return true;
        }
        inner.waiting.push((position, wakeup.clone()));
        false
    }

    pub(super) fn watermark(&self) -> Position {
        self.lock().watermark
    }

    pub(super) fn epoch(&self) -> Option<EpochView> {
        self.lock().epoch
    }

    /// Place of an ephemeral event that arrives now: after everything up to the watermark.
    pub(super) fn ephemeral_order(&self) -> Order {
        let mut inner = self.lock();
        inner.arrivals += 1;
        Order { position: inner.watermark, arrival: inner.arrivals }
    }

    /// This node heard itself.
    pub(super) fn set_heard(&self) {
        self.lock().heard = Some(Instant::now());
    }

    pub(super) fn heard(&self) -> Option<Instant> {
        self.lock().heard
    }

    /// Whether a session is established.
    pub(super) fn is_up(&self) -> bool {
        let inner = self.lock();
        inner.epoch.is_some() && inner.away.is_none()
    }

    /// For how long there has been no established session.
    pub(super) fn away(&self, now: Instant) -> Option<Duration> {
        self.lock().away.map(|since| now.saturating_duration_since(since))
    }

    pub(super) fn health(&self, now: Instant) -> Health {
        let inner = self.lock();
        match (inner.away, inner.heard) {
            _ if inner.deaf => Health::Deaf,
            (Some(since), _) => Health::Away(now.saturating_duration_since(since)),
            (None, None) => Health::Starting,
            (None, Some(at)) => Health::Heard(now.saturating_duration_since(at)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes out those for whom the watermark has come far enough.
    fn arrived(&mut self) -> Vec<Arc<Wakeup>> {
        // Hardly anybody waits, and this is called with every event.
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let watermark = self.watermark;
        let arrived = self.waiting.extract_if(.., |(position, _)| *position <= watermark);
        arrived.map(|(_, wakeup)| wakeup).collect()
    }
}
