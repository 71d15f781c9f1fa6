//! The publisher's metrics: every name and label is declared here and nowhere else.
//!
//! Labels come from enums, never from a channel or a user.
#![allow(clippy::disallowed_macros)] // The one file of this crate that may name a metric.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use shared::auth::AuthError;

use crate::PublishError;

const PUBLISHES: &str = "sse_publisher_publishes_total";
const LIMITED: &str = "sse_publisher_limited_total";
const CANCELS: &str = "sse_publisher_cancels_total";
const ORDERS: &str = "sse_publisher_orders_total";
const ANSWERS: &str = "sse_publisher_answers";
const ANSWERS_ENDED: &str = "sse_publisher_answers_ended_total";
const AUTH_REFUSED: &str = "sse_publisher_auth_refused_total";
const REDIS_UP: &str = "sse_publisher_redis_up";
const TLS_FAILED: &str = "sse_publisher_tls_failed_total";

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
}

impl Metrics {
    /// Describes and registers every counter at 0, so that a rate over the first one counted is right. Install the
    /// recorder before: without one the counters count nothing.
    #[must_use]
    pub fn new() -> Self {
        describe_counter!(
            PUBLISHES,
            "Events asked to be published, a channel each, by kind (durable, ephemeral) and result (ok, duplicate, refused, unavailable, rejected)"
        );
        describe_counter!(LIMITED, "Publishes that were refused for a limit, by limit (rate, size)");
        let limited = |limit: &'static str| {
            let counter = counter!(LIMITED, "limit" => limit);
            counter.increment(0);
            counter
        };
        let (rate, size) = (limited("rate"), limited("size"));
        Self { durable: counters("durable"), ephemeral: counters("ephemeral"), rate, size }
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

/// Sockets of the port that did not come to speak TLS. Describes and registers it at 0; install the recorder before.
pub fn tls_failed() -> Counter {
    describe_counter!(TLS_FAILED, "Sockets of the port that did not come to speak TLS.");
    let counter = counter!(TLS_FAILED);
    counter.increment(0);
    counter
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
        describe_counter!(
            CANCELS,
            "Channels whose producers were asked to stop, by result (ok, refused, unavailable, rejected)"
        );
        Self::of(CANCELS)
    }

    /// The same for orders to all nodes.
    #[must_use]
    pub fn of_orders() -> Self {
        describe_counter!(
            ORDERS,
            "Orders to all nodes, to disconnect or to revoke, by result (ok, refused, unavailable, rejected)"
        );
        Self::of(ORDERS)
    }

    fn of(name: &'static str) -> Self {
        let counter = |outcome: Outcome| {
            let counter = counter!(name, "result" => outcome.label());
            counter.increment(0);
            counter
        };
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

/// How an answer ended; the `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEnd {
    /// Its source said that this was all.
    Done,
    /// Somebody wanted no more of it.
    Cancelled,
    /// Its source failed.
    Upstream,
    /// It had too many bytes.
    TooLong,
    /// It took too long.
    TooSlow,
    /// The process stopped.
    Stopped,
    /// It could not be published; perhaps its end could not either.
    Publishing,
}

impl AnswerEnd {
    const ALL: [Self; 7] =
        [Self::Done, Self::Cancelled, Self::Upstream, Self::TooLong, Self::TooSlow, Self::Stopped, Self::Publishing];

    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Upstream => "upstream",
            Self::TooLong => "too_long",
            Self::TooSlow => "too_slow",
            Self::Stopped => "stopped",
            Self::Publishing => "publishing",
        }
    }
}

/// Answers that stream in.
pub struct AnswerMetrics {
    open: Gauge,
    ended: [Counter; 7],
}

impl AnswerMetrics {
    /// Describes and registers all of them. Install the recorder before.
    #[must_use]
    pub fn new() -> Self {
        describe_gauge!(ANSWERS, "Answers under way");
        describe_counter!(
            ANSWERS_ENDED,
            "Answers that ended, by result (done, cancelled, upstream, too_long, too_slow, stopped, publishing)"
        );
        let ended = AnswerEnd::ALL.map(|end| {
            let counter = counter!(ANSWERS_ENDED, "result" => end.label());
            counter.increment(0);
            counter
        });
        let open = gauge!(ANSWERS);
        open.increment(0.0);
        Self { open, ended }
    }

    /// One more is under way, until the guard is dropped.
    #[must_use]
    pub fn begin(&self) -> OpenAnswer {
        self.open.increment(1.0);
        OpenAnswer(self.open.clone())
    }

    /// Counts one that has ended.
    pub fn count(&self, end: AnswerEnd) {
        // `AnswerEnd::ALL` is in the order of declaration.
        self.ended[end as usize].increment(1);
    }
}

impl Default for AnswerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// See [`AnswerMetrics::begin`].
pub struct OpenAnswer(Gauge);

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Requests that were refused for who sent them, looked up once. What it is called is up to the process.
pub struct AuthMetrics([Counter; AuthError::REASONS.len()]);

impl AuthMetrics {
    /// Describes and registers all of them, under the publisher's name. Install the recorder before.
    #[must_use]
    pub fn new() -> Self {
        describe_counter!(AUTH_REFUSED, "Requests refused for their token or for want of one, by reason");
        Self::of(|reason| counter!(AUTH_REFUSED, "reason" => reason))
    }

    /// A counter for each of [`AuthError::REASONS`].
    pub fn of(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self(AuthError::REASONS.map(|reason| {
            let counter = counter(reason);
            counter.increment(0);
            counter
        }))
    }

    /// Counts one.
    pub fn count(&self, error: AuthError) {
        let place = AuthError::REASONS.iter().position(|reason| *reason == error.as_str());
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.increment(1);
        }
    }
}

impl Default for AuthMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether Redis answered the service when it was last asked, 1 or 0. Install the recorder before.
pub fn redis_up() -> Gauge {
    describe_gauge!(REDIS_UP, "1 while Redis answers the service, asked every few seconds, else 0");
    let up = gauge!(REDIS_UP);
    up.set(0.0);
    up
}

fn counters(kind: &'static str) -> [Counter; 5] {
    Outcome::ALL.map(|outcome| {
        let counter = counter!(PUBLISHES, "kind" => kind, "result" => outcome.label());
        counter.increment(0);
        counter
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_all_is_the_order_of_declaration() {
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, i);
        }
        for (i, end) in AnswerEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, i);
        }
    }
}
