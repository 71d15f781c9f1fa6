//! Batches: outcomes and events in the order given.

use publisher::{Event, Once, PublishError};
use testkit::RedisServer;

use crate::support::*;

#[tokio::test]
async fn each_outcome_stands_in_its_place() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    server.cli(&["SET", "sse:taken", "by somebody"]).await;
    let mut listener = Listener::new(&server, &["sse:a"]).await;
    let once = || Event::text("once").once(Once::parse("k").unwrap());
    let outcomes = publisher
        .publish_batch(vec![
            (channel("a"), once()),
            (channel("a"), Event::text("x").named("sse.no")),
            (channel("taken"), Event::text("x")),
            (channel("a"), Event::text("live").ephemeral()),
            (channel("a"), once()),
            (channel("sse.no"), Event::text("x")),
            (channel("a"), Event::text("last")),
        ])
        .await;
    let [first, name, taken, live, again, reserved, last] = &outcomes[..] else { panic!("{outcomes:?}") };
    let first = first.as_ref().unwrap();
    assert_eq!((first.receivers, first.duplicate), (1, false));
    assert!(matches!(name, Err(PublishError::Refused { field: "event", .. })), "{name:?}");
    assert!(matches!(taken, Err(PublishError::Rejected { reason }) if reason.starts_with("WRONGTYPE")), "{taken:?}");
    assert_eq!(live.as_ref().unwrap().position, None);
    let again = again.as_ref().unwrap();
    assert_eq!((again.position, again.duplicate), (first.position, true));
    assert!(matches!(reserved, Err(PublishError::Refused { field: "channel", .. })), "{reserved:?}");
    assert!(last.as_ref().unwrap().position > first.position);

    let heard = listener.all(&server, "sse:a").await;
    assert_eq!(heard, [r#"{"data":"once"}"#, r#"{"data":"live"}"#, r#"{"data":"last"}"#]);
}

#[tokio::test]
async fn nothing_is_a_batch_too() {
    let server = RedisServer::start().await;
    assert_eq!(connect(&server.url()).await.publish_batch(Vec::new()).await, []);
}

#[tokio::test]
async fn two_thousand_events_keep_their_order() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let mut listener = Listener::new(&server, &["sse:a"]).await;
    server.cli(&["CONFIG", "RESETSTAT"]).await;
    let event = |number| if number % 10 == 3 { numbered(number).ephemeral() } else { kept(number) };
    let batch = (0..2_000).map(|number| (channel("a"), event(number))).collect();
    let outcomes = publisher.publish_batch(batch).await;

    let all: Vec<_> = (0..2_000).map(payload).collect();
    assert_eq!(listener.all(&server, "sse:a").await, all);
    let durable: Vec<_> = outcomes.into_iter().filter(|o| o.as_ref().unwrap().position.is_some()).collect();
    let (positions_there, there): (Vec<_>, Vec<_>) = history(&server, "sse:a").await.into_iter().unzip();
    assert_eq!(positions(&durable), positions_there);
    let expected: Vec<_> = (0..2_000).filter(|number| number % 10 != 3).map(payload).collect();
    assert_eq!(there, expected);
    // One connection was made by now, and lent for each of 4 pipelines: it is asked whether it answers before each.
    let pings = server.cli(&["INFO", "commandstats"]).await;
    let pings = pings.lines().find(|line| line.starts_with("cmdstat_ping")).unwrap_or("calls=0,").to_owned();
    assert!(pings.contains("calls=3,"), "{pings}");
}

#[tokio::test]
async fn a_batch_of_many_bytes() {
    let server = RedisServer::start().await;
    let publisher = connect(&server.url()).await;
    let event = |number: u8| Event::text(char::from(b'a' + number % 26).to_string().repeat(65_536));
    let outcomes = publisher.publish_batch((0..150).map(|number| (channel("a"), event(number))).collect()).await;
    let there = history(&server, "sse:a").await;
    assert_eq!(positions(&outcomes), there.iter().map(|(position, _)| position.clone()).collect::<Vec<_>>());
    for (number, (_, payload)) in (0..150).zip(&there) {
        assert_eq!((payload.len(), payload.as_bytes()[9]), (65_547, b'a' + number % 26));
    }
}
