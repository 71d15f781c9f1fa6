//! One run of the load generator: what it is asked, and what it reports.

use std::fmt::Display;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::server::behind;

/// What a run may take beyond the times it was asked for: opening, settling, and what was on its way.
const SPARE: Duration = Duration::from_secs(240);

/// Flags of sse-loadtest that are the same whoever is measured.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    flags: Vec<String>,
    takes: Duration,
    /// Its progress goes to our standard error.
    shown: bool,
    /// It has what others leave of the cores.
    behind: bool,
}

impl Load {
    pub(crate) fn new(scenario: &str) -> Self {
        Self { flags: vec![scenario.to_owned()], takes: Duration::ZERO, shown: false, behind: false }
    }

    /// A flag without a value.
    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.flags.push(name.to_owned());
        self
    }

    /// Shows its progress.
    pub(crate) fn shown(mut self) -> Self {
        self.shown = true;
        self
    }

    /// Others go before it.
    pub(crate) fn behind(mut self) -> Self {
        self.behind = true;
        self
    }

    /// Gives it so much longer.
    pub(crate) fn within(mut self, longer: Duration) -> Self {
        self.takes += longer;
        self
    }

    /// A flag with its value.
    pub(crate) fn flag(mut self, name: &str, value: impl Display + Copy) -> Self {
        self.flags.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// A flag that is a time in whole seconds, by which the run becomes longer.
    pub(crate) fn seconds(mut self, name: &str, seconds: u64) -> Self {
        self.takes += Duration::from_secs(seconds);
        self.flag(name, format!("{seconds}s").as_str())
    }

    /// How anybody runs it, given the flags of a subject.
    pub(crate) fn by_hand(&self, subject: &[String]) -> String {
        let words: Vec<_> = self.flags.iter().chain(subject).map(|word| quoted(word)).collect();
        format!("target/release/sse-loadtest {}", words.join(" "))
    }

    /// Runs it, and returns its report, also of a run that did not pass.
    ///
    /// # Errors
    /// No report came: the flags are wrong, it could not run, or it took longer than it was asked to by [`SPARE`].
    pub(crate) async fn run(&self, program: &Path, subject: &[String]) -> Result<Report, String> {
        let mut command = Command::new(program);
        command.args(&self.flags).args(subject).arg("--json");
        if self.behind {
            command = behind(command);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        if self.shown {
            command.stderr(Stdio::inherit());
        } else {
            command.arg("--quiet").stderr(Stdio::piped());
        }
        let words = |error| format!("sse-loadtest cannot be run: {error}");
        let limit = self.takes + SPARE;
        // Dropped with its time over, the child is killed.
        let output = timeout(limit, command.spawn().map_err(words)?.wait_with_output()).await;
        let output = output.map_err(|_| format!("sse-loadtest did not end within {limit:?}"))?;
        report(&output.map_err(words)?)
    }
}

/// A shell takes it as one word. What it replaces by something, it is to replace.
fn quoted(word: &str) -> String {
    if word.contains(['{', '}']) { format!("'{word}'") } else { word.to_owned() }
}

fn report(output: &Output) -> Result<Report, String> {
    let report = serde_json::from_slice::<Value>(&output.stdout).ok().filter(Value::is_object);
    report.map(Report).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        format!("sse-loadtest gave no report ({}): {last}", output.status)
    })
}

/// What sse-loadtest reports with `--json`.
#[derive(Debug, Clone)]
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// A number by its path, such as `/server/cpu_us_per_delivery`.
    ///
    /// # Errors
    /// There is none; names the path.
    pub(crate) fn number(&self, path: &str) -> Result<f64, String> {
        let number = self.0.pointer(path).and_then(Value::as_f64);
        number.ok_or_else(|| format!("sse-loadtest's report lacks {}", path.trim_start_matches('/').replace('/', ".")))
    }

    /// What it found wrong; nothing when the run passed.
    pub(crate) fn wrong(&self) -> Vec<String> {
        if self.0["passed"].as_bool() == Some(true) {
            return Vec::new();
        }
        let reasons = self.0["reasons"].as_array().into_iter().flatten();
        let reasons: Vec<_> = reasons.filter_map(Value::as_str).map(str::to_owned).collect();
        if reasons.is_empty() { vec!["it did not pass".to_owned()] } else { reasons }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn output(stdout: &str, stderr: &str) -> Output {
        Output { status: ExitStatus::from_raw(2 << 8), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let load = Load::new("unicast").flag("--connections", 5).seconds("--duration", 10);
        let subject = ["--key", "sse:{channel}", "--server-pid", "$(pidof x)"].map(str::to_owned);
        assert_eq!(
            load.by_hand(&subject),
            "target/release/sse-loadtest unicast --connections 5 --duration 10s --key 'sse:{channel}' --server-pid $(pidof x)"
        );
    }

    #[test]
    fn numbers_are_found_or_named() {
        let report =
            report(&output(r#"{"passed":false,"reasons":["3 lost"],"server":{"cpu":1.5,"rss":null}}"#, "")).unwrap();
        assert_eq!(report.number("/server/cpu"), Ok(1.5));
        assert_eq!(report.number("/server/rss"), Err("sse-loadtest's report lacks server.rss".to_owned()));
        assert_eq!(report.wrong(), ["3 lost"]);
    }

    #[test]
    fn without_a_report_the_last_words_are_the_reason() {
        let error = report(&output("", "error: --share: not within 0 to 1\n\n")).unwrap_err();
        assert_eq!(error, "sse-loadtest gave no report (exit status: 2): error: --share: not within 0 to 1");
    }
}
