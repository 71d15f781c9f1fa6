//! `POST /channels/{channel}/cancel`.

use axum::body::Body;
use http::Method;

use crate::support::*;

#[tokio::test]
async fn says_how_many_listened() {
    let server = Server::new();
    server.send(post("/channels/chat:7/cancel", "", "")).await.is_ok(JSON, r#"{"receivers":3}"#);
    server.send(post("/channels/a%2Fb/cancel?x=1", JSON, "{}")).await.is_ok(JSON, r#"{"receivers":3}"#);
    assert_eq!(server.requests(), ["cancel chat:7", "cancel a/b"]);
    assert_eq!(server.asked(), [], "nothing is published");
}

#[tokio::test]
async fn channels_that_are_none() {
    let server = Server::new();
    let cancel = async |name: &str, expected: &str| {
        server.refuses_request(post(&format!("/channels/{name}/cancel"), "", ""), expected).await;
    };
    cancel("sse.control", r#"reserved-name","title":"reserved name","status":400,"detail":"channels beginning sse. are the cluster's own, nobody publishes to them","field":"channel"}"#).await;
    cancel("a%20b", r#"invalid-value","title":"invalid value","status":400,"detail":"a channel name may not have ' ' (no control characters, white space, '{', '}' or '*')","field":"channel"}"#).await;
    cancel("%FF", r#"invalid-value","title":"invalid value","status":400,"detail":"channel is not percent-encoded UTF-8","field":"channel"}"#).await;
    cancel(&"x".repeat(257), r#"invalid-value","title":"invalid value","status":400,"detail":"a channel name has 257 bytes, the limit is 256","field":"channel","limit":256}"#).await;
}

#[tokio::test]
async fn a_body_means_nothing_and_has_a_bound() {
    let server = Server::new();
    let at_most = server.send(post("/channels/c/cancel", "", vec![0xFF; 4_096])).await;
    at_most.is_ok(JSON, r#"{"receivers":3}"#);
    server.requests();
    let too_large = r#"too-large","title":"too large","status":413,"detail":"body has more than 4096 bytes","field":"body","limit":4096}"#;
    server.refuses_request(post("/channels/c/cancel", "", vec![0; 4_097]), too_large).await;
    let endless = Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 1_000])));
    server.refuses_request(post("/channels/c/cancel", "", endless), too_large).await;
}

#[tokio::test]
async fn a_broker_that_is_away() {
    let response = Server::down().send(post("/channels/c/cancel", "", "")).await;
    response.is_problem(
        r#"unavailable","title":"broker not available","status":503,"detail":"the broker is not available: no connection"}"#,
    );
    assert_eq!(response.header("retry-after"), Some("2"));
}

#[tokio::test]
async fn wrong_methods() {
    let server = Server::new();
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let request = http::Request::builder().method(method).uri("/channels/c/cancel").body(Body::empty()).unwrap();
        let response = server.send(request).await;
        assert_eq!((response.status.as_u16(), response.header("allow")), (405, Some("POST")));
    }
    assert_eq!(server.requests(), [""; 0]);
}
