//! `GET /channels/{channel}/events` and `DELETE /channels/{channel}`.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::*;

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

fn delete(uri: &str) -> Request<Body> {
    Request::delete(uri).body(Body::empty()).unwrap()
}

impl Server {
    async fn history(&self, query: &str) -> Value {
        let response = self.send(get(&format!("/channels/c/events{query}"))).await;
        assert_eq!((response.status.as_u16(), response.header("content-type")), (200, Some(JSON)), "{response:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        serde_json::from_str(&response.body).unwrap()
    }

    /// The ids of the events, whether there are more, and the gap.
    async fn told(&self, query: &str) -> (Vec<String>, bool, Value) {
        let page = self.history(query).await;
        let ids = page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned());
        (ids.collect(), page["more"].as_bool().unwrap(), page["gap"].clone())
    }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| format!("{id}-0_abcde")).collect()
}

#[tokio::test]
async fn events_as_their_envelopes_say() {
    let server = Server::new();
    server.publish(r#"{"channel":"c","event":"n","data":{"b" : 1.50,"a":1e400},"retry":18446744073709551615}"#).await;
    server.publish(r#"{"channel":"c","data":"한\n\ud83d\ude00\u0000"}"#).await;
    server.publish(r#"{"channel":"c","data":null}"#).await;
    server.publish(r#"{"channel":"c"}"#).await;
    server.publish(r#"{"channel":"other","data":1}"#).await;
    server.publish(r#"{"channel":"c","event":"done","end":true}"#).await;
    let expected = [
        r#"{"channel":"c","events":["#,
        r#"{"id":"1-0_abcde","event":"n","data":{"b" : 1.50,"a":1e400},"retry":18446744073709551615},"#,
        r#"{"id":"2-0_abcde","data":"한\n\ud83d\ude00\u0000"},"#,
        r#"{"id":"3-0_abcde","data":null},"#,
        r#"{"id":"4-0_abcde"},"#,
        r#"{"id":"6-0_abcde","event":"done","end":true}"#,
        r#"],"last":"6-0_abcde","ended":true,"more":false,"gap":null}"#,
    ];
    server.send(get("/channels/c/events")).await.is_ok(JSON, &expected.concat());
    assert_eq!(server.requests(), ["read c after 0-0, 100"]);
    let unknown = r#"{"channel":"한","events":[],"last":null,"ended":false,"more":false,"gap":null}"#;
    server.send(get("/channels/%ED%95%9C/events")).await.is_ok(JSON, unknown);
}

#[tokio::test]
async fn what_is_no_envelope_is_whole() {
    let server = Server::new();
    for (payload, data) in [
        (&b""[..], ""),
        (b"plain \"text\"\n", "plain \"text\"\n"),
        (b"1.50", "1.50"),
        (br#"{"data":1,"more":2}"#, r#"{"data":1,"more":2}"#),
        (br#"["n"]"#, r#"["n"]"#),
        (br#"{"event":"sse.gap"}"#, r#"{"event":"sse.gap"}"#),
        (br#"{"data":"\ud800"}"#, r#"{"data":"\ud800"}"#),
        (b"a\xFFb\0", "a\u{fffd}b\0"),
    ] {
        server.put("c", payload);
        let page = server.history("?limit=1000").await;
        let event = page["events"].as_array().unwrap().last().unwrap();
        assert_eq!(*event, json!({"id": event["id"], "data": data}));
    }
}

#[tokio::test]
async fn page_by_page() {
    let server = Server::new();
    for number in 1..=5 {
        server.publish(&json!({"channel": "c", "data": number}).to_string()).await;
    }
    assert_eq!(server.told("?limit=2").await, (ids(&["1", "2"]), true, Value::Null));
    assert_eq!(server.told("?limit=2&after=2-0_abcde").await, (ids(&["3", "4"]), true, Value::Null));
    assert_eq!(server.told("?after=4-0_abcde&limit=2&token=%FF").await, (ids(&["5"]), false, Value::Null));
    assert_eq!(server.told("?after=5-0_abcde").await, (vec![], false, Value::Null));
    assert_eq!(server.told("?limit=5").await, (ids(&["1", "2", "3", "4", "5"]), false, Value::Null));
    let requests = server.requests();
    assert_eq!(requests[1..3], ["read c after 2-0, 2", "read c after 4-0, 2"]);
    let (first, more, _) = server.told("?limit=1").await;
    assert_eq!((first, more), (ids(&["1"]), true));
    server.told("?limit=1000").await;
    assert_eq!(server.requests(), ["read c after 0-0, 1", "read c after 0-0, 1000"]);
}

#[tokio::test]
async fn large_events_end_a_page_early() {
    let server = Server::new();
    let large = json!({"channel": "c", "data": "x".repeat(65_536)}).to_string();
    for _ in 0..70 {
        assert_eq!(server.publish(&large).await.status, 200);
    }
    let (first, more, _) = server.told("").await;
    assert_eq!((first.len(), more), (63, true), "4 MiB of payloads");
    let (rest, more, gap) = server.told(&format!("?after={}", first[62])).await;
    assert_eq!((rest.len(), more, gap), (7, false, Value::Null));
}

#[tokio::test]
async fn gaps() {
    let server = Server::new();
    for channel in ["c", "c", "other", "c", "c"] {
        server.publish(&json!({"channel": channel}).to_string()).await;
    }
    server.trim("c", 2);
    assert_eq!(server.told("").await, (ids(&["4", "5"]), false, json!("trimmed")));
    assert_eq!(server.told("?after=1-0_abcde").await, (ids(&["4", "5"]), false, json!("trimmed")));
    assert_eq!(server.told("?after=2-0_abcde").await, (ids(&["4", "5"]), false, Value::Null));
    assert_eq!(server.told("?after=3-0_abcde").await, (ids(&["4", "5"]), false, Value::Null));
    server.requests();
    // Those of another life of the data say nothing of where to go on: all there is, from the beginning.
    assert_eq!(server.told("?after=4-0_edcba&limit=1").await, (ids(&["4"]), true, json!("data_lost")));
    assert_eq!(server.requests(), ["read c after 4-0, 1", "read c after 0-0, 1"]);
    assert_eq!(server.told("?after=6-0_abcde").await, (ids(&["4", "5"]), false, json!("data_lost")));
    server.requests();
    for cursor in ["0.4-0_abcde", "0.4-0_abcde~3.4-0_abcde"] {
        let told = server.told(&format!("?after={cursor}")).await;
        assert_eq!(told, (ids(&["4", "5"]), false, json!("unknown_cursor")), "{cursor}");
    }
    assert_eq!(server.requests(), ["read c after 0-0, 100", "read c after 0-0, 100"]);
    server.trim("c", 2);
    assert_eq!(server.told("?after=4-0_abcde").await, (vec![], false, json!("expired")));
    assert_eq!(server.told("?after=5-0_abcde").await, (vec![], false, Value::Null));
    assert_eq!(server.told("").await, (vec![], false, Value::Null));
}

#[tokio::test]
async fn erasing_leaves_the_last_position() {
    let server = Server::new();
    for _ in 0..2 {
        server.publish(r#"{"channel":"c/d"}"#).await;
    }
    let erased = |erased: bool| format!(r#"{{"channel":"c/d","erased":{erased}}}"#);
    server.send(delete("/channels/c%2Fd?x=1")).await.is_ok(JSON, &erased(true));
    server.send(delete("/channels/c%2Fd")).await.is_ok(JSON, &erased(false));
    assert_eq!(server.requests(), ["erase c/d", "erase c/d"]);
    let page = server.send(get("/channels/c%2Fd/events?after=1-0_abcde")).await;
    let expected = r#"{"channel":"c/d","events":[],"last":"2-0_abcde","ended":false,"more":false,"gap":"expired"}"#;
    page.is_ok(JSON, expected);
    assert_eq!(server.payloads().len(), 2, "nothing was published by any of it");
}

#[tokio::test]
async fn head_and_bodies_that_nobody_wants() {
    let server = Server::new();
    let head = Request::head("/channels/c/events").body(Body::empty()).unwrap();
    let response = server.send(head).await;
    assert_eq!((response.status.as_u16(), response.body.as_str()), (200, ""));
    for method in [Method::GET, Method::DELETE] {
        let uri = if method == Method::GET { "/channels/c/events" } else { "/channels/c" };
        let request = Request::builder().method(method).uri(uri).body(Body::from("{")).unwrap();
        assert_eq!(server.send(request).await.status, 200);
    }
}

#[tokio::test]
async fn refuses() {
    let server = Server::new();
    let problem = |code: &str, title: &str, detail: &str, field: &str| {
        format!(r#"{code}","title":"{title}","status":400,"detail":"{detail}","field":"{field}"}}"#)
    };
    let invalid = |field: &str, detail: &str| problem("invalid-value", "invalid value", detail, field);
    let cursor = invalid("after", "after is not a cursor of the form <ms>-<seq>_<tag>");
    for wrong in ["", "1", "1-0", "1-0_abcdef", "earliest", "01-0_abcde", "1-0_abcde~1-0_abcde", "1-0_abcde%20"] {
        server.refuses_request(get(&format!("/channels/c/events?after={wrong}")), &cursor).await;
    }
    let long = "1.".to_owned() + &"0".repeat(5_000);
    server.refuses_request(get(&format!("/channels/c/events?after={long}")), &cursor).await;
    let number = problem("wrong-type", "wrong type", "limit has to be a whole number, 1 to 1000", "limit");
    for wrong in ["", "x", "-1", "%2B1", "1.0", "1e2", " 1"] {
        let uri = format!("/channels/c/events?limit={}", wrong.replace(' ', "+"));
        server.refuses_request(get(&uri), &number).await;
    }
    let range = invalid("limit", "limit is not within 1 and 1000").replace('}', r#","limit":1000}"#);
    for wrong in ["0", "1001", "99999999999999999999999"] {
        server.refuses_request(get(&format!("/channels/c/events?limit={wrong}")), &range).await;
    }
    let twice =
        |field: &str| problem("duplicate-key", "duplicate key", &format!("{field} is given more than once"), field);
    server.refuses_request(get("/channels/c/events?limit=1&limit=1"), &twice("limit")).await;
    server.refuses_request(get("/channels/c/events?after=1-0_abcde&after=1-0_abcde"), &twice("after")).await;
    let utf8 = invalid("after", "after is not percent-encoded UTF-8");
    server.refuses_request(get("/channels/c/events?after=%FF"), &utf8).await;

    let name = "a channel name may not have '*' (no control characters, white space, '{', '}' or '*')";
    let encoding = "channel is not percent-encoded UTF-8";
    let long = "x".repeat(257);
    let length = invalid("channel", "a channel name has 257 bytes, the limit is 256").replace('}', r#","limit":256}"#);
    let wrong = [("*", invalid("channel", name)), ("%FF", invalid("channel", encoding)), (&long, length)];
    for (channel, problem) in &wrong {
        server.refuses_request(get(&format!("/channels/{channel}/events")), problem).await;
        server.refuses_request(delete(&format!("/channels/{channel}")), problem).await;
    }
    let not_granted = r#"channel-not-granted","title":"channel not granted","status":403,"detail":"channels beginning sse. are the cluster's own: they need the operator key","field":"channel"}"#;
    server.refuses_request(get("/channels/sse.control/events"), not_granted).await;
    let detail = "channels beginning sse. are the cluster's own, nobody publishes to them";
    let reserved = problem("reserved-name", "reserved name", detail, "channel");
    server.refuses_request(delete("/channels/sse.control"), &reserved).await;
}

#[tokio::test]
async fn an_absent_broker_is_503() {
    let server = Server::down();
    for request in [get("/channels/c/events"), delete("/channels/c")] {
        let response = server.send(request).await;
        assert_eq!((response.status.as_u16(), response.header("retry-after")), (503, Some("2")));
        response.is_problem(
            r#"unavailable","title":"broker not available","status":503,"detail":"the broker is not available: no connection"}"#,
        );
    }
}
