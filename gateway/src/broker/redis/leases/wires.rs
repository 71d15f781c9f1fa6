//! The connections on which leases are kept: one to each server that has partitions.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use shared::redis::{Client, Server};

use crate::broker::Partition;

/// Of one session. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wires {
    all: Arc<[Wire]>,
    /// By partition, its place among them.
    places: Arc<[usize]>,
    /// Of each partition: all of them are the ones to go to for as long as none is left.
    servers: Arc<[Server]>,
}

/// To one server.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) server: Server,
    /// One that the server has.
    pub(super) partition: Partition,
    pub(super) connection: MultiplexedConnection,
}

impl Wires {
    /// Connects to each server.
    pub(super) async fn open(client: &Client, partitions: Partition) -> Result<Self, RedisError> {
        let mut all = Vec::new();
        let mut by_address = HashMap::new();
        for (partition, server) in client.servers().await? {
            let connection = server.connect().await?;
            by_address.insert(server.address().to_owned(), all.len());
            all.push(Wire { server, partition, connection });
        }
        let (mut places, mut servers) = (Vec::new(), Vec::new());
        for partition in 0..partitions {
            // What moved while we connected is looked for again.
            let moved = || RedisError::from(io::Error::new(io::ErrorKind::NotConnected, "a partition moved meanwhile"));
            let server = client.known(partition).or_else(|| (!client.is_cluster()).then(|| all[0].server.clone()));
            let server = server.ok_or_else(moved)?;
            places.push(*by_address.get(server.address()).ok_or_else(moved)?);
            servers.push(server);
        }
        Ok(Self { all: all.into(), places: places.into(), servers: servers.into() })
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Wire] {
        &self.all
    }

    /// The place among all of the one to `partition`.
    pub(super) fn place(&self, partition: Partition) -> usize {
        self.places.get(usize::from(partition)).copied().unwrap_or(0)
    }

    /// The one to `partition`.
    pub(super) fn to(&self, partition: Partition) -> Option<&Wire> {
        self.all.get(self.place(partition))
    }

    /// Waits until some partition is elsewhere.
    pub(super) async fn left(&self) {
        let mut left: FuturesUnordered<_> = self.servers.iter().map(Server::left).collect();
        // There is one at least, and so it waits.
        left.next().await;
    }
}
