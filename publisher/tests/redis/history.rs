//! History as it is read from a real Redis, and erased there.

use std::cell::Cell;
use std::ops::Range;

use publisher::Publisher;
use publisher::{Channels as _, Event, HistoryPage, MAX_HISTORY_BYTES, Once, Publication, Publish, PublishError};
use shared::channel::Channel;
use shared::position::Position;
use testkit::RedisServer;
use tokio::time::Instant;

use crate::support::*;

async fn read(publisher: &Publisher, name: &str, after: Position, limit: usize) -> HistoryPage {
    publisher.history(&channel(name), after, limit).await.unwrap()
}

async fn erase(publisher: &Publisher, name: &str) -> bool {
    publisher.erase(&channel(name)).await.unwrap()
}

async fn publish(publisher: &Publisher, name: &str, numbers: Range<usize>) -> Vec<Position> {
    let outcomes = publisher.publish_batch(numbers.map(|number| (channel(name), kept(number))).collect()).await;
    outcomes.into_iter().map(|outcome| outcome.unwrap().position.unwrap()).collect()
}

fn texts(page: &HistoryPage) -> Vec<String> {
    page.entries.iter().map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn pages_of_any_length_follow_on() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    assert_eq!(read(&publisher, "a", Position::ZERO, 10).await.last, None);
    assert_eq!(server.cli(&["KEYS", "sse:*"]).await, "", "reading leaves nothing behind");
    let positions = publish(&publisher, "a", 0..333).await;
    publish(&publisher, "b", 0..1).await;

    let all: Vec<_> = (0..333).map(payload).collect();
    for limit in [1, 63, 64, 65, 127, 128, 129, 332, 333, 334, 1_000] {
        let page = read(&publisher, "a", Position::ZERO, limit).await;
        assert_eq!(texts(&page), all[..limit.min(333)], "{limit}");
        assert_eq!(page.more, limit < 333, "{limit}");
        assert_eq!(page.last.map(|last| (last.position, last.ended)), Some((positions[332], false)));
        assert!(page.clock > positions[332]);
        let mut previous = Position::ZERO;
        for entry in &page.entries {
            assert_eq!(entry.previous, std::mem::replace(&mut previous, entry.position));
        }
    }
    let page = read(&publisher, "a", positions[299], 10).await;
    assert_eq!((texts(&page), page.more), (all[300..310].to_vec(), true));
    let page = read(&publisher, "a", positions[332], 10).await;
    assert_eq!((page.entries.len(), page.more), (0, false));

    let receipt = publisher.publish(&channel("a"), Event::end()).await.unwrap();
    let page = read(&publisher, "a", positions[332], 10).await;
    assert!(page.last.unwrap().ended);
    assert_eq!(page.cursor(page.entries[0].position), receipt.cursor.unwrap(), "as receipts say it");
}

#[tokio::test]
async fn large_entries_end_a_page_early() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let broker: &dyn Publish = &publisher;
    let batch = vec![(channel("a"), Publication::new(vec![b'x'; 1 << 20])); 9];
    assert!(broker.publish_batch(batch).await.iter().all(Result::is_ok));
    let page = read(&publisher, "a", Position::ZERO, 1_000).await;
    assert_eq!((page.entries.len(), page.more), (MAX_HISTORY_BYTES >> 20, true));
    let rest = read(&publisher, "a", page.entries[3].position, 5).await;
    assert_eq!((rest.entries.len(), rest.more), (4, true));
    let rest = read(&publisher, "a", rest.entries[3].position, 5).await;
    assert_eq!((rest.entries.len(), rest.more), (1, false));
    let huge = Publication::new(vec![b'x'; MAX_HISTORY_BYTES + 1]);
    broker.publish(&channel("b"), huge).await.unwrap();
    assert_eq!(read(&publisher, "b", Position::ZERO, 1).await.entries.len(), 1, "one is always there");
}

/// Events that come and go while they are read: a page is whole, and where something went it ends.
#[tokio::test]
async fn a_page_has_no_hole_whatever_happens_meanwhile() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let writing = Cell::new(true);
    let write = async {
        for batch in 0..100 {
            publish(&publisher, "a", batch * 50..(batch + 1) * 50).await;
            match batch % 10 {
                4 => assert!(erase(&publisher, "a").await),
                9 => _ = server.cli(&["XTRIM", "sse:a", "MAXLEN", "20"]).await,
                _ => {}
            }
        }
        writing.set(false);
    };
    let read = async {
        let (mut pages, mut several) = (0, 0);
        while writing.get() {
            let page = read(&publisher, "a", Position::ZERO, 1_000).await;
            for pair in page.entries.windows(2) {
                assert_eq!(pair[1].previous, pair[0].position);
            }
            let told = page.entries.last().map(|entry| entry.position);
            let last = page.last.map(|last| last.position);
            assert!(page.more || told.is_none() || told == last, "{told:?} {last:?}");
            assert!(last.is_none_or(|last| last <= page.clock));
            pages += 1;
            several += usize::from(page.entries.len() > 64);
        }
        (pages, several)
    };
    let ((), (pages, several)) = tokio::join!(write, read);
    assert!(pages > 20 && several > 5, "{pages} pages, {several} of several reads");
    assert_eq!(read_all(&publisher, "a").await.last(), Some(&payload(4_999)));
}

/// Page after page, as a client does.
async fn read_all(publisher: &Publisher, name: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut after = Position::ZERO;
    loop {
        let page = read(publisher, name, after, 70).await;
        all.extend(texts(&page));
        let Some(entry) = page.entries.last().filter(|_| page.more) else { return all };
        after = entry.position;
    }
}

#[tokio::test]
async fn what_is_missing_ends_a_page() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let positions = publish(&publisher, "a", 0..100).await;
    for gone in [40, 70, 99] {
        server.cli(&["XDEL", "sse:a", &positions[gone].to_string()]).await;
    }
    let page = read(&publisher, "a", Position::ZERO, 1_000).await;
    assert_eq!((page.entries.len(), page.more), (40, true));
    let page = read(&publisher, "a", positions[39], 1_000).await;
    assert_eq!((page.entries.len(), page.more, page.entries[0].previous), (29, true, positions[40]));
    let page = read(&publisher, "a", positions[69], 1_000).await;
    assert_eq!((page.entries.len(), page.more), (28, true), "the last one is gone: who asks again is told");
    let page = read(&publisher, "a", positions[98], 1_000).await;
    assert_eq!((page.entries.len(), page.more, page.last.unwrap().position), (0, false, positions[99]));
}

#[tokio::test]
async fn entries_of_others_are_not_shown() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    for _ in 0..70 {
        server.cli(&["XADD", "sse:a", "*", "k\u{e9}y", "value", "d", "x"]).await;
    }
    server.cli(&["EVAL", r"return redis.call('XADD', KEYS[1], '*', '\255', '\254', 'p', '0-0')", "1", "sse:a"]).await;
    publish(&publisher, "a", 0..2).await;
    let page = read(&publisher, "a", Position::ZERO, 1).await;
    assert_eq!((texts(&page), page.more), (vec![payload(0)], true));
    assert_ne!(page.entries[0].previous, Position::ZERO, "nobody knows what they were");
}

#[tokio::test]
async fn erasing_leaves_last_position_keys_and_streams() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let mut listener = Listener::new(&server, &["sse:a"]).await;
    assert!(!erase(&publisher, "a").await);
    let once = || Event::text("x").once(Once::parse("k").unwrap());
    let first = publisher.publish(&channel("a"), once()).await.unwrap();
    publish(&publisher, "b", 0..1).await;
    assert!(erase(&publisher, "a").await);
    assert!(!erase(&publisher, "a").await);
    assert_eq!(server.cli(&["EXISTS", "sse:a", "sse:b", "sse.last:a"]).await, "2");
    let page = read(&publisher, "a", Position::ZERO, 10).await;
    assert_eq!((page.entries.len(), page.last.map(|last| last.position)), (0, first.position));
    assert!(publisher.publish(&channel("a"), once()).await.unwrap().duplicate);
    publish(&publisher, "a", 1..2).await;
    let page = read(&publisher, "a", Position::ZERO, 10).await;
    assert_eq!((texts(&page), page.entries[0].previous), (vec![payload(1)], first.position.unwrap()));
    assert_eq!(listener.all(&server, "sse:a").await, [r#"{"data":"x"}"#.to_owned(), payload(1)]);
}

#[tokio::test]
async fn what_redis_refuses() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    server.cli(&["SET", "sse:a", "no stream"]).await;
    let a = channel("a");
    let [read, erased] =
        [publisher.history(&a, Position::ZERO, 1).await.map(drop), publisher.erase(&a).await.map(drop)];
    for outcome in [read, erased] {
        assert!(
            matches!(&outcome, Err(PublishError::Rejected { reason }) if reason.starts_with("WRONGTYPE ")),
            "{outcome:?}"
        );
    }
    assert_eq!(server.cli(&["GET", "sse:a"]).await, "no stream");
    // A server without memory takes no transaction, and so nobody reads there; erasing is what it needs.
    publish(&publisher, "b", 0..1).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = publisher.history(&channel("b"), Position::ZERO, 1).await.unwrap_err();
    assert!(matches!(&full, PublishError::Unavailable { retry_after, .. } if retry_after.as_secs() == 30), "{full:?}");
    assert!(erase(&publisher, "b").await);
}

#[tokio::test]
async fn functions_that_are_gone_are_loaded_again() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    publish(&publisher, "a", 0..1).await;
    server.cli(&["FUNCTION", "FLUSH"]).await;
    assert_eq!(texts(&read(&publisher, "a", Position::ZERO, 1).await), [payload(0)]);

    let old = RedisServer::builder().config("rename-command FUNCTION \"\"").start().await;
    let publisher = connect(&old.url()).await;
    publish(&publisher, "a", 0..1).await;
    old.cli(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(texts(&read(&publisher, "a", Position::ZERO, 1).await), [payload(0)]);
}

/// Why it is not available.
async fn away(publisher: &Publisher, a: &Channel) -> [String; 2] {
    let read = publisher.history(a, Position::ZERO, 1).await.map(drop);
    let erased = publisher.erase(a).await.map(drop);
    [read, erased].map(|outcome| match outcome {
        Err(PublishError::Unavailable { reason, retry_after }) if retry_after.as_secs() == 2 => reason,
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_server_that_is_away() {
    let mut server = RedisServer::start().await;
    let publisher = connect_with_deadline(&server.url(), 600).await;
    let a = channel("a");
    publish(&publisher, "a", 0..1).await;
    server.pause().await;
    let start = Instant::now();
    assert_eq!(away(&publisher, &a).await, ["no answer within the deadline"; 2]);
    assert!(start.elapsed().as_millis() < 1_900, "{:?}", start.elapsed());
    server.resume().await;
    assert_eq!(read(&publisher, "a", Position::ZERO, 1).await.entries.len(), 1);

    server.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert!(away(&publisher, &a).await.iter().all(|reason| reason.starts_with("READONLY ")));
    server.cli(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(read(&publisher, "a", Position::ZERO, 1).await.entries.len(), 1);

    let before = read(&publisher, "a", Position::ZERO, 1).await.tag;
    server.kill().await;
    assert_eq!(away(&publisher, &a).await, ["connection refused"; 2]);
    server.restart().await;
    let page = read(&publisher, "a", Position::ZERO, 1).await;
    assert_eq!((page.entries.len(), page.last), (0, None));
    assert_ne!(page.tag, before, "another life of the data");
}

/// What a publisher needs for it beside what publishing takes, where an administrator loaded the functions.
const RIGHTS: &str = "~sse:* ~sse.* &sse:* +fcall +info +ping +watch +unwatch +get +mget +set +pttl +expire +xadd \
                      +xrange +xrevrange +time +publish +multi +exec +xlen +unlink";

#[tokio::test]
async fn a_user_with_the_least_rights() {
    let server = RedisServer::start().await;
    connect(&server.url()).await;
    let rights: Vec<_> = RIGHTS.split(' ').collect();
    assert_eq!(server.cli(&[&["ACL", "SETUSER", "app", "on", ">hunter2"][..], &rights].concat()).await, "OK");
    let publisher = connect(&server.url().replace("127.0.0.1", "app:hunter2@127.0.0.1")).await;
    publish(&publisher, "a", 0..1).await;
    assert_eq!(read(&publisher, "a", Position::ZERO, 1).await.entries.len(), 1);
    assert!(erase(&publisher, "a").await);
    publish(&publisher, "a", 0..1).await;
    server.cli(&["ACL", "SETUSER", "app", "-unlink", "-xrange"]).await;
    let a = channel("a");
    let [read, erased] =
        [publisher.history(&a, Position::ZERO, 1).await.map(drop), publisher.erase(&a).await.map(drop)];
    for outcome in [read, erased] {
        assert!(matches!(&outcome, Err(PublishError::Rejected { reason }) if reason.contains("NOPERM")), "{outcome:?}");
    }
}

#[tokio::test]
async fn valkey_is_as_good() {
    let server = RedisServer::builder().valkey().start().await;
    let publisher = connect(&server.url()).await;
    let positions = publish(&publisher, "a", 0..100).await;
    let page = read(&publisher, "a", positions[9], 70).await;
    assert_eq!((texts(&page), page.more), ((10..80).map(payload).collect(), true));
    assert!(erase(&publisher, "a").await);
    assert_eq!(read(&publisher, "a", Position::ZERO, 1).await.last.unwrap().position, positions[99]);
}
