//! One gateway: its hub, and for each partition a session as the broker on Redis holds it, in small steps. Who is subscribed,
//! what is heard, when a channel is live and how it joins is decided by the real [`Wanted`], [`Hearing`] and `catch_up`;
//! here is only what of a session is sockets.

use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Waker};

use ::redis::{PushInfo, PushKind, Value};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::reads::{Current, Reading, Reads};
use super::redis::{Now, Primary, Pushed};
use super::*;
use crate::broker::past::{self, PastLimits};
use crate::broker::redis::catch_up::{self, Standing};
use crate::broker::redis::ended::Ended;
use crate::broker::redis::hearing::{Attached, Compared, Hearing, Suspicion};
use crate::broker::redis::wanted::{Changes, Wanted};
use crate::broker::{Between, Last, Lost, Seen, Sink};
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

struct Session {
    line: u64,
    hearing: Arc<Hearing>,
    epoch: Epoch,
    doing: Doing,
    /// Everything that was wanted at first has been said.
    begun: bool,
    compare: bool,
    catching_up: Vec<CatchUp>,
}

/// What a session waits for: one thing at a time.
enum Doing {
    Nothing,
    Subscribing(Vec<(Channel, u64)>),
    Reading(Vec<(Channel, u64)>),
    Attaching(Vec<(Channel, u64)>, Now, Vec<Option<Last>>),
    Comparing(Vec<(Channel, u64)>, Now, Vec<Option<Last>>),
}

struct CatchUp {
    seen: Seen,
    attached: Attached,
    /// What the server said.
    read: Option<(past::Past, Epoch)>,
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
        let hearing = Arc::new(Hearing::new(sink, node));
        hearing.begin(&now.epoch, now.at);
        broker.wanted.new_session();
        let epoch = now.epoch;
        self.reads.set(number, Some(Current { line, hearing: hearing.clone(), epoch: epoch.clone() }));
        let (doing, catching_up) = (Doing::Nothing, Vec::new());
        broker.session = Some(Session { line, hearing, epoch, doing, begun: false, compare: false, catching_up });
    }

    /// Everything that can be done without any client. Returns whether there was something.
    pub(super) fn settle(&mut self, primaries: &mut [Primary]) -> bool {
        let mut moved = false;
        for round in 0..10_000 {
            let mut more = false;
            for (partition, primary) in primaries.iter_mut().enumerate() {
                more |= self.pump(partition, primary, 99);
                more |= self.step(partition, primary, round);
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

impl Session {
    fn commands(&self, primary: &Primary) -> bool {
        let alive = primary.lines.get(&self.line).is_some_and(|line| line.commands);
        if !alive {
            self.hearing.end(Ended::Failed("the model says so".into()));
        }
        alive
    }

    fn heard_from(&self, epoch: &Epoch) {
        if *epoch != self.epoch {
            self.hearing.end(Ended::Epoch);
        }
    }

    fn lasts(&self, primary: &mut Primary, batch: &[(Channel, u64)]) -> Option<(Now, Vec<Option<Last>>)> {
        if !self.commands(primary) {
            return None;
        }
        let now = primary.clock(Some(self.line));
        primary.expire();
        Some((now, batch.iter().map(|(channel, _)| primary.last(channel)).collect()))
    }

    /// As `serve` does, one step at a time.
    fn go_on(&mut self, primary: &mut Primary, wanted: &mut Wanted, keys: &Keys) -> bool {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Nothing => return self.next(primary, wanted, keys),
            Doing::Subscribing(batch) => {
                self.doing = Doing::Subscribing(batch);
                let dead = primary.lines.get(&self.line).is_none_or(|line| !line.open && line.queue.is_empty());
                if dead {
                    self.hearing.end(Ended::Closed);
                }
                return dead;
            }
            Doing::Reading(batch) => {
                if let Some((now, lasts)) = self.lasts(primary, &batch) {
                    self.doing = Doing::Attaching(batch, now, lasts);
                }
            }
            Doing::Attaching(batch, now, lasts) => self.attach(batch, &now, lasts, primary.evicts, keys),
            Doing::Comparing(batch, now, lasts) => {
                let compared = batch.into_iter().zip(lasts).filter_map(|((channel, generation), last)| {
                    let name = keys.channel(&channel).into_bytes();
                    Some(Compared { name, generation, last: last?.position })
                });
                self.heard_from(&now.epoch);
                self.hearing.compare_at(now.at, compared.collect());
            }
        }
        true
    }

    fn next(&mut self, primary: &mut Primary, wanted: &mut Wanted, keys: &Keys) -> bool {
        if wanted.is_behind() {
            let Changes { unsubscribe, subscribe } = wanted.take();
            let names: Vec<String> = unsubscribe.iter().map(|channel| keys.channel(channel)).collect();
            self.hearing.ignore(&names);
            primary.unsubscribe(self.line, &names);
            if !subscribe.is_empty() {
                let listened: Vec<String> = subscribe.iter().map(|(channel, _)| keys.channel(channel)).collect();
                let zipped = subscribe.iter().zip(&listened);
                self.hearing.listen(zipped.map(|((channel, generation), name)| (name, channel, *generation)));
                primary.subscribe(self.line, &subscribe);
                self.doing = Doing::Subscribing(subscribe);
            }
            return true;
        }
        if !self.begun {
            self.begun = true;
            if self.commands(primary) {
                let now = primary.clock(Some(self.line));
                self.heard_from(&now.epoch);
                self.hearing.establish_at(now.at);
            }
            return true;
        }
        if let Some(missed) = self.hearing.missed().now_or_never() {
            missed.into_iter().for_each(|(channel, generation)| wanted.again(channel, generation));
            return true;
        }
        if let Some(suspicion) = self.hearing.suspicious().now_or_never() {
            let heard = self.hearing.progress().heard;
            if self.commands(primary) {
                let now = primary.clock(Some(self.line));
                self.heard_from(&now.epoch);
                if suspicion == Suspicion::Order && now.at < heard {
                    self.hearing.end(Ended::Order);
                }
            }
            return true;
        }
        if std::mem::take(&mut self.compare) {
            let channels = wanted.subscribed().into_iter();
            let mut batch: Vec<(Channel, u64)> =
                channels.filter_map(|channel| Some((channel.clone(), wanted.subscribed_as(&channel)?))).collect();
            batch.sort_by_key(|(_, generation)| *generation);
            if let Some((now, lasts)) = self.lasts(primary, &batch) {
                self.doing = Doing::Comparing(batch, now, lasts);
            }
            return true;
        }
        false
    }

    fn attach(&mut self, batch: Vec<(Channel, u64)>, now: &Now, lasts: Vec<Option<Last>>, evicts: bool, keys: &Keys) {
        let (mut live, mut moved) = (Vec::new(), Vec::new());
        for ((channel, generation), last) in batch.into_iter().zip(lasts) {
            let snapshot = Snapshot { clock: now.at, time_ms: now.time_ms, evicts, last, entries: Vec::new() };
            let standing = catch_up::standing(self.hearing.seen(&channel, generation), &snapshot.evidence());
            let name = keys.channel(&channel).into_bytes();
            let mut attached = Attached { name, channel, generation, snapshot, join: Join::Anew };
            match standing {
                Standing::Known(join) => {
                    attached.join = join;
                    live.push(attached);
                }
                Standing::Moved(seen) => moved.push(CatchUp { seen, attached, read: None }),
            }
        }
        self.heard_from(&now.epoch);
        self.hearing.live_at(now.at, live, moved.len());
        self.catching_up.append(&mut moved);
    }

    /// To the server, or back.
    fn catch_up(&mut self, primary: &mut Primary, index: usize, limits: PastLimits) {
        if !self.commands(primary) {
            return;
        }
        let moved = &mut self.catching_up[index];
        if moved.read.is_none() {
            let (line, channel, mut epoch) = (self.line, moved.attached.channel.clone(), None);
            let page = |between: Between, limit: usize| {
                let (snapshot, of) = primary.read(line, &channel, between, limit);
                epoch = Some(of);
                ready(Ok::<_, std::convert::Infallible>(snapshot))
            };
            let after = moved.seen.last.unwrap_or(Position::ZERO);
            let Ok(past) = past::read(after, limits, page).now_or_never().unwrap();
            moved.read = epoch.map(|epoch| (past, epoch));
            return;
        }
        let CatchUp { seen, mut attached, read } = self.catching_up.remove(index);
        let Some((past, epoch)) = read else { return };
        if epoch != self.epoch {
            return self.hearing.end(Ended::Epoch);
        }
        (attached.snapshot, attached.join) = catch_up::join(past, seen);
        self.hearing.caught_up(attached.snapshot.clock, attached);
    }
}
