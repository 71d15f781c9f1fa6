//! A connection that breaks between a command and its answer, at will: by a proxy that keeps answers to itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use publisher::{Event, Once, Publisher};
use shared::redis::Settings;
use testkit::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::*;

/// Between publisher and server. While armed, it waits for a publish, passes on towards the server so many bytes or a few
/// more, waits until the server answers, and cuts the connection instead of passing that on.
struct Proxy {
    port: u16,
    /// Bytes to pass on before cutting; [`NEVER`] where it is not armed.
    limit: Arc<AtomicUsize>,
    /// How many connections it cuts once it is armed.
    cuts: Arc<AtomicUsize>,
    /// Connections of another era than this are forgotten: they stay open, and nothing passes.
    era: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

const NEVER: usize = usize::MAX;

impl Proxy {
    async fn new(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Arc::new(AtomicUsize::new(NEVER));
        let cuts = Arc::new(AtomicUsize::new(1));
        let era = Arc::new(AtomicUsize::new(0));
        let (limit_there, cuts_there, era_there) = (Arc::clone(&limit), Arc::clone(&cuts), Arc::clone(&era));
        let to = server.port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (limit, cuts, era) = (Arc::clone(&limit_there), Arc::clone(&cuts_there), Arc::clone(&era_there));
                links.spawn(async move {
                    let born = era.load(Ordering::SeqCst);
                    let remembered = || era.load(Ordering::SeqCst) == born;
                    pass(client, server, &limit, &cuts, remembered).await;
                });
            }
        });
        Self { port, limit, cuts, era, _task: task }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts one connection, unless told otherwise, after so many bytes of publishes on it.
    fn cut_after(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::SeqCst);
    }

    /// Forgets all connections there are.
    fn forget(&self) {
        self.era.fetch_add(1, Ordering::SeqCst);
    }

    fn has_cut(&self) -> bool {
        self.limit.load(Ordering::SeqCst) == NEVER
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    limit: &AtomicUsize,
    cuts: &AtomicUsize,
    remembered: impl Fn() -> bool,
) {
    // Small enough that a pipeline comes in many parts, large enough that a single command comes in one.
    let (mut from_client, mut from_server) = (vec![0; 4_096], vec![0; 65_536]);
    let mut passed = 0;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(length @ 1..) = read else { return };
                if !remembered() {
                    continue;
                }
                let bytes = &from_client[..length];
                server.write_all(bytes).await.unwrap();
                let text = String::from_utf8_lossy(bytes);
                let publishes = passed > 0 || text.contains("sse_publish") || text.contains("PUBLISH");
                let armed = limit.load(Ordering::SeqCst);
                if armed == NEVER || !publishes {
                    continue;
                }
                passed += length;
                if passed >= armed {
                    if cuts.fetch_sub(1, Ordering::SeqCst) == 1 {
                        cuts.store(1, Ordering::SeqCst);
                        limit.store(NEVER, Ordering::SeqCst);
                    }
                    // Only then has it been carried out.
                    assert_ne!(server.read(&mut from_server).await.unwrap(), 0);
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(length @ 1..) = read else { return };
                // It says nothing of what came while it was armed.
                if passed == 0 {
                    client.write_all(&from_server[..length]).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn a_durable_event_is_published_once_and_its_receipt_tells_of_it_alone() {
    let server = RedisServer::start().await;
    let proxy = Proxy::new(&server).await;
    let publisher = connect(&proxy.url()).await;
    let mut listener = Listener::new(&server, &["sse:a"]).await;
    proxy.cut_after(1);
    let receipt = publisher.publish(&channel("a"), numbered(1)).await.unwrap();
    assert!(proxy.has_cut());
    assert_eq!((receipt.duplicate, receipt.receivers), (false, 1), "asked for, since the answer was lost");
    assert_eq!(history(&server, "sse:a").await, [(receipt.position.unwrap().to_string(), payload(1))]);
    assert_eq!(listener.all(&server, "sse:a").await, [payload(1)]);

    proxy.cut_after(1);
    let nobody = publisher.publish(&channel("b"), numbered(1)).await.unwrap();
    assert!(proxy.has_cut());
    assert_eq!((nobody.duplicate, nobody.receivers), (false, 0));
}

#[tokio::test]
async fn with_several_partitions_it_is_asked_for_by_sharded_pubsub() {
    let server = RedisServer::start().await;
    let proxy = Proxy::new(&server).await;
    let publisher = Publisher::connect(&Settings { partitions: 16, ..Settings::new(&proxy.url()) }).await.unwrap();
    let name = publisher.keys().channel(&channel("a"));
    let mut listener = Listener::sharded(&server, &[&name]).await;
    proxy.cut_after(1);
    let receipt = publisher.publish(&channel("a"), numbered(1)).await.unwrap();
    assert!(proxy.has_cut());
    assert_eq!((receipt.duplicate, receipt.receivers), (false, 1));
    assert_eq!(listener.all(&server, &name).await, [payload(1)]);
}

#[tokio::test]
async fn with_a_key_of_the_callers_nobody_can_tell() {
    let server = RedisServer::start().await;
    let proxy = Proxy::new(&server).await;
    let publisher = connect(&proxy.url()).await;
    proxy.cut_after(1);
    let event = numbered(1).once(Once::parse("k").unwrap());
    let receipt = publisher.publish(&channel("a"), event).await.unwrap();
    assert!(proxy.has_cut());
    assert!(receipt.duplicate);
    assert_eq!(history(&server, "sse:a").await, [(receipt.position.unwrap().to_string(), payload(1))]);
}

#[tokio::test]
async fn an_ephemeral_event_is_not_sent_again() {
    let server = RedisServer::start().await;
    let proxy = Proxy::new(&server).await;
    let publisher = connect(&proxy.url()).await;
    let mut listener = Listener::new(&server, &["sse:a"]).await;
    proxy.cut_after(1);
    let outcome = publisher.publish_ephemeral(&channel("a"), numbered(1)).await;
    assert_eq!(unavailable(outcome), ("the connection was closed".to_owned(), 2));
    assert!(proxy.has_cut());
    assert_eq!(listener.all(&server, "sse:a").await, [payload(1)]);
    publisher.publish_ephemeral(&channel("a"), numbered(2)).await.unwrap();
}

#[tokio::test]
async fn a_pipeline_that_breaks_half_way_keeps_its_order() {
    let server = RedisServer::start().await;
    let proxy = Proxy::new(&server).await;
    let publisher = connect(&proxy.url()).await;
    let mut listener = Listener::new(&server, &["sse:a", "sse:b"]).await;
    // Two channels in turn, each tenth event ephemeral.
    let event = |number| if number % 10 == 9 { numbered(number).ephemeral() } else { numbered(number) };
    let name = |number| if number % 3 == 0 { "a" } else { "b" };
    let mut cut_within = 0;
    for round in 0..20 {
        proxy.cut_after(1 + round * 2_000);
        let numbers = round * 400..(round + 1) * 400;
        let batch = numbers.clone().map(|number| (channel(name(number)), event(number))).collect();
        let outcomes = publisher.publish_batch(batch).await;
        assert!(proxy.has_cut(), "{round}");
        let mut last = None;
        for (number, outcome) in numbers.clone().zip(outcomes) {
            if number % 10 == 9 {
                assert_eq!(unavailable(outcome).0, "the connection was closed");
                continue;
            }
            let receipt = outcome.unwrap();
            assert!(!receipt.duplicate && receipt.receivers == 1, "{receipt:?}");
            assert!(receipt.position > last, "{number}");
            last = receipt.position;
        }
        let heard = listener.all(&server, "sse:a").await;
        let durable: Vec<_> = numbers.clone().filter(|number| number % 10 != 9).map(payload).collect();
        let of_durable: Vec<_> = heard.iter().filter(|payload| durable.contains(payload)).cloned().collect();
        assert_eq!(of_durable, durable, "each once, in order, across channels");
        let live = heard.len() - durable.len();
        cut_within += usize::from((1..40).contains(&live));
    }
    assert!(cut_within > 10, "{cut_within} were cut half-way");
}

#[tokio::test]
async fn three_tries_and_no_more() {
    let server = RedisServer::start().await;
    let proxy = Proxy::new(&server).await;
    let publisher = connect(&proxy.url()).await;
    for (cuts, published) in [(2, true), (3, false)] {
        proxy.cuts.store(cuts, Ordering::SeqCst);
        proxy.cut_after(1);
        let outcome = publisher.publish(&channel("a"), Event::text("x")).await;
        assert!(proxy.has_cut());
        assert_eq!(outcome.is_ok(), published, "{outcome:?}");
    }
    assert_eq!(payloads(&server, "sse:a").await.len(), 2, "each was published once, told or not");
}

#[tokio::test]
async fn idle_connections_that_something_on_the_way_forgot() {
    let server = RedisServer::start().await;
    let proxy = Proxy::new(&server).await;
    let publisher = connect_with_deadline(&proxy.url(), 1_000).await;
    let a = channel("a");
    let at_once = || futures_util::future::join_all((0..10).map(|number| publisher.publish(&a, numbered(number))));
    assert!(at_once().await.iter().all(Result::is_ok));
    for many in [false, true] {
        proxy.forget();
        if many {
            let outcomes = at_once().await;
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        } else {
            publisher.publish(&a, numbered(0)).await.unwrap();
            // One of them is enough to know of all.
            let start = Instant::now();
            assert!(at_once().await.iter().all(Result::is_ok));
            assert!(start.elapsed() < Duration::from_millis(450), "{:?}", start.elapsed());
        }
    }
}
