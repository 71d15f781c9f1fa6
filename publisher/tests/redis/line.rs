//! Calls at the same time share one link: each has its own answer, and none holds up another for longer than it may.

use std::time::Duration;

use futures_util::future::join_all;
use publisher::Event;
use testkit::{Proxy, RedisServer, eventually};
use tokio::time::{Instant, timeout};

use crate::support::*;

/// Waits until the server has so many connections of clients, beside that of the one who asks.
async fn connections(server: &RedisServer, wanted: usize) {
    eventually("so many connections", async || {
        let list = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        (list.lines().filter(|line| !line.is_empty()).count() == wanted + 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_a_connection_and_each_has_its_own_answer() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let channel = channel("a");
    connections(&server, 0).await;
    let publish = async |number| {
        // Some come from callers that give up.
        if number % 7 == 6 {
            let dropped = publisher.publish(&channel, kept(number));
            _ = timeout(Duration::from_micros(200), dropped).await;
        }
        (number, publisher.publish(&channel, kept(number)).await.unwrap())
    };
    let receipts = join_all((0..1_000).map(publish)).await;
    connections(&server, 1).await;
    let there = history(&server, "sse:a").await;
    for (number, receipt) in receipts {
        let entry = (receipt.position.unwrap().to_string(), payload(number));
        assert!(!receipt.duplicate && there.contains(&entry), "{entry:?}");
    }
}

#[tokio::test]
async fn a_large_event_goes_another_way() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let channel = channel("a");
    connections(&server, 0).await;
    publisher.publish(&channel, Event::text("x".repeat(65_536))).await.unwrap();
    publisher.publish(&channel, Event::text("x")).await.unwrap();
    connections(&server, 2).await;
}

#[tokio::test]
async fn a_silent_link_is_given_up_though_nobody_waits_long_enough_to_see_it() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let publisher = connect_with_deadline(&proxy.url(), 2_000).await;
    let channel = channel("a");
    publisher.publish(&channel, numbered(0)).await.unwrap();
    // What is open stays so, and nothing passes on it any more. A new one passes.
    proxy.blackhole();
    let impatient = async || timeout(Duration::from_millis(50), publisher.publish(&channel, numbered(1))).await;
    assert!(impatient().await.is_err());
    proxy.pass();
    eventually("another link", async || impatient().await.ok()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_repeated_is_not_given_to_a_link_that_may_be_gone() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let channel = channel("a");
    for _ in 0..3 {
        publisher.publish(&channel, numbered(0)).await.unwrap();
        let answered = Instant::now();
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        eventually("a while", async || (answered.elapsed() > Duration::from_millis(150)).then_some(())).await;
        publisher.publish_ephemeral(&channel, numbered(1)).await.unwrap();
    }
}

#[tokio::test]
async fn more_than_may_be_on_its_way_waits_no_longer_than_its_deadline() {
    let server = RedisServer::start().await;
    let publisher = connect_with_deadline(&server.url(), 1_000).await;
    let channel = channel("a");
    publisher.publish(&channel, numbered(0)).await.unwrap();
    server.pause().await;
    let start = Instant::now();
    // 24 MB, where 16 MiB may be on their way.
    let event = || Event::text("x".repeat(60_000));
    for outcome in join_all((0..400).map(|_| publisher.publish(&channel, event()))).await {
        assert_eq!(unavailable(outcome).1, 2);
    }
    assert!(start.elapsed() < Duration::from_millis(1_900), "{:?}", start.elapsed());
    server.resume().await;
    publisher.publish(&channel, numbered(1)).await.unwrap();
}
