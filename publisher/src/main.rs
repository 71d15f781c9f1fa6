//! `sse-publisher`: flags, then the command, then an exit code.

use std::process::ExitCode;

use publisher::cli::{Args, complain};

fn main() -> ExitCode {
    match Args::read().run() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}
