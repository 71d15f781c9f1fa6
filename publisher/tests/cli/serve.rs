//! `serve`: the publish routes over Redis, their bounds, and the operator port.

use publisher::metrics::METRICS;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use shared::metrics::series;
use testkit::{RedisServer, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Service, history, serve};

#[tokio::test]
async fn publish_notify_and_batch() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;

    let response = service.publish(&json!({"channel": "a", "event": "n", "data": {"x": 1}})).await;
    assert_eq!(response.status(), 200);
    let receipt: Value = response.json().await.unwrap();
    assert!(receipt["id"].as_str().is_some_and(|id| id.contains('_')), "{receipt}");
    assert_eq!(receipt["receivers"], 0);
    assert_eq!(history(&server, "a").await, [r#"{"event":"n","data":{"x":1}}"#]);

    let request = service.client.post(service.url("/api/sse/notify?userId=42&message=hi"));
    let response = soon("an answer", request.send()).await.unwrap();
    assert_eq!(response.status(), 404, "nobody is connected");
    assert_eq!(history(&server, "user:42").await, [r#"{"event":"notification","data":"hi"}"#]);

    let lines: Vec<_> = (0..100).map(|n| json!({"channel": "b", "data": n}).to_string()).collect();
    let request = service.client.post(service.url("/publish")).header(CONTENT_TYPE, "application/x-ndjson");
    let response = soon("an answer", request.body(lines.join("\n")).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap().lines().count(), 100);
    let expected: Vec<_> = (0..100).map(|n| json!({"data": n}).to_string()).collect();
    assert_eq!(history(&server, "b").await, expected);

    let request = service.client.post(service.url("/channels/c/events?event=n")).body("raw");
    assert_eq!(soon("an answer", request.send()).await.unwrap().status(), 200);
    assert_eq!(history(&server, "c").await, [r#"{"event":"n","data":"raw"}"#]);

    let response = soon("an answer", service.client.get(service.url("/nothing")).send()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
        (404, &"application/problem+json".parse().unwrap())
    );
}

#[tokio::test]
async fn the_configuration_holds_for_it() {
    let server = RedisServer::start().await;
    let config = "[limits]\nmax_data = 3\n[redis]\nprefix = 'other'\n[[channels]]\nprefix = 'live:'\nephemeral = true";
    let service = Service::start(serve(&server).config(config)).await;
    let response = service.publish(&json!({"channel": "a", "data": "four"})).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.json::<Value>().await.unwrap()["limit"], 3);
    let response = service.publish(&json!({"channel": "live:a", "data": "x"})).await;
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"id": null, "receivers": 0}));
    let response = service.publish(&json!({"channel": "live:a", "end": true})).await;
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<Value>().await.unwrap()["field"], "end");
    assert_eq!(service.publish(&json!({"channel": "a", "data": "x"})).await.status(), 200);
    assert_eq!(server.cli(&["XLEN", "other:a"]).await, "1");
}

#[tokio::test]
async fn the_operator_port() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;
    assert_eq!(service.admin("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(service.admin("/readyz").await, (200, r#"{"ready":true}"#.to_owned()));
    assert_eq!(service.admin("/publish").await.0, 404);
    assert_eq!(service.publish(&json!({"channel": "a"})).await.status(), 200);
    assert_eq!(service.publish(&json!({"channel": "a b"})).await.status(), 400);

    let (status, text) = service.admin("/metrics").await;
    assert_eq!(status, 200);
    for metric in METRICS.iter().chain(shared::process::METRICS) {
        for line in [format!("# HELP {} ", metric.name), format!("# TYPE {} ", metric.name)] {
            assert_eq!(text.lines().filter(|have| have.starts_with(&line)).count(), 1, "{line:?} in\n{text}");
        }
    }
    for series in series(METRICS) {
        assert!(text.lines().any(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series)), "{series}");
    }
    for sample in [
        "sse_publisher_redis_up 1",
        "sse_publisher_publish_seconds_count 1",
        "sse_publisher_publishes_total{kind=\"durable\",result=\"ok\"} 1",
        "sse_publisher_publishes_total{kind=\"durable\",result=\"refused\"} 1",
        "sse_publisher_publishes_total{kind=\"ephemeral\",result=\"ok\"} 0",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_cut() {
    let server = RedisServer::start().await;
    let config = "[limits]\nrequest_timeout = '1s'\n[redis]\ncommand_timeout = '500ms'";
    let service = Service::start(serve(&server).config(config)).await;
    let mut socket = TcpStream::connect(&service.public).await.unwrap();
    let head = "POST /publish HTTP/1.1\r\nHost: x\r\nX-Request-Id: late-1\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer and the end", socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.ends_with(
        r#"{"type":"urn:problem:sse:request-timeout","title":"request timeout","status":408,"detail":"the request was not read and carried out within 1s","request_id":"late-1"}"#
    ), "{answer}");
}

#[tokio::test]
async fn what_redis_refuses_is_no_outage() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;
    server.cli(&["SET", "sse:a", "no stream"]).await;
    let response = service.publish(&json!({"channel": "a"})).await;
    assert_eq!((response.status().as_u16(), response.headers().get(RETRY_AFTER)), (500, None));
    assert_eq!(response.json::<Value>().await.unwrap()["type"], "urn:problem:sse:broker-error");
    assert_eq!(service.admin("/readyz").await.0, 200);
}
