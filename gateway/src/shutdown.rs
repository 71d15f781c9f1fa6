//! How the process ends, and in which order.
//!
//! 1. readiness goes; new event streams are told to come back later
//! 2. the grace passes, so that load balancers notice
//! 3. what the node itself publishes for the demo ends, so that its readers still hear so
//! 4. no more connections are accepted, and every open stream says `retry:` and ends, at a random moment of the window, so
//!    that the other nodes are not overrun
//! 5. the hub stops, then the broker
//!
//! One deadline holds over all of it; what is still open then is cut. A second signal ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::metrics::NodeMetrics;

/// How long the end may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// From losing readiness to closing the port.
    pub grace: Duration,
    /// Over which the streams end after that.
    pub window: Duration,
    /// From the signal to the end of the process, at the latest.
    pub deadline: Duration,
}

/// Which part of its life the node is in. Shared by everything that behaves otherwise when it ends.
#[derive(Debug, Default)]
pub struct Lifecycle {
    /// Set once, by the app; never unset.
    draining: AtomicBool,
}

impl Lifecycle {
    /// Whether the node is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The node is stopping, from now on; what is open at the deadline is cut.
    pub fn drain(&self, metrics: &NodeMetrics, deadline: Duration) {
        self.draining.store(true, Ordering::Release);
        metrics.drains(deadline);
    }
}
