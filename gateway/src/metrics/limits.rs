//! What limits count.

use metrics::Counter;
use shared::metrics::{Kind, Label, Metric};

use super::TurnedAway;

pub(super) const LIMITED: Metric = Metric {
    name: "sse_gateway_limited_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "limit",
        values: &[
            ("connections", "`limits.max_connections`: turned away, `capacity`"),
            (
                "address",
                "`limits.max_connections_per_address`: turned away; a socket of a peer that has too many is closed",
            ),
            ("user", "`limits.max_connections_per_user`: turned away"),
            ("connects", "`limits.connects_per_second`: turned away, `rate`"),
            ("channels", "`limits.max_channels` of one stream, or a name of over 256 bytes: 400"),
            (
                "head",
                "`limits.max_head`, or over 100 lines, by HTTP/1: 431, and the connection ends. By HTTP/2 431 too, not counted here",
            ),
            (
                "head_timeout",
                "`limits.head_timeout`, where a part of a head came: the connection ends. One on which nothing came, or nothing more, ends as well and is not counted",
            ),
        ],
    }],
    help: "What was beyond a limit and was not let in",
    watch: "A rise: [which limit, and what then](operations.md#limits)",
};
pub(super) const LEASES_LOCAL: Metric = Metric {
    name: "sse_gateway_user_leases_local_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Streams of a user that this node's own count let in, since Redis could not be asked in time. They are registered there later",
    watch: "A rise while `sse_gateway_broker_up` is 1: Redis is slow, or refuses (the log at `debug`)",
};
pub(super) const LEASES_OVER: Metric = Metric {
    name: "sse_gateway_user_leases_over_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Streams found to be more than their user may have over all nodes, when they were registered after Redis was away. They stay open",
    watch: "A rise: Redis is away often, or users open streams while it is",
};

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// `limits.max_connections`
    Connections,
    /// `limits.max_connections_per_address`
    Address,
    /// `limits.max_connections_per_user`
    User,
    /// `limits.connects_per_second`
    Connects,
    /// `limits.max_channels` of one connection
    Channels,
    /// `limits.max_head`
    Head,
    /// `limits.head_timeout`
    HeadTimeout,
}

impl Limited {
    const ALL: [Self; 7] =
        [Self::Connections, Self::Address, Self::User, Self::Connects, Self::Channels, Self::Head, Self::HeadTimeout];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::User => "user",
            Self::Connects => "connects",
            Self::Channels => "channels",
            Self::Head => "head",
            Self::HeadTimeout => "head_timeout",
        }
    }

    /// The limit because of which a stream was turned away, if it was one.
    #[must_use]
    pub fn of(reason: TurnedAway) -> Option<Self> {
        match reason {
            TurnedAway::Capacity => Some(Self::Connections),
            TurnedAway::Address => Some(Self::Address),
            TurnedAway::User => Some(Self::User),
            TurnedAway::Rate => Some(Self::Connects),
            TurnedAway::Draining | TurnedAway::Broker => None,
        }
    }
}

/// How often limits were reached.
#[derive(Debug)]
pub struct LimitMetrics {
    limited: [(Limited, Counter); Limited::ALL.len()],
    /// Connections that this node's own count let in, since Redis could not be asked.
    pub leases_local: Counter,
    /// Leases that were registered later although the user had as many as are allowed.
    pub leases_over: Counter,
}

impl LimitMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            limited: Limited::ALL.map(|limit| (limit, LIMITED.counter(&[("limit", limit.as_str())]))),
            leases_local: LEASES_LOCAL.counter(&[]),
            leases_over: LEASES_OVER.counter(&[]),
        }
    }

    /// Something was beyond a limit, and was not let in.
    pub fn over(&self, limit: Limited) {
        if let Some((_, counter)) = self.limited.iter().find(|(known, _)| *known == limit) {
            counter.increment(1);
        }
    }
}

impl Default for LimitMetrics {
    fn default() -> Self {
        Self::new()
    }
}
