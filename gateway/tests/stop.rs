//! How the process ends: in order, in time, and never by cutting a stream that could have been told.

use reqwest::Response;
use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;
use tokio::net::TcpStream;

use crate::support::{Gateway, Raw, eventually, soon};

const AT_ONCE: &str = "[drain]\ngrace = \"0s\"";

async fn readiness(gateway: &Gateway) -> (u16, String) {
    let response: Response = gateway.admin("/readyz").await;
    (response.status().as_u16(), response.text().await.unwrap())
}

/// SIGTERM, and waits until the gateway is seen to stop.
async fn drain(gateway: &Gateway) {
    gateway.signal("TERM").await;
    let draining = (503, r#"{"ready":false,"reason":"draining"}"#.to_owned());
    eventually("draining", async || (readiness(gateway).await == draining).then_some(())).await;
}

async fn refuses_connections(gateway: &Gateway) {
    eventually("a closed port", async || TcpStream::connect(&gateway.public).await.is_err().then_some(())).await;
}

/// A client that stands still is left alone, and falls out of no log.
const PATIENT: &str = "[limits]\nwrite_timeout = \"10m\"\n[log]\nage = \"10m\"\nbytes = 67108864";

/// A stream on channel `a` that is written to until its socket is full, on a gateway that is [`PATIENT`].
async fn stuck(gateway: &Gateway) -> Raw {
    let mut raw = Raw::connect_small(&gateway.public);
    raw.get("/events?channel=a").await;
    raw.head().await;
    raw.body_until("sse.open").await;
    // More than the kernel buffers for a socket, 4 MiB for the sender unless somebody raised it.
    for _ in 0..256 {
        gateway.publish(json!({"channel": "a", "data": "x".repeat(64 << 10)})).await;
    }
    raw
}

#[tokio::test]
async fn signals_end_streams_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::builder().config(AT_ONCE).start().await;
        let mut streams = Vec::new();
        for number in 0..10 {
            let mut stream = gateway.stream(&format!("/events?channel=all&channel=own:{number}")).await;
            stream.opened().await;
            streams.push(stream);
        }
        let mut raw = Raw::connect(&gateway.public).await;
        raw.get("/events?channel=all").await;
        raw.head().await;
        raw.body_until("sse.open").await;
        gateway.publish(json!({"channel": "all", "data": "last"})).await;
        for stream in &mut streams {
            assert_eq!(stream.data().await.as_deref(), Some("last"), "SIG{signal}");
        }
        raw.body_until("\ndata: last\n").await;
        gateway.signal(signal).await;
        for stream in &mut streams {
            let rest = stream.rest().await;
            assert!(matches!(rest[..], [Decoded::Retry(_)]), "after SIG{signal}: {rest:?}");
        }
        let rest = raw.rest_of_chunks().await;
        let last = rest.rsplit("\n\n").nth(1).unwrap_or_default();
        assert!(last.starts_with("retry: "), "by its last chunk, after SIG{signal}: {rest:?}");
        assert_eq!(raw.rest().await, b"", "and then the connection ends");
        assert_eq!(gateway.exit().await.status.code(), Some(0), "SIG{signal}");
    }
}

#[tokio::test]
async fn http2_streams_end_cleanly_too() {
    let gateway = Gateway::builder().config(AT_ONCE).start().await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = crate::support::Stream::open(client.get(gateway.url("/events?channel=a"))).await;
        stream.opened().await;
        streams.push(stream);
    }
    gateway.publish(json!({"channel": "a", "data": "last"})).await;
    for stream in &mut streams {
        assert_eq!(stream.data().await.as_deref(), Some("last"));
    }
    assert_eq!(gateway.stop().await.status.code(), Some(0));
    for stream in &mut streams {
        let rest = stream.rest().await;
        assert!(matches!(rest[..], [Decoded::Retry(_)]), "{rest:?}");
    }
}

#[tokio::test]
async fn during_the_grace_everything_is_served_but_new_streams() {
    let gateway = Gateway::builder().config("[drain]\ngrace = \"20s\"").start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    drain(&gateway).await;

    assert_eq!(gateway.admin("/livez").await.status(), 200);
    assert_eq!(gateway.metric("sse_gateway_draining").await, 1.0);
    let receipt = gateway.publish(json!({"channel": "a", "data": "in the grace"})).await;
    assert_eq!(receipt["receivers"], 1);
    assert_eq!(stream.data().await.as_deref(), Some("in the grace"));

    for path in ["/events?channel=a", "/api/sse/connect?userId=42"] {
        let mut turned_away = gateway.stream(path).await;
        assert_eq!(turned_away.status, 200, "anything else ends an EventSource for good: {path}");
        assert_eq!(turned_away.headers["content-type"], "text/event-stream", "{path}");
        let said = turned_away.rest().await;
        assert!(matches!(said[..], [Decoded::Retry(_)]), "{path}: {said:?}");
    }
    gateway.metric_becomes("sse_gateway_connections_turned_away_total{reason=\"draining\"}", 2.0).await;
    let wrong = gateway.client.get(gateway.url("/events")).send().await.unwrap();
    assert_eq!(wrong.status(), 400, "what is wrong stays wrong");
    assert_eq!(wrong.json::<Value>().await.unwrap()["field"], "channel");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut gateway = Gateway::builder().config("[drain]\ngrace = \"10m\"\ndeadline = \"10m\"").start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    drain(&gateway).await;
    gateway.signal("INT").await;
    assert_eq!(gateway.exit().await.status.code(), Some(0));
    assert_eq!(stream.rest().await, [], "cut");
}

#[tokio::test]
async fn a_client_that_never_reads_holds_nothing_up_past_the_deadline() {
    let settings = "[drain]\ngrace = \"0s\"\ndeadline = \"2s\"";
    let mut gateway = Gateway::builder().config(PATIENT).config(settings).start().await;
    let _stuck = stuck(&gateway).await;
    gateway.signal("TERM").await;
    let exit = soon("the end long before the deadline", gateway.exit()).await;
    assert_eq!(exit.status.code(), Some(0), "even if the deadline cut a stream");
}

#[tokio::test]
async fn after_the_grace_the_port_is_closed_and_the_operator_port_is_not() {
    let settings = "[drain]\ngrace = \"0s\"\ndeadline = \"10m\"";
    let mut gateway = Gateway::builder().config(PATIENT).config(settings).start().await;
    let mut stream = gateway.stream("/events?channel=b").await;
    stream.opened().await;
    let _stuck = stuck(&gateway).await;
    drain(&gateway).await;
    refuses_connections(&gateway).await;
    assert!(matches!(stream.rest().await[..], [Decoded::Retry(_)]), "who reads is told and gone");
    gateway.metric_becomes(&gateway.open(), 1.0).await;
    gateway.metric_becomes("sse_gateway_connections_closed_total{reason=\"drain\"}", 1.0).await;
    assert_eq!(gateway.admin("/livez").await.status(), 200);
    assert_eq!(gateway.metric("sse_gateway_draining").await, 1.0);
    gateway.signal("TERM").await;
    assert_eq!(gateway.exit().await.status.code(), Some(0));
}

#[tokio::test]
async fn idle_and_silent_connections_hold_nothing_up() {
    let settings = "[drain]\ngrace = \"0s\"\ndeadline = \"10m\"";
    let mut gateway = Gateway::builder().config(settings).start().await;
    let mut silent = Raw::connect(&gateway.public).await;
    // Kept alive between requests.
    let mut idle = Raw::connect(&gateway.public).await;
    idle.get("/nothing").await;
    let head = idle.head().await;
    idle.body_of(&head).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    client.get(gateway.url("/nothing")).send().await.unwrap();

    gateway.signal("TERM").await;
    let exit = soon("the end although clients are connected", gateway.exit()).await;
    assert_eq!(exit.status.code(), Some(0));
    for raw in [&mut silent, &mut idle] {
        assert_eq!(raw.rest().await, b"");
    }
}

#[tokio::test]
async fn half_a_request_holds_nothing_up() {
    // The deadline is far: whoever waits for it fails.
    let mut gateway = Gateway::builder().config("[drain]\ngrace = \"0s\"\ndeadline = \"5m\"").start().await;
    let mut others = Vec::new();
    for half in ["G", "GET /events?channel=a HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut raw = Raw::connect(&gateway.public).await;
        raw.send(half).await;
        others.push(raw);
    }
    gateway.signal("TERM").await;
    let exit = soon("the end long before the deadline", gateway.exit()).await;
    assert_eq!(exit.status.code(), Some(0));
}
