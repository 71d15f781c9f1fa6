//! What is shown of something wrong: enough to see it happen, and where the rest lies.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::lock;
use crate::oracle::{Break, Heard, Published, Verdict, Wrong};
use crate::record::{Record, connect_text, cursor_text, heard_text, seconds};

/// Lines shown before and after the moment at which it went wrong.
const AROUND: usize = 6;

/// A paragraph about what is wrong with what a client heard on a channel.
#[must_use]
pub fn describe(
    client: usize,
    channel: usize,
    record: &Record,
    published: &[Published],
    breaks: &[Break],
    verdict: &Verdict,
) -> String {
    let mut text = format!("client {client}, channel {channel}: {}", summary(verdict));
    let Some(first) = verdict.violations.first() else { return text };
    let place = usize::try_from(first.n).ok().and_then(|n| published.get(n.checked_sub(1)?));
    // Writing to a String cannot fail.
    if let Some(Published { tried, acked, calls, cursor }) = place {
        let (tried, acked, cursor) = (seconds(*tried), seconds(*acked), cursor_text(*cursor));
        let _ = write!(text, "\n    number {} was first tried at {tried}, acknowledged at {acked} ", first.n);
        let _ = write!(text, "after {calls} call(s), as {cursor}");
    }
    for Break { from, to, loses } in breaks {
        let what = if *loses { "data were lost" } else { "a new epoch began" };
        let _ = write!(text, "\n    {what} between {} and {}", seconds(*from), seconds(*to));
    }
    let mut lines = Vec::new();
    for heard in record.heard_on(channel) {
        lines.push((heard.at(), heard_text(&heard), is_after(&heard, first.n)));
    }
    for connect in &record.connects {
        let outcome = if connect.answered { "" } else { " (refused)" };
        lines.push((connect.at, connect_text(connect) + outcome, false));
        if let Some((at, how)) = &connect.ended {
            lines.push((*at, format!("{how} (node {})", connect.node), false));
        }
    }
    lines.sort_by_key(|(at, ..)| *at);
    // Around the first thing heard that lies behind the wrong one, or the end.
    let middle = lines.iter().position(|(.., after)| *after).unwrap_or(lines.len());
    let shown = middle.saturating_sub(AROUND)..(middle + AROUND).min(lines.len());
    for (at, line, _) in &lines[shown] {
        let _ = write!(text, "\n    {} {line}", seconds(*at));
    }
    text
}

/// Writes what was done and when into `folder`. What cannot be written is missing there.
pub(crate) fn keep_timeline(folder: &Path, timeline: &[(Duration, String)]) {
    let lines = timeline.iter().map(|(at, line)| format!("{} {line}\n", seconds(*at)));
    let _ = std::fs::write(folder.join("timeline.txt"), lines.collect::<String>());
}

/// Writes what clients lived through, and what is wrong with it, into `folder`. What cannot be written is missing there.
pub(crate) fn keep(folder: &Path, records: &[Arc<Mutex<Record>>], wrongs: &[String]) {
    let _ = std::fs::write(folder.join("wrong.txt"), wrongs.join("\n"));
    let texts = records.iter().enumerate();
    let texts = texts.map(|(index, record)| format!("client {} {}\n", index + 1, lock(record).text()));
    let _ = std::fs::write(folder.join("clients.txt"), texts.collect::<String>());
}

/// Each kind of wrong with its numbers: `3 lost (7-9), 1 repeated (12)`.
fn summary(verdict: &Verdict) -> String {
    let kinds = [
        (Wrong::Lost, "lost"),
        (Wrong::Duplicated, "repeated"),
        (Wrong::OutOfOrder, "out of order"),
        (Wrong::Unknown, "never published"),
        (Wrong::UnexpectedGap, "gap(s) without a reason, after"),
    ];
    let mut parts = Vec::new();
    for (kind, name) in kinds {
        let of_kind = verdict.violations.iter().filter(|violation| violation.wrong == kind);
        let numbers: Vec<u64> = of_kind.map(|violation| violation.n).collect();
        if !numbers.is_empty() {
            parts.push(format!("{} {name} ({})", numbers.len(), ranges(&numbers)));
        }
    }
    parts.join(", ")
}

/// Rising numbers, runs of them written `from-to`.
fn ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|a, b| *b == a + 1);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn is_after(heard: &Heard, n: u64) -> bool {
    matches!(heard, Heard::Event { n: this, .. } if *this > n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::judge;
    use crate::record::Connect;

    #[test]
    fn it_shows_what_happened_around_the_first_hole() {
        let ms = Duration::from_millis;
        let published: Vec<_> = (1..=20)
            .map(|n| Published { tried: ms(n * 100), acked: ms(n * 100 + 1), calls: 1, cursor: None })
            .collect();
        let heard =
            (1..=20).filter(|n| ![10, 11, 15].contains(n)).map(|n| (4, Heard::Event { n, at: ms(n * 100 + 5) }));
        let connect = |at, node, cursor: &str, ended: Option<&str>| Connect {
            at: ms(at),
            node,
            cursor: cursor.to_owned(),
            answered: true,
            ended: ended.map(|how| (ms(at + 960), how.to_owned())),
        };
        let record = Record {
            channels: vec![4],
            heard: heard.collect(),
            start: Some((ms(10), None)),
            connects: vec![connect(5, 1, "", Some("the stream broke")), connect(1_050, 2, "9-0_abcde", None)],
            fatal: Vec::new(),
        };
        let verdict = judge(&published, record.start_on(0), &record.heard_on(4), &[]);
        let breaks = [Break { from: ms(950), to: ms(960), loses: false }];
        let text = describe(17, 4, &record, &published, &breaks, &verdict);
        assert!(text.starts_with("client 17, channel 4: 3 lost (10-11, 15)\n"), "{text}");
        for line in [
            "number 10 was first tried at    1.000",
            "a new epoch began between    0.950",
            "   0.905 number 9\n",
            "   0.965 the stream broke (node 1)\n",
            "   1.050 connects to node 2 with 9-0_abcde\n",
            "   1.205 number 12\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("number 2\n"), "far away: {text}");
    }

    #[test]
    fn runs_are_written_short() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
    }
}
