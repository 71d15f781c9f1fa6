//! Every metric of the gateway: what it is called, what it means, and who counts it. No label ever holds a channel or a user.
//! Handles are resolved once. `docs/metrics.md` is written from these declarations.

mod broker;
mod connections;
mod hub;
mod limits;
mod node;

use shared::metrics::{Metric, buckets as bounds};

pub use self::broker::{BrokerMetrics, CaughtUp, SessionEnd};
pub use self::connections::{ConnectionMetrics, Lane};
pub use self::hub::{HistoryRead, HubMetrics};
pub use self::limits::{LimitMetrics, Limited};
pub use self::node::{NodeMetrics, TurnedAway, auth};

/// All of them, in the order of the docs.
pub const METRICS: &[&Metric] = &[
    &connections::CONNECTIONS,
    &connections::OPENED,
    &connections::CLOSED,
    &node::TURNED_AWAY,
    &node::MAX_CONNECTIONS,
    &limits::LIMITED,
    &limits::LEASES_LOCAL,
    &limits::LEASES_OVER,
    &connections::CONNECT,
    &connections::REPLAY,
    &hub::RECEIVED,
    &hub::NOT_ENVELOPE,
    &connections::DELIVERED,
    &connections::WRITES,
    &connections::BYTES,
    &connections::PUBLISH_TO_SOCKET,
    &connections::GAPS,
    &hub::HISTORY_READS,
    &hub::SUBSCRIPTIONS,
    &hub::LOG_EVENTS,
    &hub::LOG_BYTES,
    &node::PROBE_AGE,
    &broker::UP,
    &broker::SESSIONS,
    &broker::SESSIONS_ENDED,
    &broker::CATCH_UPS,
    &broker::SILENT_LOSSES,
    &node::DRAINING,
    &node::DRAIN_DEADLINE,
    &node::TLS_FAILED,
    &node::AUTH_REFUSED,
    &node::BUILD,
];

/// Bounds of the histograms, for the recorder: these, and those of publishing, which a node alone does itself.
#[must_use]
pub fn buckets() -> Vec<(&'static str, &'static [f64])> {
    [bounds(METRICS), bounds(publisher::metrics::METRICS)].concat()
}

/// Help texts, and which build this is. Call it once, after the recorder is installed.
pub fn describe() {
    METRICS.iter().for_each(|metric| metric.describe());
    node::BUILD.gauge(&shared::metrics::build(env!("CARGO_PKG_VERSION"))).set(1.0);
}

#[cfg(test)]
mod tests;
