//! The operator port: liveness, readiness, metrics. `status.rs` has its page.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway::metrics::METRICS;
use serde_json::json;
use shared::metrics::series;
use testkit::soon;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Gateway, Raw};

/// The pieces of a sample's labels, `name="value"`.
fn labels(text: &str) -> impl Iterator<Item = &str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split_once('{')?.1.rsplit_once('}')).flat_map(|(labels, _)| labels.split(','))
}

#[tokio::test]
async fn lives_and_is_ready() {
    let gateway = Gateway::start().await;
    let response = gateway.admin("/livez").await;
    assert_eq!((response.status().as_u16(), &*response.text().await.unwrap()), (200, "ok\n"));
    let response = gateway.admin("/readyz").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await.unwrap(), r#"{"ready":true}"#);
}

#[tokio::test]
async fn every_declared_metric_is_there() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.publish(json!({"channel": "a", "data": "x"})).await;
    stream.event().await.unwrap();

    let response = gateway.admin("/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    for metric in METRICS.iter().chain(shared::process::METRICS) {
        for line in [format!("# HELP {} ", metric.name), format!("# TYPE {} ", metric.name)] {
            assert_eq!(text.lines().filter(|have| have.starts_with(&line)).count(), 1, "{line:?} in\n{text}");
        }
    }
    for series in series(METRICS).into_iter().chain(series(shared::process::METRICS)) {
        let is_there = text.lines().any(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        assert!(is_there, "no sample of {series} in\n{text}");
    }
    for sample in [
        &*format!("{} 1", gateway.open()),
        &*format!("{} 1", gateway.ever_open()),
        "sse_gateway_events_received_total{kind=\"durable\"} 1",
        "sse_gateway_events_received_total{kind=\"ephemeral\"} 0",
        "sse_gateway_events_delivered_total 1",
        "sse_gateway_writes_total 1",
        "sse_gateway_publish_to_socket_seconds_count 1",
        "sse_gateway_connect_seconds_count 1",
        "sse_gateway_replay_seconds_count 0",
        "sse_gateway_max_connections 100000",
        "sse_gateway_drain_deadline_timestamp_seconds 0",
        "sse_gateway_broker_subscriptions 1",
        "sse_gateway_draining 0",
        "sse_publisher_publishes_total{kind=\"durable\",result=\"ok\"} 1",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
    }
}

/// What a stream is told is what is counted, opening and all.
#[tokio::test]
async fn bytes_and_times_of_streams_are_counted() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let events: Vec<_> = (0..5).map(|n| json!({"channel": "a", "data": n})).collect();
    gateway.publish_batch(&events).await;
    for n in 0..5 {
        assert_eq!(stream.data().await, Some(n.to_string()));
    }
    assert_eq!(gateway.metric("sse_gateway_bytes_written_total").await, stream.bytes.len() as f64);
    assert_eq!(gateway.metric("sse_gateway_events_delivered_total").await, 5.0);
    let writes = gateway.metric("sse_gateway_writes_total").await;
    assert!((1.0..=5.0).contains(&writes), "{writes}");

    let mut back = gateway.stream("/events?channel=a&last_event_id=earliest").await;
    for n in 0..5 {
        assert_eq!(back.data().await, Some(n.to_string()));
    }
    gateway.metric_becomes("sse_gateway_replay_seconds_count", 1.0).await;
    assert_eq!(gateway.metric("sse_gateway_connect_seconds_count").await, 2.0);
    let took = gateway.metric("sse_gateway_connect_seconds_sum").await;
    // Nothing at all where head and answer were in the same turn of a loop, which has one time.
    assert!((0.0..60.0).contains(&took), "{took}");
}

/// A series for each user would fill the memory of whoever collects them.
#[tokio::test]
async fn no_label_names_a_channel_or_a_user() {
    let gateway = Gateway::start().await;
    let before = gateway.admin("/metrics").await.text().await.unwrap();
    for name in ["odd\"channel", "odd,channel=1", "odd\\channel", "odd채널"] {
        let mut url = reqwest::Url::parse(&gateway.url("/events")).unwrap();
        url.query_pairs_mut().append_pair("channel", name);
        let mut stream = crate::support::Stream::open(gateway.client.get(url)).await;
        stream.opened().await;
        gateway.publish(json!({"channel": name, "event": "oddevent", "once": "oddonce"})).await;
        stream.event().await.unwrap();
        let mut user = gateway.stream("/api/sse/connect?userId=odduser").await;
        user.opened().await;
        gateway.client.post(gateway.url("/api/sse/notify?userId=odduser&message=oddtext")).send().await.unwrap();
        user.event().await.unwrap();
        gateway.client.get(gateway.url(&format!("/odd/{name}"))).send().await.unwrap();
        gateway.client.post(gateway.url("/publish")).json(&json!({"odd": 1})).send().await.unwrap();
    }
    let after = gateway.admin("/metrics").await.text().await.unwrap();
    assert!(!after.contains("odd"), "{after}");
    let bounds = |label: &&str| !label.starts_with("le=");
    let labels_before: BTreeSet<&str> = labels(&before).filter(bounds).collect();
    let labels_after: BTreeSet<&str> = labels(&after).filter(bounds).collect();
    assert!(!labels_before.is_empty());
    assert_eq!(labels_after, labels_before, "traffic made no series");
}

#[tokio::test]
async fn each_port_has_its_own_routes() {
    let gateway = Gateway::start().await;
    for path in ["/metrics", "/livez", "/readyz", "/status", "/status.js"] {
        let response = gateway.client.get(gateway.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path} on the public port");
    }
    for path in ["/events?channel=a", "/demo/style.css", "/publish", "/nothing"] {
        let response = gateway.admin(path).await;
        assert_eq!(response.status(), 404, "{path} on the operator port");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
    let response = gateway.client.post(format!("http://{}/metrics", gateway.admin)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "GET,HEAD"));
}

/// Whoever holds connections to it takes no files from the streams, and makes room when it has asked nothing for a while.
#[tokio::test]
async fn idle_connections_to_it_are_bounded_and_end() {
    const MOST: usize = 64;
    let mut gateway = Gateway::builder().log_piped().start().await;
    let mut log = BufReader::new(gateway.take_log()).lines();
    let before = gateway.descriptors();
    let mut idle = Vec::new();
    for _ in 0..MOST + 16 {
        idle.push(Raw::connect(&gateway.admin).await);
    }
    let full = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("a port has as many sockets as it may") {
                return line;
            }
        }
        panic!("the log ended");
    };
    let line = soon("the log says so", full).await;
    assert!(line.contains("max=64") && line.contains(&format!("port={}", gateway.admin)), "{line}");
    assert!(gateway.descriptors() <= before + MOST, "{before}, {}", gateway.descriptors());
    let mut probe = Raw::connect(&gateway.admin).await;
    probe.get("/livez").await;
    gateway.stream("/events?channel=a").await.opened().await;
    idle[0].ends_within(Duration::from_secs(30)).await;
    assert_eq!(soon("an answer", probe.head()).await.status, "HTTP/1.1 200 OK");
}
