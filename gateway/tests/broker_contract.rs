//! The brokers under the one contract of all brokers, see [`crate::contract`].

use std::sync::{Arc, Weak};

use gateway::broker::Between;
use gateway::broker::memory::{MemoryBroker, MemoryLimits};
use gateway::broker::redis::RedisBroker;
use gateway::metrics::BrokerMetrics;
use publisher::Publisher;
use shared::channel::Channel;
use shared::position::Position;
use shared::redis::Settings;
use testkit::{RedisCluster, RedisServer, Sentinels, eventually};
use tokio::sync::Mutex;

use crate::contract::{Fixture, PARTITIONS, contract};

/// A gateway's broker and a publisher on one server.
async fn on(server: RedisServer) -> Fixture {
    let settings = Settings::new(&server.url());
    of(settings, Box::new(server)).await
}

/// The same on what `settings` lead to.
async fn of(settings: Settings, server: Box<dyn Send + Sync>) -> Fixture {
    let broker = RedisBroker::connect(&settings, "node", BrokerMetrics::new()).await.unwrap();
    let publisher = Publisher::connect(&settings).await.unwrap();
    let fixture = Fixture::run(Arc::new(broker), Arc::new(publisher), server);
    let fixture = if settings.partitions > 1 { fixture.partitioned() } else { fixture };
    // It reads once there is a session, a moment after its beginning.
    for number in 0..settings.partitions * 8 {
        let probe = Channel::parse(&format!("probe:{number}")).unwrap();
        let read = async || fixture.broker.read(&probe, Between::after(Position::ZERO), 1).await.ok();
        eventually("a first session", read).await;
    }
    fixture
}

/// Servers that take long to start: cases that run at the same time share them, each with a prefix of its own. They end with the last
/// of these.
struct Shared<T>(Mutex<Weak<T>>);

impl<T: Send + Sync + 'static> Shared<T> {
    const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    async fn get(&self, start: impl Future<Output = T>) -> Arc<T> {
        let mut shared = self.0.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(start.await);
        *shared = Arc::downgrade(&started);
        started
    }
}

fn settings(url: &str, partitions: u16) -> Settings {
    let prefix = format!("p{:x}", fastrand::u64(..));
    Settings { partitions, prefix, ..Settings::new(url) }
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

mod partitions {
    use super::*;

    async fn start() -> Fixture {
        let server = RedisServer::start().await;
        of(settings(&server.url(), PARTITIONS), Box::new(server)).await
    }

    contract!(super::start);
}

mod sentinel {
    use super::*;

    static SERVERS: Shared<Sentinels> = Shared::new();

    async fn start() -> Fixture {
        let servers = SERVERS.get(Sentinels::start()).await;
        of(settings(&servers.url(), 1), Box::new(servers)).await
    }

    contract!(super::start);
}

mod cluster {
    use super::*;

    static SERVERS: Shared<RedisCluster> = Shared::new();

    async fn start() -> Fixture {
        let servers = SERVERS.get(RedisCluster::start()).await;
        of(settings(&servers.url(), PARTITIONS), Box::new(servers)).await
    }

    contract!(super::start);
}

mod valkey_cluster {
    use super::*;

    static SERVERS: Shared<RedisCluster> = Shared::new();

    async fn start() -> Fixture {
        let servers = SERVERS.get(RedisCluster::builder().valkey().start()).await;
        of(settings(&servers.url(), PARTITIONS), Box::new(servers)).await
    }

    contract!(super::start);
}
