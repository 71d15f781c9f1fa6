//! Reads what a channel published after a position, newest first and in pages, up to bounds: either all of it, or the news
//! that it is too much.

use shared::continuity::{Gap, Tail, unbroken};
use shared::position::{Position, Stamp};

use super::{Between, Entry, Snapshot};

/// Entries of one page. Their number is all that can be bounded beforehand: with the largest events it is a few megabytes.
const PAGE: usize = 100;

/// How much a reader is given at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastLimits {
    /// Events.
    pub events: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
}

impl Default for PastLimits {
    fn default() -> Self {
        Self { events: 1_000, bytes: 4 << 20 }
    }
}

/// The recent past of a channel, up to one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// What was true at that instant; its entries are those of all pages.
    pub snapshot: Snapshot,
    /// Everything that is left after this position is there; where it was too much, that is the oldest entry's previous.
    pub after: Position,
    /// There is more after the position asked for than the limits allow.
    pub too_far: bool,
}

impl Past {
    /// What is there of `entries`, for [`shared::continuity`].
    #[must_use]
    pub fn tail(&self) -> Option<Tail> {
        let stamps: Vec<Stamp> = self.snapshot.entries.iter().map(|entry| entry.stamp).collect();
        let last = self.snapshot.last.map(|last| last.position);
        stamps.first().map(|first| Tail { first: *first, unbroken: unbroken(&stamps, last) == stamps.len() })
    }

    /// Whether a node that was complete up to `seen` is complete again with this.
    ///
    /// # Errors
    /// The gap.
    pub fn catch_up(&self, seen: super::Seen) -> Result<(), Gap> {
        if self.too_far {
            return Err(Gap::TooFar);
        }
        self.snapshot.evidence().catch_up(seen.last, seen.complete, self.tail())
    }
}

/// Reads everything after `after` by `page`, which reads one page. The instant is that of the first page, the newest one.
///
/// # Errors
/// Those of `page`.
pub async fn read<E, F: Future<Output = Result<Snapshot, E>>>(
    after: Position,
    limits: PastLimits,
    mut page: impl FnMut(Between, usize) -> F,
) -> Result<Past, E> {
    // One beyond the limit tells that it is too much.
    let most = limits.events.saturating_add(1);
    let mut between = Between::after(after);
    let mut limit = PAGE.min(most);
    let mut snapshot = page(between, limit).await?;
    let mut newest_last = std::mem::take(&mut snapshot.entries);
    // What came while memory was short can be newer than the clock; it comes as a message too.
    newest_last.retain(|entry| entry.stamp.position <= snapshot.clock);
    let mut full = newest_last.len() == limit;
    let mut bytes = size(&newest_last);
    newest_last.reverse();
    while full && newest_last.len() < most && bytes <= limits.bytes {
        let Some(oldest) = newest_last.last() else { break };
        between.before = Some(oldest.stamp.position);
        limit = PAGE.min(most - newest_last.len());
        let mut older = page(between, limit).await?.entries;
        full = older.len() == limit;
        bytes += size(&older);
        older.reverse();
        newest_last.append(&mut older);
    }
    let fit = fitting(&newest_last, limits);
    let too_far = fit < newest_last.len();
    newest_last.truncate(fit);
    newest_last.reverse();
    snapshot.entries = newest_last;
    let from = match snapshot.entries.first() {
        Some(first) if too_far => first.stamp.previous,
        None if too_far => snapshot.clock,
        _ => after,
    };
    Ok(Past { snapshot, after: from, too_far })
}

/// How many of `newest_first` are within the limits.
fn fitting(newest_first: &[Entry], limits: PastLimits) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.payload.len();
        bytes <= limits.bytes
    };
    newest_first.iter().take(limits.events).take_while(fits).count()
}

fn size(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::broker::{Last, Seen};

    fn at(ms: u64) -> Position {
        Position { ms, seq: 0 }
    }

    /// Entries `1..=count` of `size` bytes.
    fn world(count: u64, size: usize) -> Vec<Entry> {
        let stamp = |ms| Stamp { position: at(ms), previous: at(ms - 1) };
        (1..=count).map(|ms| Entry { stamp: stamp(ms), payload: vec![b'x'; size].into() }).collect()
    }

    fn read_now(world: &[Entry], after: u64, limits: PastLimits) -> (Past, usize) {
        let mut pages = 0;
        let page = |between: Between, limit: usize| {
            pages += 1;
            let inside = |entry: &&Entry| {
                let at = entry.stamp.position;
                at > between.after && between.before.is_none_or(|before| at < before)
            };
            let mut entries: Vec<_> = world.iter().rev().filter(inside).take(limit).cloned().collect();
            entries.reverse();
            let last = world.last().map(|entry| Last { position: entry.stamp.position, ended: false });
            let snapshot = Snapshot { clock: at(1_000_000), time_ms: 1_000_000, evicts: false, last, entries };
            std::future::ready(Ok::<_, Infallible>(snapshot))
        };
        let past = read(at(after), limits, page).now_or_never().unwrap().unwrap();
        (past, pages)
    }

    fn positions(past: &Past) -> Vec<u64> {
        past.snapshot.entries.iter().map(|entry| entry.stamp.position.ms).collect()
    }

    #[test]
    fn all_pages_in_order() {
        let world = world(700, 10);
        for (after, pages) in [(700, 1), (690, 1), (600, 2), (450, 3), (0, 8)] {
            let (past, read) = read_now(&world, after, PastLimits::default());
            assert_eq!(positions(&past), (after + 1..=700).collect::<Vec<_>>());
            assert_eq!((past.after, past.too_far, read), (at(after), false, pages), "{after}");
        }
        let (past, _) = read_now(&[], 5, PastLimits::default());
        assert_eq!((past.snapshot.entries.len(), past.after, past.too_far), (0, at(5), false));
    }

    #[test]
    fn exactly_as_much_as_allowed_and_one_more() {
        let limits = PastLimits { events: 500, bytes: 1 << 20 };
        let (past, _) = read_now(&world(900, 10), 400, limits);
        assert_eq!((past.snapshot.entries.len(), past.too_far), (500, false));
        let (past, _) = read_now(&world(900, 10), 399, limits);
        assert_eq!((past.snapshot.entries.len(), past.after, past.too_far), (500, at(400), true));
        let limits = PastLimits { events: 500, bytes: 1_000 };
        let (past, _) = read_now(&world(100, 100), 90, limits);
        assert_eq!((past.snapshot.entries.len(), past.too_far), (10, false));
        let (past, _) = read_now(&world(100, 100), 89, limits);
        assert_eq!((positions(&past), past.too_far), ((91..=100).collect(), true));
        let (past, _) = read_now(&world(1, 2_000), 0, limits);
        assert_eq!((past.snapshot.entries.len(), past.after, past.too_far), (0, at(1_000_000), true));
    }

    #[test]
    fn catching_up() {
        let seen = |last, complete| Seen { last: Some(at(last)), complete: at(complete) };
        let world = world(700, 10);
        let (past, _) = read_now(&world, 600, PastLimits::default());
        assert_eq!(past.catch_up(seen(600, 650)), Ok(()));
        assert_eq!(past.catch_up(seen(599, 650)), Err(Gap::Trimmed));
        let (past, _) = read_now(&world, 600, PastLimits { events: 99, bytes: 1 << 20 });
        assert_eq!(past.catch_up(seen(600, 650)), Err(Gap::TooFar));
        let mut torn = world.clone();
        torn.remove(650);
        let (past, _) = read_now(&torn, 600, PastLimits::default());
        assert_eq!(past.catch_up(seen(600, 650)), Err(Gap::Trimmed));
    }
}
