//! The declarations against what is really counted.

use std::collections::BTreeSet;

use metrics::with_local_recorder;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use shared::metrics::{buckets, series};

use super::*;

#[test]
fn every_series_is_there_from_the_start_and_no_other() {
    let builder = buckets(METRICS).into_iter().fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).unwrap()
    });
    let recorder = builder.build_recorder();
    with_local_recorder(&recorder, || {
        let _ = (Metrics::new(), CancelMetrics::new(), CancelMetrics::of_orders(), AnswerMetrics::new());
        let _ = (AuthMetrics::new(), redis_up(), tls_failed());
        tell_build();
    });
    let text = recorder.handle().render();
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names = samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
    let names = names.filter(|name| !name.contains("_bucket{") && !name.ends_with("_sum"));
    let (infos, there): (BTreeSet<String>, BTreeSet<String>) = names.partition(|name| name.contains("_info{"));
    assert_eq!(there, series(METRICS).into_iter().collect());
    assert_eq!(infos.len(), 1, "{infos:?}");
    for metric in METRICS {
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
}

#[test]
fn reasons_are_those_of_tokens() {
    let values = |values: &[(&'static str, &str)]| values.iter().map(|(value, _)| *value).collect::<Vec<_>>();
    assert_eq!(values(AUTH_REASONS), values(AUTH_REASON.values));
    let sorted = |mut all: Vec<&'static str>| {
        all.sort_unstable();
        all
    };
    assert_eq!(sorted(values(AUTH_REASONS)), sorted(AuthError::REASONS.to_vec()));
}
