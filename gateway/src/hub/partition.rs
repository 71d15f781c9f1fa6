//! What this node knows of one partition: its session, its epoch's tag, its watermark.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::cursor::Tag;
use shared::position::Position;
use tokio::time::Instant;

use super::encoded::Order;
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
    /// When the last barrier came.
    heard: Option<Instant>,
    /// Since when there is no session; `None` while there is one, and before the first.
    away: Option<Instant>,
    /// A session ended because this node did not hear itself, and it has not heard itself since.
    deaf: bool,
}

/// An epoch as connections see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EpochView {
    pub(super) tag: Tag,
    /// The clock when its first session here began: nothing before it can be had.
    pub(super) begin: Position,
}

/// How a partition's broker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has not been heard yet.
    Starting,
    /// It was last heard so long ago.
    Heard(Duration),
    /// There has been no session for so long.
    Away(Duration),
    /// The server takes what this node says to itself, and the node does not hear it.
    Deaf,
}

impl PartitionState {
    /// A session begins. The logs of an older epoch have been cleared before.
    pub(super) fn begin(&self, tag: Tag, clock: Position) {
        let mut inner = self.lock();
        inner.away = None;
        if inner.epoch.is_some_and(|epoch| epoch.tag == tag) {
            inner.watermark = inner.watermark.max(clock);
        } else {
            inner.epoch = Some(EpochView { tag, begin: clock });
            inner.watermark = clock;
        }
    }

    /// The session is over.
    pub(super) fn lose(&self, reason: Lost) {
        let mut inner = self.lock();
        inner.away.get_or_insert_with(Instant::now);
        inner.deaf |= reason == Lost::Deaf;
    }

    /// Raises the watermark; a lower position changes nothing.
    pub(super) fn raise(&self, position: Position) {
        let mut inner = self.lock();
        inner.watermark = inner.watermark.max(position);
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
        let mut inner = self.lock();
        inner.heard = Some(Instant::now());
        inner.deaf = false;
    }

    pub(super) fn heard(&self) -> Option<Instant> {
        self.lock().heard
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
