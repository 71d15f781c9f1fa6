//! What a node that shows the demo pages tells them: how many connections it holds. On the embedded broker through that, on
//! Redis over connections of its own, apart from those of the streams. Nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use publisher::{Event, Publish, Publisher};
use serde::Serialize;
use shared::channel::Channel;
use shared::redis::Settings;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::broker::memory::MemoryBroker;
use crate::connection::Gate;

/// Where every node that has connections says how many, live only.
const NODES: &str = "demo:nodes";
/// How often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two attempts to connect to Redis for it.
const RECONNECT: Duration = Duration::from_secs(5);

/// By what a node's events travel.
pub enum Carrier {
    /// The broker of this process.
    Memory(Arc<MemoryBroker>),
    /// Redis.
    Redis(Box<Settings>),
}

#[derive(Serialize)]
struct Told<'a> {
    node: &'a str,
    connections: usize,
}

/// Tells once a second, until `stop`. `gate` knows the node's connections.
pub async fn tell_connections(node: String, gate: Arc<Gate>, carrier: Carrier, stop: CancellationToken) {
    let teller = Teller { node, gate };
    let telling = async {
        match carrier {
            Carrier::Memory(broker) => teller.run(broker).await,
            Carrier::Redis(settings) => teller.run_on_redis(*settings).await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = telling => {}
    }
}

/// Tells how many connections there are.
struct Teller {
    node: String,
    gate: Arc<Gate>,
}

impl Teller {
    /// Connects when it can, then goes on for ever. Nobody misses what a Redis that is away keeps from being told.
    async fn run_on_redis(self, settings: Settings) {
        // Its own patience would hold up nothing, but one try is all that is needed.
        let settings = Settings { wait: Duration::ZERO, ..settings };
        let mut outage = Outage::default();
        let publisher = loop {
            match Publisher::connect(&settings).await {
                Ok(publisher) => break publisher,
                Err(error) => outage.tell(&error),
            }
            sleep(RECONNECT).await;
        };
        self.run(Arc::new(publisher)).await;
    }

    /// For ever.
    async fn run(self, publish: Arc<dyn Publish>) {
        let Ok(channel) = Channel::parse(NODES) else { return tracing::error!("{NODES} is no channel") };
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut outage = Outage::default();
        loop {
            ticks.tick().await;
            let connections = self.gate.open();
            if connections == 0 {
                continue;
            }
            let told =
                Event::json(&Told { node: &self.node, connections }).map(|event| event.named("node").ephemeral());
            let published = match told.map(Event::into_publication) {
                Ok(Ok(publication)) => publish.publish(&channel, publication).await,
                Ok(Err(error)) => Err(error),
                Err(error) => return tracing::error!(%error, "the number of connections is no JSON"),
            };
            match published {
                Ok(_) => outage = Outage::default(),
                Err(error) => outage.tell(&error),
            }
        }
    }
}

/// Says only the first failure of those that follow on one another.
#[derive(Default)]
struct Outage {
    told: bool,
}

impl Outage {
    fn tell(&mut self, error: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::debug!(%error, "cannot tell the demo how many connections there are; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use publisher::{Publication, PublishError, Receipt};

    use super::*;

    /// Fails until it is told not to; keeps what it was given.
    #[derive(Default)]
    struct Fake(Mutex<(bool, Vec<(String, Publication)>)>);

    impl Publish for Fake {
        fn publish<'a>(
            &'a self,
            channel: &'a Channel,
            publication: Publication,
        ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
            let (works, told) = &mut *self.0.lock().unwrap();
            let receipt = if *works {
                told.push((channel.to_string(), publication));
                Ok(Receipt { position: None, cursor: None, receivers: 0, duplicate: false })
            } else {
                Err(PublishError::Rejected { reason: "no".to_owned() })
            };
            std::future::ready(receipt).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn once_a_second_while_there_are_connections() {
        let (fake, gate) = (Arc::new(Fake::default()), Gate::new(10));
        let teller = Teller { node: "gateway-1".to_owned(), gate: gate.clone() };
        let mut running = tokio::task::JoinSet::new();
        running.spawn(teller.run(fake.clone()));
        let told = || std::mem::take(&mut fake.0.lock().unwrap().1);
        let place = gate.enter();
        sleep(Duration::from_millis(3_500)).await;
        assert_eq!(told().len(), 0);
        // A failure is no end.
        fake.0.lock().unwrap().0 = true;
        let second = gate.enter();
        sleep(Duration::from_secs(2)).await;
        let heard = told();
        assert_eq!(heard.len(), 2);
        for (channel, publication) in heard {
            assert_eq!(channel, "demo:nodes");
            assert!(publication.ephemeral);
            assert_eq!(publication.payload, r#"{"event":"node","data":{"node":"gateway-1","connections":2}}"#);
        }
        drop((place, second));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(told().len(), 0);
        running.abort_all();
    }
}
