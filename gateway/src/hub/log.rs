//! The channel log: a ring of a channel's recent events, bounded in number, bytes and age. Durable events are read by
//! position, ephemeral ones by index. A connection that has not read what leaves the log is too slow and is closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use shared::position::Position;
use tokio::time::Instant;

use super::encoded::Encoded;

/// How many of the newest events are looked at one by one before the log is searched.
const NEAR: usize = 4;

/// Bounds of each channel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Events.
    pub events: usize,
    /// Bytes; the newest event stays whatever its size.
    pub bytes: usize,
    /// Age since arrival. It must exceed the write timeout, or a connection that is only waiting for its socket counts as slow.
    pub age: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        // A second of a very busy channel, or a minute of a large one: more than a healthy connection ever lags.
        Self { events: 1_024, bytes: 1 << 20, age: Duration::from_secs(60) }
    }
}

/// The events. Those of the two kinds are kept apart: the durable ones of a channel that catches up are older than the
/// ephemeral ones that arrived meanwhile.
#[derive(Debug, Default)]
pub struct Log {
    /// Positions rise, all above `floor`.
    durable: VecDeque<Arc<Encoded>>,
    /// Every durable event of the channel after it, as far as this node has heard, is in `durable`.
    floor: Position,
    /// In order of arrival.
    ephemeral: VecDeque<Arc<Encoded>>,
    /// Index of the first of `ephemeral`. Indexes count from 0 for each life of a channel and are never used twice.
    first: u64,
    /// Ephemeral events below this index left because of the limits.
    dropped: u64,
    bytes: usize,
}

impl Log {
    /// Appends an event, and drops old ones that no longer fit. A durable event that is not above all others is none of
    /// this log's.
    pub fn push(&mut self, event: Arc<Encoded>, limits: &LogLimits) {
        let now = event.arrived();
        let size = event.size();
        if event.cursor().is_some() {
            let position = event.order().position;
            if position <= self.floor || self.durable.back().is_some_and(|last| last.order().position >= position) {
                return;
            }
            self.durable.push_back(event);
        } else {
            self.ephemeral.push_back(event);
        }
        self.bytes += size;
        while self.len() > 1 && (self.len() > limits.events || self.bytes > limits.bytes) {
            self.drop_oldest();
        }
        self.trim(now, limits);
    }

    /// Drops what is too old.
    pub fn trim(&mut self, now: Instant, limits: &LogLimits) {
        let old = |event: Option<&Arc<Encoded>>| {
            event.is_some_and(|event| now.saturating_duration_since(event.arrived()) > limits.age)
        };
        while old(self.durable.front()) {
            self.drop_durable();
        }
        while old(self.ephemeral.front()) {
            self.drop_ephemeral();
        }
        // Most channels are quiet most of the time: what a burst took is given back.
        for events in [&mut self.durable, &mut self.ephemeral] {
            if events.is_empty() && events.capacity() > 0 {
                *events = VecDeque::new();
            }
        }
    }

    /// Forgets the durable events up to `floor`: whoever has not read that far finds that they have left.
    pub fn raise_floor(&mut self, floor: Position) {
        while self.durable.front().is_some_and(|event| event.order().position <= floor) {
            self.drop_durable();
        }
        self.floor = self.floor.max(floor);
    }

    /// The data have begun another life at `floor`: nothing of the one before is worth anything, and nobody was too slow.
    pub fn restart(&mut self, floor: Position) {
        self.first += self.ephemeral.len() as u64;
        self.durable.clear();
        self.ephemeral.clear();
        (self.bytes, self.floor) = (0, floor);
    }

    /// Durable events at or before it are not here.
    #[must_use]
    pub fn floor(&self) -> Position {
        self.floor
    }

    /// Durable events after `position`, in order; `None` if some of them have left the log.
    #[must_use]
    pub fn after(&self, position: Position) -> Option<impl Iterator<Item = &Arc<Encoded>>> {
        if position < self.floor {
            return None;
        }
        let is_told = |event: &Arc<Encoded>| event.order().position <= position;
        // Most who ask have all but the last.
        let from = match self.durable.iter().rev().take(NEAR).position(is_told) {
            Some(later) => self.durable.len() - later,
            None => self.durable.partition_point(is_told),
        };
        Some(self.durable.range(from..))
    }

    /// Whether somebody at `position`, with `next` as the next ephemeral event to take, has all of it.
    #[must_use]
    pub fn is_read(&self, position: Position, next: u64) -> bool {
        next == self.end() && self.durable.back().is_none_or(|last| last.order().position <= position)
    }

    /// Index that the next ephemeral event will get.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.ephemeral.len() as u64
    }

    /// Ephemeral events from `index` on with their indexes, in order; `None` if some of them have left the log.
    #[must_use]
    pub fn from(&self, index: u64) -> Option<impl Iterator<Item = (u64, &Arc<Encoded>)>> {
        if index < self.dropped {
            return None;
        }
        let skip = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.ephemeral.len());
        Some((self.first + skip as u64..).zip(self.ephemeral.range(skip..)))
    }

    /// Events.
    pub(super) fn len(&self) -> usize {
        self.durable.len() + self.ephemeral.len()
    }

    /// Their memory, as it is bounded.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_oldest(&mut self) {
        match (self.durable.front(), self.ephemeral.front()) {
            (Some(durable), Some(ephemeral)) if durable.arrived() > ephemeral.arrived() => self.drop_ephemeral(),
            (None, _) => self.drop_ephemeral(),
            _ => self.drop_durable(),
        }
    }

    fn drop_durable(&mut self) {
        if let Some(event) = self.durable.pop_front() {
            self.bytes -= event.size();
            self.floor = self.floor.max(event.order().position);
        }
    }

    fn drop_ephemeral(&mut self) {
        if let Some(event) = self.ephemeral.pop_front() {
            self.bytes -= event.size();
            self.first += 1;
            self.dropped = self.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::channel::Channel;
    use shared::cursor::CursorPart;

    use super::super::encoded::Order;
    use super::*;
    use crate::broker::{Message, Stamp};

    fn at(ms: u64) -> Position {
        Position { ms, seq: 0 }
    }

    fn ephemeral(data: &str, arrived: Instant) -> Arc<Encoded> {
        let message = Message { channel: Channel::parse("c").unwrap(), payload: data.to_owned().into(), stamp: None };
        Arc::new(Encoded::new(message, None, Order { position: Position::ZERO, arrival: 1 }, arrived))
    }

    fn durable(ms: u64, data: &str, arrived: Instant) -> Arc<Encoded> {
        let stamp = Some(Stamp { position: at(ms), previous: Position::ZERO });
        let message = Message { channel: Channel::parse("c").unwrap(), payload: data.to_owned().into(), stamp };
        let cursor = CursorPart { partition: None, position: at(ms), tag: "abcde".parse().unwrap() };
        Arc::new(Encoded::new(message, Some(cursor), Order { position: at(ms), arrival: 0 }, arrived))
    }

    fn texts(log: &Log, index: u64) -> Option<Vec<String>> {
        let text = |event: &Arc<Encoded>| String::from_utf8_lossy(event.block(Default::default())).into_owned();
        log.from(index).map(|events| events.map(|(_, event)| text(event)).collect())
    }

    fn positions(log: &Log, after: u64) -> Option<Vec<u64>> {
        log.after(at(after)).map(|events| events.map(|event| event.order().position.ms).collect())
    }

    #[test]
    fn reads_ephemeral_events_from_an_index() {
        let (mut log, now) = (Log::default(), Instant::now());
        assert_eq!(texts(&log, 0), Some(vec![]));
        for data in ["a", "b", "c"] {
            log.push(ephemeral(data, now), &LogLimits::default());
        }
        assert_eq!(log.end(), 3);
        assert_eq!(texts(&log, 1), Some(vec!["data: b\n\n".into(), "data: c\n\n".into()]));
        assert_eq!(texts(&log, 3), Some(vec![]));
    }

    #[test]
    fn reads_durable_events_after_a_position() {
        let (mut log, now) = (Log::default(), Instant::now());
        for ms in [5, 7, 7, 6, 9] {
            log.push(durable(ms, "x", now), &LogLimits::default());
        }
        assert_eq!(positions(&log, 0), Some(vec![5, 7, 9]), "none twice, none out of order");
        assert_eq!(positions(&log, 6), Some(vec![7, 9]));
        assert_eq!(positions(&log, 9), Some(vec![]));
        log.raise_floor(at(7));
        assert_eq!((positions(&log, 6), positions(&log, 7)), (None, Some(vec![9])));
        log.push(durable(8, "x", now), &LogLimits::default());
        assert_eq!(positions(&log, 7), Some(vec![9]));
    }

    #[test]
    fn bounded_in_number_bytes_and_age() {
        let now = Instant::now();
        let limits = LogLimits { events: 3, ..LogLimits::default() };
        let mut log = Log::default();
        for ms in 1..=4 {
            log.push(durable(ms, "x", now), &limits);
        }
        assert_eq!((positions(&log, 0), positions(&log, 1)), (None, Some(vec![2, 3, 4])));

        let one = durable(1, &"x".repeat(1_000), now).size();
        let limits = LogLimits { bytes: 2 * one, ..LogLimits::default() };
        let mut log = Log::default();
        for ms in 1..=3 {
            log.push(durable(ms, &"x".repeat(1_000), now), &limits);
        }
        assert_eq!((positions(&log, 0), positions(&log, 1)), (None, Some(vec![2, 3])));
        log.push(durable(4, &"x".repeat(9_000), now), &limits);
        assert_eq!(positions(&log, 3), Some(vec![4]), "the newest stays whatever its size");

        let limits = LogLimits { age: Duration::from_secs(10), ..LogLimits::default() };
        let mut log = Log::default();
        log.push(ephemeral("old", now), &limits);
        log.push(durable(1, "old", now), &limits);
        log.push(durable(2, "new", now + Duration::from_secs(11)), &limits);
        log.trim(now + Duration::from_secs(11), &limits);
        assert_eq!((texts(&log, 0), texts(&log, 1)), (None, Some(vec![])));
        assert_eq!((positions(&log, 0), positions(&log, 1)), (None, Some(vec![2])));
    }

    #[test]
    fn the_oldest_of_both_kinds_goes_first() {
        let now = Instant::now();
        let limits = LogLimits { events: 2, ..LogLimits::default() };
        let mut log = Log::default();
        log.push(ephemeral("a", now), &limits);
        log.push(durable(1, "b", now + Duration::from_secs(1)), &limits);
        log.push(durable(2, "c", now + Duration::from_secs(2)), &limits);
        assert_eq!((texts(&log, 0), positions(&log, 0)), (None, Some(vec![1, 2])));
        log.push(ephemeral("d", now + Duration::from_secs(3)), &limits);
        assert_eq!((texts(&log, 1), positions(&log, 0)), (Some(vec!["data: d\n\n".into()]), None));
    }

    #[test]
    fn another_life_makes_nobody_slow() {
        let (mut log, now) = (Log::default(), Instant::now());
        log.push(ephemeral("a", now), &LogLimits::default());
        log.push(durable(9, "b", now), &LogLimits::default());
        log.restart(at(3));
        assert_eq!((texts(&log, 0), log.end()), (Some(vec![]), 1));
        assert_eq!((positions(&log, 3), log.floor()), (Some(vec![]), at(3)));
        log.push(durable(4, "c", now), &LogLimits::default());
        log.push(ephemeral("d", now), &LogLimits::default());
        assert_eq!((positions(&log, 3), texts(&log, 0)), (Some(vec![4]), Some(vec!["data: d\n\n".into()])));
    }
}
