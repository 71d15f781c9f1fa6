//! One session: two connections to the same server, from opening to whatever ends it. That it is the same server shows in
//! the epochs, which are compared with every answer.
//!
//! The Pub/Sub connection hears; the other one reads, and says to the first what time it is. They are two because a node
//! that is told its own message in the middle of an answer would lose the thread (Redis before 7.2). If either ends, so
//! does the session, and the next one begins from nothing.
//!
//! To attach channels: subscribe, then read, then hear. They are live when all three are done. One that was heard before and
//! has moved since is read from there, by `catch_up`, beside everything else.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisError};
use shared::channel::Channel;
use shared::position::Position;
use shared::redis::client::is_not_permitted;
use shared::redis::functions::is_missing;
use shared::redis::{ClockReply, Server, describe};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::backoff::Backoff;
use super::barrier::Barrier;
use super::catch_up::{self, Moved, MovedQueue, Standing};
use super::ended::Ended;
use super::hearing::{Attached, Compared, Hearing, Missed, Suspicion};
use super::library::Loaded;
use super::read::{self, Lasts};
use super::reader::Reader;
use super::sweep::Sweep;
use super::telling::Telling;
use super::wanted::{Changes, Wanted};
use super::{Current, PARTITION, RedisBroker};
use crate::broker::{InterestQueue, Join, Sink, Snapshot};
use crate::metrics::CaughtUp;

/// How often the node speaks to itself, and so how old an idle stream's cursor can be.
const BARRIER_INTERVAL: Duration = Duration::from_secs(5);
/// Answers on the Pub/Sub connection stand behind the messages that came before them.
const PUBSUB_DEADLINE: Duration = Duration::from_secs(10);

/// An open session. Dropping it closes both connections.
pub(super) struct Session<'a> {
    broker: &'a RedisBroker,
    /// The server of both connections.
    server: Server,
    /// Holds the connection for commands.
    reader: Reader,
    pubsub: MultiplexedConnection,
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
    /// Connects twice, looks at the clock of both, and listens to what this node says to itself.
    pub(super) async fn open(broker: &'a RedisBroker, sink: Arc<dyn Sink>) -> Result<Self, Ended> {
        let server = broker.client.server().await?;
        // The gaps that it may begin with end here. No earlier than events that are lost for having gone to the one before.
        server.settled().await;
        let mut commands = server.connect().await?;
        let node_channel = broker.keys.node(PARTITION, &broker.node);
        let hearing = Arc::new(Hearing::new(sink, node_channel.clone()));
        let push = {
            let hearing = hearing.clone();
            move |info| {
                hearing.push(info);
                Ok::<_, ::redis::aio::SendError>(())
            }
        };
        let mut pubsub = server.connect_with_push(push).await?;
        pubsub.set_response_timeout(PUBSUB_DEADLINE.max(broker.client.settings().command_timeout));
        // On the connection that will hear: it is this server whose epoch counts.
        let (loaded, clock) = first_clock(broker, &mut pubsub).await?;
        let time = loaded.functions.clock(&broker.keys.clock(PARTITION), None);
        let other: ClockReply = time.query_async(&mut commands).await?;
        if other.epoch != clock.epoch {
            return Err(Ended::TwoServers);
        }
        pubsub.subscribe(node_channel).await?;
        hearing.begin(&clock.epoch, clock.position);
        let reader = Reader { connection: commands, epoch: clock.epoch };
        #[allow(clippy::disallowed_methods)] // holds no more than there are channels, and filling it must not wait
        let (moved, catching_up) = mpsc::unbounded_channel();
        let catching_up = Some(catching_up);
        let (barrier, told_refused) = (Barrier::default(), false);
        Ok(Self { broker, server, reader, pubsub, hearing, loaded, moved, catching_up, barrier, told_refused })
    }

    /// For reads.
    pub(super) fn current(&self) -> Current {
        Current { reader: self.reader.clone(), hearing: self.hearing.clone() }
    }

    /// Subscribes to everything wanted, and then to whatever is wanted, until something ends it. Nothing is passed on after
    /// it has returned or was dropped. Redis is back once everything that was wanted at first is live.
    pub(super) async fn run(
        mut self,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        backoff: &mut Backoff,
        telling: &mut Telling,
    ) -> Ended {
        let (broker, reader, hearing, server) =
            (self.broker, self.reader.clone(), self.hearing.clone(), self.server.clone());
        let _silence = Silence(hearing.clone());
        let Some(moved) = self.catching_up.take() else { return Ended::Stopped };
        tokio::select! {
            biased;
            ended = hearing.ended() => ended,
            () = server.left() => Ended::Left,
            ended = self.serve(wanted, interest, backoff, telling) => ended.err().unwrap_or(Ended::Stopped),
            ended = catch_up::run(broker, &reader, &hearing, moved) => ended,
        }
    }

    async fn serve(
        &mut self,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        backoff: &mut Backoff,
        telling: &mut Telling,
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
                    self.broker.is_back(wanted.len(), telling);
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
                missed = hearing.missed() => self.again(missed, wanted, telling),
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
        let mut pubsub = self.pubsub.clone();
        let unsubscribe = async { if names.is_empty() { Ok(()) } else { pubsub.unsubscribe(names).await } };
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
        self.pubsub.subscribe(&names).await?;
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
    fn again(&self, missed: Missed, wanted: &mut Wanted, telling: &mut Telling) {
        self.broker.metrics.silent_losses.increment(missed.len() as u64);
        let say = telling.lost_silently(Instant::now());
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
        let (keys, node) = (&self.broker.keys, &self.broker.node);
        let commands = &mut self.reader.connection;
        match read::lasts(commands, &self.loaded.functions, keys, node, &channels).await {
            Err(error) if is_missing(&error) => {
                self.loaded = self.broker.reload(&self.loaded).await?;
                read::lasts(commands, &self.loaded.functions, keys, node, &channels).await
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
        self.pubsub.unsubscribe(name).await
    }

    /// Says to itself what time it is.
    async fn say_the_time(&mut self) -> Result<Position, Ended> {
        let commands = &mut self.reader.connection;
        let clock: ClockReply = match time(self.broker, &self.loaded).query_async(commands).await {
            Err(error) if is_missing(&error) => {
                self.loaded = self.broker.reload(&self.loaded).await?;
                time(self.broker, &self.loaded).query_async(commands).await?
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

/// Says to this node what time it is.
fn time(broker: &RedisBroker, loaded: &Loaded) -> Cmd {
    loaded.functions.clock(&broker.keys.clock(PARTITION), Some(&broker.node))
}

/// The clock, with the functions loaded again where they are gone.
async fn first_clock(
    broker: &RedisBroker,
    connection: &mut MultiplexedConnection,
) -> Result<(Loaded, ClockReply), RedisError> {
    let key = broker.keys.clock(PARTITION);
    let loaded = broker.library.now();
    match loaded.functions.clock(&key, None).query_async(connection).await {
        Err(error) if is_missing(&error) => {}
        answer => return Ok((loaded, answer?)),
    }
    let loaded = broker.reload(&loaded).await?;
    let clock = loaded.functions.clock(&key, None).query_async(connection).await?;
    Ok((loaded, clock))
}

/// Keeps a connection whose task is still running from passing anything on.
struct Silence(Arc<Hearing>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.end(Ended::Stopped);
    }
}
