//! The report as Markdown. Pure: the same results give the same bytes.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::measure::{Bar, Figures, Measure, median, spread};

/// What came of a row.
#[derive(Debug, Clone)]
pub(crate) struct RowResult {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Why there are no figures, where there are none.
    pub(crate) outcome: Result<Vec<Measure>, String>,
    /// Per cent of the machine's CPU that others took, just before.
    pub(crate) busy_percent: f64,
    /// How anybody has it again, one by one.
    pub(crate) commands: Vec<String>,
}

impl RowResult {
    /// Whether it was measured and misses nothing.
    pub(crate) fn met(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|measures| measures.iter().all(|measure| measure.met() != Some(false)))
    }
}

/// Per cent of the machine's CPU from which on others are in the way.
const BUSY_PERCENT: f64 = 10.0;

const INTRO: &str = "\
# Benchmarks

Written by `make bench`; a change by hand is lost with the next run. Figures of one machine, so what counts is what stands
beside them: each was measured in turn with the others (A B, B A, ...), on fresh servers every time, and a ratio is the
median of the ratios of such pairs. Client, Redis and server share the machine.

- **floor** (`sse-floor`): one `send()` of prepared bytes for each connection and event, and nothing else. The least that
  this kernel lets anybody spend where events come one at a time.
- **naive** (`sse-naive`): axum's `Sse` over a tokio `broadcast` a channel over one PSUBSCRIBE, as one writes it in an
  afternoon. No ids, no history; whoever falls behind loses events without a word.
- **ours**: `sse-gateway` on Redis, by plain PUBLISH as the others; *durable* by `sse_publish`.

CPU is user and system time of the server's process, from `/proc`, by events delivered; memory its resident set. Events of
ours must all arrive, once and in order, or the row has failed.
";

/// The whole page.
pub(crate) fn page(machine: &Machine, quick: bool, rows: &[RowResult]) -> String {
    let mut page = INTRO.to_owned();
    if quick {
        page += "\n**A quick run**: few pairs and short windows. Ratios of CPU hold, latencies are rough.\n";
    }
    let busy = rows.iter().filter(|row| row.busy_percent >= BUSY_PERCENT).count();
    if busy > 0 {
        let _ = writeln!(
            page,
            "\n**The machine was busy** with something else when {busy} of {} rows began: their latencies say nothing, and a \
             server that writes together what has piled up looks better than it is.",
            rows.len()
        );
    }
    page += "\n## Machine\n\n";
    page += &machine_table(machine);
    page += "\n## Result\n\n";
    page += &summary(rows);
    page += "\n## Rows\n";
    rows.iter().for_each(|row| page += &section(row));
    page
}

fn machine_table(machine: &Machine) -> String {
    let memory = format!("{:.1} GiB", machine.memory_mib as f64 / 1024.0);
    let rows = [
        ("CPU", format!("{}, {} cores", machine.cpu, machine.cores)),
        ("memory", memory),
        ("kernel", machine.kernel.clone()),
        ("date", machine.date.clone()),
        ("commit", machine.commit.clone()),
        ("version", machine.version.to_owned()),
        ("Redis", machine.redis.clone()),
        ("Rust", machine.rust.clone()),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}

/// A line for each figure.
pub(crate) fn summary(rows: &[RowResult]) -> String {
    let mut table =
        "| row | figure | ours | beside | ratio | at most | met |\n|---|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        match &row.outcome {
            Ok(measures) => measures.iter().for_each(|measure| table += &line(row.name, measure)),
            Err(error) => {
                let _ = writeln!(table, "| {} | could not be measured: {} | | | | | **no** |", row.name, cell(error));
            }
        }
    }
    table
}

fn line(row: &str, measure: &Measure) -> String {
    let other = measure.other.as_ref().map(|other| format!("{} {}", value(other, measure.unit), other.name));
    let ratio = median(&measure.ratios()).map(|ratio| format!("{ratio:.2}"));
    let (limit, met) = match (measure.bar, measure.met()) {
        (_, Some(false)) => (limit(measure), "**no**"),
        (Bar::None, _) => (String::new(), ""),
        _ => (limit(measure), "yes"),
    };
    format!(
        "| {row} | {} | {} {} | {} | {} | {limit} | {met} |\n",
        cell(&measure.what),
        value(&measure.ours, measure.unit),
        measure.ours.name,
        other.unwrap_or_default(),
        ratio.unwrap_or_default(),
    )
}

fn limit(measure: &Measure) -> String {
    match (measure.bar, &measure.other) {
        (Bar::Ratio(limit), Some(other)) => format!("{limit} × {}", other.name),
        (Bar::Ratio(limit), None) => format!("{limit} ×"),
        (Bar::Absolute(limit), _) => format!("{limit} {}", measure.unit),
        (Bar::None, _) => String::new(),
    }
}

fn value(figures: &Figures, unit: &str) -> String {
    let value = figures.median().map_or_else(|| "-".to_owned(), number);
    format!("{value} {unit}").trim_end().to_owned()
}

/// About three digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn section(row: &RowResult) -> String {
    let mut text = format!("\n### {}\n\n{}.\n", row.name, row.what);
    if row.busy_percent >= BUSY_PERCENT {
        let _ =
            writeln!(text, "\n**The machine was busy**: others took {:.0} % of its CPU just before.", row.busy_percent);
    }
    match &row.outcome {
        Err(error) => {
            let _ = writeln!(text, "\n**Could not be measured**: {}", cell(error));
        }
        Ok(measures) => measures.iter().for_each(|measure| text += &details(measure)),
    }
    if !row.commands.is_empty() {
        let _ = write!(text, "\n```sh\n{}\n```\n", row.commands.join("\n"));
    }
    text
}

fn details(measure: &Measure) -> String {
    let mut text = format!("\n- {}, {}: {}", measure.what, measure.ours.name, all(&measure.ours.values, measure.unit));
    if let Some(other) = &measure.other {
        let _ = write!(text, "; {}: {}", other.name, all(&other.values, measure.unit));
    }
    let ratios = measure.ratios();
    if let Some((least, greatest)) = spread(&ratios) {
        let each: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        let _ = write!(text, ". Ratios {} (from {least:.2} to {greatest:.2})", each.join(", "));
    }
    let wrong = measure.wrong.iter().map(|wrong| format!("**wrong**: {wrong}"));
    for remark in measure.notes.iter().cloned().chain(wrong) {
        let _ = write!(text, "; {}", cell(&remark));
    }
    text + "\n"
}

fn all(values: &[f64], unit: &str) -> String {
    let values: Vec<_> = values.iter().map(|value| number(*value)).collect();
    format!("{} {unit}", values.join(", ")).trim_end().to_owned()
}

/// Text from outside stays within its cell.
fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
