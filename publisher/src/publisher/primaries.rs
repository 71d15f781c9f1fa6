//! Which server a partition is on: one for all where there is no Cluster; else its primary, with [`Links`] that all partitions
//! share which are there.
//!
//! The nodes of a Cluster are not asked on the way of a publish: who has a partition is known from the last time, and the client
//! watches whether it is still so. They are asked again after a failure that puts it in doubt.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Cmd;
use shared::keys::Keys;
use shared::redis::{Client, Functions, Server};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::library::Loaded;
use super::links::{Link, Links, Way};
use super::target::Target;

pub(super) struct Primaries {
    client: Client,
    /// How they are called on a server of which nothing else is known yet.
    functions: Functions,
    /// Deadline of a call.
    timeout: Duration,
    found: Found,
}

enum Found {
    /// There is no Cluster.
    One(Arc<Primary>),
    /// By partition. Those of a server are forgotten with the last partition that was found there.
    Several(Mutex<HashMap<u16, Arc<Primary>>>),
}

/// The server of a partition.
pub(super) struct Primary {
    partition: u16,
    links: Arc<Links>,
    /// Of a Cluster: left once it has the partition no longer, though it may have others.
    server: Option<Server>,
    /// A failure says that it may have the partition no longer.
    is_doubted: AtomicBool,
}

impl Primaries {
    /// Connects to nothing yet.
    pub(super) fn new(client: &Client, functions: Functions) -> Self {
        let (client, timeout) = (client.clone(), client.settings().command_timeout);
        let found = if client.is_cluster() {
            Found::Several(Mutex::default())
        } else {
            let links = Links::new(Target::Any(client.clone()), &client, functions.clone());
            Found::One(Arc::new(Primary::new(0, Arc::new(links), None)))
        };
        Self { client, functions, timeout, found }
    }

    /// When a call that begins now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Whether all partitions are on one server, for good.
    pub(super) fn is_one(&self) -> bool {
        matches!(self.found, Found::One(_))
    }

    /// The server of a partition. Where it is known, nothing is asked.
    pub(super) async fn of(&self, partition: u16, deadline: Instant) -> Result<Arc<Primary>, Failure> {
        let several = match &self.found {
            Found::One(primary) => return Ok(Arc::clone(primary)),
            Found::Several(several) => several,
        };
        let before = lock(several).get(&partition).cloned();
        if let Some(primary) = before.as_ref().filter(|primary| !primary.is_left() && !primary.is_doubted()) {
            return Ok(Arc::clone(primary));
        }
        let is_doubted = before.as_ref().is_some_and(|primary| primary.is_doubted());
        let server = match self.client.known(partition).filter(|_| !is_doubted) {
            Some(server) => server,
            None => {
                let asked = timeout_at(deadline, self.client.server_of(partition)).await;
                asked.map_err(|_| Failure::late())?.map_err(|error| Failure::of(&error))?
            }
        };
        let mut several = lock(several);
        if before.is_some() {
            several.retain(|_, primary| !primary.is_left());
        }
        let same = several.values().find(|primary| primary.leads_to(&server)).map(|primary| Arc::clone(&primary.links));
        let links = same.unwrap_or_else(|| {
            let target = Target::This(Box::new(server.clone()));
            Arc::new(Links::new(target, &self.client, self.functions.clone()))
        });
        let primary = Arc::new(Primary::new(partition, links, Some(server)));
        several.insert(partition, Arc::clone(&primary));
        Ok(primary)
    }

    /// Takes note of why a call failed. Where the partition may be elsewhere, the next call asks.
    pub(super) fn note(&self, partition: u16, failure: &Failure) {
        let Found::Several(several) = &self.found else { return };
        let is_elsewhere = failure.is_moved || failure.is_elsewhere || failure.breaks_link;
        if let Some(primary) = lock(several).get(&partition).filter(|_| is_elsewhere) {
            primary.is_doubted.store(true, Ordering::Relaxed);
        }
    }
}

fn lock(several: &Mutex<HashMap<u16, Arc<Primary>>>) -> MutexGuard<'_, HashMap<u16, Arc<Primary>>> {
    // Nothing under this lock can panic half-way.
    several.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Primary {
    fn new(partition: u16, links: Arc<Links>, server: Option<Server>) -> Self {
        Self { partition, links, server, is_doubted: AtomicBool::new(false) }
    }

    fn is_left(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_left)
    }

    fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }

    fn leads_to(&self, server: &Server) -> bool {
        self.server.as_ref().is_some_and(|own| own.address() == server.address())
    }

    /// Why what was taken on this way may be lost: the server is no longer the one.
    pub(super) fn left(&self, way: &Way<'_>) -> Option<Failure> {
        let (is_left, why) = match &self.server {
            // The way's end is the one to some partition, which need not be this one.
            Some(server) => (server.is_left(), "the partition is on another server of the Redis Cluster"),
            None => (way.is_left(), "the Sentinels name another primary"),
        };
        is_left.then(|| Failure::away(why.to_owned()))
    }

    /// As [`Links::way`].
    pub(super) async fn way(
        &self,
        commands: usize,
        bytes: usize,
        once: bool,
        alone: bool,
        deadline: Instant,
    ) -> Result<Way<'_>, Failure> {
        self.links.way(commands, bytes, once, alone, deadline).await
    }

    /// As [`Links::lend`].
    pub(super) async fn lend(&self, deadline: Instant) -> Result<Link, Failure> {
        self.links.lend(deadline).await
    }

    /// As [`Links::ask`].
    pub(super) async fn ask(&self, cmd: &Cmd, deadline: Instant) -> Result<(), Failure> {
        self.links.ask(cmd, deadline).await
    }

    /// How the functions are called there.
    pub(super) fn functions(&self) -> Loaded {
        self.links.library.current()
    }

    /// As [`Library::load_again`](super::library::Library::load_again).
    pub(super) async fn load_again(&self, missed: &Loaded, keys: &Keys, deadline: Instant) -> Result<(), Failure> {
        self.links.library.load_again(missed, keys, self.partition, deadline).await
    }
}
