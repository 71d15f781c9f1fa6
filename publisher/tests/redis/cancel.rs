//! Cancelling, and listening for it: whatever happens to the connection, who waits is woken.

use std::pin::Pin;

use futures_util::future::join_all;
use publisher::Publisher;
use testkit::{PATIENCE, Proxy, RedisServer, eventually, eventually_within, soon};
use tokio::task::JoinSet;

use crate::support::*;

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits, and is heard of at the server by its subscription.
async fn waiting(publisher: &Publisher, server: &RedisServer, name: &str) -> Waiting {
    let mut waiting: Waiting = Box::pin(publisher.cancelled(&channel(name)));
    let key = format!("sse.cancel:{name}");
    eventually("its subscription", async || {
        assert!(futures_util::poll!(&mut waiting).is_pending(), "cancelled");
        (subscribers(server, &key).await == 1).then_some(())
    })
    .await;
    waiting
}

async fn subscribers(server: &RedisServer, key: &str) -> usize {
    server.cli(&["PUBSUB", "NUMSUB", key]).await.lines().nth(1).unwrap().parse().unwrap()
}

async fn subscriptions(server: &RedisServer) -> usize {
    server.cli(&["PUBSUB", "CHANNELS"]).await.lines().filter(|name| !name.is_empty()).count()
}

/// The connections that have subscribed to something.
async fn listeners(server: &RedisServer) -> Vec<String> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    list.lines().filter_map(|line| line.split(' ').next()).filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

/// How many connections there are, whatever they do.
async fn connections(server: &RedisServer) -> usize {
    server.cli(&["CLIENT", "LIST"]).await.lines().count()
}

/// How often a command was called.
async fn calls(server: &RedisServer, command: &str) -> u32 {
    let stats = server.cli(&["INFO", "commandstats"]).await;
    let calls = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    calls.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

async fn is_pending(waiting: &mut Waiting) -> bool {
    futures_util::poll!(waiting).is_pending()
}

#[tokio::test]
async fn who_waits_is_woken_and_nobody_else() {
    let server = RedisServer::start().await;
    let (publisher, elsewhere) = (connect(&server.url()).await, connect(&server.url()).await);
    let (b, mut c) = (waiting(&publisher, &server, "b").await, waiting(&publisher, &server, "c").await);
    let again = publisher.cancelled(&channel("b"));
    assert_eq!(elsewhere.cancel(&channel("b")).await, Ok(1));
    soon("both who wait", async { tokio::join!(b, again) }).await;
    soon("one who comes later", publisher.cancelled(&channel("b"))).await;
    assert!(is_pending(&mut c).await);
    let ttl: u32 = server.cli(&["TTL", "sse.cancel:b"]).await.parse().unwrap();
    assert!((3_500..=3_600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn the_message_is_enough() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let _kept = waiting(&publisher, &server, "a").await;
    let mut number = 0;
    // Marks are read every few seconds, which may fall in between.
    eventually("one who is woken without a read", async || {
        number += 1;
        let name = format!("b:{number}");
        let waiting = waiting(&publisher, &server, &name).await;
        let before = calls(&server, "mget").await;
        publisher.cancel(&channel(&name)).await.unwrap();
        soon("the end", waiting).await;
        (calls(&server, "mget").await == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_was_cancelled_before_is_found_at_once() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    assert_eq!(publisher.cancel(&channel("a")).await, Ok(0), "nobody listens");
    let _b = waiting(&publisher, &server, "b").await;
    let before = listeners(&server).await;
    soon("one cancelled before it looked", publisher.cancelled(&channel("a"))).await;
    let _c = waiting(&publisher, &server, "c").await;
    assert_eq!(listeners(&server).await, before, "found later, it would be taken for a message that was lost");
}

#[tokio::test]
async fn any_client_of_redis_can_cancel() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let a = waiting(&publisher, &server, "a").await;
    assert_eq!(server.cli(&["FCALL", "sse_cancel", "1", "sse:a"]).await, "1");
    soon("the end", a).await;
    // Without the function it takes both: the mark and the message.
    let b = waiting(&publisher, &server, "b").await;
    server.cli(&["SET", "sse.cancel:b", "1", "EX", "3600"]).await;
    server.cli(&["PUBLISH", "sse.cancel:b", "1"]).await;
    soon("the end", b).await;
}

#[tokio::test]
async fn who_waits_needs_no_publisher() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let (unpolled, polled) = (publisher.cancelled(&channel("a")), waiting(&publisher, &server, "a").await);
    drop(publisher);
    server.cli(&["FCALL", "sse_cancel", "1", "sse:a"]).await;
    soon("both", async { tokio::join!(unpolled, polled) }).await;
}

#[tokio::test]
async fn the_connection_goes_with_the_last_who_has_to_do_with_it() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let a = waiting(&publisher, &server, "a").await;
    drop((publisher, a));
    eventually("no connection", async || (connections(&server).await == 1).then_some(())).await;
}

#[tokio::test]
async fn nobody_listens_when_nobody_has_waited_for_a_while() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let before = connections(&server).await;
    let (a, mut b) = (waiting(&publisher, &server, "a").await, waiting(&publisher, &server, "b").await);
    assert_eq!(connections(&server).await, before + 1);
    drop(a);
    eventually("one unsubscribed", async || (subscribers(&server, "sse.cancel:a").await == 0).then_some(())).await;
    assert!(is_pending(&mut b).await && subscribers(&server, "sse.cancel:b").await == 1);
    drop(b);
    let gone = async || (connections(&server).await == before).then_some(());
    eventually_within(PATIENCE * 2, "no connection", gone).await;
    let b = waiting(&publisher, &server, "b").await;
    publisher.cancel(&channel("b")).await.unwrap();
    soon("another life", b).await;
}

#[tokio::test]
async fn futures_made_anew_all_the_time_cost_redis_nothing_and_miss_nothing() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let _kept = waiting(&publisher, &server, "a").await;
    drop(waiting(&publisher, &server, "b").await);
    let asked = async || calls(&server, "mget").await + calls(&server, "subscribe").await;
    let before = asked().await;
    for _ in 0..1_000 {
        tokio::select! {
            biased;
            () = publisher.cancelled(&channel("b")) => panic!("nobody cancelled"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(asked().await <= before + 10, "{before}, {}", asked().await);
    let mut number = 0;
    eventually("one who missed nothing, and needed no read", async || {
        number += 1;
        let name = format!("b:{number}");
        drop(waiting(&publisher, &server, &name).await);
        // In the moment in which nobody waits.
        let heard = publisher.cancel(&channel(&name)).await.unwrap();
        let before = calls(&server, "mget").await;
        soon("the next one", publisher.cancelled(&channel(&name))).await;
        (heard == 1 && calls(&server, "mget").await == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_thousand_wait_on_one_connection() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let mut tasks = JoinSet::new();
    for number in 0..1_000 {
        tasks.spawn(publisher.cancelled(&channel(&format!("job:{number}"))));
    }
    eventually("all subscribed", async || (subscriptions(&server).await == 1_000).then_some(())).await;
    assert_eq!(listeners(&server).await.len(), 1);
    for number in 0..1_000 {
        assert_eq!(publisher.cancel(&channel(&format!("job:{number}"))).await, Ok(1));
    }
    soon("all of them", tasks.join_all()).await;
    // Their marks are found too, by those who begin now.
    let again = (0..1_000).map(|number| publisher.cancelled(&channel(&format!("job:{number}"))));
    soon("all of them again", join_all(again)).await;
    eventually("nothing subscribed any more", async || (subscriptions(&server).await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_redis_that_dies_is_waited_for() {
    let mut server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let (a, mut b) = (waiting(&publisher, &server, "a").await, waiting(&publisher, &server, "b").await);
    server.kill().await;
    // One who begins while it is away.
    let mut c: Waiting = Box::pin(publisher.cancelled(&channel("c")));
    assert!(is_pending(&mut c).await);
    server.restart().await;
    eventually("all subscribed again", async || (subscriptions(&server).await == 3).then_some(())).await;
    // It has forgotten the functions too.
    assert_eq!(connect(&server.url()).await.cancel(&channel("a")).await, Ok(1));
    soon("who waited before", a).await;
    publisher.cancel(&channel("c")).await.unwrap();
    soon("who came meanwhile", c).await;
    assert!(is_pending(&mut b).await);
}

#[tokio::test]
async fn what_was_cancelled_while_the_link_was_down_is_found() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let publisher = connect(&proxy.url()).await;
    let a = waiting(&publisher, &server, "a").await;
    // Nobody is there for those who come back.
    let [nobody] = testkit::free_ports();
    proxy.point_to(nobody);
    assert!(proxy.reset() > 0);
    eventually("nobody listens", async || listeners(&server).await.is_empty().then_some(())).await;
    assert_eq!(server.cli(&["FCALL", "sse_cancel", "1", "sse:a"]).await, "0");
    proxy.point_to(server.port());
    soon("the end", a).await;
}

#[tokio::test]
async fn a_link_on_which_nothing_arrives_any_more_is_given_up() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let publisher = connect_with_deadline(&proxy.url(), 1_000).await;
    let mut a = waiting(&publisher, &server, "a").await;
    assert_eq!(proxy.deafen_subscribers(), 1);
    assert_eq!(server.cli(&["FCALL", "sse_cancel", "1", "sse:a"]).await, "1");
    eventually_within(PATIENCE * 2, "the end", async || (!is_pending(&mut a).await).then_some(())).await;
}

#[tokio::test]
async fn a_mark_without_its_message_wakes_and_makes_the_link_anew() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let (a, mut b) = (waiting(&publisher, &server, "a").await, waiting(&publisher, &server, "b").await);
    let before = listeners(&server).await;
    server.cli(&["SET", "sse.cancel:a", "1"]).await;
    soon("the end", a).await;
    eventually("another connection", async || {
        let now = listeners(&server).await;
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
    assert!(is_pending(&mut b).await);
    server.cli(&["FCALL", "sse_cancel", "1", "sse:b"]).await;
    soon("the other one", b).await;
}

/// What it takes beside the rights to publish is in `access.rs`.
#[tokio::test]
async fn a_user_who_may_not_subscribe_reads() {
    let server = RedisServer::start().await;
    connect(&server.url()).await;
    let rights = ["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all", "resetchannels", "&sse:*"];
    assert_eq!(server.cli(&rights).await, "OK");
    let publisher = connect(&server.url().replace("127.0.0.1", "app:hunter2@127.0.0.1")).await;
    server.cli(&["FCALL", "sse_cancel", "1", "sse:a"]).await;
    soon("one cancelled before", publisher.cancelled(&channel("a"))).await;
    let mut b: Waiting = Box::pin(publisher.cancelled(&channel("b")));
    let before = calls(&server, "mget").await;
    eventually("reading", async || {
        assert!(is_pending(&mut b).await);
        (calls(&server, "mget").await > before + 1).then_some(())
    })
    .await;
    server.cli(&["FCALL", "sse_cancel", "1", "sse:b"]).await;
    soon("one cancelled later", b).await;
    assert_eq!(listeners(&server).await, [""; 0]);
}
