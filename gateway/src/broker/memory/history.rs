//! One channel of the embedded broker: its entries, its last position, its idempotency keys. Times are Unix milliseconds.

use std::collections::{HashMap, VecDeque};
use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use publisher::{DEFAULT_HISTORY, DEFAULT_TTL, ONCE_TTL, Once, Publication};
use shared::position::Position;

use super::super::{Between, Entry, Last};

/// How long the last position is remembered: a week, and never shorter than the history.
const LAST_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);
/// What an entry costs beside its payload, in bytes.
pub(super) const ENTRY_OVERHEAD: usize = 128;

/// How much something holds, or what went: the broker keeps the sum over all channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) entries: usize,
    /// Payloads of the entries and what they cost beside.
    pub(super) bytes: usize,
    pub(super) once_keys: usize,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.once_keys += other.once_keys;
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Self) {
        self.entries -= other.entries;
        self.bytes -= other.bytes;
        self.once_keys -= other.once_keys;
    }
}

fn size(entry: &Entry) -> Size {
    Size { entries: 1, bytes: entry.payload.len() + ENTRY_OVERHEAD, once_keys: 0 }
}

/// A channel. A new one is forgotten at once unless something is pushed.
#[derive(Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    /// Means something while there are entries.
    entries_expire: u64,
    last: Option<Last>,
    last_expires: u64,
    /// When the broker looks at this channel next, its place in the broker's `due`; written by the broker alone.
    pub(super) due: Option<u64>,
    /// Position of the event that each key published, and when the key expires.
    once: HashMap<Once, (Position, u64)>,
    /// The keys in the order they came, which is that of their expiry as long as the clock does not step back; after such
    /// a step some live longer by as much.
    once_order: VecDeque<(u64, Once)>,
}

impl History {
    /// Appends `entry`. Returns what came and what had to go for it.
    pub(super) fn push(&mut self, entry: Entry, ended: bool, publication: &Publication, now: u64) -> (Size, Size) {
        let mut added = size(&entry);
        let position = entry.stamp.position;
        let expires = after(now, publication.ttl.unwrap_or(DEFAULT_TTL));
        self.entries_expire = if self.entries.is_empty() { expires } else { self.entries_expire.max(expires) };
        self.last = Some(Last { position, ended });
        self.last_expires = after(now, LAST_TTL).max(self.entries_expire);
        if let Some(once) = &publication.once {
            let expires = after(now, ONCE_TTL);
            self.once.insert(once.clone(), (position, expires));
            self.once_order.push_back((expires, once.clone()));
            added.once_keys = 1;
        }
        self.entries.push_back(entry);
        let keep = publication.history.map_or(DEFAULT_HISTORY, u32::from) as usize;
        let removed = self.remove(self.entries.len().saturating_sub(keep));
        (added, removed)
    }

    /// Removes what expired by `now`.
    pub(super) fn expire(&mut self, now: u64) -> Size {
        let mut removed = Size::default();
        while let Some((expires, once)) = self.once_order.pop_front_if(|(expires, _)| *expires <= now) {
            removed.once_keys += 1;
            if self.once.get(&once).is_some_and(|known| known.1 == expires) {
                self.once.remove(&once);
            }
        }
        if self.last_expires <= now {
            self.last = None;
        }
        if self.entries_expire <= now {
            removed += self.clear();
        }
        removed
    }

    /// Removes all entries; the last position stays.
    pub(super) fn clear(&mut self) -> Size {
        self.remove(self.entries.len())
    }

    /// When something here expires next; `None` where nothing is left to remember.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        let entries = (!self.entries.is_empty()).then_some(self.entries_expire);
        let last = self.last.map(|_| self.last_expires);
        let once = self.once_order.front().map(|(expires, _)| *expires);
        [entries, last, once].into_iter().flatten().min()
    }

    /// Removes the first entry if it is the one at `position`.
    pub(super) fn remove_first(&mut self, position: Position) -> Size {
        if self.entries.front().is_some_and(|first| first.stamp.position == position) {
            self.remove(1)
        } else {
            Size::default()
        }
    }

    /// Whether the entry at `position` is still there. Entries go from the front only.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.entries.front().is_some_and(|first| first.stamp.position <= position)
    }

    pub(super) fn last(&self) -> Option<Last> {
        self.last
    }

    /// Of the last event, or [`Position::ZERO`].
    pub(super) fn last_position(&self) -> Position {
        self.last.map_or(Position::ZERO, |last| last.position)
    }

    pub(super) fn known_once(&self, once: &Once, now: u64) -> Option<Position> {
        let (position, expires) = self.once.get(once)?;
        (*expires > now).then_some(*position)
    }

    /// At most `limit` entries after `position`, in order.
    pub(super) fn after(&self, position: Position, limit: usize) -> Vec<Entry> {
        let from = self.entries.partition_point(|entry| entry.stamp.position <= position);
        self.entries.range(from..).take(limit).cloned().collect()
    }

    /// Of the entries `between`, at most `limit` of the newest, in order.
    pub(super) fn newest(&self, between: Between, limit: usize) -> Vec<Entry> {
        let from = self.entries.partition_point(|entry| entry.stamp.position <= between.after);
        let before = |before| self.entries.partition_point(|entry| entry.stamp.position < before);
        let to = between.before.map_or(self.entries.len(), before).max(from);
        self.entries.range(from.max(to.saturating_sub(limit))..to).cloned().collect()
    }

    fn remove(&mut self, count: usize) -> Size {
        let mut removed = Size::default();
        for entry in self.entries.drain(..count) {
            removed += size(&entry);
        }
        removed
    }
}

fn after(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}
