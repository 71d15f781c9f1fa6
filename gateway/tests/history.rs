//! History over HTTP: read and erased on the embedded broker by the real binary; and the same on every broker.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use gateway::broker::memory::{MemoryBroker, MemoryLimits};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use publisher::census::Census;
use publisher::http::Limits;
use publisher::{Cancel, Channels, Publish, Publisher};
use reqwest::Response;
use serde_json::{Value, json};
use shared::redis::Settings;
use testkit::RedisServer;
use tower::ServiceExt as _;

use crate::support::{Gateway, soon};

async fn get(gateway: &Gateway, path: &str) -> Response {
    soon("an answer", gateway.client.get(gateway.url(path)).send()).await.unwrap()
}

async fn history(gateway: &Gateway, channel: &str, query: &str) -> Value {
    let response = get(gateway, &format!("/channels/{channel}/events{query}")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    response.json().await.unwrap()
}

async fn erase(gateway: &Gateway, channel: &str) -> Value {
    let request = gateway.client.delete(gateway.url(&format!("/channels/{channel}")));
    let response = soon("an answer", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_stream_and_the_history_say_the_same() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=user:42").await;
    stream.opened().await;
    let mut receipts = Vec::new();
    for number in 0..3 {
        let receipt = gateway.publish(json!({"channel": "user:42", "event": "n", "data": {"number": number}})).await;
        receipts.push(receipt["id"].clone());
    }
    let page = history(&gateway, "user:42", "").await;
    let events: Vec<_> =
        (0..3).map(|number| json!({"id": receipts[number], "event": "n", "data": {"number": number}})).collect();
    let whole = json!({
        "channel": "user:42", "events": events, "last": receipts[2], "ended": false, "more": false, "gap": null,
    });
    assert_eq!(page, whole);
    let mut cursor = String::new();
    for id in &receipts[..2] {
        cursor = stream.event().await.unwrap().id;
        assert_eq!(cursor, *id);
    }
    let page = history(&gateway, "user:42", &format!("?after={cursor}&limit=1")).await;
    assert_eq!((&page["events"], &page["more"]), (&json!([events[2]]), &json!(false)));
}

#[tokio::test]
async fn erasing_is_told_to_who_comes_back_and_not_to_who_is_there() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let first = gateway.publish(json!({"channel": "a", "data": 1})).await["id"].clone();
    let last = gateway.publish(json!({"channel": "a", "data": 2})).await["id"].clone();
    assert_eq!(erase(&gateway, "a").await, json!({"channel": "a", "erased": true}));
    assert_eq!(erase(&gateway, "a").await, json!({"channel": "a", "erased": false}));
    let after = async |id: &Value| history(&gateway, "a", &format!("?after={}", id.as_str().unwrap())).await;
    let page = after(&first).await;
    assert_eq!((&page["events"], &page["gap"], &page["last"]), (&json!([]), &json!("expired"), &last));
    assert_eq!(after(&last).await["gap"], Value::Null);

    let next = gateway.publish(json!({"channel": "a", "data": 3})).await["id"].clone();
    assert_eq!(after(&first).await["gap"], "trimmed");
    assert_eq!(after(&last).await["gap"], Value::Null);
    assert_eq!(after(&last).await["events"], json!([{"id": next, "data": 3}]));
    assert_eq!(history(&gateway, "a", "").await["gap"], "trimmed");
    let heard = [stream.data().await, stream.data().await, stream.data().await];
    assert_eq!(heard, ["1", "2", "3"].map(|data| Some(data.to_owned())), "who was there missed nothing");
}

#[tokio::test]
async fn another_process_is_another_life_of_the_data() {
    let before = Gateway::start().await;
    let id = before.publish(json!({"channel": "a", "data": 1})).await["id"].clone();
    let after = Gateway::start().await;
    after.publish(json!({"channel": "a", "data": 2})).await;
    let page = history(&after, "a", &format!("?after={}", id.as_str().unwrap())).await;
    assert_eq!((&page["gap"], &page["events"][0]["data"]), (&json!("data_lost"), &json!(2)));
}

#[tokio::test]
async fn a_large_history_comes_in_bounded_pages() {
    let gateway = Gateway::start().await;
    let data = "x".repeat(65_000);
    let lines: Vec<_> = (0..200).map(|n| json!({"channel": "a", "data": format!("{n} {data}")})).collect();
    gateway.publish_batch(&lines).await;
    let (mut pages, mut read, mut query) = (0, 0, "?limit=1000".to_owned());
    loop {
        let response = get(&gateway, &format!("/channels/a/events{query}")).await;
        let body = response.bytes().await.unwrap();
        assert!(body.len() < (4 << 20) + (64 << 10), "{}", body.len());
        let page: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(page["gap"], Value::Null);
        for event in page["events"].as_array().unwrap() {
            assert!(event["data"].as_str().unwrap().starts_with(&format!("{read} ")));
            read += 1;
            query = format!("?limit=1000&after={}", event["id"].as_str().unwrap());
        }
        pages += 1;
        if page["more"] == false {
            break;
        }
    }
    assert_eq!((read, pages), (200, 4));
}

/// The routes over a broker, and what keeps that alive.
struct Service {
    routes: Router,
    _server: Option<RedisServer>,
}

impl Service {
    fn new(broker: Arc<impl Publish + Channels + Cancel + Census>, server: Option<RedisServer>) -> Self {
        let routes = publisher::http::router(broker.clone(), broker.clone(), broker.clone(), broker, Limits::default());
        let routes = routes.layer(axum::Extension(shared::auth::Access::Open));
        Self { routes, _server: server }
    }

    async fn redis(server: RedisServer) -> Self {
        let publisher = Publisher::connect(&Settings::new(&server.url())).await.unwrap();
        Self::new(Arc::new(publisher), Some(server))
    }

    async fn send(&self, method: &str, uri: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (head, body) = self.routes.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// Whatever is asked: `{n}` stands for the cursor of the n-th publish.
async fn answers(service: &Service) -> Vec<String> {
    let mut cursors: Vec<String> = Vec::new();
    let mut answers = Vec::new();
    for step in STEPS {
        let (method, uri, body) = step;
        let mut uri = uri.to_owned();
        for (number, cursor) in cursors.iter().enumerate() {
            uri = uri.replace(&format!("{{{number}}}"), cursor);
        }
        let (status, mut answer) = service.send(method, &uri, body).await;
        if method == "POST" && status == 200 {
            let receipt: Value = serde_json::from_str(&answer).unwrap();
            cursors.extend(receipt["id"].as_str().map(str::to_owned));
        }
        for (number, cursor) in cursors.iter().enumerate() {
            answer = answer.replace(cursor, &format!("{{{number}}}"));
        }
        answers.push(format!("{method} {} {status} {answer}", step.1));
    }
    answers
}

const STEPS: [(&str, &str, &str); 27] = [
    ("GET", "/channels/a/events", ""),
    ("DELETE", "/channels/a", ""),
    ("POST", "/publish", r#"{"channel":"a","event":"n","data":{"b" : 1.50,"a":1e400},"retry":5}"#),
    ("POST", "/publish", r#"{"channel":"a","data":"한\n\u0000"}"#),
    ("POST", "/publish", r#"{"channel":"b","data":null}"#),
    ("POST", "/publish", r#"{"channel":"a","ephemeral":true}"#),
    ("POST", "/publish", r#"{"channel":"a"}"#),
    ("GET", "/channels/a/events", ""),
    ("GET", "/channels/a/events?limit=2", ""),
    ("GET", "/channels/a/events?after={0}", ""),
    ("GET", "/channels/a/events?after={2}", ""),
    ("GET", "/channels/b/events?after={3}", ""),
    ("GET", "/channels/none/events?after={3}", ""),
    ("GET", "/channels/a/events?after=0-0_00000", ""),
    ("GET", "/channels/a/events?after=3.{0}", ""),
    ("GET", "/channels/a/events?after=x", ""),
    ("GET", "/channels/a/events?limit=0", ""),
    ("GET", "/channels/sse.a/events", ""),
    ("POST", "/publish", r#"{"channel":"a","end":true}"#),
    ("GET", "/channels/a/events?after={1}", ""),
    ("DELETE", "/channels/a", ""),
    ("DELETE", "/channels/a", ""),
    ("GET", "/channels/a/events?after={0}", ""),
    ("GET", "/channels/a/events?after={4}", ""),
    ("POST", "/publish", r#"{"channel":"a","data":"open again"}"#),
    ("GET", "/channels/a/events?after={3}", ""),
    ("GET", "/channels/a/events?after={4}", ""),
];

#[tokio::test]
async fn all_brokers_answer_alike() {
    let embedded = answers(&Service::new(Arc::new(MemoryBroker::new(MemoryLimits::default())), None)).await;
    let expected = [
        r#"{"channel":"a","events":["#,
        r#"{"id":"{0}","event":"n","data":{"b" : 1.50,"a":1e400},"retry":5},"#,
        r#"{"id":"{1}","data":"한\n\u0000"},{"id":"{3}"}"#,
        r#"],"last":"{3}","ended":false,"more":false,"gap":null}"#,
    ];
    assert_eq!(embedded[7], format!("GET /channels/a/events 200 OK {}", expected.concat()));
    let expected = r#"{"channel":"a","events":[],"last":"{4}","ended":true,"more":false,"gap":"expired"}"#;
    assert_eq!(embedded[22], format!("GET /channels/a/events?after={{0}} 200 OK {expected}"));
    for server in [RedisServer::start().await, RedisServer::builder().valkey().start().await] {
        let redis = answers(&Service::redis(server).await).await;
        for (redis, embedded) in redis.iter().zip(&embedded) {
            assert_eq!(redis, embedded);
        }
    }
}
