//! Further requests on a connection: sent before the answer, during a stream, after it.

use serde_json::json;

use super::exchange::{Both, closed, get, kept, stream};
use crate::support::{Gateway, Lane, Raw, eventually};

#[tokio::test]
async fn in_one_segment() {
    let (nothing, wrong) = (get("/nothing", ""), get("/events", ""));
    let post = |data: &str| {
        let body = json!({"channel": "b", "data": data}).to_string();
        let length = body.len();
        format!(
            "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let both = Both::start("").await;
    both.publish(json!({"channel": "over", "data": "x", "end": true})).await;
    let over = get("/events?channel=over", "");
    both.compare(vec![
        kept("a stream, then nothing", stream("") + &nothing, &[200, 404]),
        kept("nothing, then a stream", nothing.clone() + &stream(""), &[404, 200]),
        kept("a stream, then what has ended by then", stream("") + &stream(""), &[200, 204]),
        kept("a stream, then what is wrong", stream("") + &wrong, &[200, 400]),
        kept(
            "many, then a stream",
            [&*nothing, &wrong, &over, &nothing, &stream("")].concat(),
            &[404, 400, 204, 404, 200],
        ),
        kept("a stream, then many", [&*stream(""), &nothing, &over, &wrong].concat(), &[200, 404, 204, 400]),
        closed("a stream, then garbage", stream("") + "\0\r\n\r\n", &[200, 400]),
        kept("a stream, then empty lines", stream("") + "\r\n\r\n", &[200]),
        closed("nothing, then garbage", nothing.clone() + "\0\r\n\r\n", &[404, 400]),
        closed("what is behind the last request", stream("Connection: close\r\n") + &nothing, &[200]),
        closed("a stream, then the last request", stream("") + &get("/nothing", "Connection: close\r\n"), &[200, 404]),
    ])
    .await;
    // Receipts differ from one publish to the next.
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.send(stream("") + &post("1") + &post("2")).await;
    raw.head().await;
    raw.body_until("sse.open").await;
    assert_eq!(gateway.publish(json!({"channel": "b", "data": "0"})).await["receivers"], 0);
    gateway.publish(json!({"channel": "a", "end": true})).await;
    raw.rest_of_chunks().await;
    for _ in 0..2 {
        let head = raw.head().await;
        assert_eq!(head.status, "HTTP/1.1 200 OK");
        raw.body_of(&head).await;
    }
}

/// One socket has one stream after the other, and what lies between.
#[tokio::test]
async fn a_connection_is_used_again() {
    let gateway = Gateway::start().await;
    let before = gateway.descriptors_at_rest().await;
    let mut raw = Raw::connect(&gateway.public).await;
    for round in 0..5 {
        for (target, channel) in [("/events?channel=a", "a"), ("/api/sse/connect?userId=42", "user:42")] {
            let what = format!("{target}, round {round}");
            // The channel ended in the round before.
            gateway.publish(json!({"channel": channel, "data": "again"})).await;
            raw.get(target).await;
            assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK", "{what}");
            raw.body_until("sse.open").await;
            gateway.publish(json!({"channel": channel, "data": "x"})).await;
            gateway.publish(json!({"channel": channel, "end": true})).await;
            assert!(raw.rest_of_chunks().await.contains("\ndata: x\n"), "{what}");
            raw.get(target).await;
            assert_eq!(raw.head().await.status, "HTTP/1.1 204 No Content", "all is over: {what}");
            for (wrong, status) in [("/events", "HTTP/1.1 400 Bad Request"), ("/nothing", "HTTP/1.1 404 Not Found")] {
                raw.get(wrong).await;
                let head = raw.head().await;
                assert_eq!((&*head.status, head.get("connection")), (status, None), "{what}");
                raw.body_of(&head).await;
            }
        }
    }
    drop(raw);
    gateway.is_at_rest(before, "ten streams on one socket").await;
}

/// A request that comes while a stream is open waits for its end.
#[tokio::test]
async fn during_a_stream() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.get("/events?channel=a").await;
    raw.head().await;
    raw.body_until("sse.open").await;
    for number in 0..10 {
        raw.get("/nothing").await;
        gateway.publish(json!({"channel": "a", "data": number})).await;
        raw.body_until(&format!("\ndata: {number}\n")).await;
    }
    raw.get("/events?channel=b").await;
    gateway.publish(json!({"channel": "a", "end": true})).await;
    raw.rest_of_chunks().await;
    for _ in 0..10 {
        let head = raw.head().await;
        assert_eq!(head.status, "HTTP/1.1 404 Not Found");
        raw.body_of(&head).await;
    }
    assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK");
    raw.body_until("sse.open").await;
    gateway.publish(json!({"channel": "b", "data": "x"})).await;
    raw.body_until("\ndata: x\n").await;
}

/// Whatever a client sends during a stream, it is not held for it: the stream goes on, or the connection ends.
#[tokio::test]
async fn a_flood_during_a_stream() {
    const SOCKETS: usize = 50;
    const FLOOD: usize = 1 << 20;
    /// 64 KiB and some for each, far below what was sent.
    const GROWTH_KIB: usize = 10 << 10;
    let gateway = Gateway::start().await;
    let mut beside = gateway.stream("/events?channel=a").await;
    beside.opened().await;
    let mut raws = Vec::new();
    for _ in 0..SOCKETS {
        let mut raw = Raw::connect(&gateway.public).await;
        raw.get("/events?channel=a").await;
        raw.head().await;
        raw.body_until("sse.open").await;
        raw.body_until("\n\n").await;
        raws.push(raw);
    }
    let before = gateway.resident();
    let request = get("/nothing", "");
    let flood = request.repeat(FLOOD / request.len());
    for raw in &mut raws {
        assert!(raw.push(flood.as_bytes()) > 64 << 10, "too little for this test");
    }
    for number in 0..10 {
        gateway.publish(json!({"channel": "a", "data": number})).await;
        assert_eq!(beside.data().await, Some(number.to_string()), "others get theirs");
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{before} KiB grew by {grown} KiB");
    let mut open = 1.0;
    for raw in &mut raws {
        let said = raw.until_closed_or("data: 9\n").await;
        if said.ends_with(b"data: 9\n") {
            open += 1.0;
        }
    }
    gateway.metric_becomes(&gateway.open(), open).await;
    drop(raws);
    // It may take a write, and another one, to notice who is gone behind all that.
    eventually("those that are gone being noticed", async || {
        gateway.publish(json!({"channel": "a", "data": "after"})).await;
        assert_eq!(beside.data().await.as_deref(), Some("after"));
        (gateway.metric(&gateway.open()).await == 1.0).then_some(())
    })
    .await;
}

/// More than is kept of it waits in the system. Closed over that, the connection would be reset, and the end of the stream might
/// be lost on its way.
#[tokio::test]
async fn a_stream_ends_in_order_though_its_client_has_sent_on() {
    let gateway = Gateway::builder().lane(Lane::Direct).start().await;
    let before = gateway.descriptors_at_rest().await;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.send(stream("Connection: close\r\n")).await;
    raw.head().await;
    raw.body_until("sse.open").await;
    assert!(raw.push(&[b'y'; 64 << 10]) > 4 << 10, "more than is kept");
    gateway.publish(json!({"channel": "a", "data": "last", "end": true})).await;
    let rest = raw.rest().await;
    assert!(String::from_utf8_lossy(&rest).contains("\ndata: last\n"), "{}", rest.escape_ascii());
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "{}", rest.escape_ascii());
    // Once the socket is closed, what the system had to say of it has been said.
    gateway.is_at_rest(before, "a stream that ended").await;
    assert!(!raw.was_reset(), "closed over what was not read");
}
