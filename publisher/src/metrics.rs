//! The publisher's metrics: what each is called, what it means, and who counts it. Labels come from enums, never from a channel
//! or a user. `docs/metrics.md` is written from these declarations.
//!
//! A gateway on its embedded broker has those of what it serves itself, so each part describes its own when it is made.

mod answers;
mod publishing;

use metrics::{Counter, Gauge};
use shared::auth::AuthError;
use shared::metrics::{BUILD_LABELS, Kind, Label, Metric, build};

pub use self::answers::{AnswerEnd, AnswerMetrics, OpenAnswer};
pub use self::publishing::{CancelMetrics, Limited, Metrics, Outcome};

/// All of them, in the order of the docs.
pub const METRICS: &[&Metric] = &[
    &publishing::PUBLISHES,
    &publishing::PUBLISH_SECONDS,
    &publishing::LIMITED,
    &publishing::CANCELS,
    &publishing::ORDERS,
    &answers::ANSWERS,
    &answers::ANSWERS_ENDED,
    &REDIS_UP,
    &TLS_FAILED,
    &AUTH_REFUSED,
    &BUILD,
];

/// Why requests are refused for who sent them: values of a label, and what they mean.
pub const AUTH_REASONS: &[(&str, &str)] = &[
    ("missing", "There is no token"),
    ("origin", "A cookie came with a request of another origin's page"),
    ("too_long", "More than 8 KiB"),
    ("malformed", "No JWT"),
    ("algorithm", "No key is for its algorithm (`none` among them)"),
    ("unknown_key", "Its `kid` is not known, or it has none where every key has one"),
    ("bad_signature", "Signed with another key, or changed"),
    ("expired", "`exp`"),
    ("not_yet_valid", "`nbf`"),
    ("issuer", "`iss`"),
    ("audience", "`aud`"),
    (
        "not_granted",
        "The token is good, and does not grant a channel; or one of the cluster's own without the operator key",
    ),
    ("revoked", "It was [revoked](protocol.md#orders), or all of its user's were"),
    ("ticket", "A [ticket](protocol.md#tickets) is not known, was used, or is over"),
    ("claims", "A claim has a wrong type, or is lacking"),
];

/// The same reasons, which the docs explain once.
const AUTH_REASON: Label = Label {
    name: "reason",
    values: &[
        ("missing", ""),
        ("origin", ""),
        ("too_long", ""),
        ("malformed", ""),
        ("algorithm", ""),
        ("unknown_key", ""),
        ("bad_signature", ""),
        ("expired", ""),
        ("not_yet_valid", ""),
        ("issuer", ""),
        ("audience", ""),
        ("not_granted", ""),
        ("revoked", ""),
        ("ticket", ""),
        ("claims", ""),
    ],
};
const AUTH_REFUSED: Metric = Metric {
    name: "sse_publisher_auth_refused_total",
    kind: Kind::Counter,
    labels: &[AUTH_REASON],
    help: "Requests refused for their token, for want of one, or for a channel that is not granted; reasons as the gateway's",
    watch: "As of `sse_gateway_auth_refused_total`",
};
const REDIS_UP: Metric = Metric {
    name: "sse_publisher_redis_up",
    kind: Kind::Gauge,
    labels: &[],
    help: "1 while Redis could be published to (it answers, and takes writes), asked every 2 s",
    watch: "0",
};
const TLS_FAILED: Metric = Metric {
    name: "sse_publisher_tls_failed_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Sockets of the port that did not come to speak TLS, as for a gateway",
    watch: "A rise after a new certificate",
};
const BUILD: Metric = Metric {
    name: "sse_publisher_build_info",
    kind: Kind::Gauge,
    labels: BUILD_LABELS,
    help: "1; its labels say which build this is",
    watch: "Processes of two versions, long after a deploy",
};

/// Which build this is. Install the recorder before.
pub(crate) fn tell_build() {
    BUILD.describe();
    BUILD.gauge(&build(env!("CARGO_PKG_VERSION"))).set(1.0);
}

/// Sockets of the port that did not come to speak TLS. Describes and registers it at 0; install the recorder before.
pub fn tls_failed() -> Counter {
    TLS_FAILED.describe();
    TLS_FAILED.counter(&[])
}

/// Whether Redis answered the service when it was last asked, 1 or 0. Install the recorder before.
pub fn redis_up() -> Gauge {
    REDIS_UP.describe();
    REDIS_UP.gauge(&[])
}

/// Requests that were refused for who sent them, looked up once. What it is called is up to the process.
pub struct AuthMetrics([Counter; AuthError::REASONS.len()]);

impl AuthMetrics {
    /// Describes and registers all of them, under the publisher's name. Install the recorder before.
    #[must_use]
    pub fn new() -> Self {
        AUTH_REFUSED.describe();
        Self::of(&AUTH_REFUSED)
    }

    /// Under the name of `metric`, whose label is one of [`AUTH_REASONS`].
    #[must_use]
    pub fn of(metric: &Metric) -> Self {
        Self(AuthError::REASONS.map(|reason| metric.counter(&[("reason", reason)])))
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

#[cfg(test)]
mod tests;
