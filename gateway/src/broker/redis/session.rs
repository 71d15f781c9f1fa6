//! One session: two connections to the same server, from opening to whatever ends it.
//!
//! The Pub/Sub connection hears; the other one reads, and says to the first what time it is. They are two because a node
//! that is told its own message in the middle of an answer would lose the thread (Redis before 7.2). If either ends, so
//! does the session, and the next one begins from nothing.
//!
//! To attach channels: subscribe, then read, then hear. They are live when all three are done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use shared::channel::Channel;
use shared::position::Position;
use shared::redis::functions::{Functions, is_missing};
use shared::redis::{ClockReply, describe};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::backoff::Backoff;
use super::hearing::Hearing;
use super::wanted::{BATCH, Changes, Wanted};
use super::{PARTITION, RedisBroker, read};
use crate::broker::{InterestQueue, Sink};
use crate::metrics::SessionEnd;

/// How often the node speaks to itself, and so how old an idle stream's cursor can be.
const BARRIER_INTERVAL: Duration = Duration::from_secs(5);
/// A node that does not hear itself for so long, nor anything else, is deaf.
const HEAR_DEADLINE: Duration = Duration::from_secs(10);
/// Answers on the Pub/Sub connection stand behind the messages that came before them.
const PUBSUB_DEADLINE: Duration = Duration::from_secs(10);

/// Why a session is over, or did not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// This node stops.
    Stopped,
    /// The server closed the Pub/Sub connection.
    Closed,
    /// A call failed.
    Failed(String),
    /// This node did not hear what it said to itself.
    Deaf,
    /// The data have begun another life.
    Epoch,
    /// A position came that was not above the last one.
    Order,
    /// The server pushed something that is none of its messages.
    Protocol,
}

impl Ended {
    pub(super) fn reason(&self) -> SessionEnd {
        match self {
            Self::Stopped | Self::Closed => SessionEnd::Closed,
            Self::Failed(_) => SessionEnd::Failed,
            Self::Deaf => SessionEnd::Deaf,
            Self::Epoch => SessionEnd::Epoch,
            Self::Order => SessionEnd::Order,
            Self::Protocol => SessionEnd::Protocol,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopping"),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Failed(reason) => f.write_str(reason),
            Self::Deaf => f.write_str("what this node says to itself does not arrive"),
            Self::Epoch => f.write_str("its data have begun another life"),
            Self::Order => f.write_str("a position came out of order"),
            Self::Protocol => f.write_str("it sent something that is no message"),
        }
    }
}

impl From<RedisError> for Ended {
    fn from(error: RedisError) -> Self {
        Self::Failed(describe(&error))
    }
}

/// An open session. Dropping it closes both connections.
pub(super) struct Session<'a> {
    broker: &'a RedisBroker,
    commands: MultiplexedConnection,
    pubsub: MultiplexedConnection,
    hearing: Arc<Hearing>,
    functions: Functions,
    /// The barrier that was said and not heard yet.
    unheard: Option<Unheard>,
}

struct Unheard {
    position: Position,
    /// What had been heard when this was last looked at.
    pushes: u64,
    look: Instant,
}

impl<'a> Session<'a> {
    /// Connects twice, looks at the clock, and listens to what this node says to itself.
    pub(super) async fn open(broker: &'a RedisBroker, sink: Arc<dyn Sink>) -> Result<Self, Ended> {
        let commands = broker.client.connect().await?;
        let node_channel = broker.keys.node(PARTITION, &broker.node);
        let hearing = Arc::new(Hearing::new(sink, node_channel.clone()));
        let push = {
            let hearing = hearing.clone();
            move |info| {
                hearing.push(info);
                Ok::<_, ::redis::aio::SendError>(())
            }
        };
        let mut pubsub = broker.client.connect_with_push(push).await?;
        pubsub.set_response_timeout(PUBSUB_DEADLINE.max(broker.client.settings().command_timeout));
        // On the connection that will hear: it is this server whose epoch counts.
        let (functions, clock) = first_clock(broker, &mut pubsub).await?;
        pubsub.subscribe(node_channel).await?;
        hearing.begin(&clock.epoch, clock.position);
        Ok(Self { broker, commands, pubsub, hearing, functions, unheard: None })
    }

    /// For reads.
    pub(super) fn commands(&self) -> MultiplexedConnection {
        self.commands.clone()
    }

    /// Subscribes to everything wanted, and then to whatever is wanted, until something ends it. Nothing is passed on after
    /// it has returned or was dropped.
    pub(super) async fn run(
        mut self,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        backoff: &mut Backoff,
    ) -> Ended {
        let hearing = self.hearing.clone();
        let _silence = Silence(hearing.clone());
        tokio::select! {
            biased;
            ended = hearing.ended() => ended,
            ended = self.serve(wanted, interest, backoff) => ended,
        }
    }

    async fn serve(&mut self, wanted: &mut Wanted, interest: &mut InterestQueue, backoff: &mut Backoff) -> Ended {
        match self.try_serve(wanted, interest, backoff).await {
            Ok(()) => Ended::Stopped,
            Err(ended) => ended,
        }
    }

    async fn try_serve(
        &mut self,
        wanted: &mut Wanted,
        interest: &mut InterestQueue,
        backoff: &mut Backoff,
    ) -> Result<(), Ended> {
        // A node without channels hears itself too, or it would never be ready.
        self.say_the_time().await?;
        for batch in wanted.all().chunks(BATCH) {
            self.subscribe(batch.to_vec()).await?;
        }
        let mut barrier = interval(BARRIER_INTERVAL);
        barrier.set_missed_tick_behavior(MissedTickBehavior::Delay);
        barrier.reset();
        let mut items = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                _ = barrier.tick() => self.say_the_time().await?,
                () = look(self.unheard.as_ref()) => self.listen_for_itself(backoff)?,
                count = interest.recv_many(&mut items, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    let Changes { unsubscribe, subscribe } = wanted.apply(std::mem::take(&mut items));
                    self.unsubscribe(&unsubscribe).await?;
                    self.subscribe(subscribe).await?;
                }
            }
        }
    }

    async fn subscribe(&mut self, batch: Vec<(Channel, u64)>) -> Result<(), Ended> {
        if batch.is_empty() {
            return Ok(());
        }
        let keys = &self.broker.keys;
        let names: Vec<String> = batch.iter().map(|(channel, _)| keys.channel(channel)).collect();
        self.hearing.listen(names.iter().cloned().zip(batch.iter().map(|(channel, _)| channel.clone())));
        self.pubsub.subscribe(names).await?;
        let channels: Vec<Channel> = batch.iter().map(|(channel, _)| channel.clone()).collect();
        let (clock, lasts) =
            read::lasts(&mut self.commands, &self.functions, keys, &self.broker.node, &channels).await?;
        let channels = batch.into_iter().zip(lasts).map(|((channel, generation), last)| (channel, generation, last));
        self.hearing.live_at(clock.position, channels.collect());
        self.expect(clock.position);
        Ok(())
    }

    async fn unsubscribe(&mut self, channels: &[Channel]) -> Result<(), Ended> {
        if channels.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = channels.iter().map(|channel| self.broker.keys.channel(channel)).collect();
        self.hearing.ignore(&names);
        Ok(self.pubsub.unsubscribe(names).await?)
    }

    /// Says to itself what time it is; [`listen_for_itself`](Self::listen_for_itself) looks whether it was heard.
    async fn say_the_time(&mut self) -> Result<(), Ended> {
        let cmd = self.functions.clock(&self.broker.keys.clock(PARTITION), Some(&self.broker.node));
        let clock: ClockReply = cmd.query_async(&mut self.commands).await?;
        self.expect(clock.position);
        Ok(())
    }

    fn expect(&mut self, position: Position) {
        let (pushes, _) = self.hearing.progress();
        // One that is still awaited keeps its deadline.
        let look = self.unheard.as_ref().map_or_else(|| Instant::now() + HEAR_DEADLINE, |unheard| unheard.look);
        let pushes = self.unheard.as_ref().map_or(pushes, |unheard| unheard.pushes);
        self.unheard = Some(Unheard { position, pushes, look });
    }

    /// At the deadline: heard, or at least something was (a backlog in front of it), or deaf.
    fn listen_for_itself(&mut self, backoff: &mut Backoff) -> Result<(), Ended> {
        let Some(unheard) = &mut self.unheard else { return Ok(()) };
        let (pushes, barrier) = self.hearing.progress();
        if barrier >= unheard.position {
            self.unheard = None;
            backoff.reset();
            return Ok(());
        }
        if pushes == unheard.pushes {
            return Err(Ended::Deaf);
        }
        (unheard.pushes, unheard.look) = (pushes, Instant::now() + HEAR_DEADLINE);
        Ok(())
    }
}

/// When the barrier has to be looked for; never, where none is awaited.
async fn look(unheard: Option<&Unheard>) {
    match unheard {
        Some(unheard) => sleep_until(unheard.look).await,
        None => std::future::pending().await,
    }
}

/// The clock, with the functions loaded again where they are gone.
async fn first_clock(
    broker: &RedisBroker,
    connection: &mut MultiplexedConnection,
) -> Result<(Functions, ClockReply), RedisError> {
    let key = broker.keys.clock(PARTITION);
    let functions = broker.functions();
    match functions.clock(&key, None).query_async(connection).await {
        Err(error) if is_missing(&error) => {}
        answer => return Ok((functions, answer?)),
    }
    // On a connection that nobody else uses: loading watches a key.
    let functions = Functions::load(&mut broker.client.connect().await?, &broker.keys).await?;
    broker.set_functions(functions.clone());
    let clock = functions.clock(&key, None).query_async(connection).await?;
    Ok((functions, clock))
}

/// Keeps a connection whose task is still running from passing anything on.
struct Silence(Arc<Hearing>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.end(Ended::Stopped);
    }
}
