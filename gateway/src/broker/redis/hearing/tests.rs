//! Pushes in, what the hub is told out: the tests play the server.

use super::*;
use crate::broker::{Join, Lost, Partition, Seen, Snapshot};

#[derive(Debug, PartialEq)]
enum Told {
    Session(String, Position),
    Live(String, u64, Position),
    Stale(String, u64),
    Message(String, Bytes, Option<Stamp>),
    Barrier(Position),
    Established,
}

#[derive(Default)]
struct Ears(Mutex<Vec<Told>>, Mutex<Option<Seen>>);

impl Sink for Ears {
    fn session(&self, _: Partition, epoch: &Epoch, clock: Position) {
        self.0.lock().unwrap().push(Told::Session(epoch.to_string(), clock));
    }

    fn seen(&self, _: &Channel, _: u64) -> Option<Seen> {
        *self.1.lock().unwrap()
    }

    fn stale(&self, channel: &Channel, generation: u64) {
        self.0.lock().unwrap().push(Told::Stale(channel.to_string(), generation));
    }

    fn live(&self, channel: &Channel, generation: u64, snapshot: Snapshot, _: Join) {
        self.0.lock().unwrap().push(Told::Live(channel.to_string(), generation, snapshot.clock));
    }

    fn message(&self, message: Message) {
        self.0.lock().unwrap().push(Told::Message(message.channel.to_string(), message.payload, message.stamp));
    }

    fn established(&self, _: Partition) {
        self.0.lock().unwrap().push(Told::Established);
    }

    fn lost(&self, _: Partition, _: Lost) {
        unreachable!("whoever holds the session says so");
    }

    fn barrier(&self, _: Partition, position: Position) {
        self.0.lock().unwrap().push(Told::Barrier(position));
    }
}

struct World {
    ears: Arc<Ears>,
    hearing: Hearing,
}

impl World {
    /// A session of epoch `e` that began at `10-0`, on channel `a`.
    fn new() -> Self {
        let ears = Arc::new(Ears::default());
        let hearing = Hearing::new(ears.clone(), 0, "sse.node:n".to_owned());
        hearing.begin(&"e".parse().unwrap(), at(10));
        let world = Self { ears, hearing };
        world.listen("a", 7);
        assert_eq!(world.told(), [Told::Session("e".to_owned(), at(10))]);
        world
    }

    fn listen(&self, name: &str, generation: u64) {
        self.hearing.listen([(&format!("sse:{name}"), &channel(name), generation)].into_iter());
    }

    /// A session in which `a` became live in its life 7, by a snapshot of `12-0`.
    fn live() -> Self {
        let world = Self::new();
        world.hearing.live_at(at(12), attached(7, at(12)), 0);
        world.push("sse.node:n", "12-0 e r");
        world.told();
        world
    }

    /// What the hub has heard of every channel.
    fn seen(&self, last: Option<u64>) {
        *self.ears.1.lock().unwrap() = Some(Seen { last: last.map(at), complete: at(50) });
    }

    /// The last event of `a` stood at `last` when it was `clock`.
    fn compare(&self, generation: u64, clock: u64, last: u64) {
        let compared = Compared { name: b"sse:a".to_vec(), generation, last: at(last) };
        self.hearing.compare_at(at(clock), vec![compared]);
    }

    fn missed(&self) -> Missed {
        std::mem::take(&mut self.hearing.lock().missed)
    }

    fn push(&self, name: &str, payload: &str) {
        let data = [name, payload].map(|text| Value::BulkString(text.as_bytes().to_vec()));
        self.hearing.push(PushInfo { kind: PushKind::Message, data: data.to_vec() });
    }

    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.ears.0.lock().unwrap())
    }

    fn ended(&self) -> Option<Ended> {
        self.hearing.lock().ended.clone()
    }
}

fn at(ms: u64) -> Position {
    Position { ms, seq: 0 }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn attached(generation: u64, clock: Position) -> Vec<Attached> {
    let snapshot = Snapshot { clock, time_ms: 0, evicts: false, last: None, entries: Vec::new() };
    vec![Attached { name: b"sse:a".to_vec(), channel: channel("a"), generation, snapshot, join: Join::Anew }]
}

fn live(generation: u64, clock: u64) -> Told {
    Told::Live("a".to_owned(), generation, at(clock))
}

fn stale() -> Told {
    Told::Stale("a".to_owned(), 7)
}

fn message(payload: &'static str, stamp: Option<Stamp>) -> Told {
    Told::Message("a".to_owned(), payload.into(), stamp)
}

#[test]
fn durable_and_ephemeral_messages() {
    let world = World::new();
    world.push("sse:a", "\u{1E}11-0 9-0 e\n{\"data\":1}");
    world.push("sse:a", "hello");
    world.push("sse:a", "\u{1E}11-0 9-0 e no line feed");
    world.push("sse:b", "not subscribed");
    let stamp = Stamp { position: at(11), previous: at(9) };
    assert_eq!(
        world.told(),
        [message("{\"data\":1}", Some(stamp)), message("hello", None), message("\u{1E}11-0 9-0 e no line feed", None),]
    );
    let progress = Progress { messages: 4, heard: at(11), barrier: Position::ZERO };
    assert_eq!((world.ended(), world.hearing.progress()), (None, progress));
}

#[test]
fn channels_are_live_when_their_barrier_was_heard() {
    let world = World::new();
    world.hearing.live_at(at(12), attached(7, at(12)), 0);
    world.push("sse.node:n", "11-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(11))]);
    world.push("sse.node:n", "12-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(12)), Told::Live("a".to_owned(), 7, at(12))]);
    world.hearing.live_at(at(12), attached(8, at(12)), 0);
    assert_eq!(world.told(), [Told::Live("a".to_owned(), 8, at(12))], "heard before it was read");
}

#[test]
fn established_when_everything_wanted_at_first_is_live() {
    let world = World::new();
    world.hearing.live_at(at(12), attached(7, at(12)), 0);
    world.hearing.establish_at(at(13));
    world.push("sse.node:n", "12-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(12)), Told::Live("a".to_owned(), 7, at(12))]);
    world.push("sse.node:n", "13-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(13)), Told::Established]);
    world.push("sse.node:n", "14-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(14))], "once");
}

#[test]
fn a_message_that_is_further_than_a_barrier_is_no_barrier() {
    let world = World::new();
    world.hearing.live_at(at(12), attached(7, at(12)), 0);
    world.push("sse:a", "\u{1E}13-0 9-0 e\nx");
    assert!(matches!(world.told()[..], [Told::Message(..)]), "another channel's events may still be on their way");
}

#[test]
fn what_ends_a_session() {
    for (name, payload, reason) in [
        ("sse.node:n", "11-0 f r", Ended::Epoch),
        ("sse.node:n", "9-0 e r", Ended::Order),
        ("sse.node:n", "nonsense", Ended::Protocol),
    ] {
        let world = World::new();
        world.push(name, payload);
        assert_eq!((world.ended(), world.told()), (Some(reason), vec![]), "{payload:?}");
        world.push("sse:a", "after the end");
        world.push("sse.node:n", "99-0 e r");
        world.hearing.live_at(Position::ZERO, attached(1, Position::ZERO), 0);
        assert_eq!(world.told(), [], "nothing is passed on after the end");
    }
    let world = World::new();
    world.hearing.push(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
    assert_eq!(world.ended(), Some(Ended::Closed));
    world.hearing.end(Ended::Stopped);
    assert_eq!(world.ended(), Some(Ended::Closed), "the first reason stays");
}

#[tokio::test]
async fn a_message_that_this_session_cannot_have_is_dropped_and_told() {
    for (payload, suspicion) in [("\u{1E}11-0 9-0 f\nx", Suspicion::Epoch), ("\u{1E}10-0 9-0 e\nx", Suspicion::Order)] {
        let world = World::new();
        world.push("sse:a", payload);
        assert_eq!((world.told(), world.ended()), (vec![], None), "{payload:?}");
        assert_eq!(world.hearing.suspicious().await, suspicion);
        world.push("sse:a", "\u{1E}11-0 9-0 e\nx");
        assert!(matches!(world.told()[..], [Told::Message(..)]), "what is right goes on");
    }
}

#[test]
fn what_is_not_listened_to_any_more_is_dropped() {
    let world = World::new();
    world.hearing.ignore(&["sse:a".to_owned()]);
    world.push("sse:a", "x");
    world.push("sse:a", "\u{1E}1-0 0-0 other\nx");
    assert_eq!((world.told(), world.ended()), (vec![], None));
}

#[tokio::test]
async fn the_end_is_told_to_who_waits() {
    let world = World::new();
    let (ended, ()) = futures_util::join!(world.hearing.ended(), async {
        tokio::task::yield_now().await;
        world.hearing.end(Ended::Deaf);
    });
    assert_eq!(ended, Ended::Deaf);
    assert_eq!(world.hearing.ended().await, Ended::Deaf);
}

#[test]
fn snapshots_that_come_in_any_order_are_live_in_the_order_of_their_clocks() {
    let world = World::new();
    for (clock, generation) in [(14, 4), (12, 2), (13, 3), (12, 1)] {
        world.hearing.live_at(at(clock), attached(generation, at(clock)), 0);
    }
    world.push("sse.node:n", "12-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(12)), live(2, 12), live(1, 12)]);
    world.push("sse.node:n", "14-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(14)), live(3, 13), live(4, 14)]);
}

#[tokio::test]
async fn established_when_those_that_were_behind_are_live_too() {
    let world = World::new();
    world.hearing.live_at(at(12), Vec::new(), 2);
    world.hearing.establish_at(at(12));
    world.push("sse.node:n", "12-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(12))]);
    let [one] = <[_; 1]>::try_from(attached(7, at(12))).ok().unwrap();
    world.hearing.caught_up(at(12), one);
    assert_eq!(world.told(), [live(7, 12)]);
    let [two] = <[_; 1]>::try_from(attached(8, at(15))).ok().unwrap();
    world.hearing.caught_up(at(15), two);
    assert_eq!(world.told(), []);
    let heard = async {
        tokio::task::yield_now().await;
        assert_eq!(world.told(), []);
        world.push("sse.node:n", "15-0 e r");
    };
    futures_util::join!(world.hearing.barrier_at(at(15)), heard);
    assert_eq!(world.told(), [Told::Barrier(at(15)), live(8, 15), Told::Established]);
}

#[test]
fn what_redis_has_and_a_live_channel_has_not_is_missed() {
    let world = World::live();
    world.seen(Some(13));
    world.compare(7, 20, 14);
    assert_eq!((world.told(), world.missed()), (vec![], vec![]), "it may still come");
    world.push("sse.node:n", "20-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(20)), stale()]);
    assert_eq!(world.missed(), [(channel("a"), 7)]);
    world.compare(7, 20, 14);
    assert_eq!((world.told(), world.missed()), (vec![], vec![]), "once, until it is live again");
    world.listen("a", 7);
    world.hearing.live_at(at(20), attached(7, at(20)), 0);
    world.compare(7, 20, 14);
    assert_eq!(world.told(), [live(7, 20), stale()]);
}

#[test]
fn what_is_no_loss() {
    let world = World::live();
    world.push("sse.node:n", "20-0 e r");
    world.told();
    world.compare(7, 20, 14);
    world.seen(Some(14));
    world.compare(7, 20, 14);
    world.compare(7, 20, 13);
    world.compare(6, 20, 15);
    world.compare(7, 20, 21);
    world.listen("a", 7);
    world.compare(7, 20, 15);
    world.hearing.ignore(&["sse:a".to_owned()]);
    world.compare(7, 20, 15);
    let nothing: (Vec<Told>, Missed) = Default::default();
    assert_eq!(
        (world.told(), world.missed()),
        nothing,
        "unknown, equal, ahead, another life, newer than the clock, not live, not subscribed"
    );
}

#[test]
fn a_message_that_follows_on_from_one_that_did_not_come() {
    let world = World::live();
    let pushed = |position: u64, previous: u64| {
        world.push("sse:a", &format!("\u{1E}{position}-0 {previous}-0 e\nx"));
        let stamp = Stamp { position: at(position), previous: at(previous) };
        message("x", Some(stamp))
    };
    let first = pushed(13, 11);
    assert_eq!(world.told(), [first], "whatever was at or before the snapshot is in it");
    let second = pushed(14, 13);
    assert_eq!(world.told(), [second]);
    let third = pushed(17, 16);
    assert_eq!(world.told(), [stale(), third], "not live any more when it is passed on");
    assert_eq!(world.missed(), [(channel("a"), 7)]);
    let fourth = pushed(19, 18);
    assert_eq!((world.told(), world.missed()), (vec![fourth], vec![]));
}

#[test]
fn what_came_before_a_channel_was_live_is_followed_on_from() {
    let world = World::new();
    world.push("sse:a", "\u{1E}14-0 11-0 e\nx");
    world.hearing.live_at(at(12), attached(7, at(12)), 0);
    world.push("sse.node:n", "14-0 e r");
    world.push("sse:a", "\u{1E}15-0 14-0 e\nx");
    assert_eq!(world.missed(), vec![]);
    assert!(!world.told().contains(&stale()));
}

#[test]
fn what_was_lost_before_a_channel_was_live_has_it_attached_again() {
    let world = World::new();
    world.push("sse:a", "\u{1E}14-0 13-0 e\nx");
    world.hearing.live_at(at(12), attached(7, at(12)), 0);
    world.push("sse.node:n", "14-0 e r");
    assert_eq!(world.missed(), [(channel("a"), 7)]);
    assert!(!world.told().iter().any(|told| matches!(told, Told::Live(..))));
}
