//! What a publish leaves in Redis, and what its receipt says.

use std::num::NonZeroU32;
use std::time::Duration;

use publisher::{Event, Once, Publication, Publish, PublishError, Publisher};
use shared::cursor::Tag;
use shared::position::Position;
use shared::redis::{Settings, message};
use testkit::RedisServer;

use crate::support::*;

fn once(key: &str) -> Once {
    Once::parse(key).unwrap()
}

#[tokio::test]
async fn a_durable_event() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let mut listener = Listener::new(&server, &["sse:user:42"]).await;

    let receipt = publisher.publish(&channel("user:42"), Event::text("hi").named("greeting")).await.unwrap();
    assert_eq!((receipt.receivers, receipt.duplicate), (1, false));
    let position = receipt.position.unwrap();
    let text = r#"{"event":"greeting","data":"hi"}"#;
    assert_eq!(history(&server, "sse:user:42").await, [(position.to_string(), text.to_owned())]);

    let (name, heard) = listener.next().await;
    let (head, payload) = message::parse(&heard).unwrap();
    assert_eq!((name.as_str(), &heard[payload..]), ("sse:user:42", text.as_bytes()));
    assert_eq!((head.position, head.previous), (position, Position::ZERO));
    let tag = Tag::of(&head.epoch, 1);
    assert_eq!(receipt.cursor.unwrap().to_string(), format!("{position}_{tag}"));

    let next = publisher.publish(&channel("user:42"), Event::end()).await.unwrap();
    assert!(next.position.unwrap() > position);
    assert_eq!(next.cursor.unwrap().tag, tag);
    assert_eq!(server.cli(&["GET", "sse.last:user:42"]).await, format!("{} end", next.position.unwrap()));
    assert_eq!(publisher.check().await, Ok(()));
}

#[tokio::test]
async fn an_ephemeral_event_leaves_nothing_behind() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let nobody = publisher.publish_ephemeral(&channel("a"), Event::text("x")).await.unwrap();
    assert_eq!((nobody.position, nobody.cursor, nobody.receivers, nobody.duplicate), (None, None, 0, false));

    let mut listener = Listener::new(&server, &["sse:a"]).await;
    let receipt = publisher.publish(&channel("a"), Event::text("y").ephemeral()).await.unwrap();
    assert_eq!((receipt.position, receipt.receivers), (None, 1));
    assert_eq!(listener.next().await, ("sse:a".to_owned(), br#"{"data":"y"}"#.to_vec()));
    assert_eq!(server.cli(&["KEYS", "*a"]).await, "");
}

#[tokio::test]
async fn a_key_of_the_callers_is_told_apart_and_lives_its_time() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let _listener = Listener::new(&server, &["sse:a"]).await;
    let event = |key| Event::text("x").once(once(key));
    let first = publisher.publish(&channel("a"), event("k")).await.unwrap();
    let again = publisher.publish(&channel("a"), event("k")).await.unwrap();
    assert_eq!((again.position, again.cursor), (first.position, first.cursor));
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!((first.receivers, again.receivers), (1, 0));
    let others = [(channel("a"), event("other")), (channel("b"), event("k"))];
    for outcome in publisher.publish_batch(others.to_vec()).await {
        assert!(!outcome.unwrap().duplicate);
    }
    assert_eq!(payloads(&server, "sse:a").await.len(), 2);
    let ttl: u64 = server.cli(&["TTL", "sse.once:a:k"]).await.parse().unwrap();
    assert!((590..=600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn without_a_key_every_call_is_an_event_of_its_own() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    for _ in 0..3 {
        assert!(!publisher.publish(&channel("a"), Event::text("x")).await.unwrap().duplicate);
    }
    assert_eq!(payloads(&server, "sse:a").await.len(), 3);
    let keys = server.cli(&["KEYS", "sse.once:a:*"]).await;
    assert_eq!(keys.lines().count(), 3, "{keys}");
    let ttl: u64 = server.cli(&["TTL", keys.lines().next().unwrap()]).await.parse().unwrap();
    assert!((50..=60).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn history_and_its_time_are_the_events_own() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let event = Event::text("x").history(NonZeroU32::new(10).unwrap()).ttl(Duration::from_millis(99_001));
    let outcomes = publisher.publish_batch(vec![(channel("a"), event); 500]).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let length = payloads(&server, "sse:a").await.len();
    assert!((10..=210).contains(&length), "{length}: Redis trims by nodes of 100");
    let ttl: u64 = server.cli(&["TTL", "sse:a"]).await.parse().unwrap();
    assert!((95..=100).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn names_begin_with_the_prefix() {
    let server = RedisServer::start().await;
    let settings = Settings { prefix: "app".into(), ..Settings::new(&server.url()) };
    let publisher = Publisher::connect(&settings).await.unwrap();
    publisher.publish(&channel("user:42"), Event::text("x").once(once("k"))).await.unwrap();
    let keys = server.cli(&["KEYS", "*"]).await;
    let mut keys: Vec<_> = keys.lines().filter(|key| !key.ends_with(".functions")).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["app.clock", "app.last:user:42", "app.once:user:42:k", "app:user:42"]);
}

#[tokio::test]
async fn what_can_never_be_published_is_refused_by_its_field() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let field = async |name: &str, event: Event| match publisher.publish(&channel(name), event).await {
        Err(PublishError::Refused { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field("sse.control", Event::text("x")).await, "channel");
    assert_eq!(field("a", Event::text("x").ttl(Duration::MAX)).await, "ttl");
    assert_eq!(field("a", Event::text("x").named("sse.gap")).await, "event");
    assert_eq!(field("a", Event::end().ephemeral()).await, "ephemeral");
    assert_eq!(field("a", Event::text("x").once(once("k")).ephemeral()).await, "once");
    assert_eq!(server.cli(&["EXISTS", "sse:a", "sse:sse.control"]).await, "0");
}

#[tokio::test]
async fn the_seam_takes_any_bytes_and_is_itself_an_object() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let broker: &dyn Publish = &publisher;
    let receipt = broker.publish(&channel("a"), Publication::new("not an envelope").once(once("k"))).await.unwrap();
    let batch = vec![(channel("a"), Publication::new("second")), (channel("a"), Publication::new("").once(once("k")))];
    let outcomes = broker.publish_batch(batch).await;
    assert_eq!(outcomes[1].as_ref().unwrap().position, receipt.position);
    assert_eq!(payloads(&server, "sse:a").await, ["not an envelope", "second"]);
}

#[tokio::test]
async fn valkey_is_as_good() {
    let server = RedisServer::builder().valkey().start().await;
    let publisher = connect(&server.url()).await;
    let first = publisher.publish(&channel("a"), numbered(0).once(once("k"))).await.unwrap();
    let again = publisher.publish(&channel("a"), numbered(0).once(once("k"))).await.unwrap();
    assert_eq!((again.cursor, again.duplicate), (first.cursor, true));
    server.cli(&["FUNCTION", "FLUSH"]).await;
    let outcomes = publisher.publish_batch((1..600).map(|n| (channel("a"), numbered(n))).collect()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(payloads(&server, "sse:a").await, (0..600).map(payload).collect::<Vec<_>>());
}
