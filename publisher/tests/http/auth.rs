//! What tokens let through: the routes behind the middleware that verifies them.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::middleware::from_fn_with_state;
use http::Request;
use publisher::http::auth::{Auth, authenticate};
use publisher::metrics::AuthMetrics;
use shared::auth::{AuthError, Settings, Verifier};
use testkit::TokenKey;

use crate::support::{JSON, NDJSON, Server, post, sent};

const SECRET: &str = "a secret of the tests, long enough";
const OPERATOR: &str = "an operator's key of the tests, long enough";
const DENIED: &str = r#"channel-not-granted","title":"channel not granted","status":403,"detail":"the token does not grant this channel","field":"#;

fn server() -> Server {
    let settings = Settings { secret: Some(SECRET.into()), operator_key: Some(OPERATOR.into()), ..Settings::default() };
    let auth = Auth::new(Verifier::load(&settings).unwrap().into(), AuthMetrics::new(), |_| false);
    Server::bare().mounted_in(|router| router.layer(from_fn_with_state(auth, authenticate)))
}

/// `claims` as they stand in an object, after `exp`.
fn token(claims: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    TokenKey::hs256(SECRET.as_bytes()).token(None, &format!("{{\"exp\":{}{claims}}}", now + 600))
}

fn with(mut request: Request<Body>, token: &str) -> Request<Body> {
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn publish(channel: &str) -> Request<Body> {
    post("/publish", JSON, format!("{{\"channel\":\"{channel}\",\"data\":1}}"))
}

fn request(method: &str, uri: &str) -> Request<Body> {
    Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn who_has_no_good_token_gets_no_further() {
    let server = server();
    let good = token(r#","publish":["*"]"#);
    let other = TokenKey::hs256(&[7; 32]).token(None, r#"{"exp":99999999999,"publish":["*"]}"#);
    let unsigned = TokenKey::hs256(&[7; 32]).token_with_head(r#"{"alg":"none"}"#, r#"{"exp":99999999999}"#);
    for (presented, error) in [
        (None, AuthError::Missing),
        (Some(&*other), AuthError::BadSignature),
        (Some(&*unsigned), AuthError::Algorithm),
        (Some(&*TokenKey::hs256(SECRET.as_bytes()).token(None, "{\"exp\":1}")), AuthError::Expired),
        (Some(&*TokenKey::hs256(SECRET.as_bytes()).token(Some("x"), "{}")), AuthError::UnknownKey),
        (Some(&good[..good.len() - 3]), AuthError::BadSignature),
        (Some("x"), AuthError::Malformed),
        (Some(&*"x".repeat(64 << 10)), AuthError::TooLong),
    ] {
        for request in [publish("a"), request("GET", "/channels/a/events"), request("DELETE", "/channels/a")] {
            let request = presented.map_or_else(|| publish("a"), |token| with(request, token));
            let expected = format!("unauthorized\",\"title\":\"unauthorized\",\"status\":401,\"detail\":\"{error}\"}}");
            server.refuses_request(request, &expected).await;
        }
    }
    assert_eq!(server.send(with(publish("a"), &good)).await.status, 200);
    let challenge = |response: &crate::support::Response| response.header("www-authenticate").map(str::to_owned);
    assert_eq!(challenge(&server.send(publish("a")).await).as_deref(), Some("Bearer"));
    let refused = server.send(with(publish("a"), &other)).await;
    assert_eq!(challenge(&refused).as_deref(), Some("Bearer error=\"invalid_token\""));
}

#[tokio::test]
async fn what_a_token_grants_and_no_more() {
    let server = server();
    let token = token(r#","sub":"42","channels":["read"],"publish":["news","user:*"]"#);
    let denied = |field: &str| format!("{DENIED}\"{field}\"}}");
    for (request, field) in [
        (publish("other"), "channel"),
        (publish("read"), "channel"),
        (post("/channels/other/events", "text/plain", "x"), "channel"),
        (request("POST", "/channels/other/cancel"), "channel"),
        (request("DELETE", "/channels/read"), "channel"),
        (request("GET", "/channels/news/events"), "channel"),
    ] {
        server.refuses_request(with(request, &token), &denied(field)).await;
    }
    for (request, status) in [
        (publish("news"), 200),
        (post("/channels/news/events", "text/plain", "x"), 200),
        (post("/api/sse/notify?userId=7&message=x", "text/plain", ""), 200),
        (request("POST", "/channels/news/cancel"), 200),
        (request("DELETE", "/channels/news"), 200),
        (request("GET", "/channels/read/events"), 200),
        (request("GET", "/channels/user:42/events"), 200),
    ] {
        let uri = request.uri().clone();
        assert_eq!(server.send(with(request, &token)).await.status, status, "{uri}");
    }
}

#[tokio::test]
async fn of_several_channels_those_that_are_granted() {
    let server = server();
    let token = token(r#","publish":["a","c"]"#);
    let body = r#"{"channels":["a","b","c"],"data":1}"#;
    let response = server.send(with(post("/publish", JSON, body), &token)).await;
    let expected = r#"{"results":[{"channel":"a","id":"1-0_abcde","receivers":2},{"channel":"b","error":"the token does not grant this channel"},{"channel":"c","id":"2-0_abcde","receivers":2}]}"#;
    response.is_ok(JSON, expected);
    assert_eq!(server.payloads(), [sent("a", r#"{"data":1}"#), sent("c", r#"{"data":1}"#)]);
    let none = r#"channel-not-granted","title":"channel not granted","status":403,"detail":"the token grants none of these channels","field":"channels"}"#;
    server.refuses_request(with(post("/publish", JSON, r#"{"channels":["b","d"]}"#), &token), none).await;

    let lines = "{\"channel\":\"b\"}\n{\"channels\":[\"b\",\"a\"]}\n{\"channel\":\"c\"}";
    let response = server.send(with(post("/publish", NDJSON, lines), &token)).await;
    let answers: Vec<_> = response.body.lines().collect();
    assert_eq!(answers[0], format!("{{\"type\":\"urn:problem:sse:{DENIED}\"channel\"}}"));
    assert!(answers[1].contains(r#"{"channel":"b","error":"#) && answers[1].contains(r#"{"channel":"a","id":"#));
    assert!(answers[2].starts_with(r#"{"id":"#), "{answers:?}");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn the_operator_key_grants_all_but_what_nobody_has() {
    let server = server();
    for request in [publish("a"), request("GET", "/channels/sse.control/events"), request("DELETE", "/channels/a")] {
        assert_eq!(server.send(with(request, OPERATOR)).await.status, 200);
    }
    assert_eq!(server.send(with(publish("sse.control"), OPERATOR)).await.status, 400);
    assert_eq!(server.send(with(publish("a"), &OPERATOR[1..])).await.status, 401);
}

#[tokio::test]
async fn without_the_middleware_nobody_is_let_in() {
    assert_eq!(Server::bare().send(publish("a")).await.status, 500);
}
