//! What the nodes themselves count of streams that ended, and of Redis: why, where something is wrong.

use std::collections::BTreeMap;

use crate::server::Server;

/// By metric: what a line says of it.
const COUNTED: [(&str, &str); 4] = [
    ("sse_gateway_connections_closed_total", "streams that ended"),
    ("sse_gateway_connections_turned_away_total", "requests for a stream turned away"),
    ("sse_gateway_broker_sessions_ended_total", "sessions with Redis that ended"),
    ("sse_gateway_gaps_total", "gaps told"),
];

/// A line for each metric of which something was counted, over all nodes. Whoever does not answer is one too.
pub(super) async fn counted(servers: &[Server]) -> Vec<String> {
    let mut counts = BTreeMap::new();
    let mut silent = 0;
    for server in servers {
        match server.metrics().await {
            Some(text) => add(&mut counts, &text),
            None => silent += 1,
        }
    }
    let mut lines = lines(&counts);
    if silent > 0 {
        lines.push(format!("{silent} nodes did not tell their metrics"));
    }
    lines
}

/// Counts by what they are of, and by label.
type Counts = BTreeMap<(usize, String), f64>;

fn add(counts: &mut Counts, metrics: &str) {
    for line in metrics.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some((name, labels)) = series.split_once('{') else { continue };
        let Some(of) = COUNTED.iter().position(|(counted, _)| *counted == name) else { continue };
        let label = labels.split('"').nth(1).unwrap_or_default();
        *counts.entry((of, label.to_owned())).or_default() += value.parse::<f64>().unwrap_or_default();
    }
}

fn lines(counts: &Counts) -> Vec<String> {
    let of = |index: usize| {
        let by_label = counts.iter().filter(|((of, _), count)| *of == index && **count > 0.0);
        by_label.map(|((_, label), count)| format!("{count:.0} {label}")).collect::<Vec<_>>()
    };
    let lines = COUNTED.iter().enumerate().map(|(index, (_, what))| (what, of(index)));
    lines
        .filter(|(_, by_label)| !by_label.is_empty())
        .map(|(what, by_label)| format!("{what}: {}", by_label.join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_together_by_label() {
        let mut counts = Counts::new();
        let node = "# TYPE sse_gateway_connections_closed_total counter\n\
                    sse_gateway_connections_closed_total{reason=\"slow\"} 3\n\
                    sse_gateway_connections_closed_total{reason=\"client\"} 0\n\
                    sse_gateway_gaps_total{reason=\"trimmed\"} 2\nprocess_open_fds 3\n";
        add(&mut counts, node);
        add(&mut counts, node);
        assert_eq!(lines(&counts), ["streams that ended: 6 slow", "gaps told: 4 trimmed"]);
        assert_eq!(lines(&Counts::new()), Vec::<String>::new());
    }
}
