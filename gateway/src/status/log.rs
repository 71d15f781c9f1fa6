//! The last hundred changes of state, each with its time. What happens again and again is one entry that grows, so that it does not push out
//! the others.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::sample::Counts;

/// Entries that are kept.
const MOST: usize = 100;
/// What happens again within so long is told by the entry that there is.
const TOGETHER: Duration = Duration::from_secs(60);

/// The time of one look, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// What lies between two looks is told by this one.
    pub(super) instant: Instant,
    /// Unix milliseconds, which people put on and back.
    pub(super) unix: u64,
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum About {
    /// This process.
    Node,
    /// The others.
    Nodes,
    Redis,
    Gaps,
    Limits,
}

/// How it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tone {
    Good,
    Plain,
    Warning,
    Bad,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Unix milliseconds.
    pub(super) at: u64,
    /// The last time, where it was counted more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<u64>,
    pub(super) about: About,
    pub(super) tone: Tone,
    pub(super) text: String,
    /// What `text` was made from, where it is counted.
    #[serde(skip)]
    counts: Option<Counts>,
    /// When it was made, or counted last.
    #[serde(skip)]
    last: Instant,
}

impl Entry {
    fn new(now: Now, about: About, tone: Tone, text: String, counts: Option<Counts>) -> Self {
        Self { at: now.unix, until: None, about, tone, text, counts, last: now.instant }
    }
}

/// Bounded by [`MOST`], the newest last. Written by `gather` alone.
#[derive(Debug, Default)]
pub(super) struct Log(VecDeque<Entry>);

impl Log {
    pub(super) fn add(&mut self, now: Now, about: About, tone: Tone, text: impl Into<String>) {
        self.push(Entry::new(now, about, tone, text.into(), None));
    }

    /// So much of something happened, by reason; `say` puts it in words. Nothing is no entry.
    pub(super) fn count(&mut self, now: Now, about: About, tone: Tone, risen: Counts, say: fn(&Counts) -> String) {
        if risen.is_empty() {
            return;
        }
        let is_same = |entry: &&mut Entry| {
            let is_recent = now.instant.saturating_duration_since(entry.last) < TOGETHER;
            // A clock that was put back begins another one: none ends before it begins.
            let goes_on = now.unix >= entry.until.unwrap_or(entry.at);
            entry.about == about && entry.counts.is_some() && is_recent && goes_on
        };
        if let Some(entry) = self.0.iter_mut().rev().find(is_same)
            && let Some(counts) = &mut entry.counts
        {
            for (reason, by) in risen {
                let count = counts.entry(reason).or_default();
                *count = count.saturating_add(by);
            }
            entry.text = say(counts);
            (entry.until, entry.last) = (Some(now.unix), now.instant);
            return;
        }
        self.push(Entry::new(now, about, tone, say(&risen), Some(risen)));
    }

    /// The newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().rev()
    }

    fn push(&mut self, entry: Entry) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(reason: &str, by: u64) -> Counts {
        Counts::from([(reason.to_owned(), by)])
    }

    fn say(counts: &Counts) -> String {
        let parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.join(", ")
    }

    fn texts(log: &Log) -> Vec<&str> {
        log.newest_first().map(|entry| &*entry.text).collect()
    }

    /// The same by both clocks.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, millis: u64) -> Now {
            self.put(millis, millis)
        }

        /// So much later, while the clock on the wall says `unix`.
        fn put(&self, millis: u64, unix: u64) -> Now {
            Now { instant: self.0 + Duration::from_millis(millis), unix }
        }
    }

    fn gaps(log: &mut Log, now: Now, reason: &str, by: u64) {
        log.count(now, About::Gaps, Tone::Warning, counts(reason, by), say);
    }

    #[test]
    fn the_oldest_goes_first() {
        let (mut log, clock) = (Log::default(), Clock(Instant::now()));
        for n in 0..MOST as u64 + 1 {
            log.add(clock.at(n), About::Nodes, Tone::Plain, format!("{n}"));
        }
        let texts = texts(&log);
        assert_eq!((texts.len(), texts[0], texts[MOST - 1]), (MOST, "100", "1"));
    }

    #[test]
    fn what_goes_on_is_one_entry() {
        let (mut log, clock) = (Log::default(), Clock(Instant::now()));
        gaps(&mut log, clock.at(1_000), "trimmed", 2);
        log.add(clock.at(2_000), About::Redis, Tone::Bad, "lost");
        log.count(clock.at(3_000), About::Limits, Tone::Warning, counts("address", 7), say);
        gaps(&mut log, clock.at(60_000), "trimmed", 3);
        gaps(&mut log, clock.at(119_999), "expired", 1);
        assert_eq!(texts(&log), ["7 address", "lost", "1 expired, 5 trimmed"]);
        let oldest = log.newest_first().last().unwrap();
        assert_eq!((oldest.at, oldest.until), (1_000, Some(119_999)));
        // A minute of silence is the end of it.
        gaps(&mut log, clock.at(179_999), "trimmed", 1);
        assert_eq!(texts(&log)[0], "1 trimmed");
        log.count(clock.at(180_000), About::Gaps, Tone::Warning, Counts::new(), say);
        assert_eq!(texts(&log).len(), 4);
    }

    /// What lies within a minute of it counts, whatever the clock on the wall says, and no entry ends before it begins.
    #[test]
    fn a_clock_that_is_put_back_or_on_takes_nothing_together_that_is_not() {
        const HOUR: u64 = 3_600_000;
        let (mut log, clock) = (Log::default(), Clock(Instant::now()));
        gaps(&mut log, clock.put(0, 2 * HOUR), "trimmed", 1);
        gaps(&mut log, clock.put(1_000, HOUR), "trimmed", 2);
        gaps(&mut log, clock.put(2_000, HOUR + 1_000), "trimmed", 3);
        gaps(&mut log, clock.put(62_000, HOUR + 61_000), "trimmed", 4);
        // Put on: a second has passed.
        gaps(&mut log, clock.put(63_000, 3 * HOUR), "trimmed", 5);
        let entries: Vec<_> = log.newest_first().map(|entry| (&*entry.text, entry.at, entry.until)).collect();
        let expected = [
            ("9 trimmed", HOUR + 61_000, Some(3 * HOUR)),
            ("5 trimmed", HOUR, Some(HOUR + 1_000)),
            ("1 trimmed", 2 * HOUR, None),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn as_the_page_reads_it() {
        let mut log = Log::default();
        log.add(Clock(Instant::now()).at(5), About::Node, Tone::Good, "has started");
        let text = serde_json::to_string(log.newest_first().next().unwrap()).unwrap();
        assert_eq!(text, r#"{"at":5,"about":"node","tone":"good","text":"has started"}"#);
    }
}
