//! A client that does not read: nobody waits for it, its memory is bounded, and it is closed.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use shared::event_stream::decode::{Decoded, Decoder};

use crate::support::{Gateway, Raw, Stream};

/// As much as an event may have: a few of them fill any window, some hundred any socket buffer.
const LARGE: usize = 64 << 10;
/// Beyond what the kernel buffers for a socket, 4 MiB for the sender on Linux unless somebody raised it.
const ENOUGH: usize = 16 << 20;
const CLOSED_SLOW: &str = "sse_gateway_connections_closed_total{reason=\"slow\"}";
const CLOSED_STALLED: &str = "sse_gateway_connections_closed_total{reason=\"write_timeout\"}";
/// Where HTTP/2 is counted.
const ON_HYPER: &str = "sse_gateway_connections{lane=\"hyper\"}";
/// History would count against the memory of the process.
const LITTLE_HISTORY: &str = "[embedded]\nmax_bytes = 65536";
/// Nobody falls out of the log while sockets fill: they are full before somebody is too slow.
const ROOMY_LOG: &str = "[log]\nbytes = 25165824";

/// An event's number in front of as much as there may be.
fn large(number: usize) -> String {
    format!("{number:08}{}", "x".repeat(LARGE - 8))
}

/// Publishes `bytes` of large events on channel `a`, each only after `reader` had the one before.
async fn publish_while_read(gateway: &Gateway, reader: &mut Stream, bytes: usize) {
    for number in 0..bytes / LARGE {
        let data = large(number);
        gateway.publish(json!({"channel": "a", "data": data})).await;
        assert!(reader.data().await == Some(data), "event {number} has to come while another client stands still");
        // Kept for failures, and too much here.
        reader.bytes.clear();
    }
}

/// A gateway on which nobody falls out of the log, and who takes nothing is soon given up.
async fn impatient() -> Gateway {
    let builder = Gateway::builder().config("[limits]\nwrite_timeout = \"1s\"");
    builder.config(ROOMY_LOG).config(LITTLE_HISTORY).start().await
}

async fn stalled(gateway: &Gateway) -> Raw {
    let mut raw = Raw::connect_small(&gateway.public);
    raw.get("/events?channel=a").await;
    raw.head().await;
    raw.body_until("\nevent: sse.open\n").await;
    raw.body_until("\n\n").await;
    raw
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_given_up() {
    let gateway = impatient().await;
    let mut reader = gateway.stream("/events?channel=a").await;
    reader.opened().await;
    let _stalled = stalled(&gateway).await;
    gateway.metric_becomes(&gateway.open(), 2.0).await;
    publish_while_read(&gateway, &mut reader, ENOUGH).await;
    gateway.metric_becomes(&gateway.open(), 1.0).await;
    gateway.metric_becomes(CLOSED_STALLED, 1.0).await;
    publish_while_read(&gateway, &mut reader, LARGE).await;
}

/// So little that the kernel buffers all of it: it is the kernel then that finds the socket standing still.
#[tokio::test]
async fn a_stalled_socket_counts_as_stalled_however_little_is_unread() {
    let gateway = Gateway::builder().config("[limits]\nwrite_timeout = \"1s\"").start().await;
    let _stalled = stalled(&gateway).await;
    for number in 0..4 {
        gateway.publish(json!({"channel": "a", "data": large(number)})).await;
    }
    gateway.metric_becomes(&gateway.open(), 0.0).await;
    let closed = gateway.admin("/metrics").await.text().await.unwrap();
    let closed: Vec<&str> =
        closed.lines().filter(|line| line.contains("_closed_total{") && line.ends_with(" 1")).collect();
    assert_eq!(closed, [format!("{CLOSED_STALLED} 1")]);
}

#[tokio::test]
async fn a_client_that_fell_behind_is_told_to_come_back() {
    let gateway = Gateway::builder().config("[log]\nevents = 8").config(LITTLE_HISTORY).start().await;
    let mut reader = gateway.stream("/events?channel=a").await;
    reader.opened().await;
    let mut stalled = stalled(&gateway).await;
    gateway.publish(json!({"channel": "a", "data": "first"})).await;
    assert_eq!(reader.data().await.as_deref(), Some("first"));
    let block = stalled.body_until("\n\n").await;
    assert!(block.starts_with("data: first\n"), "{block:?}");
    publish_while_read(&gateway, &mut reader, ENOUGH).await;

    // It reads again: what was under way arrives whole and in order, then the end.
    let mut decoder = Decoder::new();
    decoder.feed(stalled.rest_of_chunks().await.as_bytes()).unwrap();
    let mut said: Vec<Decoded> = decoder.collect();
    assert!(matches!(said.pop(), Some(Decoded::Retry(_))), "the last word is when to come back");
    let events = said.iter().filter_map(|said| match said {
        Decoded::Event(event) if event.event == "message" => Some(&event.data[..8]),
        _ => None,
    });
    let numbers: Vec<usize> = events.map(|number| number.parse().unwrap()).collect();
    assert!(numbers.len() < ENOUGH / LARGE, "all of them: the log or the socket was too large for this test");
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "no hole, nothing twice");
    gateway.metric_becomes(CLOSED_SLOW, 1.0).await;
    gateway.metric_becomes(&gateway.open(), 1.0).await;
}

#[tokio::test]
async fn an_http2_window_that_stays_shut_is_given_up() {
    let gateway = impatient().await;
    let http2 = || {
        let builder = Client::builder().no_proxy().http2_prior_knowledge();
        builder.http2_initial_stream_window_size(65_535).http2_initial_connection_window_size(1 << 20).build().unwrap()
    };
    let mut reader = Stream::open(http2().get(gateway.url("/events?channel=a"))).await;
    reader.opened().await;
    // The window of this stream alone fills: its connection is fine.
    let _stalled = http2().get(gateway.url("/events?channel=a")).send().await.unwrap();
    gateway.metric_becomes(ON_HYPER, 2.0).await;
    publish_while_read(&gateway, &mut reader, 20 * LARGE).await;
    gateway.metric_becomes(ON_HYPER, 1.0).await;
    gateway.metric_becomes(CLOSED_STALLED, 1.0).await;
    publish_while_read(&gateway, &mut reader, LARGE).await;
}

#[tokio::test]
async fn memory_does_not_grow_with_what_is_not_read() {
    const PUBLISHED: usize = 50 << 20;
    const GROWTH_KIB: usize = 16 << 10;
    let gateway = Gateway::builder().config(ROOMY_LOG).config(LITTLE_HISTORY).start().await;
    let mut reader = gateway.stream("/events?channel=a").await;
    reader.opened().await;
    let mut stalled_ones = Vec::new();
    for _ in 0..3 {
        stalled_ones.push(stalled(&gateway).await);
    }
    // Until sockets and log are full.
    publish_while_read(&gateway, &mut reader, 2 * ENOUGH).await;
    let before = gateway.resident();
    publish_while_read(&gateway, &mut reader, PUBLISHED).await;
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{before} KiB grew by {grown} KiB while 50 MiB were published");
    assert_eq!(gateway.metric(&gateway.open()).await, 4.0, "they are to stand still all the while");
}

/// Many events at once overtake a log that holds few, although the client reads as fast as it can: that may close it, but
/// may not cost an event in between.
#[tokio::test]
async fn a_burst_past_a_small_log_leaves_no_hole() {
    let gateway = Gateway::builder().config("[log]\nevents = 4").start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let events: Vec<Value> = (0..1_000).map(|number| json!({"channel": "a", "data": number})).collect();
    gateway.publish_batch(&events).await;
    gateway.publish(json!({"channel": "a", "data": "end", "end": true})).await;
    let mut expected = 0;
    for said in crate::support::soon("the end of the stream", stream.rest()).await {
        match said {
            Decoded::Event(event) if event.data == "end" => assert_eq!(expected, 1_000),
            Decoded::Event(event) => {
                assert_eq!(event.data, expected.to_string());
                expected += 1;
            }
            Decoded::Retry(time) => assert!(time > Duration::ZERO),
            other => panic!("{other:?}"),
        }
    }
}
