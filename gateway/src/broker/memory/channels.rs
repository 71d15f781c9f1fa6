//! What the embedded broker holds of a channel, read and erased as on Redis.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use publisher::{Channels, HistoryEntry, HistoryPage, LastEvent, PublishError};
use shared::channel::Channel;
use shared::position::Position;

use super::super::Entry;
use super::{MemoryBroker, State};

impl Channels for MemoryBroker {
    fn history<'a>(
        &'a self,
        channel: &'a Channel,
        after: Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<HistoryPage, PublishError>> {
        async move {
            let mut page = self.page(channel, after, limit);
            page.cut(limit);
            Ok(page)
        }
        .boxed()
    }

    fn erase<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<bool, PublishError>> {
        async move {
            let now = (self.now)();
            Ok(self.lock().erase(channel, now, self.limits.max_bytes))
        }
        .boxed()
    }
}

impl MemoryBroker {
    fn page(&self, channel: &Channel, after: Position, limit: usize) -> HistoryPage {
        let now = (self.now)();
        let mut state = self.lock();
        let snapshot = state.snapshot(channel, now);
        // One beyond the limit tells whether there are more.
        let history = state.channels.get(channel);
        let entries = history.map(|history| history.after(after, limit.saturating_add(1))).unwrap_or_default();
        HistoryPage {
            clock: snapshot.clock,
            time_ms: now,
            tag: self.tag,
            partition: None,
            last: snapshot.last.map(|last| LastEvent { position: last.position, ended: last.ended }),
            entries: entries.into_iter().map(entry).collect(),
            more: false,
        }
    }
}

fn entry(Entry { stamp, payload }: Entry) -> HistoryEntry {
    HistoryEntry { position: stamp.position, previous: stamp.previous, payload }
}

impl State {
    /// Whether there was anything to erase.
    fn erase(&mut self, channel: &Channel, now: u64, max_bytes: usize) -> bool {
        self.expire(channel, now);
        let Some(history) = self.channels.get_mut(channel) else { return false };
        let erased = history.clear();
        // When the channel is looked at next stays: that comes too early now, and does no harm.
        self.size -= erased;
        // Forgets where the entries were.
        self.evict(max_bytes);
        erased.entries > 0
    }
}
