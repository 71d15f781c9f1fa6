//! The demo pages and what they ask for: who shows them, how they are served, and that a node alone has all of it.

use std::collections::BTreeSet;
use std::fs;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;
use testkit::RedisServer;

use crate::support::{Gateway, eventually, soon};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/demo");
const POLICY: &str =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

async fn request(gateway: &Gateway, method: Method, path: &str) -> Response {
    soon("an answer", gateway.client.request(method, gateway.url(path)).send()).await.unwrap()
}

async fn get(gateway: &Gateway, path: &str) -> Response {
    request(gateway, Method::GET, path).await
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// The path of each file, and the file.
fn files() -> Vec<(String, String)> {
    let names = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| !name.ends_with(".rs")).collect();
    assert!(names.len() > 12, "{names:?}");
    let pages = names.into_iter().map(|name| (format!("/demo/{name}"), name));
    pages.chain([("/".to_owned(), "index.html".to_owned())]).collect()
}

fn media_type(name: &str) -> &str {
    match name.rsplit('.').next().unwrap() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        other => panic!("what is {other}?"),
    }
}

#[tokio::test]
async fn every_file_with_its_type_and_its_headers() {
    let gateway = Gateway::start().await;
    for (path, name) in files() {
        let response = get(&gateway, &path).await;
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        for (header, expected) in [
            ("content-type", media_type(&name)),
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(value(&headers, header), Some(expected), "{path} {header}");
        }
        let text = fs::read_to_string(format!("{FOLDER}/{name}")).unwrap();
        assert_eq!(response.text().await.unwrap(), text, "{path}");

        let head = request(&gateway, Method::HEAD, &path).await;
        assert_eq!(head.status(), 200, "HEAD {path}");
        assert_eq!(value(head.headers(), "content-length"), Some(text.len().to_string().as_str()), "HEAD {path}");
        assert_eq!(head.text().await.unwrap(), "", "HEAD {path}");

        let tag = value(&headers, "etag").unwrap();
        let again = gateway.client.get(gateway.url(&path)).header("if-none-match", tag);
        let again = soon("an answer", again.send()).await.unwrap();
        assert_eq!((again.status().as_u16(), value(again.headers(), "etag")), (304, Some(tag)), "{path}");
        assert_eq!(value(again.headers(), "cache-control"), Some("no-cache"), "{path}");
        let other = gateway.client.get(gateway.url(&path)).header("if-none-match", "\"x\"");
        assert_eq!(soon("an answer", other.send()).await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_file_is_a_problem() {
    let gateway = Gateway::start().await;
    for path in
        ["/demo/nothing.js", "/demo/", "/demo", "/demo/..%2Fmod.rs", "/demo/%FF", "/demo/a/b.js", "/demo/tests.rs"]
    {
        let response = get(&gateway, path).await;
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(value(response.headers(), "content-type"), Some("application/problem+json"), "{path}");
    }
    let response = request(&gateway, Method::POST, "/demo/page.js").await;
    assert_eq!(response.status(), 405);
    assert_eq!(value(response.headers(), "content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn it_is_off_on_redis_and_where_it_is_not_wanted() {
    let server = RedisServer::start().await;
    let off = Gateway::builder().env("SSE_GATEWAY__DEMO", "false").config("keep_alive = \"1s\"").start().await;
    let on_redis = Gateway::on(&server).start().await;
    for gateway in [&off, &on_redis] {
        for path in ["/", "/demo/page.js", "/demo/jobs"] {
            assert_eq!(get(gateway, path).await.status(), 404, "{path}");
        }
        assert_eq!(request(gateway, Method::POST, "/chat").await.status(), 404);
    }
    // Nothing moves by itself either: a whole second of silence, and another.
    let mut stream = off.stream("/events?channel=demo:prices&channel=demo:nodes&last_event_id=earliest").await;
    stream.opened().await;
    let mut silent = 0;
    while silent < 3 {
        match stream.next().await {
            Some(Decoded::Comment(_)) => silent += 1,
            Some(Decoded::Event(event)) => panic!("{event:?}"),
            other => assert!(other.is_some(), "it ended"),
        }
    }
}

#[tokio::test]
async fn a_node_alone_has_what_the_pages_ask_for() {
    let gateway = Gateway::builder().config("node = \"alone\"").start().await;
    assert_eq!(get(&gateway, "/demo/jobs").await.text().await.unwrap(), r#"{"max_bytes":8388608}"#);

    let channels = "channel=demo:prices&channel=demo:metrics&channel=demo:orders&channel=demo:nodes";
    let mut stream = gateway.stream(&format!("/events?{channels}&format=json")).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        let event: Value = serde_json::from_str(&stream.data().await.unwrap()).unwrap();
        let (channel, name) = (event["channel"].as_str().unwrap(), event["event"].as_str().unwrap());
        if channel == "demo:nodes" {
            assert_eq!(event["data"], json!({"node": "alone", "connections": 1}));
            assert_eq!(event["id"], Value::Null, "{event}");
        } else {
            assert!(event["data"]["n"].is_u64(), "{event}");
        }
        seen.insert(format!("{channel} {name}"));
    }
    let expected = ["demo:metrics metric", "demo:nodes node", "demo:orders order", "demo:prices price"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Starts a job; where it is to be listened to.
async fn job(gateway: &Gateway) -> (String, String) {
    let post = gateway.client.post(gateway.url("/demo/jobs?name=a.txt")).body("one two\n");
    let response = soon("an answer", post.send()).await.unwrap();
    assert_eq!(response.status(), 202);
    let location = value(response.headers(), "location").unwrap().to_owned();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["location"], location);
    (answer["channel"].as_str().unwrap().to_owned(), location)
}

#[tokio::test]
async fn a_job_is_listened_to_cancelled_and_over() {
    let gateway = Gateway::start().await;
    let (channel, location) = job(&gateway).await;
    let mut stream = gateway.stream(&location).await;
    let started = stream.event().await.unwrap();
    assert_eq!((started.event.as_str(), started.data.as_str()), ("started", r#"{"name":"a.txt","bytes":8}"#));
    assert_eq!(stream.event().await.unwrap().event, "progress");
    let answer = request(&gateway, Method::POST, &format!("/channels/{channel}/cancel")).await;
    assert_eq!(answer.text().await.unwrap(), r#"{"receivers":1}"#);
    let mut last = None;
    while let Some(event) = stream.event().await {
        last = Some((event.event, event.data));
    }
    assert_eq!(last, Some(("cancelled".to_owned(), "{}".to_owned())));
    // A page that comes back has all of it, and is told that there is no more.
    let mut again = gateway.stream(&location).await;
    assert_eq!(again.event().await.unwrap().event, "started");
}

#[tokio::test]
async fn a_node_that_stops_ends_its_jobs_and_answers_and_their_readers_hear_it() {
    let gateway = Gateway::builder().config("[drain]\ngrace = \"0s\"").start().await;
    let (_, location) = job(&gateway).await;
    let mut stream = gateway.stream(&location).await;
    assert_eq!(stream.event().await.unwrap().event, "started");
    let ask = gateway.client.post(gateway.url("/chat")).header("accept", "application/json");
    let answer = soon("an answer", ask.json(&json!({"question": "What is SSE?"})).send()).await.unwrap();
    assert_eq!(answer.status(), 202);
    let mut answer = gateway.stream(value(answer.headers(), "location").unwrap()).await;
    assert_eq!(answer.event().await.unwrap().event, "question");

    assert_eq!(gateway.stop().await.status.code(), Some(0));
    let (mut job_said, mut chat_said) = (None, None);
    while let Some(event) = stream.event().await {
        job_said = Some((event.event, event.data));
    }
    while let Some(event) = answer.event().await {
        chat_said = Some((event.event, event.data));
    }
    assert_eq!(job_said, Some(("failed".to_owned(), r#"{"detail":"stopped"}"#.to_owned())));
    let (name, data) = chat_said.unwrap();
    assert_eq!(name, "failed");
    assert!(data.contains(r#""reason":"stopped""#), "{data}");
}

/// A question and its answer, as the stream that the request itself gets.
#[tokio::test]
async fn a_node_alone_answers_questions() {
    let gateway = Gateway::start().await;
    let ask = gateway.client.post(gateway.url("/chat")).json(&json!({"question": "What is SSE?"}));
    let mut stream = crate::support::Stream::open(ask).await;
    assert_eq!(stream.status, 200);
    let location = value(&stream.headers, "location").unwrap().to_owned();
    assert!(location.starts_with("/events?channel=chat%3A") && location.ends_with("&last_event_id=earliest"));
    let question = stream.event().await.unwrap();
    assert_eq!((question.event.as_str(), question.data.as_str()), ("question", r#"{"text":"What is SSE?"}"#));
    assert_eq!(stream.event().await.unwrap().event, "chunk");
}

#[tokio::test]
async fn nodes_on_redis_tell_their_connections_to_each_other() {
    let server = RedisServer::start().await;
    let start = |name: &str| {
        Gateway::on(&server).env("SSE_GATEWAY__DEMO", "true").config(&format!("node = \"{name}\"")).start()
    };
    let (one, other) = (start("one").await, start("other").await);
    assert_eq!(get(&one, "/").await.status(), 200);
    assert_eq!(get(&one, "/demo/jobs").await.status(), 404, "those are the publisher's");
    let mut streams =
        [one.stream("/events?channel=demo:nodes").await, other.stream("/events?channel=demo:nodes").await];
    let _second = one.stream("/events?channel=a").await;
    for stream in &mut streams {
        let mut wanted = BTreeSet::from([r#"{"node":"one","connections":2}"#, r#"{"node":"other","connections":1}"#]);
        while !wanted.is_empty() {
            let event = stream.event().await.unwrap();
            assert_eq!(event.event, "node");
            wanted.remove(event.data.as_str());
        }
    }
    assert_eq!(server.cli(&["EXISTS", "sse:demo:nodes"]).await, "0", "live only");

    // It goes on by itself once Redis is back, and says nothing of a node without connections.
    drop(streams);
    one.metric_becomes(&one.open(), 1.0).await;
    other.metric_becomes(&other.open(), 0.0).await;
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let mut stream = eventually("a stream", async || {
        let mut stream = one.stream("/events?channel=demo:nodes").await;
        stream.next().await.is_some().then_some(stream)
    })
    .await;
    for _ in 0..3 {
        let event = stream.event().await.unwrap();
        assert!(event.data.starts_with(r#"{"node":"one","#), "{}", event.data);
    }
}
