//! What one client was owed on one channel, against what it heard: lost, repeated, out of order, or told of a gap.
//!
//! Pure: no clock, no socket, nothing but what was recorded. All times are since the round began.
//!
//! What is legitimate, and why:
//!
//! * **Where a client begins.** It is owed what was published after its first cursor: by position, where cursor and receipt
//!   are of one epoch, and else by time, when the first try came after the client had its cursor. What lies before may come or
//!   not. A client that was cut off before it had a cursor begins anew.
//! * **What a gap covers.** Events that are missing between the last event heard before the gap and the first one after it,
//!   if they had been published when the gap was told; and, where the gap's cursor and the receipt are of one epoch, lie not
//!   behind that cursor, from which on the channel is exact again. An event that Redis acknowledged and then lost is like
//!   any other here: nobody can deliver it, so its clients have to be told.
//! * **Which gap is right.** One that is told after the data began another life ([`Break`]). Another cause is one only if the
//!   channel itself says so, which never happens here: histories are larger than a round is long. A gap that names a cause
//!   of the client's own (`unknown_cursor`, `too_far`) is wrong always.
//! * **What may come twice.** An event that was first tried before Redis lost data and acknowledged after it: the key that
//!   makes a repetition harmless was lost with the data, so that the second try published it anew. Some nodes heard both.
//!   No event overtakes it meanwhile, since its publisher waits for the acknowledgement; but a try that was given up may
//!   still lie in a socket, and be carried out after its successor, if the data go away at just that time.
//! * A new epoch alone (a restart that lost nothing) makes gaps right, and nothing may come twice.

use std::collections::HashMap;
use std::time::Duration;

use shared::cursor::CursorPart;

/// A try that was given up may still be carried out for so long.
const LATE_TRY: Duration = Duration::from_secs(2);
/// Reasons of a gap that no fault here can cause.
const NEVER_RIGHT: [&str; 2] = ["unknown_cursor", "too_far"];

/// An acknowledged event; its number is its place in the list, from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// When it was tried first.
    pub tried: Duration,
    /// When it was acknowledged.
    pub acked: Duration,
    /// Calls to the publisher, of which all but the last had failed.
    pub calls: u32,
    /// From its receipt.
    pub cursor: Option<CursorPart>,
}

/// A time in which the data began another life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// Just before it.
    pub from: Duration,
    /// Just after it.
    pub to: Duration,
    /// Whether acknowledged data, the keys of repetitions among them, may be gone.
    pub loses: bool,
}

/// Where a client began: its first cursor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Start {
    /// When it got it.
    pub at: Duration,
    /// What it said.
    pub cursor: Option<CursorPart>,
}

/// What a client heard on a channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// The event with this number.
    Event {
        /// Its number.
        n: u64,
        /// When.
        at: Duration,
    },
    /// A gap.
    Gap {
        /// As it was told.
        reason: String,
        /// From where on the channel is exact again.
        cursor: Option<CursorPart>,
        /// When.
        at: Duration,
    },
}

/// What is wrong with what a client heard on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// It never came, and no gap covers it.
    Lost,
    /// It came again.
    Duplicated,
    /// It came after a later one.
    OutOfOrder,
    /// Nobody published it.
    Unknown,
    /// A gap for which there is no reason.
    UnexpectedGap,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Of which kind.
    pub wrong: Wrong,
    /// Number of the event; of a gap, that of the last event before it, or 0.
    pub n: u64,
}

/// The account of one client on one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events that came.
    pub delivered: u64,
    /// Gaps with a reason.
    pub expected_gaps: u64,
    /// Everything that is wrong, by number of the event within each kind.
    pub violations: Vec<Violation>,
    /// The longest that an owed event was out when the client heard nothing on this channel, neither it nor a gap.
    pub silence: Duration,
}

/// Judges what was `heard`, in its order, by a client that began at `start` (`None`: it never got a cursor), against all that
/// was `published` on the channel.
#[must_use]
pub fn judge(published: &[Published], start: Option<Start>, heard: &[Heard], breaks: &[Break]) -> Verdict {
    let mut account = Account { published, breaks, verdict: Verdict::default(), came: HashMap::new() };
    let (mut holes, mut gaps, mut high, mut gaps_before) = (Vec::new(), Vec::new(), 0, 0);
    for item in heard {
        match item {
            Heard::Gap { reason, cursor, at } => {
                account.gap(reason, *at, high);
                gaps.push((*at, *cursor));
            }
            Heard::Event { n, at } => {
                if account.event(*n, *at, high) {
                    holes.push((high + 1..*n, gaps_before..gaps.len()));
                    (high, gaps_before) = (*n, gaps.len());
                }
            }
        }
    }
    holes.push((high + 1..published.len() as u64 + 1, gaps_before..gaps.len()));
    // One that never began is owed nothing.
    let Some(start) = start else { return account.finish() };
    for (missing, between) in holes {
        for n in missing {
            account.missing(n, start, &gaps[between.clone()]);
        }
    }
    account.silence(start, heard);
    account.finish()
}

struct Account<'a> {
    published: &'a [Published],
    breaks: &'a [Break],
    verdict: Verdict,
    /// How often each came.
    came: HashMap<u64, u32>,
}

impl Account<'_> {
    /// Takes an event into account, the highest before it being `high`. Returns whether it is the next in order.
    fn event(&mut self, n: u64, at: Duration, high: u64) -> bool {
        self.verdict.delivered += 1;
        let Some(published) = self.get(n) else {
            self.wrong(Wrong::Unknown, n);
            return false;
        };
        // Heard before it was tried: the numbers are not those of this round.
        if at < published.tried {
            self.wrong(Wrong::Unknown, n);
            return false;
        }
        let came = self.came.entry(n).or_default();
        *came += 1;
        let came = *came;
        let twice = self.may_come_twice(&published);
        if came > 1 && !(twice && came == 2) {
            self.wrong(Wrong::Duplicated, n);
        } else if came == 1 && n < high && !twice {
            self.wrong(Wrong::OutOfOrder, n);
        }
        n > high
    }

    fn gap(&mut self, reason: &str, at: Duration, high: u64) {
        let broken = self.breaks.iter().any(|a_break| a_break.from <= at);
        if broken && !NEVER_RIGHT.contains(&reason) {
            self.verdict.expected_gaps += 1;
        } else {
            self.wrong(Wrong::UnexpectedGap, high);
        }
    }

    /// An event that did not come in its order, with the gaps told where it should have been.
    fn missing(&mut self, n: u64, start: Start, gaps: &[(Duration, Option<CursorPart>)]) {
        let Some(published) = self.get(n) else { return };
        let came_late = self.came.contains_key(&n);
        let covered = gaps.iter().any(|(at, cursor)| covers(*at, *cursor, &published));
        if !came_late && is_owed(&published, start) && !covered {
            self.wrong(Wrong::Lost, n);
        }
    }

    /// How long anything that was owed was out before the client heard anything more.
    fn silence(&mut self, start: Start, heard: &[Heard]) {
        let times: Vec<Duration> = heard.iter().map(Heard::at).collect();
        for published in self.published.iter().filter(|published| is_owed(published, start)) {
            let since = published.acked.max(start.at);
            let next = times.partition_point(|at| *at < published.tried);
            let until = times.get(next).copied();
            let silence = until.map_or(Duration::ZERO, |until| until.saturating_sub(since));
            self.verdict.silence = self.verdict.silence.max(silence);
        }
    }

    fn may_come_twice(&self, published: &Published) -> bool {
        let late = if published.calls > 1 { LATE_TRY } else { Duration::ZERO };
        let lost = self.breaks.iter().filter(|a_break| a_break.loses);
        lost.into_iter().any(|lost| published.tried <= lost.to && published.acked + late >= lost.from)
    }

    fn get(&self, n: u64) -> Option<Published> {
        let place = usize::try_from(n.checked_sub(1)?).ok()?;
        self.published.get(place).copied()
    }

    fn wrong(&mut self, wrong: Wrong, n: u64) {
        self.verdict.violations.push(Violation { wrong, n });
    }

    fn finish(mut self) -> Verdict {
        self.verdict.violations.sort_by_key(|violation| (violation.wrong, violation.n));
        self.verdict
    }
}

impl Heard {
    /// When.
    #[must_use]
    pub fn at(&self) -> Duration {
        match self {
            Self::Event { at, .. } | Self::Gap { at, .. } => *at,
        }
    }
}

fn is_owed(published: &Published, start: Start) -> bool {
    let behind = match (published.cursor, start.cursor) {
        (Some(event), Some(start)) => event.tag == start.tag && event.position > start.position,
        _ => false,
    };
    behind || published.tried > start.at
}

fn covers(at: Duration, cursor: Option<CursorPart>, published: &Published) -> bool {
    if published.tried > at {
        return false;
    }
    match (cursor, published.cursor) {
        (Some(gap), Some(event)) if gap.tag == event.tag => event.position <= gap.position,
        _ => true,
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
