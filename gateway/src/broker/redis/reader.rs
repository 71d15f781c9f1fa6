//! Reads of one channel on the connection for commands of one session: every answer is of its epoch, or there is none.

use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use shared::channel::Channel;
use shared::position::Epoch;
use shared::redis::Server;
use shared::redis::client::{first_error, is_not_permitted};
use shared::redis::functions::is_missing;

use super::super::{Between, Partition, Snapshot};
use super::ended::Ended;
use super::library::Loaded;
use super::{RedisBroker, read};

/// Cheap to clone. Each call has the connection's deadline, the wait for its turn included.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) connection: MultiplexedConnection,
    /// At its other end.
    pub(super) server: Server,
    /// Of the session, and of all channels that it reads.
    pub(super) partition: Partition,
    /// Of the session.
    pub(super) epoch: Epoch,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The server's, or the connection's.
    Redis(RedisError),
    /// The data have begun another life: the session had better end.
    Epoch,
}

impl Reader {
    /// As [`read::channel`]; functions that are gone are loaded again.
    pub(super) async fn read(
        &self,
        broker: &RedisBroker,
        channel: &Channel,
        between: Between,
        limit: usize,
    ) -> Result<Snapshot, ReadError> {
        let mut connection = self.connection.clone();
        let mut loaded = broker.library.on(self.server.address());
        let (keys, node) = (&broker.keys, &broker.node);
        let mut answer = read::channel(&mut connection, &loaded.functions, keys, node, channel, between, limit).await;
        if answer.as_ref().is_err_and(is_missing) {
            loaded = self.reload(broker, &loaded).await?;
            answer = read::channel(&mut connection, &loaded.functions, keys, node, channel, between, limit).await;
        }
        let (snapshot, epoch) = answer?;
        if epoch == self.epoch { Ok(snapshot) } else { Err(ReadError::Epoch) }
    }

    /// What can be said of a channel whose history cannot be read: nothing of it is there, and what its last position does
    /// not show is not believed.
    pub(super) async fn without_history(&self, broker: &RedisBroker, channel: &Channel) -> Result<Snapshot, ReadError> {
        let mut connection = self.connection.clone();
        let functions = broker.library.on(self.server.address()).functions;
        let (keys, node, channels) = (&broker.keys, &broker.node, std::slice::from_ref(channel));
        let read = read::lasts(&mut connection, &functions, keys, node, self.partition, channels).await?;
        let (clock, last) = (read.clock, read.lasts.first().copied().flatten());
        if clock.epoch != self.epoch {
            return Err(ReadError::Epoch);
        }
        Ok(Snapshot { clock: clock.position, time_ms: clock.time_ms, evicts: true, last, entries: Vec::new() })
    }

    /// Loads the functions again.
    pub(super) async fn reload(&self, broker: &RedisBroker, gone: &Loaded) -> Result<Loaded, RedisError> {
        broker.library.reload(gone, &self.server, &broker.keys, self.partition).await
    }
}

impl ReadError {
    /// The key of the history holds something else, or this node's user may not read it: nothing that trying again would
    /// change, and no other channel's concern.
    pub(super) fn is_of_one_channel(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        is_not_permitted(error) || first_error(error).code() == Some("WRONGTYPE")
    }
}

impl From<RedisError> for ReadError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Redis(error) => error.into(),
            ReadError::Epoch => Self::Epoch,
        }
    }
}
