//! A request's name: taken or made, answered, in the problem and in the log.

use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::support::{Gateway, Lane, Raw, soon};

const X_REQUEST_ID: &str = "x-request-id";

fn named(response: &Response) -> String {
    let mut ids = response.headers().get_all(X_REQUEST_ID).iter();
    let (Some(id), None) = (ids.next(), ids.next()) else { panic!("one name: {:?}", response.headers()) };
    id.to_str().unwrap().to_owned()
}

fn is_made(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

#[tokio::test]
async fn every_answer_has_the_name_of_its_request() {
    let gateway = Gateway::start().await;
    let mut made = Vec::new();
    for path in ["/events?channel=a", "/events", "/nothing", "/", "/publish", "/api/sse/connect?userId=1"] {
        for sent in [None, Some("abc-1"), Some("x".repeat(128).as_str())] {
            let mut request = gateway.client.get(gateway.url(path));
            if let Some(id) = sent {
                request = request.header(X_REQUEST_ID, id);
            }
            let response = soon("an answer", request.send()).await.unwrap();
            let id = named(&response);
            match sent {
                Some(sent) => assert_eq!(id, sent, "{path}"),
                None => made.push(id),
            }
        }
    }
    assert!(made.iter().all(|id| is_made(id)), "{made:?}");
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 6, "no two requests have one name: {made:?}");
}

#[tokio::test]
async fn names_that_are_none_are_not_taken() {
    let gateway = Gateway::start().await;
    let long = "x".repeat(129);
    for lines in [
        "X-Request-Id:\r\n",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: a\r\nX-Request-Id: a\r\n",
        "X-Request-Id: \u{e9}\r\n",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("X-Request-Id: {long}\r\n")])
    {
        for path in ["/events?channel=a", "/nothing"] {
            let mut raw = Raw::connect(&gateway.public).await;
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n")).await;
            let head = raw.head().await;
            assert!(head.get(X_REQUEST_ID).is_some_and(is_made), "{lines:?}: {head:?}");
        }
    }
}

/// What is known of a stream's request before it opens is the same on either lane, whatever comes of it.
#[tokio::test]
async fn both_lanes_take_and_tell_it() {
    for lane in [Lane::Direct, Lane::Hyper] {
        let gateway = Gateway::builder().lane(lane).start().await;
        let stream = async |lines: &str| {
            let mut raw = Raw::connect(&gateway.public).await;
            raw.send(format!("GET /events?channel=a HTTP/1.1\r\nHost: x\r\nOrigin: http://o.example\r\n{lines}\r\n"))
                .await;
            let head = raw.head().await;
            assert_eq!(head.status, "HTTP/1.1 200 OK");
            let exposed = head.get("access-control-expose-headers").unwrap();
            assert!(exposed.split(',').any(|name| name == X_REQUEST_ID), "{exposed}");
            assert!(raw.body_until("event: sse.open\n").await.starts_with("retry: "));
            head.get(X_REQUEST_ID).unwrap().to_owned()
        };
        assert_eq!(stream("X-Request-ID: lb-7f\r\n").await, "lb-7f", "{lane:?}");
        let made = stream("").await;
        assert!(is_made(&made), "{lane:?}: {made}");

        let mut raw = Raw::connect(&gateway.public).await;
        raw.send("GET /events HTTP/1.1\r\nHost: x\r\nX-Request-Id: \"lb\"-8\r\n\r\n").await;
        let head = raw.head().await;
        assert_eq!((&*head.status, head.get(X_REQUEST_ID)), ("HTTP/1.1 400 Bad Request", Some("\"lb\"-8")));
        let problem: Value = serde_json::from_str(&raw.body_of(&head).await).unwrap();
        assert_eq!(problem["request_id"], "\"lb\"-8", "{problem}");
    }
}

#[tokio::test]
async fn the_log_names_the_request() {
    for lane in [Lane::Direct, Lane::Hyper] {
        let builder = Gateway::builder().lane(lane).env("SSE_GATEWAY__TELEMETRY__FORMAT", "json").log_piped();
        let debug = "info,gateway=debug,publisher=debug";
        let mut gateway = builder.env("SSE_GATEWAY__TELEMETRY__FILTER", debug).start().await;
        let mut log = gateway.take_log();
        let ask = async |path: &str, id: &str| {
            gateway.fresh().get(gateway.url(path)).header(X_REQUEST_ID, id).send().await.unwrap()
        };
        assert_eq!(ask("/events?access_token=hunter2", "wrong-1").await.status(), 400);
        let mut opened = gateway.stream("/events?channel=a&channel=b").await;
        let connection = opened.opened().await["connection"].clone();
        let named = opened.headers[X_REQUEST_ID].to_str().unwrap().to_owned();
        gateway.publish(json!({"channel": "a", "data": "x"})).await;
        drop(opened);
        gateway.signal("TERM").await;
        let mut text = String::new();
        soon("the log's end", log.read_to_string(&mut text)).await.unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |id: &str| -> Vec<&Value> {
            lines
                .iter()
                .filter(|line| line["spans"][0]["request_id"] == id && line["spans"][0]["name"] == "request")
                .collect()
        };
        let [refused] = of("wrong-1")[..] else { panic!("one line: {text}") };
        let [method, path, status, code] = ["method", "path", "status", "code"].map(|name| &refused[name]);
        assert_eq!(json!([method, path, status, code]), json!(["GET", "/events", 400, "missing-value"]), "{refused}");
        let [opening] = of(&named)[..] else { panic!("one line of {named}: {text}") };
        assert_eq!((&opening["connection"], &opening["channels"]), (&connection, &2.into()), "{opening}");
    }
}

/// As the manual says it: by the filter of a file, all of one request and nothing of the others.
#[tokio::test]
async fn the_log_of_one_request() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md")).unwrap();
    let filter = "filter = 'info,[request{request_id=\"NAME\"}]=trace'";
    assert!(manual.contains(filter), "docs/operations.md says something else");
    let config = format!("[telemetry]\nformat = \"json\"\n{}", filter.replace("NAME", "lb-7f"));
    for lane in [Lane::Direct, Lane::Hyper] {
        let mut gateway = Gateway::builder().lane(lane).config(&config).log_piped_as_configured().start().await;
        let mut log = gateway.take_log();
        for id in ["lb-7e", "lb-7f", "lb-7f0"] {
            let request = gateway.fresh().get(gateway.url("/events")).header(X_REQUEST_ID, id);
            assert_eq!(request.send().await.unwrap().status(), 400);
        }
        gateway.signal("TERM").await;
        let mut text = String::new();
        soon("the log's end", log.read_to_string(&mut text)).await.unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let named: Vec<&Value> = lines.iter().filter(|line| line["spans"][0]["name"] == "request").collect();
        assert!(named.iter().all(|line| line["spans"][0]["request_id"] == "lb-7f"), "{lane:?}: {text}");
        let refused = named.iter().filter(|line| line["message"] == "refused a request").count();
        assert_eq!(refused, 1, "{lane:?}: {text}");
        let below_info = |line: &&Value| !["INFO", "WARN", "ERROR"].iter().any(|level| line["level"] == *level);
        assert!(
            lines.iter().filter(below_info).all(|line| named.contains(&line)),
            "nothing more of the others: {text}"
        );
    }
}

/// A line for each step of a life, and what it is about.
#[tokio::test]
async fn the_log_of_a_life() {
    let builder = Gateway::builder().env("SSE_GATEWAY__TELEMETRY__FORMAT", "json").env("SSE_GATEWAY__NODE", "n1");
    let mut gateway = builder.config("[drain]\ngrace = \"0s\"").log_piped().start().await;
    let mut log = gateway.take_log();
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.signal("TERM").await;
    stream.rest().await;
    assert_eq!(gateway.exit().await.status.code(), Some(0));
    let mut text = String::new();
    soon("the log's end", log.read_to_string(&mut text)).await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let drains = "the port is closed, and streams are told to come back";
    assert_eq!(said, ["keys that verify tokens", "serving", "stopping", drains, "stopped"], "{text}");
    let [_, serving, stopping, drains, stopped] = &lines[..] else { panic!("{text}") };
    for line in [serving, stopping, drains, stopped] {
        assert_eq!(line["node"], "n1", "{line}");
    }
    assert_eq!(
        (&serving["public"], &serving["operator"]),
        (&gateway.public.clone().into(), &gateway.admin.clone().into())
    );
    assert_eq!((&serving["broker"], &serving["version"]), (&"embedded".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(
        (&stopping["signal"], &stopping["open"], &stopping["grace"]),
        (&"SIGTERM".into(), &1.into(), &"0s".into())
    );
    assert_eq!(drains["open"], 1);
    assert!(stopped["after"].is_string(), "{stopped}");
}
