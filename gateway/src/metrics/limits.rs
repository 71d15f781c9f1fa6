//! What limits count: a part of the one file that declares metrics.
#![allow(clippy::disallowed_macros)] // as metrics.rs itself

use metrics::{Counter, counter, describe_counter};

use super::TurnedAway;

const LIMITED: &str = "sse_gateway_limited_total";
const LEASES_LOCAL: &str = "sse_gateway_user_leases_local_total";
const LEASES_OVER: &str = "sse_gateway_user_leases_over_total";

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
            limited: Limited::ALL.map(|limit| (limit, counter!(LIMITED, "limit" => limit.as_str()))),
            leases_local: counter!(LEASES_LOCAL),
            leases_over: counter!(LEASES_OVER),
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

pub(super) fn describe() {
    describe_counter!(LIMITED, "What was beyond a limit and was not let in, by limit.");
    describe_counter!(
        LEASES_LOCAL,
        "Streams of a user that this node's own count let in, since Redis could not be asked."
    );
    describe_counter!(LEASES_OVER, "Streams found to be more than their user may have over all nodes, and left open.");
}
