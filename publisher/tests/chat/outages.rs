//! A Redis that is away: for a while nothing is lost or repeated, and without it nothing begins.

use publisher::{Event, PublishError};
use serde_json::json;
use shared::channel::Channel;
use testkit::{eventually, soon};

use crate::support::{Relay, stream, whole, words};

#[tokio::test]
async fn paused_in_the_midst() {
    let relay = Relay::start().await;
    let body = json!({"question": "words 4000", "channel": "chat:mine"});
    let mut response = soon("the head", relay.post(&body).send()).await.unwrap();
    let first = soon("some of it", response.chunk()).await.unwrap().unwrap();
    assert!(!first.is_empty());
    relay.redis.pause().await;
    // Calls fail, each after a second, and may be carried out all the same once it goes on.
    let (channel, other) = (Channel::parse("chat:mine").unwrap(), Channel::parse("other").unwrap());
    for _ in 0..4 {
        let failed = relay.publisher.publish(&other, Event::text("x")).await;
        assert!(matches!(failed, Err(PublishError::Unavailable { .. })), "{failed:?}");
    }
    relay.redis.resume().await;
    let (text, name, _) = relay.answer(&channel).await;
    assert_eq!((text, &*name), (words(4_000), "done"));
    relay.is_quiet().await;
}

#[tokio::test]
async fn killed_in_the_midst_and_back() {
    let mut relay = Relay::start().await;
    let response =
        soon("the head", relay.post(&json!({"question": "words 2000", "channel": "chat:mine"})).send()).await.unwrap();
    eventually("some of it", async || (relay.redis.cli(&["XLEN", "sse:chat:mine"]).await != "1").then_some(())).await;
    relay.redis.restart().await;
    // What was published before is gone with the old server; what the stream was given is the whole.
    let (text, name, _) = whole(&stream(response).await);
    assert_eq!((text, &*name), (words(2_000), "done"));
    relay.is_quiet().await;
}

#[tokio::test]
async fn away_from_the_beginning() {
    let mut relay = Relay::start().await;
    relay.redis.kill().await;
    let response = soon("the head", relay.post(&json!({"question": "words 1"})).send()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"2".parse().unwrap()));
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["type"], "urn:problem:sse:unavailable");
    relay.is_quiet().await;
    assert_eq!(relay.model.asked(), 0);
}
