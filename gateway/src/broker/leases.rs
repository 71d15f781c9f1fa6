//! How many connections each user has: on this node, and with a [`Registry`] over all nodes.
//!
//! A connection has a *lease*: a name in Redis that expires unless its node renews it, so that the places of a node that was
//! killed come free by themselves. This node's own count is asked first, and alone where there is no registry or Redis does
//! not answer: then the limit holds on each node.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::redis::leases::{Registry, Taken};
use crate::metrics::LimitMetrics;

/// Connections open and close on all threads at once: each part has a lock of its own. The registry renews a part at a time.
pub(super) const PARTS: usize = 16;
/// Room for so many users is not worth giving back.
const KEPT: usize = 64;

/// Who has how many connections here.
pub struct Leases {
    limit: usize,
    registry: Option<Registry>,
    metrics: Arc<LimitMetrics>,
    hasher: RandomState,
    /// Only users who have a connection, or are about to.
    parts: [Mutex<HashMap<Arc<str>, User>>; PARTS],
    /// The number of the next lease.
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct User {
    /// Connections for which the registry is being asked.
    asking: usize,
    /// Numbers of those that are let in, and are renewed.
    held: SmallVec<[u64; 2]>,
}

/// One connection of a user. It is given back on drop.
pub struct Lease {
    leases: Arc<Leases>,
    user: Arc<str>,
    number: u64,
    /// It stands among those that are held. Until then it counts as one for which is being asked.
    is_held: bool,
    /// The registry may have it.
    is_registered: bool,
}

/// The user has as many connections as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserFull;

impl Leases {
    /// Lets `limit` connections of each user through at a time: over all nodes with a registry, else on this one.
    #[must_use]
    pub fn new(limit: usize, registry: Option<Registry>, metrics: Arc<LimitMetrics>) -> Arc<Self> {
        let (hasher, parts, next) = (RandomState::new(), Default::default(), AtomicU64::new(0));
        Arc::new(Self { limit, registry, metrics, hasher, parts, next })
    }

    /// A lease for a connection of `user`.
    ///
    /// # Errors
    /// [`UserFull`].
    pub async fn take(self: &Arc<Self>, user: &str) -> Result<Lease, UserFull> {
        self.ask(user)?.settle().await
    }

    /// A lease for a connection of `user` who is not limited: the registry hears of it soon, and nobody waits for that.
    pub fn hold(self: &Arc<Self>, user: &str) -> Option<Lease> {
        let mut lease = self.ask(user).ok()?;
        lease.hold();
        if let Some(registry) = &self.registry {
            lease.is_registered = true;
            registry.enlist(&lease.user, lease.number);
        }
        Some(lease)
    }

    /// Whether all nodes are counted now, or this one alone.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.registry.as_ref().is_some_and(Registry::is_connected)
    }

    /// Users who have a connection here.
    #[cfg(test)]
    fn users(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    pub(super) fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn metrics(&self) -> &LimitMetrics {
        &self.metrics
    }

    /// What is held in one of the parts.
    pub(super) fn held(&self, part: usize) -> Vec<(Arc<str>, SmallVec<[u64; 2]>)> {
        let part = self.parts[part % PARTS].lock().unwrap_or_else(PoisonError::into_inner);
        let held = part.iter().filter(|(_, user)| !user.held.is_empty());
        held.map(|(name, user)| (name.clone(), user.held.clone())).collect()
    }

    /// The first half of [`take`](Self::take): counts one more here, if this node alone allows it. It is none before
    /// [`settle`](Lease::settle).
    ///
    /// # Errors
    /// [`UserFull`].
    pub fn ask(self: &Arc<Self>, name: &str) -> Result<Lease, UserFull> {
        let mut part = self.part(name);
        let name: Arc<str> = part.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        let user = part.entry(name.clone()).or_default();
        if user.asking + user.held.len() >= self.limit {
            return Err(UserFull);
        }
        user.asking += 1;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { leases: self.clone(), user: name, number, is_held: false, is_registered: false })
    }

    fn part(&self, user: &str) -> MutexGuard<'_, HashMap<Arc<str>, User>> {
        let number = self.hasher.hash_one(user) as usize % PARTS;
        self.parts[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The second half: asks the registry, if there is one.
    ///
    /// # Errors
    /// [`UserFull`].
    pub async fn settle(mut self) -> Result<Self, UserFull> {
        let leases = self.leases.clone();
        if let Some(registry) = &leases.registry {
            // Before asking: who is gone before the answer comes has to give it back.
            self.is_registered = true;
            match registry.take(&self.user, self.number, leases.limit).await {
                Taken::Yes => {}
                Taken::No => {
                    self.is_registered = false;
                    return Err(UserFull);
                }
                Taken::Unknown => leases.metrics.leases_local.increment(1),
            }
        }
        self.hold();
        Ok(self)
    }

    fn hold(&mut self) {
        if let Some(user) = self.leases.part(&self.user).get_mut(&self.user) {
            user.asking -= 1;
            user.held.push(self.number);
            self.is_held = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut part = self.leases.part(&self.user);
        if let Entry::Occupied(mut entry) = part.entry(self.user.clone()) {
            let user = entry.get_mut();
            if self.is_held {
                user.held.retain(|number| *number != self.number);
            } else {
                user.asking -= 1;
            }
            if user.asking == 0 && user.held.is_empty() {
                entry.remove();
            }
        }
        if part.capacity() > KEPT && part.len() < part.capacity() / 4 {
            let twice = part.len() * 2;
            part.shrink_to(twice);
        }
        drop(part);
        // After it was taken from those that are renewed: nothing renews it any more.
        if self.is_registered
            && let Some(registry) = &self.leases.registry
        {
            registry.release(&self.user, self.number);
        }
    }
}

impl std::fmt::Debug for Lease {
    /// Without the user.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(limit: usize) -> Arc<Leases> {
        Leases::new(limit, None, Arc::default())
    }

    #[tokio::test]
    async fn each_user_has_so_many_and_gets_them_back() {
        let leases = leases(2);
        let mut held = vec![leases.take("a").await.unwrap(), leases.take("a").await.unwrap()];
        assert_eq!(leases.take("a").await.unwrap_err(), UserFull);
        let other = leases.take("b").await.unwrap();
        assert_eq!(leases.users(), 2);
        held.pop();
        held.push(leases.take("a").await.unwrap());
        assert_eq!(leases.take("a").await.unwrap_err(), UserFull);
        drop((held, other));
        assert_eq!(leases.users(), 0, "nothing is held of who has gone");
    }

    #[tokio::test]
    async fn what_is_held_is_what_is_renewed() {
        let leases = leases(3);
        let (one, two) = (leases.take("a").await.unwrap(), leases.take("a").await.unwrap());
        let asking = leases.ask("a").unwrap();
        assert_eq!(leases.take("a").await.unwrap_err(), UserFull, "who is being asked for counts");
        let held = || (0..PARTS).flat_map(|part| leases.held(part)).map(|(_, held)| held.to_vec()).collect::<Vec<_>>();
        assert_eq!(held(), [[one.number, two.number]], "and is not renewed");
        drop(asking);
        drop(one);
        assert_eq!(held(), [[two.number]]);
        drop(two);
        assert!(held().is_empty());
    }

    #[tokio::test]
    async fn room_is_given_back() {
        let leases = leases(1);
        let mut held = Vec::new();
        for number in 0..20_000 {
            held.push(leases.take(&number.to_string()).await.unwrap());
        }
        drop(held);
        assert!(leases.parts.iter().all(|part| part.lock().unwrap().capacity() <= 2 * KEPT));
    }
}
