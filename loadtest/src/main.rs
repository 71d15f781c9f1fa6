//! `sse-loadtest`: opens many event streams, publishes, and reports what arrived.
//!
//! This process publishes and keeps the time; others, which it starts, read the event streams (`worker`), so that a reader
//! that is busy delays no publish. This file turns the outcome into output and an exit code, nothing else.

mod args;
mod clock;
mod endpoint;
mod flag_values;
mod fleet;
mod latency;
mod layout;
mod progress;
mod publish;
mod reasons;
mod report;
mod run;
mod stream;
mod system;
mod table;
mod target;
mod verify;
mod worker;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::Args;
use run::Failure;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == worker::ARGUMENT) {
        return worker::run();
    }
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Outside(format!("cannot start: {error}")))?;
    let report = runtime.block_on(run::run(args))?;
    let text = if args.json { report.json().map_err(Failure::Outside)? + "\n" } else { table::table(&report) };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::Outside(format!("cannot write the report: {error}")))?;
    Ok(report.passed)
}

fn fail(error: &str, code: u8) -> ExitCode {
    // Nobody there to read it: the code still tells.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(code)
}
