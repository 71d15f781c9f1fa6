//! How a session begins, and what is left of it.

use std::sync::Arc;

use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use shared::position::Epoch;
use shared::redis::functions::is_missing;
use shared::redis::{ClockReply, Functions, Server};

use super::super::RedisBroker;
use super::super::ended::Ended;
use super::super::hearing::Hearing;
use super::super::library::Loaded;
use super::super::links::Link;
use crate::broker::Partition;

/// What is left of a session.
pub(in super::super) struct Rest {
    pub(super) partition: Partition,
    pub(super) link: Arc<Link>,
    pub(super) hearing: Arc<Hearing>,
}

impl Rest {
    /// Sees to it that what the session began on is in nobody's way.
    pub(in super::super) async fn clear(self, broker: &RedisBroker, ended: &Ended) {
        if ended.breaks_link() {
            self.link.break_off();
        }
        self.link.leave(self.partition, &self.hearing.names()).await;
        broker.links.forget(&self.link);
    }
}

/// The clock, with the functions loaded again where they are gone. `known`: the epoch of the session before this one.
pub(super) async fn first_clock(
    broker: &RedisBroker,
    partition: Partition,
    server: &Server,
    known: Option<&Epoch>,
    connection: &mut MultiplexedConnection,
) -> Result<(Loaded, ClockReply), RedisError> {
    let key = broker.keys.clock(partition);
    // Whoever trusts failovers has no doubts, and whoever knows nothing has lost nothing.
    let doubted = known.filter(|_| server.is_doubted() && !server.trusts_failover());
    let clock = |functions: &Functions| match doubted {
        Some(epoch) => functions.clock_doubting(&key, epoch),
        None => functions.clock(&key, None),
    };
    let loaded = broker.library.on(server.address());
    match clock(&loaded.functions).query_async(connection).await {
        Err(error) if is_missing(&error) => {}
        answer => return Ok((loaded, answer?)),
    }
    let loaded = broker.library.reload(&loaded, server, &broker.keys, partition).await?;
    let clock = clock(&loaded.functions).query_async(connection).await?;
    Ok((loaded, clock))
}
