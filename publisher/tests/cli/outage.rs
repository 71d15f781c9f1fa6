//! `serve` while Redis is away, slow to answer, and back again.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use testkit::{RedisServer, eventually};
use tokio::time::Instant;

use crate::support::{Service, history, serve};

const NOT_READY: &str = r#"{"ready":false,"reason":"redis_away"}"#;
/// A publish may take so long, and a busy machine a while more.
const DEADLINE: Duration = Duration::from_secs(1);
const CONFIG: &str =
    "[redis]\ncommand_timeout = '1s'\nconnect_timeout = '1s'\nunready_after = '0s'\n[drain]\ngrace = '0s'";

/// Publishes, and is told within the deadline to come back.
async fn is_unavailable(service: &Service) {
    let start = Instant::now();
    let response = service.publish(&json!({"channel": "a", "data": "lost"})).await;
    assert!(start.elapsed() < DEADLINE * 4, "after {:?}", start.elapsed());
    assert_eq!(response.status(), 503);
    let seconds: u64 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["type"], "urn:problem:sse:unavailable", "{problem}");
}

#[tokio::test]
async fn killed_and_back() {
    let mut server = RedisServer::start().await;
    let service = Service::start(serve(&server).config(CONFIG)).await;
    assert_eq!(service.publish(&json!({"channel": "a", "data": "before"})).await.status(), 200);

    server.kill().await;
    for _ in 0..3 {
        is_unavailable(&service).await;
    }
    service.readiness_becomes(503, NOT_READY).await;
    assert_eq!(service.admin("/livez").await.0, 200, "to start again would not help");
    assert!(service.has_metric("sse_publisher_redis_up 0").await);

    server.restart().await;
    eventually("a publish", async || {
        let response = service.publish(&json!({"channel": "a", "data": "after"})).await;
        (response.status() == 200).then_some(())
    })
    .await;
    assert_eq!(history(&server, "a").await.last().map(String::as_str), Some(r#"{"data":"after"}"#));
    service.readiness_becomes(200, r#"{"ready":true}"#).await;
    assert!(service.has_metric("sse_publisher_redis_up 1").await);

    service.signal("TERM").await;
    let exit = service.exit().await;
    assert_eq!(exit.code(), 0);
    // Each change once, however many publishes failed.
    let said = |text: &str| exit.errors.lines().filter(|line| line.contains(text)).count();
    assert_eq!((said("Redis is away"), said("Redis is back")), (1, 1), "{}", exit.errors);
    assert!(exit.errors.lines().count() < 12, "{}", exit.errors);
}

#[tokio::test]
async fn there_and_silent() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server).config(CONFIG)).await;
    assert_eq!(service.publish(&json!({"channel": "a", "data": "before"})).await.status(), 200);
    server.pause().await;
    is_unavailable(&service).await;
    service.readiness_becomes(503, NOT_READY).await;
    server.resume().await;
    eventually("a publish", async || (service.publish(&json!({"channel": "b"})).await.status() == 200).then_some(()))
        .await;
    service.readiness_becomes(200, r#"{"ready":true}"#).await;
}

#[tokio::test]
async fn a_short_absence_is_no_reason_to_be_unready() {
    let mut server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;
    server.kill().await;
    eventually("noticed", async || service.has_metric("sse_publisher_redis_up 0").await.then_some(())).await;
    assert_eq!(service.admin("/readyz").await.0, 200);
    is_unavailable(&service).await;
}
