//! A Redis Cluster: each partition on the primary that has it, whatever becomes of the others.

use std::collections::{BTreeMap, BTreeSet};

use publisher::{Channels as _, Event, Once, PublishError, Publisher, Receipt};
use shared::channel::Channel;
use shared::keys::Keys;
use shared::position::Position;
use shared::redis::Settings;
use testkit::{PATIENCE, RedisCluster, soon};

use crate::support::*;

pub(crate) const PARTITIONS: u16 = 16;

pub(crate) fn settings(all: &RedisCluster) -> Settings {
    Settings { partitions: PARTITIONS, command_timeout: PATIENCE, ..Settings::new(&all.url()) }
}

pub(crate) async fn on(all: &RedisCluster) -> Publisher {
    Publisher::connect(&settings(all)).await.unwrap()
}

/// A channel of each partition, in their order.
pub(crate) fn one_of_each(keys: &Keys) -> Vec<Channel> {
    let of = |partition| (0..).map(|n| channel(&format!("c:{n}"))).find(|name| keys.partition(name) == partition);
    (0..PARTITIONS).map(|partition| of(partition).unwrap()).collect()
}

/// Which server each partition is on.
async fn owners(all: &RedisCluster) -> Vec<usize> {
    let mut owners = Vec::new();
    for partition in 0..PARTITIONS {
        owners.push(all.owner_of_slot(Keys::slot(partition)).await);
    }
    owners
}

/// What the history has, as its server says.
pub(crate) async fn kept_of(all: &RedisCluster, keys: &Keys, channel: &Channel) -> Vec<String> {
    let owner = all.owner_of_slot(Keys::slot(keys.partition(channel))).await;
    payloads(&all.servers[owner], &keys.channel(channel)).await
}

fn once(number: usize) -> Event {
    kept(number).once(Once::parse(&format!("k{number}")).unwrap())
}

fn receipt(outcome: &Result<Receipt, PublishError>) -> Receipt {
    *outcome.as_ref().unwrap()
}

#[tokio::test]
async fn a_batch_over_all_servers_has_its_outcomes_in_order() {
    let all = RedisCluster::start().await;
    let publisher = on(&all).await;
    let (keys, channels) = (publisher.keys().clone(), one_of_each(publisher.keys()));
    assert_eq!(owners(&all).await.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
    let channel_of = |number: usize| channels[number * 7 % channels.len()].clone();
    let batch = |ephemeral: bool| {
        let event = move |number: usize| match number % 10 {
            3 => Event::text("x").named("sse.no"),
            6 if ephemeral => numbered(number).ephemeral(),
            _ => once(number),
        };
        (0..1_000).map(|number| (channel_of(number), event(number))).collect::<Vec<_>>()
    };
    let outcomes = publisher.publish_batch(batch(true)).await;
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut before: BTreeMap<String, Position> = BTreeMap::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let name = channel_of(number).to_string();
        match number % 10 {
            3 => assert!(matches!(outcome, Err(PublishError::Refused { field: "event", .. })), "{number}: {outcome:?}"),
            6 => assert_eq!(receipt(outcome).position, None, "{number}"),
            _ => {
                let Receipt { position, receivers, duplicate, .. } = receipt(outcome);
                assert!(position > before.insert(name.clone(), position.unwrap()), "{number}");
                assert_eq!((receivers, duplicate), (0, false), "{number}");
                expected.entry(name).or_default().push(payload(number));
            }
        }
    }
    for channel in &channels {
        assert_eq!(kept_of(&all, &keys, channel).await, expected[channel.as_str()], "{channel}");
    }
    // Once more: all that was published is known, where it is.
    let again = publisher.publish_batch(batch(false)).await;
    for (number, (first, again)) in outcomes.iter().zip(&again).enumerate().filter(|(number, _)| number % 10 != 3) {
        assert_eq!(receipt(again).duplicate, number % 10 != 6, "{number}");
        if number % 10 != 6 {
            assert_eq!(receipt(again).position, receipt(first).position, "{number}");
        }
    }
}

#[tokio::test]
async fn single_calls_go_where_the_channel_is() {
    let all = RedisCluster::start().await;
    let (publisher, elsewhere) = (on(&all).await, on(&all).await);
    let (keys, channels) = (publisher.keys().clone(), one_of_each(publisher.keys()));
    for (name, owner) in channels.iter().zip(owners(&all).await) {
        let mut listener = Listener::sharded(&all.servers[owner], &[&keys.channel(name)]).await;
        assert_eq!(publisher.publish(name, Event::text("live").ephemeral()).await.unwrap().receivers, 1, "{name}");
        assert_eq!(publisher.publish(name, Event::text("kept")).await.unwrap().receivers, 1, "{name}");
        let heard = listener.all(&all.servers[owner], &keys.channel(name)).await;
        assert_eq!(heard, [r#"{"data":"live"}"#, r#"{"data":"kept"}"#], "{name}");

        let page = elsewhere.history(name, Position::ZERO, 10).await.unwrap();
        assert_eq!((page.entries.len(), page.more), (1, false), "{name}");
        assert!(elsewhere.erase(name).await.unwrap() && !elsewhere.erase(name).await.unwrap(), "{name}");
    }
    publisher.check().await.unwrap();
}

#[tokio::test]
async fn cancellations_are_found_on_every_server() {
    let all = RedisCluster::start().await;
    let (publisher, elsewhere) = (on(&all).await, on(&all).await);
    let channels = one_of_each(publisher.keys());
    elsewhere.cancel(&channels[3]).await.unwrap();
    soon("one before", publisher.cancelled(&channels[3])).await;
    let waiting: Vec<_> = channels.iter().map(|channel| publisher.cancelled(channel)).collect();
    let mut other = Box::pin(publisher.cancelled(&channel("other")));
    for channel in &channels {
        elsewhere.cancel(channel).await.unwrap();
    }
    soon("all of them", futures_util::future::join_all(waiting)).await;
    assert!(futures_util::poll!(&mut other).is_pending());
}

#[tokio::test]
async fn functions_that_one_server_lost_are_loaded_there() {
    let all = RedisCluster::start().await;
    let publisher = on(&all).await;
    let channels = one_of_each(publisher.keys());
    let batch = || channels.iter().map(|channel| (channel.clone(), Event::text("x"))).collect::<Vec<_>>();
    for server in &all.servers {
        assert_eq!(server.cli(&["FUNCTION", "FLUSH"]).await, "OK");
        let outcomes = publisher.publish_batch(batch()).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert!(server.cli(&["FUNCTION", "LIST"]).await.contains("sse_publish"));
    }
}

#[tokio::test]
async fn those_of_a_primary_that_is_dead_wait_for_its_replica() {
    // What a dead one had is no reason for the others to stop.
    let mut all = RedisCluster::builder().replicas(1).servers("cluster-require-full-coverage no").start().await;
    let publisher = Publisher::connect(&Settings { wait_replicas: 1, ..settings(&all) }).await.unwrap();
    let (keys, channels, owners) = (publisher.keys().clone(), one_of_each(publisher.keys()), owners(&all).await);
    let batch = || channels.iter().enumerate().map(|(number, name)| (name.clone(), once(number))).collect::<Vec<_>>();
    assert!(publisher.publish(&channels[0], Event::text("first")).await.is_ok());
    all.servers[0].kill().await;
    let outcomes = publisher.publish_batch(batch()).await;
    for (outcome, owner) in outcomes.into_iter().zip(&owners) {
        match owner {
            0 => assert_eq!(unavailable(outcome).1, 2),
            _ => assert!(!receipt(&outcome).duplicate),
        }
    }
    all.fails_over(0).await;
    // The one that took its place has no replica.
    let publisher = on(&all).await;
    let outcomes = publisher.publish_batch(batch()).await;
    for ((number, outcome), owner) in outcomes.iter().enumerate().zip(&owners) {
        assert_eq!(receipt(outcome).duplicate, *owner != 0, "{number}");
        let (name, expected) = (&channels[number], payload(number));
        let kept = kept_of(&all, &keys, name).await;
        assert_eq!(kept.iter().filter(|kept| **kept == expected).count(), 1, "{kept:?}");
    }
}

#[tokio::test]
async fn who_published_to_a_primary_that_dies_goes_on_with_its_replica() {
    let mut all = RedisCluster::builder().replicas(1).start().await;
    let publisher = on(&all).await;
    let (channels, owners) = (one_of_each(publisher.keys()), owners(&all).await);
    let batch = |n: usize| channels.iter().map(|name| (name.clone(), once(n))).collect::<Vec<_>>();
    assert!(publisher.publish_batch(batch(0)).await.iter().all(Result::is_ok));
    let dies = owners[5];
    all.servers[dies].kill().await;
    all.fails_over(dies).await;
    let outcomes = publisher.publish_batch(batch(1)).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|receipt| !receipt.duplicate)), "{outcomes:?}");
}
