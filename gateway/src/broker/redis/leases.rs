//! Leases in Redis: who has how many connections over all nodes.
//!
//! A user's leases are a sorted set, each with the moment at which it expires, by Redis' clock. One is taken by an atomic step
//! of the library that looks at the limit (`sse_lease`); a task of the node renews all that are held every third of their
//! time, and gives back those that ended: behind the renewals of a part, since one that was read before a lease ended would
//! bring it back, and as many calls of the one as of the other, so that neither starves where Redis is slow. It has connections of
//! its own, one to each server. When they are opened again, everything that is held
//! is registered at once, so that Redis learns of what was let in without it, or forgot.
//!
//! Presence has leases of its own, without a limit and by another step (`sse_presence`), which tells who comes and, asked every second
//! (`sse_absent`), who has gone: whichever node asks first. Nobody waits for these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::Cmd;
use shared::keys::Keys;
use shared::redis::functions::is_missing;
use shared::redis::{Client, Functions, LeaseReply, describe};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

mod errors;
mod keeper;
mod purpose;
mod wires;

use self::errors::is_about_one_key;
pub use self::keeper::keep;
use self::purpose::Purpose;
use self::wires::Wires;
use super::RedisBroker;
use super::library::Library;

/// How long a new stream waits for its lease: after that this node's own count decides.
pub const TAKE_DEADLINE: Duration = Duration::from_millis(500);
/// Leases that ended and wait to be given back: as many as a node has streams by default may end at once, and each is less than
/// the stream was. What finds no room expires.
const CHANGES: usize = 1 << 17;

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

/// The connections of one session.
#[derive(Clone)]
struct Connected {
    wires: Wires,
    /// Somebody found one broken. Of this session alone: however many find it, the next one knows nothing of it.
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
        let Some(Connected { wires, broken }) = self.connected().clone() else { return Taken::Unknown };
        let partition = self.purpose.partition(&self.keys, user);
        let Some(wire) = wires.to(partition) else { return Taken::Unknown };
        let mut connection = wire.connection.clone();
        let asked = async {
            let build =
                |functions: &Functions| self.command(functions, user, self.lease, Some(limit), &[self.name(number)]);
            let loaded = self.library.on(wire.server.address());
            match build(&loaded.functions).query_async::<LeaseReply>(&mut connection).await {
                Err(error) if is_missing(&error) => {
                    let loaded = self.library.reload(&loaded, &wire.server, &self.keys, partition).await?;
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
