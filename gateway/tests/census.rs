//! Who is there: connections on a channel and of a user over all nodes, and the nodes themselves; also right after one was killed.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{RedisServer, TokenKey, eventually};

use crate::support::{Gateway, Service};

const SECRET: &str = "a secret of the tests, long enough for HS256";
const OPERATOR: &str = "an operator's key of the tests, long enough";

async fn answer(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn get(service: &Service, path: &str) -> Value {
    answer(service.request(Method::GET, path)).await
}

async fn becomes(service: &Service, path: &str, expected: Value) {
    let what = format!("{path} {expected}");
    eventually(&what, async || (get(service, path).await == expected).then_some(())).await;
}

fn there(of: &Value, connections: u64, nodes: u64) -> Value {
    let mut all = json!({"online": connections > 0, "connections": connections, "nodes": nodes});
    all.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
    all
}

fn names(nodes: &Value) -> Vec<&str> {
    nodes["nodes"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn connections_of_a_channel_over_two_nodes_and_where_it_stands() {
    let redis = RedisServer::start().await;
    let (one, two) = (Gateway::on(&redis).start().await, Gateway::on(&redis).start().await);
    let service = Service::start(&redis.url(), &[]).await;
    let chat = json!({"channel": "chat", "last": null, "ended": false});
    becomes(&service, "/channels/chat", there(&chat, 0, 0)).await;

    let (mut a, mut b, mut c) = (
        one.stream("/events?channel=chat").await,
        one.stream("/events?channel=chat&channel=other").await,
        two.stream("/events?channel=chat").await,
    );
    for stream in [&mut a, &mut b, &mut c] {
        stream.opened().await;
    }
    becomes(&service, "/channels/chat", there(&chat, 3, 2)).await;
    becomes(&service, "/channels/other", there(&json!({"channel": "other", "last": null, "ended": false}), 1, 1)).await;

    let published = service.publish(json!({"channel": "chat", "data": "bye", "end": true})).await;
    let ended = json!({"channel": "chat", "last": published["id"], "ended": true});
    // The streams on it alone end with it.
    becomes(&service, "/channels/chat", there(&ended, 1, 1)).await;
    // What is true of a channel is what a page opens its stream from.
    let cursor = published["id"].as_str().unwrap();
    let again = one.client.get(one.url(&format!("/events?channel=chat&last_event_id={cursor}"))).send().await.unwrap();
    assert_eq!(again.status(), 204);
}

#[tokio::test]
async fn nodes_tell_of_themselves_and_one_that_is_killed_or_stopped_is_gone() {
    let redis = RedisServer::start().await;
    let start = async |name: &str| Gateway::on(&redis).env("SSE_GATEWAY__NODE", name).start().await;
    let (one, mut two, three) = (start("one").await, start("two").await, start("three").await);
    let service = Service::start(&redis.url(), &[]).await;
    let nodes = async |expected: &[&str]| {
        eventually(&format!("nodes {expected:?}"), async || {
            let nodes = get(&service, "/nodes").await;
            (names(&nodes) == expected).then_some(nodes)
        })
        .await
    };
    nodes(&["one", "three", "two"]).await;
    let mut stream = two.stream("/events?channel=chat&channel=other").await;
    stream.opened().await;
    let told = eventually("a word of the open stream", async || {
        let nodes = get(&service, "/nodes").await;
        (nodes["connections"] == 1).then_some(nodes)
    })
    .await;
    let of_two = &told["nodes"][2];
    assert_eq!((&of_two["connections"], &of_two["channels"]), (&json!(1), &json!(2)), "{told}");
    assert_eq!((&of_two["state"], &of_two["version"]), (&json!("serving"), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(of_two["age"].as_u64().unwrap() < 10_000 && of_two["started"].as_u64().unwrap() > 1_700_000_000_000);
    let life = of_two["incarnation"].as_str().unwrap().to_owned();

    // One that hangs is named, and the others are counted.
    two.signal("STOP").await;
    eventually("it is named", async || {
        let silent = get(&service, "/channels/chat").await;
        (silent["silent"] == json!(["two"]) && silent["connections"] == 0).then_some(())
    })
    .await;
    two.signal("CONT").await;
    becomes(&service, "/channels/chat", there(&json!({"channel": "chat", "last": null, "ended": false}), 1, 1)).await;

    two.signal("KILL").await;
    two.exit().await;
    nodes(&["one", "three"]).await;
    assert_eq!(get(&service, "/channels/chat").await["connections"], 0);
    let two = start("two").await;
    let back = nodes(&["one", "three", "two"]).await;
    assert_ne!(back["nodes"][2]["incarnation"], life, "it is another life");
    // Those that end by themselves say so.
    assert!(three.stop().await.status.success());
    assert_eq!(names(&get(&service, "/nodes").await), ["one", "two"]);
    drop((one, two));
}

#[tokio::test]
async fn connections_of_a_user_by_token_and_by_channel_count_once() {
    let redis = RedisServer::start().await;
    let config = format!("[auth]\nsecret = \"{SECRET}\"\noperator_key = \"{OPERATOR}\"");
    let start = async || Gateway::on(&redis).config(&config).start().await;
    let (one, two) = (start().await, start().await);
    let environment = [("SSE_PUBLISHER__AUTH__SECRET", SECRET), ("SSE_PUBLISHER__AUTH__OPERATOR_KEY", OPERATOR)];
    let service = Service::start(&redis.url(), &environment).await;
    let token = |user: &str, channels: Value| {
        let claims = json!({"sub": user, "exp": 9_999_999_999_u64, "channels": channels});
        TokenKey::hs256(SECRET.as_bytes()).token(None, &claims.to_string())
    };
    let own = token("42", json!(["news"]));
    let friend = token("7", json!(["user:42"]));
    let open = async |gateway: &Gateway, path: &str, token: &str| {
        let request = gateway.fresh().get(gateway.url(path)).bearer_auth(token);
        let mut stream = crate::support::Stream::open(request).await;
        stream.opened().await;
        stream
    };
    let streams = [
        // On their channel by their token, elsewhere by their token, on their channel by another's.
        open(&one, "/events", &own).await,
        open(&two, "/events?channel=news", &own).await,
        open(&two, "/events?channel=user:42&channel=user:7", &friend).await,
    ];
    let ask =
        async |path: &str, token: &str| service.request(Method::GET, path).bearer_auth(token).send().await.unwrap();
    eventually("three streams of user 42", async || {
        let answer: Value = ask("/users/42", &own).await.json().await.unwrap();
        (answer == there(&json!({"user": "42"}), 3, 2)).then_some(())
    })
    .await;
    let friends: Value = ask("/users/7", OPERATOR).await.json().await.unwrap();
    assert_eq!(friends, there(&json!({"user": "7"}), 1, 1));

    // Who may not read a channel is not told who is there, and nodes are for operators.
    for (path, token, status) in [
        ("/users/42", &friend, 200),
        ("/users/7", &own, 403),
        ("/channels/news", &own, 200),
        ("/channels/news", &friend, 403),
        ("/channels/sse.x", &own, 403),
        ("/nodes", &own, 403),
    ] {
        assert_eq!(ask(path, token).await.status(), status, "{path}");
    }
    assert_eq!(ask("/nodes", OPERATOR).await.status(), 200);
    assert_eq!(service.request(Method::GET, "/users/42").send().await.unwrap().status(), 401);
    drop(streams);
}

#[tokio::test]
async fn a_node_by_itself_answers_the_same() {
    let gateway = Gateway::builder().env("SSE_GATEWAY__NODE", "alone").start().await;
    let ask = async |path: &str| answer(gateway.client.get(gateway.url(path))).await;
    let mut streams = [gateway.stream("/events?channel=chat").await, gateway.stream("/events?channel=user:42").await];
    for stream in &mut streams {
        stream.opened().await;
    }
    let chat = json!({"channel": "chat", "last": null, "ended": false});
    assert_eq!(ask("/channels/chat").await, there(&chat, 1, 1));
    assert_eq!(ask("/users/42").await, there(&json!({"user": "42"}), 1, 1));
    let nodes = ask("/nodes").await;
    assert_eq!((names(&nodes), &nodes["connections"]), (vec!["alone"], &json!(2)));
    let wrong = gateway.client.get(gateway.url("/channels/a%20b")).send().await.unwrap();
    let wrong = (wrong.status().as_u16(), wrong.json::<Value>().await.unwrap()["field"].clone());
    assert_eq!(wrong, (400, json!("channel")));
    let wrong = gateway.client.get(gateway.url("/users/a%20b")).send().await.unwrap();
    let wrong = (wrong.status().as_u16(), wrong.json::<Value>().await.unwrap()["field"].clone());
    assert_eq!(wrong, (400, json!("id")));
    assert_eq!(gateway.client.post(gateway.url("/nodes")).send().await.unwrap().status(), 405);
    assert_eq!(gateway.client.put(gateway.url("/channels/chat")).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn without_redis_nobody_can_say_and_with_it_again_they_can() {
    let mut redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).env("SSE_GATEWAY__NODE", "one").start().await;
    let service = Service::start(&redis.url(), &[]).await;
    let mut stream = gateway.stream("/events?channel=chat").await;
    stream.opened().await;
    redis.stop().await;
    let response = service.request(Method::GET, "/channels/chat").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    redis.restart().await;
    // Nothing was kept, functions neither.
    eventually("the node and its stream are counted again", async || {
        let response = service.request(Method::GET, "/channels/chat").send().await.unwrap();
        let is_there = response.status() == 200 && response.json::<Value>().await.unwrap()["connections"] == 1;
        is_there.then_some(())
    })
    .await;
    assert_eq!(names(&get(&service, "/nodes").await), ["one"]);
}

#[tokio::test]
async fn many_who_ask_at_once_are_answered() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let service = Service::start(&redis.url(), &[]).await;
    let mut stream = gateway.stream("/events?channel=chat").await;
    stream.opened().await;
    eventually("the node is known", async || (get(&service, "/nodes").await["nodes"][0] != Value::Null).then_some(()))
        .await;
    let all = (0..100).map(|_| get(&service, "/channels/chat"));
    let answers = futures_util::future::join_all(all).await;
    assert!(answers.iter().all(|answer| answer["connections"] == 1 && answer.get("silent").is_none()), "{answers:?}");
    // A few answers that came late are nobody's, and do not stay.
    assert_eq!(redis.cli(&["--raw", "KEYS", "sse.answers:*"]).await.trim(), "");
}
