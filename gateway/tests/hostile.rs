//! Crowds of strangers who want nothing but to cost something: they leave nothing behind.

use testkit::{PATIENCE, RedisServer, TokenKey, eventually_within};
use tokio::task::JoinSet;

use crate::support::{Builder, Gateway, Lane, Raw};

const SUBSCRIPTIONS: &str = "sse_gateway_broker_subscriptions";
const SECRET: &str = "a secret of the tests, long enough for HS256";
/// Channels of one stream, at most.
const MAX_CHANNELS: usize = 64;
/// At a time.
const CROWD: usize = 50;
/// What a gateway may have more of afterwards, in KiB: an allocator keeps some for itself.
const GROWTH_KIB: usize = 4 << 10;
/// The same after crowds of a size that takes minutes: less than 20 bytes of each name.
const GROWTH_OF_MANY_KIB: usize = 16 << 10;

/// Does `one` for each number, [`CROWD`] at a time.
async fn each<F: Future<Output = ()> + Send + 'static>(numbers: std::ops::Range<usize>, one: impl Fn(usize) -> F) {
    let mut crowd = JoinSet::new();
    for number in numbers {
        if crowd.len() == CROWD {
            crowd.join_next().await.unwrap().unwrap();
        }
        crowd.spawn(one(number));
    }
    crowd.join_all().await;
}

/// Connect, send a part or all of a head, go without a word; a quarter of them with the stream open.
async fn aborts(lane: Lane, count: usize, growth_kib: usize) {
    let config = format!("[auth]\nsecret = {SECRET:?}");
    let gateway = Gateway::builder().lane(lane).config(&config).start().await;
    let key = TokenKey::hs256(SECRET.as_bytes());
    let token = key.token(None, r#"{"sub":"42","exp":253402300799,"channels":["c*"]}"#);
    let before = gateway.descriptors_at_rest().await;
    let one = |number: usize| {
        let address = gateway.public.clone();
        let target = format!("/events?channel=c&channel=c{}", number % 1_000);
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        async move {
            let mut raw = Raw::connect(&address).await;
            match number % 4 {
                0 => {}
                1 => raw.send(&request[..request.len() / 2]).await,
                2 => raw.send(&request).await,
                _ => {
                    raw.send(&request).await;
                    assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK");
                }
            }
            raw.reset();
        }
    };
    // After these everything has been allocated once.
    each(0..count / 4, one).await;
    gateway.is_at_rest(before, "the first aborts").await;
    let warm = gateway.resident();
    each(0..count, one).await;
    gateway.is_at_rest(before, &format!("{count} aborts on {lane:?}")).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 0.0).await;
    back_to(&gateway, warm + growth_kib, &format!("{count} aborts on {lane:?}")).await;
    println!("{count} aborts on {lane:?}: {warm} KiB before, {} KiB after", gateway.resident());
}

/// Streams on channels that nobody has named before, each as many as it may have; they go as soon as they are open, and the names
/// with them. A name takes a KiB or more: `most_kib`, to which it must come back after each tenth, is less than all of them would take.
async fn names(gateway: &Gateway, count: usize, most_kib: usize, growth_kib: usize) {
    let before = gateway.descriptors_at_rest().await;
    let one = |stream: usize| {
        let address = gateway.public.clone();
        async move {
            let name = |number: usize| format!("channel=flood:{stream}:{number}");
            let target = (0..MAX_CHANNELS).map(name).collect::<Vec<_>>().join("&");
            let mut raw = Raw::connect(&address).await;
            raw.get(&format!("/events?{target}")).await;
            assert_eq!(raw.head().await.status, "HTTP/1.1 200 OK");
            raw.body_until("event: ").await;
            raw.reset();
        }
    };
    let streams = count / MAX_CHANNELS;
    each(0..streams / 4, one).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 0.0).await;
    let warm = gateway.resident();
    let mut most = warm;
    // What the last of a tenth take is still there right after it, however many that are just then; what earlier ones took must not be.
    for tenth in 0..10 {
        let numbers = streams / 4 + streams * tenth / 10..streams / 4 + streams * (tenth + 1) / 10;
        each(numbers, one).await;
        most = most.max(gateway.resident());
        back_to(gateway, warm + most_kib, &format!("{} tenths of {count} names", tenth + 1)).await;
    }
    let what = format!("{count} names");
    gateway.is_at_rest(before, &what).await;
    gateway.metric_becomes(SUBSCRIPTIONS, 0.0).await;
    back_to(gateway, warm + growth_kib, &what).await;
    println!("{what}: {warm} KiB before, {most} KiB at most, {} KiB after", gateway.resident());
}

/// Waits until it has given back its memory.
async fn back_to(gateway: &Gateway, most: usize, what: &str) {
    let grown = async || (gateway.resident() < most).then_some(());
    eventually_within(PATIENCE * 3, &format!("memory back to {most} KiB after {what}"), grown).await;
}

/// A gateway that forgets a channel as soon as its last stream is gone.
async fn forgetful(gateway: Builder) -> Gateway {
    gateway.config("[log]\nlinger = \"0s\"").start().await
}

#[tokio::test]
async fn aborted_connections_leave_nothing() {
    for lane in [Lane::Direct, Lane::Hyper] {
        aborts(lane, 8_000, GROWTH_KIB).await;
    }
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_hundred_thousand_aborted_connections_leave_nothing() {
    for lane in [Lane::Direct, Lane::Hyper] {
        aborts(lane, 100_000, GROWTH_OF_MANY_KIB).await;
    }
}

#[tokio::test]
async fn new_names_leave_nothing() {
    names(&forgetful(Gateway::builder()).await, 20_000, 12 << 10, GROWTH_KIB).await;
    let redis = RedisServer::start().await;
    names(&forgetful(Gateway::on(&redis)).await, 20_000, 12 << 10, GROWTH_KIB).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_million_new_names_leave_nothing() {
    names(&Gateway::start().await, 1_000_000, 256 << 10, GROWTH_OF_MANY_KIB).await;
    let redis = RedisServer::start().await;
    names(&Gateway::on(&redis).start().await, 1_000_000, 256 << 10, GROWTH_OF_MANY_KIB).await;
}
