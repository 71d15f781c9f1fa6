//! What a check comes to: a verdict, what was measured, and what to change where it is wrong.

use std::time::Duration;

use serde::Serialize;

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    /// Nothing is broken, and yet somebody should know.
    Remark,
    Wrong,
    NotChecked,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Check {
    #[serde(rename = "check")]
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    /// What was seen, with its figures.
    pub(super) measured: String,
    /// What that means; empty where all is well.
    pub(super) meaning: String,
    /// What to change, the likeliest first.
    pub(super) change: Vec<Change>,
}

/// Something to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// Whose setting it is.
    pub(super) at: &'static str,
    /// The setting, by its name.
    #[serde(rename = "do")]
    pub(super) what: String,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Remark => "remark",
            Self::Wrong => "wrong",
            Self::NotChecked => "not checked",
        }
    }
}

impl Check {
    pub(super) fn ok(name: &'static str, measured: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, measured, "")
    }

    pub(super) fn remark(name: &'static str, measured: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(name, Verdict::Remark, measured, meaning)
    }

    pub(super) fn wrong(name: &'static str, measured: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(name, Verdict::Wrong, measured, meaning)
    }

    pub(super) fn not_checked(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Verdict::NotChecked, why, "")
    }

    fn new(name: &'static str, verdict: Verdict, measured: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self { name, verdict, measured: measured.into(), meaning: meaning.into(), change: Vec::new() }
    }

    /// With one more thing to change.
    pub(super) fn change(mut self, at: &'static str, what: impl Into<String>) -> Self {
        self.change.push(Change { at, what: what.into() });
        self
    }
}

/// A time as people say it: `0.4 ms`, `12 ms`, `3.2 s`, `2h 5m`.
pub(super) fn span(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms < 9.95 {
        return format!("{ms:.1} ms");
    }
    if ms < 999.5 {
        return format!("{ms:.0} ms");
    }
    if ms < 120_000.0 {
        return format!("{:.1} s", ms / 1_000.0);
    }
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// `1 stream`, `2 streams`.
pub(super) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (ms, text) in [
            (0.04, "0.0 ms"),
            (3.14, "3.1 ms"),
            (9.96, "10 ms"),
            (640.4, "640 ms"),
            (999.6, "1.0 s"),
            (5_049.0, "5.0 s"),
            (119_000.0, "119.0 s"),
            (7_500_000.0, "2h 5m"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(ms / 1_000.0)), text);
        }
        assert_eq!((count(1, "stream"), count(8, "stream")), ("1 stream".to_owned(), "8 streams".to_owned()));
    }
}
