//! What the contract suite cannot show: time that is moved by hand, and bounds.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use publisher::{Channels as _, HistoryPage, LastEvent, ONCE_TTL, Once};

use super::*;
use crate::broker::Last;

const WEEK_MS: u64 = 7 * 24 * 3_600_000;

struct World {
    broker: MemoryBroker,
    time: Arc<AtomicU64>,
}

impl World {
    fn new(limits: MemoryLimits) -> Self {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let clock = time.clone();
        Self { broker: MemoryBroker::with_time(limits, Arc::new(move || clock.load(Ordering::Relaxed))), time }
    }

    fn pass(&self, ms: u64) {
        self.time.fetch_add(ms, Ordering::Relaxed);
    }

    fn publish(&self, name: &str, publication: Publication) -> Receipt {
        self.broker.publish_now(&channel(name), publication).unwrap()
    }

    fn position(&self, name: &str) -> Position {
        self.publish(name, Publication::new("x")).position.unwrap()
    }

    fn entries(&self, name: &str) -> Vec<Entry> {
        self.broker
            .read(&channel(name), Between::after(Position::ZERO), 100_000)
            .now_or_never()
            .unwrap()
            .unwrap()
            .entries
    }

    fn page(&self, name: &str, after: Position, limit: usize) -> HistoryPage {
        self.broker.history(&channel(name), after, limit).now_or_never().unwrap().unwrap()
    }

    fn erase(&self, name: &str) -> bool {
        self.broker.erase(&channel(name)).now_or_never().unwrap().unwrap()
    }

    fn sweep(&self) {
        let now = self.time.load(Ordering::Relaxed);
        self.broker.lock().sweep(now);
    }

    /// The sums that the broker keeps are those of what it holds.
    fn check(&self) {
        let state = self.broker.lock();
        let mut bytes = 0;
        let mut entries = 0;
        for history in state.channels.values() {
            let held = history.after(Position::ZERO, usize::MAX);
            entries += held.len();
            bytes += held.iter().map(|entry| entry.payload.len() + history::ENTRY_OVERHEAD).sum::<usize>();
        }
        assert_eq!((state.size.entries, state.size.bytes), (entries, bytes));
        assert_eq!(state.due.len(), state.channels.len());
        for (name, history) in &state.channels {
            let due = history.due.unwrap();
            assert!(state.due.contains(&(due, name.clone())));
            assert!(history.next_expiry().is_none_or(|next| due <= next), "{name} is looked at too late");
        }
        assert!(
            state.oldest.len() <= 2 * entries + OLDEST_SLACK,
            "{} places for {entries} entries",
            state.oldest.len()
        );
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn once(key: &str) -> Publication {
    Publication::new("x").once(Once::parse(key).unwrap())
}

#[test]
fn positions_rise_when_the_clock_steps_back() {
    let world = World::new(MemoryLimits::default());
    let before = world.position("a");
    world.time.store(500, Ordering::Relaxed);
    let after = world.position("b");
    assert_eq!(after, Position { ms: before.ms, seq: before.seq + 1 });
    world.time.store(2_000_000, Ordering::Relaxed);
    assert_eq!(world.position("a"), Position { ms: 2_000_000, seq: 0 });
}

#[test]
fn history_expires_and_the_last_position_stays_a_week() {
    let world = World::new(MemoryLimits::default());
    let position = world.position("a");
    world.pass(3_599_999);
    assert_eq!(world.entries("a").len(), 1);
    world.pass(1);
    assert_eq!(world.entries("a").len(), 0);
    let last = |world: &World| {
        world.broker.read(&channel("a"), Between::after(Position::ZERO), 1).now_or_never().unwrap().unwrap().last
    };
    assert_eq!(last(&world), Some(Last { position, ended: false }));
    let next = world.publish("a", Publication::new("y"));
    assert_eq!(world.entries("a")[0].stamp, Stamp { position: next.position.unwrap(), previous: position });
    world.pass(WEEK_MS);
    assert_eq!(last(&world), None);
    world.sweep();
    assert!(world.broker.lock().channels.is_empty());
    world.check();
}

#[test]
fn a_long_history_keeps_its_last_position() {
    let world = World::new(MemoryLimits::default());
    let publication = Publication { ttl: Some(Duration::from_millis(2 * WEEK_MS)), ..Publication::new("x") };
    world.publish("a", publication);
    world.pass(2 * WEEK_MS - 1);
    assert_eq!(world.entries("a").len(), 1);
    assert!(world.broker.lock().channels[&channel("a")].last().is_some());
}

#[test]
fn once_keys_expire_and_may_come_again() {
    let world = World::new(MemoryLimits::default());
    let first = world.publish("a", once("k"));
    let ttl = u64::try_from(ONCE_TTL.as_millis()).unwrap();
    world.pass(ttl - 1);
    let again = world.publish("a", once("k"));
    assert!(again.duplicate && again.position == first.position);
    world.pass(1);
    let new = world.publish("a", once("k"));
    assert!(!new.duplicate && new.position > first.position);
    world.pass(ttl);
    world.sweep();
    assert_eq!(world.broker.lock().size.once_keys, 0);
    world.check();
}

#[test]
fn the_oldest_entries_of_all_channels_go_first() {
    let world =
        World::new(MemoryLimits { max_bytes: 10 * (1_000 + history::ENTRY_OVERHEAD), ..MemoryLimits::default() });
    let payload = "x".repeat(1_000);
    for i in 0..25 {
        world.publish(if i < 5 { "old" } else { "new" }, Publication::new(payload.clone()));
        world.check();
    }
    assert_eq!((world.entries("old").len(), world.entries("new").len()), (0, 10));
    let last = world.broker.lock().channels[&channel("old")].last();
    assert!(last.is_some(), "so that a gap is noticed");
}

#[test]
fn places_of_entries_long_gone_do_not_pile_up() {
    let world = World::new(MemoryLimits::default());
    for _ in 0..20_000 {
        let publication = Publication { history: NonZeroU32::new(3), ..Publication::new("x") };
        world.publish("a", publication);
    }
    world.check();
    assert_eq!(world.entries("a").len(), 3);
}

#[test]
fn a_full_broker_says_so_and_forgets_nothing() {
    let world = World::new(MemoryLimits { max_keys: 2, ..MemoryLimits::default() });
    world.position("a");
    world.position("b");
    let refused = world.broker.publish_now(&channel("c"), Publication::new("x")).unwrap_err();
    assert!(refused.to_string().contains("holds 2 channels, its limit"), "{refused}");
    world.position("a");
    world.publish("a", once("1"));
    world.publish("b", once("2"));
    let refused = world.broker.publish_now(&channel("a"), once("3")).unwrap_err();
    assert!(refused.to_string().contains("holds 2 once keys, its limit"), "{refused}");
    assert!(world.publish("a", once("1")).duplicate);
    assert!(world.broker.publish_now(&channel("c"), Publication::new("x").ephemeral()).is_ok());
    world.pass(WEEK_MS);
    world.sweep();
    world.position("c");
    world.check();
}

#[test]
fn a_channel_that_comes_and_goes_is_looked_at_once() {
    let world = World::new(MemoryLimits::default());
    for _ in 0..10 {
        world.publish("a", once("k"));
        world.check();
        world.pass(WEEK_MS + 3_600_000);
        // Read before the sweep comes: what expired is gone, the channel itself is not.
        assert_eq!(world.entries("a").len(), 0);
        world.check();
        world.publish("a", Publication::new("x"));
        world.check();
        world.sweep();
        world.check();
    }
}

#[test]
fn what_expires_sooner_than_what_is_there_is_looked_at_sooner() {
    let world = World::new(MemoryLimits { max_keys: 1, ..MemoryLimits::default() });
    world.position("a");
    // Its history has expired; only the last position is left, for a week.
    world.pass(3_600_000);
    world.sweep();
    world.publish("a", once("k"));
    world.check();
    world.pass(3_600_000);
    world.sweep();
    world.check();
    let size = world.broker.lock().size;
    assert_eq!((size.entries, size.once_keys), (0, 0), "neither key nor history waits for the week to end");
    world.publish("a", once("another"));
}

#[test]
fn an_old_clock_is_raised_by_a_read() {
    let world = World::new(MemoryLimits::default());
    let position = world.position("a");
    let clock = |world: &World| {
        world.broker.read(&channel("a"), Between::after(Position::ZERO), 1).now_or_never().unwrap().unwrap().clock
    };
    world.pass(60_000);
    assert_eq!(clock(&world), position);
    world.pass(1);
    assert_eq!(clock(&world), Position { ms: position.ms + 60_001, seq: 0 });
}

#[test]
fn a_page_of_history() {
    let world = World::new(MemoryLimits::default());
    let positions: Vec<_> = (0..5).map(|_| world.position("a")).collect();
    world.publish("b", Publication::new("x"));
    let told =
        |page: &HistoryPage| page.entries.iter().map(|entry| (entry.position, entry.previous)).collect::<Vec<_>>();
    let page = world.page("a", positions[0], 2);
    assert_eq!(told(&page), [(positions[1], positions[0]), (positions[2], positions[1])]);
    assert!(page.more);
    assert_eq!((page.last, page.time_ms), (Some(LastEvent { position: positions[4], ended: false }), 1_000_000));
    assert!(page.clock > positions[4], "that of all channels");
    let page = world.page("a", positions[2], 2);
    assert_eq!((told(&page).len(), page.more), (2, false));
    assert_eq!((told(&world.page("a", positions[4], 2)).len(), world.page("none", Position::ZERO, 2).last), (0, None));
    assert!(!world.broker.lock().channels.contains_key(&channel("none")), "reading leaves nothing behind");
    // What expired is not shown, though the sweep has not come yet.
    world.pass(3_600_000);
    let page = world.page("a", Position::ZERO, 2);
    assert_eq!((told(&page).len(), page.more), (0, false));
    assert!(page.last.is_some());
}

#[test]
fn what_is_erased_is_gone_but_for_the_last_position_and_once_keys() {
    let world = World::new(MemoryLimits::default());
    assert!(!world.erase("a"));
    assert!(world.broker.lock().channels.is_empty(), "erasing leaves nothing behind");
    world.position("a");
    let first = world.publish("a", once("k"));
    let other = world.position("b");
    assert!(world.erase("a"));
    world.check();
    assert!(!world.erase("a"));
    let page = world.page("a", Position::ZERO, 10);
    assert_eq!((page.entries.len(), page.last.map(|last| last.position)), (0, first.position));
    assert_eq!(world.entries("b")[0].stamp.position, other);
    assert!(world.publish("a", once("k")).duplicate);
    let next = world.position("a");
    let stamp = Stamp { position: next, previous: first.position.unwrap() };
    assert_eq!(world.entries("a").iter().map(|entry| entry.stamp).collect::<Vec<_>>(), [stamp]);
    world.pass(3_600_000);
    assert!(!world.erase("a"), "it has expired before");
    world.pass(WEEK_MS);
    world.sweep();
    assert!(world.broker.lock().channels.is_empty());
}

#[test]
fn erasing_gives_all_of_it_back() {
    let most = 2_000;
    let limits = MemoryLimits { max_bytes: most * (1 + history::ENTRY_OVERHEAD), ..MemoryLimits::default() };
    let world = World::new(limits);
    let publish = |name: &str, count: usize| {
        let publication = Publication { history: NonZeroU32::new(u32::MAX), ..Publication::new("x") };
        for _ in 0..count {
            world.publish(name, publication.clone());
        }
    };
    for count in [OLDEST_SLACK + 1, 1, most, OLDEST_SLACK + 1] {
        publish("a", count);
        assert!(world.erase("a"));
        world.check();
        assert_eq!(world.broker.lock().size, Size::default());
    }
    // Places of what was erased do not push out what came later.
    publish("b", most);
    assert_eq!(world.entries("b").len(), most);
}
