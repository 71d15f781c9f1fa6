//! Files: the report, and the raw figures behind it.

use std::path::Path;

use serde::Serialize;

use crate::bench::Run;
use crate::machine::Machine;
use crate::markdown::RowResult;
use crate::measure::Measure;

/// `<folder>/<row>.json`.
#[derive(Serialize)]
struct Raw<'a> {
    row: &'a str,
    what: &'a str,
    quick: bool,
    machine: &'a Machine,
    busy_percent: f64,
    /// Why there are no measures; absent when there are.
    failed: Option<&'a str>,
    measures: &'a [Measure],
    runs: &'a [Run],
}

/// Writes all there is of a row: also of one that failed.
///
/// # Errors
/// It cannot be written; names the file.
pub(crate) fn raw(folder: &Path, row: &RowResult, machine: &Machine, quick: bool, runs: &[Run]) -> Result<(), String> {
    let (failed, measures) = match &row.outcome {
        Ok(measures) => (None, &measures[..]),
        Err(error) => (Some(error.as_str()), &[][..]),
    };
    let raw =
        Raw { row: row.name, what: row.what, quick, machine, busy_percent: row.busy_percent, failed, measures, runs };
    let text = serde_json::to_string_pretty(&raw).map_err(|error| format!("raw figures of {}: {error}", row.name))?;
    file(&folder.join(format!("{}.json", row.name)), &(text + "\n"))
}

/// How somebody has the runs again: each command once.
pub(crate) fn commands(runs: &[Run]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for command in runs.iter().flat_map(|run| &run.by_hand) {
        if !commands.contains(command) {
            commands.push(command.clone());
        }
    }
    commands
}

/// # Errors
/// It cannot be made; names it.
pub(crate) fn make_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))
}

/// # Errors
/// It cannot be written; names it.
pub(crate) fn file(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}
