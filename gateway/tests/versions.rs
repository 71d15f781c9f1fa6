//! The same by HTTP/2, HTTP/1.1 and HTTP/1.0.

use reqwest::{Client, Version};
use serde_json::{Value, json};

use crate::support::{Gateway, Raw, Stream};

/// Established connections whose one end is `address`, the gateway's.
fn sockets(address: &str) -> usize {
    let port = address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let (local, established) = (format!(":{port:04X}"), "01");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[1].ends_with(&local) && row[3] == established).count()
}

#[tokio::test]
async fn many_streams_on_one_http2_connection() {
    let gateway = Gateway::start().await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let mut streams = Vec::new();
    for number in 0..100 {
        let url = gateway.url(&format!("/events?channel=all&channel=own:{number}"));
        let mut stream = Stream::open(client.get(url)).await;
        assert_eq!((stream.status, stream.headers["content-type"].to_str().unwrap()), (200, "text/event-stream"));
        stream.opened().await;
        streams.push(stream);
    }
    gateway.metric_becomes("sse_gateway_connections{lane=\"hyper\"}", 100.0).await;
    assert_eq!(sockets(&gateway.public), 1, "they share a connection");

    let publish = client.post(gateway.url("/publish")).json(&json!({"channel": "all", "data": "to all"}));
    let response = publish.send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 200));
    assert_eq!(response.json::<Value>().await.unwrap()["receivers"], 1);
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.data().await.as_deref(), Some("to all"), "stream {number}");
        gateway.publish(json!({"channel": format!("own:{number}"), "data": number})).await;
        assert_eq!(stream.data().await, Some(number.to_string()));
    }
    gateway.publish(json!({"channel": "all", "end": true})).await;
    gateway.publish(json!({"channel": "own:7", "end": true})).await;
    streams.remove(7).rest().await;
    gateway.metric_becomes("sse_gateway_connections{lane=\"hyper\"}", 99.0).await;
}

/// A chunked body does not know its end before it has come: that it was read whole must be noticed all the same.
#[tokio::test]
async fn chunked_publishes_share_a_connection() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    for number in 0..3 {
        let head = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
        let chunks = ["{\"channel\":\"a\",", &format!("\"data\":{number}}}"), ""];
        let body: String = chunks.map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).concat();
        raw.send(format!("{head}\r\n\r\n{body}")).await;
        let head = raw.head().await;
        assert_eq!((head.status.as_str(), head.get("connection")), ("HTTP/1.1 200 OK", None), "publish {number}");
        raw.body_of(&head).await;
    }
}

#[tokio::test]
async fn http_1_0_gets_no_chunks() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.send("GET /events?channel=a HTTP/1.0\r\n\r\n").await;
    let head = raw.head().await;
    assert!(head.status.ends_with(" 200 OK"), "{head:?}");
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    for name in ["transfer-encoding", "content-length"] {
        assert_eq!(head.get(name), None, "{name} in {head:?}");
    }
    let opening = raw.body_until("\n\n").await + &raw.body_until("\n\n").await;
    assert!(opening.starts_with("retry: ") && opening.contains("\n\nevent: sse.open\ndata: {"), "{opening:?}");

    let id = gateway.publish(json!({"channel": "a", "data": "x"})).await["id"].clone();
    assert_eq!(raw.body_until("\n\n").await, format!("data: x\nid: {}\n\n", id.as_str().unwrap()));
    let id = gateway.publish(json!({"channel": "a", "end": true})).await["id"].clone();
    let rest = String::from_utf8(raw.rest().await).unwrap();
    assert_eq!(rest, format!("id: {}\n\n", id.as_str().unwrap()), "the end of the connection is the end of the body");
}

fn publish(data: &str) -> String {
    let body = json!({"channel": "a", "data": data}).to_string();
    let length = body.len();
    format!(
        "POST /publish HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn publishes_share_an_http_1_1_connection() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let mut raw = Raw::connect(&gateway.public).await;
    for data in ["1", "2", "3"] {
        raw.send(publish(data)).await;
        let head = raw.head().await;
        assert_eq!(head.status, "HTTP/1.1 200 OK");
        let receipt: Value = serde_json::from_str(&raw.body_of(&head).await).unwrap();
        assert_eq!(receipt["receivers"], 1);
        assert_eq!(stream.data().await.as_deref(), Some(data));
    }
}

#[tokio::test]
async fn requests_may_be_pipelined() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let mut raw = Raw::connect(&gateway.public).await;
    let last = "GET /events?channel=a HTTP/1.1\r\nHost: gateway\r\n\r\n";
    raw.send(publish("1") + &publish("2") + last).await;
    for data in ["1", "2"] {
        let head = raw.head().await;
        assert_eq!(head.status, "HTTP/1.1 200 OK");
        raw.body_of(&head).await;
        assert_eq!(stream.data().await.as_deref(), Some(data));
    }
    assert_eq!(raw.head().await.get("content-type"), Some("text/event-stream"));
    raw.body_until("sse.open").await;
    gateway.publish(json!({"channel": "a", "data": "3"})).await;
    raw.body_until("\ndata: 3\n").await;
}

#[tokio::test]
async fn a_head_request_has_an_end() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(&gateway.public).await;
    for target in ["/events?channel=a", "/api/sse/connect?userId=42"] {
        raw.send(format!("HEAD {target} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await;
        let head = raw.head().await;
        assert_eq!(
            (&*head.status, head.get("content-type")),
            ("HTTP/1.1 200 OK", Some("text/event-stream")),
            "{target}"
        );
    }
    raw.get("/nothing").await;
    assert_eq!(raw.head().await.status, "HTTP/1.1 404 Not Found", "nothing stands between the heads");
    gateway.metric_becomes(&gateway.open(), 0.0).await;
}
