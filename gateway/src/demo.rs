//! What a node that shows the demo pages does besides: it tells how many connections it holds, and on the embedded broker,
//! where no publisher is, it is what the pages ask for (`publisher::demo`).
//!
//! All of it is told to stop before the streams end, and nothing else waits for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use publisher::chat::{Chat, ChatSettings, Local};
use publisher::{Event, Publish, Publisher};
use serde::Serialize;
use shared::channel::Channel;
use shared::redis::Settings;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::broker::memory::MemoryBroker;
use crate::connection::Gate;

/// Where every node that has connections says how many, live only.
const NODES: &str = "demo:nodes";
/// How often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two attempts to connect to Redis for it.
const RECONNECT: Duration = Duration::from_secs(5);
/// At a stop, the time for jobs and answers to say that they were stopped.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The demo of one node. Made by the app where the pages are shown.
pub struct Demo {
    node: String,
    gate: Arc<Gate>,
    carrier: Carrier,
    /// What the pages ask for, where no publisher has it.
    asked: Option<Asked>,
    /// Cancelled by [`stop`](Self::stop), heard by the tasks of [`spawn`](Self::spawn).
    stop: CancellationToken,
}

/// By what the node's events travel.
pub enum Carrier {
    /// In this process.
    Memory {
        /// The broker.
        broker: Arc<MemoryBroker>,
        /// Leads to it, settings of channels applied.
        publish: Arc<dyn Publish>,
    },
    /// Redis: connections of its own, apart from those of the streams.
    Redis(Box<Settings>),
}

/// What a node alone has for the pages.
struct Asked {
    jobs: Arc<publisher::demo::Demo>,
    /// Answers every question with a text of its own.
    chat: Arc<Chat>,
}

#[derive(Serialize)]
struct Told<'a> {
    node: &'a str,
    connections: usize,
}

impl Demo {
    /// `gate` knows the node's connections. Install the metrics recorder before.
    #[must_use]
    pub fn new(node: &str, gate: Arc<Gate>, carrier: Carrier) -> Self {
        let asked = match &carrier {
            Carrier::Memory { broker, publish } => Some(Asked {
                jobs: publisher::demo::Demo::new(broker.clone(), broker.clone()),
                chat: Chat::new(publish.clone(), broker.clone(), Arc::new(Local), ChatSettings::default()),
            }),
            Carrier::Redis(_) => None,
        };
        Self { node: node.to_owned(), gate, carrier, asked, stop: CancellationToken::new() }
    }

    /// The routes that the pages ask for, where no publisher has them.
    pub fn router(&self) -> Router {
        let Some(Asked { jobs, chat }) = &self.asked else { return Router::new() };
        publisher::demo::router(jobs.clone()).merge(publisher::chat::router(chat.clone()))
    }

    /// Starts what runs by itself, until [`stop`](Self::stop).
    pub fn spawn(&self, tasks: &mut JoinSet<()>) {
        let teller = Teller { node: self.node.clone(), gate: self.gate.clone() };
        match &self.carrier {
            Carrier::Memory { broker, .. } => {
                tasks.spawn(publisher::demo::ticker(broker.clone(), broker.clone(), self.stop.clone()));
                tasks.spawn(self.until_stop(teller.run(broker.clone())));
            }
            Carrier::Redis(settings) => {
                tasks.spawn(self.until_stop(teller.run_on_redis(settings.as_ref().clone())));
            }
        }
    }

    /// Ends all of it; jobs and answers say so on their channels. At most a second.
    pub async fn stop(&self) {
        self.stop.cancel();
        if let Some(Asked { jobs, chat }) = &self.asked {
            jobs.close();
            chat.close();
            jobs.stop();
            chat.stop();
            // The broker is this process, and never away. A request under way may take longer, and is cut by others.
            let _ = timeout(LAST_WORDS, async { tokio::join!(jobs.wait(), chat.wait()) }).await;
        }
    }

    fn until_stop(&self, work: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        let stop = self.stop.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        }
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
        let mut tasks = JoinSet::new();
        tasks.spawn(teller.run(fake.clone()));
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
    }
}
