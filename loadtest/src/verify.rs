//! The proof inside each event, and the account of what one connection received: lost, duplicated, out of order.
//!
//! Pure: it must not know about sockets, time or the publisher's tasks; the same calls always give the same account.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Upper bound, in bytes, of a marker as [`Marker::write`] renders it: three full numbers and their punctuation.
pub(crate) const MARKER_MAX_BYTES: usize = 64;

/// How many holes (runs of missing sequences) one connection remembers. Past it the oldest hole is given up as lost: what
/// then still arrives of it counts as duplicated, since it can no longer be told apart. Either way the run has failed.
const MAX_HOLES: usize = 4_096;

/// What each published event carries at the start of its data: `@<sequence>,<unix time in ns>,<key>;`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Position in the channel, from 0, without holes; below 2^64 - 1, so that there is always a next one.
    pub(crate) sequence: u64,
    /// When the publisher handed the event to its socket: nanoseconds since 1970.
    pub(crate) sent_at_ns: u64,
    /// Index of the channel it was published on.
    pub(crate) key: u32,
}

impl Marker {
    /// Appends the marker to `out`.
    pub(crate) fn write(&self, out: &mut String) {
        // Writing into a String cannot fail.
        let _ = write!(out, "@{},{},{};", self.sequence, self.sent_at_ns, self.key);
    }

    /// Reads the marker at the start of an event's data; `None` if there is none, as in events that others published.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let rest = data.strip_prefix(b"@")?;
        let (sequence, rest) = number(rest, b',')?;
        let (sent_at_ns, rest) = number(rest, b',')?;
        let (key, _padding) = number(rest, b';')?;
        let key = u32::try_from(key).ok()?;
        (sequence < u64::MAX).then_some(Self { sequence, sent_at_ns, key })
    }
}

/// The number at the start of `text`, digits only, and what follows the `end` behind it.
fn number(text: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, &byte) in text.iter().enumerate() {
        if byte == end && at > 0 {
            return Some((value, &text[at + 1..]));
        }
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    None
}

/// What one arrival meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one, or a later one (what it skipped is missing until it comes).
    InOrder,
    /// One that a later event had overtaken.
    Late,
    /// One that had been received already.
    Duplicate,
}

/// What the publisher did on one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Sequences used: `0..attempted` were sent, or at least tried.
    pub(crate) attempted: u64,
    /// Those of them that were not acknowledged, rising. Nobody can say whether such an event exists: its arrival is right,
    /// and its absence is no loss.
    pub(crate) unsure: Vec<u64>,
}

impl Published {
    /// Number of acknowledged sequences in `from..to`.
    fn acknowledged_within(&self, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let unsure = self.unsure.partition_point(|&s| s < to) - self.unsure.partition_point(|&s| s < from);
        to - from - unsure as u64
    }
}

/// The verdict on one connection, or the sum over many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Acknowledged events that had to arrive.
    pub(crate) expected: u64,
    /// Those of them that arrived, each counted once.
    pub(crate) delivered: u64,
    /// Those of them that did not: `expected - delivered`.
    pub(crate) lost: u64,
    /// Arrivals of what had arrived already.
    pub(crate) duplicated: u64,
    /// Events that arrived after a later one.
    pub(crate) out_of_order: u64,
    /// Sequences that arrived and that nobody had published.
    pub(crate) unknown: u64,
}

impl Verdict {
    /// Adds another connection's verdict.
    pub(crate) fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.unknown += other.unknown;
    }
}

/// The account of one connection on one channel. As long as all is well it is two numbers; holes cost memory only while
/// there are any, and at most [`MAX_HOLES`] of them.
#[derive(Debug)]
pub(crate) struct Tracker {
    first: u64,
    next: u64,
    /// `None` as long as nothing went wrong: a million trackers are small.
    faults: Option<Box<Faults>>,
}

/// What went wrong on one connection and channel.
#[derive(Debug, Default)]
struct Faults {
    /// Missing sequences below `next`, as rising, disjoint `from..to`.
    holes: VecDeque<(u64, u64)>,
    /// How many sequences were in holes past [`MAX_HOLES`].
    given_up: u64,
    duplicated: u64,
    out_of_order: u64,
}

impl Tracker {
    /// An account that begins with sequence `first`: a connection that joins in the middle is owed nothing before it, and
    /// what arrives from before it counts as duplicated.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, next: first, faults: None }
    }

    /// Takes one arrival into the account.
    #[inline]
    pub(crate) fn receive(&mut self, sequence: u64) -> Arrival {
        if sequence < self.next {
            return self.faults.get_or_insert_default().receive_old(sequence);
        }
        if sequence > self.next {
            self.faults.get_or_insert_default().remember_hole(self.next, sequence);
        }
        // A marker's sequence always has a next one.
        self.next = sequence.saturating_add(1);
        Arrival::InOrder
    }

    /// The verdict, once nothing more will arrive: what was published on the channel against what came.
    pub(crate) fn verdict(&self, published: &Published) -> Verdict {
        let none = Faults::default();
        let Faults { holes, given_up, duplicated, out_of_order } = self.faults.as_deref().unwrap_or(&none);
        let end = published.attempted;
        let expected = published.acknowledged_within(self.first, end);
        let in_holes: u64 = holes.iter().map(|&(from, to)| published.acknowledged_within(from, to.min(end))).sum();
        let after = published.acknowledged_within(self.next.max(self.first), end);
        let lost = in_holes.saturating_add(after).saturating_add(*given_up).min(expected);
        let missing_past_end: u64 = holes.iter().map(|&(from, to)| to.saturating_sub(from.max(end))).sum();
        Verdict {
            expected,
            delivered: expected - lost,
            lost,
            duplicated: *duplicated,
            out_of_order: *out_of_order,
            unknown: self.next.saturating_sub(end.max(self.first)).saturating_sub(missing_past_end),
        }
    }
}

impl Faults {
    fn receive_old(&mut self, sequence: u64) -> Arrival {
        // The first hole that ends after it is the only one that can hold it.
        let index = self.holes.partition_point(|&(_, to)| to <= sequence);
        let Some(&(from, to)) = self.holes.get(index).filter(|&&(from, _)| from <= sequence) else {
            self.duplicated += 1;
            return Arrival::Duplicate;
        };
        self.holes.remove(index);
        if sequence + 1 < to {
            self.holes.insert(index, (sequence + 1, to));
        }
        if from < sequence {
            self.holes.insert(index, (from, sequence));
        }
        self.limit_holes();
        self.out_of_order += 1;
        Arrival::Late
    }

    fn remember_hole(&mut self, from: u64, to: u64) {
        self.holes.push_back((from, to));
        self.limit_holes();
    }

    fn limit_holes(&mut self) {
        while self.holes.len() > MAX_HOLES {
            let Some((from, to)) = self.holes.pop_front() else { return };
            self.given_up = self.given_up.saturating_add(to - from);
        }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
