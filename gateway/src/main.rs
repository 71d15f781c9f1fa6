//! `sse-gateway`: flags, configuration, logs, then [`App`], then an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use gateway::app::{App, AppError};
use gateway::cli::{self, Args, CheckError, Command, greeting};
use gateway::config::Config;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::reload::Reload;
use shared::{signals, telemetry};

/// Ten thousand connections that are gone leave their memory to the system, not to this process.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The system or the run failed.
const FAILED: u8 = 1;
/// Flags or configuration are wrong; clap exits with the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Some(Command::Check { connect }) => return check(&args, connect),
        Some(Command::Config { json }) => {
            return match cli::show(&args.sources(), json) {
                Ok(text) => {
                    say(&text);
                    ExitCode::SUCCESS
                }
                Err(error) => fail(USAGE, &error.to_string()),
            };
        }
        None => {}
    }
    let config = match args.load() {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    let filter = match telemetry::init_logs(&config.telemetry.filter, config.telemetry.format) {
        Ok(filter) => filter,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    let mut reload = Reload::default();
    reload.add_settings(config.clone(), move || args.load(), |config| &config.telemetry.filter, filter);
    match run(&config, reload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let usage = error.downcast_ref::<AppError>().is_some_and(AppError::is_configuration);
            fail(if usage { USAGE } else { FAILED }, &error.to_string())
        }
    }
}

fn check(args: &Args, connect: bool) -> ExitCode {
    match cli::check(&args.sources(), connect) {
        Ok((text, fits)) => {
            say(&text);
            if fits { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error @ CheckError::Config(_)) => fail(USAGE, &error.to_string()),
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

fn run(config: &Config, reload: Reload) -> Result<(), Box<dyn std::error::Error>> {
    raise_open_files();
    let prometheus = telemetry::install_metrics(&gateway::metrics::buckets())?;
    gateway::metrics::describe();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, prometheus, reload));
    // Whatever was cut at the deadline is not waited for.
    runtime.shutdown_background();
    result
}

async fn serve(
    config: &Config,
    prometheus: PrometheusHandle,
    reload: Reload,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut signals, hangups) = signals::install()?;
    let app = tokio::select! {
        app = App::build(config, prometheus, reload) => app?,
        // It may wait for Redis.
        _ = signals.next() => return Ok(()),
    };
    app.tell(config);
    say(&greeting(config, app.public_address()?, app.admin_address()));
    Ok(app.run(signals, hangups).await?)
}

/// Every connection is an open file, and the usual soft limit of 1,024 is for programs of another age.
fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open file limit"),
        Err(error) => tracing::warn!(%error, "cannot raise the open file limit"),
    }
}

/// To standard output, which may be closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn fail(code: u8, message: &str) -> ExitCode {
    for line in message.lines() {
        let _ = writeln!(std::io::stderr(), "sse-gateway: {line}");
    }
    ExitCode::from(code)
}
