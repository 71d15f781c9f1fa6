//! `GET /channels/{channel}`: who is there, and where the channel stands.

use axum::body::Body;
use http::{Method, Request};

use crate::support::*;

fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn what_is_counted_and_where_it_stands() {
    let server = Server::new();
    let nothing =
        r#"{"channel":"chat:7","online":true,"connections":2,"nodes":1,"silent":["two"],"last":null,"ended":false}"#;
    let response = server.send(get("/channels/chat:7")).await;
    response.is_ok(JSON, nothing);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    server.send(post("/publish", JSON, r#"{"channel":"chat:7","data":1,"end":true}"#)).await;
    let ended = r#"{"channel":"chat:7","online":true,"connections":2,"nodes":1,"silent":["two"],"last":"1-0_abcde","ended":true}"#;
    server.send(get("/channels/chat:7")).await.is_ok(JSON, ended);
    let mut requests = server.requests();
    requests.truncate(2);
    requests.sort_unstable();
    assert_eq!(requests, [r#"count Channel("chat:7")"#, "read chat:7 after 18446744073709551615-0, 1"]);
}

#[tokio::test]
async fn channels_that_are_none_and_those_of_the_cluster() {
    let server = Server::new();
    server.refuses_request(get("/channels/a%20b"), r#"invalid-value","title":"invalid value","status":400,"detail":"a channel name may not have ' ' (no control characters, white space, '{', '}' or '*')","field":"channel"}"#).await;
    assert_eq!(server.send(get("/channels/sse.control")).await.status, 403);
    let request = Request::builder().method(Method::PUT).uri("/channels/a").body(Body::empty()).unwrap();
    let response = server.send(request).await;
    assert_eq!(response.status, 405);
    let allow = response.header("allow").unwrap();
    assert!(["GET", "HEAD", "DELETE"].iter().all(|method| allow.contains(method)), "{allow}");
}

#[tokio::test]
async fn a_broker_that_is_away() {
    let response = Server::down().send(get("/channels/c")).await;
    response.is_problem(
        r#"unavailable","title":"broker not available","status":503,"detail":"the broker is not available: no connection"}"#,
    );
    assert_eq!(response.header("retry-after"), Some("2"));
}
