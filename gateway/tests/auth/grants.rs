//! What a token grants: which channels may be read, which published to, and what only the operator may.

use serde_json::json;

use super::*;
use crate::support::Stream;

fn denied(field: &str) -> Answer {
    Answer {
        status: 403,
        problem: "channel-not-granted".into(),
        detail: "the token does not grant this channel".into(),
        field: field.into(),
        challenge: None,
    }
}

fn reserved(field: &str) -> Answer {
    let detail = "channels beginning sse. are the cluster's own: they need the operator key";
    Answer { detail: detail.into(), ..denied(field) }
}

#[tokio::test]
async fn reading() {
    let world = World::start(Lane::Direct, "").await;
    let token = world.token(&json!({"channels": ["news", "room:*", "sse.*"]}));
    let get = |path: &str| ask(world.get(path).bearer_auth(&token));
    for path in [
        "/events?channel=user:42",
        "/events?channel=news&channel=room:1&channel=user:42",
        "/events",
        "/api/sse/connect",
        "/api/sse/connect?userId=42",
        "/channels/room:7/events",
    ] {
        assert_eq!(get(path).await.status, 200, "{path}");
    }
    for (path, field) in [
        ("/events?channel=news&channel=other", "channel"),
        ("/events?channel=user:421", "channel"),
        ("/api/sse/connect?userId=7", "userId"),
        ("/channels/other/events", "channel"),
        // What else is wrong with it is not looked at.
        ("/events?channel=other&last_event_id=nonsense&replay=nonsense", "channel"),
    ] {
        assert_eq!(get(path).await, denied(field), "{path}");
    }
    let body = |channels: Value| {
        ask(world.request(Method::POST, "/events?replay=x").bearer_auth(&token).json(&json!({"channels": channels})))
    };
    assert_eq!(body(json!(["news", "other"])).await, denied("channels[1]"));
    assert_eq!(body(json!(["news"])).await.field, "replay");
    assert_eq!(get("/events?channel=sse.control").await, reserved("channel"));
    assert_eq!(get("/channels/sse.control/events").await, reserved("channel"));

    let nobody = world.keys[0].token(Some("HS256"), &claims(&json!({"sub": null})));
    assert_eq!(ask(world.get("/events").bearer_auth(&nobody)).await.status, 401);
    let mut without: Value = serde_json::from_str(&claims(&json!({}))).unwrap();
    without.as_object_mut().unwrap().remove("sub");
    let without = world.keys[0].token(Some("HS256"), &without.to_string());
    let missing = ask(world.get("/events").bearer_auth(&without)).await;
    assert_eq!((missing.status, &*missing.problem, &*missing.field), (400, "missing-value", "channel"));
    assert_eq!(world.gateway.metric("sse_gateway_auth_refused_total{reason=\"not_granted\"}").await, 8.0);
}

#[tokio::test]
async fn the_default_channel_is_the_users_own() {
    let world = World::start(Lane::Direct, "").await;
    let mut stream = Stream::open(world.get("/events").bearer_auth(world.token(&json!({})))).await;
    stream.opened().await;
    for (channel, data) in [("user:7", "no"), ("user:42", "yes")] {
        let request = world.request(Method::POST, "/publish").bearer_auth(OPERATOR);
        assert_eq!(ask(request.json(&json!({"channel": channel, "data": data}))).await.status, 200);
    }
    assert_eq!(stream.data().await.as_deref(), Some("yes"));
}

#[tokio::test]
async fn publishing() {
    let world = World::start(Lane::Direct, "").await;
    let token = world.token(&json!({"publish": ["news", "room:*", "chat:*"]}));
    let post = |path: &str| world.request(Method::POST, path).bearer_auth(&token);
    let one = |channel: &str| ask(post("/publish").json(&json!({"channel": channel, "data": 1})));
    assert_eq!(one("news").await.status, 200);
    assert_eq!(one("user:42").await, denied("channel"), "one's own channel is for reading");

    let several = post("/publish").json(&json!({"channels": ["news", "other", "room:1"], "data": 1}));
    let results: Value = several.send().await.unwrap().json().await.unwrap();
    assert!(results["results"][0]["id"].is_string() && results["results"][2]["id"].is_string(), "{results}");
    let not = json!({"channel": "other", "error": "the token does not grant this channel"});
    assert_eq!(results["results"][1], not);
    let none = ask(post("/publish").json(&json!({"channels": ["other", "user:42"], "data": 1}))).await;
    assert_eq!((none.status, &*none.problem, &*none.field), (403, "channel-not-granted", "channels"));

    let lines = "{\"channel\":\"news\"}\n{\"channel\":\"other\"}\n{\"channels\":[\"other\",\"news\"]}";
    let batch = post("/publish").header("content-type", "application/x-ndjson").body(lines).send().await.unwrap();
    assert_eq!(batch.status(), 200);
    let text = batch.text().await.unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(answers[0]["id"].is_string() && answers[2]["results"][1]["id"].is_string(), "{text}");
    assert_eq!((&answers[1]["status"], &answers[1]["field"]), (&json!(403), &json!("channel")), "{text}");
    assert_eq!(answers[2]["results"][0], not);

    for (request, field) in [
        (post("/channels/other/events").body("x"), "channel"),
        (post("/channels/other/cancel"), "channel"),
        (world.request(Method::DELETE, "/channels/other").bearer_auth(&token), "channel"),
        (post("/api/sse/notify?userId=42&message=x"), "userId"),
        (post("/chat").json(&json!({"question": "x", "channel": "other:1"})), "channel"),
    ] {
        assert_eq!(ask(request).await, denied(field));
    }
    let job = ask(post("/demo/jobs?name=x").body("x")).await;
    assert_eq!((job.status, &*job.field), (403, "channel"));
    assert!(job.detail.ends_with("job:*"), "{}", job.detail);
    for (request, status) in [
        (post("/channels/room:1/events").body("x"), 200),
        (post("/channels/room:1/cancel"), 200),
        (world.request(Method::DELETE, "/channels/room:1").bearer_auth(&token), 200),
        (post("/chat").header("accept", "application/json").json(&json!({"question": "x"})), 202),
        // To publish is not to read.
        (world.get("/channels/room:1/events").bearer_auth(&token), 403),
    ] {
        assert_eq!(ask(request).await.status, status);
    }
}

#[tokio::test]
async fn the_operator_may_do_everything() {
    let world = World::start(Lane::Direct, "").await;
    let get = |path: &str| ask(world.get(path).bearer_auth(OPERATOR));
    for path in
        ["/events?channel=user:7", "/events?channel=sse.control", "/api/sse/connect?userId=7", "/channels/a/events"]
    {
        assert_eq!(get(path).await.status, 200, "{path}");
    }
    assert_eq!(get("/events").await.field, "channel", "an operator is no user");
    let other = OPERATOR.replace("operator", "Operator");
    assert_eq!(ask(world.get("/events?channel=a").bearer_auth(other)).await.problem, "unauthorized");
    let publish =
        world.request(Method::POST, "/publish").bearer_auth(OPERATOR).json(&json!({"channel": "sse.control"}));
    assert_eq!(ask(publish).await.problem, "reserved-name", "nobody publishes there");
}

#[tokio::test]
async fn without_keys_for_tokens_everything_is_open_but_the_clusters_own() {
    let gateway = Gateway::builder().env("SSE_GATEWAY__AUTH__OPERATOR_KEY", OPERATOR).start().await;
    let get = |path: &str| gateway.client.get(gateway.url(path));
    for request in [get("/events?channel=a"), get("/events?channel=a").bearer_auth("anything")] {
        assert_eq!(ask(request).await.status, 200);
    }
    assert_eq!(ask(get("/events?channel=sse.control")).await, reserved("channel"));
    assert_eq!(ask(get("/events?channel=sse.control").bearer_auth("anything")).await, reserved("channel"));
    assert_eq!(ask(get("/events?channel=sse.control").bearer_auth(OPERATOR)).await.status, 200);
    let response = get("/events?channel=a").header("origin", "https://any.example.com").send().await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}
