//! A server that Sentinels have given up: what it acknowledges then is published on the other one.

use publisher::{Event, Once, Publisher};
use shared::redis::Settings;
use testkit::{PATIENCE, RedisServer, SENTINEL_NAME, eventually};

use crate::support::*;

#[tokio::test]
async fn what_is_acknowledged_too_late_is_published_again() {
    let (before, after) = (RedisServer::start().await, RedisServer::start().await);
    let monitor = format!("sentinel monitor {SENTINEL_NAME} 127.0.0.1 {} 1", before.port());
    let sentinel = RedisServer::builder().sentinel().config(&monitor).start().await;
    let url = format!("redis+sentinel://127.0.0.1:{}/{SENTINEL_NAME}", sentinel.port());
    let settings = Settings { command_timeout: PATIENCE * 2, ..Settings::new(&url) };
    let publisher = Publisher::connect(&settings).await.unwrap();
    publisher.publish(&channel("a"), Event::text("before")).await.unwrap();
    // It has no function yet: those are loaded too.
    let is_left = publisher.client().server().await.unwrap();
    before.pause().await;
    let (a, once) = (channel("a"), Once::parse("k").unwrap());
    let publish = publisher.publish(&a, Event::text("late").once(once));
    let turn = async {
        assert_eq!(sentinel.cli(&["SENTINEL", "REMOVE", SENTINEL_NAME]).await, "OK");
        let port = after.port().to_string();
        assert_eq!(sentinel.cli(&["SENTINEL", "MONITOR", SENTINEL_NAME, "127.0.0.1", &port, "1"]).await, "OK");
        eventually("the other server is named", async || is_left.is_left().then_some(())).await;
        before.resume().await;
    };
    let (receipt, ()) = tokio::join!(publish, turn);
    assert!(!receipt.unwrap().duplicate);
    assert_eq!(payloads(&after, "sse:a").await, [r#"{"data":"late"}"#]);
    assert_eq!(payloads(&before, "sse:a").await.len(), 2, "it has taken it too");
}
