//! The last hundred changes of state, each with its time. What happens again and again is one entry that grows, so that it does not push out
//! the others.

use std::collections::VecDeque;

use serde::Serialize;

use super::sample::Counts;

/// Entries that are kept.
const MOST: usize = 100;
/// What happens again within so many milliseconds is told by the entry that there is.
const TOGETHER: u64 = 60_000;

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
}

/// Bounded by [`MOST`], the newest last. Written by `gather` alone.
#[derive(Debug, Default)]
pub(super) struct Log(VecDeque<Entry>);

impl Log {
    pub(super) fn add(&mut self, at: u64, about: About, tone: Tone, text: impl Into<String>) {
        self.push(Entry { at, until: None, about, tone, text: text.into(), counts: None });
    }

    /// So much of something happened, by reason; `say` puts it in words. Nothing is no entry.
    pub(super) fn count(&mut self, at: u64, about: About, tone: Tone, risen: Counts, say: fn(&Counts) -> String) {
        if risen.is_empty() {
            return;
        }
        let is_same = |entry: &&mut Entry| {
            let last = entry.until.unwrap_or(entry.at);
            entry.about == about && entry.counts.is_some() && at.saturating_sub(last) < TOGETHER
        };
        if let Some(entry) = self.0.iter_mut().rev().find(is_same)
            && let Some(counts) = &mut entry.counts
        {
            for (reason, by) in risen {
                let count = counts.entry(reason).or_default();
                *count = count.saturating_add(by);
            }
            entry.text = say(counts);
            entry.until = Some(at);
            return;
        }
        self.push(Entry { at, until: None, about, tone, text: say(&risen), counts: Some(risen) });
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

    #[test]
    fn the_oldest_goes_first() {
        let mut log = Log::default();
        for n in 0..MOST as u64 + 1 {
            log.add(n, About::Nodes, Tone::Plain, format!("{n}"));
        }
        let texts = texts(&log);
        assert_eq!((texts.len(), texts[0], texts[MOST - 1]), (MOST, "100", "1"));
    }

    #[test]
    fn what_goes_on_is_one_entry() {
        let mut log = Log::default();
        let gaps = |log: &mut Log, at, reason, by| log.count(at, About::Gaps, Tone::Warning, counts(reason, by), say);
        gaps(&mut log, 1_000, "trimmed", 2);
        log.add(2_000, About::Redis, Tone::Bad, "lost");
        log.count(3_000, About::Limits, Tone::Warning, counts("address", 7), say);
        gaps(&mut log, 60_000, "trimmed", 3);
        gaps(&mut log, 119_999, "expired", 1);
        assert_eq!(texts(&log), ["7 address", "lost", "1 expired, 5 trimmed"]);
        let oldest = log.newest_first().last().unwrap();
        assert_eq!((oldest.at, oldest.until), (1_000, Some(119_999)));
        // A minute of silence is the end of it.
        gaps(&mut log, 179_999, "trimmed", 1);
        assert_eq!(texts(&log)[0], "1 trimmed");
        log.count(180_000, About::Gaps, Tone::Warning, Counts::new(), say);
        assert_eq!(texts(&log).len(), 4);
    }

    #[test]
    fn as_the_page_reads_it() {
        let mut log = Log::default();
        log.add(5, About::Node, Tone::Good, "has started");
        let text = serde_json::to_string(log.newest_first().next().unwrap()).unwrap();
        assert_eq!(text, r#"{"at":5,"about":"node","tone":"good","text":"has started"}"#);
    }
}
