//! How connections on event loops, and tasks, are told: rounds in pieces, and whatever comes and goes meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use shared::channel::Channel;
use shared::keys::Keys;
use shared::position::{Epoch, Position};

use super::*;
use crate::broker::{Message, Sink as _};
use crate::hub::{Hub, HubSettings, Subscription, Wakeup};
use crate::metrics::HubMetrics;

/// A hub, two loops that are the test, and how often each was woken.
struct World {
    hub: Arc<Hub>,
    inboxes: [Arc<Inbox>; 2],
    woken: [Arc<Count>; 2],
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl World {
    fn new() -> Self {
        let (hub, _) = Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new());
        hub.session(0, &Epoch::from_bits(1), Position { ms: 1, seq: 0 });
        let woken: [Arc<Count>; 2] = Default::default();
        let inboxes = woken.each_ref().map(|woken| Arc::new(Inbox::new(woken.clone().into())));
        Self { hub, inboxes, woken }
    }

    fn attach(&self, on: usize, token: u32) -> Subscription {
        let wakeup = Arc::new(Wakeup::on_loop(self.inboxes[on].clone(), token));
        self.hub.attach(&channel(), &wakeup).unwrap()
    }

    /// An ephemeral event: it needs no broker.
    fn publish(&self) {
        self.hub.message(Message { channel: channel(), payload: "x".into(), stamp: None });
    }

    /// What has come for a loop.
    fn take(&self, on: usize) -> Calls {
        let mut calls = Calls::default();
        self.inboxes[on].take(&mut calls);
        calls
    }

    fn woken(&self, on: usize) -> usize {
        self.woken[on].0.swap(0, Ordering::Relaxed)
    }

    /// The next piece of a round.
    fn piece(&self, round: &mut Round, on: usize, limit: usize) -> (Vec<u32>, bool) {
        let mut tokens = Vec::new();
        let more = round.next(&self.inboxes[on], &mut tokens, limit);
        (tokens, more)
    }

    /// All the rest of a round, in pieces.
    fn rest(&self, round: &mut Round, on: usize) -> Vec<u32> {
        let (mut all, mut more) = (Vec::new(), true);
        while more {
            let (tokens, goes_on) = self.piece(round, on, 3);
            assert!(tokens.len() <= 3);
            all.extend(tokens);
            more = goes_on;
        }
        all
    }
}

fn channel() -> Channel {
    Channel::parse("a").unwrap()
}

/// Its only round.
fn round(mut calls: Calls) -> Round {
    assert_eq!(calls.rounds.len(), 1, "told once");
    calls.rounds.remove(0)
}

#[test]
fn a_round_comes_to_everybody_on_its_loop_once() {
    let world = World::new();
    let here: Vec<_> = (0..10).map(|token| world.attach(0, 100 + token)).collect();
    let there = world.attach(1, 7);
    assert!(world.take(0).rounds.is_empty() && world.take(1).rounds.is_empty());
    world.publish();
    assert_eq!((world.woken(0), world.woken(1)), (1, 1));
    let mut on_first = round(world.take(0));
    assert_eq!(world.piece(&mut on_first, 0, 4), (vec![100, 101, 102, 103], true));
    assert_eq!(world.rest(&mut on_first, 0), [104, 105, 106, 107, 108, 109]);
    assert_eq!(world.rest(&mut round(world.take(1)), 1), [7]);
    drop((here, there));
}

#[test]
fn a_publish_before_a_round_begins_is_covered_by_it_and_one_after_is_told_again() {
    let world = World::new();
    let _here: Vec<_> = (0..4).map(|token| world.attach(0, token)).collect();
    world.publish();
    world.publish();
    assert_eq!(world.woken(0), 1);
    let mut first = round(world.take(0));
    world.publish();
    assert!(world.take(0).rounds.is_empty(), "nobody has looked yet");
    assert_eq!(world.piece(&mut first, 0, 1), (vec![0], true));
    world.publish();
    assert_eq!(world.woken(0), 1, "the one that has looked has to look again");
    let mut second = round(world.take(0));
    assert_eq!(world.rest(&mut first, 0), [1, 2, 3]);
    assert_eq!(world.rest(&mut second, 0), [0, 1, 2, 3]);
    world.publish();
    assert_eq!(world.rest(&mut round(world.take(0)), 0), [0, 1, 2, 3]);
}

#[test]
fn those_who_stay_are_reached_while_others_come_and_go() {
    let world = World::new();
    let mut here: Vec<_> = (0..8).map(|token| Some(world.attach(0, token))).collect();
    world.publish();
    let mut on = round(world.take(0));
    assert_eq!(world.piece(&mut on, 0, 3).0, [0, 1, 2]);
    for gone in [1, 4, 5] {
        here[gone] = None;
    }
    // Whoever comes now has found the event by itself, and may be told or not.
    let _new: Vec<_> = (20..22).map(|token| world.attach(0, token)).collect();
    let rest: BTreeSet<_> = world.rest(&mut on, 0).into_iter().filter(|token| *token < 20).collect();
    assert_eq!(rest, BTreeSet::from([3, 6, 7]));
    world.publish();
    let all: BTreeSet<_> = world.rest(&mut round(world.take(0)), 0).into_iter().collect();
    assert_eq!(all, BTreeSet::from([0, 2, 3, 6, 7, 20, 21]));
}

#[test]
fn a_round_ends_when_nobody_is_left_and_the_next_ones_are_told() {
    let world = World::new();
    let (one, other) = (world.attach(0, 1), world.attach(0, 2));
    world.publish();
    let mut on = round(world.take(0));
    assert_eq!(world.piece(&mut on, 0, 1), (vec![1], true));
    drop((one, other));
    assert_eq!(world.piece(&mut on, 0, 1), (vec![], false));
    world.publish();
    assert!(world.take(0).rounds.is_empty());
    let _new = world.attach(0, 3);
    world.publish();
    assert_eq!(world.rest(&mut round(world.take(0)), 0), [3]);
}

#[test]
fn a_connection_by_itself_is_called_once_until_it_looks() {
    let world = World::new();
    let wakeup = Wakeup::on_loop(world.inboxes[0].clone(), 9);
    wakeup.call();
    wakeup.call();
    assert_eq!((world.woken(0), world.take(0).tokens), (1, vec![9]));
    wakeup.call();
    assert!(world.take(0).tokens.is_empty());
    wakeup.looks();
    wakeup.call();
    assert_eq!(world.take(0).tokens, [9]);
}

/// A task whose waker drops its subscription, as one that ends at once does.
struct Leaves(Mutex<Option<Subscription>>);

impl Wake for Leaves {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

#[test]
fn a_thousand_tasks_are_each_woken_once_even_if_some_leave() {
    let world = World::new();
    let mut tasks = Vec::new();
    for number in 0..1_000 {
        let (wakeup, count) = (Arc::new(Wakeup::default()), Arc::new(Count::default()));
        let subscription = world.hub.attach(&channel(), &wakeup).unwrap();
        if number % 10 == 3 {
            wakeup.register(&Arc::new(Leaves(Mutex::new(Some(subscription)))).into());
        } else {
            wakeup.register(&count.clone().into());
            tasks.push((wakeup, count, subscription));
        }
    }
    for round in 1..=2 {
        world.publish();
        assert!(tasks.iter().all(|(_, count, _)| count.0.load(Ordering::Relaxed) == round));
        tasks.iter().for_each(|(wakeup, count, _)| wakeup.register(&count.clone().into()));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_reaches_loops_and_tasks() {
    let world = World::new();
    let (task, count) = (Arc::new(Wakeup::default()), Arc::new(Count::default()));
    let on_task = world.hub.attach(&channel(), &task).unwrap();
    let on_loop: Vec<_> = (0..3).map(|token| world.attach(0, token)).collect();
    task.register(&count.clone().into());
    let until = Instant::now() + std::time::Duration::from_secs(5);
    world.hub.close(until);
    world.hub.close(until + std::time::Duration::from_secs(5));
    assert_eq!((task.closing(), count.0.load(Ordering::Relaxed)), (Some(until), 1));
    assert_eq!((world.inboxes[0].closing(), world.woken(0)), (Some(until), 1), "the first word stands");
    assert_eq!(world.inboxes[1].closing(), None, "nobody is there");
    drop((on_task, on_loop));
}
