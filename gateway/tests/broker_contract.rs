//! The brokers under the one contract of all brokers, see [`crate::contract`].

use std::sync::Arc;

use gateway::broker::Between;
use gateway::broker::memory::{MemoryBroker, MemoryLimits};
use gateway::broker::redis::RedisBroker;
use gateway::metrics::BrokerMetrics;
use publisher::Publisher;
use shared::channel::Channel;
use shared::position::Position;
use shared::redis::Settings;
use testkit::{RedisServer, eventually};

use crate::contract::{Fixture, contract};

/// A gateway's broker and a publisher on one server.
async fn on(server: RedisServer) -> Fixture {
    let settings = Settings::new(&server.url());
    let broker = RedisBroker::connect(&settings, "node", BrokerMetrics::new()).await.unwrap();
    let publisher = Publisher::connect(&settings).await.unwrap();
    let fixture = Fixture::run(Arc::new(broker), Arc::new(publisher), Box::new(server));
    // It reads once there is a session, a moment after its beginning.
    let probe = Channel::parse("probe").unwrap();
    let read = async || fixture.broker.read(&probe, Between::after(Position::ZERO), 1).await.ok();
    eventually("a first session", read).await;
    fixture
}

mod memory {
    use super::*;

    async fn start() -> Fixture {
        let broker = Arc::new(MemoryBroker::new(MemoryLimits::default()));
        Fixture::run(broker.clone(), broker, Box::new(()))
    }

    contract!(super::start);
}

mod redis {
    use super::*;

    async fn start() -> Fixture {
        on(RedisServer::start().await).await
    }

    contract!(super::start);
}

mod valkey {
    use super::*;

    async fn start() -> Fixture {
        on(RedisServer::builder().valkey().start().await).await
    }

    contract!(super::start);
}
