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
use super::super::reader::Reader;
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

/// What a session knows of the one before it.
pub(in super::super) struct Before {
    /// Of the data.
    epoch: Epoch,
    /// Of the server.
    address: String,
    /// It ended with its connections: nobody knows what became of the server.
    is_lost: bool,
}

impl Before {
    pub(in super::super) fn new(reader: &Reader, ended: &Ended) -> Self {
        let (epoch, address) = (reader.epoch.clone(), reader.server.address().to_owned());
        Self { epoch, address, is_lost: ended.breaks_link() }
    }

    /// The epoch that is to be doubted on `server`: where the partition came there from a server that was lost, and that server's
    /// own loss may not show.
    fn doubts(&self, server: &Server) -> Option<&Epoch> {
        let lost = server.is_doubted() || self.is_lost && self.address != server.address();
        // Whoever trusts failovers has no doubts.
        (lost && !server.trusts_failover()).then_some(&self.epoch)
    }
}

/// The clock, with the functions loaded again where they are gone.
pub(super) async fn first_clock(
    broker: &RedisBroker,
    partition: Partition,
    server: &Server,
    before: Option<&Before>,
    connection: &mut MultiplexedConnection,
) -> Result<(Loaded, ClockReply), RedisError> {
    let key = broker.keys.clock(partition);
    // Whoever knows nothing has lost nothing.
    let doubted = before.filter(|_| broker.client.is_cluster()).and_then(|before| before.doubts(server));
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
