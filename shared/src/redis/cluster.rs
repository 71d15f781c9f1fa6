//! Asks nodes of a Redis Cluster who has which partition, anew for every connection, and every second whether it still is so.
//!
//! Several are asked at once, each within the deadline of connecting: those that the URL names, and those that they named. What is
//! believed is in `view`. Of many who want to know at the same time, one asks.

mod view;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use self::view::{Claim, Place, View, has_slots, settle};
use super::client::{describe, first_error};
use super::server::{Server, at, connection_config};
use super::settings::Settings;
use super::url;
use crate::keys::Keys;

/// Nodes that are asked at once: what one has not heard yet another one knows, and a large cluster has hundreds.
const ASKED: usize = 5;
/// How long the first answer waits for others, which may know better.
const OTHERS: Duration = Duration::from_millis(200);
/// How often they are asked whether partitions are where they were.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Some servers that share the partitions among them. Dropping it ends the watch.
pub(super) struct Cluster {
    /// Those that the URL names.
    seeds: Vec<Place>,
    /// As whom to go to the servers, and how.
    server: ConnectionInfo,
    settings: Arc<Settings>,
    /// What was found the last time. Written by whoever asked.
    known: Mutex<Known>,
    /// Held by whoever asks. In it when that began the last time, and what came of it: those who waited since then have asked too.
    asks: tokio::sync::Mutex<Option<(Instant, Result<(), RedisError>)>>,
    /// The task that asks every second, from the first answer on; it ends with the runtime that it was started on.
    watch: Mutex<JoinSet<()>>,
    /// Of the questions that are out. Each ends by its deadline.
    asking: TaskTracker,
}

#[derive(Default)]
struct Known {
    /// Those to ask, by where they are.
    nodes: HashMap<Place, Arc<Node>>,
    /// Who is asked first the next time, by its number among them.
    turn: usize,
    /// By slot.
    claims: HashMap<u16, Claim>,
    /// By partition.
    servers: HashMap<u16, (Place, Server)>,
    /// When those were asked whose answers count: what was asked before that is older news.
    asked: Option<Instant>,
}

/// One to ask.
struct Node {
    place: Place,
    client: redis::Client,
    /// `None`: not asked yet, or the last one failed. Held while it is asked, so one asks at a time.
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    /// It did not answer the last time; the log has said so.
    is_silent: AtomicBool,
}

/// Why a node does not say.
struct Failure {
    place: Place,
    error: RedisError,
}

impl Cluster {
    /// Connects to nothing yet.
    pub(super) fn new(of: url::Cluster, settings: Arc<Settings>) -> Self {
        let url::Cluster { places, server } = of;
        let (known, asks, watch, asking) = (Mutex::default(), Default::default(), Mutex::default(), TaskTracker::new());
        Self { seeds: places, server, settings, known, asks, watch, asking }
    }

    /// The primary that has `partition` now.
    pub(super) async fn server(self: &Arc<Self>, partition: u16) -> Result<Server, RedisError> {
        self.look().await?;
        self.known(partition).ok_or_else(|| nowhere(partition))
    }

    /// Each primary that has some, with the first that it has. What is nowhere at the moment may be somewhere later.
    pub(super) async fn servers(self: &Arc<Self>) -> Result<Vec<(u16, Server)>, RedisError> {
        self.look().await?;
        let mut servers: Vec<(u16, Server)> = Vec::new();
        for partition in 0..self.settings.partitions {
            let Some(server) = self.known(partition) else { continue };
            if servers.iter().all(|(_, other)| other.address() != server.address()) {
                servers.push((partition, server));
            }
        }
        if servers.is_empty() { Err(nowhere(0)) } else { Ok(servers) }
    }

    /// The primary that had `partition` the last time that somebody asked.
    pub(super) fn known(&self, partition: u16) -> Option<Server> {
        self.lock().servers.get(&partition).map(|(_, server)| server.clone())
    }

    /// Asks, unless somebody has begun to since this was called; and begins to watch.
    async fn look(self: &Arc<Self>) -> Result<(), RedisError> {
        let called = Instant::now();
        {
            let mut last = self.asks.lock().await;
            match &*last {
                Some((began, answer)) if *began >= called => answer.clone()?,
                _ => {
                    let began = Instant::now();
                    let answer = self.ask().await;
                    *last = Some((began, answer.clone()));
                    answer?;
                }
            }
        }
        let mut watching = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        while watching.try_join_next().is_some() {}
        if watching.is_empty() {
            watching.spawn(watch(Arc::downgrade(self)));
        }
        Ok(())
    }

    async fn ask(&self) -> Result<(), RedisError> {
        let began = Instant::now();
        let deadline = began + self.settings.connect_timeout;
        let nodes = self.next_to_ask()?;
        let all = nodes.len();
        let ask = |node: Arc<Node>| {
            let settings = self.settings.clone();
            // It outlives this call, up to the deadline: a connection that is being opened is not thrown away.
            self.asking.spawn(async move { node.ask(&settings, deadline).await })
        };
        let mut asked: FuturesUnordered<_> = nodes.into_iter().map(ask).collect();
        let (mut views, mut failures, mut until) = (Vec::new(), Vec::new(), deadline);
        while let Ok(Some(answer)) = timeout_at(until, asked.next()).await {
            match answer {
                Ok(Ok(view)) => {
                    until = until.min(Instant::now() + OTHERS);
                    views.push(view);
                }
                Ok(Err(failure)) => failures.push(failure),
                // The runtime ends.
                Err(_) => {}
            }
        }
        if views.is_empty() {
            return Err(failure(failures, all));
        }
        self.settle(&views, views.len() * 2 > all, began)
    }

    /// Some of those that are known, others each time, and first those that answered.
    fn next_to_ask(&self) -> Result<Vec<Arc<Node>>, RedisError> {
        let mut known = self.lock();
        for place in &self.seeds {
            self.node(&mut known, place)?;
        }
        let mut nodes: Vec<_> = known.nodes.values().cloned().collect();
        nodes.sort_unstable_by(|one, other| one.place.cmp(&other.place));
        known.turn = known.turn.wrapping_add(1);
        let turn = known.turn % nodes.len().max(1);
        nodes.rotate_left(turn);
        nodes.sort_by_key(|node| node.is_silent.load(Ordering::Relaxed));
        nodes.truncate(ASKED);
        Ok(nodes)
    }

    fn node(&self, known: &mut Known, place: &Place) -> Result<(), RedisError> {
        if !known.nodes.contains_key(place) {
            let client = redis::Client::open(at(&self.server, place.0.clone(), place.1))?;
            let (connection, is_silent) = (tokio::sync::Mutex::default(), AtomicBool::new(false));
            let node = Node { place: place.clone(), client, connection, is_silent };
            known.nodes.insert(place.clone(), Arc::new(node));
        }
        Ok(())
    }

    /// Takes note of what they say. Where a partition is on another server than before, that one is left.
    fn settle(&self, views: &[View], agree: bool, asked: Instant) -> Result<(), RedisError> {
        let mut known = self.lock();
        let known = &mut *known;
        if known.asked.is_some_and(|latest| latest > asked) {
            return Ok(());
        }
        known.asked = Some(asked);
        let slots = (0..self.settings.partitions).map(Keys::slot);
        known.claims = settle(slots, views, &known.claims, agree);
        let mut moved = 0;
        for partition in 0..self.settings.partitions {
            let Some(Claim { place, .. }) = known.claims.get(&Keys::slot(partition)) else { continue };
            let before = known.servers.get(&partition);
            if before.is_some_and(|(before, _)| before == place) {
                continue;
            }
            let mut server = self.open(place)?;
            if let Some((there, before)) = before {
                // One that has other slots still gave this one away: it acknowledges nothing more of it, and nothing was lost.
                let lost = !has_slots(views, there);
                server = if lost { server.instead() } else { server };
                server = if lost || before.is_doubted() { server.doubted() } else { server };
            }
            if let Some((_, before)) = known.servers.insert(partition, (place.clone(), server)) {
                before.leave();
                moved += 1;
            }
        }
        if moved > 0 {
            tracing::info!(partitions = moved, "partitions are on other servers of the Redis Cluster now");
        }
        let places: Vec<&Place> = views.iter().flat_map(|view| &view.nodes).collect();
        known.nodes.retain(|place, _| places.contains(&place) || self.seeds.contains(place));
        places.into_iter().try_for_each(|place| self.node(known, place))
    }

    fn open(&self, place: &Place) -> Result<Server, RedisError> {
        let info = at(&self.server, place.0.clone(), place.1);
        let scheme = if is_tls(&info) { "rediss" } else { "redis" };
        let address = format!("{scheme}://{}", url::host_and_port(&place.0, place.1));
        Ok(Server::new(info, address.into(), self.settings.clone(), true).map_err(io::Error::other)?)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing under this lock can panic half-way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Says once in the log that it does not answer, and once that it does again: as long as others do, nobody else notices.
    async fn ask(&self, settings: &Settings, deadline: Instant) -> Result<View, Failure> {
        let answer = timeout_at(deadline, self.ask_once(settings)).await.unwrap_or_else(|_| Err(late()));
        let node = url::host_and_port(&self.place.0, self.place.1);
        match &answer {
            Ok(_) if self.is_silent.swap(false, Ordering::Relaxed) => {
                tracing::info!(node, "a node of the Redis Cluster answers again");
            }
            Err(error) if !self.is_silent.swap(true, Ordering::Relaxed) => {
                tracing::warn!(node, reason = %describe(error), "a node of the Redis Cluster does not say who has what");
            }
            _ => {}
        }
        answer.map_err(|error| Failure { place: self.place.clone(), error })
    }

    async fn ask_once(&self, settings: &Settings) -> Result<View, RedisError> {
        let mut kept = self.connection.lock().await;
        // Gone while it is in use: one that was given up half-way is not used again.
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.client.get_multiplexed_async_connection_with_config(&connection_config(settings)).await?,
        };
        let answer: RedisResult<String> = redis::cmd("CLUSTER").arg("NODES").query_async(&mut connection).await;
        if answer.as_ref().map_or_else(|error| !error.is_io_error(), |_| true) {
            *kept = Some(connection);
        }
        let by_name = is_tls(self.client.get_connection_info());
        let view = View::parse(&answer?, &self.place, by_name);
        view.ok_or_else(|| io::Error::other("its answer to CLUSTER NODES cannot be read").into())
    }
}

/// Certificates are of names rather than of addresses.
fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

/// What none of `all` has said. Only where each of them refuses is that what it will be.
fn failure(mut failures: Vec<Failure>, all: usize) -> RedisError {
    let refuses =
        |failure: &Failure| !failure.error.is_io_error() && first_error(&failure.error).code() != Some("LOADING");
    let is_final = failures.len() == all && failures.iter().all(refuses);
    failures.sort_by_key(|failure| !refuses(failure));
    let Some(Failure { place, error }) = failures.into_iter().next() else { return late() };
    let hint = match error.detail() {
        Some(detail) if detail.contains("cluster support disabled") => {
            "; it is no node of a Redis Cluster, so redis.url begins with redis:// and not with redis+cluster://"
        }
        _ => "",
    };
    let what = format!("{}: {}{hint}", url::host_and_port(&place.0, place.1), describe(&error));
    match is_final {
        true => (ErrorKind::InvalidClientConfig, "no node of the Redis Cluster says who has what", what).into(),
        false => io::Error::new(io::ErrorKind::NotConnected, what).into(),
    }
}

fn nowhere(partition: u16) -> RedisError {
    let what = format!("no server of the Redis Cluster has slot {} (partition {partition})", Keys::slot(partition));
    io::Error::new(io::ErrorKind::NotConnected, what).into()
}

fn late() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "no node of the Redis Cluster has answered within the deadline").into()
}

/// Asks again and again: whoever has a connection to a server that has a partition no more learns of it, even where that one
/// still answers.
async fn watch(cluster: Weak<Cluster>) {
    let mut is_told = false;
    loop {
        sleep(WATCH_INTERVAL).await;
        let Some(cluster) = cluster.upgrade() else { return };
        match cluster.ask().await {
            Ok(()) if std::mem::take(&mut is_told) => tracing::info!("the nodes of the Redis Cluster answer again"),
            Ok(()) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        reason = %describe(&error),
                        "no node of the Redis Cluster says who has what; connections to those known before stay"
                    );
                }
            }
        }
    }
}
