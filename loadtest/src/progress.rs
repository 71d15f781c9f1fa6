//! Progress for a person who waits, on standard error. It must not touch standard output, which is the report's.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::Duration;

/// Time between two looks of a person at a terminal,
const ON_TERMINAL: Duration = Duration::from_secs(1);
/// and between two lines elsewhere, as in a log.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Writes one line that is rewritten on a terminal, and line after line elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    rewrites: bool,
    quiet: bool,
}

impl Progress {
    /// To standard error, unless `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { rewrites: std::io::stderr().is_terminal(), quiet }
    }

    /// Waits for `action`; tells `status` now and then, and once more when it is done.
    pub(crate) async fn during<F: Future>(&self, action: F, status: impl Fn() -> String) -> F::Output {
        let mut action = pin!(action);
        let mut ticks = tokio::time::interval(if self.rewrites { ON_TERMINAL } else { ELSEWHERE });
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
        if self.quiet {
            return;
        }
        let start = if self.rewrites { "\r\x1b[K" } else { "" };
        let end = if again { "" } else { "\n" };
        let mut stderr = std::io::stderr().lock();
        // Nobody there to read it is no reason to stop.
        let _ = write!(stderr, "{start}{status}{end}").and_then(|()| stderr.flush());
    }
}
