//! What the publish routes count, and those for what producers and nodes are told.

use std::time::Duration;

use metrics::{Counter, Histogram};
use shared::metrics::{Kind, Label, Metric};

use crate::PublishError;

pub(super) const PUBLISHES: Metric = Metric {
    name: "sse_publisher_publishes_total",
    kind: Kind::Counter,
    labels: &[
        Label { name: "kind", values: &[("durable", ""), ("ephemeral", "")] },
        Label {
            name: "result",
            values: &[
                ("ok", "The broker has it"),
                ("duplicate", "Its `once` key was known; nothing was published"),
                (
                    "refused",
                    "The request was wrong (4xx). Counted once a request or batch line, whatever number of channels it named; as `durable` where it was too broken to say",
                ),
                (
                    "unavailable",
                    "The broker did not take it (503): Redis is away or full; on the embedded one `embedded.max_keys` is reached",
                ),
                (
                    "rejected",
                    "Redis answered with an error that the same publish would meet again (500): a permission that is lacking, a key of another type",
                ),
            ],
        },
    ],
    help: "Events asked to be published, one for each channel",
    watch: "`unavailable`, any `rejected`; a rise of `refused` after a deploy",
};
pub(super) const PUBLISH_SECONDS: Metric = Metric {
    name: "sse_publisher_publish_seconds",
    kind: Kind::Histogram(&[0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]),
    labels: &[],
    help: "From handing the events of one request to the broker to its answer, failures too; a batch is one",
    watch: "The 99th percentile: Redis is slow",
};
pub(super) const LIMITED: Metric = Metric {
    name: "sse_publisher_limited_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "limit",
        values: &[
            ("rate", "`limits.publish_rate`: 429"),
            ("size", "Data, body, lines, or more events than `limits.publish_burst`: 413"),
        ],
    }],
    help: "Publishes, or lines of a batch, that were refused for a limit; also counted as refused",
    watch: "`rate`: somebody publishes more than was agreed",
};
/// Of what is told to producers and nodes; a publish that was known (`duplicate`) is none of these.
const RESULT: Label =
    Label { name: "result", values: &[("ok", ""), ("refused", ""), ("unavailable", ""), ("rejected", "")] };
pub(super) const CANCELS: Metric = Metric {
    name: "sse_publisher_cancels_total",
    kind: Kind::Counter,
    labels: &[RESULT],
    help: "Channels whose producers were asked by HTTP to stop",
    watch: "`unavailable`, any `rejected`. [Cancelling](protocol.md#cancelling)",
};
pub(super) const ORDERS: Metric = Metric {
    name: "sse_publisher_orders_total",
    kind: Kind::Counter,
    labels: &[RESULT],
    help: "Orders to all nodes by HTTP, to disconnect or to revoke",
    watch: "Any but `ok`: somebody is not disconnected who should be. [Orders](protocol.md#orders)",
};

/// What became of one publish, or of one cancellation; the `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it.
    Ok,
    /// Its `once` key was known: nothing was published.
    Duplicate,
    /// The request was wrong (4xx) and nothing was published. Counted once a request or batch line, whatever number of
    /// channels it named.
    Refused,
    /// The broker could not be had.
    Unavailable,
    /// The broker answered with an error that trying again does not change.
    Rejected,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Ok, Self::Duplicate, Self::Refused, Self::Unavailable, Self::Rejected];

    /// Of one that failed.
    #[must_use]
    pub fn of(error: &PublishError) -> Self {
        match error {
            PublishError::Unavailable { .. } => Self::Unavailable,
            PublishError::Refused { .. } => Self::Refused,
            PublishError::Rejected { .. } => Self::Rejected,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
        }
    }
}

/// Which limit a request passed; the `limit` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Its key publishes too many events in the time (429).
    Rate,
    /// It has too much in it (413).
    Size,
}

/// Counters of publishes, looked up once.
pub struct Metrics {
    durable: [Counter; 5],
    ephemeral: [Counter; 5],
    rate: Counter,
    size: Counter,
    took: Histogram,
}

impl Metrics {
    /// Describes and registers every counter at 0, so that a rate over the first one counted is right. Install the
    /// recorder before: without one the counters count nothing.
    #[must_use]
    pub fn new() -> Self {
        [&PUBLISHES, &PUBLISH_SECONDS, &LIMITED].into_iter().for_each(Metric::describe);
        let publishes =
            |kind| Outcome::ALL.map(|outcome| PUBLISHES.counter(&[("kind", kind), ("result", outcome.label())]));
        Self {
            durable: publishes("durable"),
            ephemeral: publishes("ephemeral"),
            rate: LIMITED.counter(&[("limit", "rate")]),
            size: LIMITED.counter(&[("limit", "size")]),
            took: PUBLISH_SECONDS.histogram(),
        }
    }

    /// The broker took so long to answer what one request asked to be published.
    pub fn took(&self, time: Duration) {
        self.took.record(time);
    }

    /// Counts what was refused for a limit.
    pub fn limited(&self, limit: Limited) {
        match limit {
            Limited::Rate => self.rate.increment(1),
            Limited::Size => self.size.increment(1),
        }
    }

    /// Counts one publish. A request too broken to say what it wanted counts as durable, the default.
    pub fn count(&self, ephemeral: bool, outcome: Outcome) {
        let counters = if ephemeral { &self.ephemeral } else { &self.durable };
        // `Outcome::ALL` is in the order of declaration.
        counters[outcome as usize].increment(1);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counters of cancellations, or of orders to all nodes, looked up once.
pub struct CancelMetrics {
    ok: Counter,
    refused: Counter,
    unavailable: Counter,
    rejected: Counter,
}

impl CancelMetrics {
    /// Describes and registers every counter at 0. Install the recorder before.
    #[must_use]
    pub fn new() -> Self {
        CANCELS.describe();
        Self::of(&CANCELS)
    }

    /// The same for orders to all nodes.
    #[must_use]
    pub fn of_orders() -> Self {
        ORDERS.describe();
        Self::of(&ORDERS)
    }

    fn of(metric: &Metric) -> Self {
        let counter = |outcome: Outcome| metric.counter(&[("result", outcome.label())]);
        Self {
            ok: counter(Outcome::Ok),
            refused: counter(Outcome::Refused),
            unavailable: counter(Outcome::Unavailable),
            rejected: counter(Outcome::Rejected),
        }
    }

    /// Counts one cancellation; none is a duplicate.
    pub fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Ok | Outcome::Duplicate => &self.ok,
            Outcome::Refused => &self.refused,
            Outcome::Unavailable => &self.unavailable,
            Outcome::Rejected => &self.rejected,
        };
        counter.increment(1);
    }
}

impl Default for CancelMetrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_all_is_the_order_of_declaration() {
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, i);
        }
    }
}
