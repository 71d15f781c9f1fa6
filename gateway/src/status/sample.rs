//! One reading of the metrics, from the text that `/metrics` shows, and what lies between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::quantile::{Buckets, quantile, to_f64};

/// What is read. A test of the whole program holds that these are there.
const CONNECTIONS: &str = "sse_gateway_connections";
const OPENED: &str = "sse_gateway_connections_opened_total";
const CLOSED: &str = "sse_gateway_connections_closed_total";
const RECEIVED: &str = "sse_gateway_events_received_total";
const DELIVERED: &str = "sse_gateway_events_delivered_total";
const PUBLISH_TO_SOCKET: &str = "sse_gateway_publish_to_socket_seconds_bucket";
const GAPS: &str = "sse_gateway_gaps_total";
const LIMITED: &str = "sse_gateway_limited_total";
const SESSIONS_ENDED: &str = "sse_gateway_broker_sessions_ended_total";
const SILENT_LOSSES: &str = "sse_gateway_broker_silent_losses_total";

/// Counts by the one label that a metric has.
pub(super) type Counts = BTreeMap<String, u64>;

/// Counters count from the start of the process.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Sample {
    /// Open connections by lane.
    pub(super) lanes: Counts,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) received: u64,
    pub(super) delivered: u64,
    pub(super) gaps: Counts,
    pub(super) limited: Counts,
    pub(super) sessions_ended: Counts,
    pub(super) silent_losses: u64,
    /// From publish to socket, seconds.
    pub(super) publish_to_socket: Buckets,
}

/// Events and connections a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rates {
    pub(super) opened: f64,
    pub(super) closed: f64,
    pub(super) received: f64,
    pub(super) delivered: f64,
}

impl Sample {
    /// From the text. What it does not have is 0; what is no number is left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, label, value)) = parts(line) {
                sample.take(name, label, value);
            }
        }
        sample.publish_to_socket.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        sample
    }

    fn take(&mut self, name: &str, label: &str, value: f64) {
        let count = to_count(value);
        let by_label = match name {
            CONNECTIONS => &mut self.lanes,
            GAPS => &mut self.gaps,
            LIMITED => &mut self.limited,
            SESSIONS_ENDED => &mut self.sessions_ended,
            PUBLISH_TO_SOCKET => {
                let bound = if label == "+Inf" { Ok(f64::INFINITY) } else { label.parse() };
                return self.publish_to_socket.extend(bound.ok().map(|bound| (bound, count)));
            }
            _ => {
                let all = match name {
                    OPENED => &mut self.opened,
                    CLOSED => &mut self.closed,
                    RECEIVED => &mut self.received,
                    DELIVERED => &mut self.delivered,
                    SILENT_LOSSES => &mut self.silent_losses,
                    _ => return,
                };
                *all = all.saturating_add(count);
                return;
            }
        };
        by_label.insert(label.to_owned(), count);
    }

    /// What happened a second since `before`, `time` earlier.
    pub(super) fn rates(&self, before: &Self, time: Duration) -> Rates {
        let rate = |of: fn(&Self) -> u64| to_f64(of(self).saturating_sub(of(before))) / time.as_secs_f64().max(0.001);
        Rates {
            opened: rate(|sample| sample.opened),
            closed: rate(|sample| sample.closed),
            received: rate(|sample| sample.received),
            delivered: rate(|sample| sample.delivered),
        }
    }

    /// What half of the writes since `before`, and 99 of 100, stayed below: milliseconds from publish to socket.
    pub(super) fn latency(&self, before: &Self) -> (Option<f64>, Option<f64>) {
        let [p50, p99] = [0.5, 0.99].map(|q| quantile(q, &before.publish_to_socket, &self.publish_to_socket));
        (p50.map(|seconds| seconds * 1_000.0), p99.map(|seconds| seconds * 1_000.0))
    }
}

/// Those of `after` that rose since `before`, and by how much.
pub(super) fn risen(before: &Counts, after: &Counts) -> Counts {
    let rise = |(label, count): (&String, &u64)| {
        let by = count.saturating_sub(before.get(label).copied().unwrap_or(0));
        (by > 0).then(|| (label.clone(), by))
    };
    after.iter().filter_map(rise).collect()
}

/// Name, value of the first label (empty where there is none), value. Our labels are plain words.
fn parts(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let label = labels.split('"').nth(1).unwrap_or("");
    Some((name, label, value.parse().ok()?))
}

/// A count that a line has as a number; what is none is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it saturates
fn to_count(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP sse_gateway_connections Open event streams, by lane.
# TYPE sse_gateway_connections gauge
sse_gateway_connections{lane="direct"} 12
sse_gateway_connections{lane="hyper"} 3
sse_gateway_connections_opened_total{lane="direct"} 20
sse_gateway_connections_opened_total{lane="hyper"} 5
sse_gateway_connections_closed_total{reason="client"} 9
sse_gateway_connections_closed_total{reason="slow"} 1

sse_gateway_events_received_total{kind="durable"} 100
sse_gateway_events_received_total{kind="ephemeral"} 7
sse_gateway_events_delivered_total 1000
sse_gateway_publish_to_socket_seconds_bucket{le="+Inf"} 10
sse_gateway_publish_to_socket_seconds_bucket{le="0.001"} 5
sse_gateway_publish_to_socket_seconds_bucket{le="0.002"} 10
sse_gateway_publish_to_socket_seconds_sum 0.01
sse_gateway_publish_to_socket_seconds_count 10
sse_gateway_gaps_total{reason="trimmed"} 2
sse_gateway_gaps_total{reason="expired"} 0
sse_gateway_limited_total{limit="address"} 4
sse_gateway_broker_sessions_ended_total{reason="closed"} 1
sse_gateway_broker_silent_losses_total 6
sse_gateway_probe_age_seconds 1.25
sse_gateway_build_info{version="0.1.0",profile="debug"} 1
not a line
"#;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect()
    }

    #[test]
    fn what_the_metrics_say() {
        let sample = Sample::parse(TEXT);
        let expected = Sample {
            lanes: counts(&[("direct", 12), ("hyper", 3)]),
            opened: 25,
            closed: 10,
            received: 107,
            delivered: 1_000,
            gaps: counts(&[("trimmed", 2), ("expired", 0)]),
            limited: counts(&[("address", 4)]),
            sessions_ended: counts(&[("closed", 1)]),
            silent_losses: 6,
            publish_to_socket: vec![(0.001, 5), (0.002, 10), (f64::INFINITY, 10)],
        };
        assert_eq!(sample, expected);
        assert_eq!(Sample::parse(""), Sample::default());
    }

    #[test]
    fn between_two_readings() {
        let before = Sample::parse(TEXT);
        let more = TEXT.replace("delivered_total 1000", "delivered_total 1500").replace("\"ephemeral\"} 7", "\"x\"} 8");
        let after =
            Sample::parse(&more.replace("{le=\"+Inf\"} 10", "{le=\"+Inf\"} 30").replace("002\"} 10", "002\"} 30"));
        let rates = after.rates(&before, Duration::from_millis(500));
        assert_eq!(rates, Rates { delivered: 1_000.0, received: 2.0, ..Rates::default() });
        let (p50, p99) = after.latency(&before);
        let hundredths = |ms: Option<f64>| ms.map(|ms| (ms * 100.0).round());
        assert_eq!((hundredths(p50), hundredths(p99)), (Some(150.0), Some(199.0)));
        assert_eq!(before.latency(&before), (None, None));
        assert_eq!(before.rates(&after, Duration::ZERO), Rates::default(), "what goes backwards is nothing");
    }

    #[test]
    fn what_rose() {
        let before = counts(&[("a", 1), ("b", 2)]);
        assert_eq!(risen(&before, &counts(&[("a", 1), ("b", 5), ("c", 1), ("d", 0)])), counts(&[("b", 3), ("c", 1)]));
        assert_eq!(risen(&counts(&[("a", 9)]), &before), counts(&[("b", 2)]));
    }
}
