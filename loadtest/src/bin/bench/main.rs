//! `sse-bench`: measures the gateway beside two baselines on one machine, at the same time, and says which bars it meets.
//! `sse-bench million` opens as many connections as the machine holds. This file turns what came of it into an exit code.

mod args;
mod bench;
mod load;
mod machine;
mod markdown;
mod measure;
mod million;
mod pairs;
mod programs;
mod progress;
mod rows;
mod run;
mod server;
mod slow_heads;
mod subject;
mod written;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tokio::signal::unix::{SignalKind, signal};

use args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = args.check() {
        Args::command().error(clap::error::ErrorKind::ValueValidation, error).exit();
    }
    let work = async {
        match &args.command {
            None => run::run(&args.rows).await,
            Some(Command::Million(args)) => million::run(args).await,
        }
    };
    // What was started ends with the future that holds it, whichever of the three comes first.
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        () = terminated() => Err("terminated".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody there to read it: the code still tells.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}
