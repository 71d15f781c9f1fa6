//! `sse-loadtest`: opens many event streams on a gateway, publishes, and reports what arrived.
//!
//! Two threads by default: this one publishes and keeps the time, the other reads the event streams, so that a reader that
//! is busy delays no publish. This file turns the outcome into output and an exit code, nothing else.

mod args;
mod counters;
mod endpoint;
mod fleet;
mod histogram;
mod listener;
mod process;
mod progress;
mod publish;
mod reasons;
mod report;
mod scenario;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::Args;
use scenario::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = args.check() {
        Args::command().error(clap::error::ErrorKind::ValueValidation, error).exit();
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Outside(error)) => fail(&error, 1),
        Err(Failure::Flags(error)) => fail(&error, 2),
    }
}

/// Runs and prints the report; whether it passed.
fn run(args: &Args) -> Result<bool, Failure> {
    let cannot_start = |error| Failure::Outside(format!("cannot start threads: {error}"));
    let readers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.threads as usize)
        .enable_all()
        .build()
        .map_err(cannot_start)?;
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot_start)?;
    let report = own.block_on(scenario::run(args, readers.handle()))?;
    let text = if args.json { report.json().map_err(Failure::Outside)? + "\n" } else { report.table() };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::Outside(format!("cannot write the report: {error}")))?;
    Ok(report.passed)
}

fn fail(error: &str, code: u8) -> ExitCode {
    // Nobody there to read it: the code still tells.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(code)
}
