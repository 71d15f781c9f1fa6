//! History in Redis: read page by page, each at one instant and small, and erased.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use redis::RedisError;
use shared::channel::Channel;
use shared::cursor::Tag;
use shared::position::Position;
use shared::redis::message::parse_last;
use shared::redis::{ClockReply, Functions, first_error};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::links::Link;
use super::tries::call;
use super::{Inner, Publisher};
use crate::PublishError;
use crate::channels::{Channels, HistoryEntry, HistoryPage, LastEvent, MAX_HISTORY_BYTES};

/// Entries that are asked for at a time: they are in memory here whatever their size, 4 MiB where they are as large as a
/// publish by HTTP may be.
const ENTRIES: usize = 64;

/// An entry of a stream: its id, and its fields, which may be anybody's.
type RawEntry = (String, HashMap<Vec<u8>, Vec<u8>>);

impl Channels for Publisher {
    fn history<'a>(
        &'a self,
        channel: &'a Channel,
        after: Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<HistoryPage, PublishError>> {
        read(&self.inner, channel, after, limit).boxed()
    }

    fn partition(&self, channel: &Channel) -> Option<u16> {
        self.inner.keys.cursor_partition(channel)
    }

    fn erase<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<bool, PublishError>> {
        erase(&self.inner, channel).boxed()
    }
}

async fn read(inner: &Inner, channel: &Channel, after: Position, limit: usize) -> Result<HistoryPage, PublishError> {
    let partition = inner.keys.partition(channel);
    call(inner, partition, |deadline| read_once(inner, channel, after, limit, deadline)).await
}

async fn read_once(
    inner: &Inner,
    channel: &Channel,
    after: Position,
    limit: usize,
    deadline: Instant,
) -> Result<HistoryPage, Failure> {
    let primary = inner.primaries.of(inner.keys.partition(channel), deadline).await?;
    let mut link = primary.lend(deadline).await?;
    let loaded = primary.functions();
    let pages = read_pages(inner, &loaded.functions, &mut link, channel, after, limit);
    let failure = match timeout_at(deadline, pages).await {
        Ok(Ok(page)) => return Ok(page),
        Ok(Err(error)) => Failure::of(&first_error(&error)),
        Err(_) => Failure::late(),
    };
    let failure = ended(link, failure);
    if failure.no_functions {
        primary.load_again(&loaded, &inner.keys, deadline).await?;
    }
    Err(failure)
}

/// As many small pages as make a whole one. Each goes on from where the one before it ended, so the whole is as if read at
/// the instant of the last; what was removed meanwhile ends it early.
async fn read_pages(
    inner: &Inner,
    functions: &Functions,
    link: &mut Link,
    channel: &Channel,
    after: Position,
    limit: usize,
) -> Result<HistoryPage, RedisError> {
    // One beyond the limit tells whether there are more.
    let count = |have: usize| limit.saturating_sub(have).saturating_add(1).min(ENTRIES);
    let (mut whole, mut reached) = read_page(inner, functions, link, channel, after, count(0)).await?;
    while let Some(after) = reached
        && whole.entries.len() <= limit
        && bytes(&whole.entries) <= MAX_HISTORY_BYTES
    {
        let count = count(whole.entries.len());
        let (page, next) = read_page(inner, functions, link, channel, after, count).await?;
        if page.tag != whole.tag {
            // What was read is of a life that is over.
            whole.more = true;
            break;
        }
        let mut entries = whole.entries;
        entries.extend(page.entries);
        whole = HistoryPage { entries, ..page };
        reached = next;
    }
    whole.cut(limit);
    Ok(whole)
}

fn bytes(entries: &[HistoryEntry]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

/// The channel's state and at most `count` entries, at one instant; and where to go on, if there may be more.
async fn read_page(
    inner: &Inner,
    functions: &Functions,
    link: &mut Link,
    channel: &Channel,
    after: Position,
    count: usize,
) -> Result<(HistoryPage, Option<Position>), RedisError> {
    let keys = &inner.keys;
    let mut read = redis::pipe();
    read.atomic().add_command(functions.clock(&keys.clock(keys.partition(channel)), None));
    read.cmd("GET").arg(keys.last(channel));
    read.cmd("XRANGE").arg(keys.channel(channel)).arg(format!("({after}")).arg("+").arg("COUNT").arg(count);
    let (clock, last, entries): (ClockReply, Option<String>, Vec<RawEntry>) =
        read.query_async(link.connection()).await?;
    let reached = entries.last().filter(|_| entries.len() >= count).and_then(|(id, _)| id.parse().ok());
    let page = HistoryPage {
        clock: clock.position,
        time_ms: clock.time_ms,
        tag: Tag::of(&clock.epoch, keys.partitions()),
        partition: keys.cursor_partition(channel),
        last: last.as_deref().and_then(parse_last).map(|(position, ended)| LastEvent { position, ended }),
        // What somebody else put into the stream by hand is no event of ours.
        entries: entries.into_iter().filter_map(entry).collect(),
        more: false,
    };
    Ok((page, reached))
}

fn entry((id, mut fields): RawEntry) -> Option<HistoryEntry> {
    let previous = std::str::from_utf8(fields.get(&b"p"[..])?).ok()?.parse().ok()?;
    let payload = Bytes::from(fields.remove(&b"d"[..])?);
    Some(HistoryEntry { position: id.parse().ok()?, previous, payload })
}

async fn erase(inner: &Inner, channel: &Channel) -> Result<bool, PublishError> {
    call(inner, inner.keys.partition(channel), |deadline| erase_once(inner, channel, deadline)).await
}

async fn erase_once(inner: &Inner, channel: &Channel, deadline: Instant) -> Result<bool, Failure> {
    let primary = inner.primaries.of(inner.keys.partition(channel), deadline).await?;
    let mut link = primary.lend(deadline).await?;
    let key = inner.keys.channel(channel);
    // Asked first, since it refuses a key of another type: that is no history of ours.
    let there = match timeout_at(deadline, redis::cmd("XLEN").arg(&key).query_async::<u64>(link.connection())).await {
        Ok(Ok(there)) => there,
        Ok(Err(error)) => return Err(ended(link, Failure::of(&error))),
        Err(_) => return Err(ended(link, Failure::late())),
    };
    if there == 0 {
        return Ok(false);
    }
    match timeout_at(deadline, redis::cmd("UNLINK").arg(&key).query_async::<u64>(link.connection())).await {
        Ok(Ok(removed)) => Ok(removed > 0),
        // The server says so, and did nothing.
        Ok(Err(error)) if error.code().is_some() => Err(ended(link, Failure::of(&error))),
        // It may have been carried out: another try could not tell any more whether there was anything to erase.
        Ok(Err(error)) => Err(ended(link, Failure { may_pass: false, ..Failure::of(&error) })),
        Err(_) => Err(ended(link, Failure { may_pass: false, ..Failure::late() })),
    }
}

fn ended(link: Link, failure: Failure) -> Failure {
    link.end(&failure);
    failure
}
