//! What the node as a whole shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge};
use publisher::metrics::{AUTH_REASONS, AuthMetrics};
use shared::metrics::{BUILD_LABELS, Kind, Label, Metric};

pub(super) const TURNED_AWAY: Metric = Metric {
    name: "sse_gateway_connections_turned_away_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "reason",
        values: &[
            ("capacity", "`limits.max_connections` streams are open"),
            (
                "address",
                "`limits.max_connections_per_address` streams of that client address are open, or it [opens too many](operations.md#limits) in the time",
            ),
            ("user", "`limits.max_connections_per_user` streams of that user are open, on all nodes together"),
            ("rate", "More than `limits.connects_per_second` are being opened"),
            ("draining", "The node is stopping"),
            ("broker", "Redis is away, or the channels were not subscribed within `limits.open_timeout`"),
        ],
    }],
    help: "Requests for a stream answered with 200, retry: and the end",
    watch: "Any `capacity` or `broker`",
};
pub(super) const MAX_CONNECTIONS: Metric = Metric {
    name: "sse_gateway_max_connections",
    kind: Kind::Gauge,
    labels: &[],
    help: "Event streams that the node takes, `limits.max_connections`",
    watch: "",
};
pub(super) const PROBE_AGE: Metric = Metric {
    name: "sse_gateway_probe_age_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Since the node last heard itself through the broker, every 5 s. Set when `/metrics` is asked",
    watch: "Above 30 while `sse_gateway_broker_up` is 1: `/readyz` says `deaf`. It grows while Redis is away too",
};
pub(super) const DRAINING: Metric = Metric {
    name: "sse_gateway_draining",
    kind: Kind::Gauge,
    labels: &[],
    help: "1 while the node is stopping; `sse_gateway_connections` says how many streams are left",
    watch: "1 beyond the deadline",
};
pub(super) const DRAIN_DEADLINE: Metric = Metric {
    name: "sse_gateway_drain_deadline_timestamp_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "While the node is stopping, when what is still open is cut, Unix time (`drain.deadline` after the signal); else 0",
    watch: "A time that is over: the process hangs",
};
pub(super) const TLS_FAILED: Metric = Metric {
    name: "sse_gateway_tls_failed_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Sockets of the public port that did not come to speak TLS: no handshake within 10 s, plain HTTP, a client that does not trust the certificate",
    watch: "A rise after a new certificate",
};
pub(super) const AUTH_REFUSED: Metric = Metric {
    name: "sse_gateway_auth_refused_total",
    kind: Kind::Counter,
    labels: &[Label { name: "reason", values: AUTH_REASONS }],
    help: "Requests refused for their token, for want of one, or for a channel that is not granted",
    watch: "A rise of `bad_signature`, `unknown_key` or `algorithm`: keys were changed on one side, or somebody tries; `expired`: clients that do not fetch new tokens",
};
pub(super) const BUILD: Metric = Metric {
    name: "sse_gateway_build_info",
    kind: Kind::Gauge,
    labels: BUILD_LABELS,
    help: "1; its labels say which build this is",
    watch: "Nodes of two versions, long after a deploy",
};

/// Why a request for an event stream was answered with `retry:` and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// As many connections as are allowed are open.
    Capacity,
    /// The same, of one client address.
    Address,
    /// The same, of one user.
    User,
    /// More connections are being opened than are allowed in the time.
    Rate,
    /// The node is stopping.
    Draining,
    /// The broker is away, or the channels did not become live in time.
    Broker,
}

impl TurnedAway {
    const ALL: [Self; 6] = [Self::Capacity, Self::Address, Self::User, Self::Rate, Self::Draining, Self::Broker];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Address => "address",
            Self::User => "user",
            Self::Rate => "rate",
            Self::Draining => "draining",
            Self::Broker => "broker",
        }
    }
}

/// What the node counts of requests that it refuses for who sent them.
#[must_use]
pub fn auth() -> AuthMetrics {
    AuthMetrics::of(&AUTH_REFUSED)
}

/// What the node as a whole shows.
#[derive(Debug)]
pub struct NodeMetrics {
    turned_away: [(TurnedAway, Counter); TurnedAway::ALL.len()],
    max_connections: Gauge,
    draining: Gauge,
    drain_deadline: Gauge,
    /// Set when `/metrics` is asked.
    pub probe_age: Gauge,
    /// Sockets of the public port that did not come to speak TLS.
    pub tls_failed: Counter,
}

impl NodeMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            turned_away: TurnedAway::ALL.map(|reason| (reason, TURNED_AWAY.counter(&[("reason", reason.as_str())]))),
            max_connections: MAX_CONNECTIONS.gauge(&[]),
            draining: DRAINING.gauge(&[]),
            drain_deadline: DRAIN_DEADLINE.gauge(&[]),
            probe_age: PROBE_AGE.gauge(&[]),
            tls_failed: TLS_FAILED.counter(&[]),
        }
    }

    /// So many streams are taken.
    pub fn takes(&self, connections: usize) {
        // Exact up to 2^53, far beyond any limit.
        #[allow(clippy::cast_precision_loss)]
        self.max_connections.set(connections as f64);
    }

    /// The node is stopping, and what is open so much later is cut.
    pub fn drains(&self, deadline: Duration) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.drain_deadline.set((now + deadline).as_secs_f64());
        self.draining.set(1.0);
    }

    /// A request was turned away.
    pub fn turned_away(&self, reason: TurnedAway) {
        if let Some((_, counter)) = self.turned_away.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }
}

impl Default for NodeMetrics {
    fn default() -> Self {
        Self::new()
    }
}
