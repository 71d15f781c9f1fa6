//! Publishing straight to Redis, as PUBLISH and as the durable function, behind a server that hears it.

use testkit::RedisServer;
use tokio::task::JoinSet;

use super::program::run;
use super::server::{Fault, Framing, Server};

/// Passes on what is published on `sse:<channel>`, as a gateway does, for as long as it is kept.
async fn relay(redis: &RedisServer, server: std::sync::Arc<Server>) -> JoinSet<()> {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut pubsub = client.get_async_pubsub().await.unwrap();
    pubsub.psubscribe("sse:*").await.unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut messages = pubsub.into_on_message();
        while let Some(message) = futures_util::StreamExt::next(&mut messages).await {
            let payload: String = message.get_payload().unwrap();
            // Of a durable one, what stands behind its position.
            let data = payload.strip_prefix('\x1e').map_or(payload.as_str(), |rest| rest.split_once('\n').unwrap().1);
            server.publish(message.get_channel_name().strip_prefix("sse:").unwrap(), data);
        }
    });
    task
}

#[tokio::test]
async fn both_commands_reach_everybody_and_only_one_is_kept() {
    let redis = RedisServer::start().await;
    let server = std::sync::Arc::new(Server::start(Fault::None, Framing::Chunked).await);
    let _relay = relay(&redis, server.clone()).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for (command, kept) in [("publish", 0), ("fcall", 20)] {
        let flags = [
            "unicast",
            "--url",
            &server.url,
            "--publish",
            &redis.url(),
            "--command",
            command,
            "--connections",
            "5",
            "--rate",
            "250",
            "--warmup",
            "0s",
            "--duration",
            "400ms",
            "--idle",
            "10ms",
            "--channel-prefix",
            command,
        ];
        let outcome = run(&flags).await;
        outcome.is_clean();
        assert_eq!((outcome.number("/events/published"), outcome.number("/deliveries/delivered")), (100, 100));
        assert!(outcome.report["events"]["late_ms"]["p99"].is_f64());
        let entries: u64 = {
            let key = format!("sse:{command}-3");
            redis::cmd("XLEN").arg(key).query_async(&mut connection).await.unwrap()
        };
        assert_eq!(entries, kept);
    }
}

#[tokio::test]
async fn what_redis_refuses_is_unsure() {
    // Without memory for it nothing is kept, and so nothing published.
    let redis = RedisServer::builder().config("maxmemory 1").start().await;
    let server = Server::correct().await;
    let flags = [
        "--url",
        &server.url,
        "--publish",
        &redis.url(),
        "--connections",
        "5",
        "--rate",
        "50",
        "--warmup",
        "0s",
        "--duration",
        "400ms",
        "--idle",
        "10ms",
    ];
    let outcome = run(&flags).await;
    assert_eq!(outcome.code, Some(1));
    if outcome.report.is_null() {
        // The functions could not be put there either.
        assert!(outcome.errors.contains("cannot load the functions into redis://127.0.0.1:"), "{}", outcome.errors);
        return;
    }
    assert_eq!(
        (outcome.number("/events/unsure"), outcome.number("/events/published"), outcome.faults()),
        (20, 0, [0; 5])
    );
}
