//! The cluster of a round: Redis, three gateways, a link of its own for each of them and for the publishers, and the notes
//! that are taken of what is done to it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::{Instant, sleep, timeout};

use crate::link::Link;
use crate::node::Node;
use crate::oracle::Break;
use crate::partitions::Partitions;
use crate::plan::Plan;
use crate::publishing::Ledger;
use crate::round::Setting;
use crate::store::Store;

/// Gateways of a cluster.
pub const NODES: usize = 3;
/// Between two looks at something that is to become true.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// Tries to start, since a port may be taken in between.
const TRIES: u32 = 3;

/// A running cluster. Dropping it kills everything.
pub struct World {
    /// The gateways.
    pub nodes: Vec<Node>,
    /// Redis. Held by whoever does something to it as a whole.
    pub store: tokio::sync::Mutex<Store>,
    /// Between the publishers and Redis.
    pub publish_link: Link,
    /// What is published.
    pub ledger: Arc<Ledger>,
    /// Where channels are.
    pub partitions: Arc<Partitions>,
    /// When the round began.
    pub began: Instant,
    /// Asks gateways and is told by them.
    pub http: Client,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Each with the partitions that it is one of.
    breaks: Vec<(Vec<u16>, Break)>,
    timeline: Vec<(Duration, String)>,
    troubles: Vec<String>,
}

impl World {
    /// Starts all of it, and waits until every gateway is ready.
    ///
    /// # Errors
    /// What did not start.
    pub async fn start(setting: &Setting, plan: &Plan) -> Result<Self, String> {
        let mut tries = 1;
        loop {
            match Self::try_start(setting, plan).await {
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tries += 1,
                started => return started,
            }
        }
    }

    async fn try_start(setting: &Setting, plan: &Plan) -> Result<Self, String> {
        let partitions = Arc::new(Partitions::new(setting.redis.partitions(), setting.scale.channels)?);
        let store = Store::start(setting.redis, plan.into(), &partitions).await;
        let ports: [u16; NODES * 2] = testkit::free_ports();
        let mut nodes = Vec::with_capacity(NODES);
        for (index, (ports, direct)) in ports.as_chunks::<2>().0.iter().zip(setting.direct).enumerate() {
            let link = Link::to(&store, partitions.count()).await?;
            nodes.push(Node::new(index + 1, &setting.gateway, direct, *ports, link, &setting.folder));
        }
        let began = Instant::now();
        // The environment may name a proxy. A connection that ended is not to be used again by another client.
        let http = Client::builder().no_proxy().pool_max_idle_per_host(0).build();
        let world = Self {
            nodes,
            publish_link: Link::to(&store, partitions.count()).await?,
            partitions,
            store: tokio::sync::Mutex::new(store),
            ledger: Arc::new(Ledger::new(setting.scale.channels, began)),
            began,
            http: http.map_err(|error| format!("there is no HTTP client: {error}"))?,
            notes: Mutex::default(),
        };
        for node in &world.nodes {
            node.start().await?;
        }
        for node in &world.nodes {
            world.becomes_ready(node, testkit::PATIENCE).await?;
        }
        Ok(world)
    }

    /// Makes everything well again: links pass, gateways run and are ready. What ended by itself is noted as a trouble.
    ///
    /// # Errors
    /// A gateway is not ready within `patience`.
    pub async fn heal(&self, patience: Duration) -> Result<(), String> {
        for node in &self.nodes {
            node.link.pass();
            if let Some(ended) = node.ended().await {
                self.trouble(ended);
                node.start().await?;
            }
        }
        for node in &self.nodes {
            self.becomes_ready(node, patience).await?;
        }
        Ok(())
    }

    /// Ends the gateways and keeps what was logged.
    pub async fn stop(&self, folder: &Path) {
        for node in &self.nodes {
            node.ended().await.into_iter().chain(node.panics()).for_each(|trouble| self.trouble(trouble));
            node.stop().await;
        }
        self.store.lock().await.keep_logs(folder);
    }

    /// All links lead to the store's present primary from now on.
    pub fn follow(&self, store: &Store) {
        let links = self.nodes.iter().map(|node| &node.link).chain([&self.publish_link]);
        links.for_each(|link| link.follow(store));
    }

    /// Public ports of the gateways.
    #[must_use]
    pub fn public_ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.public).collect()
    }

    /// Takes down what is done.
    pub fn note(&self, text: impl Into<String>) {
        let at = self.ledger.now();
        self.notes().timeline.push((at, text.into()));
    }

    /// Takes down what no fault explains.
    pub fn trouble(&self, text: String) {
        self.note(text.clone());
        self.notes().troubles.push(text);
    }

    /// The data of these partitions begin another life while `change` is done.
    pub async fn breaking<T>(&self, loses: bool, of: Vec<u16>, change: impl Future<Output = T>) -> T {
        let from = self.ledger.now();
        // From the first moment on: clients may be told before we know that it is done.
        let place = {
            let mut notes = self.notes();
            notes.breaks.push((of, Break { from, to: Duration::MAX, loses }));
            notes.breaks.len() - 1
        };
        let changed = change.await;
        let to = self.ledger.now();
        if let Some((_, a_break)) = self.notes().breaks.get_mut(place) {
            a_break.to = to;
        }
        changed
    }

    /// When the data of this partition began another life.
    #[must_use]
    pub fn breaks(&self, partition: u16) -> Vec<Break> {
        let notes = self.notes();
        notes.breaks.iter().filter(|(of, _)| of.contains(&partition)).map(|(_, a_break)| *a_break).collect()
    }

    /// What no fault explains.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.notes().troubles.clone()
    }

    /// What was done, and when.
    #[must_use]
    pub fn timeline(&self) -> Vec<(Duration, String)> {
        self.notes().timeline.clone()
    }

    async fn becomes_ready(&self, node: &Node, patience: Duration) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/readyz", node.admin);
        let ready = async {
            loop {
                let asked = self.http.get(&url).timeout(patience).send().await;
                if asked.is_ok_and(|answer| answer.status().is_success()) {
                    return None;
                }
                if let Some(ended) = node.ended().await {
                    return Some(format!("{ended} before it was ready"));
                }
                sleep(LOOK).await;
            }
        };
        match timeout(patience, ready).await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(node.complaint(&format!("is not ready within {patience:?}"))),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a round keeps its logs.
#[must_use]
pub fn round_folder(folder: &Path, round: u32) -> PathBuf {
    folder.join(format!("round-{round}"))
}
