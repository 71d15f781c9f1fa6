//! The declarations against what is really counted, and `docs/metrics.md` against the declarations.

use std::collections::BTreeSet;
use std::path::Path;

use metrics::with_local_recorder;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use shared::metrics::{Kind, series, tables};

use super::*;

/// Has the docs written where they differ, and the test pass.
const WRITE: &str = "WRITE_DOCS";

fn recorder() -> PrometheusRecorder {
    let builder = buckets().into_iter().fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).unwrap()
    });
    builder.build_recorder()
}

/// Names and labels of all samples of a Prometheus text, of histograms the counts.
fn samples(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names = samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
    names.filter(|name| !name.contains("_bucket{") && !name.ends_with("_sum")).collect()
}

#[test]
fn every_series_is_there_from_the_start_and_no_other() {
    let recorder = recorder();
    with_local_recorder(&recorder, || {
        describe();
        let _ = (ConnectionMetrics::new(Lane::Direct), ConnectionMetrics::new(Lane::Hyper), HubMetrics::new());
        let _ = (BrokerMetrics::new(), NodeMetrics::new(), LimitMetrics::new(), auth());
    });
    let text = recorder.handle().render();
    let (infos, there): (BTreeSet<String>, BTreeSet<String>) =
        samples(&text).into_iter().partition(|sample| sample.contains("_info{"));
    assert_eq!(there, series(METRICS).into_iter().collect());
    let build = format!("sse_gateway_build_info{{version=\"{}\",profile=\"", env!("CARGO_PKG_VERSION"));
    assert!(infos.len() == 1 && infos.iter().all(|info| info.starts_with(&build)), "{infos:?}");
    for metric in METRICS {
        for line in [
            format!("# HELP {} {}", metric.name, metric.help),
            format!("# TYPE {} {}", metric.name, metric.kind.as_str()),
        ] {
            assert_eq!(text.lines().filter(|have| *have == line).count(), 1, "{line:?} in\n{text}");
        }
    }
}

#[test]
fn names_say_what_they_are() {
    let all = METRICS.iter().chain(publisher::metrics::METRICS).chain(shared::process::METRICS);
    let mut names = BTreeSet::new();
    for metric in all {
        assert!(names.insert(metric.name), "{} is declared twice", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        let is_sentence = metric.help.starts_with(char::is_uppercase) || metric.help.starts_with('1');
        assert!(is_sentence && !metric.help.ends_with('.') && !metric.help.contains("]("), "{}", metric.help);
        assert!(!metric.help.contains(['|', '\n', '"']) && !metric.watch.contains(['|', '\n']), "{}", metric.name);
        if let Kind::Histogram(bounds) = metric.kind {
            assert!(metric.name.ends_with("_seconds") && bounds.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}

#[test]
fn what_was_written_is_counted_once() {
    let recorder = recorder();
    let [direct, hyper] = with_local_recorder(&recorder, || [Lane::Direct, Lane::Hyper].map(ConnectionMetrics::new));
    direct.delivered(3, None);
    direct.wrote(100);
    hyper.delivered(0, None);
    hyper.wrote(20);
    for _ in 0..2 {
        direct.flush();
        hyper.flush();
        let text = recorder.handle().render();
        for line in [
            "sse_gateway_events_delivered_total 3",
            "sse_gateway_writes_total 1",
            "sse_gateway_bytes_written_total 120",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
    }
}

#[test]
fn the_docs_are_written_from_the_declarations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/metrics.md");
    let before = std::fs::read_to_string(&path).unwrap();
    let mut after = before.clone();
    for (part, metrics) in
        [("gateway", METRICS), ("publisher", publisher::metrics::METRICS), ("process", shared::process::METRICS)]
    {
        let (begin, end) = (format!("<!-- {part}: written by {WRITE}=1 -->\n\n"), format!("\n<!-- {part}: end -->"));
        let (head, rest) = after.split_once(&begin).unwrap_or_else(|| panic!("docs/metrics.md has no {begin:?}"));
        let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("docs/metrics.md has no {end:?}"));
        after = format!("{head}{begin}{}{end}{tail}", tables(metrics));
    }
    if before == after {
        return;
    }
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(&path, after).unwrap();
    }
    let first = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    panic!(
        "docs/metrics.md is not what the declarations say; `{WRITE}=1 cargo test -p gateway --lib metrics` writes it. \
         The first difference, there and declared: {first:#?}"
    );
}
