//! Slots that move from one server of a Redis Cluster to another while somebody publishes.

use std::time::Duration;

use publisher::{Channels as _, Event, Once, Publisher};
use shared::channel::Channel;
use shared::keys::Keys;
use shared::position::Position;
use shared::redis::Settings;
use testkit::RedisCluster;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::{kept_of, on, one_of_each, settings};
use crate::support::*;

/// Publishes one event after the other until `stop`, each once. Returns how many there were.
async fn busily(publisher: Publisher, channel: Channel, stop: CancellationToken) -> usize {
    let mut number = 0;
    while !stop.is_cancelled() {
        let once = Once::parse(&format!("k{number}")).unwrap();
        let receipt = publisher.publish(&channel, kept(number).once(once)).await.unwrap();
        assert!(!receipt.duplicate, "{number}");
        publisher.publish(&channel, Event::text("live").ephemeral()).await.unwrap();
        number += 1;
    }
    number
}

/// The same in batches, with keys of the publisher's own.
async fn in_batches(publisher: Publisher, channel: Channel, stop: CancellationToken) -> usize {
    let mut number = 0;
    while !stop.is_cancelled() {
        let batch = (number..number + 30).map(|number| (channel.clone(), kept(number))).collect();
        let outcomes = publisher.publish_batch(batch).await;
        assert!(
            outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|receipt| !receipt.duplicate)),
            "{outcomes:?}"
        );
        number += 30;
    }
    number
}

#[tokio::test]
async fn no_event_is_lost_or_there_twice() {
    let all = RedisCluster::start().await;
    let publisher = on(&all).await;
    let keys = publisher.keys().clone();
    let home = one_of_each(&keys).remove(7);
    let beside: Vec<Channel> =
        (0..).map(|n| channel(&format!("b:{n}"))).filter(|name| keys.partition(name) == 7).take(3).collect();
    let (stop, mut busy) = (CancellationToken::new(), JoinSet::new());
    let mut publish = async |name: &Channel, alone: bool| {
        let (publisher, name, stop) = (on(&all).await, name.clone(), stop.clone());
        busy.spawn(async move {
            let count = match alone {
                true => busily(publisher, name.clone(), stop).await,
                false => in_batches(publisher, name.clone(), stop).await,
            };
            (name, count)
        });
    };
    publish(&home, true).await;
    publish(&beside[0], true).await;
    publish(&beside[1], false).await;
    publish(&beside[2], false).await;
    let slot = Keys::slot(7);
    for _ in 0..3 {
        let from = all.owner_of_slot(slot).await;
        let to = (from + 1) % 3;
        all.begin_move(slot, to).await;
        // There are some thousands by now, most of them `once` keys.
        while all.migrate_some(slot, to, 300).await > 0 {}
        all.finish_move(slot, to).await;
        // Between two moves all go on.
        publisher.publish(&channel("c:go"), Event::text("x")).await.unwrap();
    }
    stop.cancel();
    while let Some(done) = busy.join_next().await {
        let (name, count) = done.unwrap();
        assert!(count > 0);
        let expected: Vec<String> = (0..count).map(payload).collect();
        assert_eq!(kept_of(&all, &keys, &name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn others_are_published_while_one_waits_for_its_slot() {
    let all = RedisCluster::start().await;
    let settings = Settings { command_timeout: Duration::from_secs(1), ..settings(&all) };
    let publisher = Publisher::connect(&settings).await.unwrap();
    let channels = one_of_each(publisher.keys());
    let batch = |number| channels.iter().map(|name| (name.clone(), numbered(number))).collect::<Vec<_>>();
    assert!(publisher.publish_batch(batch(0)).await.iter().all(Result::is_ok));
    let slot = Keys::slot(4);
    let to = (all.owner_of_slot(slot).await + 1) % 3;
    all.begin_move(slot, to).await;
    assert!(all.migrate_some(slot, to, 1).await > 0);
    for (partition, outcome) in publisher.publish_batch(batch(1)).await.into_iter().enumerate() {
        match partition {
            4 => assert!(unavailable(outcome).0.contains("on its way from one server"), "{partition}"),
            _ => assert!(outcome.is_ok(), "{partition}: {outcome:?}"),
        }
    }
    // Live, it is heard where gateways still are.
    publisher.publish(&channels[4], Event::text("live").ephemeral()).await.unwrap();
    let unread = publisher.history(&channels[4], Position::ZERO, 9).await.unwrap_err().to_string();
    assert!(unread.contains("on its way from one server"), "{unread}");
    let waits = on(&all).await;
    let (receipt, ()) = tokio::join!(waits.publish(&channels[4], numbered(2)), async {
        while all.migrate_some(slot, to, 9).await > 0 {}
        all.finish_move(slot, to).await;
    });
    assert!(!receipt.unwrap().duplicate);
    let page = publisher.history(&channels[4], Position::ZERO, 9).await.unwrap();
    assert_eq!(page.entries.len(), 2);
}
