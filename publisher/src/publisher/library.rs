//! How the functions are called on one server, and loading them again where they are gone: after a restart without persistence,
//! after FUNCTION FLUSH or SCRIPT FLUSH, or where another server took the place of the old one.

use std::sync::{PoisonError, RwLock};

use shared::keys::Keys;
use shared::redis::Functions;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::target::Target;

pub(super) struct Library {
    target: Target,
    current: RwLock<Loaded>,
    /// Held while somebody loads: of many who miss the functions at once, one loads them.
    loading: Mutex<()>,
}

/// The functions as they were loaded the last time.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) functions: Functions,
    /// How often they had been loaded before.
    times: u64,
}

impl Library {
    pub(super) fn new(target: Target, functions: Functions) -> Self {
        Self { target, current: RwLock::new(Loaded { functions, times: 0 }), loading: Mutex::new(()) }
    }

    pub(super) fn current(&self) -> Loaded {
        // Nothing under this lock can panic half-way.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads them again, unless somebody did since `missed` was current. The server has `partition`.
    pub(super) async fn load_again(
        &self,
        missed: &Loaded,
        keys: &Keys,
        partition: u16,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let loading = self.load(missed, keys, partition);
        timeout_at(deadline, loading).await.unwrap_or_else(|_| Err(Failure::late()))
    }

    /// Sets no deadline of its own beside those of the connection it opens: loading watches a key, and may be given up at any point.
    async fn load(&self, missed: &Loaded, keys: &Keys, partition: u16) -> Result<(), Failure> {
        let _alone = self.loading.lock().await;
        if self.current().times != missed.times {
            return Ok(());
        }
        let failed = |error: redis::RedisError| Failure::of(&error);
        let server = self.target.server().await.map_err(failed)?;
        let mut connection = server.connect().await.map_err(failed)?;
        let functions = Functions::load_for(&mut connection, keys, partition).await.map_err(failed)?;
        let functions = functions.trusting(server.trusts_failover());
        tracing::info!(address = server.address(), "the functions were gone from Redis and are loaded again");
        let loaded = Loaded { functions, times: missed.times + 1 };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }
}
