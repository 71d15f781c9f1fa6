//! Streams that come back: from the log, from history, on another node; and what they are told when that cannot be.

use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;
use testkit::{RedisServer, eventually};

use crate::support::{Gateway, Stream};

const READS: &str = "sse_gateway_history_reads_total{result=\"done\"}";

/// Opens a stream with a `Last-Event-ID`.
async fn after(gateway: &Gateway, path: &str, id: &str) -> Stream {
    Stream::open(gateway.client.get(gateway.url(path)).header("Last-Event-ID", id)).await
}

async fn publish(gateway: &Gateway, channel: &str, data: &str) -> String {
    let receipt = gateway.publish(json!({ "channel": channel, "data": data })).await;
    receipt["id"].as_str().unwrap().to_owned()
}

async fn all(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(stream.data().await.expect("the stream ended"));
    }
    all
}

/// The next thing that a script would see, the gateway's own events but `sse.open` included.
async fn seen(stream: &mut Stream) -> (String, String, String) {
    loop {
        match stream.next().await.expect("the stream ended") {
            Decoded::Event(event) if event.event != "sse.open" => return (event.event, event.data, event.id),
            _ => {}
        }
    }
}

fn gap(data: &str) -> (String, String) {
    let data: Value = serde_json::from_str(data).unwrap();
    (data["channel"].as_str().unwrap().to_owned(), data["reason"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing() {
    let gateway = Gateway::start().await;
    let mut first = gateway.stream("/events?channel=a").await;
    first.opened().await;
    publish(&gateway, "a", "1").await;
    let seen = first.event().await.unwrap();
    drop(first);
    for data in ["2", "3"] {
        publish(&gateway, "a", data).await;
    }
    let mut second = after(&gateway, "/events?channel=a", &seen.id).await;
    assert_eq!(all(&mut second, 2).await, ["2", "3"]);
    publish(&gateway, "a", "4").await;
    assert_eq!(second.data().await.as_deref(), Some("4"));
}

#[tokio::test]
async fn the_channel_may_have_been_left_meanwhile() {
    let gateway = Gateway::start().await;
    let id = publish(&gateway, "a", "1").await;
    publish(&gateway, "a", "2").await;
    let mut stream = after(&gateway, "/events?channel=a&channel=b", &id).await;
    assert_eq!(stream.data().await.as_deref(), Some("2"));
    publish(&gateway, "b", "3").await;
    assert_eq!(stream.data().await.as_deref(), Some("3"));
    assert_eq!(gateway.metric(READS).await, 2.0, "one for each channel");
}

#[tokio::test]
async fn every_way_to_say_where_it_was() {
    let gateway = Gateway::start().await;
    let first = publish(&gateway, "a", "1").await;
    let second = publish(&gateway, "a", "2").await;
    for path in [
        format!("/events?channel=a&last_event_id={first}"),
        format!("/events?channel=a&lastEventId={first}"),
        format!("/events?channel=a&lastEvent={first}"),
        format!("/api/sse/connect?userId=1&last_event_id={first}").replace("userId=1", "userId=a"),
        "/events?channel=a&replay=1".to_owned(),
    ] {
        if path.starts_with("/api") {
            let mut stream = gateway.stream(&path).await;
            let greeting = stream.event().await.unwrap();
            assert_eq!((greeting.event.as_str(), greeting.data.as_str()), ("connect", "연결되었습니다"));
            continue;
        }
        let mut stream = gateway.stream(&path).await;
        assert_eq!(stream.data().await.as_deref(), Some("2"), "{path}");
    }
    let mut stream = gateway.stream("/events?channel=a&last_event_id=earliest").await;
    assert_eq!(all(&mut stream, 2).await, ["1", "2"]);
    // The header wins: a browser that comes back repeats its first URL.
    let mut stream = after(&gateway, "/events?channel=a&last_event_id=earliest", &second).await;
    publish(&gateway, "a", "3").await;
    assert_eq!(stream.data().await.as_deref(), Some("3"));
    let mut stream = gateway.stream("/events?channel=a&replay=2").await;
    assert_eq!(all(&mut stream, 2).await, ["2", "3"]);
}

#[tokio::test]
async fn several_channels_come_in_the_order_of_their_positions() {
    let gateway = Gateway::start().await;
    let start = publish(&gateway, "a", "start").await;
    let mut expected = Vec::new();
    for i in 0..60 {
        let data = i.to_string();
        publish(&gateway, ["a", "b", "c"][i % 3], &data).await;
        expected.push(data);
    }
    let mut stream = after(&gateway, "/events?channel=c&channel=a&channel=b", &start).await;
    assert_eq!(all(&mut stream, 30).await, expected[..30]);
    let middle = stream.event().await.unwrap();
    assert_eq!(middle.data, "30");
    drop(stream);
    // Cut off in the midst of a replay, it goes on from there.
    let mut stream = after(&gateway, "/events?channel=c&channel=a&channel=b", &middle.id).await;
    assert_eq!(all(&mut stream, 29).await, expected[31..]);
}

#[tokio::test]
async fn no_ephemeral_event_is_replayed() {
    let gateway = Gateway::start().await;
    let mut keep = gateway.stream("/events?channel=a").await;
    keep.opened().await;
    let id = publish(&gateway, "a", "1").await;
    gateway.publish(json!({ "channel": "a", "data": "live only", "ephemeral": true })).await;
    publish(&gateway, "a", "2").await;
    assert_eq!(all(&mut keep, 3).await, ["1", "live only", "2"]);
    let mut stream = after(&gateway, "/events?channel=a", &id).await;
    assert_eq!(stream.data().await.as_deref(), Some("2"));
    gateway.publish(json!({ "channel": "a", "data": "live", "ephemeral": true })).await;
    assert_eq!(stream.data().await.as_deref(), Some("live"));
    assert_eq!(gateway.metric(READS).await, 0.0, "the log reached back far enough");
}

#[tokio::test]
async fn what_cannot_be_had_is_a_gap_and_then_it_is_exact_again() {
    let gateway = Gateway::builder().config("[[channels]]\nprefix = \"short\"\nhistory = 2").start().await;
    let id = publish(&gateway, "short", "1").await;
    for data in ["2", "3", "4"] {
        publish(&gateway, "short", data).await;
    }
    let mut stream = after(&gateway, "/events?channel=short", &id).await;
    let (event, data, last_id) = seen(&mut stream).await;
    assert_eq!((event.as_str(), gap(&data)), ("sse.gap", ("short".into(), "trimmed".into())));
    assert_eq!(last_id, id, "it carries no id of its own: other channels may have events from before");
    let Some(Decoded::Id(id)) = stream.next().await else { panic!("no cursor after the gap") };
    publish(&gateway, "short", "5").await;
    assert_eq!(stream.data().await.as_deref(), Some("5"));
    let mut again = after(&gateway, "/events?channel=short", &id).await;
    assert_eq!(again.data().await.as_deref(), Some("5"), "no second gap");

    let mut stream = gateway.stream("/events?channel=short&last_event_id=earliest").await;
    let (event, data, _) = seen(&mut stream).await;
    assert_eq!((event.as_str(), gap(&data)), ("sse.gap", ("short".into(), "trimmed".into())));
    assert_eq!(all(&mut stream, 2).await, ["4", "5"]);
}

#[tokio::test]
async fn more_than_a_stream_is_given_is_a_gap() {
    let gateway = Gateway::builder().config("[replay]\nevents = 5").start().await;
    let id = publish(&gateway, "long", "0").await;
    for i in 1..=5 {
        publish(&gateway, "long", &i.to_string()).await;
    }
    let mut stream = after(&gateway, "/events?channel=long", &id).await;
    assert_eq!(all(&mut stream, 5).await.len(), 5);
    drop(stream);
    publish(&gateway, "long", "6").await;
    // From the log it may be more: that costs nobody anything.
    eventually("the channel is left", async || {
        (gateway.metric("sse_gateway_broker_subscriptions").await == 0.0).then_some(())
    })
    .await;
    let mut stream = after(&gateway, "/events?channel=long", &id).await;
    assert_eq!(gap(&seen(&mut stream).await.1), ("long".into(), "too_far".into()));
    assert_eq!(gateway.metric("sse_gateway_gaps_total{reason=\"too_far\"}").await, 1.0);
}

#[tokio::test]
async fn a_cursor_that_means_nothing_is_a_gap_never_an_error() {
    let gateway = Gateway::start().await;
    let id = publish(&gateway, "a", "1").await;
    let (position, tag) = id.split_once('_').unwrap();
    let (ms, _) = position.split_once('-').unwrap();
    for (cursor, reason) in [
        ("garbage".to_owned(), "unknown_cursor"),
        (format!("3.{id}"), "unknown_cursor"),
        ("x".repeat(5_000), "unknown_cursor"),
        (format!("{position}_aaaaa"), "data_lost"),
        (format!("{}-0_{tag}", ms.parse::<u64>().unwrap() + 3_600_000), "data_lost"),
        (format!("1-0_{tag}"), "expired"),
    ] {
        let mut stream = after(&gateway, "/events?channel=a", &cursor).await;
        assert_eq!(stream.status, 200, "{cursor}");
        let (event, data, _) = seen(&mut stream).await;
        if reason == "expired" {
            // The channel's first event follows on from nothing that is known; the cursor is of 1970.
            assert_eq!((event.as_str(), gap(&data).1.as_str()), ("sse.gap", "expired"), "{cursor}");
            continue;
        }
        assert_eq!((event.as_str(), gap(&data).1.as_str()), ("sse.gap", reason), "{cursor}");
        let Some(Decoded::Id(id)) = stream.next().await else { panic!("no cursor after the gap") };
        publish(&gateway, "a", "next").await;
        assert_eq!(stream.data().await.as_deref(), Some("next"));
        let mut again = after(&gateway, "/events?channel=a", &id).await;
        assert_eq!(again.data().await.as_deref(), Some("next"), "no second gap after {cursor}");
    }
}

#[tokio::test]
async fn an_ended_channel_is_204_once_it_was_told() {
    let gateway = Gateway::start().await;
    let first = publish(&gateway, "a", "1").await;
    let receipt = gateway.publish(json!({ "channel": "a", "event": "done", "end": true })).await;
    let end = receipt["id"].as_str().unwrap().to_owned();

    let mut stream = after(&gateway, "/events?channel=a", &first).await;
    let event = stream.event().await.unwrap();
    assert_eq!((event.event.as_str(), event.id.as_str()), ("done", end.as_str()));
    assert_eq!(stream.data().await, None, "the stream ends with its channel");

    assert_eq!(after(&gateway, "/events?channel=a", &end).await.status, 204);
    assert_eq!(gateway.stream("/events?channel=a").await.status, 204, "or without a cursor");
    assert_eq!(after(&gateway, "/events?channel=a&channel=b", &end).await.status, 200, "the other has not ended");
    let mut stream = gateway.stream("/events?channel=a&last_event_id=earliest").await;
    assert_eq!(all(&mut stream, 2).await, ["1", ""]);
    assert_eq!(stream.data().await, None);

    // A gap is told before the end is.
    let mut stream = after(&gateway, "/events?channel=a", "garbage").await;
    assert_eq!(gap(&seen(&mut stream).await.1).1, "unknown_cursor");
    let Some(Decoded::Id(id)) = stream.next().await else { panic!("no cursor after the gap") };
    assert_eq!(stream.next().await, None);
    assert_eq!(after(&gateway, "/events?channel=a", &id).await.status, 204);

    publish(&gateway, "a", "open again").await;
    let mut stream = after(&gateway, "/events?channel=a", &end).await;
    assert_eq!(stream.data().await.as_deref(), Some("open again"));
}

#[tokio::test]
async fn on_any_node() {
    let redis = RedisServer::start().await;
    let nodes = [Gateway::on(&redis).start().await, Gateway::on(&redis).start().await];
    let publish = async |data: &str| redis.cli(&["FCALL", "sse_publish", "1", "sse:a", data]).await;
    let mut stream = nodes[0].stream("/events?channel=a").await;
    stream.opened().await;
    publish("0").await;
    let mut id = stream.event().await.unwrap().id;
    drop(stream);
    for round in 1..10 {
        for i in 0..3 {
            publish(&format!("{round}.{i}")).await;
        }
        let mut stream = after(&nodes[round % 2], "/events?channel=a", &id).await;
        for i in 0..3 {
            let event = stream.event().await.unwrap();
            assert_eq!(event.data, format!("{round}.{i}"));
            id = event.id;
        }
    }
}

#[tokio::test]
async fn without_room_for_all_pasts_everybody_is_served_in_turn() {
    let gateway = Gateway::builder().config("[replay]\nbytes = 100000\nmax_bytes = 100000").start().await;
    let data = "x".repeat(9_000);
    let mut first = Vec::new();
    for channel in 0..40 {
        let channel = channel.to_string();
        first.push(publish(&gateway, &channel, "first").await);
        for _ in 0..10 {
            publish(&gateway, &channel, &data).await;
        }
    }
    let paths: Vec<String> = (0..40).map(|channel| format!("/events?channel={channel}")).collect();
    let streams = paths.iter().zip(&first).map(async |(path, id)| {
        let mut stream = after(&gateway, path, id).await;
        all(&mut stream, 10).await.len()
    });
    assert_eq!(futures_util::future::join_all(streams).await, [10; 40]);
    assert_eq!(gateway.metric(READS).await, 40.0);
}

#[tokio::test]
async fn a_history_that_cannot_be_read_is_a_gap_on_that_channel_alone() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    for channel in ["good", "bad"] {
        redis.cli(&["FCALL", "sse_publish", "1", &format!("sse:{channel}"), "1"]).await;
    }
    let mut stream = gateway.stream("/events?channel=good&replay=1").await;
    let id = stream.event().await.unwrap().id;
    redis.cli(&["FCALL", "sse_publish", "1", "sse:bad", "2"]).await;
    redis.cli(&["DEL", "sse:bad"]).await;
    redis.cli(&["SET", "sse:bad", "no stream"]).await;
    redis.cli(&["FCALL", "sse_publish", "1", "sse:good", "2"]).await;
    let mut stream = after(&gateway, "/events?channel=good&channel=bad", &id).await;
    assert_eq!(gap(&seen(&mut stream).await.1), ("bad".into(), "expired".into()));
    assert_eq!(stream.data().await.as_deref(), Some("2"));
}

#[tokio::test]
async fn earliest_is_the_newest_of_what_is_too_much() {
    let gateway = Gateway::builder().config("[replay]\nevents = 5").start().await;
    for i in 0..8 {
        publish(&gateway, "a", &i.to_string()).await;
    }
    let mut stream = gateway.stream("/events?channel=a&last_event_id=earliest").await;
    assert_eq!(gap(&seen(&mut stream).await.1), ("a".into(), "too_far".into()));
    assert_eq!(all(&mut stream, 5).await, ["3", "4", "5", "6", "7"]);
}

#[tokio::test]
async fn ten_hundred_at_once_are_one_read() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).env("SSE_GATEWAY__LOG__LINGER", "0s").start().await;
    redis.cli(&["FCALL", "sse_publish", "1", "sse:a", "first"]).await;
    let mut first = gateway.stream("/events?channel=a&last_event_id=earliest").await;
    let id = first.event().await.unwrap().id;
    drop(first);
    for i in 0..20 {
        redis.cli(&["FCALL", "sse_publish", "1", "sse:a", &i.to_string()]).await;
    }
    eventually("the channel is left", async || {
        (gateway.metric("sse_gateway_broker_subscriptions").await == 0.0).then_some(())
    })
    .await;
    let before = reads(&redis).await;
    let streams = futures_util::future::join_all((0..1_000).map(|_| after(&gateway, "/events?channel=a", &id))).await;
    let mut counts = futures_util::future::join_all(streams.into_iter().map(async |mut stream| {
        let data = all(&mut stream, 20).await;
        assert_eq!(data[19], "19");
        data.len()
    }))
    .await;
    counts.dedup();
    assert_eq!(counts, [20]);
    assert_eq!(reads(&redis).await - before, 1);
}

/// How often history was read, as Redis counts it.
async fn reads(redis: &RedisServer) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]).await;
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xrevrange:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}
