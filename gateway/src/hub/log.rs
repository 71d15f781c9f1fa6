//! The channel log: a ring of a channel's recent events, bounded in number, bytes and age. Connections read it by index;
//! one whose next index has left the log is too slow and is closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::encoded::Encoded;

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

/// Events `first ..`, by index. Indexes count from 0 for each life of a channel and are never used twice.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Arc<Encoded>>,
    first: u64,
    bytes: usize,
}

impl Log {
    /// Appends an event, and drops old ones that no longer fit.
    pub fn push(&mut self, event: Arc<Encoded>, limits: &LogLimits) {
        self.bytes += event.size();
        let now = event.arrived();
        self.entries.push_back(event);
        while self.entries.len() > 1 && (self.entries.len() > limits.events || self.bytes > limits.bytes) {
            self.pop();
        }
        self.trim(now, limits);
    }

    /// Drops what is too old.
    pub fn trim(&mut self, now: Instant, limits: &LogLimits) {
        while self.entries.front().is_some_and(|event| now.saturating_duration_since(event.arrived()) > limits.age) {
            self.pop();
        }
    }

    /// Drops everything. Who had not read all of it finds that it has left.
    pub fn clear(&mut self) {
        while !self.entries.is_empty() {
            self.pop();
        }
    }

    /// Index that the next event will get.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Events from `index` on, in order; `None` if some of them have left the log.
    #[must_use]
    pub fn from(&self, index: u64) -> Option<impl Iterator<Item = &Arc<Encoded>>> {
        let skip = usize::try_from(index.checked_sub(self.first)?).ok()?;
        Some(self.entries.iter().skip(skip))
    }

    fn pop(&mut self) {
        if let Some(event) = self.entries.pop_front() {
            self.bytes -= event.size();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoded::Order;
    use super::*;
    use crate::broker::Message;
    use shared::channel::Channel;
    use shared::position::Position;

    fn event(data: &str, arrived: Instant) -> Arc<Encoded> {
        let message = Message { channel: Channel::parse("c").unwrap(), payload: data.to_owned().into(), stamp: None };
        Arc::new(Encoded::new(message, None, Order { position: Position::ZERO, arrival: 1 }, arrived))
    }

    fn texts(log: &Log, index: u64) -> Option<Vec<String>> {
        let text = |event: &Arc<Encoded>| String::from_utf8_lossy(event.block(Default::default())).into_owned();
        log.from(index).map(|events| events.map(text).collect())
    }

    #[test]
    fn reads_from_an_index() {
        let (mut log, now) = (Log::default(), Instant::now());
        assert_eq!(texts(&log, 0), Some(vec![]));
        for data in ["a", "b", "c"] {
            log.push(event(data, now), &LogLimits::default());
        }
        assert_eq!(log.end(), 3);
        assert_eq!(texts(&log, 1), Some(vec!["data: b\n\n".into(), "data: c\n\n".into()]));
        assert_eq!(texts(&log, 3), Some(vec![]));
    }

    #[test]
    fn bounded_in_number() {
        let (mut log, now) = (Log::default(), Instant::now());
        for _ in 0..5 {
            log.push(event("a", now), &LogLimits { events: 3, ..LogLimits::default() });
        }
        assert_eq!(log.end(), 5);
        assert_eq!(texts(&log, 1), None, "left the log");
        assert_eq!(texts(&log, 2).unwrap().len(), 3);
    }

    #[test]
    fn bounded_in_bytes_but_for_the_newest() {
        let (mut log, now) = (Log::default(), Instant::now());
        let limits = LogLimits { bytes: 2_000, ..LogLimits::default() };
        for _ in 0..20 {
            log.push(event(&"x".repeat(200), now), &limits);
        }
        assert!(log.bytes <= 2_000 && log.entries.len() > 1);
        log.push(event(&"x".repeat(5_000), now), &limits);
        assert_eq!(log.entries.len(), 1);
    }

    #[test]
    fn bounded_in_age() {
        let (mut log, start) = (Log::default(), Instant::now());
        let limits = LogLimits::default();
        log.push(event("a", start), &limits);
        log.push(event("b", start + limits.age), &limits);
        assert_eq!(log.entries.len(), 2);
        log.trim(start + limits.age * 2, &limits);
        assert_eq!(log.entries.len(), 1);
        log.trim(start + limits.age * 3, &limits);
        assert_eq!((log.entries.len(), log.bytes, log.end()), (0, 0, 2));
    }
}
