//! The rows that were asked for, one after the other. One that cannot be had is said to be so, and keeps nobody from the next.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::args::Rows;
use crate::bench::Bench;
use crate::machine::{Machine, busy_percent};
use crate::markdown::{self, RowResult};
use crate::programs::Programs;
use crate::progress::{Progress, say};
use crate::rows::{ROWS, Row};
use crate::written;

/// Measures, writes the report and the raw figures. Whether all bars were met.
///
/// # Errors
/// Programs are missing, or something cannot be written.
pub(crate) async fn run(args: &Rows) -> Result<bool, String> {
    let wanted = |row: &Row| args.rows.is_empty() || args.rows.iter().any(|name| name == row.name);
    let rows: Vec<&Row> = ROWS.into_iter().filter(|row| wanted(row)).collect();
    if args.list {
        return list(&rows);
    }
    let takes = |row: &Row| Duration::from_secs(if args.quick { row.seconds.1 } else { row.seconds.0 });
    let progress = Progress::new(rows.len(), rows.iter().map(|row| takes(row)).sum());
    let bench = Bench::new(Programs::find(args.programs.as_deref())?, args.quick, progress);
    let machine = Machine::look();
    written::make_folder(&args.raw)?;

    let mut results = Vec::new();
    for row in &rows {
        bench.progress.row(row.name, takes(row));
        let busy_percent = busy_percent().await;
        let outcome = measure(&bench, row).await;
        if let Err(error) = &outcome {
            bench.progress.step(&format!("could not be measured: {error}"));
        }
        let runs = bench.take_runs();
        let result =
            RowResult { name: row.name, what: row.what, outcome, busy_percent, commands: written::commands(&runs) };
        written::raw(&args.raw, &result, &machine, args.quick, &runs)?;
        results.push(result);
    }

    let all = rows.len() == ROWS.len();
    let path = args
        .report
        .clone()
        .unwrap_or_else(|| if all { "docs/benchmarks.md".into() } else { args.raw.join("benchmarks.md") });
    written::file(&path, &markdown::page(&machine, args.quick, &results))?;
    let summary = markdown::summary(&results);
    // Nobody there to read it: the file has it.
    let _ = std::io::stdout().write_all(summary.as_bytes());
    say(&format!("written: {}", path.display()));
    Ok(results.iter().all(RowResult::met))
}

/// What panics there, as a server that does not start, is the end of the row and of all it started.
async fn measure(bench: &Bench, row: &Row) -> Result<Vec<crate::measure::Measure>, String> {
    // Nothing of a row is used after it.
    let measured = AssertUnwindSafe((row.measure)(bench)).catch_unwind().await;
    measured.unwrap_or_else(|_| Err("the bench itself failed, as it says above".to_owned()))
}

fn list(rows: &[&Row]) -> Result<bool, String> {
    let lines: String = rows.iter().map(|row| format!("{:<10} {}\n", row.name, row.what)).collect();
    std::io::stdout().write_all(lines.as_bytes()).map_err(|error| format!("cannot write: {error}"))?;
    Ok(true)
}
