//! Users who come and go are told of, once each over all nodes.

use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;
use testkit::{RedisServer, TokenKey, soon};

use crate::support::{Builder, Gateway, Stream};

const SECRET: &str = "a secret of the tests, long enough for HS256";

fn token(user: &str, channels: &[&str]) -> String {
    let claims = json!({"sub": user, "exp": 9_999_999_999_u64, "channels": channels});
    TokenKey::hs256(SECRET.as_bytes()).token(None, &claims.to_string())
}

fn builder(redis: &RedisServer) -> Builder {
    let config = format!(
        "[auth]\nsecret = \"{SECRET}\"\n[limits]\nuser_lease = \"1s\"\n[presence]\nenabled = true\noffline_after = \"1s\""
    );
    Gateway::on(redis).config(&config)
}

async fn node(redis: &RedisServer) -> Gateway {
    builder(redis).start().await
}

async fn open(gateway: &Gateway, path: &str, token: &str) -> Stream {
    let mut stream = Stream::open(gateway.fresh().get(gateway.url(path)).bearer_auth(token)).await;
    stream.opened().await;
    stream
}

/// The next event of presence.
async fn told(stream: &mut Stream) -> String {
    loop {
        match soon("news of presence", stream.next()).await.expect("the stream goes on") {
            Decoded::Event(event) if event.event == "online" || event.event == "offline" => {
                let data: Value = serde_json::from_str(&event.data).unwrap();
                assert_eq!(data, json!({"user": "42"}));
                assert!(!event.id.is_empty());
                return event.event;
            }
            Decoded::Event(event) => assert_ne!(event.event, "sse.gap", "{event:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn who_comes_and_goes_over_two_nodes_and_after_one_was_killed() {
    let redis = RedisServer::start().await;
    let (one, mut two) = (node(&redis).await, node(&redis).await);
    let friend = token("7", &["presence:42"]);
    let mut watch = open(&one, "/events?channel=presence:42", &friend).await;
    let own = token("42", &[]);
    let first = open(&one, "/events", &own).await;
    assert_eq!(told(&mut watch).await, "online");
    let second = open(&two, "/events", &own).await;
    drop(first);
    // A node that ends by itself, and a reload within the time, are no news.
    let third = open(&one, "/events", &own).await;
    drop(second);
    let fourth = open(&two, "/events", &own).await;
    drop(third);
    two.signal("KILL").await;
    two.exit().await;
    assert_eq!(told(&mut watch).await, "offline", "and nothing in between");
    drop(fourth);
    let last = open(&one, "/events", &own).await;
    assert_eq!(told(&mut watch).await, "online");
    // Whoever comes later learns what is true now.
    let mut late = open(&one, "/events?channel=presence:42&replay=1", &friend).await;
    assert_eq!(told(&mut late).await, "online");
    drop(last);
    assert_eq!((told(&mut watch).await, told(&mut late).await), ("offline".to_owned(), "offline".to_owned()));
    assert_eq!(redis.cli(&["EXISTS", "sse.present:42"]).await.trim(), "0");
}

#[tokio::test]
async fn without_tokens_it_is_who_reads_the_users_channel() {
    let redis = RedisServer::start().await;
    let config = "[presence]\nenabled = true\noffline_after = \"1s\"";
    let gateway = Gateway::on(&redis).config(config).start().await;
    let mut watch = gateway.stream("/events?channel=presence:42").await;
    watch.opened().await;
    let stream = gateway.stream("/api/sse/connect?userId=42").await;
    assert_eq!(told(&mut watch).await, "online");
    drop(stream);
    assert_eq!(told(&mut watch).await, "offline");
}

#[tokio::test]
async fn a_redis_that_lost_everything_learns_who_is_there() {
    let mut redis = RedisServer::start().await;
    let gateway = node(&redis).await;
    let stream = open(&gateway, "/events", &token("42", &[])).await;
    testkit::eventually("it is known", async || {
        (redis.cli(&["EXISTS", "sse.leaving"]).await.trim() == "1").then_some(())
    })
    .await;
    redis.stop().await;
    redis.restart().await;
    testkit::eventually("it is known again", async || {
        (redis.cli(&["XLEN", "sse:presence:42"]).await.trim() == "1").then_some(())
    })
    .await;
    let friend = token("7", &["presence:42"]);
    let mut watch = testkit::eventually("a stream", async || {
        let request = gateway.fresh().get(gateway.url("/events?channel=presence:42&replay=1")).bearer_auth(&friend);
        let mut stream = Stream::open(request).await;
        loop {
            match stream.next().await {
                Some(Decoded::Event(event)) if event.event == "sse.open" => return Some(stream),
                Some(_) => {}
                None => return None,
            }
        }
    })
    .await;
    assert_eq!(told(&mut watch).await, "online");
    drop(stream);
    assert_eq!(told(&mut watch).await, "offline");
}

#[tokio::test]
async fn it_needs_redis() {
    let exit = Gateway::builder().config("[presence]\nenabled = true").fail().await;
    assert_eq!(exit.status.code(), Some(2));
    assert!(exit.errors.contains("presence.enabled") && exit.errors.contains("set redis.url"), "{}", exit.errors);
}

/// There is no channel to tell of it on: nobody is, and nothing is tried in vain.
#[tokio::test]
async fn a_user_whose_name_is_too_long_is_not_told_of() {
    let redis = RedisServer::start().await;
    let mut gateway = builder(&redis).log_piped().start().await;
    let mut log = tokio::io::BufReader::new(gateway.take_log());
    let [told, untold] = [247, 248].map(|length| "u".repeat(length));
    let mut streams = Vec::new();
    for user in [&untold, &told] {
        streams.push(open(&gateway, "/events", &token(user, &[])).await);
    }
    let channel = format!("sse:presence:{told}");
    testkit::eventually("the other is", async || (redis.cli(&["XLEN", &channel]).await == "1").then_some(())).await;
    assert_eq!(redis.cli(&["KEYS", "sse.present:*"]).await, format!("sse.present:{told}"));
    drop(streams);
    gateway.signal("TERM").await;
    let mut text = String::new();
    soon("the log's end", tokio::io::AsyncReadExt::read_to_string(&mut log, &mut text)).await.unwrap();
    assert!(text.contains("stopped") && !text.contains("leases"), "{text}");
}
