//! A running broker, somebody who publishes to it, and ears that remember what they heard.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::broker::{
    Between, Broker, Entry, Interest, InterestQueue, Join, Lost, Message, Partition, Seen, Sink, Snapshot,
};
use publisher::{Cancel, Publication, Publish, Receipt};
use shared::channel::Channel;
use shared::envelope::Envelope;
use shared::keys::Keys;
use shared::position::{Epoch, Position};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{eventually, soon};

/// Where there are several.
pub const PARTITIONS: u16 = 16;

pub struct Fixture {
    /// 1, or [`PARTITIONS`].
    pub partitions: u16,
    pub broker: Arc<dyn Broker>,
    pub publish: Arc<dyn Publish>,
    pub cancel: Arc<dyn Cancel>,
    pub ears: Arc<Ears>,
    interest: UnboundedSender<Interest>,
    stop: CancellationToken,
    run: JoinHandle<()>,
    /// Whatever else lives as long as the broker, such as its server.
    _server: Box<dyn Send + Sync>,
}

/// What a broker told, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Session(Partition, Epoch, Position),
    Live(Channel, u64, Snapshot),
    Message(Message),
    Barrier(Partition, Position),
    Established(Partition),
    Lost(Partition, Lost),
}

#[derive(Default)]
pub struct Ears(Mutex<Vec<Heard>>);

impl Ears {
    pub fn all(&self) -> Vec<Heard> {
        self.0.lock().unwrap().clone()
    }

    pub fn messages(&self, channel: &Channel) -> Vec<Message> {
        let of_channel = |heard| match heard {
            Heard::Message(message) if message.channel == *channel => Some(message),
            _ => None,
        };
        self.all().into_iter().filter_map(of_channel).collect()
    }

    fn push(&self, heard: Heard) {
        self.0.lock().unwrap().push(heard);
    }
}

impl Sink for Ears {
    fn session(&self, partition: Partition, epoch: &Epoch, clock: Position) {
        self.push(Heard::Session(partition, epoch.clone(), clock));
    }

    fn seen(&self, _: &Channel, _: u64) -> Option<Seen> {
        None
    }

    fn stale(&self, _: &Channel, _: u64) {}

    fn live(&self, channel: &Channel, generation: u64, snapshot: Snapshot, _: Join) {
        self.push(Heard::Live(channel.clone(), generation, snapshot));
    }

    fn message(&self, message: Message) {
        self.push(Heard::Message(message));
    }

    fn established(&self, partition: Partition) {
        self.push(Heard::Established(partition));
    }

    fn lost(&self, partition: Partition, reason: Lost) {
        self.push(Heard::Lost(partition, reason));
    }

    fn barrier(&self, partition: Partition, position: Position) {
        self.push(Heard::Barrier(partition, position));
    }
}

impl Fixture {
    /// Runs `broker`; `publisher` writes to the same data.
    pub fn run(broker: Arc<dyn Broker>, publisher: Arc<impl Publish + Cancel>, server: Box<dyn Send + Sync>) -> Self {
        #[allow(clippy::disallowed_methods)] // the seam's own type
        let (interest, queue): (_, InterestQueue) = tokio::sync::mpsc::unbounded_channel();
        let (ears, stop) = (Arc::new(Ears::default()), CancellationToken::new());
        let run = TaskTracker::new().spawn(broker.clone().run(queue, ears.clone(), stop.clone()));
        let (publish, cancel) = (publisher.clone(), publisher);
        Self { partitions: 1, broker, publish, cancel, ears, interest, stop, run, _server: server }
    }

    /// The same, of several partitions.
    pub fn partitioned(self) -> Self {
        Self { partitions: PARTITIONS, ..self }
    }

    /// Ends the broker, and fails if it does not end.
    pub async fn stop(self) {
        self.stop.cancel();
        soon("the end of a stopped broker", self.run).await.unwrap();
    }

    /// Publishes durable data with the defaults.
    pub async fn publish(&self, channel: &Channel, data: &str) -> Position {
        let receipt = self.send(channel, text(data)).await;
        receipt.position.unwrap()
    }

    pub async fn send(&self, channel: &Channel, publication: Publication) -> Receipt {
        soon("a receipt", self.publish.publish(channel, publication)).await.unwrap()
    }

    /// Publishes all of them at once, each from a task of its own. Returns the receipts in no order.
    pub async fn send_all(&self, publications: impl IntoIterator<Item = (Channel, Publication)>) -> Vec<Receipt> {
        let mut tasks = JoinSet::new();
        for (channel, publication) in publications {
            let publish = self.publish.clone();
            tasks.spawn(async move { publish.publish(&channel, publication).await });
        }
        let receipts = soon("all receipts", tasks.join_all()).await;
        receipts.into_iter().collect::<Result<_, _>>().unwrap()
    }

    pub async fn read(&self, channel: &Channel, after: Position, limit: usize) -> Snapshot {
        soon("a read", self.broker.read(channel, Between::after(after), limit)).await.unwrap()
    }

    pub async fn entries(&self, channel: &Channel) -> Vec<Entry> {
        self.read(channel, Position::ZERO, 100_000).await.entries
    }

    /// Subscribes and waits until the channel is live. Returns what the broker read then.
    pub async fn subscribe(&self, channel: &Channel, generation: u64) -> Snapshot {
        self.interest.send(Interest::Subscribe { channel: channel.clone(), generation }).unwrap();
        self.live(channel, generation).await
    }

    /// Asks without waiting.
    pub fn ask(&self, interest: Interest) {
        self.interest.send(interest).unwrap();
    }

    pub async fn live(&self, channel: &Channel, generation: u64) -> Snapshot {
        let of_channel = |heard| match heard {
            Heard::Live(live, number, snapshot) if live == *channel && number == generation => Some(snapshot),
            _ => None,
        };
        eventually(&format!("{channel} live"), async || self.ears.all().into_iter().find_map(of_channel)).await
    }

    /// Waits until `count` messages of `channel` were heard. Returns them.
    pub async fn messages(&self, channel: &Channel, count: usize) -> Vec<Message> {
        eventually(&format!("{count} messages on {channel}"), async || {
            let messages = self.ears.messages(channel);
            (messages.len() >= count).then_some(messages)
        })
        .await
    }
}

/// Of partition 0, whatever their number: what is promised of several channels is promised of those of one partition.
pub fn channel(name: &str) -> Channel {
    let keys = Keys::new("sse", PARTITIONS).unwrap();
    let mut names = (0_u32..).map(|number| Channel::parse(&format!("{name}:{number}")).unwrap());
    names.find(|channel| keys.partition(channel) == 0).unwrap()
}

pub fn text(data: &str) -> Publication {
    Publication::envelope(&Envelope::text(data).unwrap()).unwrap()
}

pub fn end() -> Publication {
    Publication::envelope(&Envelope { end: true, ..Envelope::default() }).unwrap()
}

/// History that expires in a second: the shortest there is.
pub fn short(data: &str) -> Publication {
    Publication { ttl: Some(Duration::from_secs(1)), ..text(data) }
}
