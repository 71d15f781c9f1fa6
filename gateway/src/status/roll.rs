//! Which nodes there are, as the broker says: asked every few seconds while somebody watches, more rarely otherwise. What was said last
//! is kept with its age, also while it cannot be asked.
//!
//! Redis may lose what nodes said (FLUSHALL, a restart, a failover) and be back before anybody sees it away. Then all are missing on its list
//! until each says again that it is there, and none of them is gone. So what a node has said counts here for as long as Redis should have
//! kept it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use publisher::census::{BEAT_EVERY, BEAT_TTL, Census, Seen};
use publisher::orders::Hear;
use shared::census::Doing;
use tokio::time::{Instant, sleep, timeout};

use super::Feed;
use super::ring::STEP;

/// Between two questions while somebody watches: as often as nodes say that they are there.
const WATCHED: Duration = BEAT_EVERY;
/// Otherwise, for the log and the last ten minutes. So often that of a node that goes on saying that it is there, the word on one list still
/// counts when the next one comes.
const UNWATCHED: Duration = STEP;
/// What a node said counts for so long where Redis does not tell it any more: a little less than Redis keeps it, so that a node that Redis has
/// found to be over is over here as well.
const COUNTS: Duration = BEAT_TTL.saturating_sub(Duration::from_secs(1));
/// Behind a list that is older than that, a node may have said something that nobody has read and that would count.
const RECENT: Duration = COUNTS.saturating_sub(BEAT_EVERY);
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
    /// The last list that was had, by name, with those whose word counts although they were not on it; and when.
    pub(super) nodes: Arc<[Seen]>,
    pub(super) at: Option<Instant>,
    /// Why the last question had no answer; `None` where it had one.
    pub(super) error: Option<String>,
    /// The name of this node's life; `None` before the first question.
    pub(super) own: Option<String>,
    /// Lives of `nodes` that were not on the list, and until when their word counts. Of this file alone.
    missing: BTreeMap<String, Instant>,
}

impl Known {
    /// Takes a list, had at `now`. Who is missing on it and did not say that it was stopping stays for as long as its last word counts.
    fn take(&mut self, now: Instant, mut listed: Vec<Seen>) {
        let since = self.at.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        let lives: BTreeSet<&str> = listed.iter().map(|seen| &*seen.node.incarnation).collect();
        let is_missing =
            |seen: &&Seen| !lives.contains(&*seen.node.incarnation) && seen.node.beat.state != Doing::Draining;
        let (mut missing, mut kept) = (BTreeMap::new(), Vec::new());
        for seen in self.nodes.iter().filter(is_missing) {
            let life = &seen.node.incarnation;
            let until = self.missing.get(life).copied().unwrap_or_else(|| counts_until(now, since, seen.age));
            if until > now {
                missing.insert(life.clone(), until);
                kept.push(Seen { age: seen.age + since, ..seen.clone() });
            }
        }
        if !kept.is_empty() {
            listed.extend(kept);
            listed.sort_by(|one, other| name(one).cmp(&name(other)));
        }
        (self.nodes, self.at, self.error, self.missing) = (listed.into(), Some(now), None, missing);
    }

    pub(super) fn is_own(&self, seen: &Seen) -> bool {
        self.own.as_deref() == Some(&*seen.node.incarnation)
    }

    /// All on the list but this node.
    pub(super) fn others(&self) -> impl Iterator<Item = &Seen> {
        self.nodes.iter().filter(|seen| !self.is_own(seen))
    }
}

/// Until when a word counts that was `age` old on a list `since` ago, and that is missing at `now`.
fn counts_until(now: Instant, since: Duration, age: Duration) -> Instant {
    if since > RECENT { now + COUNTS } else { now + COUNTS.saturating_sub(since + age) }
}

/// Lists are in its order.
fn name(seen: &Seen) -> (&str, &str) {
    (&seen.node.beat.node, &seen.node.incarnation)
}

impl Roll {
    /// Asks until it is dropped. `hear` is this node's own side of it.
    pub async fn run(self: Arc<Self>, census: Arc<dyn Census>, hear: Arc<dyn Hear>, feed: Arc<Feed>) {
        let mut begun = feed.begun();
        loop {
            let answer = timeout(WITHIN, census.nodes()).await;
            let own = hear.myself().map(|myself| myself.incarnation);
            let late = |_| format!("no answer within {}", humantime::format_duration(WITHIN));
            let answer = answer.map_err(late).and_then(|answer| answer.map_err(|error| error.to_string()));
            self.note(Instant::now(), own, answer);
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

    /// The broker has answered, or has not, at `now`; `own` is the name of this node's life.
    pub(super) fn note(&self, now: Instant, own: Option<String>, answer: Result<Vec<Seen>, String>) {
        let mut known = self.lock();
        known.version += 1;
        known.own = own;
        match answer {
            Ok(listed) => known.take(now, listed),
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
    use publisher::census::{Count, Myself};
    use shared::census::{Beat, Of};
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
        sleep(Duration::from_secs(4)).await;
        let known = roll.known();
        assert_eq!((known.version, known.error, known.at.is_some()), (1, None, true));
        // Whoever begins to watch is not kept waiting.
        let _watcher = feed.watch().unwrap();
        sleep(Duration::from_millis(1)).await;
        let known = roll.known();
        assert_eq!((known.version, known.at.map(|at| at.elapsed().as_secs())), (2, Some(4)));
        assert!(known.error.is_some_and(|error| error.contains("NOPERM")));
        sleep(WATCHED + WITHIN + Duration::from_millis(1)).await;
        assert_eq!(roll.known().error.as_deref(), Some("no answer within 10s"));
        tasks.abort_all();
    }

    fn seen(name: &str, state: Doing, age: u64) -> Seen {
        let beat =
            Beat { node: name.to_owned(), version: "0.1.0".to_owned(), started: 1, state, connections: 1, channels: 1 };
        Seen { node: Myself { incarnation: format!("life of {name}"), beat }, age: Duration::from_secs(age) }
    }

    /// A node that serves, and how old its word is.
    fn serving((name, age): (&str, u64)) -> Seen {
        seen(name, Doing::Serving, age)
    }

    /// Lists, each so many seconds after the one before, and who is there after each with the age of the word.
    fn told(lists: &[(u64, Vec<Seen>)]) -> Vec<Vec<(String, u64)>> {
        let (roll, mut now) = (Roll::default(), Instant::now());
        let told = lists.iter().map(|(later, listed)| {
            now += Duration::from_secs(*later);
            roll.note(now, None, Ok(listed.clone()));
            let known = roll.known();
            known.nodes.iter().map(|seen| (seen.node.beat.node.clone(), seen.age.as_secs())).collect()
        });
        told.collect()
    }

    fn names(told: &[Vec<(String, u64)>]) -> Vec<String> {
        told.iter().map(|list| list.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")).collect()
    }

    #[test]
    fn who_is_missing_is_there_for_as_long_as_its_word_counts() {
        let list = |nodes: &[(&str, u64)]| nodes.iter().copied().map(serving).collect::<Vec<_>>();
        // Redis has lost all; one says it again, then two, and three was killed.
        let lists = [
            (0, list(&[("one", 1), ("three", 2), ("two", 2)])),
            (3, list(&[])),
            (1, list(&[("one", 0)])),
            (1, list(&[("one", 1), ("two", 0)])),
            (1, list(&[("one", 2), ("two", 1)])),
            (1, list(&[("one", 0), ("two", 2)])),
        ];
        let told = told(&lists);
        assert_eq!(
            names(&told),
            ["one,three,two", "one,three,two", "one,three,two", "one,three,two", "one,three,two", "one,two"]
        );
        let ages: Vec<_> = told[2].iter().map(|(_, age)| *age).collect();
        assert_eq!(ages, [0, 6, 6], "they grow");
    }

    #[test]
    fn who_is_over_or_has_said_that_it_stops_is_gone_at_once() {
        let draining = seen("two", Doing::Draining, 1);
        let stopped = [(0, vec![serving(("one", 1)), draining]), (3, vec![serving(("one", 1))])];
        assert_eq!(names(&told(&stopped)), ["one,two", "one"]);
        // As Redis has it: asked every three seconds, of which a little may be lost on the way.
        let killed = [(0, vec![serving(("one", 1)), serving(("two", 7))]), (2, vec![serving(("one", 0))])];
        assert_eq!(names(&told(&killed)), ["one,two", "one"]);
    }

    /// Nobody knows what was said meanwhile, and Redis may have come back without it.
    #[test]
    fn behind_a_time_without_lists_nobody_is_gone_at_once() {
        let all = vec![serving(("one", 1)), serving(("two", 1))];
        let lists = [(0, all), (60, vec![]), (3, vec![serving(("one", 0))]), (3, vec![]), (3, vec![])];
        assert_eq!(names(&told(&lists)), ["one,two", "one,two", "one,two", "one,two", "one"]);
    }
}
