//! The publisher over Redis: [`Publisher`], what a backend in Rust calls, and what carries out the HTTP routes.
//!
//! | module | what it holds |
//! |---|---|
//! | [`primaries`] | which server a partition is on; the only one where there is no Redis Cluster |
//! | [`links`] | the pool of connections to one server, each fit for use or gone; and which way a publish takes |
//! | [`target`] | where those connections lead |
//! | [`line`] | the one connection that small publishes share |
//! | [`library`] | how the functions are called on one server, and loading them again where they are gone |
//! | [`failure`] | what an error of Redis means: for the caller, for the connection, for another try |
//! | [`item`] | one event on its way: its command, its answer |
//! | [`replicas`] | waiting for those that are to have an event before it is acknowledged |
//! | [`batch`] | a batch, split where partitions are on several servers |
//! | [`pipeline`] | some events in one round trip, with tries until a deadline |
//! | [`tries`] | how often, and what lies between them |
//! | [`history`] | a channel's history, read and erased |
//! | [`cancel`] | producers are told to stop |
//! | [`orders`] | nodes are told what to do with streams and tokens; what tickets stand for |
//! | [`control`] | how a node hears that |
//! | [`needs`] | which commands all of this takes, for who asks whether a user may |
//! | [`census`] | all nodes are asked for their connections |
//! | [`node`] | how a node says that it is there, and answers |
//! | [`listening`] | the one connection on which those who wait for that hear of it |
//!
//! It decides nothing about channels, and keeps nothing between two calls but connections and those who wait.

mod batch;
mod cancel;
mod census;
mod control;
mod failure;
mod history;
mod item;
mod library;
mod line;
mod links;
mod listening;
pub(crate) mod needs;
mod node;
mod orders;
mod pipeline;
mod primaries;
mod replicas;
mod target;
mod tries;

use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use shared::channel::Channel;
use shared::keys::{Keys, KeysError};
use shared::redis::start::{StartError, start};
use shared::redis::{Client, ClientError, Settings};

use self::census::Turns;
use self::item::OwnKeys;
use self::listening::Listening;
use self::primaries::Primaries;
use crate::{Event, Publication, Publish, PublishError, Receipt};

/// Publishes events to Redis. Cheap to clone; clones share their connections, of which there are 17 at most: one for
/// all small publishes, which are written together, and a pool for the rest. To a Redis Cluster there are so many for each
/// primary.
///
/// ```
/// use publisher::{Event, Publisher};
/// use shared::channel::Channel;
/// use shared::redis::Settings;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = testkit::RedisServer::start().await;
/// # let url = server.url();
/// # let url = url.as_str();
/// let publisher = Publisher::connect(&Settings::new(url)).await?;
///
/// let user = Channel::user("42")?;
/// let receipt = publisher.publish(&user, Event::text("you have mail").named("notification")).await?;
/// assert_eq!(receipt.receivers, 0, "nobody is connected; the event is kept in history");
///
/// // What streams say as the event's id.
/// let cursor = receipt.cursor.ok_or("durable events have a cursor")?;
/// println!("{cursor}");
/// # assert_eq!(server.cli(&["XLEN", "sse:user:42"]).await, "1");
/// # Ok(())
/// # }
/// ```
///
/// # How long a call takes
///
/// At most `redis.command_timeout`, whatever happens: waiting for a connection, up to three tries, and what lies between
/// them. A server that refuses connections is told of within a fraction of a second. A batch may take so long for every
/// 500 events, but gives up all the rest with the first that could not be had; on a Redis Cluster, the rest of that partition.
/// While a partition moves from one server of it to another, a call goes on trying for all that time.
///
/// # Exactly once
///
/// A try whose answer is lost is repeated, so every durable event carries an idempotency key: the caller's, or one of
/// the publisher's own, which Redis keeps for a minute or two. That costs some 210 bytes there an event: 13 MB at 1,000
/// events/s. The receipt tells of the event alone: a repeated try is no `duplicate`. With a key of the caller's own nobody
/// can tell whether it was this call or one before it that published; then `duplicate` is true.
///
/// After [`PublishError::Unavailable`] an event may have been published all the same, its answer lost or still to come.
/// Whoever calls again gives it a [`once`](Event::once) key of their own, the first time too.
///
/// An ephemeral event has no key, and is not repeated once it may have been sent.
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    keys: Keys,
    primaries: Arc<Primaries>,
    own_keys: OwnKeys,
    /// As in the settings.
    wait_replicas: u8,
    /// Those who wait hold it too.
    listening: Arc<Listening>,
    /// To ask all nodes.
    turns: Turns,
}

/// Why there is no publisher.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No client can be made of the settings.
    #[error(transparent)]
    Settings(#[from] ClientError),
    /// No names can be made of the settings.
    #[error("redis.prefix: {0}")]
    Keys(#[from] KeysError),
    /// Redis cannot be had, or will not do.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Publisher {
    /// Connects, looks whether the server will do, and loads the functions where they are absent or older. Waits for the
    /// server for as long as `redis.wait` says.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        let client = Client::new(settings)?;
        let keys = settings.keys()?;
        let started = start(&client, &keys).await?;
        let primaries = Arc::new(Primaries::new(&client, started.functions));
        let own_keys = OwnKeys::new(settings.command_timeout);
        let listening = Listening::new(&client, &keys, &primaries);
        let (wait_replicas, turns) = (settings.wait_replicas, Turns::new());
        let inner = Inner { client, keys, primaries, own_keys, wait_replicas, listening, turns };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Publishes one event.
    ///
    /// The future may be dropped before it is done: then the event was published, or will be, or not.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, channel: &Channel, event: Event) -> Result<Receipt, PublishError> {
        self.publish_one(channel, event.into_publication()?).await
    }

    /// Publishes one event to whoever is connected now, and keeps nothing of it.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_ephemeral(&self, channel: &Channel, event: Event) -> Result<Receipt, PublishError> {
        self.publish(channel, event.ephemeral()).await
    }

    /// Publishes events in this order, in far fewer round trips than one after the other: see [`Publish::publish_batch`].
    pub async fn publish_batch(&self, batch: Vec<(Channel, Event)>) -> Vec<Result<Receipt, PublishError>> {
        let mut refused = Vec::new();
        let mut publications = Vec::with_capacity(batch.len());
        for (place, (channel, event)) in batch.into_iter().enumerate() {
            match event.into_publication() {
                Ok(publication) => publications.push((channel, publication)),
                Err(error) => refused.push((place, error)),
            }
        }
        let mut outcomes = self.publish_all(publications).await;
        // From the first to the last, so that each finds those before it in place.
        for (place, error) in refused {
            outcomes.insert(place, Err(error));
        }
        outcomes
    }

    /// Whether Redis could be published to now, within the deadline of every call: whether it tells the time, which a server
    /// that takes no writes does not. Functions that are gone are loaded again.
    ///
    /// Of a Redis Cluster that is the server of the first partition, where orders to all nodes are too. One of the others that is away
    /// is no reason to keep everybody from publishing to the rest.
    ///
    /// # Errors
    /// Why not, in a few words without secrets.
    pub async fn check(&self) -> Result<(), String> {
        let Inner { keys, primaries, .. } = &*self.inner;
        let deadline = primaries.deadline();
        let asked = async {
            let primary = primaries.of(0, deadline).await?;
            let loaded = primary.functions();
            match primary.ask(&loaded.functions.clock(&keys.clock(0), None), deadline).await {
                Err(failure) if failure.no_functions => primary.load_again(&loaded, keys, primaries.deadline()).await,
                answer => answer,
            }
        };
        asked.await.map_err(|failure| {
            primaries.note(0, &failure);
            failure.into_reason()
        })
    }

    /// Opens connections to the same server.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Names in that server.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    async fn publish_one(&self, channel: &Channel, publication: Publication) -> Result<Receipt, PublishError> {
        let outcome = self.publish_all(vec![(channel.clone(), publication)]).await.pop();
        outcome.unwrap_or_else(|| Err(failure::no_outcome()))
    }

    async fn publish_all(&self, batch: Vec<(Channel, Publication)>) -> Vec<Result<Receipt, PublishError>> {
        batch::publish(&self.inner, batch).await
    }
}

impl Publish for Publisher {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        self.publish_one(channel, publication).boxed()
    }

    fn publish_batch<'a>(
        &'a self,
        batch: Vec<(Channel, Publication)>,
    ) -> BoxFuture<'a, Vec<Result<Receipt, PublishError>>> {
        self.publish_all(batch).boxed()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&self.inner.client).finish()
    }
}
