//! What open streams are told when the session with Redis is lost: nothing, or a gap.

use serde_json::Value;
use shared::event_stream::decode::Decoded;
use testkit::{RedisServer, eventually};

use crate::support::{Gateway, Stream};

async fn open(gateway: &Gateway, path: &str) -> Stream {
    let mut stream = gateway.stream(path).await;
    stream.opened().await;
    stream
}

async fn publish(redis: &RedisServer, channel: &str, data: &str) {
    let answer = redis.cli(&["FCALL", "sse_publish", "1", &format!("sse:{channel}"), data]).await;
    assert!(answer.contains('-'), "{answer}");
}

/// Channel and reason of the next event, which is a gap; then its cursor.
async fn gap(stream: &mut Stream) -> (String, String, String) {
    loop {
        match stream.next().await.expect("the stream ended") {
            Decoded::Event(event) if event.event == "sse.gap" => {
                let data: Value = serde_json::from_str(&event.data).unwrap();
                let text = |key: &str| data[key].as_str().unwrap().to_owned();
                return (text("channel"), text("reason"), text("cursor"));
            }
            Decoded::Event(event) => assert_eq!(event.event, "sse.open", "no gap"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_was_published_meanwhile_is_caught_up() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut both = open(&gateway, "/events?channel=a&channel=b").await;
    let mut one = open(&gateway, "/events?channel=b").await;
    let mut expected = Vec::new();
    for round in 0..20 {
        // Between the two kills there is always something that no session heard.
        redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        for i in 0..10 {
            let data = format!("{round}.{i}");
            publish(&redis, ["a", "b"][i % 2], &data).await;
            expected.push(data);
        }
    }
    for data in &expected {
        assert_eq!(both.data().await.as_ref(), Some(data));
    }
    for data in expected.iter().skip(1).step_by(2) {
        assert_eq!(one.data().await.as_ref(), Some(data));
    }
    let gaps = gateway.metric("sse_gateway_gaps_total{reason=\"trimmed\"}").await;
    assert_eq!(gaps, 0.0);
}

#[tokio::test]
async fn a_restart_that_kept_the_data_is_a_gap_all_the_same() {
    // Redis cannot say whether its last second made it to the disk.
    let mut redis = RedisServer::builder().config("appendonly yes").config("appendfsync always").start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut stream = open(&gateway, "/events?channel=a&channel=b").await;
    publish(&redis, "a", "before").await;
    assert_eq!(stream.data().await.as_deref(), Some("before"));
    redis.kill().await;
    redis.restart().await;
    let (channel, reason, cursor) = gap(&mut stream).await;
    assert_eq!((channel.as_str(), reason.as_str()), ("a", "data_lost"));
    let other = gap(&mut stream).await;
    assert_eq!((other.0.as_str(), &other.2), ("b", &cursor));
    assert_eq!(stream.next().await, Some(Decoded::Id(cursor)), "one cursor after all gaps");
    publish(&redis, "b", "after").await;
    assert_eq!(stream.data().await.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_restart_that_kept_the_data_is_none_to_who_trusts_it() {
    let mut redis = RedisServer::builder().config("appendonly yes").config("appendfsync always").start().await;
    let gateway = Gateway::on(&redis).env("SSE_GATEWAY__REDIS__TRUST_FAILOVER", "true").start().await;
    let mut stream = open(&gateway, "/events?channel=a&channel=b").await;
    publish(&redis, "a", "before").await;
    assert_eq!(stream.data().await.as_deref(), Some("before"));
    redis.kill().await;
    redis.restart().await;
    publish(&redis, "b", "meanwhile").await;
    publish(&redis, "a", "after").await;
    let next: Vec<_> = [stream.event().await.unwrap(), stream.event().await.unwrap()].map(|event| event.data).into();
    assert_eq!(next, ["meanwhile", "after"], "and no gap");
    // Without its data it is another life, whoever is trusted.
    redis.cli(&["FLUSHALL"]).await;
    assert_eq!(gap(&mut stream).await.1, "data_lost");
}

#[tokio::test]
async fn flushed_data_are_a_gap_for_open_streams_and_for_those_that_come_back() {
    let redis = RedisServer::start().await;
    let nodes = [Gateway::on(&redis).start().await, Gateway::on(&redis).start().await];
    let mut stream = open(&nodes[0], "/events?channel=a").await;
    publish(&redis, "a", "before").await;
    let before = stream.event().await.unwrap();
    redis.cli(&["FLUSHALL"]).await;
    // Starts another epoch; so does a publish that finds no clock.
    publish(&redis, "a", "between").await;
    let (channel, reason, _) = gap(&mut stream).await;
    assert_eq!((channel.as_str(), reason.as_str()), ("a", "data_lost"));
    let url = nodes[1].url("/events?channel=a");
    let mut back = Stream::open(nodes[1].client.get(url).header("Last-Event-ID", &before.id)).await;
    assert_eq!(gap(&mut back).await.1, "data_lost");
    publish(&redis, "a", "after").await;
    // Whatever came after the gap's end is there; "between" may lie on either side of it.
    for stream in [&mut stream, &mut back] {
        let data = stream.data().await.unwrap();
        let data = if data == "between" { stream.data().await.unwrap() } else { data };
        assert_eq!(data, "after");
    }
}

#[tokio::test]
async fn a_long_absence_is_caught_up_or_a_gap() {
    let server = RedisServer::start().await;
    let gateway = Gateway::on(&server)
        .env("SSE_GATEWAY__REDIS__COMMAND_TIMEOUT", "500ms")
        .env("SSE_GATEWAY__REPLAY__EVENTS", "20")
        .start()
        .await;
    let mut stream = open(&gateway, "/events?channel=few&channel=many").await;
    publish(&server, "few", "0").await;
    assert_eq!(stream.data().await.as_deref(), Some("0"));
    // All at once, so that no session can be there in between.
    let mut connection = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut transaction = redis::pipe();
    transaction.atomic().cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]);
    for i in 1..=35 {
        let channel = if i <= 10 { "sse:few" } else { "sse:many" };
        transaction.cmd("FCALL").arg("sse_publish").arg(1).arg(channel).arg(i);
    }
    let _: redis::Value = transaction.query_async(&mut connection).await.unwrap();
    assert_eq!(gap(&mut stream).await.1, "too_far");
    for i in 1..=10 {
        assert_eq!(stream.data().await, Some(i.to_string()));
    }
    publish(&server, "many", "after").await;
    assert_eq!(stream.data().await.as_deref(), Some("after"));
}

#[tokio::test]
async fn streams_of_a_stopping_node_end_over_the_window_and_go_on_elsewhere() {
    let redis = RedisServer::start().await;
    let builder = Gateway::on(&redis).env("SSE_GATEWAY__DRAIN__GRACE", "0s").env("SSE_GATEWAY__DRAIN__WINDOW", "2s");
    let (mut old, new) = (builder.start().await, Gateway::on(&redis).start().await);
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(open(&old, "/events?channel=a").await);
    }
    old.signal("TERM").await;
    eventually("draining", async || (old.metric("sse_gateway_draining").await == 1.0).then_some(())).await;
    let started = tokio::time::Instant::now();
    publish(&redis, "a", "while it drains").await;
    let ends = futures_util::future::join_all(streams.into_iter().map(async |mut stream| {
        let mut id = None;
        let mut told = None;
        while let Some(item) = stream.next().await {
            match item {
                Decoded::Event(event) => id = Some(event.id),
                Decoded::Retry(retry) => told = Some(retry),
                _ => {}
            }
        }
        (started.elapsed(), id, told)
    }))
    .await;
    assert!(ends.iter().all(|(_, _, retry)| retry.is_some()), "each is told when to come back");
    let early = ends.iter().filter(|(at, ..)| at.as_millis() < 1_000).count();
    assert!((5..=35).contains(&early), "{early} of 40 in the first half of the window");
    assert_eq!(old.exit().await.status.code(), Some(0));
    let held = ends.iter().find_map(|(_, id, _)| id.clone()).expect("somebody was still there to hear the event");
    publish(&redis, "a", "after").await;
    let mut stream = Stream::open(new.client.get(new.url("/events?channel=a")).header("Last-Event-ID", held)).await;
    assert_eq!(stream.data().await.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_lifetime_ends_as_a_drain_does() {
    let gateway = Gateway::builder().env("SSE_GATEWAY__LIMITS__MAX_LIFETIME", "1s").start().await;
    let mut stream = open(&gateway, "/events?channel=a").await;
    assert!(matches!(stream.rest().await.last(), Some(Decoded::Retry(_))));
    let lifetime = "sse_gateway_connections_closed_total{reason=\"lifetime\"}";
    gateway.metric_becomes(lifetime, 1.0).await;
}
