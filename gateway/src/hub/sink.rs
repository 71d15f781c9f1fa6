//! What the broker tells the hub: where an event enters.

use std::sync::Arc;

use shared::channel::Channel;
use shared::cursor::Tag;
use shared::position::{Epoch, Position};
use tokio::time::Instant;

use super::channel::LocalChannel;
use super::encoded::{Encoded, Order};
use super::{Hub, Wakeup, call};
use crate::broker::{Entry, Join, Lost, Message, Partition, Seen, Sink, Snapshot, Wake};

impl Sink for Hub {
    fn session(&self, partition: Partition, epoch: &Epoch, clock: Position) {
        let tag = Tag::of(epoch, self.keys.partitions());
        let Some(state) = self.partition(partition) else { return };
        let another = state.is_another_life(tag, clock);
        if another {
            // Before the new life is known: whoever sees that sees no events of the old one.
            self.each(partition, |local| local.restart(clock));
        }
        state.begin(tag, clock, another);
    }

    fn established(&self, partition: Partition) {
        if let Some(state) = self.partition(partition) {
            state.establish();
        }
    }

    fn lost(&self, partition: Partition, reason: Lost) {
        let Some(state) = self.partition(partition) else { return };
        state.lose(reason);
        let watermark = state.watermark();
        self.each(partition, |local| local.set_lost(watermark));
    }

    fn live(&self, channel: &Channel, generation: u64, mut snapshot: Snapshot, join: Join) {
        let Some(local) = self.find(channel).filter(|local| local.generation == generation) else { return };
        let Some(life) = self.life(local.partition) else { return };
        let entries = self.encode_entries(channel, local.partition, std::mem::take(&mut snapshot.entries));
        local.set_live(life.number, &snapshot, join, entries, &self.settings.log);
        local.call();
    }

    fn seen(&self, channel: &Channel, generation: u64) -> Option<Seen> {
        let local = self.find(channel).filter(|local| local.generation == generation)?;
        let life = self.life(local.partition)?.number;
        local.seen(life, self.watermark(local.partition))
    }

    fn stale(&self, channel: &Channel, generation: u64) {
        if let Some(local) = self.find(channel).filter(|local| local.generation == generation) {
            local.set_stale();
        }
    }

    fn message(&self, message: Message) {
        if let Some(woken) = self.take_in(message) {
            woken.call();
        }
    }

    fn append(&self, message: Message) -> Option<Wake> {
        let woken = self.take_in(message)?;
        Some(Box::new(move || woken.call()))
    }

    fn barrier(&self, partition: Partition, position: Position) {
        if let Some(partition) = self.partition(partition) {
            call(partition.raise(position));
            partition.set_heard();
        }
    }
}

/// Who is to look because of a message.
struct Woken {
    /// Those on a channel, where there is something to read.
    channel: Option<Arc<LocalChannel>>,
    /// Those for whom the watermark has come far enough.
    waiting: Vec<Arc<Wakeup>>,
}

impl Woken {
    fn call(self) {
        if let Some(channel) = self.channel {
            channel.call();
        }
        call(self.waiting);
    }
}

impl Hub {
    /// Encodes a message and puts it where connections find it.
    fn take_in(&self, message: Message) -> Option<Woken> {
        let local = self.find(&message.channel)?;
        let partition = self.partition(local.partition)?;
        let stamp = message.stamp;
        let (cursor, order) = match stamp {
            Some(stamp) => {
                (self.cursor(local.partition, stamp.position), Order { position: stamp.position, arrival: 0 })
            }
            None => (None, partition.ephemeral_order()),
        };
        let event = Encoded::new(message, cursor, order, Instant::now());
        self.metrics.received(stamp.is_some(), event.is_envelope());
        let mut waiting = Vec::new();
        let rise = || {
            if let Some(stamp) = stamp {
                waiting = partition.raise(stamp.position);
            }
        };
        let readable = local.push(Arc::new(event), &self.settings.log, rise);
        Some(Woken { channel: readable.then_some(local), waiting })
    }

    /// Encodes entries of a channel's history, which are all durable.
    pub(super) fn encode_entries(
        &self,
        channel: &Channel,
        partition: Partition,
        entries: Vec<Entry>,
    ) -> Vec<Arc<Encoded>> {
        let now = Instant::now();
        let encode = |Entry { stamp, payload }| {
            let message = Message { channel: channel.clone(), payload, stamp: Some(stamp) };
            let order = Order { position: stamp.position, arrival: 0 };
            Arc::new(Encoded::new(message, self.cursor(partition, stamp.position), order, now))
        };
        entries.into_iter().map(encode).collect()
    }

    /// Does something to every channel of `partition` that is here.
    fn each(&self, partition: Partition, act: impl Fn(&LocalChannel)) {
        let locals = self.lock().all();
        locals.iter().filter(|local| local.partition == partition).for_each(|local| act(local));
    }
}
