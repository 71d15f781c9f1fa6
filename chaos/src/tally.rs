//! Numbers over rounds, and the table of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::fault::Fault;
use crate::oracle::{Verdict, Wrong};

/// The numbers of one round, or the sum over several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rounds.
    pub rounds: u64,
    /// Events acknowledged to publishers.
    pub events: u64,
    /// Events that clients heard.
    pub deliveries: u64,
    /// Event streams that clients opened beyond their first.
    pub reconnects: u64,
    /// Gaps told after data had begun another life.
    pub gaps: u64,
    /// Gaps told without a reason.
    pub unexpected: u64,
    /// Events that never came to who was owed them, and no gap covers.
    pub lost: u64,
    /// Events that came again.
    pub duplicated: u64,
    /// Events that came after a later one.
    pub out_of_order: u64,
    /// Everything else that is wrong: statuses that end an `EventSource`, gateways that ended, numbers nobody published.
    pub other: u64,
    /// The longest that something was owed to a client which heard nothing.
    pub silence: Duration,
}

impl Tally {
    /// Adds the account of one client on one channel.
    pub fn add_verdict(&mut self, verdict: &Verdict) {
        self.deliveries += verdict.delivered;
        self.gaps += verdict.expected_gaps;
        self.silence = self.silence.max(verdict.silence);
        for violation in &verdict.violations {
            match violation.wrong {
                Wrong::Lost => self.lost += 1,
                Wrong::Duplicated => self.duplicated += 1,
                Wrong::OutOfOrder => self.out_of_order += 1,
                Wrong::UnexpectedGap => self.unexpected += 1,
                Wrong::Unknown => self.other += 1,
            }
        }
    }

    /// Adds another one's numbers.
    pub fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.events += other.events;
        self.deliveries += other.deliveries;
        self.reconnects += other.reconnects;
        self.gaps += other.gaps;
        self.unexpected += other.unexpected;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.other += other.other;
        self.silence = self.silence.max(other.silence);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.unexpected + self.other == 0
    }
}

/// The numbers of a run, by fault.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<Fault, Tally>,
    total: Tally,
}

impl Table {
    /// Adds a round, which counts for each of its faults.
    pub fn add(&mut self, faults: &[Fault], tally: &Tally) {
        self.total.add(tally);
        faults.iter().for_each(|fault| self.rows.entry(*fault).or_default().add(tally));
    }

    /// Everything, each round once.
    #[must_use]
    pub fn total(&self) -> &Tally {
        &self.total
    }

    /// As text, a line a fault, and the total.
    #[must_use]
    pub fn text(&self) -> String {
        let heads =
            ["rounds", "events", "heard", "reconnects", "gaps", "unexpected", "lost", "twice", "disorder", "other"];
        let mut text = format!("{:<17}", "fault");
        heads.iter().for_each(|head| _ = write!(text, " {head:>10}"));
        text += "    silence\n";
        let rows = self.rows.iter().map(|(fault, tally)| (fault.name(), tally));
        for (name, row) in rows.chain([("all rounds", &self.total)]) {
            let Tally { rounds, events, deliveries, reconnects, gaps, unexpected, lost, .. } = row;
            // Writing to a String cannot fail.
            let _ = write!(text, "{name:<17}");
            for number in [rounds, events, deliveries, reconnects, gaps, unexpected, lost] {
                let _ = write!(text, " {number:>10}");
            }
            let Tally { duplicated, out_of_order, other, silence, .. } = row;
            let silence = silence.as_secs_f64();
            let _ = writeln!(text, " {duplicated:>10} {out_of_order:>10} {other:>10} {silence:>8.1} s");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Violation;

    #[test]
    fn every_wrong_counts_and_fails() {
        let wrong = |wrong| Verdict { violations: vec![Violation { wrong, n: 1 }], ..Verdict::default() };
        for kind in [Wrong::Lost, Wrong::Duplicated, Wrong::OutOfOrder, Wrong::Unknown, Wrong::UnexpectedGap] {
            let mut tally = Tally::default();
            assert!(tally.passed());
            tally.add_verdict(&wrong(kind));
            assert!(!tally.passed(), "{kind:?}");
        }
        let mut tally = Tally::default();
        tally.add_verdict(&Verdict {
            delivered: 3,
            expected_gaps: 2,
            silence: Duration::from_secs(4),
            ..Verdict::default()
        });
        assert!(tally.passed());
    }

    #[test]
    fn a_round_counts_for_each_of_its_faults_and_once_in_total() {
        let mut table = Table::default();
        let tally = Tally { rounds: 1, events: 7, lost: 2, silence: Duration::from_millis(1_250), ..Tally::default() };
        table.add(&[Fault::Reset, Fault::Deaf], &tally);
        table.add(&[Fault::Deaf], &Tally { rounds: 1, events: 1, ..Tally::default() });
        let text = table.text();
        let row = |name: &str| {
            text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(row("reset")[1..3], ["1", "7"]);
        assert_eq!(row("deaf")[1..3], ["2", "8"]);
        assert_eq!(row("all rounds")[2..4], ["2", "8"]);
        assert_eq!(row("deaf")[7..], ["2", "0", "0", "0", "1.2", "s"]);
        assert_eq!(text.lines().map(str::len).collect::<std::collections::HashSet<_>>().len(), 1, "{text}");
    }
}
