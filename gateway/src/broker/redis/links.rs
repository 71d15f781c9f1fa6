//! The two connections to one server: one hears, the other one reads. Shared by the sessions of all partitions that this server has,
//! each of which ends by itself; on a single server there is one session at a time, and so it has both for itself.
//!
//! A link is good for one session of a partition and no other: whatever an earlier one has asked for and not waited for would be
//! answered in the midst of the next one. So a partition that begins again gets a new link, and the old one ends with the last session
//! on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, SendError};
use ::redis::{Cmd, Pipeline, PushInfo, PushKind, RedisError, Value};
use shared::keys::Keys;
use shared::redis::Server;
use tokio::time::{Instant, timeout};

use super::super::Partition;
use super::ended::Ended;
use super::hearing::Hearing;

/// Answers on the Pub/Sub connection stand behind the messages that came before them.
pub(super) const PUBSUB_DEADLINE: Duration = Duration::from_secs(10);
/// How long whoever leaves waits, in all, for a server that may be silent: the partition begins anew only then.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// Names of one command at most that a partition which goes leaves behind.
const BATCH: usize = 500;

/// Those that a session may begin on, by the server's address.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<Place>>>>);

/// Of one server. Held by whoever connects.
#[derive(Default)]
struct Place {
    link: Option<Arc<Link>>,
    /// When connecting began that failed the last time, and how: those who waited for it have failed too.
    failed: Option<(Instant, RedisError)>,
}

/// See above. Dropping the last one closes both connections.
pub(super) struct Link {
    pub(super) pubsub: MultiplexedConnection,
    pub(super) commands: MultiplexedConnection,
    /// The server's.
    address: Arc<str>,
    routes: Arc<Routes>,
    /// There are several partitions: by SSUBSCRIBE.
    sharded: bool,
}

/// Who hears what comes.
struct Routes {
    keys: Keys,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each partition that ever had a session here; `None`: it is over.
    hearings: HashMap<Partition, Option<Arc<Hearing>>>,
    /// Nothing comes any more. Set once.
    broken: bool,
}

impl Links {
    /// A link to `server` on which `partition` had no session yet. Of many who need one at once, one connects.
    pub(super) async fn to(&self, server: &Server, keys: &Keys, partition: Partition) -> Result<Arc<Link>, RedisError> {
        let called = Instant::now();
        let place = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever is connecting holds one too.
            places.retain(|address, place| {
                **address == *server.address() || Arc::strong_count(place) > 1 || is_in_use(place)
            });
            places.entry(server.address().into()).or_default().clone()
        };
        let mut place = place.lock().await;
        if let Some(link) = place.link.as_ref().filter(|link| link.is_free(partition)) {
            return Ok(link.clone());
        }
        if let Some((began, error)) = &place.failed
            && *began >= called
        {
            return Err(error.clone());
        }
        let began = Instant::now();
        match Link::open(server, keys).await {
            Ok(link) => {
                let link = Arc::new(link);
                place.link = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                place.failed = Some((began, error.clone()));
                Err(error)
            }
        }
    }

    /// Where no session is left on `link`, nobody begins on it any more, and it ends.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&link.address).cloned();
        // Whoever holds it is about to put another one there.
        let Some(Ok(mut place)) = place.as_ref().map(|place| place.try_lock()) else { return };
        _ = place.link.take_if(|kept| Arc::ptr_eq(kept, link) && !link.has_sessions());
    }
}

/// Somebody besides us has its link.
fn is_in_use(place: &tokio::sync::Mutex<Place>) -> bool {
    let Ok(place) = place.try_lock() else { return true };
    place.link.as_ref().is_some_and(|link| Arc::strong_count(link) > 1)
}

impl Link {
    async fn open(server: &Server, keys: &Keys) -> Result<Self, RedisError> {
        let commands = server.connect().await?;
        let routes = Arc::new(Routes { keys: keys.clone(), state: Mutex::default() });
        let push = {
            let routes = routes.clone();
            move |info| {
                routes.push(info);
                Ok::<_, SendError>(())
            }
        };
        let mut pubsub = server.connect_with_push(push).await?;
        pubsub.set_response_timeout(PUBSUB_DEADLINE.max(server.command_timeout()));
        Ok(Self { pubsub, commands, address: server.address().into(), routes, sharded: keys.partitions() > 1 })
    }

    /// Whether sessions of several partitions may be on it.
    pub(super) fn is_shared(&self) -> bool {
        self.sharded
    }

    fn has_sessions(&self) -> bool {
        self.routes.lock().hearings.values().any(Option::is_some)
    }

    fn is_free(&self, partition: Partition) -> bool {
        let state = self.routes.lock();
        !state.broken && !state.hearings.contains_key(&partition)
    }

    /// From now on `hearing` hears what comes of `partition`.
    pub(super) fn begin(&self, partition: Partition, hearing: &Arc<Hearing>) {
        let mut state = self.routes.lock();
        if state.broken {
            return hearing.end(Ended::Closed);
        }
        state.hearings.insert(partition, Some(hearing.clone()));
    }

    /// The session of `partition` is over. What it was subscribed to would come for as long as others have sessions here.
    pub(super) async fn leave(&self, partition: Partition, names: &[String]) {
        let broken = {
            let mut state = self.routes.lock();
            state.hearings.insert(partition, None);
            state.broken
        };
        if broken || !self.has_sessions() {
            return;
        }
        let all = async {
            for names in names.chunks(BATCH) {
                // A server that has the partition no more has unsubscribed us by itself, and says so.
                self.unsubscribe(names).await?;
            }
            Ok::<_, RedisError>(())
        };
        // One that does not answer is of no use to the others either.
        if timeout(LEAVE_DEADLINE, all).await.is_err() {
            self.break_off();
        }
    }

    /// Nothing that comes is to be believed any more: the sessions of all partitions end, and begin on another link.
    pub(super) fn break_off(&self) {
        self.routes.end();
    }

    /// Subscribes to `names`, all of one partition. That they are is said to [`Hearing`] too, which is what counts where partitions
    /// share a connection: see [`Hearing::acknowledged`].
    pub(super) async fn subscribe(&self, names: &[String]) -> Result<(), RedisError> {
        if self.sharded { self.each("SSUBSCRIBE", names).await } else { self.pubsub.clone().subscribe(names).await }
    }

    /// The contrary.
    pub(super) async fn unsubscribe(&self, names: &[String]) -> Result<(), RedisError> {
        if self.sharded { self.each("SUNSUBSCRIBE", names).await } else { self.pubsub.clone().unsubscribe(names).await }
    }

    /// A command for each name, and so an answer for each: the client library does not know how many answers one of these commands
    /// has. The first that is refused counts.
    async fn each(&self, command: &str, names: &[String]) -> Result<(), RedisError> {
        let mut pipe = Pipeline::with_capacity(names.len());
        names.iter().for_each(|name| _ = pipe.add_command(Cmd::new().arg(command).arg(name).clone()));
        let answers: Vec<Result<Value, RedisError>> =
            pipe.ignore_errors().query_async(&mut self.pubsub.clone()).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}

impl Routes {
    /// Takes what the server pushed. Called in the order in which it came.
    fn push(&self, info: PushInfo) {
        if info.kind == PushKind::Disconnection {
            return self.end();
        }
        let Some(Value::BulkString(name)) = info.data.first() else { return };
        let Some(partition) = self.keys.partition_of(name) else { return };
        // Not under the lock: it takes one of its own, and calls the hub.
        let hearing = self.lock().hearings.get(&partition).cloned().flatten();
        if let Some(hearing) = hearing {
            hearing.push(info);
        }
    }

    fn end(&self) {
        let hearings: Vec<_> = {
            let mut state = self.lock();
            state.broken = true;
            state.hearings.values().flatten().cloned().collect()
        };
        hearings.iter().for_each(|hearing| hearing.end(Ended::Closed));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
