//! The router as a part of another: methods, paths, URL length, metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::put;
use http::{Method, Request};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use publisher::http::{Limits, not_found};

use crate::support::*;

fn request(method: Method, uri: &str) -> Request<Body> {
    Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let server = Server::new();
    let expected = r#"method-not-allowed","title":"method not allowed","status":405,"detail":"this path takes other methods, the allow header lists them"}"#;
    for (uri, allow) in [
        ("/publish", "POST"),
        ("/channels/c/events", "POST,GET,HEAD"),
        ("/channels/c", "DELETE,GET,HEAD"),
        ("/channels/c/cancel", "POST"),
        ("/api/sse/notify", "POST"),
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if allow.contains(method.as_str()) {
                continue;
            }
            let response = server.send(request(method, uri)).await;
            response.is_problem(expected);
            assert_eq!(response.header("allow"), Some(allow), "{uri}");
        }
    }
    assert_eq!((server.asked(), server.requests()), (vec![], vec![]));
}

#[tokio::test]
async fn others_may_serve_other_methods_and_paths() {
    let others = Router::new()
        .route("/channels/{channel}/events", put(async || "replaced"))
        .route("/channels/{channel}", put(async || "state"));
    let server = Server::new().mounted_in(|router| router.merge(others).fallback(not_found));
    server.send(request(Method::PUT, "/channels/c/events")).await.is_ok("text/plain; charset=utf-8", "replaced");
    server.send(request(Method::PUT, "/channels/c")).await.is_ok("text/plain; charset=utf-8", "state");
    assert_eq!(server.send(request(Method::POST, "/channels/c/events")).await.status, 200);
    assert_eq!(server.send(request(Method::DELETE, "/channels/c")).await.status, 200);
    let patch = server.send(request(Method::PATCH, "/channels/c/events")).await;
    assert_eq!((patch.status.as_u16(), patch.header("content-type")), (405, Some("application/problem+json")));
    assert_eq!(patch.header("allow"), Some("POST,GET,HEAD,PUT"));
    let unknown = server.send(request(Method::POST, "/publishes")).await;
    unknown.is_problem(r#"not-found","title":"not found","status":404,"detail":"no resource has this path"}"#);
}

#[tokio::test]
async fn long_urls() {
    let server = Server::new();
    let uri = |n: usize| {
        let start = "/channels/c/events?x=";
        format!("{start}{}", "y".repeat(n - start.len()))
    };
    assert_eq!(server.send(request(Method::POST, &uri(8_192))).await.status, 200);
    server.asked();
    let expected = r#"url-too-long","title":"URL too long","status":414,"detail":"path and query have 8193 bytes, the limit is 8192","field":"url","limit":8192}"#;
    server.refuses_request(request(Method::POST, &uri(8_193)), expected).await;
    let short = Server::with(Limits { max_url: 8, ..Limits::default() });
    assert_eq!(short.send(request(Method::POST, "/publish")).await.status, 415);
    assert_eq!(short.send(request(Method::POST, "/publish?")).await.status, 414);
    // Only the target counts, however it is written.
    assert_eq!(short.send(request(Method::POST, "http://a.long.name.example/publish")).await.status, 415);
}

/// Keeps counters by name and labels, and what they were described as.
#[derive(Default)]
struct Counters {
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    described: Mutex<Vec<String>>,
}

impl Counters {
    /// Those above 0.
    fn counted(&self) -> Vec<(String, u64)> {
        self.all().into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn all(&self) -> Vec<(String, u64)> {
        let counters = self.counters.lock().unwrap();
        counters.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed))).collect()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        assert!(!description.is_empty());
        self.described.lock().unwrap().push(key.as_str().to_owned());
    }
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Counter::from_arc(Arc::clone(self.counters.lock().unwrap().entry(name).or_default()))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn metrics() {
    let counters = Counters::default();
    let server = metrics::with_local_recorder(&counters, Server::new);
    let described = ["sse_publisher_publishes_total", "sse_publisher_limited_total", "sse_publisher_cancels_total"];
    assert_eq!(*counters.described.lock().unwrap(), described);
    let name = |kind: &str, result: &str| format!("sse_publisher_publishes_total kind={kind} result={result}");
    let cancels = |result: &str| format!("sse_publisher_cancels_total result={result}");
    let mut expected: Vec<_> = ["ok", "refused", "rejected", "unavailable"].map(|result| (cancels(result), 0)).into();
    expected.extend(["rate", "size"].map(|limit| (format!("sse_publisher_limited_total limit={limit}"), 0)));
    for kind in ["durable", "ephemeral"] {
        expected
            .extend(["duplicate", "ok", "refused", "rejected", "unavailable"].map(|result| (name(kind, result), 0)));
    }
    assert_eq!(counters.all(), expected, "all are there before the first publish");

    for body in [
        r#"{"channels":["a","b","down"],"once":"k"}"#,
        r#"{"channel":"a","once":"k"}"#,
        r#"{"channel":"a","ephemeral":true}"#,
        r#"{"channel":"down","ephemeral":true}"#,
        r#"{"channel":"sse.a","ephemeral":true}"#,
        r#"{"channels":["sse.a","b"]}"#,
        "not json",
    ] {
        server.publish(body).await;
    }
    server.send(post("/publish", NDJSON, "wrong\n{\"channel\":\"a\"}\n{\"x\":1,\"ephemeral\":true}")).await;
    server.send(post("/publish", "text/plain", "")).await;
    server.send(post("/channels/sse.a/events", "", "")).await;
    server.send(post("/channels/a/events?ephemeral=true", "", b"\xFF".to_vec())).await;
    server.send(post("/api/sse/notify", "", "")).await;
    server.send(post("/api/sse/notify?userId=nobody&message=m", "", "")).await;
    for (channel, times) in [("a", 2), ("sse.a", 3), ("down", 4)] {
        for _ in 0..times {
            server.send(post(&format!("/channels/{channel}/cancel"), "", "")).await;
        }
    }
    let expected = [
        (cancels("ok"), 2),
        (cancels("refused"), 3),
        (cancels("unavailable"), 4),
        (name("durable", "duplicate"), 1),
        (name("durable", "ok"), 4),
        (name("durable", "refused"), 6),
        (name("durable", "unavailable"), 1),
        (name("ephemeral", "ok"), 1),
        (name("ephemeral", "refused"), 3),
        (name("ephemeral", "unavailable"), 1),
    ];
    assert_eq!(counters.counted(), expected);
}
