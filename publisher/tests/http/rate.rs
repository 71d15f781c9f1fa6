//! How many events a key may publish in time: on every route, each event counted once a channel.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use http::Request;
use publisher::http::{Limits, tell_client};
use shared::net::{ForwardedHeader, PeerAddress, Proxies};

use crate::support::{FORM, JSON, NDJSON, Server, post};

const REFUSED: &str = r#"too-many-events","title":"too many events","status":429,"detail":"more than 1 events a second; nothing of this request was published","limit":1}"#;

/// 1 a second, so slow that none is added while a test runs; `burst` at once. Clients are what a proxy says.
fn server(burst: u32) -> Server {
    let proxies = Arc::new(Proxies::parse(&["127.0.0.1".to_owned()], ForwardedHeader::default()).unwrap());
    let peer = PeerAddress(IpAddr::from([127, 0, 0, 1]));
    let limits = Limits { publish_rate: 1, publish_burst: burst, ..Limits::default() };
    Server::with(limits)
        .mounted_in(|router| router.layer(from_fn_with_state(proxies, tell_client)).layer(Extension(peer)))
}

fn from(mut request: Request<Body>, client: &str) -> Request<Body> {
    request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
    request
}

#[tokio::test]
async fn every_route_counts() {
    for requests in [
        [
            || post("/publish", JSON, r#"{"channel":"a","data":1}"#.to_owned()),
            || post("/channels/a/events", "text/plain", "x".to_owned()),
            || post("/api/sse/notify", FORM, "userId=1&message=x".to_owned()),
        ],
        [
            || post("/channels/a/events", "text/plain", "x".to_owned()),
            || post("/api/sse/notify", FORM, "userId=1&message=x".to_owned()),
            || post("/publish", NDJSON, r#"{"channel":"a","data":1}"#.to_owned()),
        ],
    ] {
        for last in requests {
            let server = server(10);
            for request in requests.iter().cycle().take(10) {
                assert_eq!(server.send(from(request(), "203.0.113.1")).await.status, 200);
            }
            assert_eq!(server.asked().len(), 10);
            let response = server.send(from(last(), "203.0.113.1")).await;
            response.is_problem(REFUSED);
            assert_eq!(response.header("retry-after"), Some("1"));
            assert_eq!(server.asked(), []);
            assert_eq!(server.send(from(last(), "203.0.113.2")).await.status, 200, "somebody else has room");
        }
    }
}

#[tokio::test]
async fn lines_and_channels_count_and_what_is_wrong_does_not() {
    let server = server(6);
    let lines = "{\"channel\":\"a\",\"data\":1}\nwrong\n{\"channels\":[\"b\",\"c\"],\"data\":1}";
    let batch = || from(post("/publish", NDJSON, lines.to_owned()), "203.0.113.1");
    assert_eq!(server.send(batch()).await.status, 200);
    assert_eq!(server.send(batch()).await.status, 200);
    assert_eq!(server.asked().len(), 6);
    let response = server.send(batch()).await;
    response.is_problem(REFUSED);
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds), "until there is room for all three: {seconds}");
    server.refuses_request(batch(), REFUSED).await;
}

#[tokio::test]
async fn more_than_ever_fits_is_no_matter_of_waiting() {
    let server = server(2);
    let request = post("/publish", JSON, r#"{"channels":["a","b","c"],"data":1}"#.to_owned());
    let expected = r#"too-large","title":"too large","status":413,"detail":"3 events, one for each channel, are more than may be published at once, 2","field":"body","limit":2}"#;
    server.refuses_request(request, expected).await;
}

#[tokio::test]
async fn without_a_rate_there_is_none() {
    let server = Server::new();
    for _ in 0..100 {
        assert_eq!(server.publish(r#"{"channel":"a","data":1}"#).await.status, 200);
    }
}
