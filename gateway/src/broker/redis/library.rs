//! The functions as they are called on the server there is now, loaded again where they are gone: by one who asks for all
//! who noticed.

use std::sync::{Mutex, PoisonError};

use ::redis::RedisError;
use shared::keys::Keys;
use shared::redis::{Client, Functions};

/// Shared by sessions and reads.
pub(super) struct Library {
    now: Mutex<Loaded>,
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
        Self { now: Mutex::new(Loaded { functions, times: 0 }), loading: tokio::sync::Mutex::default() }
    }

    pub(super) fn now(&self) -> Loaded {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads them where nobody else has since `gone` was found to be gone.
    pub(super) async fn reload(&self, gone: &Loaded, client: &Client, keys: &Keys) -> Result<Loaded, RedisError> {
        let _turn = self.loading.lock().await;
        let now = self.now();
        if now.times != gone.times {
            return Ok(now);
        }
        // On a connection that nobody else uses: loading watches a key.
        let functions = Functions::load(&mut client.connect().await?, keys).await?;
        let functions = functions.trusting(client.settings().trust_failover);
        let loaded = Loaded { functions, times: now.times + 1 };
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = loaded.clone();
        Ok(loaded)
    }
}
