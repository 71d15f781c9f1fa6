//! Leases in Redis: who has how many connections over all nodes.
//!
//! A user's leases are a sorted set, each with the moment at which it expires, by Redis' clock. One is taken by an atomic step
//! of the library that looks at the limit (`sse_lease`); a task of the node renews all that are held every third of their
//! time, and gives back those that ended. It has a connection of its own. When that is opened again, everything that is held
//! is registered at once, so that Redis learns of what was let in without it, or forgot.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{FromRedisValue, Pipeline, RedisError};
use shared::keys::Keys;
use shared::redis::functions::is_missing;
use shared::redis::{Client, Functions, LeaseReply, describe};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::RedisBroker;
use super::backoff::Backoff;
use super::library::Library;
use crate::broker::leases::{Leases, PARTS};

/// How long a new stream waits for its lease: after that this node's own count decides.
const TAKE_DEADLINE: Duration = Duration::from_millis(500);
/// Leases that ended and wait to be given back. What finds no room expires.
const RELEASES: usize = 16_384;
/// Calls on their way together.
const BATCH: usize = 256;

/// What of this node's leases goes to Redis.
pub struct Registry {
    client: Client,
    keys: Keys,
    /// This process: its leases' names begin so.
    node: String,
    library: Arc<Library>,
    /// How long a lease lives unless it is renewed.
    lease: Duration,
    /// Set by `keep` while there is one.
    connected: Mutex<Option<Connected>>,
    released: mpsc::Sender<Released>,
}

/// The connection of one session.
#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    /// Somebody found it broken. Of this session alone: however many find it, the next one knows nothing of it.
    broken: CancellationToken,
}

/// One that ended: its user and number.
type Released = (Arc<str>, u64);

/// The other end of what is given back, for [`keep`].
pub struct Releases(mpsc::Receiver<Released>);

/// Whether a lease was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was.
    Yes,
    /// The user has as many as are allowed.
    No,
    /// Redis is away, or slow.
    Unknown,
}

impl RedisBroker {
    /// A registry on the same server. `lease`: how long one lives unless it is renewed.
    #[must_use]
    pub fn registry(&self, lease: Duration) -> (Registry, Releases) {
        let (released, releases) = mpsc::channel(RELEASES);
        let registry = Registry {
            client: self.client.clone(),
            keys: self.keys.clone(),
            node: self.node.clone(),
            library: self.library.clone(),
            lease,
            connected: Mutex::new(None),
            released,
        };
        (registry, Releases(releases))
    }
}

impl Registry {
    pub(in crate::broker) async fn take(&self, user: &str, number: u64, limit: usize) -> Taken {
        let Some(Connected { mut connection, broken }) = self.connected().clone() else { return Taken::Unknown };
        let asked = async {
            let build = |functions: &Functions| {
                functions.lease(&self.keys.user(user), self.lease, Some(limit), &[self.name(number)])
            };
            let loaded = self.library.now();
            match build(&loaded.functions).query_async::<LeaseReply>(&mut connection).await {
                Err(error) if is_missing(&error) => {
                    let loaded = self.library.reload(&loaded, &self.client, &self.keys).await?;
                    build(&loaded.functions).query_async(&mut connection).await
                }
                answer => answer,
            }
        };
        match timeout(TAKE_DEADLINE, asked).await {
            Ok(Ok(LeaseReply { granted: true, .. })) => Taken::Yes,
            Ok(Ok(_)) => Taken::No,
            Ok(Err(error)) => {
                tracing::debug!(reason = %describe(&error), "cannot ask Redis for a user's lease");
                broken.cancel();
                Taken::Unknown
            }
            // If Redis is only slow, renewing finds out.
            Err(_) => Taken::Unknown,
        }
    }

    pub(in crate::broker) fn is_connected(&self) -> bool {
        self.connected().is_some()
    }

    /// Never waits. What finds no room expires.
    pub(in crate::broker) fn release(&self, user: &Arc<str>, number: u64) {
        let _ = self.released.try_send((user.clone(), number));
    }

    fn name(&self, number: u64) -> String {
        format!("{}/{number:x}", self.node)
    }

    fn connected(&self) -> MutexGuard<'_, Option<Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews what `leases` hold, and gives back what ended, until `stop`. Does nothing for those without a registry.
pub async fn keep(leases: Arc<Leases>, releases: Releases, stop: CancellationToken) {
    let Some(registry) = leases.registry() else { return stop.cancelled().await };
    let mut keeper = Keeper { leases: &leases, registry, releases: releases.0, ended: Vec::new(), is_told: false };
    let mut backoff = Backoff::default();
    let kept = async {
        loop {
            let ended = keeper.session(&mut backoff).await;
            *registry.connected() = None;
            keeper.tell(&ended);
            sleep(backoff.next()).await;
        }
    };
    tokio::select! {
        () = kept => {}
        () = stop.cancelled() => {}
    }
    let last = registry.connected().take();
    if let Some(Connected { connection, .. }) = last {
        // What does not reach Redis any more expires.
        let _ = timeout(TAKE_DEADLINE, keeper.give_back_all(connection)).await;
    }
}

struct Keeper<'a> {
    leases: &'a Leases,
    registry: &'a Registry,
    releases: mpsc::Receiver<Released>,
    /// On their way to Redis.
    ended: Vec<Released>,
    /// The log has said that it cannot. Unset when all was registered again.
    is_told: bool,
}

impl Keeper<'_> {
    /// From one connection's opening to whatever ends it.
    async fn session(&mut self, backoff: &mut Backoff) -> RedisError {
        match self.serve(backoff).await {
            Err(error) => error,
            Ok(()) => (::redis::ErrorKind::Io, "somebody found the connection broken").into(),
        }
    }

    async fn serve(&mut self, backoff: &mut Backoff) -> Result<(), RedisError> {
        let registry = self.registry;
        let mut connection = registry.client.connect().await?;
        // First, so that whoever comes from now on is counted there too, and what is registered below is all there is besides.
        let broken = CancellationToken::new();
        *registry.connected() = Some(Connected { connection: connection.clone(), broken: broken.clone() });
        for part in 0..PARTS {
            self.renew(&mut connection, part).await?;
        }
        if !self.ended.is_empty() {
            self.give_back(&mut connection).await?;
        }
        backoff.reset();
        self.is_told = false;
        let mut part = 0;
        let mut turn = interval(registry.lease / 3 / PARTS as u32);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = broken.cancelled() => return Ok(()),
                _ = turn.tick() => {
                    if part == 0 {
                        // Where nothing is held, a connection that is dead is found here, and not by who comes next.
                        ::redis::cmd("PING").exec_async(&mut connection).await?;
                    }
                    self.renew(&mut connection, part).await?;
                    part = (part + 1) % PARTS;
                }
                _ = self.releases.recv_many(&mut self.ended, BATCH) => self.give_back(&mut connection).await?,
            }
        }
    }

    /// The log speaks once, until it works again.
    fn tell(&mut self, ended: &RedisError) {
        let reason = describe(ended);
        if std::mem::replace(&mut self.is_told, true) {
            return tracing::debug!(reason, "cannot keep users' leases in Redis");
        }
        tracing::warn!(reason, "cannot keep users' leases in Redis; this node's own count decides meanwhile");
    }

    /// Renews one part of what is held. Neither the limit nor anything else is a reason to close a stream that is open.
    async fn renew(&self, connection: &mut MultiplexedConnection, part: usize) -> Result<(), RedisError> {
        let Registry { keys, lease, .. } = self.registry;
        for users in self.leases.held(part).chunks(BATCH) {
            let names: Vec<(String, Vec<String>)> = users
                .iter()
                .map(|(user, held)| (keys.user(user), held.iter().map(|number| self.registry.name(*number)).collect()))
                .collect();
            let build = |functions: &Functions| {
                let mut pipeline = ::redis::pipe();
                for (key, names) in &names {
                    pipeline.add_command(functions.lease(key, *lease, None, names));
                }
                pipeline
            };
            let answers: Vec<LeaseReply> = self.send(connection, build).await?;
            for LeaseReply { held, added, .. } in answers {
                let over = held.saturating_sub(self.leases.limit() as u64).min(added);
                if over > 0 {
                    self.leases.metrics().leases_over.increment(over);
                }
            }
        }
        Ok(())
    }

    /// Gives back what is in `ended`, which keeps it until that is done.
    async fn give_back(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let build = |functions: &Functions| {
            let mut pipeline = ::redis::pipe();
            for (user, number) in &self.ended {
                let (key, name) = (self.registry.keys.user(user), self.registry.name(*number));
                pipeline.add_command(functions.lease(&key, Duration::ZERO, None, &[name]));
            }
            pipeline
        };
        let _: Vec<LeaseReply> = self.send(connection, build).await?;
        self.ended.clear();
        Ok(())
    }

    async fn give_back_all(&mut self, mut connection: MultiplexedConnection) -> Result<(), RedisError> {
        loop {
            while self.ended.len() < BATCH
                && let Ok(one) = self.releases.try_recv()
            {
                self.ended.push(one);
            }
            if self.ended.is_empty() {
                return Ok(());
            }
            self.give_back(&mut connection).await?;
        }
    }

    /// With the functions loaded again where they are gone: nothing of such a call was done.
    async fn send<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        build: impl Fn(&Functions) -> Pipeline,
    ) -> Result<T, RedisError> {
        let Registry { library, client, keys, .. } = self.registry;
        let loaded = library.now();
        match build(&loaded.functions).query_async(connection).await {
            Err(error) if is_missing(&error) => {
                let loaded = library.reload(&loaded, client, keys).await?;
                build(&loaded.functions).query_async(connection).await
            }
            answer => answer,
        }
    }
}
