//! How a metric is declared, once: name, type, labels, help, and what whoever is on call watches. Handles, help texts, bounds
//! of histograms and the tables of `docs/metrics.md` all come from that. Must not know which metrics there are.
#![allow(clippy::disallowed_macros)] // handles of declared metrics are made here, and nowhere else

use std::fmt::Write as _;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// `sse_gateway_...` or `sse_publisher_...`, in base units (`_seconds`, `_bytes`); a counter ends in `_total`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [Label],
    /// What it counts or shows: Prometheus' HELP, and the meaning in the docs. A sentence without its full stop.
    pub help: &'static str,
    /// Which values ask for a look, in Markdown as it stands in `docs/`; may be empty.
    pub watch: &'static str,
}

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// With these upper bounds, which rise.
    Histogram(&'static [f64]),
}

/// A label, whose values come from an enum: never a channel or a user, or series would be as many as those.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All its values, each with what it means in Markdown; the text may be empty where the word says it. Where there is
    /// none, the value is one that the build is made with.
    pub values: &'static [(&'static str, &'static str)],
}

impl Kind {
    /// Prometheus' word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Labels of a metric that tells which build a process is of, at 1.
pub const BUILD_LABELS: &[Label] = &[
    Label { name: "version", values: &[] },
    Label { name: "profile", values: &[("debug", ""), ("release", "")] },
    Label { name: "arch", values: &[] },
];

/// What those labels are in this build, of a crate of this version.
#[must_use]
pub fn build(version: &'static str) -> [(&'static str, &'static str); 3] {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    [("version", version), ("profile", profile), ("arch", std::env::consts::ARCH)]
}

/// Values of labels: `("lane", "direct")`, for each label of the metric in order.
pub type Values<'a> = &'a [(&'static str, &'static str)];

impl Metric {
    /// Tells the recorder its help text. Install the recorder before.
    pub fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.help),
            Kind::Gauge => describe_gauge!(self.name, self.help),
            Kind::Histogram(_) => describe_histogram!(self.name, self.help),
        }
    }

    /// The counter with these labels, at 0 from now on. Ask once and keep it; install the recorder before.
    #[must_use]
    pub fn counter(&self, values: Values<'_>) -> Counter {
        debug_assert!(self.kind == Kind::Counter && self.declares(values), "{}: {values:?}", self.name);
        counter!(self.name, values)
    }

    /// The gauge with these labels; as for counters.
    #[must_use]
    pub fn gauge(&self, values: Values<'_>) -> Gauge {
        debug_assert!(self.kind == Kind::Gauge && self.declares(values), "{}: {values:?}", self.name);
        gauge!(self.name, values)
    }

    /// The histogram, which has no labels; as for counters.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        debug_assert!(matches!(self.kind, Kind::Histogram(_)) && self.labels.is_empty(), "{}", self.name);
        histogram!(self.name)
    }

    fn declares(&self, values: Values<'_>) -> bool {
        let is_declared = |(label, (name, value)): (&Label, &(&str, &str))| {
            label.name == *name && (label.values.is_empty() || label.values.iter().any(|(known, _)| known == value))
        };
        self.labels.len() == values.len() && self.labels.iter().zip(values).all(is_declared)
    }
}

/// Bounds of those that are histograms, for the recorder.
#[must_use]
pub fn buckets(metrics: &[&Metric]) -> Vec<(&'static str, &'static [f64])> {
    let bounds = metrics.iter().filter_map(|metric| match metric.kind {
        Kind::Histogram(bounds) => Some((metric.name, bounds)),
        Kind::Counter | Kind::Gauge => None,
    });
    bounds.collect()
}

/// Every series that a process has from its start, as its Prometheus text names it: `name{label="value"}`, of a histogram
/// `name_count`. Without those whose values the build is made with.
#[must_use]
pub fn series(metrics: &[&Metric]) -> Vec<String> {
    let mut all = Vec::new();
    for Metric { name, kind, labels, .. } in metrics {
        if labels.iter().any(|label| label.values.is_empty()) {
            continue;
        }
        let mut sets = vec![Vec::new()];
        for Label { name, values } in *labels {
            let with = |set: &Vec<String>| {
                let set = set.clone();
                values.iter().map(move |(value, _)| [set.clone(), vec![format!("{name}=\"{value}\"")]].concat())
            };
            sets = sets.iter().flat_map(with).collect();
        }
        let suffix = if matches!(kind, Kind::Histogram(_)) { "_count" } else { "" };
        for set in sets {
            let braces = if set.is_empty() { String::new() } else { format!("{{{}}}", set.join(",")) };
            all.push(format!("{name}{suffix}{braces}"));
        }
    }
    all
}

/// The part of `docs/metrics.md` about these metrics: a table of them, and one for each label whose values have a meaning.
#[must_use]
pub fn tables(metrics: &[&Metric]) -> String {
    let mut text = "| name | type | labels | meaning | watch |\n|---|---|---|---|---|\n".to_owned();
    for Metric { name, kind, labels, help, watch } in metrics {
        let labels: Vec<String> = labels.iter().map(in_a_row).collect();
        let mut labels = labels.join("; ");
        if let Kind::Histogram([first, .., last]) = kind {
            labels = format!("`le`: {first} to {last}");
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {} | {labels} | {help} | {watch} |", kind.as_str());
    }
    for Metric { name, labels, .. } in metrics {
        for Label { name: label, values } in labels.iter().filter(|label| label.is_explained()) {
            let _ = write!(text, "\n`{label}` of `{name}`:\n\n| value | meaning |\n|---|---|\n");
            for (value, meaning) in *values {
                let _ = writeln!(text, "| `{value}` | {meaning} |");
            }
        }
    }
    text
}

impl Label {
    fn is_explained(&self) -> bool {
        self.values.iter().any(|(_, meaning)| !meaning.is_empty())
    }
}

fn in_a_row(label: &Label) -> String {
    if label.values.is_empty() {
        return format!("`{}`", label.name);
    }
    if label.is_explained() {
        return format!("`{}`: see below", label.name);
    }
    let values: Vec<String> = label.values.iter().map(|(value, _)| format!("`{value}`")).collect();
    format!("`{}`: {}", label.name, values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: Label = Label { name: "side", values: &[("left", ""), ("right", "")] };
    const ENDS: Label = Label { name: "end", values: &[("good", "All of it"), ("bad", "[Half](x.md)")] };
    const STEPS: Metric =
        Metric { name: "steps_total", kind: Kind::Counter, labels: &[SIDES, ENDS], help: "Steps", watch: "none" };
    const DELAY: Metric = Metric {
        name: "delay_seconds",
        kind: Kind::Histogram(&[0.1, 1.0, 10.0]),
        labels: &[],
        help: "How late",
        watch: "",
    };

    #[test]
    fn tables_as_the_docs_have_them() {
        let expected = "\
| name | type | labels | meaning | watch |
|---|---|---|---|---|
| `steps_total` | counter | `side`: `left`, `right`; `end`: see below | Steps | none |
| `delay_seconds` | histogram | `le`: 0.1 to 10 | How late |  |

`end` of `steps_total`:

| value | meaning |
|---|---|
| `good` | All of it |
| `bad` | [Half](x.md) |
";
        assert_eq!(tables(&[&STEPS, &DELAY]), expected);
        let lines = ["left", "right"]
            .iter()
            .flat_map(|side| ["good", "bad"].map(|end| format!("steps_total{{side=\"{side}\",end=\"{end}\"}}")));
        let lines: Vec<String> = lines.chain(["delay_seconds_count".to_owned()]).collect();
        assert_eq!(series(&[&STEPS, &DELAY]), lines);
        assert_eq!(buckets(&[&STEPS, &DELAY]), [("delay_seconds", [0.1, 1.0, 10.0].as_slice())]);
    }

    #[test]
    fn only_what_is_declared_is_a_label() {
        assert!(STEPS.declares(&[("side", "left"), ("end", "bad")]));
        for wrong in [
            &[][..],
            &[("side", "left")],
            &[("end", "bad"), ("side", "left")],
            &[("side", "up"), ("end", "bad")],
            &[("side", "left"), ("end", "bad"), ("more", "x")],
        ] {
            assert!(!STEPS.declares(wrong), "{wrong:?}");
        }
    }
}
