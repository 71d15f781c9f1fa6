//! Where a token may come from, which of several counts, and whose cookies are taken.

use serde_json::json;
use shared::auth::AuthError;

use super::*;

const STREAM: &str = "/events?channel=user:42";

fn foreign() -> Answer {
    Answer {
        status: 403,
        problem: "origin-not-allowed".into(),
        detail: AuthError::Origin.to_string(),
        field: String::new(),
        challenge: None,
    }
}

fn missing() -> Answer {
    Answer { challenge: Some("Bearer".into()), ..refused(&AuthError::Missing.to_string()) }
}

#[tokio::test]
async fn only_the_header_unless_others_are_named() {
    let world = World::start(Lane::Direct, "").await;
    let good = world.token(&json!({}));
    assert_eq!(ask(world.get(STREAM).bearer_auth(&good)).await.status, 200);
    assert_eq!(ask(world.get(STREAM).header("authorization", format!("bEARER {good}"))).await.status, 200);
    for request in [
        world.get(STREAM),
        world.get(STREAM).basic_auth("42", Some(&good)),
        world.get(STREAM).header("cookie", format!("sse_token={good}; access_token={good}")),
        world.get(&format!("{STREAM}&access_token={good}")),
        // Another way to the same streams, and the other routes.
        world.get("/api/sse/connect?userId=42"),
        world.request(Method::POST, "/events").json(&json!({"channels": ["user:42"]})),
        world.request(Method::POST, "/publish").json(&json!({"channel": "a"})),
        world.get("/channels/a/events"),
        world.request(Method::DELETE, "/channels/a"),
        world.request(Method::POST, "/channels/a/cancel"),
        world.request(Method::POST, "/channels/a/events").body("x"),
        world.request(Method::POST, "/api/sse/notify?userId=42&message=x"),
        world.request(Method::POST, "/chat").json(&json!({"question": "x"})),
        world.request(Method::POST, "/demo/jobs?name=x").body("x"),
    ] {
        assert_eq!(ask(request).await, missing());
    }
}

#[tokio::test]
async fn what_needs_no_token() {
    let world = World::start(Lane::Direct, "").await;
    assert_eq!(ask(world.get("/")).await.status, 200);
    assert_eq!(ask(world.get("/demo/page.js")).await.status, 200);
    assert_eq!(ask(world.get("/nothing")).await.status, 404);
    let preflight = world.request(Method::OPTIONS, STREAM).header("origin", "https://app.example.com");
    let preflight = preflight.header("access-control-request-method", "GET");
    let answered = preflight.header("access-control-request-headers", "authorization").send().await.unwrap();
    assert_eq!(answered.status(), 200);
    assert_eq!(answered.headers()["access-control-allow-origin"], "https://app.example.com");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(world.gateway.admin(path).await.status(), 200);
    }
    // A page has to see why it was refused.
    let refused = world.get(STREAM).header("origin", "https://app.example.com").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://app.example.com");
}

#[tokio::test]
async fn the_header_wins_then_the_query() {
    let world = World::start(Lane::Direct, PLACES).await;
    let (good, bad) = (world.token(&json!({})), world.token(&json!({"exp": 1})));
    let expired = refused(&AuthError::Expired.to_string());
    let cookie = |token: &str| format!("sse_token={token}");
    let by_query = |token: &str| world.get(&format!("{STREAM}&access_token={token}"));
    assert_eq!(ask(by_query(&good).bearer_auth(&bad).header("cookie", cookie(&good))).await, expired);
    assert_eq!(ask(by_query(&bad).bearer_auth(&good).header("cookie", cookie(&bad))).await.status, 200);
    assert_eq!(ask(by_query(&bad).header("cookie", cookie(&good))).await, expired);
    assert_eq!(ask(by_query(&good).header("cookie", cookie(&bad))).await.status, 200);
    let twice = ask(world.get(&format!("{STREAM}&access_token={good}&access_token={good}"))).await;
    assert_eq!(twice, refused(&AuthError::Malformed.to_string()));
    // The operator's key is for the header alone.
    let text = refused(&AuthError::Malformed.to_string());
    let key: String =
        reqwest::Url::parse_with_params("http://h", [("access_token", OPERATOR)]).unwrap().query().unwrap().into();
    assert_eq!(ask(world.get(&format!("{STREAM}&{key}"))).await, text);
    assert_eq!(ask(world.get(STREAM).bearer_auth("").header("cookie", cookie(&good))).await.status, 401);
}

#[tokio::test]
async fn cookies_of_other_origins_are_not_taken() {
    let world = World::start(Lane::Direct, PLACES).await;
    let good = world.token(&json!({"publish": ["a"]}));
    let own = format!("http://{}", world.gateway.public);
    let origin = |value: &str| world.get(STREAM).header("cookie", format!("sse_token={good}")).header("origin", value);
    for taken in [&own, &own.to_uppercase().replace("HTTP", "http"), "https://app.example.com"] {
        assert_eq!(ask(origin(taken)).await.status, 200, "{taken}");
    }
    let port = world.gateway.public.rsplit_once(':').unwrap().1;
    for other in ["https://evil.example.com", "null", "", "http://localhost", &format!("http://127.0.0.1.evil:{port}")]
    {
        assert_eq!(ask(origin(other)).await, foreign(), "{other}");
    }
    assert_eq!(ask(origin(&own).header("origin", "https://evil.example.com")).await, foreign());
    // With a header of its own nobody is led to send anything.
    assert_eq!(
        ask(world.get(STREAM).bearer_auth(&good).header("origin", "https://evil.example.com")).await.status,
        200
    );

    let post = || {
        let request = world.request(Method::POST, "/channels/a/events").header("cookie", format!("sse_token={good}"));
        request.body("x")
    };
    assert_eq!(ask(post()).await.status, 200);
    for (site, status) in [("same-origin", 200), ("same-site", 200), ("none", 200), ("cross-site", 403)] {
        assert_eq!(ask(post().header("sec-fetch-site", site)).await.status, status, "{site}");
    }
    assert_eq!(ask(post().header("origin", "null")).await, foreign());
    assert_eq!(ask(post().header("origin", &own)).await.status, 200);
    assert_eq!(world.gateway.metric("sse_gateway_auth_refused_total{reason=\"origin\"}").await, 8.0);
}
