//! Cancellations where there are several partitions: marks alone, read every second, and at once for whoever begins to wait.
//!
//! Messages go by sharded Pub/Sub then, which is subscribed to on each server for the slots that it has, and anew with each slot that
//! moves. That is a good deal more than a second is worth to somebody who stops an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use redis::{Value, from_redis_value};
use shared::channel::Channel;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::telling::{Lost, Telling};
use crate::publisher::failure::Failure;

/// How often all marks are read.
const INTERVAL: Duration = Duration::from_secs(1);
/// Names of one command at most: Redis serves nobody else meanwhile.
const BATCH: usize = 500;
/// Partitions that are asked at once.
const AT_ONCE: usize = 64;

/// Until nobody waits at two looks in a row, which the task has said then.
pub(super) async fn run(shared: &Shared, telling: &mut Telling) {
    let waiters = &shared.waiters;
    waiters.renew();
    let (mut next_look, mut is_idle) = (Instant::now() + INTERVAL, false);
    loop {
        let fresh = tokio::select! {
            biased;
            () = sleep_until(next_look) => None,
            channels = waiters.fresh(BATCH) => Some(channels),
        };
        let is_fresh = fresh.is_some();
        match look(shared, fresh.unwrap_or_else(|| waiters.channels())).await {
            None => telling.established(),
            // For as long as a slot takes to move; the next look is soon.
            Some(failure) if failure.is_undone => {}
            Some(failure) => telling.lost(&Lost::Away(failure.into_reason()), shared.client.address()),
        }
        if is_fresh {
            is_idle = false;
            continue;
        }
        if is_idle && shared.may_end() {
            return;
        }
        is_idle = waiters.is_empty();
        next_look = Instant::now() + INTERVAL;
    }
}

/// Wakes whoever waits for one of `channels` that is marked. What could not be read is why, if there is such.
async fn look(shared: &Shared, channels: Vec<Channel>) -> Option<Failure> {
    let mut partitions: BTreeMap<u16, Vec<Channel>> = BTreeMap::new();
    for channel in channels {
        partitions.entry(shared.keys.partition(&channel)).or_default().push(channel);
    }
    let reads: Vec<_> = partitions.into_iter().map(|(partition, channels)| read(shared, partition, channels)).collect();
    let failures: Vec<Failure> =
        stream::iter(reads).buffer_unordered(AT_ONCE).filter_map(|read| async { read.err() }).collect().await;
    // One that is away says more than one that moves.
    failures.into_iter().min_by_key(|failure| failure.is_undone)
}

async fn read(shared: &Shared, partition: u16, channels: Vec<Channel>) -> Result<(), Failure> {
    let read = read_once(shared, partition, channels).await;
    read.inspect_err(|failure| shared.primaries.note(partition, failure))
}

async fn read_once(shared: &Shared, partition: u16, channels: Vec<Channel>) -> Result<(), Failure> {
    let deadline = shared.primaries.deadline();
    let primary = shared.primaries.of(partition, deadline).await?;
    let (mut marks, mut bytes) = (redis::pipe(), 0);
    for channels in channels.chunks(BATCH) {
        marks.cmd("MGET");
        for channel in channels {
            let name = shared.keys.cancel(channel);
            bytes += name.len();
            marks.arg(name);
        }
    }
    let mut way = primary.way(channels.chunks(BATCH).len(), bytes, false, false, deadline).await?;
    let answers = match way.send(marks.ignore_errors(), deadline).await {
        Ok(answers) => answers,
        Err(failure) => {
            way.end(&failure);
            return Err(failure);
        }
    };
    for (channels, answer) in channels.chunks(BATCH).zip(answers) {
        let failed = |error| Failure::of(&error);
        let marks: Vec<Value> = from_redis_value(answer.map_err(failed)?).map_err(|error| failed(error.into()))?;
        let marked = channels.iter().zip(marks).filter(|(_, mark)| *mark != Value::Nil);
        marked.for_each(|(channel, _)| _ = shared.waiters.wake(channel));
    }
    Ok(())
}
