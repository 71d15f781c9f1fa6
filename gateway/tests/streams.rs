//! What an event stream says: its bytes, its order, and when it ends.

use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;

use crate::support::{Gateway, Raw, Stream};

/// `retry: N`, N within 80-120 % of the default of 3 s.
fn assert_retry(line: &str) {
    let ms: u32 = line.strip_prefix("retry: ").and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
    assert!((2_400..=3_600).contains(&ms), "{line:?}");
}

/// `<ms>-<seq>_<tag>`, the tag five characters of 0-9a-v.
fn assert_cursor(cursor: &str) {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = cursor.split_once('_').and_then(|(position, tag)| Some((position.split_once('-')?, tag)));
    let Some(((ms, seq), tag)) = parts else { panic!("no cursor: {cursor:?}") };
    assert!(is_number(ms) && is_number(seq), "{cursor:?}");
    assert!(tag.len() == 5 && tag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'v')), "{cursor:?}");
}

#[tokio::test]
async fn the_bytes_of_a_stream() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.get("/events?channel=user:42").await;

    let head = raw.head().await;
    assert_eq!(head.status, "HTTP/1.1 200 OK");
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("access-control-allow-origin", "*"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(head.get(name), Some(value), "{name} in {head:?}");
    }
    for name in ["content-length", "content-encoding", "connection", "access-control-allow-credentials"] {
        assert_eq!(head.get(name), None, "{name} in {head:?}");
    }

    let opening = raw.body_until("\n\n").await + &raw.body_until("\n\n").await;
    let lines: Vec<&str> = opening.split('\n').collect();
    let [retry, id, "", "event: sse.open", data, again, "", ""] = lines[..] else { panic!("{opening:?}") };
    assert_retry(retry);
    assert_eq!(again, id);
    assert_cursor(id.strip_prefix("id: ").unwrap_or_else(|| panic!("{id:?}")));
    let open: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    let keys: Vec<&String> = open.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["connection", "node"]);
    assert!(open.as_object().unwrap().values().all(|value| value.as_str().is_some_and(|text| !text.is_empty())));

    let full = json!({"channel": "user:42", "event": "n", "data": {"b": 1.50, "a": "한글"}, "retry": 5000});
    let id = gateway.publish(full).await["id"].as_str().unwrap().to_owned();
    assert_cursor(&id);
    let expected = format!("event: n\ndata: {{\"a\":\"한글\",\"b\":1.5}}\nretry: 5000\nid: {id}\n\n");
    assert_eq!(raw.body_until("\n\n").await, expected);

    let receipt = gateway.publish(json!({"channel": "user:42"})).await;
    assert_eq!(raw.body_until("\n\n").await, format!("data:\nid: {}\n\n", receipt["id"].as_str().unwrap()));

    gateway.publish(json!({"channel": "user:42", "data": "x", "ephemeral": true})).await;
    assert_eq!(raw.body_until("\n\n").await, "data: x\n\n");
}

#[tokio::test]
async fn data_is_sent_as_it_was_written() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    for (json, data) in [
        (r#"" leading space""#, " leading space"),
        (r#""""#, ""),
        (r#""event: forged\nid: forged\n\n""#, "event: forged\nid: forged\n\n"),
        (r#""a\nb\r\nc\rd\n""#, "a\nb\nc\nd\n"),
        (r#"{"b":1.50,"a":[1e3,null],"b2":"é"}"#, r#"{"b":1.50,"a":[1e3,null],"b2":"é"}"#),
        (r#"12345678901234567890.10"#, "12345678901234567890.10"),
        ("null", "null"),
        (r#""\u2028안녕\ud83d\ude00""#, "\u{2028}안녕😀"),
    ] {
        let body = format!(r#"{{"channel":"a","data":{json}}}"#);
        let request = gateway.client.post(gateway.url("/publish")).header("content-type", "application/json");
        assert_eq!(request.body(body).send().await.unwrap().status(), 200, "{json}");
        let event = stream.event().await.unwrap();
        assert_eq!((event.event.as_str(), event.data.as_str()), ("message", data), "{json}");
    }
}

#[tokio::test]
async fn several_channels_come_in_the_order_of_publishing() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a&channel=b&channel=c").await;
    stream.opened().await;
    let channel = |number: usize| ["a", "b", "c"][number * 7 % 3];
    let data = |number: usize| format!("{} {number}", channel(number));
    // As one batch, so that many are there before any of them is read.
    let events: Vec<Value> = (0..600).map(|i| json!({"channel": channel(i), "data": data(i)})).collect();
    let answers = gateway.publish_batch(&events).await;
    let ids = answers.iter().map(|answer| answer["id"].as_str().unwrap().to_owned());
    let expected = (0..600).map(data).zip(ids);
    for expected in expected {
        let event = stream.event().await.unwrap();
        assert_eq!((event.data, event.id), expected);
    }
}

#[tokio::test]
async fn a_channel_named_twice_is_read_once() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a&channel=b&channel=a&channel=a").await;
    stream.opened().await;
    for (channel, data) in [("a", "1"), ("b", "2"), ("a", "3")] {
        gateway.publish(json!({"channel": channel, "data": data})).await;
        assert_eq!(stream.data().await.as_deref(), Some(data));
    }
}

#[tokio::test]
async fn many_events_reach_many_connections_in_order_and_once() {
    const EVENTS: usize = 5_000;
    // Nobody is too slow here, however busy the machine.
    let gateway = Gateway::builder().config("[log]\nevents = 8192\nbytes = 67108864").start().await;
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut stream = gateway.stream("/events?channel=a&channel=b").await;
        stream.opened().await;
        readers.spawn(async move {
            for expected in 0..EVENTS {
                let event = stream.event().await.unwrap_or_else(|| panic!("stream {number} ended before {expected}"));
                assert_eq!(event.data, expected.to_string(), "stream {number}");
            }
        });
    }
    let events: Vec<Value> =
        (0..EVENTS).map(|i| json!({"channel": if i % 3 == 0 { "a" } else { "b" }, "data": i})).collect();
    for batch in events.chunks(250) {
        let answers = gateway.publish_batch(batch).await;
        assert!(answers.iter().all(|answer| answer["receivers"] == 1), "{answers:?}");
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}

#[tokio::test]
async fn an_ephemeral_event_leaves_the_last_event_id_alone() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let durable = gateway.publish(json!({"channel": "a", "data": "durable"})).await;
    let ephemeral = gateway.publish(json!({"channel": "a", "data": "ephemeral", "ephemeral": true})).await;
    assert_eq!(ephemeral, json!({"id": null, "receivers": 1}));
    let id = durable["id"].as_str().unwrap();
    for data in ["durable", "ephemeral"] {
        let event = stream.event().await.unwrap();
        assert_eq!((event.data.as_str(), event.id.as_str()), (data, id));
    }
    assert!(String::from_utf8_lossy(&stream.bytes).ends_with("\n\ndata: ephemeral\n\n"));
}

#[tokio::test]
async fn format_json_wraps_every_event() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a&channel=b&format=json").await;
    stream.opened().await;
    let id = gateway.publish(json!({"channel": "b", "event": "n", "data": {"x": [1]}})).await["id"].clone();
    gateway.publish(json!({"channel": "a", "data": "text", "ephemeral": true})).await;
    let event = stream.event().await.unwrap();
    assert_eq!((&*event.event, &*event.id), ("message", id.as_str().unwrap()));
    let id = id.to_string();
    assert_eq!(event.data, format!(r#"{{"channel":"b","event":"n","id":{id},"data":{{"x":[1]}}}}"#));
    assert_eq!(stream.data().await.unwrap(), r#"{"channel":"a","event":null,"id":null,"data":"text"}"#);
}

#[tokio::test]
async fn channels_may_come_in_a_body() {
    let gateway = Gateway::start().await;
    let channels: Vec<String> = (0..64).map(|i| format!("{}{i}", "긴".repeat(80))).collect();
    let request = gateway.client.post(gateway.url("/events")).json(&json!({"channels": channels}));
    let mut stream = Stream::open(request).await;
    assert_eq!((stream.status, stream.headers["content-type"].to_str().unwrap()), (200, "text/event-stream"));
    stream.opened().await;
    for channel in &channels {
        gateway.publish(json!({"channel": channel, "data": channel})).await;
        assert_eq!(stream.data().await.as_deref(), Some(channel.as_str()));
    }
}

#[tokio::test]
async fn unknown_query_keys_are_ignored() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?_=1700&channel=a&x=%00%zz&&t=&channels=b&replay").await;
    assert_eq!(stream.status, 200);
    stream.opened().await;
    gateway.publish(json!({"channel": "b", "data": "not for us"})).await;
    gateway.publish(json!({"channel": "a", "data": "for us"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("for us"));
}

#[tokio::test]
async fn a_stream_ends_when_all_its_channels_have() {
    let gateway = Gateway::start().await;
    let mut one = gateway.stream("/events?channel=a").await;
    let mut two = gateway.stream("/events?channel=a&channel=b").await;
    one.opened().await;
    two.opened().await;

    gateway.publish(json!({"channel": "a", "data": "last", "end": true})).await;
    assert_eq!(one.data().await.as_deref(), Some("last"));
    assert_eq!(one.rest().await, [], "nothing follows an end");
    assert_eq!(two.data().await.as_deref(), Some("last"));
    gateway.metric_becomes("sse_gateway_connections_closed_total{reason=\"ended\"}", 1.0).await;

    gateway.publish(json!({"channel": "b", "data": "b goes on"})).await;
    assert_eq!(two.data().await.as_deref(), Some("b goes on"));
    gateway.publish(json!({"channel": "a", "data": "a again"})).await;
    assert_eq!(two.data().await.as_deref(), Some("a again"), "a publish after an end opens the channel again");

    gateway.publish(json!({"channel": "b", "end": true})).await;
    gateway.publish(json!({"channel": "a", "data": "a is open"})).await;
    assert_eq!(two.data().await.as_deref(), Some("a is open"));
    let end = gateway.publish(json!({"channel": "a", "end": true})).await;
    assert_eq!(two.rest().await, [Decoded::Id(end["id"].as_str().unwrap().to_owned())], "a bare end is an id alone");
}

#[tokio::test]
async fn the_end_of_a_stream_is_the_end_of_its_response() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.get("/events?channel=a").await;
    raw.head().await;
    raw.body_until("sse.open").await;
    gateway.publish(json!({"channel": "a", "data": "x", "end": true})).await;
    assert!(raw.rest_of_chunks().await.contains("\n\ndata: x\nid: "));
    // The last chunk has come: the connection is free for the next request.
    raw.get("/nothing").await;
    assert_eq!(raw.head().await.status, "HTTP/1.1 404 Not Found");
}

#[tokio::test]
async fn an_idle_stream_says_so_and_moves_its_id_along() {
    let gateway = Gateway::builder().config("keep_alive = \"1s\"").start().await;
    let mut idle = gateway.stream("/events?channel=idle").await;
    let mut busy = gateway.stream("/events?channel=busy").await;
    idle.opened().await;
    busy.opened().await;
    assert_eq!(idle.next().await, Some(Decoded::Comment(String::new())));

    let receipt = gateway.publish(json!({"channel": "busy", "data": "x"})).await;
    let id = receipt["id"].as_str().unwrap();
    assert_eq!(busy.data().await.as_deref(), Some("x"));
    // One may have been on its way; the next one knows.
    let mut said = Vec::new();
    while said.last() != Some(&Decoded::Id(id.to_owned())) {
        said.push(idle.next().await.unwrap());
        assert!(said.len() <= 3, "no keep-alive carries {id}: {said:?}");
    }
    assert!(String::from_utf8_lossy(&idle.bytes).ends_with(&format!("\n\n:\nid: {id}\n\n")));
    for _ in 0..2 {
        assert_eq!(
            idle.next().await,
            Some(Decoded::Comment(String::new())),
            "an id that has not moved is not said again"
        );
    }
}

#[tokio::test]
async fn a_heartbeat_may_be_an_event() {
    let gateway = Gateway::builder().config("keep_alive = \"1s\"\nheartbeat_event = \"ping\"").start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    for _ in 0..2 {
        let event = stream.event().await.unwrap();
        assert_eq!((&*event.event, &*event.data), ("ping", ""));
    }
    assert!(String::from_utf8_lossy(&stream.bytes).ends_with("event: ping\ndata:\n\n"));
}
