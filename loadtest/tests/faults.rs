//! What a server does wrong is found, and counted as what it is.

use futures_util::future::join_all;

use super::program::{Outcome, run};
use super::server::{Fault, Framing, Server};

/// 20 events on one channel, two of which go wrong on each of 8 connections in two processes.
async fn broadcast(server: &Server, more: &[&str]) -> Outcome {
    let flags = [
        "--url",
        &server.url,
        "--connections",
        "8",
        "--processes",
        "2",
        "--rate",
        "40",
        "--size",
        "100",
        "--warmup",
        "0s",
        "--duration",
        "500ms",
        "--idle",
        "10ms",
    ];
    run(&[&flags[..], more].concat()).await
}

#[tokio::test]
async fn a_correct_server_passes_in_either_framing() {
    for framing in [Framing::Chunked, Framing::Close] {
        let server = Server::start(Fault::None, framing).await;
        let outcome = broadcast(&server, &[]).await;
        outcome.is_clean();
        assert_eq!((outcome.number("/events/published"), outcome.number("/deliveries/delivered")), (20, 160));
        assert_eq!((outcome.number("/connections/opened"), outcome.number("/latency_ms/count")), (8, 160));
        assert_eq!((outcome.number("/client/processes"), server.streams()), (2, 8));
    }
}

#[tokio::test]
async fn each_fault_is_counted_as_what_it_is() {
    // At once: each waits for what does not come.
    let runs = [
        (Fault::Lose, [16, 0, 0, 0, 0], "16 deliveries lost"),
        (Fault::Repeat, [0, 16, 0, 0, 0], "16 deliveries duplicated"),
        // The last event of all is held back for good.
        (Fault::Swap, [8, 0, 8, 0, 0], "8 deliveries lost"),
        (Fault::Foreign, [0, 0, 0, 16, 0], "16 foreign events"),
        // Not whole, so not the one that is missing.
        (Fault::Cut, [16, 0, 0, 16, 0], "16 deliveries lost"),
        (Fault::Gap, [16, 0, 0, 0, 16], "16 deliveries lost"),
    ]
    .map(async |(fault, faults, reason)| {
        let server = Server::start(fault, Framing::Chunked).await;
        let outcome = broadcast(&server, &[]).await;
        assert_eq!((outcome.code, outcome.faults()), (Some(1), faults), "{fault:?}: {outcome:#?}");
        assert_eq!(outcome.report["reasons"][0], reason, "{fault:?}");
        assert_eq!(outcome.number("/deliveries/delivered"), 160 - faults[0], "{fault:?}");
    });
    join_all(runs).await;
}

#[tokio::test]
async fn losses_are_no_failure_where_they_are_tolerated() {
    let server = Server::start(Fault::Gap, Framing::Chunked).await;
    let outcome = broadcast(&server, &["--tolerate-loss"]).await;
    assert_eq!((outcome.code, outcome.faults()), (Some(0), [16, 0, 0, 0, 16]), "{outcome:#?}");
}

#[tokio::test]
async fn streams_that_end_early_are_told_with_the_reason() {
    let server = Server::start(Fault::End, Framing::Chunked).await;
    let outcome = broadcast(&server, &[]).await;
    assert_eq!((outcome.code, outcome.number("/connections/dropped")), (Some(1), 8), "{outcome:#?}");
    assert_eq!(outcome.report["reasons"][0], "8 connections were dropped");
    assert!(outcome.report["reasons"].to_string().contains("8 x dropped: the server ended the stream"));
    assert_eq!(outcome.faults(), [88, 0, 0, 0, 0]);
}

#[tokio::test]
async fn publishes_that_were_refused_are_unsure_and_lost_by_nobody() {
    let server = Server::start(Fault::Refuse, Framing::Chunked).await;
    let outcome = broadcast(&server, &[]).await;
    assert_eq!(
        (outcome.code, outcome.faults(), outcome.number("/events/published")),
        (Some(1), [0; 5], 0),
        "{outcome:#?}"
    );
    assert!(outcome.number("/events/unsure") > 1);
    let reasons = outcome.report["reasons"].to_string();
    assert!(reasons.contains("no event was published") && reasons.contains("publish: status 503"), "{reasons}");
}

#[tokio::test]
async fn what_is_no_event_stream_fails_every_connection() {
    let server = Server::correct().await;
    let url = format!("{}/publish?channel={{channel}}", server.url);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = run(&["--url", &silent]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.starts_with("error: cannot connect to 127.0.0.1:"), "{}", refused.errors);
    let flags = run(&["--url", &url, "--size", "1"]).await;
    assert_eq!((flags.code, flags.errors.contains("--size")), (Some(2), true), "{}", flags.errors);
}
