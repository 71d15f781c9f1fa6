//! One gateway: its hub, and for each partition a session as the broker on Redis holds it, in small steps. Who is subscribed,
//! what is heard, when a channel is live and how it joins is decided by the real [`Wanted`], [`Hearing`] and `catch_up`;
//! here is only what of a session is sockets.

use std::pin::Pin;
use std::task::{Context, Waker};

use ::redis::{PushInfo, PushKind, Value};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::reads::{Current, Reading, Reads};
use super::redis::{Now, Primary, Pushed};
use super::session::{Doing, Session};
use super::*;
use crate::broker::past::PastLimits;
use crate::broker::redis::ended::Ended;
use crate::broker::redis::hearing::Hearing;
use crate::broker::redis::wanted::Wanted;
use crate::broker::{Lost, Seen, Sink};
use crate::hub::ReplaySettings;

pub(super) struct Node {
    pub(super) hub: Arc<Hub>,
    name: String,
    keys: Keys,
    limits: PastLimits,
    interest: InterestQueue,
    brokers: Vec<OneBroker>,
    pub(super) reads: Arc<Reads>,
    /// The hub's own task, polled by hand.
    worker: Pin<Box<dyn Future<Output = ()>>>,
}

/// Of one partition.
#[derive(Default)]
struct OneBroker {
    wanted: Wanted,
    /// Connected, and the clock was read; not begun yet.
    opening: Option<(u64, Now)>,
    session: Option<Session>,
}

/// The hub as one partition's sink: `Hearing` knows of one partition only.
struct At {
    hub: Arc<Hub>,
    partition: Partition,
}

impl Sink for At {
    fn session(&self, _: Partition, epoch: &Epoch, clock: Position) {
        self.hub.session(self.partition, epoch, clock);
    }

    fn live(&self, channel: &Channel, generation: u64, snapshot: Snapshot, join: Join) {
        self.hub.live(channel, generation, snapshot, join);
    }

    fn seen(&self, channel: &Channel, generation: u64) -> Option<Seen> {
        self.hub.seen(channel, generation)
    }

    fn stale(&self, channel: &Channel, generation: u64) {
        self.hub.stale(channel, generation);
    }

    fn message(&self, message: Message) {
        self.hub.message(message);
    }

    fn lost(&self, _: Partition, reason: Lost) {
        self.hub.lost(self.partition, reason);
    }

    fn established(&self, _: Partition) {
        self.hub.established(self.partition);
    }

    fn barrier(&self, _: Partition, position: Position) {
        self.hub.barrier(self.partition, position);
    }
}

impl Node {
    pub(super) fn new(name: String, keys: &Keys, log: LogLimits, replay: ReplaySettings) -> Self {
        let settings = HubSettings { log, replay, ..HubSettings::default() };
        let (hub, interest) = Hub::new(keys.clone(), settings, HubMetrics::new());
        let reads = Arc::new(Reads::default());
        let broker = Arc::new(Reading { keys: keys.clone(), reads: reads.clone() });
        let worker = Box::pin(hub.clone().run(broker, CancellationToken::new()));
        let brokers = (0..keys.partitions()).map(|_| OneBroker::default()).collect();
        Self { hub, name, keys: keys.clone(), limits: replay.limits, interest, brokers, reads, worker }
    }

    /// Lets the hub's worker run until it waits.
    pub(super) fn work(&mut self) {
        let _ = self.worker.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    pub(super) fn answer(&mut self, primaries: &mut [Primary], which: usize, fail: bool) {
        self.work();
        self.reads.advance(primaries, which, fail);
        self.work();
    }

    /// The line of the session there is, if it is one that can be lost on.
    pub(super) fn line(&self, partition: usize) -> Option<u64> {
        self.brokers[partition].session.as_ref().map(|session| session.line)
    }

    /// The connection that listens is gone, or both are.
    pub(super) fn kill(&mut self, partition: usize, primary: &mut Primary, both: bool) {
        let line = self.brokers[partition].opening.as_ref().map(|(line, _)| *line).or_else(|| self.line(partition));
        if let Some(line) = line.and_then(|line| primary.lines.get_mut(&line)) {
            line.open = false;
            line.commands &= !both;
        }
    }

    pub(super) fn deafen(&mut self, partition: usize, primary: &mut Primary) {
        if let Some(line) = self.line(partition).and_then(|line| primary.lines.get_mut(&line)) {
            line.mute = true;
        }
    }

    /// The node does not hear itself, and finds out.
    pub(super) fn notice_deafness(&mut self, partition: usize, primary: &Primary) {
        let Some(session) = &self.brokers[partition].session else { return };
        if primary.lines.get(&session.line).is_some_and(|line| line.mute) {
            session.hearing.end(Ended::Deaf);
        }
    }

    pub(super) fn sweep(&mut self, partition: usize) {
        if let Some(session) = &mut self.brokers[partition].session {
            session.compare = true;
        }
    }

    /// Says to itself what time it is.
    pub(super) fn barrier(&mut self, partition: usize, primary: &mut Primary) {
        let Some(session) = &self.brokers[partition].session else { return };
        if session.commands(primary) {
            let now = primary.clock(Some(session.line));
            session.heard_from(&now.epoch);
        }
    }

    /// Hears at most `most` of what has arrived. Returns whether there was something.
    pub(super) fn pump(&mut self, partition: usize, primary: &mut Primary, most: usize) -> bool {
        let Some(session) = &mut self.brokers[partition].session else { return false };
        for count in 0..most {
            let Some(line) = primary.lines.get_mut(&session.line) else { return count > 0 };
            match line.queue.pop_front() {
                Some(Pushed::Message { name, bytes }) => {
                    let data = vec![Value::BulkString(name.into_bytes()), Value::BulkString(bytes)];
                    session.hearing.push(PushInfo { kind: PushKind::Message, data });
                }
                Some(Pushed::Subscribed) => {
                    session.doing = match std::mem::replace(&mut session.doing, Doing::Nothing) {
                        Doing::Subscribing(batch) => Doing::Reading(batch),
                        other => other,
                    };
                }
                None if !line.open => {
                    session.hearing.push(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
                    return count > 0;
                }
                None => return count > 0,
            }
        }
        true
    }

    /// One step of a partition's session, or of one of the channels that catch up. Returns whether there was one.
    pub(super) fn step(&mut self, partition: usize, primary: &mut Primary, which: usize) -> bool {
        self.note();
        let number = u16::try_from(partition).unwrap();
        let broker = &mut self.brokers[partition];
        let Some(session) = &mut broker.session else {
            self.open(partition, primary);
            return true;
        };
        if session.hearing.ended().now_or_never().is_some() {
            primary.lines.remove(&session.line);
            broker.session = None;
            self.reads.set(number, None);
            self.hub.lost(number, Lost::Away);
            return true;
        }
        if which % 2 == 1 && !session.catching_up.is_empty() {
            let index = which / 2 % session.catching_up.len();
            session.catch_up(primary, index, self.limits);
            return true;
        }
        session.go_on(primary, &mut broker.wanted, &self.keys)
    }

    /// Takes note of what the hub wants.
    fn note(&mut self) {
        while let Ok(item) = self.interest.try_recv() {
            let (Interest::Subscribe { channel, .. } | Interest::Unsubscribe { channel }) = &item;
            self.brokers[usize::from(self.keys.partition(channel))].wanted.note(item);
        }
    }

    fn open(&mut self, partition: usize, primary: &mut Primary) {
        let number = u16::try_from(partition).unwrap();
        let node = self.keys.node(number, &self.name);
        let broker = &mut self.brokers[partition];
        let Some((line, now)) = broker.opening.take() else {
            let line = primary.connect(&node);
            broker.opening = Some((line, primary.clock(None)));
            return;
        };
        let open = primary.lines.get(&line).is_some_and(|line| line.open && line.commands);
        // The other connection looks at the clock too, and whether it is the same server.
        if !open || primary.clock(None).epoch != now.epoch {
            primary.lines.remove(&line);
            return;
        }
        let sink = Arc::new(At { hub: self.hub.clone(), partition: number });
        let hearing = Arc::new(Hearing::new(sink, number, node));
        hearing.begin(&now.epoch, now.at);
        broker.wanted.new_session();
        let epoch = now.epoch;
        self.reads.set(number, Some(Current { line, hearing: hearing.clone(), epoch: epoch.clone() }));
        broker.session = Some(Session::new(line, hearing, epoch));
    }

    /// Everything that can be done without any client. Returns whether there was something.
    pub(super) fn settle(&mut self, primaries: &mut [Primary]) -> bool {
        let mut moved = false;
        for round in 0..10_000 {
            let mut more = false;
            for (partition, primary) in primaries.iter_mut().enumerate() {
                more |= self.pump(partition, primary, 99);
                more |= self.step(partition, primary, round);
                more |= self.step(partition, primary, round + 1);
            }
            self.work();
            if !self.reads.is_empty() {
                self.answer(primaries, 0, false);
                more = true;
            }
            if !more {
                return moved;
            }
            moved = true;
        }
        panic!("a node never comes to rest");
    }
}
