//! Progress for a person who waits, on standard error. It must not touch standard output, which is the report's.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::Duration;

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(1);

/// Writes one line that is rewritten on a terminal, and line after line elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    rewrites: bool,
}

impl Progress {
    /// To standard error.
    pub(crate) fn new() -> Self {
        Self { rewrites: std::io::stderr().is_terminal() }
    }

    /// Waits for `action`; tells `status` every second, and once more when it is done.
    pub(crate) async fn during<F: Future>(&self, action: F, status: impl Fn() -> String) -> F::Output {
        let mut action = pin!(action);
        let mut ticks = tokio::time::interval(EVERY);
        let output = loop {
            tokio::select! {
                biased;
                output = &mut action => break output,
                _ = ticks.tick() => self.write(&status(), self.rewrites),
            }
        };
        self.write(&status(), false);
        output
    }

    fn write(&self, status: &str, again: bool) {
        let start = if self.rewrites { "\r\x1b[K" } else { "" };
        let end = if again { "" } else { "\n" };
        let mut stderr = std::io::stderr().lock();
        // Nobody there to read it is no reason to stop.
        let _ = write!(stderr, "{start}{status}{end}").and_then(|()| stderr.flush());
    }
}
