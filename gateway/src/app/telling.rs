//! What is told of a node's life: where it listens, a line of the log when it starts, and one for each step of its end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use humantime::format_duration;
use tokio::time::Instant;

use super::App;
use crate::config::Config;
use crate::shutdown::DrainSettings;

impl App {
    /// The address of the public port, as bound.
    ///
    /// # Errors
    /// Those of the system.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// The address of the operator port, as bound.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Tells the log that it starts to serve, and how.
    pub fn tell(&self, config: &Config) {
        let (version, operator) = (env!("CARGO_PKG_VERSION"), self.admin_address);
        let public = self.public_address().map_or_else(|error| error.to_string(), |address| address.to_string());
        let redis = config.redis.address();
        let broker = redis.as_deref().unwrap_or("embedded");
        let (tls, auth, direct) = (config.tls.is_set(), config.auth.is_set(), config.lanes.direct);
        tracing::info!(node = self.node, version, public, %operator, broker, tls, auth, direct, "serving");
    }
}

/// The end of a node, step by step.
pub(super) struct End<'n> {
    node: &'n str,
    began: Instant,
}

impl<'n> End<'n> {
    /// A signal came, and readiness goes.
    pub(super) fn begin(node: &'n str, signal: &str, drain: &DrainSettings, open: usize) -> Self {
        let DrainSettings { grace, window, deadline } = drain;
        let (grace, window, deadline) = (format_duration(*grace), format_duration(*window), format_duration(*deadline));
        tracing::info!(node, signal, open, %grace, %window, %deadline, "stopping");
        Self { node, began: Instant::now() }
    }

    /// No more connections are accepted, and the streams end.
    pub(super) fn drains(&self, open: usize) {
        tracing::info!(node = self.node, open, after = %self.after(), "the port is closed, and streams are told to come back");
    }

    /// All is over; or the deadline was, with so many sockets still open.
    pub(super) fn is_over(&self, in_time: bool, open: usize) {
        let (node, after) = (self.node, self.after());
        if in_time {
            tracing::info!(node, %after, "stopped");
        } else {
            tracing::warn!(node, open, %after, "stopped at the deadline; connections were cut");
        }
    }

    /// Somebody cannot wait.
    pub(super) fn is_cut(&self, signal: &str, open: usize) {
        tracing::warn!(node = self.node, signal, open, after = %self.after(), "stopped at once by a second signal");
    }

    fn after(&self) -> humantime::FormattedDuration {
        // Nobody reads what is finer.
        format_duration(Duration::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)))
    }
}
