//! The brokers under the one contract of all brokers, see [`crate::contract`].

use std::sync::Arc;

use gateway::broker::memory::{MemoryBroker, MemoryLimits};

use crate::contract::{Fixture, contract};

mod memory {
    use super::*;

    async fn start() -> Fixture {
        let broker = Arc::new(MemoryBroker::new(MemoryLimits::default()));
        Fixture::run(broker.clone(), broker, Box::new(()))
    }

    contract!(super::start);
}
