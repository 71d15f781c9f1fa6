//! What all connections count together while they run, for progress and for the measurements. It must not decide anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::histogram::Histogram;

/// Shared by every connection; all relaxed, since nothing is ordered by them.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Connections that said `sse.open`.
    pub(crate) opened: AtomicU64,
    /// Connections that never got that far.
    pub(crate) failed: AtomicU64,
    /// Opened connections that ended before they were told to.
    pub(crate) closed_early: AtomicU64,
    /// Events received, duplicates and foreign ones left out.
    pub(crate) delivered: AtomicU64,
    /// Events received, duplicates and foreign ones included.
    pub(crate) arrived: AtomicU64,
    /// Unix time in ns of the last such arrival.
    pub(crate) last_arrival_ns: AtomicU64,
    /// Events sent before this unix time in ns are not measured; at first that is all of them.
    pub(crate) measure_from_ns: AtomicU64,
    /// Publish to receive, of the events that are measured.
    pub(crate) latency: Histogram,
}

impl Counters {
    /// All zero, measuring nothing.
    pub(crate) fn new() -> Self {
        Self {
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            closed_early: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            last_arrival_ns: AtomicU64::new(0),
            measure_from_ns: AtomicU64::new(u64::MAX),
            latency: Histogram::new(),
        }
    }
}

/// Reads a counter.
pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Nanoseconds since 1970: what events carry, so the system's clock and no other.
pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
