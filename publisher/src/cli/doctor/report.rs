//! The report as it is written: a line a check as soon as it is done, then what to change; or one JSON object at the end.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::checks::{Check, Verdict};
use crate::cli::output;

/// Of a line: wide enough for the longest name, and for the longest verdict.
const NAMES: usize = 12;
const VERDICTS: usize = 12;

/// Collects checks, and shows them as they come.
pub(super) struct Report {
    json: bool,
    /// Written by whoever has done a check, read at the end.
    checks: Mutex<Vec<Check>>,
}

/// All of it, for a program.
#[derive(Serialize)]
struct Whole<'a> {
    url: &'a str,
    verdict: Verdict,
    checks: &'a [Check],
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, checks: Mutex::default() }
    }

    /// A line of its own that is no check.
    pub(super) fn say(&self, line: &str) {
        if !self.json {
            output::say(line);
        }
    }

    pub(super) fn add(&self, check: Check) {
        self.say(&line(&check));
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    /// Writes the end of it. Whether nothing is wrong.
    pub(super) fn finish(&self, url: &str) -> Result<bool, serde_json::Error> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = worst(&checks);
        if self.json {
            output::say(&serde_json::to_string(&Whole { url, verdict, checks: &checks })?);
        } else {
            output::say(ending(&checks).trim_end());
        }
        Ok(verdict != Verdict::Wrong)
    }
}

fn worst(checks: &[Check]) -> Verdict {
    let has = |verdict| checks.iter().any(|check| check.verdict == verdict);
    [Verdict::Wrong, Verdict::Remark].into_iter().find(|verdict| has(*verdict)).unwrap_or(Verdict::Ok)
}

fn line(check: &Check) -> String {
    let text = format!("{:NAMES$} {:VERDICTS$} {}", check.name, check.verdict.word(), check.measured);
    text.trim_end().to_owned()
}

/// What to change, those that are wrong first; and how many there are.
fn ending(checks: &[Check]) -> String {
    let mut text = String::new();
    for (verdict, title) in [(Verdict::Wrong, "What is wrong, and what to change"), (Verdict::Remark, "Remarks")] {
        let mut title = Some(title);
        for check in checks.iter().filter(|check| check.verdict == verdict) {
            if let Some(title) = title.take() {
                text.push_str(&format!("\n{title}\n"));
            }
            text.push_str(&format!("\n{}: {}\n", check.name, check.meaning));
            for change in &check.change {
                text.push_str(&format!("  {:9} {}\n", change.at, change.what));
            }
        }
    }
    let number = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (wrong, remarks, unchecked) = (number(Verdict::Wrong), number(Verdict::Remark), number(Verdict::NotChecked));
    let remarks = super::checks::count(remarks, "remark");
    let verdict = if wrong == 0 { "Nothing is wrong".to_owned() } else { format!("{wrong} wrong") };
    text.push_str(&format!("\n{verdict}, {remarks}, {unchecked} not checked.\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_below_each_other_and_the_wrong_comes_first() {
        let checks = [
            Check::ok("address", "127.0.0.1:443"),
            Check::remark("protocol", "HTTP/1.1", "six streams at most").change("nginx", "http2 on;"),
            Check::wrong("buffering", "6 events at once", "something collects").change("nginx", "proxy_buffering off;"),
            Check::not_checked("cors", "no --origin"),
        ];
        let lines: Vec<_> = checks.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "address      ok           127.0.0.1:443",
                "protocol     remark       HTTP/1.1",
                "buffering    wrong        6 events at once",
                "cors         not checked  no --origin",
            ]
        );
        assert_eq!(
            ending(&checks),
            "\nWhat is wrong, and what to change\n\nbuffering: something collects\n  nginx     proxy_buffering off;\n\
             \nRemarks\n\nprotocol: six streams at most\n  nginx     http2 on;\n\
             \n1 wrong, 1 remark, 1 not checked.\n"
        );
        assert_eq!(ending(&checks[..1]), "\nNothing is wrong, 0 remarks, 0 not checked.\n");
        assert_eq!(worst(&checks), Verdict::Wrong);
        assert_eq!((worst(&checks[..2]), worst(&checks[..1])), (Verdict::Remark, Verdict::Ok));
    }

    #[test]
    fn a_program_gets_one_object() {
        let checks = [Check::wrong("cors", "m", "n").change("nginx", "x")];
        let whole = Whole { url: "http://h/", verdict: worst(&checks), checks: &checks };
        assert_eq!(
            serde_json::to_string(&whole).unwrap(),
            r#"{"url":"http://h/","verdict":"wrong","checks":[{"check":"cors","verdict":"wrong","measured":"m","meaning":"n","change":[{"at":"nginx","do":"x"}]}]}"#
        );
    }
}
