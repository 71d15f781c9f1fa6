//! Clients that take their time with the head: others are served, and they are given up.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{Gateway, Lane, Raw};

/// For a head, and between requests, where `limits.head_timeout` is not set.
const HEAD_DEADLINE: Duration = Duration::from_secs(75);

/// Clients each of which has sent half a head.
async fn halves(gateway: &Gateway, count: usize) -> Vec<Raw> {
    let halves = ["G", "GET /events?channel=a HTTP/1.1\r\n", "GET /events?channel=a HTTP/1.1\r\nHost: x\r\n", "\r\n"];
    let mut raws = Vec::new();
    for half in halves.iter().cycle().take(count) {
        let mut raw = Raw::connect(&gateway.public).await;
        raw.send(half).await;
        raws.push(raw);
    }
    raws
}

#[tokio::test]
async fn half_heads_keep_nobody_waiting() {
    let gateway = Gateway::start().await;
    let before = gateway.descriptors_at_rest().await;
    let halves = halves(&gateway, 500).await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.publish(json!({"channel": "a", "data": "x"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
    assert_eq!(gateway.metric(&gateway.open()).await, 1.0);
    drop((stream, halves));
    gateway.is_at_rest(before, "500 halves").await;
}

/// Neither does a head end that comes a byte at a time, nor does an idle connection stay.
#[tokio::test]
#[ignore = "takes 75 s"]
async fn half_heads_are_given_up() {
    let gateway = Gateway::start().await;
    let before = gateway.descriptors_at_rest().await;
    let began = Instant::now();
    let mut raws = halves(&gateway, 500).await;
    raws.push(Raw::connect(&gateway.public).await);
    let mut used = Raw::connect(&gateway.public).await;
    used.get("/nothing").await;
    let head = used.head().await;
    used.body_of(&head).await;
    raws.push(used);
    let mut waiting = JoinSet::new();
    for mut raw in raws {
        waiting.spawn(async move {
            raw.ends_within(HEAD_DEADLINE + Duration::from_secs(15)).await;
            raw
        });
    }
    let raws = waiting.join_all().await;
    assert!(began.elapsed() >= HEAD_DEADLINE, "after {:?}", began.elapsed());
    // Also of those that were idle, such as this test's own client has been meanwhile.
    gateway.is_at_rest(before, "502 that did not come to an end").await;
    drop(raws);
}

/// A byte now and then keeps no head alive: what counts is when it began, whichever lane reads its end.
#[tokio::test]
#[ignore = "takes 150 s"]
async fn heads_that_come_a_byte_at_a_time_are_given_up() {
    // So that more pieces come than the direct lane reads itself: the hyper lane has what is left of the time.
    const PAUSE: Duration = Duration::from_secs(2);
    for lane in [Lane::Direct, Lane::Hyper] {
        let gateway = Gateway::builder().lane(lane).start().await;
        let before = gateway.descriptors_at_rest().await;
        let mut crowd = JoinSet::new();
        for _ in 0..300 {
            let mut raw = Raw::connect(&gateway.public).await;
            crowd.spawn(async move {
                let began = Instant::now();
                let mut head =
                    "GET /events?channel=a HTTP/1.1\r\nHost: x\r\nX: ".bytes().chain(std::iter::repeat(b'y'));
                loop {
                    raw.send([head.next().unwrap()]).await;
                    if raw.ended_within(PAUSE).await {
                        return began.elapsed();
                    }
                    assert!(began.elapsed() < HEAD_DEADLINE + Duration::from_secs(15), "it is not given up");
                }
            });
        }
        for elapsed in crowd.join_all().await {
            assert!(elapsed >= HEAD_DEADLINE - PAUSE, "given up after {elapsed:?} on {lane:?}");
        }
        gateway.is_at_rest(before, "300 slow heads").await;
    }
}
