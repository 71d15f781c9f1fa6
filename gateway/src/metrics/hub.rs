//! What the hub counts.

use metrics::{Counter, Gauge};
use shared::metrics::{Kind, Label, Metric};

pub(super) const RECEIVED: Metric = Metric {
    name: "sse_gateway_events_received_total",
    kind: Kind::Counter,
    labels: &[Label { name: "kind", values: &[("durable", ""), ("ephemeral", "")] }],
    help: "Events that came from the broker on a channel with a connection here; once a node. Not what was read from history",
    watch: "",
};
pub(super) const NOT_ENVELOPE: Metric = Metric {
    name: "sse_gateway_events_not_envelope_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Of these, payloads that were no envelope and were delivered whole as data",
    watch: "A rise, where publishers write envelopes: one of them writes something else. The routes and our programs write nothing but envelopes",
};
pub(super) const HISTORY_READS: Metric = Metric {
    name: "sse_gateway_history_reads_total",
    kind: Kind::Counter,
    labels: &[Label { name: "result", values: &[("done", ""), ("failed", "")] }],
    help: "Reads of a channel's past for streams that come back; one however many streams wait for it",
    watch: "`failed` while `sse_gateway_broker_up` is 1: does Redis answer in time, and is there room (`replay.max_bytes`)?",
};
pub(super) const SUBSCRIPTIONS: Metric = Metric {
    name: "sse_gateway_broker_subscriptions",
    kind: Kind::Gauge,
    labels: &[],
    help: "Channels that the node is subscribed to, each with a log; a channel stays for `log.linger` after its last connection",
    watch: "Memory, see [operations.md](operations.md#memory)",
};
pub(super) const LOG_EVENTS: Metric = Metric {
    name: "sse_gateway_channel_log_events",
    kind: Kind::Gauge,
    labels: &[],
    help: "Events in the logs of all channels; looked at every 15 s",
    watch: "",
};
pub(super) const LOG_BYTES: Metric = Metric {
    name: "sse_gateway_channel_log_bytes",
    kind: Kind::Gauge,
    labels: &[],
    help: "Memory that they take, as `log.bytes` counts it; looked at every 15 s",
    watch: "Memory: `log.bytes` and `log.age` bound it for each channel, nothing for all of them",
};

/// What the hub counts.
#[derive(Debug, Clone)]
pub struct HubMetrics {
    durable: Counter,
    ephemeral: Counter,
    not_envelope: Counter,
    reads: [(HistoryRead, Counter); HistoryRead::ALL.len()],
    log_events: Gauge,
    log_bytes: Gauge,
    /// Channels subscribed.
    pub broker_subscriptions: Gauge,
}

impl HubMetrics {
    /// Resolves the handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            durable: RECEIVED.counter(&[("kind", "durable")]),
            ephemeral: RECEIVED.counter(&[("kind", "ephemeral")]),
            not_envelope: NOT_ENVELOPE.counter(&[]),
            reads: HistoryRead::ALL.map(|result| (result, HISTORY_READS.counter(&[("result", result.as_str())]))),
            log_events: LOG_EVENTS.gauge(&[]),
            log_bytes: LOG_BYTES.gauge(&[]),
            broker_subscriptions: SUBSCRIPTIONS.gauge(&[]),
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

    /// So much lies in the logs of all channels.
    pub fn logs(&self, events: usize, bytes: usize) {
        // Exact up to 2^53, far beyond any memory.
        #[allow(clippy::cast_precision_loss)]
        let (events, bytes) = (events as f64, bytes as f64);
        self.log_events.set(events);
        self.log_bytes.set(bytes);
    }
}

impl Default for HubMetrics {
    fn default() -> Self {
        Self::new()
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
