//! `POST /channels/{channel}/events`.

use axum::body::Body;
use http::Request;

use crate::support::*;

fn raw(uri: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(uri).body(body.into()).unwrap()
}

#[tokio::test]
async fn the_body_is_the_data() {
    let server = Server::new();
    for (body, payload) in [
        ("", r#"{"data":""}"#),
        ("한글\n\"x\"", r#"{"data":"한글\n\"x\""}"#),
        (r#"{"a":1}"#, r#"{"data":"{\"a\":1}"}"#),
    ] {
        assert_eq!(server.send(raw("/channels/c/events", body)).await.status, 200);
        assert_eq!(server.payloads(), [sent("c", payload)]);
    }
    let typed = server.send(post("/channels/c/events", "image/png", "x")).await;
    typed.is_ok(JSON, r#"{"id":"4-0_abcde","receivers":2}"#);
}

#[tokio::test]
async fn the_channel_is_percent_decoded() {
    let server = Server::new();
    for (path, channel) in [
        ("user:42", "user:42"),
        ("%ED%95%9C%EA%B8%80", "한글"),
        ("stocks%2FAAPL", "stocks/AAPL"),
        ("a%2525", "a%25"),
        ("a+b", "a+b"),
        ("50%", "50%"),
    ] {
        assert_eq!(server.send(raw(&format!("/channels/{path}/events"), "x")).await.status, 200, "{path}");
        assert_eq!(server.payloads(), [sent(channel, r#"{"data":"x"}"#)]);
    }
}

#[tokio::test]
async fn the_rest_is_in_the_query() {
    let server = Server::new();
    let uri = "/channels/c/events?event=%EC%83%88+%EA%B8%80&once=k&ephemeral=false&retry=18446744073709551615&token=x&token=%FF";
    server.send(raw(uri, "x")).await.is_ok(JSON, r#"{"id":"1-0_abcde","receivers":2}"#);
    server.send(raw(uri, "x")).await.is_ok(JSON, r#"{"id":"1-0_abcde","receivers":0,"duplicate":true}"#);
    let (_, publication) = server.asked().remove(0);
    assert_eq!(publication.payload, r#"{"event":"새 글","data":"x","retry":18446744073709551615}"#);
    assert_eq!(publication.once.unwrap().as_str(), "k");
    let ephemeral = server.send(raw("/channels/c/events?ephemeral=true&event=", "x")).await;
    ephemeral.is_ok(JSON, r#"{"id":null,"receivers":2}"#);
    let (_, publication) = server.asked().remove(0);
    assert_eq!(publication.payload, r#"{"data":"x"}"#);
    assert!(publication.ephemeral);
}

#[tokio::test]
async fn refuses() {
    let server = Server::new();
    let invalid = |field: &str, detail: &str| {
        format!(r#"invalid-value","title":"invalid value","status":400,"detail":"{detail}","field":"{field}"}}"#)
    };
    let wrong_type = |field: &str, wanted: &str| {
        let detail = format!("{field} has to be {wanted}");
        format!(r#"wrong-type","title":"wrong type","status":400,"detail":"{detail}","field":"{field}"}}"#)
    };
    let ms = "a whole number of milliseconds, 0 to 2^64 - 1";
    for (uri, problem) in [
        ("/channels/%FF/events", invalid("channel", "channel is not percent-encoded UTF-8")),
        ("/channels/sse.control/events", r#"reserved-name","title":"reserved name","status":400,"detail":"channels beginning sse. are the cluster's own, nobody publishes to them","field":"channel"}"#.to_owned()),
        ("/channels/a%20b/events", invalid("channel", "a channel name may not have ' ' (no control characters, white space, '{', '}' or '*')")),
        ("/channels/c/events?event=sse.gap", r#"reserved-name","title":"reserved name","status":400,"detail":"event names beginning sse. are the gateway's own signals","field":"event"}"#.to_owned()),
        ("/channels/c/events?event=a%0Ab", invalid("event", r"event may not have '\\n' (no CR, LF or NUL)")),
        ("/channels/c/events?event=%C7%D1", invalid("event", "event is not percent-encoded UTF-8")),
        ("/channels/c/events?retry=", wrong_type("retry", ms)),
        ("/channels/c/events?retry=%2B5", wrong_type("retry", ms)),
        ("/channels/c/events?retry=1.5", wrong_type("retry", ms)),
        ("/channels/c/events?retry=18446744073709551616", wrong_type("retry", ms)),
        ("/channels/c/events?ephemeral=1", wrong_type("ephemeral", "true or false")),
        ("/channels/c/events?ephemeral", wrong_type("ephemeral", "true or false")),
        ("/channels/c/events?ephemeral=true&once=k", r#"conflicting-keys","title":"conflicting keys","status":400,"detail":"once and ephemeral contradict each other: an ephemeral event has no position to answer a repeated key with","field":"once"}"#.to_owned()),
        ("/channels/c/events?once=a&once=b", r#"duplicate-key","title":"duplicate key","status":400,"detail":"once is given more than once","field":"once"}"#.to_owned()),
    ] {
        server.refuses_request(raw(uri, "x"), &problem).await;
    }
    let not_text = invalid("data", "data is not UTF-8, which is all that an event stream can carry");
    server.refuses_request(raw("/channels/c/events", b"a\xFF".to_vec()), &not_text).await;
}

#[tokio::test]
async fn an_absent_broker_is_503() {
    let response = Server::new().send(raw("/channels/down/events", "x")).await;
    assert_eq!((response.status.as_u16(), response.header("retry-after")), (503, Some("2")));
}
