//! How long a request's head may be and how long it may take, on either lane.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::Transport;
use crate::metrics::{LimitMetrics, Limited};

/// Longest head, in bytes, where nothing else is said.
pub const DEFAULT_MAX_HEAD: usize = 64 << 10;
/// For a head, and between requests. Longer than the 60 s for which nginx keeps an idle connection to us, so that it is never
/// this side that closes under a request.
pub const DEFAULT_HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Bounds on the heads of requests.
#[derive(Debug, Clone)]
pub struct Heads {
    /// Bytes of one. hyper holds as much for one HTTP/1.1 connection, and wants 8 KiB at least.
    pub most: usize,
    /// How long one may take, and the next one may be waited for.
    pub timeout: Duration,
    /// Counts those that were over.
    pub metrics: Arc<LimitMetrics>,
}

impl Heads {
    /// The defaults.
    #[must_use]
    pub fn new(metrics: Arc<LimitMetrics>) -> Self {
        Self { most: DEFAULT_MAX_HEAD, timeout: DEFAULT_HEAD_TIMEOUT, metrics }
    }

    /// Counts what ended a connection of the hyper lane, where it is one of these bounds. One that was idle was within them.
    pub(super) fn count(&self, error: &(dyn Error + 'static), transport: &Transport) {
        let mut at = Some(error);
        while let Some(error) = at {
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                if error.is_parse_too_large() {
                    self.metrics.over(Limited::Head);
                } else if error.is_timeout() && transport.awaits_head() {
                    self.metrics.over(Limited::HeadTimeout);
                }
                return;
            }
            at = error.source();
        }
    }
}
