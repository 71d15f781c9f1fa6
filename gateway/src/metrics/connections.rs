//! What connections count.
//!
//! Writing to a stream is what a node does most, so what is counted with each write lies in one place of the lane's own
//! ([`Written`]), three additions to one line of memory. It is put into the counters when `/metrics` is asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram};
use shared::continuity::Gap;
use shared::metrics::{Kind, Label, Metric};
use shared::position::Position;

use crate::connection::CloseReason;

const LANES: Label = Label { name: "lane", values: &[("direct", ""), ("hyper", "")] };

pub(super) const CONNECTIONS: Metric = Metric {
    name: "sse_gateway_connections",
    kind: Kind::Gauge,
    labels: &[LANES],
    help: "Open event streams",
    watch: "Near `sse_gateway_max_connections`; a sudden fall",
};
pub(super) const OPENED: Metric = Metric {
    name: "sse_gateway_connections_opened_total",
    kind: Kind::Counter,
    labels: &[LANES],
    help: "Event streams opened",
    watch: "A rate far above the usual: clients come back again and again",
};
pub(super) const CLOSED: Metric = Metric {
    name: "sse_gateway_connections_closed_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "reason",
        values: &[
            ("client", "The client went away"),
            ("ended", "All its channels have ended"),
            ("slow", "Its unread events have left the channel log"),
            ("write_timeout", "Its socket took nothing, or much less than there was, for `limits.write_timeout`"),
            ("drain", "The node is stopping"),
            ("lifetime", "It was as old as `limits.max_lifetime` lets it become"),
            (
                "join",
                "Its channels were not complete within 60 s, though Redis was there: the node cannot read their history, or is far behind",
            ),
            ("disconnected", "Its channel, or its user, was [disconnected](protocol.md#orders)"),
            ("expired", "Its token was good [no longer](protocol.md#while-a-stream-is-open)"),
            ("revoked", "The same: it was revoked, or all of its user's were"),
        ],
    }],
    help: "Event streams that ended",
    watch: "`slow`, `write_timeout` and any `join`",
};
pub(super) const CONNECT: Metric = Metric {
    name: "sse_gateway_connect_seconds",
    kind: Kind::Histogram(&[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
    labels: &[],
    help: "From a request for a stream, its head read and its token verified, to the first bytes of the stream: limits, leases and subscribing are in it. Not those that were turned away",
    watch: "The 99th percentile: Redis answers slowly, or the node has too much to do",
};
pub(super) const REPLAY: Metric = Metric {
    name: "sse_gateway_replay_seconds",
    kind: Kind::Histogram(&[
        0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    ]),
    labels: &[],
    help: "From when a stream first looked for what it missed until all of it was handed to its socket, or the gap was told. Those that come back with a cursor, and open ones after a hole; time without Redis is not in it",
    watch: "The 99th percentile: reads of history are slow, or many wait for them",
};
pub(super) const DELIVERED: Metric = Metric {
    name: "sse_gateway_events_delivered_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Events written to streams, replayed ones too; once a connection. Not the gateway's own (sse.open, sse.gap, heartbeats)",
    watch: "",
};
pub(super) const WRITES: Metric = Metric {
    name: "sse_gateway_writes_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Writes that held events; events delivered divided by it is how many went out together",
    watch: "Many events a write: streams are behind, or come back",
};
pub(super) const BYTES: Metric = Metric {
    name: "sse_gateway_bytes_written_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Bytes of event streams handed to sockets, keep-alives and all; without what HTTP and TLS put around them",
    watch: "What the network carries",
};
pub(super) const PUBLISH_TO_SOCKET: Metric = Metric {
    name: "sse_gateway_publish_to_socket_seconds",
    kind: Kind::Histogram(&[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]),
    labels: &[],
    help: "From a durable event's position to its write; of each write the oldest event. Ephemeral events are not in it, nor are those that are replayed; those that a node caught up on after a lost session are. The position is by Redis' clock, the write by the node's; on the embedded broker they are the same",
    watch: "The 99th percentile",
};
pub(super) const GAPS: Metric = Metric {
    name: "sse_gateway_gaps_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "reason",
        values: &[
            ("trimmed", "The first event left is not the one right after the cursor"),
            ("expired", "None is left of those after the cursor, or nobody knows"),
            ("data_lost", "The data have begun another life; or the node found that messages had not reached it"),
            ("unknown_cursor", "What the client sent is no cursor of this cluster"),
            ("too_far", "More than `replay.events` or `replay.bytes`"),
        ],
    }],
    help: "Gaps that streams were told of; one for each channel of each stream",
    watch: "A rise: [what to do](operations.md#gaps)",
};

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

/// What connections of one lane count.
#[derive(Debug)]
pub struct ConnectionMetrics {
    /// Since the last [`flush`](Self::flush).
    written: Written,
    delivered: Counter,
    writes: Counter,
    bytes: Counter,
    open: Gauge,
    opened: Counter,
    closed: [(CloseReason, Counter); CloseReason::ALL.len()],
    gaps: [(Gap, Counter); Gap::ALL.len()],
    publish_to_socket: Histogram,
    connect: Histogram,
    replay: Histogram,
}

/// Added to with each write by whoever writes, taken by [`ConnectionMetrics::flush`]. Nothing else lies in its line of memory,
/// and the event loops that share it move no more than this one line between them.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Written {
    events: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
}

impl ConnectionMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        let lane = &[("lane", lane.as_str())];
        Self {
            written: Written::default(),
            delivered: DELIVERED.counter(&[]),
            writes: WRITES.counter(&[]),
            bytes: BYTES.counter(&[]),
            open: CONNECTIONS.gauge(lane),
            opened: OPENED.counter(lane),
            closed: CloseReason::ALL.map(|reason| (reason, CLOSED.counter(&[("reason", reason.as_str())]))),
            gaps: Gap::ALL.map(|reason| (reason, GAPS.counter(&[("reason", reason.as_str())]))),
            publish_to_socket: PUBLISH_TO_SOCKET.histogram(),
            connect: CONNECT.histogram(),
            replay: REPLAY.histogram(),
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

    /// A connection said its first, so long after it was asked for.
    pub fn connected(&self, after: Duration) {
        self.connect.record(after);
    }

    /// A connection has been given all that it missed, so long after it began to look for it.
    pub fn replayed(&self, after: Duration) {
        self.replay.record(after);
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
            self.written.events.fetch_add(events, Ordering::Relaxed);
            self.written.writes.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(position) = oldest {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let published = Duration::from_millis(position.ms);
            self.publish_to_socket.record(now.saturating_sub(published));
        }
    }

    /// One write, of events or not, has so many bytes.
    pub fn wrote(&self, bytes: usize) {
        self.written.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Puts what was written since the last time into the counters. Whoever renders them calls it before.
    pub fn flush(&self) {
        let Written { events, writes, bytes } = &self.written;
        for (since, counter) in [(events, &self.delivered), (writes, &self.writes), (bytes, &self.bytes)] {
            counter.increment(since.swap(0, Ordering::Relaxed));
        }
    }
}
