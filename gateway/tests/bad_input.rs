//! What is wrong is refused with problem details that say where, and leaves nothing behind.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Gateway, Raw, Stream};

const JSON: &str = "application/json";
const MAX_DATA: usize = 64 << 10;

/// A request that is wrong.
struct Wrong {
    method: Method,
    path: String,
    content_type: &'static str,
    body: String,
}

fn get(path: impl Into<String>) -> Wrong {
    Wrong { method: Method::GET, path: path.into(), content_type: "", body: String::new() }
}

fn post(path: impl Into<String>, content_type: &'static str, body: impl Into<String>) -> Wrong {
    Wrong { method: Method::POST, path: path.into(), content_type, body: body.into() }
}

async fn send(gateway: &Gateway, wrong: Wrong) -> Response {
    let mut request = gateway.client.request(wrong.method, gateway.url(&wrong.path));
    if !wrong.content_type.is_empty() {
        request = request.header("content-type", wrong.content_type);
    }
    request.body(wrong.body).send().await.unwrap()
}

/// Sends each, and compares the answers. The stream beside them, on channels `a` and `user:42`, is to see nothing.
async fn refused(cases: Vec<(Wrong, u16, &str, Value)>) {
    let gateway = Gateway::start().await;
    let mut beside = gateway.stream("/events?channel=a&channel=b&channel=user:42").await;
    beside.opened().await;
    for (wrong, status, field, limit) in cases {
        let body: String = wrong.body.chars().take(80).collect();
        let what = format!("{} {:.80} {} {body}", wrong.method, wrong.path, wrong.content_type);
        let response = send(&gateway, wrong).await;
        assert_eq!(response.status(), status, "{what}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "a page may read it: {what}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status, "{what}: {problem}");
        for name in ["type", "title", "detail"] {
            assert!(problem[name].as_str().is_some_and(|text| !text.is_empty()), "{name} of {what}: {problem}");
        }
        let field = if field.is_empty() { Value::Null } else { field.into() };
        assert_eq!((&problem["field"], &problem["limit"]), (&field, &limit), "{what}: {problem}");
    }
    gateway.publish(json!({"channel": "a", "data": "marker"})).await;
    assert_eq!(beside.data().await.as_deref(), Some("marker"), "something wrong was published");
}

fn channels(count: usize) -> String {
    (0..count).map(|i| format!("channel=c{i}")).collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn reading() {
    let many = json!({"channels": (0..65).map(|i| format!("c{i}")).collect::<Vec<_>>()}).to_string();
    refused(vec![
        (get("/events"), 400, "channel", Value::Null),
        (get("/events?Channel=a&channels=a"), 400, "channel", Value::Null),
        (get("/events?channel="), 400, "channel", Value::Null),
        (get("/events?channel=a&channel="), 400, "channel", Value::Null),
        (get("/events?channel=a%20b"), 400, "channel", Value::Null),
        (get("/events?channel=a+b"), 400, "channel", Value::Null),
        (get("/events?channel=a%0Ab"), 400, "channel", Value::Null),
        (get("/events?channel=a%00"), 400, "channel", Value::Null),
        (get("/events?channel=*"), 400, "channel", Value::Null),
        (get("/events?channel=%7Ba%7D"), 400, "channel", Value::Null),
        (get(format!("/events?channel={}", "x".repeat(257))), 400, "channel", 256.into()),
        (get(format!("/events?{}", channels(65))), 400, "channel", 64.into()),
        (get("/events?channel=sse.control"), 403, "channel", Value::Null),
        (get("/events?channel=a&channel=sse.x"), 403, "channel", Value::Null),
        (get("/events?channel=a&format=xml"), 400, "format", "json".into()),
        (get(format!("/events?channel=a&pad={}", "x".repeat(8_192))), 414, "url", 8_192.into()),
        (get("/api/sse/connect"), 400, "userId", Value::Null),
        (get("/api/sse/connect?userId="), 400, "userId", Value::Null),
        (get("/api/sse/connect?userId=a%20b"), 400, "userId", Value::Null),
        (get(format!("/api/sse/connect?userId={}", "x".repeat(252))), 400, "userId", 256.into()),
        (post("/events", JSON, r#"{"channels":["a"],"chanels":["b"]}"#), 422, "chanels", Value::Null),
        (post("/events", JSON, r#"{"channel":"a"}"#), 422, "channel", Value::Null),
        (post("/events", JSON, r#"{"channels":"a"}"#), 400, "channels", Value::Null),
        (post("/events", JSON, r#"{"channels":["a",7]}"#), 400, "channels", Value::Null),
        (post("/events", JSON, r#"{"channels":[]}"#), 400, "channels", Value::Null),
        (post("/events", JSON, r#"{"channels":["a","sse.x"]}"#), 403, "channels[1]", Value::Null),
        (post("/events", JSON, many), 400, "channels", 64.into()),
        (post("/events", JSON, r#"{"channels":["a"]"#), 400, "body", Value::Null),
        (post("/events", JSON, ""), 400, "body", Value::Null),
        (post("/events", "text/plain", r#"{"channels":["a"]}"#), 415, "content-type", JSON.into()),
        (post("/events", "", r#"{"channels":["a"]}"#), 415, "content-type", JSON.into()),
    ])
    .await;
}

#[tokio::test]
async fn publishing() {
    let taken = || Value::from("application/json, application/x-ndjson");
    let long = "x".repeat(MAX_DATA + 1);
    let with_data = |data: &str| json!({"channel": "a", "data": data}).to_string();
    refused(vec![
        (post("/publish", JSON, r#"{"data":"x"}"#), 400, "channel", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a b","data":"x"}"#), 400, "channel", Value::Null),
        (post("/publish", JSON, r#"{"channel":"","data":"x"}"#), 400, "channel", Value::Null),
        (post("/publish", JSON, r#"{"channel":7,"data":"x"}"#), 400, "channel", Value::Null),
        (post("/publish", JSON, r#"{"channel":"sse.control","data":"x"}"#), 400, "channel", Value::Null),
        (post("/publish", JSON, r#"{"channels":["a","b*"],"data":"x"}"#), 400, "channels[1]", Value::Null),
        (post("/publish", JSON, r#"{"channels":[],"data":"x"}"#), 400, "channels", 64.into()),
        (post("/publish", JSON, json!({"channels": vec!["a"; 65]}).to_string()), 400, "channels", 64.into()),
        (post("/publish", JSON, r#"{"channel":"a","event":"sse.open"}"#), 400, "event", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","event":"x\ry"}"#), 400, "event", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","event":"x\ny"}"#), 400, "event", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","event":"x\u0000y"}"#), 400, "event", Value::Null),
        (
            post("/publish", JSON, json!({"channel": "a", "event": "x".repeat(257)}).to_string()),
            400,
            "event",
            256.into(),
        ),
        (post("/publish", JSON, r#"{"channel":"a","retry":-1}"#), 400, "retry", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","end":"yes"}"#), 400, "end", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","ephemeral":true,"end":true}"#), 400, "ephemeral", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","once":""}"#), 400, "once", 128.into()),
        (post("/publish", JSON, r#"{"channel":"a","data":"\ud800"}"#), 400, "data", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","data":"x","dta":"y"}"#), 422, "dta", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","data":"x","data":"y"}"#), 400, "data", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","data":"x""#), 400, "body", Value::Null),
        (post("/publish", JSON, r#"{"channel":"a","data":"x"}}"#), 400, "body", Value::Null),
        (post("/publish", JSON, r#"["a"]"#), 400, "body", Value::Null),
        (post("/publish", JSON, ""), 400, "body", Value::Null),
        (post("/publish", JSON, with_data(&long)), 413, "data", MAX_DATA.into()),
        (post("/publish", "text/plain", with_data("x")), 415, "content-type", taken()),
        (post("/publish", "", with_data("x")), 415, "content-type", taken()),
        (post("/publish", "application/x-ndjson", "{}\n".repeat(1_001)), 413, "lines", 1_000.into()),
        (post("/channels/a%20b/events", "", "x"), 400, "channel", Value::Null),
        (post("/channels/sse.x/events", "", "x"), 400, "channel", Value::Null),
        (post("/channels/a/events?event=sse.x", "", "x"), 400, "event", Value::Null),
        (post("/channels/a/events?event=x%0Ay", "", "x"), 400, "event", Value::Null),
        (post("/channels/a/events?retry=soon", "", "x"), 400, "retry", Value::Null),
        (post(format!("/publish?pad={}", "x".repeat(8_192)), JSON, with_data("x")), 414, "url", 8_192.into()),
        (post("/api/sse/notify?userId=42", "", ""), 400, "message", Value::Null),
        (post("/api/sse/notify?message=x", "", ""), 400, "userId", Value::Null),
        (post("/api/sse/notify?userId=4%202&message=x", "", ""), 400, "userId", Value::Null),
        (post("/api/sse/notify?userId=42&message=%FF", "", ""), 400, "message", Value::Null),
    ])
    .await;
}

/// The answer may come before the body has been sent, but most clients only look for it after they have sent all: one
/// that finds its connection broken half-way never learns what was wrong.
#[tokio::test]
async fn too_long_a_body_is_answered_and_may_be_sent_all_the_same() {
    let gateway = Gateway::start().await;
    for (path, length, field, limit) in [
        ("/channels/a/events", MAX_DATA + 1, "data", MAX_DATA),
        ("/channels/a/events", MAX_DATA * 10, "data", MAX_DATA),
        ("/events", 200_000, "body", 64 * 256 * 6 + 1_024),
        ("/publish", MAX_DATA * 10, "body", MAX_DATA * 9),
    ] {
        let what = format!("{length} bytes to {path}");
        let mut raw = Raw::connect(&gateway.public).await;
        let type_and_length = format!("Content-Type: {JSON}\r\nContent-Length: {length}");
        raw.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{type_and_length}\r\n\r\n")).await;
        let head = raw.head().await;
        assert_eq!(head.status, "HTTP/1.1 413 Payload Too Large", "{what}");
        let problem: Value = serde_json::from_str(&raw.body_of(&head).await).unwrap();
        let told = (&problem["status"], &problem["field"], &problem["limit"]);
        assert_eq!(told, (&413.into(), &field.into(), &limit.into()), "{what}: {problem}");
        let mut sent = 0;
        while sent < length {
            let piece = vec![b' '; (length - sent).min(16 << 10)];
            let offered = raw.offer(&piece).await;
            assert!(offered.is_ok(), "broken after {sent} of {what}: {offered:?}");
            sent += piece.len();
        }
    }
}

/// A client that may keep its connection sends the next request on it, and loses that one if the gateway closes it unsaid.
#[tokio::test]
async fn too_long_a_body_ends_the_connection_only_if_it_is_said() {
    let gateway = Gateway::start().await;
    let length = MAX_DATA + 1;
    let mut raw = Raw::connect(&gateway.public).await;
    raw.send(format!("POST /channels/a/events HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")).await;
    raw.send("x".repeat(length)).await;
    let head = raw.head().await;
    assert_eq!(head.status, "HTTP/1.1 413 Payload Too Large");
    raw.body_of(&head).await;
    if head.get("connection") == Some("close") {
        assert_eq!(raw.rest().await, b"");
        return;
    }
    raw.get("/nothing").await;
    let answer = String::from_utf8_lossy(&raw.until_closed_or("\r\n").await).into_owned();
    assert_eq!(answer, "HTTP/1.1 404 Not Found\r\n", "closed without a word, after {head:?}");
}

#[tokio::test]
async fn paths_and_methods() {
    let wrong = |method: Method, path: &str| Wrong { method, ..get(path) };
    refused(vec![
        (get("/nothing"), 404, "", Value::Null),
        (get("/events/"), 404, "", Value::Null),
        (get("/EVENTS?channel=a"), 404, "", Value::Null),
        (get("/publish"), 405, "", Value::Null),
        (wrong(Method::DELETE, "/channels/a/events"), 405, "", Value::Null),
        (get("/api/sse/notify?userId=42&message=x"), 405, "", Value::Null),
        (wrong(Method::DELETE, "/events?channel=a"), 405, "", Value::Null),
        (wrong(Method::PUT, "/publish"), 405, "", Value::Null),
        (post("/api/sse/connect?userId=42", "", ""), 405, "", Value::Null),
    ])
    .await;

    let gateway = Gateway::start().await;
    for (method, path, allow) in [
        (Method::DELETE, "/events", "GET,HEAD,POST"),
        (Method::POST, "/api/sse/connect", "GET,HEAD"),
        (Method::POST, "/", "GET,HEAD"),
        (Method::GET, "/publish", "POST"),
        (Method::DELETE, "/channels/a/events", "POST,GET,HEAD"),
        (Method::PUT, "/channels/a", "DELETE,GET,HEAD"),
        (Method::GET, "/api/sse/notify", "POST"),
    ] {
        let response = send(&gateway, wrong(method, path)).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &allow.parse().unwrap()),
            "{path}"
        );
    }
}

/// Text that is not UTF-8 names no channel: to read it as another name would be to read another channel.
#[tokio::test]
async fn reading_a_channel_that_is_not_utf_8() {
    refused(vec![
        (get("/events?channel=%FF"), 400, "channel", Value::Null),
        (get("/events?channel=caf%E9"), 400, "channel", Value::Null),
        (get("/api/sse/connect?userId=%C7%D1"), 400, "userId", Value::Null),
        (get("/channels/%FF/events"), 400, "channel", Value::Null),
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let settings = "[limits]\nrequest_timeout = \"1s\"\nopen_timeout = \"500ms\"";
    let gateway = Gateway::builder().config(settings).start().await;
    for path in ["/publish", "/events", "/channels/a/events"] {
        let mut raw = Raw::connect(&gateway.public).await;
        let type_and_length = format!("Content-Type: {JSON}\r\nContent-Length: 99");
        raw.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{type_and_length}\r\n\r\n{{")).await;
        let head = raw.head().await;
        assert_eq!(head.status, "HTTP/1.1 408 Request Timeout", "{path}");
        assert_eq!(head.get("content-type"), Some("application/problem+json"), "{path}");
    }
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.publish(json!({"channel": "a", "data": "x"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
}

#[tokio::test]
async fn the_largest_that_is_allowed() {
    let gateway = Gateway::start().await;
    let pad = "x".repeat(8_192 - "/events?channel=big&pad=".len());
    let mut stream = gateway.stream(&format!("/events?channel=big&pad={pad}")).await;
    assert_eq!(stream.status, 200);
    stream.opened().await;
    let data = "0123456789abcdef".repeat(MAX_DATA / 16);
    gateway.publish(json!({"channel": "big", "data": data})).await;
    assert_eq!(stream.data().await, Some(data.clone()), "64 KiB by JSON");
    // Each byte escaped, the longest way to write it.
    let escaped = format!(r#"{{"channel":"big","data":"{}"}}"#, r"\u0007".repeat(MAX_DATA));
    assert_eq!(send(&gateway, post("/publish", JSON, escaped)).await.status(), 200);
    assert_eq!(stream.data().await, Some("\u{7}".repeat(MAX_DATA)), "64 KiB, escaped");
    assert_eq!(send(&gateway, post("/channels/big/events", "", data.clone())).await.status(), 200);
    assert_eq!(stream.data().await, Some(data), "64 KiB raw");

    let name = "x".repeat(256);
    let mut many =
        Stream::open(gateway.client.get(gateway.url(&format!("/events?{}&channel={name}", channels(63))))).await;
    many.opened().await;
    gateway.publish(json!({"channel": name, "event": name, "data": "x"})).await;
    assert_eq!(many.event().await.map(|event| event.event), Some(name));
}

#[tokio::test]
async fn a_wrong_line_of_a_batch_harms_no_other() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let line = |data: &str| json!({"channel": "a", "data": data});
    let answers = gateway
        .publish_batch(&[line("1"), json!({"channel": "a", "event": "sse.x"}), json!({"chanel": "a"}), line("4")])
        .await;
    assert_eq!(answers.len(), 4, "{answers:?}");
    assert_eq!((&answers[1]["status"], &answers[1]["field"]), (&400.into(), &"event".into()));
    assert_eq!((&answers[2]["status"], &answers[2]["field"]), (&422.into(), &"chanel".into()));
    for data in ["1", "4"] {
        assert_eq!(stream.data().await.as_deref(), Some(data));
    }
}
