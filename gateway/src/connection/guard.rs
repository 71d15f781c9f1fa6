//! Accounting of one open connection: counted when it opens, uncounted when it is dropped, whatever path that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::addresses::AddressPlace;
use super::close::CloseReason;
use crate::broker::leases::Lease;
use crate::metrics::ConnectionMetrics;

/// How many connections may be open, and how many are.
#[derive(Debug)]
pub struct Gate {
    open: AtomicUsize,
    limit: usize,
}

impl Gate {
    /// Lets `limit` connections through at a time.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), limit })
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A place, unless all are taken. It is given back on drop.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let more = |open| (open < self.limit).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place { gate: self.clone(), others: None })
    }
}

/// One of the places of a [`Gate`], and those that the connection has under other limits.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    /// Most connections are under no other limit.
    others: Option<Box<Others>>,
}

/// Given back together with the place.
#[derive(Debug)]
struct Others {
    _address: Option<AddressPlace>,
    _lease: Option<Lease>,
    _presence: Option<Lease>,
}

impl Place {
    /// The same, holding these too.
    #[must_use]
    pub fn with(mut self, address: Option<AddressPlace>, lease: Option<Lease>, presence: Option<Lease>) -> Self {
        if address.is_some() || lease.is_some() || presence.is_some() {
            self.others = Some(Box::new(Others { _address: address, _lease: lease, _presence: presence }));
        }
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one connection from its opening to its drop.
#[derive(Debug)]
pub struct Guard {
    metrics: Arc<ConnectionMetrics>,
    /// `Client` unless somebody knew better.
    reason: CloseReason,
    _place: Place,
}

impl Guard {
    /// Counts a connection as opened.
    #[must_use]
    pub fn open(metrics: Arc<ConnectionMetrics>, place: Place) -> Self {
        metrics.opened();
        Self { metrics, reason: CloseReason::Client, _place: place }
    }

    /// Why the connection is about to end.
    pub fn set_reason(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// Where this connection is counted.
    #[must_use]
    pub fn metrics(&self) -> &ConnectionMetrics {
        &self.metrics
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.metrics.closed(self.reason);
    }
}
