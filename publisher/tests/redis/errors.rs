//! What Redis refuses, and functions that are gone.

use std::sync::Arc;

use futures_util::future::join_all;
use publisher::{Event, PublishError};
use testkit::RedisServer;

use crate::support::*;

#[tokio::test]
async fn a_key_of_another_type() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    server.cli(&["SET", "sse:a", "x"]).await;
    let error = publisher.publish(&channel("a"), Event::text("x")).await.unwrap_err();
    assert!(matches!(&error, PublishError::Rejected { reason } if reason.starts_with("WRONGTYPE ")), "{error:?}");
    publisher.publish(&channel("b"), Event::text("x")).await.unwrap();
}

#[tokio::test]
async fn a_server_without_memory() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let _listener = Listener::new(&server, &["sse:a"]).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let outcome = publisher.publish(&channel("a"), Event::text("x")).await;
    assert_eq!(unavailable(outcome), ("Redis is out of memory (maxmemory)".to_owned(), 30));
    let live = publisher.publish_ephemeral(&channel("a"), Event::text("x")).await.unwrap();
    assert_eq!(live.receivers, 1, "it needs no memory");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    publisher.publish(&channel("a"), Event::text("y")).await.unwrap();
    assert_eq!(payloads(&server, "sse:a").await, [r#"{"data":"y"}"#]);
}

#[tokio::test]
async fn a_server_that_is_a_replica_now() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let (reason, seconds) = unavailable(publisher.publish(&channel("a"), Event::text("x")).await);
    assert!(reason.starts_with("READONLY ") && seconds == 2, "{reason}");
    let names = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    assert_eq!(names.lines().count(), 1, "none but redis-cli itself: {names}");
    server.cli(&["REPLICAOF", "NO", "ONE"]).await;
    publisher.publish(&channel("a"), Event::text("x")).await.unwrap();
}

#[tokio::test]
async fn functions_that_are_gone_are_loaded_again() {
    let server = RedisServer::start().await;
    let publisher = Arc::new(connect(&server.url()).await);
    server.cli(&["FUNCTION", "FLUSH"]).await;
    let publishes = (0..40).map(|number| {
        let publisher = Arc::clone(&publisher);
        async move { publisher.publish(&channel("a"), numbered(number)).await }
    });
    for outcome in join_all(publishes).await {
        assert!(!outcome.unwrap().duplicate);
    }
    assert_eq!(payloads(&server, "sse:a").await.len(), 40);

    // A whole batch finds them gone, and keeps its order.
    server.cli(&["FUNCTION", "FLUSH"]).await;
    let outcomes = publisher.publish_batch((0..700).map(|number| (channel("b"), numbered(number))).collect()).await;
    let (positions_there, there): (Vec<_>, Vec<_>) = history(&server, "sse:b").await.into_iter().unzip();
    assert_eq!(positions(&outcomes), positions_there);
    assert_eq!(there, (0..700).map(payload).collect::<Vec<_>>());
}

#[tokio::test]
async fn functions_that_come_and_go_lose_no_event_and_change_no_order() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let flushing = async {
        for _ in 0..20 {
            server.cli(&["FUNCTION", "FLUSH"]).await;
        }
    };
    let publishing = async {
        let mut published = Vec::new();
        for batch in 0..60 {
            let numbers = batch * 50..(batch + 1) * 50;
            let outcomes =
                publisher.publish_batch(numbers.clone().map(|n| (channel("a"), numbered(n))).collect()).await;
            for (number, outcome) in numbers.zip(outcomes) {
                match outcome {
                    Ok(receipt) => published.push((receipt.position.unwrap().to_string(), payload(number))),
                    // Flushed once more at each of the three tries.
                    failed => assert!(unavailable(failed).0.starts_with("the functions are gone")),
                }
            }
        }
        published
    };
    let (published, ()) = tokio::join!(publishing, flushing);
    assert!(published.len() > 1_000, "{}", published.len());
    let there = history(&server, "sse:a").await;
    // The history keeps the last thousand or so.
    assert_eq!(there, published[published.len() - there.len()..]);
}

#[tokio::test]
async fn a_server_that_knows_no_functions() {
    // As Redis 6.2 says it.
    let server = RedisServer::builder().config("rename-command FUNCTION \"\"").start().await;
    let publisher = connect(&server.url()).await;
    let first = publisher.publish(&channel("a"), numbered(0)).await.unwrap();
    server.cli(&["SCRIPT", "FLUSH"]).await;
    let second = publisher.publish(&channel("a"), numbered(1)).await.unwrap();
    assert!(second.position > first.position);
    assert!(!second.duplicate);
    assert_eq!(payloads(&server, "sse:a").await, [payload(0), payload(1)]);
    server.cli(&["SET", "sse:b", "x"]).await;
    let error = publisher.publish(&channel("b"), Event::text("x")).await.unwrap_err();
    assert!(matches!(&error, PublishError::Rejected { reason } if reason.contains("WRONGTYPE")), "{error:?}");
}
