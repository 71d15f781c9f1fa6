//! Servers that die, hang and come back, connections that are cut: every event that was acknowledged is there once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use publisher::{Event, PublishError};
use testkit::{RedisServer, eventually};
use tokio::time::Instant;

use crate::support::*;

#[tokio::test]
async fn a_server_that_is_killed_keeps_all_it_acknowledged() {
    let mut server = RedisServer::builder().config("appendonly yes").config("appendfsync always").start().await;
    let publisher = connect(&server.url()).await;
    let (killed, acknowledged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let publishing = async {
        let mut receipts = Vec::new();
        let mut number = 0;
        // Goes on until it was killed twice, and well after.
        while killed.load(Ordering::Relaxed) < 2 || acknowledged.load(Ordering::Relaxed) < 200 {
            match publisher.publish(&channel("a"), kept(number)).await {
                Ok(receipt) => {
                    assert!(!receipt.duplicate);
                    receipts.push((receipt.position.unwrap().to_string(), payload(number)));
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => assert!(matches!(error, PublishError::Unavailable { .. }), "{error:?}"),
            }
            number += 1;
            tokio::task::yield_now().await;
        }
        receipts
    };
    let killing = async {
        for _ in 0..2 {
            acknowledged.store(0, Ordering::Relaxed);
            eventually("events", async || (acknowledged.load(Ordering::Relaxed) > 50).then_some(())).await;
            server.kill().await;
            server.restart().await;
            acknowledged.store(0, Ordering::Relaxed);
            killed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (receipts, ()) = tokio::join!(publishing, killing);
    every_acknowledged_event_is_there_once(&history(&server, "sse:a").await, &receipts);
}

/// And in order. One that was not acknowledged may be there too, once.
fn every_acknowledged_event_is_there_once(there: &[(String, String)], receipts: &[(String, String)]) {
    let known: HashSet<_> = receipts.iter().collect();
    let acknowledged: Vec<_> = there.iter().filter(|entry| known.contains(entry)).cloned().collect();
    assert_eq!(acknowledged, receipts);
    let payloads: HashSet<_> = there.iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads.len(), there.len(), "no event is there twice");
}

#[tokio::test]
async fn connections_that_are_cut_repeat_and_lose_nothing() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let (done, cut) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let publishing = async {
        let mut receipts = Vec::new();
        let mut failed = 0;
        let mut number = 0;
        while cut.load(Ordering::Relaxed) < 20 {
            // One by one, and many at once.
            let numbers = number..number + if number % 2 == 0 { 1 } else { 300 };
            let batch = numbers.clone().map(|n| (channel("a"), kept(n))).collect();
            for (number, outcome) in numbers.clone().zip(publisher.publish_batch(batch).await) {
                match outcome {
                    Ok(receipt) => {
                        assert!(!receipt.duplicate);
                        receipts.push((receipt.position.unwrap().to_string(), payload(number)));
                    }
                    Err(error) => {
                        assert!(matches!(error, PublishError::Unavailable { .. }), "{error:?}");
                        failed += 1;
                    }
                }
            }
            number = numbers.end;
            done.fetch_add(1, Ordering::Relaxed);
        }
        (receipts, failed)
    };
    let cutting = async {
        for _ in 0..20 {
            let before = done.load(Ordering::Relaxed);
            eventually("another batch", async || (done.load(Ordering::Relaxed) > before + 1).then_some(())).await;
            server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
            cut.fetch_add(1, Ordering::Relaxed);
        }
    };
    let ((receipts, failed), ()) = tokio::join!(publishing, cutting);
    let there = history(&server, "sse:a").await;
    every_acknowledged_event_is_there_once(&there, &receipts);
    assert!(failed * 10 < receipts.len(), "{failed} failed, {} did not", receipts.len());
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_its_connection_fit_for_the_next() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let a = channel("a");
    let mut dropped = 0;
    for patience in 0..300 {
        let long_enough = async {
            for _ in 0..patience % 30 {
                tokio::task::yield_now().await;
            }
        };
        let batch = (0..20).map(|_| (a.clone(), Event::text("dropped, perhaps"))).collect();
        tokio::select! {
            biased;
            _ = publisher.publish_batch(batch) => {}
            () = long_enough => dropped += 1,
        }
        // An answer that came late must not be taken for that of this one.
        let receipt = publisher.publish(&a, kept(patience)).await.unwrap();
        let stored = server.cli(&["XRANGE", "sse:a", &receipt.position.unwrap().to_string(), "+", "COUNT", "1"]).await;
        assert!(stored.ends_with(&payload(patience)), "{stored}");
    }
    assert!(dropped > 50, "{dropped}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_at_the_deadline() {
    let server = RedisServer::start().await;
    let publisher = connect_with_deadline(&server.url(), 1_000).await;
    publisher.publish(&channel("a"), numbered(0)).await.unwrap();
    server.pause().await;
    let within = async |what: &str, future: &mut (dyn Future<Output = Result<(), String>> + Unpin)| {
        let start = Instant::now();
        let reason = future.await.unwrap_err();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(1_900), "{what}: {took:?}");
        assert_eq!(reason, "no answer within the deadline", "{what}");
    };
    // The first on a connection that was there, the second on a new one, and 40 at once, more than there are connections.
    for what in ["old", "new"] {
        let publish = async { Err(unavailable(publisher.publish(&channel("a"), numbered(1)).await).0) };
        within(what, &mut Box::pin(publish)).await;
    }
    within("check", &mut Box::pin(publisher.check())).await;
    let start = Instant::now();
    let a = channel("a");
    let many = (2..42).map(|number| publisher.publish(&a, numbered(number)));
    for outcome in futures_util::future::join_all(many).await {
        assert_eq!(unavailable(outcome).1, 2);
    }
    assert!(start.elapsed() < Duration::from_millis(1_900), "{:?}", start.elapsed());
    let batch = (0..2_000).map(|number| (channel("b"), numbered(number))).collect();
    let start = Instant::now();
    assert!(publisher.publish_batch(batch).await.iter().all(Result::is_err));
    assert!(
        start.elapsed() < Duration::from_millis(1_900),
        "all of it is given up with its first: {:?}",
        start.elapsed()
    );

    server.resume().await;
    let receipt = publisher.publish(&channel("c"), Event::text("x")).await.unwrap();
    assert!(!receipt.duplicate);
    assert_eq!(publisher.check().await, Ok(()));
    assert_eq!(payloads(&server, "sse:c").await.len(), 1);
}

#[tokio::test]
async fn nobody_there_is_told_soon_and_a_new_server_is_found() {
    let mut server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    publisher.publish(&channel("a"), numbered(0)).await.unwrap();
    server.kill().await;
    let start = Instant::now();
    let outcome = publisher.publish(&channel("a"), numbered(1)).await;
    assert_eq!(unavailable(outcome), ("connection refused".to_owned(), 2));
    let live = publisher.publish_ephemeral(&channel("a"), numbered(1)).await;
    assert_eq!(unavailable(live), ("connection refused".to_owned(), 2));
    assert_eq!(publisher.check().await, Err("connection refused".to_owned()));
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());

    // It comes back with nothing: no data, no functions.
    server.restart().await;
    let receipt = publisher.publish(&channel("a"), numbered(2)).await.unwrap();
    assert!(!receipt.duplicate);
    assert_eq!(payloads(&server, "sse:a").await, [payload(2)]);
    publisher.publish_ephemeral(&channel("a"), numbered(3)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_demoted_is_not_fit_to_publish_to() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    publisher.publish(&channel("a"), numbered(1)).await.unwrap();
    assert_eq!(publisher.check().await, Ok(()));
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let (reason, _) = unavailable(publisher.publish(&channel("a"), numbered(2)).await);
    assert!(reason.starts_with("READONLY"), "{reason}");
    // It answers a PING all the same.
    assert!(publisher.check().await.unwrap_err().starts_with("READONLY"));
    server.cli(&["REPLICAOF", "NO", "ONE"]).await;
    publisher.publish(&channel("a"), numbered(3)).await.unwrap();
    assert_eq!(publisher.check().await, Ok(()));
}

#[tokio::test]
async fn a_check_loads_functions_that_are_gone() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    server.cli(&["FUNCTION", "FLUSH"]).await;
    assert_eq!(publisher.check().await, Ok(()));
    assert!(server.cli(&["FUNCTION", "LIST"]).await.contains("sse_publish"));
}

#[tokio::test]
async fn functions_that_cannot_be_loaded_now_are_an_outage() {
    for (args, wanted) in
        [(&["CONFIG", "SET", "maxmemory", "1"][..], "out of memory"), (&["REPLICAOF", "127.0.0.1", "1"], "READONLY")]
    {
        let server = RedisServer::start().await;
        let publisher = connect(&server.url()).await;
        server.cli(&["FUNCTION", "FLUSH"]).await;
        server.cli(args).await;
        let (reason, _) = unavailable(publisher.publish(&channel("a"), numbered(1)).await);
        assert!(reason.contains(wanted), "{reason}");
    }
}
