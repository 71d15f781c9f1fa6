//! Runs the program and reads its report.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Longer than any run here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// The JSON report; null where there was none.
    pub(crate) report: Value,
    /// Standard error.
    pub(crate) errors: String,
}

impl Outcome {
    /// A number of the report, by its path.
    pub(crate) fn number(&self, path: &str) -> u64 {
        self.report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {self:#?}"))
    }

    /// Fails unless the run passed, without any reason against it.
    pub(crate) fn is_clean(&self) {
        assert_eq!(
            (self.code, &self.report["passed"], &self.report["reasons"]),
            (Some(0), &true.into(), &Value::Array(Vec::new())),
            "{self:#?}"
        );
    }

    /// Lost, duplicated, out of order, foreign, gaps.
    pub(crate) fn faults(&self) -> [u64; 5] {
        ["lost", "duplicated", "out_of_order", "foreign", "gaps"]
            .map(|name| self.number(&format!("/deliveries/{name}")))
    }
}

/// A run with these flags, `--json` and `--quiet`.
pub(crate) fn start(flags: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-loadtest"));
    command.args(flags).args(["--json", "--quiet"]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for its end.
pub(crate) async fn outcome(child: Child) -> Outcome {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the program does not end").unwrap();
    Outcome {
        code: output.status.code(),
        report: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Both.
pub(crate) async fn run(flags: &[&str]) -> Outcome {
    outcome(start(flags)).await
}
