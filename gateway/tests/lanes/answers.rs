//! Answers to what is no plain request for a stream, or gets none: bodies, other methods, what a connection is to become.

use serde_json::json;

use super::exchange::{Both, Case, closed, get, kept, stream};

const JSON: &str = "Content-Type: application/json\r\n";

async fn compare(cases: Vec<Case>) {
    Both::start("").await.compare(cases).await;
}

#[tokio::test]
async fn bodies_of_a_get() {
    let with = |lines: &str, body: &str| stream(lines) + body;
    compare(vec![
        kept("a body of nothing", with("Content-Length: 0\r\n", ""), &[200]),
        kept("a body of nothing, at length", with("Content-Length: 00\r\n", ""), &[200]),
        kept("a body of nothing, said twice", with("Content-Length: 0\r\nContent-Length: 0\r\n", ""), &[200]),
        closed("a body", with("Content-Length: 3\r\n", "abc"), &[200]),
        closed("a body that does not come", with("Content-Length: 3\r\n", ""), &[200]),
        closed("a body, and no stream", get("/events", "Content-Length: 3\r\n") + "abc", &[400]),
        closed("a length that is none", with("Content-Length: x\r\n", ""), &[400]),
        closed("no length", with("Content-Length:\r\n", ""), &[400]),
        closed("a length below nothing", with("Content-Length: -1\r\n", ""), &[400]),
        closed("a length with a sign", with("Content-Length: +0\r\n", ""), &[400]),
        closed("a length beyond all", with("Content-Length: 99999999999999999999\r\n", ""), &[400]),
        closed("a list of lengths", with("Content-Length: 0, 0\r\n", ""), &[400]),
        closed("two lengths", with("Content-Length: 0\r\nContent-Length: 3\r\n", "abc"), &[400]),
        closed("no chunks", with("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[200]),
        closed("chunks", with("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), &[200]),
        closed("chunks that do not come", with("Transfer-Encoding: chunked\r\n", ""), &[200]),
        closed("chunks that are none", with("Transfer-Encoding: chunked\r\n", "xyz\r\n"), &[200]),
        closed("another encoding", with("Transfer-Encoding: gzip\r\n", ""), &[400]),
        closed("no encoding", with("Transfer-Encoding: identity\r\n", ""), &[400]),
        // A proxy that goes by one of them and a gateway that goes by the other would disagree on where the next request
        // begins: nothing behind it may be taken for one.
        closed("chunks and a length", with("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n"), &[200]),
        closed("a length and chunks", with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[200]),
        closed(
            "a request smuggled in a body",
            with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n") + &get("/nothing", ""),
            &[200],
        ),
        closed("a request as a body", with("Content-Length: 40\r\n", &get("/nothing", "")), &[200]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_expected_and_what_the_connection_is_to_become() {
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let post = |lines: &str| format!("POST /events HTTP/1.1\r\nHost: x\r\n{JSON}{lines}\r\n");
    let body = r#"{"channels":["a"]}"#;
    compare(vec![
        kept("100-continue without a body", stream("Expect: 100-continue\r\n"), &[200]),
        closed("100-continue and a body", stream("Expect: 100-continue\r\nContent-Length: 3\r\n"), &[200]),
        kept("100-continue that is wanted", post("Expect: 100-continue\r\nContent-Length: 18\r\n") + body, &[100, 200]),
        kept("something else", stream("Expect: nonsense\r\n"), &[200]),
        kept("HTTP/2", stream(upgrade), &[200]),
        kept("a web socket", stream("Connection: Upgrade\r\nUpgrade: websocket\r\n"), &[200]),
        closed("the end", stream("Connection: close\r\n"), &[200]),
        closed("the end in other letters", stream("Connection: CLOSE\r\n"), &[200]),
        closed("the end in a list", stream("Connection: keep-alive, close\r\n"), &[200]),
        closed("the end in a second header", stream("Connection: keep-alive\r\nConnection: close\r\n"), &[200]),
        closed("the end in a first header", stream("Connection: close\r\nConnection: keep-alive\r\n"), &[200]),
        closed("the end among others", stream("Connection: x ,\tclose\t, y\r\n"), &[200]),
        kept("something like the end", stream("Connection: closed\r\n"), &[200]),
        kept("the next request", stream("Connection: keep-alive\r\n"), &[200]),
        closed("the end, and no stream", get("/events", "Connection: close\r\n"), &[400]),
        closed("the end, and nothing there", get("/nothing", "Connection: close\r\n"), &[404]),
        closed("HTTP/1.0", "GET /events?channel=a HTTP/1.0\r\n\r\n", &[200]),
        closed("HTTP/1.0 to be kept", "GET /events?channel=a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &[200]),
    ])
    .await;
}

#[tokio::test]
async fn other_methods() {
    let request =
        |method: &str, target: &str, lines: &str| format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let preflight = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\
                     Access-Control-Request-Headers: last-event-id\r\n";
    let long = format!("/events?channel=a&p={}", "x".repeat(8_192));
    let post = |lines: &str, body: &str| {
        let length = body.len();
        request("POST", "/events", &format!("{lines}Content-Length: {length}\r\n")) + body
    };
    compare(vec![
        kept("HEAD", request("HEAD", "/events?channel=a", ""), &[200]),
        kept("HEAD of a user's", request("HEAD", "/api/sse/connect?userId=42", ""), &[200]),
        kept("HEAD of what is wrong", request("HEAD", "/events", ""), &[400]),
        kept("HEAD of what is refused", request("HEAD", "/events?channel=sse.x", ""), &[403]),
        kept("HEAD of too long a URL", request("HEAD", &long, ""), &[414]),
        kept("HEAD of nothing", request("HEAD", "/nothing", ""), &[404]),
        kept("HEAD of what takes none", request("HEAD", "/publish", ""), &[405]),
        kept("a preflight", request("OPTIONS", "/events?channel=a", preflight), &[200]),
        kept("OPTIONS", request("OPTIONS", "/events?channel=a", ""), &[200]),
        kept("OPTIONS of all", request("OPTIONS", "*", ""), &[200]),
        kept("DELETE", request("DELETE", "/events?channel=a", ""), &[405]),
        kept("CONNECT", request("CONNECT", "a.example:80", ""), &[404]),
        kept("TRACE", request("TRACE", "/events?channel=a", ""), &[405]),
        kept("POST", post(JSON, r#"{"channels":["a"]}"#), &[200]),
        closed("POST to be closed", post(&format!("{JSON}Connection: close\r\n"), r#"{"channels":["a"]}"#), &[200]),
        kept("POST of nothing", request("POST", "/events?channel=a", ""), &[415]),
        kept("POST of what is wrong", post(JSON, r#"{"channel":"a"}"#), &[422]),
    ])
    .await;
}

#[tokio::test]
async fn no_streams() {
    let long = format!("/events?channel=a&p={}", "x".repeat(8_192));
    let both = Both::start("").await;
    both.publish(json!({"channel": "over", "data": "x", "end": true})).await;
    both.compare(vec![
        kept("no channel", get("/events", ""), &[400]),
        kept("another format", get("/events?channel=a&format=xml", ""), &[400]),
        kept("a refused channel", get("/events?channel=a&channel=sse.x", ""), &[403]),
        kept("nothing there", get("/nothing", ""), &[404]),
        kept("another method's", get("/publish", ""), &[405]),
        kept("too long a URL", get(&long, ""), &[414]),
        kept("all is over", get("/events?channel=over", ""), &[204]),
        closed("all is over, and the connection too", get("/events?channel=over", "Connection: close\r\n"), &[204]),
        kept("no stream, then one", get("/events", "") + &stream(""), &[400, 200]),
        kept("nothing there, then a stream", get("/nothing", "") + &stream(""), &[404, 200]),
        kept("all is over, then a stream", get("/events?channel=over", "") + &stream(""), &[204, 200]),
    ])
    .await;
}

/// At capacity: 200, `retry:` and the end.
#[tokio::test]
async fn turned_away() {
    let both = Both::start("[limits]\nmax_connections = 1").await;
    let _taken = both.open("/events?channel=a").await;
    let head = "HEAD /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n";
    both.compare_beside(
        1,
        vec![
            kept("turned away", stream(""), &[200]),
            closed("turned away, and the connection too", stream("Connection: close\r\n"), &[200]),
            kept("turned away with its cursor", stream("Last-Event-ID: 1-1_00000\r\n"), &[200]),
            kept("turned away twice", stream("") + &stream(""), &[200, 200]),
            kept("HEAD turned away", head, &[200]),
            kept("what is wrong stays wrong", get("/events", ""), &[400]),
        ],
    )
    .await;
}
