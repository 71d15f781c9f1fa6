//! The seam to what a broker holds of a channel ([`Channels`]): its history is read and erased, and nobody is told. And what
//! a page of history leaves out of what a cursor asked for ([`gap`]), decided for all brokers here.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use shared::channel::Channel;
use shared::continuity::{Evidence, Gap, Tail};
use shared::cursor::{Cursor, CursorPart, Tag};
use shared::position::{Position, Stamp};

use crate::PublishError;

/// Payloads of one page of history, in bytes; beyond it a page ends early, with one entry at least.
pub const MAX_HISTORY_BYTES: usize = 4 << 20;

/// A durable event in a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its position.
    pub position: Position,
    /// Position of the channel's durable event before it; [`Position::ZERO`] where none is known.
    pub previous: Position,
    /// The payload as it was published.
    pub payload: Bytes,
}

/// The last durable event of a channel, remembered longer than the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastEvent {
    /// Its position.
    pub position: Position,
    /// It closed the channel.
    pub ended: bool,
}

/// What was true of a channel at one instant, and some of its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// Every event so far is at or before it, every later one after it.
    pub clock: Position,
    /// Time of day at the broker, Unix milliseconds.
    pub time_ms: u64,
    /// Of the epoch; every position here is one of it.
    pub tag: Tag,
    /// The channel's partition, where there are several.
    pub partition: Option<u16>,
    /// The channel's last event, if one is remembered.
    pub last: Option<LastEvent>,
    /// In order of position, each the one right after the one before it: where one is missing, the page ends.
    pub entries: Vec<HistoryEntry>,
    /// There is something to say of what comes after the last of `entries`: more of them, or that they are gone.
    pub more: bool,
}

/// Reads and erases what is held of channels. Implemented by every broker.
///
/// Errors are [`PublishError::Unavailable`] and [`PublishError::Rejected`].
pub trait Channels: Send + Sync + 'static {
    /// Reads the channel's state and the entries after `after`: at most `limit` (from 1 on), and at most
    /// [`MAX_HISTORY_BYTES`] of payloads unless the first alone has more.
    fn history<'a>(
        &'a self,
        channel: &'a Channel,
        after: Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<HistoryPage, PublishError>>;

    /// The channel's partition, where there are several.
    fn partition(&self, _channel: &Channel) -> Option<u16> {
        None
    }

    /// Erases the channel's history; its last position stays, so that whoever comes back is told of a gap. Whether there
    /// was any. Once it may have been carried out it is not repeated: an error leaves open whether it was.
    fn erase<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<bool, PublishError>>;
}

impl HistoryPage {
    /// The position of one of its events, as clients know it.
    #[must_use]
    pub fn cursor(&self, position: Position) -> CursorPart {
        CursorPart { partition: self.partition, position, tag: self.tag }
    }

    /// Cuts the entries, which may be any that follow on from where the reader is, to what a page may have.
    pub fn cut(&mut self, limit: usize) {
        let (mut bytes, mut before) = (0, None);
        let fits = |entry: &&HistoryEntry| {
            bytes += entry.payload.len();
            let follows = before.is_none_or(|before| before == entry.previous && bytes <= MAX_HISTORY_BYTES);
            before = Some(entry.position);
            follows
        };
        let count = self.entries.iter().take(limit).take_while(fits).count();
        self.more |= count < self.entries.len();
        self.entries.truncate(count);
        let told = self.entries.last().map(|entry| entry.position);
        self.more |= told.is_some_and(|told| self.last.is_some_and(|last| last.position > told));
    }
}

/// Where the reading of a channel of `partition` begins: at the cursor, or at the beginning where there is none that means anything here.
pub(crate) fn start(after: Option<&Cursor>, partition: Option<u16>) -> Position {
    after.and_then(|after| part_of(after, partition)).map_or(Position::ZERO, |part| part.position)
}

/// What somebody missed who read up to `after` and is given `page`, which was read from [`start`] on. Where that is
/// [`Gap::DataLost`], positions do not compare, and the page has to be read again from the beginning.
pub(crate) fn gap(after: Option<&Cursor>, page: &HistoryPage) -> Option<Gap> {
    let Some(after) = after else {
        let is_trimmed = page.entries.first().is_some_and(|first| first.previous != Position::ZERO);
        return is_trimmed.then_some(Gap::Trimmed);
    };
    let Some(part) = part_of(after, page.partition) else { return Some(Gap::UnknownCursor) };
    if part.tag != page.tag {
        return Some(Gap::DataLost);
    }
    let last = page.last.map(|last| last.position);
    // A page does not know whether the broker evicts: who resumes a stream is told more strictly.
    let evidence = Evidence { clock: page.clock, time_ms: page.time_ms, evicts: false, last };
    // A page ends where something is missing.
    let first = page.entries.first().map(|first| Stamp { position: first.position, previous: first.previous });
    evidence.resume(part.position, first.map(|first| Tail { first, unbroken: true })).err()
}

/// What a cursor says of a partition; where there is only one, it says so by giving no number.
fn part_of(cursor: &Cursor, partition: Option<u16>) -> Option<&CursorPart> {
    cursor.parts().iter().find(|part| part.partition == partition)
}

#[cfg(test)]
mod tests;
