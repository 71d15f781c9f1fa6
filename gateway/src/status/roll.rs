//! Which nodes there are, as the broker says: asked every few seconds while somebody watches, more rarely otherwise. What was said last
//! is kept with its age, also while it cannot be asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use publisher::census::{BEAT_EVERY, Census, Seen};
use publisher::orders::Hear;
use tokio::time::{Instant, sleep, timeout};

use super::Feed;

/// Between two questions while somebody watches: as often as nodes say that they are there.
const WATCHED: Duration = BEAT_EVERY;
/// Otherwise, for the log and the last ten minutes.
const UNWATCHED: Duration = Duration::from_secs(15);
/// An answer that comes later is none.
const WITHIN: Duration = Duration::from_secs(10);

/// Share it by `Arc`.
#[derive(Debug, Default)]
pub struct Roll(Mutex<Known>);

/// What is known. Written by [`Roll::run`], read by `gather`.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Raised with each answer, also with those that are none.
    pub(super) version: u64,
    /// The last list that was had, and when.
    pub(super) nodes: Arc<[Seen]>,
    pub(super) at: Option<Instant>,
    /// Why the last question had no answer; `None` where it had one.
    pub(super) error: Option<String>,
    /// The name of this node's life; `None` before the first question.
    pub(super) own: Option<String>,
}

impl Known {
    pub(super) fn is_own(&self, seen: &Seen) -> bool {
        self.own.as_deref() == Some(&*seen.node.incarnation)
    }

    /// All on the list but this node.
    pub(super) fn others(&self) -> impl Iterator<Item = &Seen> {
        self.nodes.iter().filter(|seen| !self.is_own(seen))
    }
}

impl Roll {
    /// Asks until it is dropped. `hear` is this node's own side of it.
    pub async fn run(self: Arc<Self>, census: Arc<dyn Census>, hear: Arc<dyn Hear>, feed: Arc<Feed>) {
        let mut begun = feed.begun();
        loop {
            let answer = timeout(WITHIN, census.nodes()).await;
            let own = hear.myself().map(|myself| myself.incarnation);
            let late = |_| format!("no answer within {}", humantime::format_duration(WITHIN));
            self.note(own, answer.map_err(late).and_then(|answer| answer.map_err(|error| error.to_string())));
            let pause = if feed.is_watched() { WATCHED } else { UNWATCHED };
            tokio::select! {
                () = sleep(pause) => {}
                changed = begun.changed(), if pause > WATCHED => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn note(&self, own: Option<String>, answer: Result<Vec<Seen>, String>) {
        let mut known = self.lock();
        known.version += 1;
        known.own = own;
        match answer {
            Ok(nodes) => (known.nodes, known.at, known.error) = (nodes.into(), Some(Instant::now()), None),
            Err(error) => known.error = Some(error),
        }
    }

    pub(super) fn known(&self) -> Known {
        self.lock().clone()
    }

    /// Nothing under this lock panics half-way.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use publisher::PublishError;
    use publisher::census::Count;
    use shared::census::Of;
    use shared::order::{Order, Revocation};
    use tokio::task::JoinSet;

    use super::*;

    /// Answers the first question, refuses the second, and does not answer the third.
    #[derive(Default)]
    struct Fake(AtomicU64);

    impl Census for Fake {
        fn count<'a>(&'a self, _: &'a Of) -> BoxFuture<'a, Result<Count, PublishError>> {
            async { Ok(Count::default()) }.boxed()
        }

        fn nodes(&self) -> BoxFuture<'_, Result<Vec<Seen>, PublishError>> {
            async {
                match self.0.fetch_add(1, Ordering::Relaxed) {
                    0 => Ok(Vec::new()),
                    1 => Err(PublishError::Rejected { reason: "NOPERM".to_owned() }),
                    _ => std::future::pending().await,
                }
            }
            .boxed()
        }
    }

    struct Deaf;

    impl Hear for Deaf {
        fn order(&self, _: Order) {}
        fn revocations(&self, _: Vec<Revocation>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_list_is_kept_and_failures_are_told() {
        let (roll, feed, census) = (Arc::new(Roll::default()), Feed::new(), Arc::new(Fake::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(roll.clone().run(census.clone(), Arc::new(Deaf), feed.clone()));
        sleep(Duration::from_secs(14)).await;
        let known = roll.known();
        assert_eq!((known.version, known.error, known.at.is_some()), (1, None, true));
        // Whoever begins to watch is not kept waiting.
        let _watcher = feed.watch().unwrap();
        sleep(Duration::from_millis(1)).await;
        let known = roll.known();
        assert_eq!((known.version, known.at.map(|at| at.elapsed().as_secs())), (2, Some(14)));
        assert!(known.error.is_some_and(|error| error.contains("NOPERM")));
        sleep(WATCHED + WITHIN + Duration::from_millis(1)).await;
        assert_eq!(roll.known().error.as_deref(), Some("no answer within 10s"));
        tasks.abort_all();
    }
}
