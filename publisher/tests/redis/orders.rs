//! Orders to all nodes: heard by those that are there, by those that were away, and revocations by those that start later.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use publisher::Publisher;
use publisher::orders::{Hear, Orders};
use shared::channel::Channel;
use shared::order::{Order, Renewal, Revocation};
use shared::redis::Settings;
use testkit::{RedisServer, eventually};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a node has heard.
#[derive(Default)]
struct Heard {
    orders: Mutex<Vec<Order>>,
    revocations: Mutex<Option<Vec<Revocation>>>,
}

impl Hear for Heard {
    fn order(&self, order: Order) {
        self.orders.lock().unwrap().push(order);
    }

    fn revocations(&self, all: Vec<Revocation>) {
        *self.revocations.lock().unwrap() = Some(all);
    }
}

impl Heard {
    /// A node that hears, once it does.
    async fn by(publisher: &Publisher, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        tasks.spawn(Arc::new(publisher.clone()).hear(heard.clone(), CancellationToken::new()));
        eventually("it hears", async || heard.revocations.lock().unwrap().as_ref().map(drop)).await;
        heard
    }

    async fn has(&self, orders: &[Order]) {
        let what = format!("{orders:?}");
        eventually(&what, async || (*self.orders.lock().unwrap() == orders).then_some(())).await;
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn disconnect(user: &str) -> Order {
    Order::DisconnectUser { user: user.to_owned() }
}

fn revocation(token: &str, until: u64) -> Revocation {
    Revocation { token: Some(token.to_owned()), user: None, at: now(), until }
}

async fn publisher(server: &RedisServer) -> Publisher {
    Publisher::connect(&Settings::new(&server.url())).await.unwrap()
}

#[tokio::test]
async fn every_node_hears_every_order_in_turn() {
    let server = RedisServer::start().await;
    let (publisher, mut tasks) = (publisher(&server).await, JoinSet::new());
    publisher.give(&disconnect("before")).await.unwrap();
    let one = Heard::by(&publisher, &mut tasks).await;
    let other = Heard::by(&publisher, &mut tasks).await;
    let orders = [
        Order::DisconnectChannel { channel: Channel::parse("chat:7").unwrap() },
        disconnect("42"),
        Order::Revoke(revocation("j", now() + 60)),
        Order::Renew(Renewal { connection: "00ff".to_owned(), token: serde_json::json!({"sub": "42"}) }),
    ];
    for order in &orders {
        publisher.give(order).await.unwrap();
    }
    one.has(&orders).await;
    other.has(&orders).await;
}

#[tokio::test]
async fn what_is_told_while_a_node_is_cut_off_is_heard_once_later() {
    let server = RedisServer::start().await;
    let (publisher, mut tasks) = (publisher(&server).await, JoinSet::new());
    let heard = Heard::by(&publisher, &mut tasks).await;
    publisher.give(&disconnect("1")).await.unwrap();
    heard.has(&[disconnect("1")]).await;
    // In one step, so that the node has no connection when the order is given.
    let xadd = "redis.call('XADD', 'sse.control', '*', 'o', '{\"disconnect_user\":{\"user\":\"2\"}}')";
    let script = format!("redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') {xadd}");
    let answer = server.cli(&["EVAL", &script, "0"]).await;
    if answer.contains("not allowed from") {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        publisher.give(&disconnect("2")).await.unwrap();
    }
    heard.has(&[disconnect("1"), disconnect("2")]).await;
    publisher.give(&disconnect("3")).await.unwrap();
    heard.has(&[disconnect("1"), disconnect("2"), disconnect("3")]).await;
}

#[tokio::test]
async fn a_node_that_starts_later_knows_revocations_until_they_are_over() {
    let server = RedisServer::start().await;
    let (publisher, mut tasks) = (publisher(&server).await, JoinSet::new());
    let good = revocation("later", now() + 60);
    publisher.give(&Order::Revoke(revocation("over", now() - 1))).await.unwrap();
    publisher.give(&Order::Revoke(good.clone())).await.unwrap();
    let heard = Heard::by(&publisher, &mut tasks).await;
    assert_eq!(*heard.revocations.lock().unwrap(), Some(vec![good]));
    heard.has(&[]).await;
    assert_eq!(server.cli(&["ZCARD", "sse.revoked"]).await, "1", "the one that was over is forgotten by the next");
}

#[tokio::test]
async fn data_that_begin_anew_and_entries_by_hand_stop_nothing() {
    let server = RedisServer::start().await;
    let (publisher, mut tasks) = (publisher(&server).await, JoinSet::new());
    let heard = Heard::by(&publisher, &mut tasks).await;
    publisher.give(&disconnect("1")).await.unwrap();
    heard.has(&[disconnect("1")]).await;
    server.cli(&["FLUSHALL"]).await;
    server.cli(&["XADD", "sse.control", "*", "x", "y"]).await;
    server.cli(&["XADD", "sse.control", "*", "o", "{\"reboot\":{}}"]).await;
    publisher.give(&disconnect("2")).await.unwrap();
    heard.has(&[disconnect("1"), disconnect("2")]).await;
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_its_time() {
    let server = RedisServer::start().await;
    let (one, other) = (publisher(&server).await, publisher(&server).await);
    one.keep_ticket("d1", "{\"sub\":\"42\"}", Duration::from_secs(30)).await.unwrap();
    let ttl: u64 = server.cli(&["PTTL", "sse.ticket:d1"]).await.parse().unwrap();
    assert!((25_000..=30_000).contains(&ttl), "{ttl}");
    assert_eq!(other.take_ticket("d1").await.unwrap().as_deref(), Some("{\"sub\":\"42\"}"));
    assert_eq!(one.take_ticket("d1").await.unwrap(), None);
    one.keep_ticket("d2", "x", Duration::from_millis(1)).await.unwrap();
    eventually("it is over", async || (server.cli(&["EXISTS", "sse.ticket:d2"]).await == "0").then_some(())).await;
    assert_eq!(one.take_ticket("d2").await.unwrap(), None);
}
