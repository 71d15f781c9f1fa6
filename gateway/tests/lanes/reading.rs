//! Clients that read slowly, or stand still.

use std::time::Duration;

use serde_json::json;
use shared::event_stream::decode::{Decoded, Decoder};
use tokio::time::MissedTickBehavior;

use crate::support::{Gateway, Raw};

const LARGE: usize = 64 << 10;
/// Beyond what the kernel buffers on both sides of a socket, some 10 MiB unless somebody raised it.
const EVENTS: usize = 320;

/// The numbers of the events in a body, each in front of its data.
fn numbers(body: &str) -> Vec<usize> {
    let mut decoder = Decoder::new();
    decoder.feed(body.as_bytes()).unwrap();
    let events = decoder.filter_map(|said| match said {
        Decoded::Event(event) if event.event == "message" => Some(event.data[..8].parse().unwrap()),
        _ => None,
    });
    events.collect()
}

/// Its backlog is far more than the kernel takes, and it is at it for longer than the write timeout: as long as it takes
/// something now and then, it gets everything.
#[tokio::test]
async fn slowly_but_steadily() {
    let settings = "[limits]\nwrite_timeout = \"1s\"\n[log]\nbytes = 33554432\n[embedded]\nmax_bytes = 65536";
    let gateway = Gateway::builder().config(settings).start().await;
    let mut slow = Raw::connect(&gateway.public).await;
    slow.get("/events?channel=a").await;
    slow.head().await;
    slow.body_until("sse.open").await;
    slow.body_until("\n\n").await;
    let mut quick = gateway.stream("/events?channel=a").await;
    quick.opened().await;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    let mut kept = 0;
    loop {
        tick.tick().await;
        if published < EVENTS {
            let data = format!("{published:08}{}", "x".repeat(LARGE - 8));
            let end = published + 1 == EVENTS;
            gateway.publish(json!({"channel": "a", "data": data, "end": end})).await;
            assert_eq!(quick.data().await, Some(data), "event {published}");
            quick.bytes.clear();
            published += 1;
        }
        // A quarter of what is published in that time; after that twice as much.
        kept = slow
            .sip(if published < EVENTS { LARGE / 4 } else { 2 * LARGE })
            .await
            .unwrap_or_else(|| panic!("cut after {kept} bytes"));
        if published == EVENTS && kept > EVENTS * LARGE {
            break;
        }
    }
    assert_eq!(numbers(&slow.rest_of_chunks().await), (0..EVENTS).collect::<Vec<_>>());
    gateway.metric_becomes(&gateway.open(), 0.0).await;
    assert_eq!(gateway.metric("sse_gateway_connections_closed_total{reason=\"write_timeout\"}").await, 0.0);
}

/// Many that stand still: each is closed at the write timeout, what is held for them is bounded, nobody else waits.
#[tokio::test]
async fn not_at_all() {
    const STALLED: usize = 20;
    /// The log, shared by all, and what the allocator keeps.
    const GROWTH_KIB: usize = 64 << 10;
    let settings = "[limits]\nwrite_timeout = \"1s\"\n[log]\nbytes = 25165824\n[embedded]\nmax_bytes = 65536";
    let gateway = Gateway::builder().config(settings).start().await;
    let before = gateway.descriptors_at_rest().await;
    let mut reader = gateway.stream("/events?channel=a").await;
    reader.opened().await;
    let resident = gateway.resident();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut raw = Raw::connect_small(&gateway.public);
        raw.get("/events?channel=a").await;
        raw.head().await;
        stalled.push(raw);
    }
    for number in 0..256 {
        let data = format!("{number:08}{}", "x".repeat(LARGE - 8));
        gateway.publish(json!({"channel": "a", "data": data})).await;
        assert_eq!(reader.data().await, Some(data), "event {number}");
        reader.bytes.clear();
    }
    let grown = gateway.resident().saturating_sub(resident);
    assert!(grown < GROWTH_KIB, "{resident} KiB grew by {grown} KiB");
    gateway.metric_becomes("sse_gateway_connections_closed_total{reason=\"write_timeout\"}", STALLED as f64).await;
    gateway.metric_becomes(&gateway.open(), 1.0).await;
    drop(reader);
    gateway.is_at_rest(before, "20 that stood still").await;
    drop(stalled);
}
