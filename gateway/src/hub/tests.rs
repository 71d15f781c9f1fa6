//! Who is subscribed when, and who is woken. The tests play the broker; what connections read is tested there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use futures_util::FutureExt as _;

use super::*;
use shared::position::Epoch;

use crate::broker::{Join, Lost, Message, Sink as _, Snapshot, Stamp};

struct World {
    hub: Arc<Hub>,
    interest: InterestQueue,
}

impl World {
    fn new() -> Self {
        let (hub, interest) = Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new());
        hub.session(0, &Epoch::from_bits(1), Position { ms: 1, seq: 0 });
        Self { hub, interest }
    }

    fn attach(&self, name: &str) -> (Subscription, Arc<Wakeup>) {
        let wakeup = Arc::new(Wakeup::default());
        (self.hub.attach(&channel(name), &wakeup).unwrap(), wakeup)
    }

    /// What the broker was told since the last time.
    fn told(&mut self) -> Vec<Interest> {
        std::iter::from_fn(|| self.interest.try_recv().ok()).collect()
    }

    fn live(&self, name: &str, generation: u64) {
        let clock = Position { ms: 2, seq: 0 };
        let snapshot = Snapshot { clock, time_ms: 0, evicts: false, last: None, entries: Vec::new() };
        self.hub.live(&channel(name), generation, snapshot, Join::Anew);
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn register(self: &Arc<Self>, wakeup: &Wakeup) {
        wakeup.register(&self.clone().into());
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn subscribe(name: &str, generation: u64) -> Interest {
    Interest::Subscribe { channel: channel(name), generation }
}

fn unsubscribe(name: &str) -> Interest {
    Interest::Unsubscribe { channel: channel(name) }
}

fn message(name: &str, position: Option<Position>) -> Message {
    let stamp = position.map(|position| Stamp { position, previous: Position::ZERO });
    Message { channel: channel(name), payload: "x".into(), stamp }
}

#[tokio::test(start_paused = true)]
async fn subscribed_while_somebody_is_there_and_a_linger_longer() {
    let mut world = World::new();
    let (first, second) = (world.attach("a").0, world.attach("a").0);
    assert_eq!(world.told(), [subscribe("a", 1)]);
    drop(first);
    tokio::time::advance(Duration::from_secs(5)).await;
    world.hub.sweep(Instant::now());
    assert_eq!(world.told(), []);
    drop(second);
    tokio::time::advance(Duration::from_millis(999)).await;
    world.hub.sweep(Instant::now());
    assert_eq!(world.told(), []);
    tokio::time::advance(Duration::from_millis(1)).await;
    world.hub.sweep(Instant::now());
    assert_eq!(world.told(), [unsubscribe("a")]);
    world.hub.sweep(Instant::now());
    assert_eq!(world.told(), []);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_in_time_finds_the_log_as_it_was() {
    let mut world = World::new();
    drop(world.attach("a"));
    tokio::time::advance(Duration::from_millis(900)).await;
    let (again, _) = world.attach("a");
    tokio::time::advance(Duration::from_millis(200)).await;
    world.hub.sweep(Instant::now());
    assert_eq!(world.told(), [subscribe("a", 1)]);
    // The second leaving counts from its own time.
    drop(again);
    tokio::time::advance(Duration::from_millis(900)).await;
    world.hub.sweep(Instant::now());
    assert_eq!(world.told(), []);
    tokio::time::advance(Duration::from_millis(100)).await;
    world.hub.sweep(Instant::now());
    assert_eq!(world.told(), [unsubscribe("a")]);
}

#[tokio::test(start_paused = true)]
async fn only_the_answer_to_the_last_subscribe_counts() {
    let mut world = World::new();
    drop(world.attach("a"));
    tokio::time::advance(Duration::from_secs(1)).await;
    world.hub.sweep(Instant::now());
    let (subscription, wakeup) = world.attach("a");
    assert_eq!(world.told(), [subscribe("a", 1), unsubscribe("a"), subscribe("a", 2)]);
    let subscriptions = [subscription];
    world.live("a", 1);
    assert!(all_live(&subscriptions, &wakeup).now_or_never().is_none());
    world.live("a", 2);
    assert_eq!(all_live(&subscriptions, &wakeup).now_or_never(), Some(Ok(())));
}

#[test]
fn waits_for_all_of_its_channels() {
    let world = World::new();
    let wakeup = Arc::new(Wakeup::default());
    let subscriptions = ["a", "b"].map(|name| world.hub.attach(&channel(name), &wakeup).unwrap());
    world.live("a", 1);
    assert!(all_live(&subscriptions, &wakeup).now_or_never().is_none());
    let count = Arc::new(Count::default());
    count.register(&wakeup);
    world.live("b", 2);
    assert_eq!(count.get(), 1);
    assert_eq!(all_live(&subscriptions, &wakeup).now_or_never(), Some(Ok(())));
}

#[test]
fn wakes_those_on_the_channel_once_until_they_ask_again() {
    let world = World::new();
    let ((_a, on_a), (_b, on_b)) = (world.attach("a"), world.attach("b"));
    world.live("a", 1);
    let (a, b) = (Arc::new(Count::default()), Arc::new(Count::default()));
    a.register(&on_a);
    b.register(&on_b);
    world.hub.message(message("a", Some(Position { ms: 5, seq: 0 })));
    world.hub.message(message("a", None));
    assert_eq!((a.get(), b.get()), (1, 0));
    a.register(&on_a);
    world.hub.message(message("a", None));
    assert_eq!(a.get(), 2);
}

#[test]
fn an_event_may_be_read_once_the_watermark_covers_it() {
    let world = World::new();
    let (subscription, _) = world.attach("a");
    world.live("a", 1);
    let position = Position { ms: 5, seq: 0 };
    world.hub.message(message("a", Some(position)));
    assert_eq!(world.hub.watermark(0), position);
    let peek = |watermark, life, limit| {
        let (mut durable, mut ephemeral) = (Vec::new(), Vec::new());
        let look = Look { after: Some(Position { ms: 2, seq: 0 }), watermark, life, limit };
        let peek = subscription.peek(look, &mut durable, &mut ephemeral).unwrap();
        (durable.len(), ephemeral.len(), peek)
    };
    let live = Peek { live: true, ..Peek::default() };
    assert_eq!(peek(Position { ms: 4, seq: 9 }, 0, 10), (0, 0, live));
    assert_eq!(peek(position, 0, 10), (1, 0, live));
    world.hub.message(message("a", None));
    world.hub.message(message("a", None));
    assert_eq!(peek(position, 0, 1), (1, 1, Peek { more_ephemeral: true, ..live }));
    world.hub.message(message("a", Some(Position { ms: 6, seq: 0 })));
    assert_eq!(
        peek(Position { ms: 6, seq: 0 }, 0, 1),
        (1, 1, Peek { more_durable: true, more_ephemeral: true, ..live })
    );
    assert_eq!(peek(position, 7, 10), (0, 2, Peek::default()), "another life of the data");
}

#[test]
fn a_message_for_nobody_is_dropped() {
    let world = World::new();
    world.hub.message(message("a", Some(Position { ms: 5, seq: 0 })));
    assert!(world.hub.find(&channel("a")).is_none());
}

#[test]
fn a_barrier_raises_the_watermark_and_never_lowers_it() {
    let world = World::new();
    assert_eq!(world.hub.barrier_age(Instant::now()), None);
    world.hub.barrier(0, Position { ms: 9, seq: 0 });
    world.hub.barrier(0, Position { ms: 7, seq: 0 });
    assert_eq!(world.hub.watermark(0), Position { ms: 9, seq: 0 });
    assert!(world.hub.barrier_age(Instant::now()).is_some());
}

#[test]
fn closing_reaches_everybody() {
    let world = World::new();
    let ((_a, on_a), (_b, on_b)) = (world.attach("a"), world.attach("b"));
    let count = Arc::new(Count::default());
    count.register(&on_a);
    world.hub.close(Instant::now());
    assert!(on_a.closing().is_some() && on_b.closing().is_some());
    assert_eq!(count.get(), 1);
    assert!(world.hub.attach(&channel("c"), &on_a).is_err());
}

/// Threads that come, go and publish at once: interest stays in order, and nothing is left behind.
#[test]
fn many_at_once() {
    let mut world = World::new();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let hub = world.hub.clone();
            scope.spawn(move || {
                for i in 0..2_000u64 {
                    let name = ["a", "b", "c"][usize::try_from((i * 7 + thread) % 3).unwrap()];
                    let wakeup = Arc::new(Wakeup::default());
                    let subscription = hub.attach(&channel(name), &wakeup).unwrap();
                    hub.message(message(name, Some(Position { ms: 10 + i, seq: thread })));
                    drop(subscription);
                    if i % 5 == 0 {
                        hub.sweep(Instant::now() + Duration::from_secs(3_600));
                    }
                }
            });
        }
    });
    world.hub.sweep(Instant::now() + Duration::from_secs(3_600));
    let mut subscribed = HashMap::new();
    let mut generations = 0;
    for interest in world.told() {
        match interest {
            Interest::Subscribe { channel, generation } => {
                assert!(generation > generations, "generations rise");
                generations = generation;
                assert!(subscribed.insert(channel, generation).is_none(), "subscribed twice");
            }
            Interest::Unsubscribe { channel } => assert!(subscribed.remove(&channel).is_some(), "unsubscribed twice"),
        }
    }
    assert!(subscribed.is_empty() && world.hub.lock().channels.is_empty());
}

#[tokio::test(start_paused = true)]
async fn how_the_broker_is_doing() {
    let (hub, _interest) = Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new());
    let health = || hub.health(Instant::now());
    assert_eq!(health(), Health::Starting);
    hub.session(0, &Epoch::from_bits(1), Position::ZERO);
    assert_eq!(health(), Health::Starting, "not heard yet");
    hub.barrier(0, Position::ZERO);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(health(), Health::Heard(Duration::from_secs(3)));

    hub.lost(0, Lost::Away);
    assert!(!hub.is_away(0, Instant::now()), "worth waiting for");
    tokio::time::advance(Duration::from_secs(2)).await;
    hub.lost(0, Lost::Away);
    assert_eq!(health(), Health::Away(Duration::from_secs(2)));
    assert!(hub.is_away(0, Instant::now()));
    hub.session(0, &Epoch::from_bits(1), Position::ZERO);
    hub.barrier(0, Position::ZERO);
    assert!(hub.is_away(0, Instant::now()), "a session that is not established may end at once");
    assert_eq!(health(), Health::Away(Duration::from_secs(2)));
    hub.established(0);
    assert_eq!(health(), Health::Heard(Duration::ZERO));
    assert!(!hub.is_away(0, Instant::now()));

    hub.lost(0, Lost::Deaf);
    hub.session(0, &Epoch::from_bits(1), Position::ZERO);
    hub.barrier(0, Position::ZERO);
    assert_eq!(health(), Health::Deaf, "until a session is established");
    hub.established(0);
    assert_eq!(health(), Health::Heard(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn without_a_session_no_channel_is_live() {
    let world = World::new();
    let (a, wakeup) = world.attach("a");
    world.live("a", 1);
    assert!(all_live(std::slice::from_ref(&a), &wakeup).now_or_never().is_some());
    world.hub.lost(0, Lost::Away);
    assert!(all_live(std::slice::from_ref(&a), &wakeup).now_or_never().is_none());
    world.hub.session(0, &Epoch::from_bits(1), Position { ms: 3, seq: 0 });
    assert!(all_live(std::slice::from_ref(&a), &wakeup).now_or_never().is_none(), "it has to be subscribed again");
    world.live("a", 1);
    assert!(all_live(std::slice::from_ref(&a), &wakeup).now_or_never().is_some());
}

#[test]
fn a_session_of_the_same_epoch_lets_the_watermark_stand() {
    let world = World::new();
    world.hub.barrier(0, Position { ms: 9, seq: 0 });
    world.hub.session(0, &Epoch::from_bits(1), Position { ms: 9, seq: 0 });
    assert_eq!(world.hub.watermark(0), Position { ms: 9, seq: 0 });
    assert_eq!(world.hub.life(0).unwrap().number, 0);
    world.hub.session(0, &Epoch::from_bits(2), Position { ms: 4, seq: 0 });
    assert_eq!(world.hub.watermark(0), Position { ms: 4, seq: 0 }, "another epoch has a time of its own");
    assert_eq!(world.hub.life(0).unwrap().begin.position, Position { ms: 4, seq: 0 });
}
