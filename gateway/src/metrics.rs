//! Every metric of the gateway: names, help, labels. Nowhere else may the raw macros be used, and no label ever holds a
//! channel or a user. Handles are resolved once.
#![allow(clippy::disallowed_macros)] // this is the file that clippy.toml sends everybody to

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use publisher::metrics::AuthMetrics;
use shared::continuity::Gap;
use shared::position::Position;

use crate::connection::CloseReason;

mod limits;

pub use self::limits::{LimitMetrics, Limited};

const CONNECTIONS: &str = "sse_gateway_connections";
const OPENED: &str = "sse_gateway_connections_opened_total";
const CLOSED: &str = "sse_gateway_connections_closed_total";
const TURNED_AWAY: &str = "sse_gateway_connections_turned_away_total";
const RECEIVED: &str = "sse_gateway_events_received_total";
const NOT_ENVELOPE: &str = "sse_gateway_events_not_envelope_total";
const DELIVERED: &str = "sse_gateway_events_delivered_total";
const PUBLISH_TO_SOCKET: &str = "sse_gateway_publish_to_socket_seconds";
const PROBE_AGE: &str = "sse_gateway_probe_age_seconds";
const GAPS: &str = "sse_gateway_gaps_total";
const HISTORY_READS: &str = "sse_gateway_history_reads_total";
const SUBSCRIPTIONS: &str = "sse_gateway_broker_subscriptions";
const BROKER_UP: &str = "sse_gateway_broker_up";
const SESSIONS_ENDED: &str = "sse_gateway_broker_sessions_ended_total";
const SILENT_LOSSES: &str = "sse_gateway_broker_silent_losses_total";
const DRAINING: &str = "sse_gateway_draining";
const AUTH_REFUSED: &str = "sse_gateway_auth_refused_total";
const TLS_FAILED: &str = "sse_gateway_tls_failed_total";

/// Bounds of the histograms, for the recorder.
pub const BUCKETS: &[(&str, &[f64])] =
    &[(PUBLISH_TO_SOCKET, &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0])];

/// Help texts. Call it once, after the recorder is installed.
pub fn describe() {
    describe_gauge!(CONNECTIONS, "Open event streams, by lane.");
    describe_counter!(OPENED, "Event streams opened, by lane.");
    describe_counter!(CLOSED, "Event streams that ended, by reason.");
    describe_counter!(TURNED_AWAY, "Requests for an event stream answered with retry and close, by reason.");
    describe_counter!(RECEIVED, "Events that came from the broker, by kind; once a node.");
    describe_counter!(NOT_ENVELOPE, "Events whose payload was no envelope and was delivered whole as data.");
    describe_counter!(DELIVERED, "Events written to event streams; once a connection.");
    describe_histogram!(
        PUBLISH_TO_SOCKET,
        Unit::Seconds,
        "From a durable event's position to its write; of each write the oldest event. Clocks of publisher and node differ."
    );
    describe_gauge!(PROBE_AGE, Unit::Seconds, "Since this node last heard itself through the broker.");
    describe_counter!(GAPS, "Gaps that event streams were told of, by reason; one for each channel of each stream.");
    describe_counter!(
        HISTORY_READS,
        "Reads of a channel's past for streams that resume, by result; one however many wait for it."
    );
    describe_gauge!(SUBSCRIPTIONS, "Channels that this node is subscribed to.");
    describe_gauge!(BROKER_UP, "1 while a session with the broker is established.");
    describe_counter!(
        SESSIONS_ENDED,
        "Sessions with the broker that ended, and tries to open one that failed, by reason."
    );
    describe_counter!(
        SILENT_LOSSES,
        "Times that messages of a live channel were found not to have arrived: a fault on the way."
    );
    describe_counter!(TLS_FAILED, "Sockets of the public port that did not come to speak TLS.");
    describe_gauge!(DRAINING, "1 while the node is stopping.");
    limits::describe();
    describe_counter!(AUTH_REFUSED, "Requests refused for their token or for want of one, by reason.");
}

/// Which way bytes reach the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// By an event loop of ours.
    Direct,
    /// Through hyper.
    Hyper,
}

impl Lane {
    fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Hyper => "hyper",
        }
    }
}

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

/// What the hub counts.
#[derive(Debug, Clone)]
pub struct HubMetrics {
    durable: Counter,
    ephemeral: Counter,
    not_envelope: Counter,
    reads: [(HistoryRead, Counter); HistoryRead::ALL.len()],
    /// Channels subscribed.
    pub broker_subscriptions: Gauge,
}

impl HubMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            durable: counter!(RECEIVED, "kind" => "durable"),
            ephemeral: counter!(RECEIVED, "kind" => "ephemeral"),
            not_envelope: counter!(NOT_ENVELOPE),
            reads: HistoryRead::ALL.map(|result| (result, counter!(HISTORY_READS, "result" => result.as_str()))),
            broker_subscriptions: gauge!(SUBSCRIPTIONS),
        }
    }

    /// An event came.
    pub fn received(&self, durable: bool, envelope: bool) {
        let kind = if durable { &self.durable } else { &self.ephemeral };
        kind.increment(1);
        if !envelope {
            self.not_envelope.increment(1);
        }
    }

    /// The past of a channel was read, or not.
    pub fn history_read(&self, result: HistoryRead) {
        if let Some((_, counter)) = self.reads.iter().find(|(known, _)| *known == result) {
            counter.increment(1);
        }
    }
}

/// What came of a read of a channel's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRead {
    /// It was read.
    Done,
    /// The broker did not answer.
    Failed,
}

impl HistoryRead {
    const ALL: [Self; 2] = [Self::Done, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl Default for HubMetrics {
    fn default() -> Self {
        Self::new()
    }
}

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

/// What a broker shows. The embedded one is always up.
#[derive(Debug, Clone)]
pub struct BrokerMetrics {
    /// 0 or 1.
    pub up: Gauge,
    /// Channels whose messages stopped arriving without a word, each time that it was found.
    pub silent_losses: Counter,
    ended: [(SessionEnd, Counter); SessionEnd::ALL.len()],
}

impl BrokerMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            up: gauge!(BROKER_UP),
            silent_losses: counter!(SILENT_LOSSES),
            ended: SessionEnd::ALL.map(|reason| (reason, counter!(SESSIONS_ENDED, "reason" => reason.as_str()))),
        }
    }

    /// A session ended.
    pub fn session_ended(&self, reason: SessionEnd) {
        if let Some((_, counter)) = self.ended.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }
}

impl Default for BrokerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What connections of one lane count.
#[derive(Debug)]
pub struct ConnectionMetrics {
    open: Gauge,
    opened: Counter,
    closed: [(CloseReason, Counter); CloseReason::ALL.len()],
    delivered: Counter,
    gaps: [(Gap, Counter); Gap::ALL.len()],
    publish_to_socket: Histogram,
}

impl ConnectionMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        Self {
            open: gauge!(CONNECTIONS, "lane" => lane.as_str()),
            opened: counter!(OPENED, "lane" => lane.as_str()),
            closed: CloseReason::ALL.map(|reason| (reason, counter!(CLOSED, "reason" => reason.as_str()))),
            delivered: counter!(DELIVERED),
            gaps: Gap::ALL.map(|reason| (reason, counter!(GAPS, "reason" => reason.as_str()))),
            publish_to_socket: histogram!(PUBLISH_TO_SOCKET),
        }
    }

    /// A connection opened.
    pub fn opened(&self) {
        self.open.increment(1.0);
        self.opened.increment(1);
    }

    /// A connection ended.
    pub fn closed(&self, reason: CloseReason) {
        self.open.decrement(1.0);
        if let Some((_, counter)) = self.closed.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    /// A gap was told.
    pub fn gap(&self, reason: Gap) {
        if let Some((_, counter)) = self.gaps.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    /// One write held `events`, the oldest durable one published at `oldest`.
    pub fn delivered(&self, events: u64, oldest: Option<Position>) {
        if events > 0 {
            self.delivered.increment(events);
        }
        if let Some(position) = oldest {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let published = std::time::Duration::from_millis(position.ms);
            self.publish_to_socket.record(now.saturating_sub(published));
        }
    }
}

/// What the node counts of requests that it refuses for who sent them.
#[must_use]
pub fn auth() -> AuthMetrics {
    AuthMetrics::of(|reason| counter!(AUTH_REFUSED, "reason" => reason))
}

/// What the node as a whole shows.
#[derive(Debug)]
pub struct NodeMetrics {
    turned_away: [(TurnedAway, Counter); TurnedAway::ALL.len()],
    /// Set when `/metrics` is asked.
    pub probe_age: Gauge,
    /// 0 or 1.
    pub draining: Gauge,
    /// Sockets of the public port that did not come to speak TLS.
    pub tls_failed: Counter,
}

impl NodeMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            turned_away: TurnedAway::ALL.map(|reason| (reason, counter!(TURNED_AWAY, "reason" => reason.as_str()))),
            probe_age: gauge!(PROBE_AGE),
            draining: gauge!(DRAINING),
            tls_failed: counter!(TLS_FAILED),
        }
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
