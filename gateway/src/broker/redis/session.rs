//! One session of one partition: two connections to the same server, from opening to whatever ends it. That it is the same server
//! shows in the epochs, which are compared with every answer. Sessions of other partitions there may be on the same two (`links`).
//!
//! The Pub/Sub connection hears; the other one reads, and says to the first what time it is. They are two because a node
//! that is told its own message in the middle of an answer would lose the thread (Redis before 7.2). If either ends, so
//! does the session, and the next one begins from nothing.
//!
//! To attach channels: subscribe, then read, then hear. They are live when all three are done. One that was heard before and
//! has moved since is read from there, by `catch_up`, beside everything else.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, RedisError};
use shared::channel::Channel;
use shared::position::Position;
use shared::redis::client::is_not_permitted;
use shared::redis::functions::is_missing;
use shared::redis::{ClockReply, Server, describe};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

mod ends;

pub(super) use self::ends::Before;
use self::ends::{Rest, first_clock};
use super::backoff::Backoff;
use super::barrier::Barrier;
use super::catch_up::{self, Moved, MovedQueue, Standing};
use super::ended::Ended;
use super::hearing::{Attached, Compared, Hearing, Missed, Suspicion};
use super::library::Loaded;
use super::links::{Link, PUBSUB_DEADLINE};
use super::read::{self, Lasts};
use super::reader::Reader;
use super::sweep::Sweep;
use super::wanted::{Changes, Wanted};
use super::{Current, RedisBroker};
use crate::broker::{InterestQueue, Join, Partition, Sink, Snapshot};
use crate::metrics::CaughtUp;

/// How often the node speaks to itself, and so how old an idle stream's cursor can be.
const BARRIER_INTERVAL: Duration = Duration::from_secs(5);

/// An open session.
pub(super) struct Session<'a> {
    broker: &'a RedisBroker,
    partition: Partition,
    /// Its connection for commands.
    reader: Reader,
    /// Both connections.
    link: Arc<Link>,
    hearing: Arc<Hearing>,
    loaded: Loaded,
    /// To `catch_up`. A channel of this session stands in it once, or once more for each time that it was missed.
    moved: mpsc::UnboundedSender<Moved>,
    /// Its other end, until `run` takes it.
    catching_up: Option<MovedQueue>,
    barrier: Barrier,
    /// The log has said that this node's user may not read some channel.
    told_refused: bool,
}

impl<'a> Session<'a> {
    /// Finds a link to the partition's server, looks at the clock by both connections, and listens to what this node says to itself.
    /// `before`: the session before this one.
    pub(super) async fn open(
        broker: &'a RedisBroker,
        partition: Partition,
        before: Option<&Before>,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, Ended> {
        let server = broker.client.server_of(partition).await?;
        // The gaps that it may begin with end here. No earlier than events that are lost for having gone to the one before.
        server.settled().await;
        let link = broker.links.to(&server, &broker.keys, partition).await?;
        let hearing = Arc::new(Hearing::new(sink, partition, broker.keys.node(partition, &broker.node)));
        link.begin(partition, &hearing);
        let rest = Rest { partition, link: link.clone(), hearing: hearing.clone() };
        match Self::begin(broker, partition, &server, before, link, hearing).await {
            Err(ended) => {
                rest.clear(broker, &ended).await;
                Err(ended)
            }
            session => session,
        }
    }

    async fn begin(
        broker: &'a RedisBroker,
        partition: Partition,
        server: &Server,
        before: Option<&Before>,
        link: Arc<Link>,
        hearing: Arc<Hearing>,
    ) -> Result<Self, Ended> {
        // On the connection that will hear: it is this server whose epoch counts.
        let (loaded, clock) = first_clock(broker, partition, server, before, &mut link.pubsub.clone()).await?;
        let time = loaded.functions.clock(&broker.keys.clock(partition), None);
        let connection = link.commands.clone();
        let other: ClockReply = time.query_async(&mut connection.clone()).await?;
        if other.epoch != clock.epoch {
            return Err(Ended::TwoServers);
        }
        link.subscribe(&[broker.keys.node(partition, &broker.node)]).await?;
        server.believe();
        hearing.begin(&clock.epoch, clock.position);
        let reader = Reader { connection, server: server.clone(), partition, epoch: clock.epoch };
        #[allow(clippy::disallowed_methods)] // holds no more than there are channels, and filling it must not wait
        let (moved, catching_up) = mpsc::unbounded_channel();
        let catching_up = Some(catching_up);
        let (barrier, told_refused) = (Barrier::default(), false);
        Ok(Self { broker, partition, reader, link, hearing, loaded, moved, catching_up, barrier, told_refused })
    }

    /// For reads.
    pub(super) fn current(&self) -> Current {
        Current { reader: self.reader.clone(), hearing: self.hearing.clone() }
    }

    /// Of what the next one has to know.
    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// For when it has ended.
    pub(super) fn rest(&self) -> Rest {
        Rest { partition: self.partition, link: self.link.clone(), hearing: self.hearing.clone() }
    }

    /// Subscribes to everything wanted, and then to whatever is wanted, until something ends it. Nothing is passed on after
    /// it has returned or was dropped. Redis is back once everything that was wanted at first is live.
    pub(super) async fn run(
        mut self,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        backoff: &mut Backoff,
    ) -> Ended {
        let (broker, reader, hearing) = (self.broker, self.reader.clone(), self.hearing.clone());
        let _silence = Silence(hearing.clone());
        let Some(moved) = self.catching_up.take() else { return Ended::Stopped };
        tokio::select! {
            biased;
            ended = hearing.ended() => ended,
            () = reader.server.left() => Ended::Left,
            ended = self.serve(wanted, interest, backoff) => ended.err().unwrap_or(Ended::Stopped),
            ended = catch_up::run(broker, &reader, &hearing, moved) => ended,
        }
    }

    async fn serve(
        &mut self,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        backoff: &mut Backoff,
    ) -> Result<(), Ended> {
        wanted.new_session();
        while wanted.is_behind() {
            self.say(wanted).await?;
        }
        // A node without channels has to hear itself too.
        let position = self.say_the_time().await?;
        self.hearing.establish_at(position);
        let hearing = self.hearing.clone();
        let mut is_established = false;
        let mut barrier = interval(BARRIER_INTERVAL);
        barrier.set_missed_tick_behavior(MissedTickBehavior::Delay);
        barrier.reset();
        let mut sweep = Sweep::new(self.broker.check_interval, Instant::now(), fastrand::f64());
        loop {
            // What came and went meanwhile need not be said.
            while let Ok(item) = interest.try_recv() {
                wanted.note(item);
            }
            tokio::select! {
                biased;
                () = hearing.established(), if !is_established => {
                    is_established = true;
                    self.broker.is_back(self.partition, wanted.len());
                }
                _ = barrier.tick() => {
                    // For seconds now, and this node hears itself.
                    if self.barrier.is_heard(hearing.progress()) {
                        backoff.reset();
                    }
                    self.say_the_time().await?;
                }
                () = self.barrier.due() => self.barrier.check(hearing.progress())?,
                () = ready(()), if wanted.is_behind() => self.say(wanted).await?,
                missed = hearing.missed() => self.again(missed, wanted),
                () = sleep_until(sweep.next()) => {
                    let batch = sweep.batch(Instant::now(), wanted);
                    self.compare(batch).await?;
                }
                item = interest.recv() => match item {
                    Some(item) => wanted.note(item),
                    None => return Ok(()),
                },
                // Last, so that a flood of such messages keeps nothing else from being done.
                suspicion = hearing.suspicious() => self.look_into(suspicion).await?,
            }
        }
    }

    /// Says to Redis what changed. Both commands are on their way at once.
    async fn say(&mut self, wanted: &mut Wanted) -> Result<(), Ended> {
        let Changes { unsubscribe, subscribe } = wanted.take();
        let names: Vec<String> = unsubscribe.iter().map(|channel| self.broker.keys.channel(channel)).collect();
        self.hearing.ignore(&names);
        let link = self.link.clone();
        let unsubscribe = async { if names.is_empty() { Ok(()) } else { link.unsubscribe(&names).await } };
        let (unsubscribed, subscribed) = tokio::join!(unsubscribe, self.subscribe(subscribe, wanted));
        unsubscribed?;
        subscribed
    }

    /// Where this node's user may not read one channel of a batch, the others are subscribed one by one, and the one is left
    /// out: its streams are told to come back, and nobody else's are harmed.
    async fn subscribe(&mut self, batch: Vec<(Channel, u64)>, wanted: &mut Wanted) -> Result<(), Ended> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.attach(&batch).await {
            Err(error) if is_not_permitted(&error) => {}
            attached => return Ok(attached?),
        }
        for one in batch.chunks(1) {
            match self.attach(one).await {
                Err(error) if is_not_permitted(&error) => {
                    wanted.leave_out(&one[0].0);
                    self.leave_out(&one[0].0, &error).await?;
                }
                attached => attached?,
            }
        }
        Ok(())
    }

    /// Subscribes, then reads; hearing makes them live, at once or when they have caught up.
    async fn attach(&mut self, batch: &[(Channel, u64)]) -> Result<(), RedisError> {
        let keys = &self.broker.keys;
        let names: Vec<String> = batch.iter().map(|(channel, _)| keys.channel(channel)).collect();
        self.hearing.listen(batch.iter().zip(&names).map(|((channel, generation), name)| (name, channel, *generation)));
        self.link.subscribe(&names).await?;
        if self.link.is_shared() {
            let late = |_| RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
            timeout(PUBSUB_DEADLINE, self.hearing.acknowledged(&names)).await.map_err(late)?;
        }
        let Lasts { clock, evicts, lasts } = self.lasts(batch).await?;
        let (mut attached, mut moved) = (Vec::new(), Vec::new());
        for (((channel, generation), last), name) in batch.iter().zip(lasts).zip(names) {
            let (time_ms, entries) = (clock.time_ms, Vec::new());
            let snapshot = Snapshot { clock: clock.position, time_ms, evicts, last, entries };
            let standing = catch_up::standing(self.hearing.seen(channel, *generation), &snapshot.evidence());
            let (channel, generation) = (channel.clone(), *generation);
            let mut one = Attached { name: name.into_bytes(), channel, generation, snapshot, join: Join::Anew };
            match standing {
                Standing::Known(join) => {
                    catch_up::count(&self.broker.metrics, join, CaughtUp::Unmoved);
                    one.join = join;
                    attached.push(one);
                }
                Standing::Moved(seen) => moved.push(Moved { seen, attached: one }),
            }
        }
        // First, since another epoch ends the session, and then nothing becomes live any more.
        self.heard_from(&clock);
        self.hearing.live_at(clock.position, attached, moved.len());
        for moved in moved {
            // Its other end lives as long as the session.
            let _ = self.moved.send(moved);
        }
        Ok(())
    }

    /// Reads the last positions of channels that are subscribed; hearing compares them with what was passed on.
    async fn compare(&mut self, batch: Vec<(Channel, u64)>) -> Result<(), RedisError> {
        if batch.is_empty() {
            return Ok(());
        }
        let Lasts { clock, lasts, .. } = self.lasts(&batch).await?;
        let compared = batch.into_iter().zip(lasts).filter_map(|((channel, generation), last)| {
            let name = self.broker.keys.channel(&channel).into_bytes();
            Some(Compared { name, generation, last: last?.position })
        });
        let compared = compared.collect();
        self.heard_from(&clock);
        self.hearing.compare_at(clock.position, compared);
        Ok(())
    }

    /// Messages of channels went missing, and they are not live any more: they are attached once more.
    fn again(&self, missed: Missed, wanted: &mut Wanted) {
        self.broker.metrics.silent_losses.increment(missed.len() as u64);
        let say = self.broker.telling().lost_silently(Instant::now());
        for (channel, generation) in missed {
            if say {
                tracing::error!(%channel, "messages of a channel did not arrive, though its subscription stands; reading them \
                    and subscribing again");
            }
            wanted.again(channel, generation);
        }
    }

    async fn lasts(&mut self, batch: &[(Channel, u64)]) -> Result<Lasts, RedisError> {
        let channels: Vec<Channel> = batch.iter().map(|(channel, _)| channel.clone()).collect();
        let (keys, node, partition) = (&self.broker.keys, &self.broker.node, self.partition);
        let mut commands = self.reader.connection.clone();
        match read::lasts(&mut commands, &self.loaded.functions, keys, node, partition, &channels).await {
            Err(error) if is_missing(&error) => {
                self.loaded = self.reader.reload(self.broker, &self.loaded).await?;
                read::lasts(&mut commands, &self.loaded.functions, keys, node, partition, &channels).await
            }
            answer => answer,
        }
    }

    async fn leave_out(&mut self, channel: &Channel, error: &RedisError) -> Result<(), RedisError> {
        let name = self.broker.keys.channel(channel);
        self.hearing.ignore(std::slice::from_ref(&name));
        if std::mem::replace(&mut self.told_refused, true) {
            tracing::debug!(%channel, reason = %describe(error), "this node's user may not read a channel");
        } else {
            tracing::warn!(%channel, reason = %describe(error),
                "this node's user may not read a channel; its streams are told to come back, others go on");
        }
        // It may have been subscribed, and not read.
        self.link.unsubscribe(&[name]).await
    }

    /// Says to this node what time it is.
    fn time(&self) -> Cmd {
        self.loaded.functions.clock(&self.broker.keys.clock(self.partition), Some(&self.broker.node))
    }

    async fn say_the_time(&mut self) -> Result<Position, Ended> {
        let mut commands = self.reader.connection.clone();
        let clock: ClockReply = match self.time().query_async(&mut commands).await {
            Err(error) if is_missing(&error) => {
                self.loaded = self.reader.reload(self.broker, &self.loaded).await?;
                self.time().query_async(&mut commands).await?
            }
            answer => answer?,
        };
        self.heard_from(&clock);
        Ok(clock.position)
    }

    /// A message came that this session cannot have: either the data have begun another life, which the server tells, or
    /// somebody wrote it by hand, and it is dropped.
    async fn look_into(&mut self, suspicion: Suspicion) -> Result<(), Ended> {
        let heard = self.hearing.progress().heard;
        // Another epoch ends the session there.
        let clock = self.say_the_time().await?;
        if suspicion == Suspicion::Order && clock < heard {
            return Err(Ended::Order);
        }
        tracing::debug!(?suspicion, "dropped a message that was not published by sse_publish");
        Ok(())
    }

    /// A clock was read, and said to this node. Another epoch than that of the Pub/Sub connection is another server, or
    /// another life of its data.
    fn heard_from(&mut self, clock: &ClockReply) {
        if clock.epoch != self.reader.epoch {
            return self.hearing.end(Ended::Epoch);
        }
        self.barrier.said(clock.position, self.hearing.progress());
    }
}

/// Keeps a connection whose task is still running from passing anything on.
struct Silence(Arc<Hearing>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.end(Ended::Stopped);
    }
}
