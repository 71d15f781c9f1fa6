//! Streams that end, or go on, because somebody says so: disconnected, revoked, renewed, expired; on whichever node.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use shared::event_stream::decode::Decoded;
use testkit::{RedisServer, TokenKey, eventually};

use super::{Answer, ask, now};
use crate::support::{Gateway, Stream};

const SECRET: &str = "a secret of the tests, long enough for HS256";
const OPERATOR: &str = "an operator's key of the tests, long enough";

/// Two nodes on one Redis, or one by itself, that ask for tokens.
struct Nodes {
    nodes: Vec<Gateway>,
    redis: Option<RedisServer>,
}

impl Nodes {
    async fn two() -> Self {
        let redis = RedisServer::start().await;
        let nodes = vec![start(Some(&redis)).await, start(Some(&redis)).await];
        Self { nodes, redis: Some(redis) }
    }

    fn request(&self, node: usize, method: Method, path: &str) -> RequestBuilder {
        let node = &self.nodes[node];
        node.client.request(method, node.url(path))
    }

    fn get(&self, node: usize, path: &str) -> RequestBuilder {
        self.request(node, Method::GET, path)
    }

    fn post(&self, node: usize, path: &str, body: &Value) -> RequestBuilder {
        self.request(node, Method::POST, path).json(body)
    }
}

async fn start(redis: Option<&RedisServer>) -> Gateway {
    let config = format!("[auth]\nsecret = \"{SECRET}\"\noperator_key = \"{OPERATOR}\"\nleeway = \"0s\"\n");
    let builder = Gateway::builder().config(&config);
    match redis {
        Some(redis) => builder.env("SSE_GATEWAY__REDIS__URL", &redis.url()).start().await,
        None => builder.start().await,
    }
}

fn token(claims: &Value) -> String {
    let mut all = json!({"sub": "42", "jti": "j1", "iat": now(), "exp": now() + 600});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    TokenKey::hs256(SECRET.as_bytes()).token(None, &all.to_string())
}

/// A stream by `token`, and the name that it has.
async fn open(nodes: &Nodes, node: usize, path: &str, token: &str) -> (Stream, String) {
    let mut stream = Stream::open(nodes.get(node, path).bearer_auth(token)).await;
    let open = stream.opened().await;
    (stream, open["connection"].as_str().unwrap().to_owned())
}

/// The data of the next event of that name.
async fn named(stream: &mut Stream, name: &str) -> String {
    loop {
        match stream.next().await.unwrap_or_else(|| panic!("it ended before {name}")) {
            Decoded::Event(event) if event.event == name => return event.data,
            _ => {}
        }
    }
}

/// It comes to its end.
async fn ended(stream: &mut Stream) {
    while stream.next().await.is_some() {}
}

async fn status(request: RequestBuilder) -> u16 {
    ask(request).await.status
}

async fn body(request: RequestBuilder) -> Value {
    let response: Response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_revoked_token_is_good_on_no_node() {
    let nodes = Nodes::two().await;
    let (one, other) = (token(&json!({})), token(&json!({"jti": "j2"})));
    let (mut revoked, _) = open(&nodes, 0, "/events", &one).await;
    let (mut kept, _) = open(&nodes, 1, "/events", &other).await;
    give(&nodes, "revoke", json!({"revoke": {"token": "j1", "at": now(), "until": now() + 600}})).await;
    assert_eq!(named(&mut revoked, "sse.unauthorized").await, "{\"reason\":\"revoked\"}");
    ended(&mut revoked).await;
    for node in [0, 1] {
        eventually("both know", async || {
            (status(nodes.get(node, "/events").bearer_auth(&one)).await == 401).then_some(())
        })
        .await;
        assert_eq!(status(nodes.get(node, "/events").bearer_auth(&other)).await, 200);
    }
    let later = start(nodes.redis.as_ref()).await;
    let answer = ask(later.client.get(later.url("/events")).bearer_auth(&one)).await;
    assert_eq!((answer.status, answer.detail.as_str()), (401, "the token was revoked"));

    give(&nodes, "revoke", json!({"revoke": {"user": "42", "at": now(), "until": now() + 600}})).await;
    assert_eq!(named(&mut kept, "sse.unauthorized").await, "{\"reason\":\"revoked\"}");
    assert_eq!(status(nodes.get(1, "/events").bearer_auth(&other)).await, 401);
    let fresh = token(&json!({"iat": now() + 1}));
    assert_eq!(status(nodes.get(1, "/events").bearer_auth(token(&json!({"jti": "j3", "iat": now() + 2})))).await, 200);
    assert_eq!(status(nodes.get(1, "/events").bearer_auth(&fresh)).await, 401, "its jti was revoked");
}

/// As the publisher's service does, which has the routes on Redis.
async fn give(nodes: &Nodes, what: &str, order: Value) {
    let redis = nodes.redis.as_ref().unwrap();
    if let Some(revoked) = order.get("revoke") {
        let until = revoked["until"].to_string();
        assert_eq!(redis.cli(&["ZADD", "sse.revoked", &until, &revoked.to_string()]).await, "1", "{what}");
    }
    redis.cli(&["XADD", "sse.control", "*", "o", &order.to_string()]).await;
}

#[tokio::test]
async fn disconnected_streams_may_come_back() {
    let nodes = Nodes::two().await;
    let token = token(&json!({"channels": ["chat:*"]}));
    let (mut chat, _) = open(&nodes, 0, "/events?channel=chat:7&channel=chat:8", &token).await;
    let (mut other, _) = open(&nodes, 1, "/events?channel=chat:8", &token).await;
    give(&nodes, "a channel", json!({"disconnect_channel": {"channel": "chat:7"}})).await;
    ended(&mut chat).await;
    let (_back, _) = open(&nodes, 0, "/events?channel=chat:7", &token).await;
    give(&nodes, "a user", json!({"disconnect_user": {"user": "42"}})).await;
    ended(&mut other).await;
    let metric = "sse_gateway_connections_closed_total{reason=\"disconnected\"}";
    eventually("both were counted", async || (nodes.nodes[0].metric(metric).await == 2.0).then_some(())).await;
}

#[tokio::test]
async fn a_stream_is_renewed_by_whichever_node_and_else_ends_with_its_token() {
    let nodes = Nodes::two().await;
    let short = token(&json!({"exp": now() + 4}));
    let (mut renewed, name) = open(&nodes, 0, "/events", &short).await;
    let (mut other, other_name) = open(&nodes, 1, "/events", &short).await;
    let expiring: Value = serde_json::from_str(&named(&mut renewed, "sse.token-expiring").await).unwrap();
    assert_eq!(expiring["connection"], name);

    let fresh = token(&json!({}));
    let renew = |node: usize, name: &str, token: &str| {
        nodes.post(node, "/events/renew", &json!({"connection": name})).bearer_auth(token)
    };
    let narrow = token(&json!({"sub": "7"}));
    assert_eq!(status(renew(0, &name, &narrow)).await, 403, "another user's");
    assert_eq!(status(renew(1, &name, &fresh)).await, 202, "it is on the other node");
    assert_eq!(named(&mut other, "sse.unauthorized").await, "{\"reason\":\"expired\"}");
    ended(&mut other).await;
    assert_eq!(status(renew(0, &name, &fresh)).await, 204);
    assert_eq!(status(renew(0, &other_name, &fresh)).await, 202, "nobody knows it any more");
    for (body, field) in [(json!({"connection": "x"}), "connection"), (json!({}), "connection")] {
        assert_eq!(ask(nodes.post(0, "/events/renew", &body).bearer_auth(&fresh)).await.field, field);
    }
    assert_eq!(status(renew(0, &name, &token(&json!({"exp": now() - 1})))).await, 401);
    nodes.redis.as_ref().unwrap().cli(&["PUBLISH", "sse:user:42", "still here"]).await;
    assert_eq!(renewed.data().await.as_deref(), Some("still here"));
}

#[tokio::test]
async fn a_ticket_is_good_once_on_whichever_node() {
    let nodes = Nodes::two().await;
    let good = token(&json!({"channels": ["chat:7"]}));
    let answer = body(nodes.post(0, "/tickets", &json!({})).bearer_auth(&good)).await;
    let ticket = answer["ticket"].as_str().unwrap();
    assert_eq!((ticket.len(), &answer["expires_in"]), (32, &json!(30)));
    let path = |ticket: &str, channel: &str| format!("/events?channel={channel}&ticket={ticket}");
    assert_eq!(status(nodes.get(1, &path(ticket, "chat:7"))).await, 200);
    for node in [0, 1] {
        let Answer { status, detail, .. } = ask(nodes.get(node, &path(ticket, "chat:7"))).await;
        assert_eq!((status, detail.as_str()), (401, "the ticket is not known, was used, or is over"));
    }
    let next = body(nodes.post(1, "/tickets", &json!({})).bearer_auth(&good)).await;
    assert_eq!(status(nodes.get(0, &path(next["ticket"].as_str().unwrap(), "other"))).await, 403);
    assert_eq!(status(nodes.post(0, "/tickets", &json!({}))).await, 401);
    assert_eq!(status(nodes.post(0, "/tickets", &json!({})).bearer_auth(OPERATOR)).await, 409);
    assert_eq!(status(nodes.get(0, "/events?ticket=")).await, 401);
    let keys = nodes.redis.as_ref().unwrap().cli(&["KEYS", "sse.ticket:*"]).await;
    assert!(keys.trim().is_empty(), "{keys}");
}

/// An EventSource comes back by the URL that it has.
#[tokio::test]
async fn a_ticket_is_not_used_up_by_being_told_to_come_back() {
    let config = format!("[auth]\nsecret = \"{SECRET}\"\n[limits]\nmax_connections = 1\n");
    let nodes = Nodes { nodes: vec![Gateway::builder().config(&config).start().await], redis: None };
    let good = token(&json!({}));
    let (first, _) = open(&nodes, 0, "/events", &good).await;
    let ticket = body(nodes.post(0, "/tickets", &json!({})).bearer_auth(&good)).await;
    let path = format!("/events?ticket={}", ticket["ticket"].as_str().unwrap());
    for _ in 0..3 {
        let mut turned_away = Stream::open(nodes.get(0, &path)).await;
        let said = turned_away.rest().await;
        assert!(turned_away.status == 200 && matches!(&said[..], [Decoded::Retry(_)]), "{said:?}");
    }
    drop(first);
    nodes.nodes[0].metric_becomes(&nodes.nodes[0].open(), 0.0).await;
    let mut second = Stream::open(nodes.get(0, &path)).await;
    second.opened().await;
    assert_eq!(status(nodes.get(0, &path)).await, 401, "now it is");
    // Another method, and another header, do not touch a ticket.
    let ticket = body(nodes.post(0, "/tickets", &json!({})).bearer_auth(&good)).await;
    let path = format!("/events?ticket={}", ticket["ticket"].as_str().unwrap());
    assert_eq!(status(nodes.post(0, &path, &json!({"channels": ["a"]}))).await, 401);
    drop(second);
    nodes.nodes[0].metric_becomes(&nodes.nodes[0].open(), 0.0).await;
    let mut third = Stream::open(nodes.get(0, &path).basic_auth("nginx", Some("x"))).await;
    third.opened().await;
}

#[tokio::test]
async fn one_node_by_itself_has_all_of_it() {
    let nodes = Nodes { nodes: vec![start(None).await], redis: None };
    let good = token(&json!({"channels": ["chat:7"]}));
    let (mut chat, _) = open(&nodes, 0, "/events?channel=chat:7", &good).await;
    let operator = |path: &str, body: &Value| nodes.post(0, path, body).bearer_auth(OPERATOR);
    assert_eq!(status(nodes.post(0, "/channels/chat:7/disconnect", &json!({})).bearer_auth(&good)).await, 403);
    assert_eq!(status(operator("/channels/chat:7/disconnect", &json!({}))).await, 202);
    ended(&mut chat).await;
    let (mut own, _) = open(&nodes, 0, "/events", &good).await;
    assert_eq!(status(operator("/users/42/disconnect", &json!({}))).await, 202);
    ended(&mut own).await;
    let ticket = body(nodes.post(0, "/tickets", &json!({})).bearer_auth(&good)).await;
    let path = format!("/events?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut by_ticket = Stream::open(nodes.get(0, &path)).await;
    by_ticket.opened().await;
    assert_eq!(status(operator("/tokens/revoke", &json!({"jti": "j1"}))).await, 202);
    assert_eq!(named(&mut by_ticket, "sse.unauthorized").await, "{\"reason\":\"revoked\"}");
    ended(&mut by_ticket).await;
    assert_eq!(status(nodes.get(0, "/events").bearer_auth(&good)).await, 401);
    assert_eq!(ask(operator("/tokens/revoke", &json!({}))).await.field, "jti");
}
