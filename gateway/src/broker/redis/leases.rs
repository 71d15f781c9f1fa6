//! Leases in Redis: who has how many connections over all nodes.
//!
//! A user's leases are a sorted set, each with the moment at which it expires, by Redis' clock. One is taken by an atomic step
//! of the library that looks at the limit (`sse_lease`); a task of the node renews all that are held every third of their
//! time, and gives back those that ended: behind the renewals of a part, since one that was read before a lease ended would
//! bring it back, and as many calls of the one as of the other, so that neither starves where Redis is slow. It has a connection of
//! its own. When that is opened again, everything that is held
//! is registered at once, so that Redis learns of what was let in without it, or forgot.
//!
//! Presence has leases of its own, without a limit and by another step (`sse_presence`), which tells who comes and, asked every second
//! (`sse_absent`), who has gone: whichever node asks first. Nobody waits for these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Pipeline, RedisError};
use shared::keys::Keys;
use shared::redis::functions::is_missing;
use shared::redis::{Client, Functions, LeaseReply, describe};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

mod errors;
mod purpose;

use self::errors::{ask, is_about_one_key, left};
use self::purpose::Purpose;
use super::RedisBroker;
use super::backoff::Backoff;
use super::library::Library;
use crate::broker::leases::{Leases, PARTS};

/// How long a new stream waits for its lease: after that this node's own count decides.
pub const TAKE_DEADLINE: Duration = Duration::from_millis(500);
/// Leases that ended and wait to be given back: as many as a node has streams by default may end at once, and each is less than
/// the stream was. What finds no room expires.
const CHANGES: usize = 1 << 17;
/// How often it is looked for users who have gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
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
    purpose: Purpose,
    /// Set by `keep` while there is one.
    connected: Mutex<Option<Connected>>,
    changes: mpsc::Sender<Change>,
}

/// The connection of one session.
#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    /// Somebody found it broken. Of this session alone: however many find it, the next one knows nothing of it.
    broken: CancellationToken,
}

/// A lease that ended or, of presence, begins.
struct Change {
    user: Arc<str>,
    number: u64,
    ends: bool,
}

/// The other end of what is given back, for [`keep`].
pub struct Releases(mpsc::Receiver<Change>);

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
        self.registry_for(Purpose::Limit, lease)
    }

    /// The same for presence: who has had no lease for `grace` has gone.
    #[must_use]
    pub fn presence(&self, lease: Duration, grace: Duration) -> (Registry, Releases) {
        self.registry_for(Purpose::Presence(grace), lease)
    }

    fn registry_for(&self, purpose: Purpose, lease: Duration) -> (Registry, Releases) {
        let (changes, queue) = mpsc::channel(CHANGES);
        let registry = Registry {
            client: self.client.clone(),
            keys: self.keys.clone(),
            node: self.node.clone(),
            library: self.library.clone(),
            lease,
            purpose,
            connected: Mutex::new(None),
            changes,
        };
        (registry, Releases(queue))
    }
}

impl Registry {
    pub(in crate::broker) async fn take(&self, user: &str, number: u64, limit: usize) -> Taken {
        let Some(Connected { mut connection, broken }) = self.connected().clone() else { return Taken::Unknown };
        let asked = async {
            let build =
                |functions: &Functions| self.command(functions, user, self.lease, Some(limit), &[self.name(number)]);
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
                if !is_about_one_key(&error) {
                    broken.cancel();
                }
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
        let _ = self.changes.try_send(Change { user: user.clone(), number, ends: true });
    }

    /// Registers it soon. Never waits: what finds no room is registered when it is renewed.
    pub(in crate::broker) fn enlist(&self, user: &Arc<str>, number: u64) {
        let _ = self.changes.try_send(Change { user: user.clone(), number, ends: false });
    }

    fn command(
        &self,
        functions: &Functions,
        user: &str,
        time: Duration,
        limit: Option<usize>,
        names: &[String],
    ) -> Cmd {
        self.purpose.command(functions, &self.keys, user, time, limit, names)
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
    let mut keeper = Keeper {
        leases: &leases,
        registry,
        changes: releases.0,
        changed: Vec::new(),
        is_told: false,
        is_told_of_key: false,
    };
    let mut backoff = Backoff::default();
    let kept = async {
        loop {
            let ended = keeper.session(&mut backoff).await;
            *registry.connected() = None;
            keeper.tell(&ended);
            tokio::select! {
                () = sleep(backoff.next()) => {}
                () = registry.client.turns(0) => {}
            }
        }
    };
    tokio::select! {
        () = kept => {}
        () = stop.cancelled() => {}
    }
    let last = registry.connected().take();
    if let Some(Connected { mut connection, .. }) = last {
        // What does not reach Redis any more expires.
        let _ = timeout(TAKE_DEADLINE, keeper.pass_on_some(&mut connection, usize::MAX)).await;
    }
}

struct Keeper<'a> {
    leases: &'a Leases,
    registry: &'a Registry,
    changes: mpsc::Receiver<Change>,
    /// On their way to Redis, in the order in which they happened.
    changed: Vec<Change>,
    /// The log has said that it cannot. Unset when all was registered again.
    is_told: bool,
    /// The log has said of this session that a user's key cannot be used.
    is_told_of_key: bool,
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
        let server = registry.client.server().await?;
        let mut connection = server.connect().await?;
        self.is_told_of_key = false;
        // First, so that whoever comes from now on is counted there too, and what is registered below is all there is besides.
        let broken = CancellationToken::new();
        *registry.connected() = Some(Connected { connection: connection.clone(), broken: broken.clone() });
        for part in 0..PARTS {
            self.renew(&mut connection, part).await?;
        }
        self.pass_on_some(&mut connection, PARTS).await?;
        // Now rather than in a second: what may not be done at all is to be known before it is said that all is well.
        let failed = purpose::look(registry, &mut connection).await?;
        self.tell_of_key(failed);
        backoff.reset();
        self.is_told = false;
        let mut part = 0;
        let mut turn = interval(registry.lease / 3 / PARTS as u32);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = broken.cancelled() => return Ok(()),
                () = server.left() => return Err(left()),
                _ = turn.tick() => {
                    if part == 0 {
                        // Where nothing is held, a connection that is dead is found here, and not by who comes next.
                        ::redis::cmd("PING").exec_async(&mut connection).await?;
                    }
                    let calls = self.renew(&mut connection, part).await?;
                    part = (part + 1) % PARTS;
                    // Where a part takes longer than its turn, the next one is there already.
                    self.pass_on_some(&mut connection, calls.max(1)).await?;
                }
                _ = self.changes.recv_many(&mut self.changed, BATCH) => self.pass_on(&mut connection).await?,
                _ = look.tick(), if registry.purpose != Purpose::Limit => {
                    let failed = purpose::look(registry, &mut connection).await?;
                    self.tell_of_key(failed);
                }
            }
        }
    }

    /// The log speaks once, until it works again.
    fn tell(&mut self, ended: &RedisError) {
        let reason = describe(ended);
        if std::mem::replace(&mut self.is_told, true) {
            return tracing::debug!(reason, "cannot keep users' leases in Redis");
        }
        match self.registry.purpose {
            Purpose::Limit => {
                tracing::warn!(reason, "cannot keep users' leases in Redis; this node's own count decides meanwhile");
            }
            Purpose::Presence(_) => {
                tracing::warn!(reason, "cannot tell Redis who is online; what changes meanwhile is told later");
            }
        }
    }

    /// The log speaks once a session, and names nobody.
    fn tell_of_key(&mut self, failed: Option<RedisError>) {
        let Some(error) = failed else { return };
        let reason = describe(&error);
        if std::mem::replace(&mut self.is_told_of_key, true) {
            return tracing::debug!(reason, "cannot keep a user's leases in Redis");
        }
        tracing::warn!(reason, "cannot keep some user's leases in Redis; for this one each node's own count decides");
    }

    /// Renews one part of what is held. Neither the limit nor anything else is a reason to close a stream that is open.
    /// Returns how many calls that took.
    async fn renew(&mut self, connection: &mut MultiplexedConnection, part: usize) -> Result<usize, RedisError> {
        let registry = self.registry;
        let held = self.leases.held(part);
        let batches = held.chunks(BATCH);
        let calls = batches.len();
        for users in batches {
            let names: Vec<(&str, Vec<String>)> = users
                .iter()
                .map(|(user, held)| (&**user, held.iter().map(|number| registry.name(*number)).collect()))
                .collect();
            let build = |functions: &Functions| {
                let mut pipeline = ::redis::pipe();
                for (user, names) in &names {
                    pipeline.add_command(registry.command(functions, user, registry.lease, None, names));
                }
                pipeline
            };
            let (replies, failed) = self.send(connection, build).await?;
            self.tell_of_key(failed);
            for LeaseReply { held, added, .. } in replies {
                let over = held.saturating_sub(self.leases.limit() as u64).min(added);
                if over > 0 {
                    self.leases.metrics().leases_over.increment(over);
                }
            }
        }
        Ok(calls)
    }

    /// Passes on what is in `changed`, which keeps it until that is done.
    async fn pass_on(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let build = |functions: &Functions| {
            let mut pipeline = ::redis::pipe();
            for Change { user, number, ends } in &self.changed {
                let time = if *ends { Duration::ZERO } else { self.registry.lease };
                let name = self.registry.name(*number);
                pipeline.add_command(self.registry.command(functions, user, time, None, &[name]));
            }
            pipeline
        };
        let (_, failed) = self.send(connection, build).await?;
        self.changed.clear();
        self.tell_of_key(failed);
        Ok(())
    }

    /// Passes on what waits for it, by so many calls at most.
    async fn pass_on_some(&mut self, connection: &mut MultiplexedConnection, calls: usize) -> Result<(), RedisError> {
        for _ in 0..calls {
            while self.changed.len() < BATCH
                && let Ok(one) = self.changes.try_recv()
            {
                self.changed.push(one);
            }
            if self.changed.is_empty() {
                return Ok(());
            }
            self.pass_on(connection).await?;
        }
        Ok(())
    }

    /// What the calls are answered, and one of the errors of those that fail for their own key: nobody else's lease is to end for
    /// that. With the functions loaded again where they are gone; to renew or to give back twice does no harm.
    async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        build: impl Fn(&Functions) -> Pipeline,
    ) -> Result<(Vec<LeaseReply>, Option<RedisError>), RedisError> {
        let Registry { library, client, keys, .. } = self.registry;
        let loaded = library.now();
        let mut answers = ask(connection, build(&loaded.functions)).await?;
        if answers.iter().any(|answer| answer.as_ref().is_err_and(is_missing)) {
            let loaded = library.reload(&loaded, client, keys).await?;
            answers = ask(connection, build(&loaded.functions)).await?;
        }
        let (mut replies, mut failed) = (Vec::with_capacity(answers.len()), None);
        for answer in answers {
            match answer {
                Ok(reply) => replies.push(reply),
                Err(error) if is_about_one_key(&error) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok((replies, failed))
    }
}
