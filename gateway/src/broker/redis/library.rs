//! The functions as they are called on a server, loaded again where they are gone: by one who asks for all who noticed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::RedisError;
use shared::keys::Keys;
use shared::redis::{Functions, Server};

use super::super::Partition;

/// Servers that are remembered; more than a cluster has at a time, since addresses come and go.
const SERVERS: usize = 1_024;

/// Shared by sessions and reads.
pub(super) struct Library {
    /// As they were loaded at the start.
    first: Functions,
    /// As they were loaded since, by the server's address.
    since: Mutex<HashMap<Arc<str>, Loaded>>,
    /// Held while somebody loads.
    loading: tokio::sync::Mutex<()>,
}

/// How to call the functions.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) functions: Functions,
    /// How often they were loaded before.
    times: u64,
}

impl Library {
    pub(super) fn new(functions: Functions) -> Self {
        Self { first: functions, since: Mutex::default(), loading: tokio::sync::Mutex::default() }
    }

    /// How they are called on the server at `address`.
    pub(super) fn on(&self, address: &str) -> Loaded {
        let first = || Loaded { functions: self.first.clone(), times: 0 };
        self.lock().get(address).cloned().unwrap_or_else(first)
    }

    /// Loads them where nobody else has since `gone` was found to be gone.
    pub(super) async fn reload(
        &self,
        gone: &Loaded,
        server: &Server,
        keys: &Keys,
        partition: Partition,
    ) -> Result<Loaded, RedisError> {
        let _turn = self.loading.lock().await;
        let now = self.on(server.address());
        if now.times != gone.times {
            return Ok(now);
        }
        // On a connection that nobody else uses: loading watches a key.
        let functions = Functions::load_for(&mut server.connect().await?, keys, partition).await?;
        let functions = functions.trusting(server.trusts_failover());
        let loaded = Loaded { functions, times: now.times + 1 };
        let mut since = self.lock();
        if since.len() >= SERVERS {
            since.clear();
        }
        since.insert(server.address().into(), loaded.clone());
        Ok(loaded)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Loaded>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
