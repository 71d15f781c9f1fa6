//! Pushes in, what the hub is told out: the tests play the server.

use super::*;
use crate::broker::{Lost, Partition, Seen};

#[derive(Debug, PartialEq)]
enum Told {
    Session(String, Position),
    Live(String, u64, Position),
    Message(String, Bytes, Option<Stamp>),
    Barrier(Position),
    Established,
}

#[derive(Default)]
struct Ears(Mutex<Vec<Told>>);

impl Sink for Ears {
    fn session(&self, _: Partition, epoch: &Epoch, clock: Position) {
        self.0.lock().unwrap().push(Told::Session(epoch.to_string(), clock));
    }

    fn seen(&self, _: &Channel, _: u64) -> Option<Seen> {
        None
    }

    fn stale(&self, _: &Channel, _: u64) {
        unreachable!("nobody compares here");
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
        let hearing = Hearing::new(ears.clone(), "sse.node:n".to_owned());
        hearing.begin(&"e".parse().unwrap(), at(10));
        hearing.listen([("sse:a".to_owned(), channel("a"))]);
        let world = Self { ears, hearing };
        assert_eq!(world.told(), [Told::Session("e".to_owned(), at(10))]);
        world
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
    vec![Attached { channel: channel("a"), generation, snapshot, join: Join::Anew }]
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
    world.hearing.live_at(at(12), attached(7, at(12)));
    world.push("sse.node:n", "11-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(11))]);
    world.push("sse.node:n", "12-0 e r");
    assert_eq!(world.told(), [Told::Barrier(at(12)), Told::Live("a".to_owned(), 7, at(12))]);
    world.hearing.live_at(at(12), attached(8, at(12)));
    assert_eq!(world.told(), [Told::Live("a".to_owned(), 8, at(12))], "heard before it was read");
}

#[test]
fn established_when_everything_wanted_at_first_is_live() {
    let world = World::new();
    world.hearing.live_at(at(12), attached(7, at(12)));
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
    world.hearing.live_at(at(12), attached(7, at(12)));
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
        world.hearing.live_at(Position::ZERO, attached(1, Position::ZERO));
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
