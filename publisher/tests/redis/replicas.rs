//! `wait_replicas`: what is acknowledged is on so many replicas, and what is not is published all the same.

use std::time::Duration;

use publisher::{Event, Once, Publisher};
use shared::redis::Settings;
use testkit::{PATIENCE, RedisServer, eventually, soon};

use crate::support::*;

/// A server and its replica.
async fn two() -> (RedisServer, RedisServer) {
    let primary = RedisServer::start().await;
    let replica = RedisServer::builder().config(&format!("replicaof 127.0.0.1 {}", primary.port())).start().await;
    eventually("a replica", async || {
        primary.cli(&["INFO", "replication"]).await.contains("state=online").then_some(())
    })
    .await;
    (primary, replica)
}

async fn waiting(server: &RedisServer, deadline: Duration) -> Publisher {
    let settings = Settings { wait_replicas: 1, command_timeout: deadline, ..Settings::new(&server.url()) };
    Publisher::connect(&settings).await.unwrap()
}

const SHORT: Duration = Duration::from_millis(500);
const TOO_FEW: &str = "0 of 1 replicas have the event (wait_replicas); it is published, and may be lost";

#[tokio::test]
async fn what_is_acknowledged_is_there() {
    let (primary, replica) = two().await;
    let publisher = waiting(&primary, PATIENCE).await;
    for number in 0..20 {
        publisher.publish(&channel("a"), numbered(number)).await.unwrap();
        assert_eq!(replica.cli(&["XLEN", "sse:a"]).await, (number + 1).to_string());
    }
    let batch = (20..700).map(|number| (channel("a"), kept(number))).collect();
    let outcomes = publisher.publish_batch(batch).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|receipt| !receipt.duplicate)));
    assert_eq!(replica.cli(&["XLEN", "sse:a"]).await, "700");
}

#[tokio::test]
async fn what_no_replica_has_is_published_and_an_error_however_often_it_is_tried() {
    let (primary, replica) = two().await;
    let mut listener = Listener::new(&primary, &["sse:a"]).await;
    replica.pause().await;
    let event = || numbered(1).once(Once::parse("k").unwrap());
    // Each on connections of its own, which have written nothing yet: WAIT alone would have nothing to wait for.
    for _ in 0..3 {
        let publisher = waiting(&primary, SHORT).await;
        let outcome = publisher.publish(&channel("a"), event()).await;
        assert_eq!(unavailable(outcome), (TOO_FEW.to_owned(), 2));
    }
    assert_eq!(payloads(&primary, "sse:a").await, [payload(1)]);
    assert!(listener.next().await.1.ends_with(payload(1).as_bytes()));
    replica.resume().await;
    let publisher = waiting(&primary, PATIENCE).await;
    let receipt = publisher.publish(&channel("a"), event()).await.unwrap();
    assert!(receipt.duplicate);
    assert_eq!(payloads(&replica, "sse:a").await, [payload(1)]);
    publisher.publish(&channel("a"), numbered(2)).await.unwrap();
    // Once each.
    assert!(listener.next().await.1.ends_with(payload(2).as_bytes()));
}

#[tokio::test]
async fn a_replica_that_comes_in_time_is_waited_for_and_nobody_waits_with_it() {
    let (primary, replica) = two().await;
    let publisher = waiting(&primary, PATIENCE).await;
    let quick = connect(&primary.url()).await;
    replica.pause().await;
    let (a, b) = (channel("a"), channel("b"));
    let waits = publisher.publish(&a, Event::text("x").once(Once::parse("k").unwrap()));
    let others = async {
        eventually("the event", async || (primary.cli(&["XLEN", "sse:a"]).await == "1").then_some(())).await;
        // Of the same publisher, and of one that does not wait.
        soon("an ephemeral event", Box::pin(publisher.publish_ephemeral(&b, Event::text("y")))).await.unwrap();
        soon("another's event", Box::pin(quick.publish(&b, Event::text("z")))).await.unwrap();
        replica.resume().await;
    };
    let (receipt, ()) = tokio::join!(waits, others);
    assert!(!receipt.unwrap().duplicate);
    assert_eq!(payloads(&replica, "sse:a").await.len(), 1);
}

#[tokio::test]
async fn without_a_replica_it_is_an_error() {
    let primary = RedisServer::start().await;
    let outcome = waiting(&primary, SHORT).await.publish(&channel("a"), Event::text("x")).await;
    assert_eq!(unavailable(outcome).0, TOO_FEW);
}
