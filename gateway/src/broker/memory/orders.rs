//! Orders on the embedded broker: the one node is told at once, and asked itself who is there. What tickets stand for is kept for their time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use publisher::PublishError;
use publisher::census::{Census, Count, Seen};
use publisher::orders::{Hear, MAX_REVOCATIONS, MAX_TICKET_TTL, Orders};
use shared::census::Of;
use shared::order::{Order, Revocations};
use tokio_util::sync::CancellationToken;

use super::{FULL_RETRY_AFTER, MemoryBroker, TimeOfDay};

/// Tickets at a time: each is some KiB at most, and gone within minutes.
const MAX_TICKETS: usize = 100_000;

/// Has a lock of its own, as cancellations have.
pub(super) struct Told {
    state: Mutex<State>,
    now: TimeOfDay,
    /// Tickets at most.
    max: usize,
}

#[derive(Default)]
struct State {
    /// The node, once it hears.
    hear: Option<Arc<dyn Hear>>,
    /// What each ticket stands for, and when it is over (Unix milliseconds). Taken out by whoever uses it, or by a look for those
    /// that are over.
    tickets: HashMap<String, (u64, String)>,
    /// Those given so far.
    revoked: Revocations,
}

impl Told {
    pub(super) fn new(now: TimeOfDay, max: usize) -> Self {
        Self { state: Mutex::default(), now, max: max.min(MAX_TICKETS) }
    }

    /// Whom to tell. What it remembers of revocations is the node's own; they are counted here, where they have a bound.
    fn hear_of(&self, order: &Order) -> Result<Option<Arc<dyn Hear>>, PublishError> {
        let mut state = self.lock();
        if let Order::Revoke(revocation) = order {
            state.revoked.forget((self.now)() / 1_000);
            if state.revoked.len() >= MAX_REVOCATIONS {
                let reason = format!("{MAX_REVOCATIONS} revocations are remembered, the limit");
                return Err(PublishError::Unavailable { reason, retry_after: FULL_RETRY_AFTER });
            }
            state.revoked.add(revocation);
        }
        Ok(state.hear.clone())
    }

    fn hearing(&self) -> Option<Arc<dyn Hear>> {
        self.lock().hear.clone()
    }

    fn keep(&self, digest: &str, stands_for: &str, ttl: Duration) -> Result<(), PublishError> {
        let now = (self.now)();
        let mut state = self.lock();
        if state.tickets.len() >= self.max {
            state.tickets.retain(|_, (until, _)| *until > now);
        }
        if state.tickets.len() >= self.max {
            let reason = format!("the embedded broker holds {} tickets, its limit", self.max);
            return Err(PublishError::Unavailable { reason, retry_after: FULL_RETRY_AFTER });
        }
        let ttl = u64::try_from(ttl.min(MAX_TICKET_TTL).as_millis()).unwrap_or(u64::MAX);
        state.tickets.insert(digest.to_owned(), (now.saturating_add(ttl), stands_for.to_owned()));
        Ok(())
    }

    fn take(&self, digest: &str) -> Option<String> {
        let (until, stands_for) = self.lock().tickets.remove(digest)?;
        (until > (self.now)()).then_some(stands_for)
    }

    /// Forgets tickets that were over by `now`.
    pub(super) fn sweep(&self, now: u64) {
        let mut state = self.lock();
        state.tickets.retain(|_, (until, _)| *until > now);
        if state.tickets.is_empty() {
            state.tickets = HashMap::new();
        }
    }

    /// Nothing under this lock panics half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Orders for MemoryBroker {
    fn give<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            let hear = self.told.hear_of(order)?;
            if let Some(hear) = hear {
                hear.order(order.clone());
            }
            Ok(())
        }
        .boxed()
    }

    fn keep_ticket<'a>(
        &'a self,
        digest: &'a str,
        stands_for: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        async move { self.told.keep(digest, stands_for, ttl) }.boxed()
    }

    fn take_ticket<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Option<String>, PublishError>> {
        async move { Ok(self.told.take(digest)) }.boxed()
    }

    fn hear(self: Arc<Self>, hear: Arc<dyn Hear>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            hear.revocations(Vec::new());
            self.told.lock().hear = Some(hear);
            stop.cancelled().await;
            self.told.lock().hear = None;
        }
        .boxed()
    }
}

/// The one node is asked itself.
impl Census for MemoryBroker {
    fn count<'a>(&'a self, of: &'a Of) -> BoxFuture<'a, Result<Count, PublishError>> {
        async move {
            let hear = self.told.hearing();
            let connections = hear.and_then(|hear| hear.asked(of)).unwrap_or(0);
            Ok(Count { connections, nodes: usize::from(connections > 0), silent: Vec::new() })
        }
        .boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Seen>, PublishError>> {
        async move {
            let node = self.told.hearing().and_then(|hear| hear.myself());
            Ok(node.into_iter().map(|node| Seen { node, age: Duration::ZERO }).collect())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn told(max: usize) -> (Arc<AtomicU64>, Told) {
        let time = Arc::new(AtomicU64::new(1_000));
        let now = time.clone();
        (time, Told::new(Arc::new(move || now.load(Ordering::Relaxed)), max))
    }

    #[test]
    fn a_ticket_is_good_once_and_for_its_time() {
        let (time, told) = told(10);
        told.keep("a", "42", Duration::from_secs(30)).unwrap();
        assert_eq!((told.take("a").as_deref(), told.take("a")), (Some("42"), None));
        told.keep("b", "42", Duration::from_secs(30)).unwrap();
        time.store(31_000, Ordering::Relaxed);
        assert_eq!(told.take("b"), None);
    }

    #[test]
    fn tickets_have_a_bound() {
        let (time, told) = told(2);
        told.keep("a", "1", Duration::from_secs(30)).unwrap();
        time.store(20_000, Ordering::Relaxed);
        told.keep("b", "2", Duration::from_secs(30)).unwrap();
        assert!(matches!(told.keep("c", "3", Duration::from_secs(30)), Err(PublishError::Unavailable { .. })));
        time.store(31_000, Ordering::Relaxed);
        told.keep("c", "3", Duration::from_secs(30)).unwrap();
        assert_eq!((told.take("a"), told.take("b").as_deref()), (None, Some("2")));
        told.sweep(1_000_000);
        assert_eq!(told.take("c"), None);
    }
}
