//! What the functions answer.

use redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use super::NODES;
use crate::position::{Epoch, Position};

/// What `sse_publish` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishReply {
    /// Of the event, or of the first one with the same idempotency key.
    pub position: Position,
    /// Gateway nodes with somebody on the channel; 0 for a duplicate.
    pub receivers: u64,
    /// The idempotency key was known, and nothing was published.
    pub duplicate: bool,
    /// Within which `position` stands.
    pub epoch: Epoch,
}

/// What `sse_clock` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockReply {
    /// Every event so far is at or before it.
    pub position: Position,
    /// Of the data.
    pub epoch: Epoch,
    /// Time of day at the server, Unix milliseconds.
    pub time_ms: u64,
}

/// What `sse_lease` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseReply {
    /// The user has these leases now.
    pub granted: bool,
    /// Leases that the user has after it.
    pub held: u64,
    /// Those of them that are new; or, when leases are given back, those that were there.
    pub added: u64,
}

/// What `sse_nodes` answers: who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodesReply {
    /// Time of day at the server, Unix milliseconds.
    pub time_ms: u64,
    /// The name of a node's life, when it spoke last (Unix milliseconds at the server), and what it said.
    pub nodes: Vec<(String, u64, Vec<u8>)>,
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, ParsingError> {
    text.parse().map_err(|_| ParsingError::from(format!("{text:?} in the answer of a function")))
}

impl FromRedisValue for PublishReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (position, receivers, duplicate, epoch): (String, u64, u64, String) = from_redis_value(value)?;
        Ok(Self { position: parsed(&position)?, receivers, duplicate: duplicate == 1, epoch: parsed(&epoch)? })
    }
}

impl FromRedisValue for ClockReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (position, epoch, time_ms): (String, String, u64) = from_redis_value(value)?;
        Ok(Self { position: parsed(&position)?, epoch: parsed(&epoch)?, time_ms })
    }
}

impl FromRedisValue for LeaseReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (granted, held, added): (u64, u64, u64) = from_redis_value(value)?;
        Ok(Self { granted: granted == 1, held, added })
    }
}

impl FromRedisValue for NodesReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let mut items: Vec<Value> = from_redis_value(value)?;
        if items.len() % 3 != 1 {
            return Err(ParsingError::from(format!("{} items in the answer of {NODES}", items.len())));
        }
        let nodes = items.split_off(1);
        let time_ms = items.pop().map_or(Ok(0), from_redis_value)?;
        let mut nodes = nodes.into_iter();
        let mut there = Vec::with_capacity(nodes.len() / 3);
        while let (Some(incarnation), Some(said), Some(text)) = (nodes.next(), nodes.next(), nodes.next()) {
            there.push((from_redis_value(incarnation)?, from_redis_value(said)?, from_redis_value(text)?));
        }
        Ok(Self { time_ms, nodes: there })
    }
}
