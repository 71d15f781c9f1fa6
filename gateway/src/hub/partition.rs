//! What this node knows of one partition: its epoch's tag and its watermark.

use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::cursor::Tag;
use shared::position::Position;
use tokio::time::Instant;

use super::encoded::Order;

/// Written by the broker's calls alone; read by every connection that looks for events.
#[derive(Debug, Default)]
pub(super) struct PartitionState(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Of the session's epoch; `None` before the first session.
    tag: Option<Tag>,
    watermark: Position,
    /// Ephemeral events so far: orders those that arrive at the same watermark.
    arrivals: u64,
    /// When the last barrier came.
    heard: Option<Instant>,
}

impl PartitionState {
    pub(super) fn begin(&self, tag: Tag, clock: Position) {
        let mut inner = self.lock();
        inner.tag = Some(tag);
        inner.watermark = clock;
    }

    /// Raises the watermark; a lower position changes nothing.
    pub(super) fn raise(&self, position: Position) {
        let mut inner = self.lock();
        inner.watermark = inner.watermark.max(position);
    }

    pub(super) fn watermark(&self) -> Position {
        self.lock().watermark
    }

    pub(super) fn tag(&self) -> Option<Tag> {
        self.lock().tag
    }

    /// Place of an ephemeral event that arrives now: after everything up to the watermark.
    pub(super) fn ephemeral_order(&self) -> Order {
        let mut inner = self.lock();
        inner.arrivals += 1;
        Order { position: inner.watermark, arrival: inner.arrivals }
    }

    pub(super) fn set_heard(&self, at: Instant) {
        self.lock().heard = Some(at);
    }

    pub(super) fn heard(&self) -> Option<Instant> {
        self.lock().heard
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
