//! Streams of one user, over the nodes of a cluster.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use shared::event_stream::decode::Decoded;
use testkit::{RedisServer, TokenKey, eventually};

use crate::support::{Gateway, Stream};

const SECRET: &str = "a secret of the tests, long enough for HS256";

fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    TokenKey::hs256(SECRET.as_bytes()).token(None, &json!({ "sub": user, "exp": now + 3_600 }).to_string())
}

fn config(lease: &str) -> String {
    format!("[auth]\nsecret = \"{SECRET}\"\n[limits]\nmax_connections_per_user = 3\nuser_lease = \"{lease}\"")
}

/// A stream of the user; `None` where it is turned away.
async fn open(gateway: &Gateway, user: &str) -> Option<Stream> {
    let mut stream = Stream::open(gateway.fresh().get(gateway.url("/events")).bearer_auth(token(user))).await;
    assert_eq!(stream.status, 200);
    loop {
        match stream.next().await {
            Some(Decoded::Event(event)) if event.event == "sse.open" => return Some(stream),
            Some(_) => {}
            None => return None,
        }
    }
}

#[tokio::test]
async fn three_over_three_nodes_and_those_of_a_node_that_is_killed_come_free_within_the_lease() {
    let redis = RedisServer::start().await;
    let start = async || Gateway::on(&redis).config(&config("2s")).start().await;
    let (one, two, mut three) = (start().await, start().await, start().await);
    // Crowds of tabs, on all nodes at once.
    let tries = [&one, &two, &three].into_iter().cycle().take(12);
    let open_all = futures_util::future::join_all(tries.map(|gateway| open(gateway, "42"))).await;
    assert_eq!(open_all.iter().flatten().count(), 3, "never 4");
    drop(open_all);
    for gateway in [&one, &two, &three] {
        gateway.metric_becomes(&gateway.open(), 0.0).await;
    }

    let mut held = Vec::new();
    for gateway in [&one, &two, &three] {
        held.push(eventually("a place", async || open(gateway, "42").await).await);
    }
    for gateway in [&one, &two, &three] {
        assert!(open(gateway, "42").await.is_none(), "never 4");
        assert!(open(gateway, "43").await.is_some(), "another user has its own");
    }
    assert!(two.metric("sse_gateway_limited_total{limit=\"user\"}").await >= 1.0);
    assert!(two.metric("sse_gateway_connections_turned_away_total{reason=\"user\"}").await >= 1.0);

    three.signal("KILL").await;
    three.exit().await;
    // By Redis' own clock: nobody renews what the killed node had, and all of it ends within the time of a lease.
    let text = redis.cli(&["TIME"]).await;
    let seconds: f64 = text.lines().next().unwrap().trim().parse().unwrap();
    let scores = redis.cli(&["ZRANGE", "sse.user:42", "0", "-1", "WITHSCORES"]).await;
    let scores: Vec<f64> = scores.lines().skip(1).step_by(2).map(|score| score.trim().parse().unwrap()).collect();
    assert_eq!(scores.len(), 3, "nothing was given back");
    assert!(scores.iter().all(|score| *score <= (seconds + 1.0 + 2.0) * 1_000.0), "{scores:?} at {seconds}");
    let back = eventually("the place of the killed node", async || open(&one, "42").await).await;
    assert!(open(&one, "42").await.is_none(), "never 4");
    assert!(open(&two, "42").await.is_none(), "never 4");
    let local = "sse_gateway_user_leases_local_total";
    assert_eq!((one.metric(local).await, two.metric(local).await), (0.0, 0.0));
    // Those of the nodes that live are open still.
    for gateway in [&one, &two] {
        assert!(gateway.metric(&gateway.open()).await >= 1.0);
    }
    drop((held, back));
}

#[tokio::test]
async fn on_one_node_by_its_own_count() {
    let gateway = Gateway::builder().config(&config("30s")).start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(open(&gateway, "42").await.unwrap());
    }
    assert!(open(&gateway, "42").await.is_none());
    assert!(open(&gateway, "43").await.is_some());
    held.pop();
    eventually("the place that came free", async || open(&gateway, "42").await).await;
}
