//! A client that goes away is noticed, however it goes, and takes nothing with it.

use reqwest::Client;
use serde_json::json;
use shared::event_stream::decode::Decoded;
use tokio::task::JoinSet;

use crate::support::{Gateway, Raw, Stream};

/// Where HTTP/2 is counted.
const ON_HYPER: &str = "sse_gateway_connections{lane=\"hyper\"}";
const GONE: &str = "sse_gateway_connections_closed_total{reason=\"client\"}";
const SUBSCRIPTIONS: &str = "sse_gateway_broker_subscriptions";

async fn open(gateway: &Gateway, target: &str) -> Raw {
    let mut raw = Raw::connect(&gateway.public).await;
    raw.get(target).await;
    assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK");
    raw.body_until("sse.open").await;
    raw
}

#[tokio::test]
async fn closing_a_tab_frees_what_it_held() {
    let gateway = Gateway::start().await;
    let stays = open(&gateway, "/events?channel=a").await;
    let goes = open(&gateway, "/events?channel=a&channel=b&channel=c").await;
    gateway.metric_becomes(&gateway.open(), 2.0).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 3.0).await;

    drop(goes);
    gateway.metric_becomes(&gateway.open(), 1.0).await;
    gateway.metric_becomes(GONE, 1.0).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 1.0).await;
    assert_eq!(gateway.publish(json!({"channel": "b"})).await["receivers"], 0);
    assert_eq!(gateway.publish(json!({"channel": "a"})).await["receivers"], 1);

    drop(stays);
    gateway.metric_becomes(&gateway.open(), 0.0).await;
    gateway.metric_becomes(GONE, 2.0).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 0.0).await;
    assert_eq!(gateway.metric(&gateway.ever_open()).await, 2.0);
}

#[tokio::test]
async fn a_channel_lingers_for_who_comes_right_back() {
    // Longer than the test: what is seen is not the clock's doing.
    let gateway = Gateway::builder().config("[log]\nlinger = \"1m\"").start().await;
    drop(open(&gateway, "/events?channel=a").await);
    gateway.metric_becomes(&gateway.open(), 0.0).await;
    assert_eq!(gateway.metric(SUBSCRIPTIONS).await, 1.0);
    assert_eq!(gateway.publish(json!({"channel": "a"})).await["receivers"], 1);
    let mut back = gateway.stream("/events?channel=a").await;
    back.opened().await;
    gateway.publish(json!({"channel": "a", "data": "x"})).await;
    assert_eq!(back.data().await.as_deref(), Some("x"), "and nothing from before it came");
}

#[tokio::test]
async fn a_reset_counts_as_going_away() {
    let gateway = Gateway::start().await;
    let raw = open(&gateway, "/events?channel=a").await;
    gateway.metric_becomes(&gateway.open(), 1.0).await;
    raw.reset();
    gateway.metric_becomes(&gateway.open(), 0.0).await;
    gateway.metric_becomes(GONE, 1.0).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 0.0).await;
}

#[tokio::test]
async fn an_http2_stream_may_be_reset_by_itself() {
    let gateway = Gateway::start().await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let mut stays = Stream::open(client.get(gateway.url("/events?channel=a"))).await;
    let mut goes = Stream::open(client.get(gateway.url("/events?channel=b"))).await;
    stays.opened().await;
    goes.opened().await;
    gateway.metric_becomes(ON_HYPER, 2.0).await;
    drop(goes);
    gateway.metric_becomes(ON_HYPER, 1.0).await;
    gateway.metric_becomes(GONE, 1.0).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 1.0).await;
    gateway.publish(json!({"channel": "a", "data": "still here"})).await;
    assert_eq!(stays.data().await.as_deref(), Some("still here"));
}

#[tokio::test]
async fn a_place_is_free_again() {
    let gateway = Gateway::builder().config("[limits]\nmax_connections = 2").start().await;
    let goes = open(&gateway, "/events?channel=a").await;
    let _stays = open(&gateway, "/events?channel=b").await;
    let mut too_many = gateway.stream("/events?channel=c").await;
    assert_eq!(too_many.status, 200, "anything else ends an EventSource for good");
    let said = too_many.rest().await;
    assert!(matches!(said[..], [Decoded::Retry(_)]), "{said:?}");
    gateway.metric_becomes("sse_gateway_connections_turned_away_total{reason=\"capacity\"}", 1.0).await;
    drop(goes);
    gateway.metric_becomes(&gateway.open(), 1.0).await;
    gateway.stream("/events?channel=c").await.opened().await;
}

#[tokio::test]
async fn five_hundred_go_at_once() {
    let gateway = Gateway::start().await;
    let mut opening = JoinSet::new();
    for number in 0..500 {
        let address = gateway.public.clone();
        opening.spawn(async move {
            let mut raw = Raw::connect(&address).await;
            raw.get(&format!("/events?channel=all&channel=own:{number}")).await;
            raw.body_until("sse.open").await;
            raw
        });
    }
    let crowd = opening.join_all().await;
    let mut stays = gateway.stream("/events?channel=all").await;
    stays.opened().await;
    gateway.metric_becomes(&gateway.open(), 501.0).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 501.0).await;
    gateway.publish(json!({"channel": "all", "data": "before"})).await;
    // Some have unread bytes, so they go by RST, and some while they are written to.
    drop(crowd);
    gateway.publish(json!({"channel": "all", "data": "after"})).await;
    for data in ["before", "after"] {
        assert_eq!(stays.data().await.as_deref(), Some(data));
    }
    gateway.metric_becomes(&gateway.open(), 1.0).await;
    gateway.metric_becomes(GONE, 500.0).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 1.0).await;
}

#[tokio::test]
async fn silent_and_senseless_clients_break_nobody() {
    let gateway = Gateway::start().await;
    let mut others = Vec::new();
    for start in ["", "G", "GET /events?channel=a HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut raw = Raw::connect(&gateway.public).await;
        raw.send(start).await;
        others.push(raw);
    }
    // A body that never comes.
    let mut slow = Raw::connect(&gateway.public).await;
    slow.send("POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
        .await;
    others.push(slow);
    for nonsense in ["\0\r\n\r\n", "GET /events?channel=a HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}", "GET\r\n\r\n"] {
        let mut raw = Raw::connect(&gateway.public).await;
        raw.send(nonsense).await;
        others.push(raw);
    }
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.publish(json!({"channel": "a", "data": "x"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
    assert_eq!(gateway.metric(&gateway.open()).await, 1.0);
    drop(others);
}
