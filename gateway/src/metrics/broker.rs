//! What a broker shows.

use metrics::{Counter, Gauge};
use shared::metrics::{Kind, Label, Metric};

pub(super) const UP: Metric = Metric {
    name: "sse_gateway_broker_up",
    kind: Kind::Gauge,
    labels: &[],
    help: "1 while a session with the broker is established: all channels wanted at its beginning are live and caught up; on the embedded one always",
    watch: "0: see [operations.md](operations.md#when-redis-goes-away)",
};
pub(super) const SESSIONS: Metric = Metric {
    name: "sse_gateway_broker_sessions_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Sessions with Redis that were established; each but the first is a reconnect. On the embedded broker 0",
    watch: "A rise without a restart of Redis",
};
pub(super) const SESSIONS_ENDED: Metric = Metric {
    name: "sse_gateway_broker_sessions_ended_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "reason",
        values: &[
            (
                "closed",
                "Redis closed the Pub/Sub connection: it stopped, somebody said CLIENT KILL, or the node was too far behind for `client-output-buffer-limit`: Redis' log says which. Or Sentinels name another primary: the node's log says so",
            ),
            (
                "failed",
                "A call failed or was not answered in time, or there was no connecting. While Redis is away, every try. The gateway's log at `debug` says more",
            ),
            (
                "deaf",
                "The node did not hear for 10 s what it said to itself, though Redis took it (40 s where other messages went on coming). Look at what lies between: proxies, another server behind the same name",
            ),
            (
                "epoch",
                "The data have begun [another life](protocol.md#messages): Redis restarted or was flushed, or somebody else publishes there",
            ),
            (
                "order",
                "A position came that was not above the last one, and Redis' own clock is behind it too. Who else may publish there?",
            ),
            ("protocol", "Redis pushed something that is none of its messages. What is it really?"),
        ],
    }],
    help: "Sessions with Redis that ended, and tries to open one that failed",
    watch: "`deaf`, `order` and `protocol` at any time; `closed` without a restart of Redis",
};
pub(super) const CATCH_UPS: Metric = Metric {
    name: "sse_gateway_broker_catch_ups_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "result",
        values: &[
            ("unmoved", "Nothing had been published on it meanwhile"),
            ("read", "What came meanwhile was read from history"),
            ("gap", "What came meanwhile can no longer be had; its streams are told"),
        ],
    }],
    help: "Channels that went on where they were after a session was lost, or after messages of theirs did not arrive",
    watch: "`gap`: see [operations.md](operations.md#gaps)",
};
pub(super) const SILENT_LOSSES: Metric = Metric {
    name: "sse_gateway_broker_silent_losses_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Times that messages of a subscribed channel were found not to have arrived. They are read from history then",
    watch: "Anything but 0: a fault on the way, see [operations.md](operations.md#messages-that-do-not-arrive)",
};

/// Why a session with the broker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The server closed the connection.
    Closed,
    /// A call failed, or there was no connecting.
    Failed,
    /// The node did not hear itself.
    Deaf,
    /// The data have begun another life.
    Epoch,
    /// A position came out of order.
    Order,
    /// The server sent something that is no message.
    Protocol,
}

impl SessionEnd {
    const ALL: [Self; 6] = [Self::Closed, Self::Failed, Self::Deaf, Self::Epoch, Self::Order, Self::Protocol];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::Deaf => "deaf",
            Self::Epoch => "epoch",
            Self::Order => "order",
            Self::Protocol => "protocol",
        }
    }
}

/// How a channel that was heard before went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaughtUp {
    /// Nothing came meanwhile.
    Unmoved,
    /// What came was read.
    Read,
    /// What came can no longer be had.
    Gap,
}

impl CaughtUp {
    const ALL: [Self; 3] = [Self::Unmoved, Self::Read, Self::Gap];

    fn as_str(self) -> &'static str {
        match self {
            Self::Unmoved => "unmoved",
            Self::Read => "read",
            Self::Gap => "gap",
        }
    }
}

/// What a broker shows. The embedded one is always up.
#[derive(Debug, Clone)]
pub struct BrokerMetrics {
    /// 0 or 1.
    pub up: Gauge,
    /// Sessions that were established.
    pub sessions: Counter,
    /// Channels whose messages stopped arriving without a word, each time that it was found.
    pub silent_losses: Counter,
    ended: [(SessionEnd, Counter); SessionEnd::ALL.len()],
    caught_up: [(CaughtUp, Counter); CaughtUp::ALL.len()],
}

impl BrokerMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            up: UP.gauge(&[]),
            sessions: SESSIONS.counter(&[]),
            silent_losses: SILENT_LOSSES.counter(&[]),
            ended: SessionEnd::ALL.map(|reason| (reason, SESSIONS_ENDED.counter(&[("reason", reason.as_str())]))),
            caught_up: CaughtUp::ALL.map(|result| (result, CATCH_UPS.counter(&[("result", result.as_str())]))),
        }
    }

    /// A session ended.
    pub fn session_ended(&self, reason: SessionEnd) {
        if let Some((_, counter)) = self.ended.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    /// A channel that was heard before goes on.
    pub fn caught_up(&self, result: CaughtUp) {
        if let Some((_, counter)) = self.caught_up.iter().find(|(known, _)| *known == result) {
            counter.increment(1);
        }
    }
}

impl Default for BrokerMetrics {
    fn default() -> Self {
        Self::new()
    }
}
