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
use shared::position::Position;
use shared::redis::client::is_out_of_memory;
use shared::redis::message::parse_last;
use shared::redis::{ClockReply, Functions, describe};

use super::super::{BrokerError, Entry, Last, Snapshot, Stamp};

/// An entry of a stream: its id, and its fields, which may be anything where somebody else added it.
type RawEntry = (String, HashMap<Vec<u8>, Vec<u8>>);

/// The clock, and the last position of each of `channels` (all of one partition). With a `node` the clock is heard there,
/// as the barrier of this snapshot.
pub(super) async fn lasts(
    connection: &mut MultiplexedConnection,
    functions: &Functions,
    keys: &Keys,
    node: &str,
    channels: &[Channel],
) -> Result<(ClockReply, Vec<Option<Last>>), RedisError> {
    let mut pipe = begin(functions, keys, Some(node));
    let mget = pipe.cmd("MGET");
    for channel in channels {
        mget.arg(keys.last(channel));
    }
    let (clock, lasts): (ClockReply, Vec<Option<String>>) = ask(connection, &mut pipe).await?;
    Ok((clock, lasts.iter().map(|last| last.as_deref().and_then(last_of)).collect()))
}

/// The clock, the last position of `channel`, and at most `limit` entries after `after`.
pub(super) async fn channel(
    connection: &mut MultiplexedConnection,
    functions: &Functions,
    keys: &Keys,
    channel: &Channel,
    after: Position,
    limit: usize,
) -> Result<Snapshot, BrokerError> {
    let mut pipe = begin(functions, keys, None);
    pipe.cmd("GET").arg(keys.last(channel));
    pipe.cmd("XRANGE").arg(keys.channel(channel)).arg(format!("({after}")).arg("+").arg("COUNT").arg(limit);
    let answer = ask(connection, &mut pipe).await;
    let (clock, last, entries): (ClockReply, Option<String>, Vec<RawEntry>) =
        answer.map_err(|error| BrokerError { reason: describe(&error) })?;
    Ok(Snapshot {
        clock: clock.position,
        last: last.as_deref().and_then(last_of),
        // What somebody else put into the stream by hand is no event of ours.
        entries: entries.into_iter().filter_map(entry).collect(),
    })
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

fn begin(functions: &Functions, keys: &Keys, node: Option<&str>) -> Pipeline {
    let mut pipe = ::redis::pipe();
    pipe.atomic().add_command(functions.clock(&keys.clock(super::PARTITION), node));
    pipe
}

fn last_of(text: &str) -> Option<Last> {
    let (position, ended) = parse_last(text)?;
    Some(Last { position, ended })
}

fn entry((id, mut fields): RawEntry) -> Option<Entry> {
    let previous = std::str::from_utf8(fields.get(&b"p"[..])?).ok()?.parse().ok()?;
    let payload = Bytes::from(fields.remove(&b"d"[..])?);
    Some(Entry { stamp: Stamp { position: id.parse().ok()?, previous }, payload })
}
