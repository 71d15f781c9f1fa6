//! Many connections at once.

use std::time::Duration;

use serde_json::{Value, json};
use shared::event_stream::decode::{Decoded, Decoder};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{Gateway, Raw};

/// Opens a stream of each target, all at once.
async fn open(gateway: &Gateway, targets: impl Iterator<Item = String>) -> Vec<Raw> {
    let mut opening = JoinSet::new();
    for (number, target) in targets.enumerate() {
        let address = gateway.public.clone();
        opening.spawn(async move {
            let mut raw = Raw::connect(&address).await;
            raw.get(&target).await;
            assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK", "{target}");
            raw.body_until("sse.open").await;
            raw.body_until("\n\n").await;
            (number, raw)
        });
    }
    let mut open = opening.join_all().await;
    open.sort_unstable_by_key(|(number, _)| *number);
    open.into_iter().map(|(_, raw)| raw).collect()
}

/// This many sockets on both sides need as many files.
fn raise_the_limit_of_files(files: u64) {
    let limit = rlimit::increase_nofile_limit(files).unwrap();
    assert!(limit >= files, "this test needs {files} open files, and the system allows {limit}");
}

#[tokio::test]
async fn five_hundred_idle_ones_are_kept_alive() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let gateway = Gateway::builder().config("keep_alive = \"1s\"").start().await;
    let crowd = open(&gateway, (0..500).map(|number| format!("/events?channel=own:{number}"))).await;
    let began = Instant::now();
    let mut listening = JoinSet::new();
    for mut raw in crowd {
        listening.spawn(async move {
            for _ in 0..4 {
                let block = raw.body_until("\n\n").await;
                let comment = block.strip_prefix(":\n").expect("a comment");
                assert!(comment == "\n" || comment.starts_with("id: "), "{block:?}");
            }
            raw
        });
    }
    let crowd = listening.join_all().await;
    // Each after 90 to 100 % of the interval; what a busy machine adds is on top.
    assert!(began.elapsed() >= INTERVAL.mul_f64(0.9 * 3.0), "four of them after {:?}", began.elapsed());
    assert_eq!(gateway.metric(&gateway.open()).await, crowd.len() as f64);
}

/// What was said just now need not be said again: a keep-alive is for the idle.
#[tokio::test]
async fn none_is_kept_alive_while_events_flow() {
    let gateway = Gateway::builder().config("keep_alive = \"1s\"").start().await;
    let mut crowd = open(&gateway, (0..50).map(|number| format!("/events?channel=all&channel=own:{number}"))).await;
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < Duration::from_secs(3) {
        let id = gateway.publish(json!({"channel": "all", "data": number})).await["id"].clone();
        let expected = format!("data: {number}\nid: {}\n\n", id.as_str().unwrap());
        for raw in &mut crowd {
            assert_eq!(raw.body_until("\n\n").await, expected);
        }
        number += 1;
    }
    assert!(number > 3, "{number} events in 3 s are too few for this test");
}

#[tokio::test]
async fn three_thousand_at_once() {
    const CONNECTIONS: usize = 3_000;
    const CHANNELS: usize = 50;
    const EVENTS: usize = 20;
    raise_the_limit_of_files(8_192);
    let gateway = Gateway::start().await;
    let before = gateway.descriptors_at_rest().await;
    let mut crowd =
        open(&gateway, (0..CONNECTIONS).map(|number| format!("/events?channel=c{}", number % CHANNELS))).await;
    gateway.metric_becomes(&gateway.open(), CONNECTIONS as f64).await;
    gateway.metric_becomes("sse_gateway_broker_subscriptions", CHANNELS as f64).await;
    for number in 0..EVENTS {
        let event = |channel: usize| {
            let end = number + 1 == EVENTS;
            json!({"channel": format!("c{channel}"), "data": format!("{channel}:{number}"), "end": end})
        };
        let events: Vec<Value> = (0..CHANNELS).map(event).collect();
        gateway.publish_batch(&events).await;
    }
    for (number, raw) in crowd.iter_mut().enumerate() {
        let mut decoder = Decoder::new();
        decoder.feed(raw.rest_of_chunks().await.as_bytes()).unwrap();
        let data: Vec<String> = decoder
            .filter_map(|said| match said {
                Decoded::Event(event) => Some(event.data),
                _ => None,
            })
            .collect();
        let channel = number % CHANNELS;
        let expected: Vec<String> = (0..EVENTS).map(|number| format!("{channel}:{number}")).collect();
        assert_eq!(data, expected, "connection {number}");
    }
    crowd.into_iter().for_each(Raw::reset);
    gateway.is_at_rest(before, "3,000 connections").await;
}

/// Half of them without the end of the head, and some by FIN, the others by RST, which leaves nothing in the system's tables.
#[tokio::test]
async fn five_thousand_come_and_go() {
    const ROUNDS: usize = 50;
    const CROWD: usize = 100;
    /// After the first rounds everything has been allocated once.
    const WARM: usize = 10;
    const GROWTH_KIB: usize = 8 << 10;
    let gateway = Gateway::start().await;
    let before = gateway.descriptors_at_rest().await;
    let mut warm = 0;
    for round in 0..ROUNDS {
        for number in 0..CROWD {
            let mut raw = Raw::connect(&gateway.public).await;
            let request = format!("GET /events?channel=a&channel=c{number} HTTP/1.1\r\nHost: x\r\n\r\n");
            let half = if number % 2 == 0 { request.len() } else { request.len() - 2 };
            raw.send(&request.as_bytes()[..half]).await;
            if number % 10 < 8 {
                raw.reset();
            }
        }
        if round == WARM {
            warm = gateway.resident();
        }
    }
    gateway.is_at_rest(before, "5,000 connections").await;
    gateway.metric_becomes("sse_gateway_broker_subscriptions", 0.0).await;
    let grown = gateway.resident().saturating_sub(warm);
    assert!(grown < GROWTH_KIB, "{warm} KiB grew by {grown} KiB");
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.publish(json!({"channel": "a", "data": "x"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
}
