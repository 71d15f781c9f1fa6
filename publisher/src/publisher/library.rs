//! How the functions are called, and loading them again where they are gone: after a restart without persistence, after
//! FUNCTION FLUSH or SCRIPT FLUSH, or where another server took the place of the old one.

use std::sync::{PoisonError, RwLock};

use shared::keys::Keys;
use shared::redis::{Client, Functions};
use tokio::sync::Mutex;

use super::failure::Failure;

pub(super) struct Library {
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
    pub(super) fn new(functions: Functions) -> Self {
        Self { current: RwLock::new(Loaded { functions, times: 0 }), loading: Mutex::new(()) }
    }

    pub(super) fn current(&self) -> Loaded {
        // Nothing under this lock can panic half-way.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads them again, unless somebody did since `missed` was current. Sets no deadline of its own beside those of the
    /// connection it opens: loading watches a key, and may be given up at any point.
    pub(super) async fn load_again(&self, missed: &Loaded, client: &Client, keys: &Keys) -> Result<(), Failure> {
        let _alone = self.loading.lock().await;
        if self.current().times != missed.times {
            return Ok(());
        }
        let failed = |error: redis::RedisError| Failure::of(&error);
        let mut connection = client.connect().await.map_err(failed)?;
        let functions = Functions::load(&mut connection, keys).await.map_err(failed)?;
        let functions = functions.trusting(client.settings().trust_failover);
        tracing::info!(address = client.address(), "the functions were gone from Redis and are loaded again");
        let loaded = Loaded { functions, times: missed.times + 1 };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }
}
