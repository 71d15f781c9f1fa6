//! The status page on the operator port, and that its stream tells the truth while a node is busy, stops or has lost Redis.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use testkit::{RedisServer, eventually, eventually_within, free_ports, soon};

use crate::support::{Gateway, Raw, Stream};

mod access;
mod watchers;

fn get(gateway: &Gateway, path: &str) -> RequestBuilder {
    gateway.client.get(format!("http://{}{path}", gateway.admin))
}

async fn watch(gateway: &Gateway) -> Stream {
    let stream = Stream::open(get(gateway, "/status")).await;
    assert_eq!((stream.status, &stream.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    stream
}

/// As [`watch`] does, by a name that loopback has.
async fn ask_by_hand(gateway: &Gateway, raw: &mut Raw) {
    raw.send(format!("GET /status HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin)).await;
}

/// The next text.
async fn next(stream: &mut Stream) -> Value {
    let event = stream.event().await.expect("the stream of the status ended");
    assert_eq!(event.event, "status");
    serde_json::from_str(&event.data).unwrap()
}

/// Reads on until what is told is as `wanted`.
async fn until(stream: &mut Stream, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let told = tokio::time::timeout(testkit::PATIENCE, async {
        loop {
            last = next(stream).await;
            if wanted(&last) {
                return;
            }
        }
    });
    assert!(told.await.is_ok(), "{what} was not told; last: {last}");
    last
}

fn names(status: &Value) -> Vec<&str> {
    status["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

fn said(status: &Value, text: &str) -> bool {
    status["log"].as_array().unwrap().iter().any(|entry| entry["text"].as_str().unwrap().contains(text))
}

#[tokio::test]
async fn the_page_and_its_files_come_with_headers_that_hold_a_browser_to_them() {
    let gateway = Gateway::start().await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/view.js", "text/javascript; charset=utf-8"),
        ("/chart.js", "text/javascript; charset=utf-8"),
    ] {
        let response = gateway.admin(path).await;
        assert_eq!(response.status(), 200, "{path}");
        for (name, value) in [
            ("content-type", media_type),
            (
                "content-security-policy",
                "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
            ),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(response.headers()[name], value, "{path} {name}");
        }
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{path}");
        let tag = response.headers()["etag"].clone();
        let again = get(&gateway, path).header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
    let posted = gateway.client.post(format!("http://{}/status", gateway.admin)).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), posted.headers()["allow"].to_str().unwrap()), (405, "GET,HEAD"));
    let watched = get(&gateway, "/status").header("origin", "https://elsewhere.example").send().await.unwrap();
    assert!(!watched.headers().contains_key("access-control-allow-origin"));
    assert_eq!(watched.headers()["cache-control"], "no-cache, no-transform");
}

#[tokio::test]
async fn a_node_alone_tells_what_it_has() {
    let gateway = Gateway::builder().env("SSE_GATEWAY__NODE", "alone").start().await;
    let mut streams = Vec::new();
    for path in ["/events?channel=chat", "/events?channel=chat&channel=news"] {
        let mut stream = gateway.stream(path).await;
        stream.opened().await;
        streams.push(stream);
    }
    let mut status = watch(&gateway).await;
    let first = next(&mut status).await;
    let begins = b"retry: 2000\n\nevent: status\ndata: {\"now\":";
    assert!(status.bytes.starts_with(begins), "{:?}", String::from_utf8_lossy(&status.bytes));
    assert_eq!((&first["node"], &first["state"], &first["connections"]), (&json!("alone"), &json!("ready"), &json!(2)));
    assert_eq!((&first["version"], &first["channels"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(2)));
    assert_eq!((&first["broker"]["kind"], &first["broker"]["state"]), (&json!("embedded"), &json!("up")));
    let top = json!([{"channel": "chat", "connections": 2}, {"channel": "news", "connections": 1}]);
    assert_eq!(first["top"], top);
    until(&mut status, "this node among the nodes", |told| told["all"] == 2 && names(told) == ["alone"]).await;

    for n in 0..10 {
        gateway.publish(json!({"channel": "chat", "data": n})).await;
    }
    let rates = until(&mut status, "a rate", |told| told["rates"]["delivered"].as_f64().unwrap() > 0.0).await;
    assert!(rates["rates"]["received"].as_f64().unwrap() > 0.0, "{rates}");
    assert!(rates["latency"]["p50"].as_f64().unwrap() < 1_000.0, "{rates}");
    // What comes later has it too, as history.
    let history = until(&mut status, "a point with events", |told| {
        let history = &told["history"]["delivered"];
        history.as_array().unwrap().iter().any(|rate| rate.as_f64().is_some_and(|rate| rate > 0.0))
    });
    let history = history.await;
    let mut late = watch(&gateway).await;
    let late = next(&mut late).await;
    let points = |told: &Value| told["history"]["delivered"].as_array().unwrap().len();
    assert!(points(&late) >= points(&history), "{late}");
    assert!(said(&late, "this node has started, version"), "{late}");
    drop(streams);
    until(&mut status, "that they went", |told| told["connections"] == 0).await;
}

#[tokio::test]
async fn it_goes_on_while_redis_is_away() {
    let mut redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).config("[redis]\nunready_after = \"1s\"").start().await;
    let mut status = watch(&gateway).await;
    let up = until(&mut status, "Redis", |told| told["broker"]["state"] == "up" && !told["all"].is_null()).await;
    assert_eq!((&up["broker"]["kind"], &up["broker"]["address"]), (&json!("redis"), &json!(redis.url())));
    redis.stop().await;
    let away = until(&mut status, "that Redis is away", |told| told["state"] == "broker_away").await;
    assert_eq!(away["broker"]["state"], "away");
    assert!(said(&away, "the session with Redis is lost: "), "{away}");
    // The last list is kept, and whoever comes now sees it too.
    let mut late = watch(&gateway).await;
    let failed = |told: &Value| !told["census"]["error"].is_null();
    let late = until(&mut late, "that nodes cannot be asked for", failed).await;
    assert!(late["census"]["age"].as_f64().unwrap() > 0.0, "{late}");
    assert_eq!((names(&late).len(), &late["nodes"][0]["own"]), (1, &json!(true)));
    redis.restart().await;
    let back = until(&mut status, "that Redis is back", |told| told["state"] == "ready").await;
    assert!(said(&back, "the session with Redis is established again, after "), "{back}");
    until(&mut status, "a new list", |told| told["census"]["error"].is_null()).await;
}

#[tokio::test]
async fn it_is_there_before_redis_is() {
    let [port, admin] = free_ports();
    let (url, admin) = (format!("redis://127.0.0.1:{port}"), format!("127.0.0.1:{admin}"));
    let builder = Gateway::builder().args(&["--redis-url", &url, "--wait-for-redis", "60s", "--admin-listen", &admin]);
    let (mut child, _folder) = builder.start_piped();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async || client.get(format!("http://{admin}/status")).send().await.ok();
    let response = eventually("the operator port", ask).await;
    assert_eq!(response.status(), 200);
    let mut status = Stream::open(client.get(format!("http://{admin}/status"))).await;
    let told = next(&mut status).await;
    assert_eq!((&told["state"], &told["broker"]["state"]), (&json!("starting"), &json!("starting")));
    assert_eq!((&told["all"], names(&told).len()), (&Value::Null, 1), "{told}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn it_goes_on_while_the_node_stops_and_ends_with_it() {
    let mut gateway = Gateway::builder().config("[drain]\ngrace = \"2s\"").start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let mut raw = Raw::connect(&gateway.admin).await;
    ask_by_hand(&gateway, &mut raw).await;
    assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK");
    raw.body_until("\"state\":\"ready\"").await;
    let mut status = watch(&gateway).await;
    gateway.signal("TERM").await;
    let stopping = until(&mut status, "that it stops", |told| told["state"] == "draining").await;
    assert!(stopping["stopping"]["for"].as_f64().unwrap() <= 30.0, "{stopping}");
    assert_eq!((&stopping["stopping"]["deadline"], &stopping["nodes"][0]["state"]), (&json!(30.0), &json!("draining")));
    assert!(said(&stopping, "this node is stopping"), "{stopping}");
    // Whoever comes only now.
    assert_eq!(next(&mut watch(&gateway).await).await["connections"], 1);
    raw.rest_of_chunks().await;
    assert_eq!(raw.rest().await, b"", "its last chunk, then the end");
    assert!(gateway.exit().await.status.success());
}

#[tokio::test]
async fn it_is_none_of_the_connections_that_a_node_may_have() {
    let gateway = Gateway::builder().config("[limits]\nmax_connections = 1").start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let mut turned_away = gateway.stream("/events?channel=a").await;
    turned_away.rest().await;
    let mut status = watch(&gateway).await;
    let full = |told: &Value| told["connections"] == 1 && told["max_connections"] == 1;
    assert!(full(&next(&mut status).await));
    gateway.stream("/events?channel=a").await.rest().await;
    until(&mut status, "the limit", |told| said(told, "limits.max_connections")).await;
}

#[tokio::test]
async fn a_node_that_is_killed_is_gone_from_it_within_15_seconds() {
    let redis = RedisServer::start().await;
    let start = async |name: &str| Gateway::on(&redis).env("SSE_GATEWAY__NODE", name).start().await;
    let (one, mut two) = (start("one").await, start("two").await);
    let mut stream = two.stream("/events?channel=a").await;
    stream.opened().await;
    let mut status = watch(&one).await;
    let both = |told: &Value| names(told) == ["one", "two"] && told["all"] == 1;
    let told = until(&mut status, "both nodes", both).await;
    let of_two = &told["nodes"][1];
    assert_eq!(
        (&of_two["own"], &of_two["state"], &of_two["connections"]),
        (&json!(false), &json!("serving"), &json!(1))
    );
    assert_eq!(of_two["version"], env!("CARGO_PKG_VERSION"));
    two.signal("KILL").await;
    two.exit().await;
    let gone = Duration::from_secs(15);
    eventually_within(gone, "two is gone", async || {
        let told = next(&mut status).await;
        (names(&told) == ["one"] && told["all"] == 0).then_some(())
    })
    .await;
    until(&mut status, "a word of it", |told| said(told, "two is gone; it did not say that it was stopping")).await;
    let again = start("two").await;
    until(&mut status, "that it is back", |told| names(told) == ["one", "two"] && said(told, "two came")).await;
    assert!(soon("the end of two", again.stop()).await.status.success());
    // At once where it had time to say that it was stopping.
    eventually_within(gone, "that it left", async || (names(&next(&mut status).await) == ["one"]).then_some(())).await;
}

/// Redis has lost who was there, and is back before anybody missed it: those who are there say it again within seconds.
#[tokio::test]
async fn nodes_whose_word_redis_has_lost_are_not_gone() {
    let redis = RedisServer::start().await;
    let start = async |name: &str| Gateway::on(&redis).env("SSE_GATEWAY__NODE", name).start().await;
    let (one, two) = (start("one").await, start("two").await);
    let mut stream = two.stream("/events?channel=a").await;
    stream.opened().await;
    let mut status = watch(&one).await;
    let is_whole = |told: &Value| names(told) == ["one", "two"] && told["all"] == 1;
    let mut last = until(&mut status, "both nodes", is_whole).await;
    // The next list, and the next word of two: what was a second older each time is younger.
    let list = |told: &Value| told["census"]["age"].as_f64().unwrap();
    let word = |told: &Value| told["nodes"][1]["age"].as_f64().unwrap();
    loop {
        let told = next(&mut status).await;
        if list(&told) < list(&std::mem::replace(&mut last, told.clone())) {
            break;
        }
    }
    // That two came, where one was there before it.
    let changes = |told: &Value| -> Vec<Value> {
        told["log"].as_array().unwrap().iter().filter(|entry| entry["about"] == "nodes").cloned().collect()
    };
    let before = changes(&last);
    two.signal("STOP").await;
    redis.cli(&["FLUSHALL"]).await;
    let mut is_stopped = true;
    loop {
        let told = next(&mut status).await;
        assert!(is_whole(&told) && changes(&told) == before, "{told}");
        let (is_listed, is_said) = (list(&told) < list(&last), word(&told) < word(&last));
        if is_stopped && is_listed {
            two.signal("CONT").await;
            is_stopped = false;
        } else if !is_stopped && is_said {
            break;
        }
        last = told;
    }
}
