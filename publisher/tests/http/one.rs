//! `POST /publish` with one channel.

use publisher::Once;

use crate::support::*;

#[tokio::test]
async fn answers_cursor_and_receivers() {
    let server = Server::new();
    let response = server.publish(r#"{"channel":"user:42","event":"n","data":"안녕"}"#).await;
    response.is_ok(JSON, r#"{"id":"1-0_abcde","receivers":2}"#);
    assert_eq!(server.payloads(), [sent("user:42", r#"{"event":"n","data":"안녕"}"#)]);
}

#[tokio::test]
async fn data_keeps_its_text() {
    let server = Server::new();
    for data in [
        r#"{"b":1.50,"a":1e400}"#,
        r#"{"a":1,"a":2}"#,
        r#"[-0, 1.0 ,10000000000000000000000]"#,
        "null",
        "true",
        "0",
        r#""""#,
        r#""\u00e9\n\"""#,
        r#"{"가":"나"}"#,
        r#"{"lone":"\ud800"}"#,
    ] {
        let response = server.publish(&format!(r#" {{ "data" : {data} , "channel" : "c" }} "#)).await;
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(server.payloads(), [sent("c", &format!(r#"{{"data":{data}}}"#))]);
    }
}

#[tokio::test]
async fn deep_data_does_not_exhaust_the_stack() {
    let server = Server::new();
    let data = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let response = server.publish(&format!(r#"{{"channel":"c","data":{data}}}"#)).await;
    assert_eq!(response.status, 200);
    assert_eq!(server.payloads(), [sent("c", &format!(r#"{{"data":{data}}}"#))]);
    let unclosed = server.publish(&"[".repeat(500_000)).await;
    assert_eq!(unclosed.status, 400);
}

#[tokio::test]
async fn every_field() {
    let server = Server::new();
    let all =
        r#"{"channel":"c","event":"e","data":1,"retry":18446744073709551615,"end":true,"once":"k","ephemeral":false}"#;
    assert_eq!(server.publish(all).await.status, 200);
    let asked = server.asked();
    let [(channel, publication)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(channel, "c");
    assert_eq!(publication.payload, r#"{"event":"e","data":1,"retry":18446744073709551615,"end":true}"#);
    assert_eq!(publication.once, Some(Once::parse("k").unwrap()));
    assert!(!publication.ephemeral);
    assert_eq!((publication.history, publication.ttl), (None, None));
}

#[tokio::test]
async fn absent_data_is_absent_and_an_empty_event_is_none() {
    let server = Server::new();
    for (body, payload) in [
        (r#"{"channel":"c"}"#, "{}"),
        (r#"{"channel":"c","event":""}"#, "{}"),
        (r#"{"channel":"c","end":true}"#, r#"{"end":true}"#),
        (r#"{"channel":"c","end":false,"retry":0}"#, r#"{"retry":0}"#),
        (r#"{"chann\u0065l":"\u0063","event":"sse"}"#, r#"{"event":"sse"}"#),
    ] {
        assert_eq!(server.publish(body).await.status, 200, "{body}");
        assert_eq!(server.payloads(), [sent("c", payload)], "{body}");
    }
}

#[tokio::test]
async fn an_ephemeral_event_has_no_id() {
    let server = Server::new();
    let response = server.publish(r#"{"channel":"c","data":1,"ephemeral":true,"end":false}"#).await;
    response.is_ok(JSON, r#"{"id":null,"receivers":2}"#);
    assert!(server.asked()[0].1.ephemeral);
}

#[tokio::test]
async fn a_repeated_once_is_a_duplicate() {
    let server = Server::new();
    let body = r#"{"channel":"c","data":1,"once":"order-7"}"#;
    server.publish(body).await.is_ok(JSON, r#"{"id":"1-0_abcde","receivers":2}"#);
    server.publish(body).await.is_ok(JSON, r#"{"id":"1-0_abcde","receivers":0,"duplicate":true}"#);
}

#[tokio::test]
async fn an_absent_broker_is_503_with_retry_after() {
    let server = Server::new();
    let response = server.publish(r#"{"channel":"down","data":1}"#).await;
    response.is_problem(
        r#"unavailable","title":"broker not available","status":503,"detail":"the broker is not available: no connection"}"#,
    );
    assert_eq!(response.header("retry-after"), Some("2"), "1.5 s, rounded up");
}

#[tokio::test]
async fn content_types() {
    let server = Server::new();
    let body = r#"{"channel":"c"}"#;
    for taken in [JSON, "application/json; charset=utf-8", "APPLICATION/JSON"] {
        assert_eq!(server.send(post("/publish", taken, body)).await.status, 200, "{taken}");
    }
    server.asked();
    let expected = r#"unsupported-type","title":"unsupported media type","status":415,"detail":"a publish comes as application/json, a batch as application/x-ndjson","field":"content-type","limit":"application/json, application/x-ndjson"}"#;
    for refused in ["text/plain", "application/problem+json", "application/jsonl", ""] {
        server.refuses_request(post("/publish", refused, body), expected).await;
    }
    server.refuses_request(http::Request::post("/publish").body(body.into()).unwrap(), expected).await;
}
