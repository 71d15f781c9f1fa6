//! Users' leases in Redis, by the parts of several nodes: never more than the limit while Redis is there, by each node while it
//! is not.

use std::sync::Arc;
use std::time::Duration;

use gateway::broker::leases::{Lease, Leases, UserFull};
use gateway::broker::redis::RedisBroker;
use gateway::broker::redis::leases::keep;
use gateway::metrics::{BrokerMetrics, LimitMetrics};
use shared::redis::Settings;
use testkit::{Proxy, RedisServer, eventually, soon};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a node has of leases, and the task that keeps them. Dropped, it is as if the node were killed.
struct Node {
    leases: Arc<Leases>,
    _keeping: JoinSet<()>,
    stop: CancellationToken,
}

impl Node {
    async fn start(redis: &RedisServer, limit: usize, time: Duration) -> Self {
        Self::start_at(&redis.url(), Duration::from_millis(500), limit, time).await
    }

    /// With Redis at this URL, and so long for a command.
    async fn start_at(url: &str, command_timeout: Duration, limit: usize, time: Duration) -> Self {
        let settings = Settings { command_timeout, ..Settings::new(url) };
        let broker = RedisBroker::connect(&settings, "node", BrokerMetrics::new()).await.unwrap();
        let (registry, releases) = broker.registry(time);
        let leases = Leases::new(limit, Some(registry), Arc::new(LimitMetrics::new()));
        let (mut keeping, stop) = (JoinSet::new(), CancellationToken::new());
        keeping.spawn(keep(leases.clone(), releases, stop.clone()));
        let node = Self { leases, _keeping: keeping, stop };
        // Until then its own count decides.
        node.is_connected().await;
        node
    }

    async fn is_connected(&self) {
        eventually("it asks Redis", async || self.leases.is_shared().then_some(())).await;
    }

    async fn take(&self, user: &str) -> Result<Lease, UserFull> {
        soon("an answer", self.leases.take(user)).await
    }
}

async fn held(redis: &RedisServer, user: &str) -> usize {
    redis.cli(&["ZCARD", &format!("sse.user:{user}")]).await.trim().parse().unwrap()
}

async fn becomes(redis: &RedisServer, user: &str, count: usize) {
    eventually(&format!("{count} leases"), async || (held(redis, user).await == count).then_some(())).await;
}

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn over_all_nodes_never_more_than_the_limit() {
    let redis = RedisServer::start().await;
    let nodes = [1, 2, 3].map(|_| Node::start(&redis, 3, LONG));
    let nodes: [Node; 3] = futures_util::future::join_all(nodes).await.try_into().ok().unwrap();
    // All at once, as tabs that come back.
    let tries = (0..30).map(|number| nodes[number % 3].take("42"));
    let mut taken: Vec<Lease> = futures_util::future::join_all(tries).await.into_iter().flatten().collect();
    assert_eq!((taken.len(), held(&redis, "42").await), (3, 3));
    assert!(nodes[0].take("other").await.is_ok());
    taken.pop();
    becomes(&redis, "42", 2).await;
    taken.push(nodes[1].take("42").await.unwrap());
    assert_eq!(nodes[2].take("42").await.unwrap_err(), UserFull);
    drop(taken);
    eventually("nothing is left", async || (redis.cli(&["EXISTS", "sse.user:42"]).await.trim() == "0").then_some(()))
        .await;
}

#[tokio::test]
async fn the_places_of_a_node_that_is_killed_come_free_and_those_of_others_stay() {
    let redis = RedisServer::start().await;
    let (lives, dies) = (Node::start(&redis, 2, SHORT).await, Node::start(&redis, 2, SHORT).await);
    let _held = lives.take("42").await.unwrap();
    let lost = dies.take("42").await.unwrap();
    assert_eq!(lives.take("42").await.unwrap_err(), UserFull);
    // It renews nothing any more, and gives nothing back.
    drop(dies._keeping);
    std::mem::forget(lost);
    let again = eventually("the place of the node that was killed", async || lives.take("42").await.ok()).await;
    // For several times the life of a lease: it is renewed.
    for _ in 0..3 {
        let expiry = async || redis.cli(&["ZRANGE", "sse.user:42", "0", "0", "WITHSCORES"]).await;
        let before = expiry().await;
        eventually("a renewal", async || (expiry().await != before).then_some(())).await;
        assert_eq!(lives.take("42").await.unwrap_err(), UserFull);
    }
    drop(again);
}

#[tokio::test]
async fn without_redis_each_nodes_own_count_decides_and_redis_learns_of_it() {
    let mut redis = RedisServer::start().await;
    let (one, two) = (Node::start(&redis, 2, SHORT).await, Node::start(&redis, 2, SHORT).await);
    let mut held_here = vec![one.take("42").await.unwrap()];
    redis.kill().await;
    for node in [&one, &two] {
        eventually("it is noticed", async || (!node.leases.is_shared()).then_some(())).await;
    }
    held_here.push(one.take("42").await.unwrap());
    assert_eq!(one.take("42").await.unwrap_err(), UserFull, "here there are two");
    let mut held_there = vec![two.take("42").await.unwrap(), two.take("42").await.unwrap()];
    assert_eq!(two.take("42").await.unwrap_err(), UserFull);
    redis.restart().await;
    // All are registered, though they are more than the limit: none is closed for it.
    becomes(&redis, "42", 4).await;
    one.is_connected().await;
    held_here.pop();
    held_here.pop();
    becomes(&redis, "42", 2).await;
    assert_eq!(one.take("42").await.unwrap_err(), UserFull);
    held_there.pop();
    becomes(&redis, "42", 1).await;
    assert!(one.take("42").await.is_ok());
}

#[tokio::test]
async fn a_server_that_does_not_answer_keeps_nobody_waiting() {
    let redis = RedisServer::start().await;
    let node = Node::start(&redis, 2, SHORT).await;
    redis.pause().await;
    let held = [node.take("42").await.unwrap(), node.take("42").await.unwrap()];
    assert_eq!(node.take("42").await.unwrap_err(), UserFull);
    redis.resume().await;
    becomes(&redis, "42", 2).await;
    drop(held);
    eventually("nothing is left", async || (redis.cli(&["EXISTS", "sse.user:42"]).await.trim() == "0").then_some(()))
        .await;
}

#[tokio::test]
async fn a_server_that_has_forgotten_everything_is_told_again() {
    let redis = RedisServer::start().await;
    let node = Node::start(&redis, 2, SHORT).await;
    let _held = node.take("42").await.unwrap();
    redis.cli(&["FLUSHALL"]).await;
    redis.cli(&["FUNCTION", "FLUSH"]).await;
    becomes(&redis, "42", 1).await;
    assert!(node.take("42").await.is_ok());
}

#[tokio::test]
async fn a_node_that_stops_gives_all_of_it_back() {
    let redis = RedisServer::start().await;
    let node = Node::start(&redis, 500, LONG).await;
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(node.take("42").await.unwrap());
    }
    assert_eq!(redis.cli(&["ZCARD", "sse.user:42"]).await.trim(), "400");
    drop(held);
    node.stop.cancel();
    becomes(&redis, "42", 0).await;
}

#[tokio::test]
async fn two_that_find_the_connection_broken_end_one_session() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let node = Node::start_at(&proxy.url(), Duration::from_secs(5), 10, LONG).await;
    let before = proxy.accepted();
    // Both are on their way when it breaks.
    proxy.delay(Duration::from_millis(200));
    let broken = async {
        // Polled after them.
        proxy.reset();
        proxy.pass();
    };
    let (one, two, ()) = tokio::join!(node.take("1"), node.take("2"), broken);
    node.is_connected().await;
    becomes(&redis, "1", 1).await;
    // What is given back shows that the session serves.
    drop((one, two));
    becomes(&redis, "1", 0).await;
    becomes(&redis, "2", 0).await;
    assert_eq!(proxy.accepted(), before + 1, "one session after the one that broke");
}

#[tokio::test]
async fn a_key_that_is_something_else_spoils_no_other() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let node = Node::start_at(&proxy.url(), Duration::from_secs(5), 1, SHORT).await;
    let before = proxy.accepted();
    redis.cli(&["SET", "sse.user:bad", "x"]).await;
    let bad = node.take("bad").await.unwrap();
    assert_eq!(node.take("bad").await.unwrap_err(), UserFull, "by this node's own count");
    let mut others = Vec::new();
    // In all parts of what is renewed.
    for number in 0..100 {
        others.push(node.take(&number.to_string()).await.unwrap());
    }
    let expiry = async || redis.cli(&["ZRANGE", "sse.user:7", "0", "0", "WITHSCORES"]).await;
    for _ in 0..3 {
        let before = expiry().await;
        eventually("a renewal", async || (expiry().await != before).then_some(())).await;
    }
    drop(others);
    for user in ["0", "7", "99"] {
        becomes(&redis, user, 0).await;
    }
    // As soon as it is what it should be, it is registered, and given back.
    redis.cli(&["DEL", "sse.user:bad"]).await;
    becomes(&redis, "bad", 1).await;
    drop(bad);
    becomes(&redis, "bad", 0).await;
    assert_eq!(proxy.accepted(), before, "the same session all the time");
}

#[tokio::test]
async fn what_ended_is_given_back_where_renewals_take_all_the_time_there_is() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    // A part has its turn every 400 ms.
    let node = Node::start_at(&proxy.url(), Duration::from_secs(5), 1, Duration::from_secs(20)).await;
    let mut others = Vec::new();
    for number in 0..200 {
        others.push(node.take(&number.to_string()).await.unwrap());
    }
    proxy.delay(Duration::from_millis(300));
    // None of them expires before it was waited for in vain.
    others.drain(40..45);
    for user in 40..45 {
        becomes(&redis, &user.to_string(), 0).await;
    }
    assert_eq!(held(&redis, "7").await, 1);
}

#[tokio::test]
async fn all_of_a_crowd_is_given_back() {
    const USERS: usize = 200;
    let redis = RedisServer::start().await;
    let node = Node::start(&redis, 100, LONG).await;
    let mut held = Vec::new();
    for user in 0..USERS {
        let user = user.to_string();
        held.extend(futures_util::future::join_all((0..100).map(|_| node.take(&user))).await);
    }
    assert!(held.iter().all(Result::is_ok));
    // All at once, without a moment for the task that gives them back.
    drop(held);
    eventually("nothing is left", async || redis.cli(&["KEYS", "sse.user:*"]).await.trim().is_empty().then_some(()))
        .await;
}
