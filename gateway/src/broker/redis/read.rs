//! What is read of a channel in one step: the clock first, then what stands in Redis at that instant.
//!
//! A server that is out of memory refuses transactions, reading ones too, and would keep every new stream out. There the
//! same commands go without one: then something later than the clock may be among the answers.

use std::collections::HashMap;

use ::redis::aio::MultiplexedConnection;
use ::redis::{FromRedisValue, Pipeline, RedisError};
use bytes::Bytes;
use shared::channel::Channel;
use shared::keys::Keys;
use shared::position::{Epoch, Position};
use shared::redis::client::is_out_of_memory;
use shared::redis::message::parse_last;
use shared::redis::{ClockReply, Functions};

use super::super::{Between, Entry, Last, Partition, Snapshot, Stamp};

/// An entry of a stream: its id, and its fields, which may be anything where somebody else added it.
type RawEntry = (String, HashMap<Vec<u8>, Vec<u8>>);

/// What was read of several channels.
pub(super) struct Lasts {
    pub(super) clock: ClockReply,
    pub(super) evicts: bool,
    /// One for each channel, in their order.
    pub(super) lasts: Vec<Option<Last>>,
}

/// The clock of `partition`, and the last position of each of `channels`, all of which are in it. The clock is heard by `node`, as the
/// barrier of this snapshot.
pub(super) async fn lasts(
    connection: &mut MultiplexedConnection,
    functions: &Functions,
    keys: &Keys,
    node: &str,
    partition: Partition,
    channels: &[Channel],
) -> Result<Lasts, RedisError> {
    let mut pipe = begin(functions, keys, node, partition);
    let mget = pipe.cmd("MGET");
    for channel in channels {
        mget.arg(keys.last(channel));
    }
    let (clock, memory, lasts): (ClockReply, String, Vec<Option<Vec<u8>>>) = ask(connection, &mut pipe).await?;
    let lasts = lasts.iter().map(|last| last.as_deref().and_then(last_of)).collect();
    Ok(Lasts { clock, evicts: evicts(&memory), lasts })
}

/// The clock, heard by `node`, the last position of `channel`, and at most `limit` of the newest entries `between`.
pub(super) async fn channel(
    connection: &mut MultiplexedConnection,
    functions: &Functions,
    keys: &Keys,
    node: &str,
    channel: &Channel,
    between: Between,
    limit: usize,
) -> Result<(Snapshot, Epoch), RedisError> {
    let mut pipe = begin(functions, keys, node, keys.partition(channel));
    // Unlike GET, it takes a key that holds something else for none.
    pipe.cmd("MGET").arg(keys.last(channel));
    let before = between.before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
    // Beyond the highest there is nothing, and Redis takes it for a mistake to ask.
    let exclusive = if between.after < Position::MAX { "(" } else { "" };
    let after = format!("{exclusive}{}", between.after);
    pipe.cmd("XREVRANGE").arg(keys.channel(channel)).arg(before).arg(after).arg("COUNT").arg(limit);
    let (clock, memory, (last,), entries): (ClockReply, String, (Option<Vec<u8>>,), Vec<RawEntry>) =
        ask(connection, &mut pipe).await?;
    let snapshot = Snapshot {
        clock: clock.position,
        time_ms: clock.time_ms,
        evicts: evicts(&memory),
        last: last.as_deref().and_then(last_of),
        // What somebody else put into the stream by hand is no event of ours.
        entries: entries.into_iter().rev().filter_map(entry).collect(),
    };
    Ok((snapshot, clock.epoch))
}

/// Whether the server throws keys away before their time, by the section `memory` of its INFO.
fn evicts(memory: &str) -> bool {
    let value = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    // A server that does not say is taken for one that does.
    !(value("maxmemory") == Some("0") || value("maxmemory_policy") == Some("noeviction"))
}

/// In one transaction, or at least in one go.
async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, pipe: &mut Pipeline) -> Result<T, RedisError> {
    match pipe.query_async(connection).await {
        Err(error) if is_out_of_memory(&error) => {
            let mut plain = ::redis::pipe();
            pipe.cmd_iter().for_each(|cmd| _ = plain.add_command(cmd.clone()));
            plain.query_async(connection).await
        }
        answer => answer,
    }
}

fn begin(functions: &Functions, keys: &Keys, node: &str, partition: Partition) -> Pipeline {
    let mut pipe = ::redis::pipe();
    pipe.atomic().add_command(functions.clock(&keys.clock(partition), Some(node)));
    pipe.cmd("INFO").arg("memory");
    pipe
}

/// What somebody else wrote there is no position.
fn last_of(text: &[u8]) -> Option<Last> {
    let (position, ended) = parse_last(std::str::from_utf8(text).ok()?)?;
    Some(Last { position, ended })
}

fn entry((id, mut fields): RawEntry) -> Option<Entry> {
    let previous = std::str::from_utf8(fields.get(&b"p"[..])?).ok()?.parse().ok()?;
    let payload = Bytes::from(fields.remove(&b"d"[..])?);
    Some(Entry { stamp: Stamp { position: id.parse().ok()?, previous }, payload })
}
