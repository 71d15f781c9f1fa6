//! Events of one server, or of one partition of a Cluster, in as few round trips as may be: they are cut into pipelines, and each is
//! tried until its deadline.
//!
//! # Why the order holds
//!
//! Redis carries the commands of one connection out in the order they were sent. A pipeline that broke half-way is sent
//! again whole, the same commands in the same order, on another connection, while Redis may still be reading from the
//! broken one. So there are several readers of the same list of commands, each going from its beginning on, one step at a
//! time and no two at once. What has been carried out by any of them is always some beginning of the list: a reader's
//! next command is either in it, and does nothing for its idempotency key, or is the one that follows it, and lengthens
//! it. The events stand as they were given.
//!
//! The next pipeline is sent only when the last one is answered whole. Where that could not be had, what is left of the
//! batch is given up: published now, it might come before what is still on its way.

use std::collections::HashMap;

use redis::{Pipeline, RedisError, RedisResult, Value, from_redis_value};
use tokio::time::Instant;

use super::failure::Failure;
use super::item::Item;
use super::links::Way;
use super::tries::Tries;
use super::{Inner, replicas};
use crate::{PublishError, Receipt};

/// Commands of one pipeline at most: Redis serves nobody else meanwhile, some 10 ms.
const MAX_COMMANDS: usize = 500;
/// Bytes of one pipeline at most, unless a single command has more: on a slow network (100 Mbit/s) it is over in 0.4 s,
/// far within the deadline, and little has to be repeated or is held twice in memory.
const MAX_BYTES: usize = 4 << 20;

/// Publishes in this order, on the server that has `partition`; all have an outcome then.
pub(super) async fn publish(inner: &Inner, partition: u16, items: &mut [Item]) {
    let mut rest = items;
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(first_pipeline(rest));
        if let Err(error) = publish_some(inner, partition, now).await {
            settle(later, &error);
            break;
        }
        rest = later;
    }
}

/// How many of `items` go into one pipeline; at least 1.
fn first_pipeline(items: &[Item]) -> usize {
    let mut bytes = 0;
    let fits = |item: &&Item| {
        bytes += item.bytes();
        bytes <= MAX_BYTES
    };
    items.iter().take(MAX_COMMANDS).take_while(fits).count().max(1)
}

/// One pipeline, tried until all its items have an outcome. An error is why they could not all be had.
async fn publish_some(inner: &Inner, partition: u16, items: &mut [Item]) -> Result<(), PublishError> {
    let mut tries = Tries::until(inner.primaries.deadline());
    loop {
        let Err(failure) = try_once(inner, partition, items, tries.deadline).await else { return Ok(()) };
        inner.primaries.note(partition, &failure);
        if items.iter().all(|item| item.outcome.is_some()) {
            return Err(failure.error);
        }
        if let Err(error) = tries.again(&failure).await {
            settle(items, &error);
            return Err(error);
        }
    }
}

/// Gives up those without an outcome.
fn settle(items: &mut [Item], error: &PublishError) {
    for item in items.iter_mut().filter(|item| item.outcome.is_none()) {
        item.outcome = Some(Err(error.clone()));
    }
}

/// Sends what has no outcome yet, and takes the answers. `Ok`: now all have one.
async fn try_once(inner: &Inner, partition: u16, items: &mut [Item], deadline: Instant) -> Result<(), Failure> {
    let mut open: Vec<&mut Item> = items.iter_mut().filter(|item| item.outcome.is_none()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let bytes = open.iter().map(|item| item.bytes()).sum();
    let once = open.iter().any(|item| !item.is_durable());
    let waits = inner.wait_replicas > 0 && open.iter().any(|item| item.is_durable());
    let primary = inner.primaries.of(partition, deadline).await?;
    let mut way = primary.way(open.len(), bytes, once, waits, deadline).await?;
    let loaded = primary.functions();
    let mut commands = Pipeline::with_capacity(open.len() + 1);
    open.iter().for_each(|item| _ = commands.add_command(item.command(&loaded.functions, waits)));
    if waits {
        replicas::wait(&mut commands, inner.wait_replicas, deadline);
    }
    let mut answers = match way.send(commands.ignore_errors(), deadline).await {
        Ok(answers) => answers,
        Err(failure) => return Err(broken(way, &mut open, failure)),
    };
    let missing = if waits { replicas::missing(answers.pop(), inner.wait_replicas) } else { None };
    // What a server has taken that is no longer the one may be lost.
    let unsafe_yet = primary.left(&way).or(missing);
    let taken = take(&mut open, answers, inner.keys.partitions());
    if !taken.ours.is_empty() {
        let channels: Vec<&str> = taken.ours.iter().map(|place| open[*place].key()).collect();
        let counts = count_receivers(&mut way, &channels, inner.keys.partitions(), deadline).await;
        for place in taken.ours {
            let count = counts.get(open[place].key()).copied();
            if let Some(Ok(receipt)) = &mut open[place].outcome {
                receipt.receivers = count.unwrap_or_default();
            }
        }
    }
    let breaking = taken.breaking.as_ref().or(unsafe_yet.as_ref().filter(|failure| failure.breaks_link));
    if let Some(breaking) = breaking {
        way.end(breaking);
    }
    // They are published, and sent again, for the replicas or to the other server: where they are known there, nobody hears them twice.
    let reopened =
        unsafe_yet.filter(|_| open.iter_mut().map(|item| item.reopen()).filter(|reopened| *reopened).count() > 0);
    // What was not published at all says more than that replicas lack it.
    let Some(failure) = taken.failure.or(reopened) else { return Ok(()) };
    if failure.no_functions {
        primary.load_again(&loaded, &inner.keys, deadline).await?;
    }
    Err(failure)
}

/// Nobody knows what was carried out. A durable event can be sent again, for its key; an ephemeral one cannot.
fn broken(way: Way<'_>, open: &mut [&mut Item], failure: Failure) -> Failure {
    way.end(&failure);
    for item in open.iter_mut().filter(|item| !item.is_durable()) {
        item.outcome = Some(Err(failure.error.clone()));
    }
    failure
}

/// What the answers of one pipeline come to, beside the outcomes they give.
#[derive(Default)]
struct Taken {
    /// Places of events that an earlier try had published.
    ours: Vec<usize>,
    /// Why some are still open.
    failure: Option<Failure>,
    /// Why the connection is not to be used again.
    breaking: Option<Failure>,
}

fn take(open: &mut [&mut Item], answers: Vec<RedisResult<Value>>, partitions: u16) -> Taken {
    let mut taken = Taken::default();
    let read = |(item, answer): (&&mut Item, RedisResult<Value>)| Ok(item.read(answer?, partitions)?);
    let results: Vec<Result<(Receipt, bool), RedisError>> = open.iter().zip(answers).map(read).collect();
    // An event that was not carried out may be sent again only if none that follows it was: it would come too late.
    let last = results.iter().zip(&*open).rposition(|(result, item)| result.is_ok() && item.is_durable());
    for (place, (item, result)) in open.iter_mut().zip(results).enumerate() {
        let failure = match result {
            Ok((receipt, ours)) => {
                if ours {
                    taken.ours.push(place);
                }
                item.outcome = Some(Ok(receipt));
                continue;
            }
            Err(error) => Failure::of(&error),
        };
        if failure.breaks_link {
            taken.breaking = Some(failure.clone());
        }
        // An ephemeral event only where it is certain that nobody heard it.
        let may_repeat = failure.may_pass && (item.is_durable() || failure.is_undone);
        if may_repeat && last.is_none_or(|last| place > last) {
            // The first reason is told; that the functions are missing is acted on.
            if failure.no_functions || taken.failure.is_none() {
                taken.failure = Some(failure);
            }
        } else {
            item.outcome = Some(Err(failure.error));
        }
    }
    taken
}

/// Gateway nodes with somebody on each of `channels` (names in Redis). What cannot be had is left out: the events are
/// published all the same.
async fn count_receivers(
    way: &mut Way<'_>,
    channels: &[&str],
    partitions: u16,
    deadline: Instant,
) -> HashMap<String, u64> {
    let mut count = redis::pipe();
    count.cmd("PUBSUB").arg(if partitions > 1 { "SHARDNUMSUB" } else { "NUMSUB" }).arg(channels).ignore_errors();
    let answer = way.send(&count, deadline).await.ok().and_then(|mut answers| answers.pop()?.ok());
    answer.and_then(|answer| from_redis_value(answer).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redis::ServerErrorKind;
    use shared::channel::Channel;

    use super::super::item::OwnKeys;
    use super::*;
    use crate::Publication;
    use shared::keys::Keys;

    fn items(publications: impl IntoIterator<Item = Publication>) -> Vec<Item> {
        let (channel, own_keys) = (Channel::parse("a").unwrap(), OwnKeys::new(Duration::from_secs(3)));
        publications.into_iter().map(|p| Item::new(&channel, p, &Keys::default(), &own_keys)).collect()
    }

    fn durable() -> Publication {
        Publication::new("x")
    }

    fn published(seq: u64) -> RedisResult<Value> {
        let text = |text: &str| Value::BulkString(text.into());
        Ok(Value::Array(vec![text(&format!("1-{seq}")), Value::Int(0), Value::Int(0), text("abc")]))
    }

    fn missing() -> RedisResult<Value> {
        Err((redis::ErrorKind::Server(ServerErrorKind::NoScript), "no matching script").into())
    }

    /// Which of `items` are still open once these answers are taken, and which have failed.
    fn open_and_failed(items: &mut [Item], answers: Vec<RedisResult<Value>>) -> [Vec<usize>; 2] {
        let taken = take(&mut items.iter_mut().collect::<Vec<_>>(), answers, 1);
        let places = |wanted: fn(&Item) -> bool| (0..items.len()).filter(|place| wanted(&items[*place])).collect();
        let open: Vec<usize> = places(|item| item.outcome.is_none());
        assert_eq!(taken.failure.is_some_and(|failure| failure.no_functions), !open.is_empty());
        [open, places(|item| matches!(item.outcome, Some(Err(_))))]
    }

    #[test]
    fn only_events_that_no_later_one_overtook_are_sent_again() {
        let mut items = items([durable(), durable(), durable(), durable().ephemeral(), durable()]);
        // Somebody loaded the functions after the first, and flushed them after the second.
        let answers = vec![missing(), published(1), missing(), Ok(Value::Int(7)), missing()];
        assert_eq!(open_and_failed(&mut items, answers), [vec![2, 4], vec![0]]);
        assert_eq!(items[3].outcome.as_ref().unwrap().as_ref().unwrap().receivers, 7);
    }

    #[test]
    fn an_answer_that_is_none_of_ours_is_the_brokers_error() {
        let mut items = items([durable(), durable().ephemeral()]);
        let answers = vec![Ok(Value::Okay), Ok(Value::BulkString(b"x".to_vec()))];
        assert_eq!(open_and_failed(&mut items, answers), [vec![], vec![0, 1]]);
        for item in items {
            assert!(matches!(item.outcome, Some(Err(PublishError::Rejected { .. }))), "{:?}", item.outcome);
        }
    }

    #[test]
    fn pipelines_have_their_bounds_and_at_least_one_event() {
        let of_bytes = |bytes: usize, count: usize| items(vec![Publication::new(vec![0; bytes]); count]);
        assert_eq!(first_pipeline(&of_bytes(0, 501)), 500);
        assert_eq!(first_pipeline(&of_bytes(0, 3)), 3);
        assert_eq!(first_pipeline(&of_bytes(MAX_BYTES / 4, 9)), 3);
        assert_eq!(first_pipeline(&of_bytes(MAX_BYTES, 2)), 1);
    }
}
