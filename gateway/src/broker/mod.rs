//! The seam to whatever carries events between publishers and this node.
//!
//! Interest travels down: the hub says which channels have someone here ([`Interest`]), over one queue, in order. Events
//! travel up: the broker calls a [`Sink`], and what it says of one partition comes in one FIFO, so that a channel that is
//! live misses nothing. A broker never waits for a connection, and knows of none.
//!
//! [`memory`] is the embedded broker: one process, no Redis, the same semantics. [`redis`] carries events between nodes.

pub mod leases;
pub mod memory;
pub mod past;
pub mod redis;
pub(crate) mod spare;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use shared::channel::Channel;
use shared::continuity::{Evidence, Gap};
pub use shared::position::Stamp;
use shared::position::{Epoch, Position};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Number of a partition, below [`shared::keys::Keys::partitions`].
pub type Partition = u16;

/// What the hub wants of a broker. The generation tells two lives of the same channel apart: an answer to an older one is
/// no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Somebody is on this channel now.
    Subscribe {
        /// Which.
        channel: Channel,
        /// Comes back in [`Sink::live`].
        generation: u64,
    },
    /// Nobody is any more.
    Unsubscribe {
        /// Which.
        channel: Channel,
    },
}

/// Receiving end of the hub's queue. Unbounded, since it is filled under the hub's lock, which cannot wait; a broker empties
/// it whenever it does not wait for its server, which has deadlines, and a channel adds at most two items for each linger.
pub type InterestQueue = mpsc::UnboundedReceiver<Interest>;

/// An event on its way from a broker to the connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub channel: Channel,
    /// An envelope, or any bytes.
    pub payload: Bytes,
    /// Where a durable event stands; `None` for an ephemeral one.
    pub stamp: Option<Stamp>,
}

/// A durable event in a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub stamp: Stamp,
    /// The payload as it was published.
    pub payload: Bytes,
}

/// The last durable event of a channel, remembered longer than the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Its position.
    pub position: Position,
    /// It closed the channel.
    pub ended: bool,
}

/// What was true of a channel at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The partition's clock: every event published so far is at or before it, every later one after it.
    pub clock: Position,
    /// Time of day at the broker, Unix milliseconds.
    pub time_ms: u64,
    /// The broker throws data away before their time when memory is short.
    pub evicts: bool,
    /// The channel's last event, if one is remembered.
    pub last: Option<Last>,
    /// Entries asked for, in order of position.
    pub entries: Vec<Entry>,
}

impl Snapshot {
    /// What it says for [`shared::continuity`].
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let last = self.last.map(|last| last.position);
        Evidence { clock: self.clock, time_ms: self.time_ms, evicts: self.evicts, last }
    }
}

/// Entries with positions between two, neither included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// Those after it.
    pub after: Position,
    /// Those before it; `None`: up to the newest.
    pub before: Option<Position>,
}

impl Between {
    /// Everything after a position.
    #[must_use]
    pub fn after(after: Position) -> Self {
        Self { after, before: None }
    }
}

/// How far a sink has certainly heard a channel, in this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The channel's last event then; `None` where there was none.
    pub last: Option<Position>,
    /// Everything published on the channel up to here was passed on.
    pub complete: Position,
}

/// How a channel that is live again joins what its sink has seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Nothing was seen: it begins at the snapshot's clock.
    Anew,
    /// The snapshot's entries are all that came since; usually none.
    CaughtUp,
    /// What came since can no longer be had, for this reason: it begins at the snapshot's clock.
    Hole(Gap),
}

/// Wakes those who have something to read. Until it is called they may find that by themselves.
pub type Wake = Box<dyn FnOnce() + Send>;

/// What a broker tells. Calls are short and never wait; those of one partition come in order.
pub trait Sink: Send + Sync + 'static {
    /// A session of `partition` begins: whatever follows belongs to `epoch`.
    fn session(&self, partition: Partition, epoch: &Epoch, clock: Position);

    /// `channel` is live: it was subscribed, `snapshot` was read after that, and every message since the snapshot comes, or
    /// came already, through [`Sink::message`]. `join` says what the snapshot's entries are.
    fn live(&self, channel: &Channel, generation: u64, snapshot: Snapshot, join: Join);

    /// How far this life of `channel` was heard, through the sessions of this epoch; `None` where it has never been live in it.
    fn seen(&self, channel: &Channel, generation: u64) -> Option<Seen>;

    /// Messages of a live `channel` stopped arriving without a word: it is not live until [`live`](Self::live) says so again,
    /// and whoever has gone on beyond what was [`seen`](Self::seen) has missed something.
    fn stale(&self, channel: &Channel, generation: u64);

    /// An event on a channel that is subscribed.
    fn message(&self, message: Message);

    /// The same in two steps, for a broker that says it under a lock of its own: the event has come when this returns, and those
    /// who read it are woken by what is returned, once no lock is held.
    fn append(&self, message: Message) -> Option<Wake> {
        self.message(message);
        None
    }

    /// The session of `partition` is over: nothing of it comes any more, and no channel is live, until the next
    /// [`session`](Self::session). Never said of a broker that lives in this process.
    fn lost(&self, partition: Partition, reason: Lost);

    /// Everything that was wanted when the session of `partition` began is live: the broker is no longer away.
    fn established(&self, partition: Partition);

    /// This node heard itself: everything published on its live channels up to `position` was passed on before.
    fn barrier(&self, partition: Partition, position: Position);
}

/// Why a session ended, as far as it matters to others; the broker itself logs and counts the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The server is gone, or does not answer.
    Away,
    /// The server took what this node said to itself, and the node did not hear it.
    Deaf,
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the broker is not available: {reason}")]
pub struct BrokerError {
    /// For a person to read; holds no secret.
    pub reason: String,
}

/// Carries events to this node.
pub trait Broker: Send + Sync + 'static {
    /// Serves `interest` and feeds `sink` until `stop`. Called once.
    fn run(
        self: Arc<Self>,
        interest: InterestQueue,
        sink: Arc<dyn Sink>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()>;

    /// Reads the channel's state, and of its entries `between` the newest, at most `limit`; all at one instant of the present
    /// session's epoch. The node hears the snapshot's clock as a barrier soon after.
    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        between: Between,
        limit: usize,
    ) -> BoxFuture<'a, Result<Snapshot, BrokerError>>;
}
