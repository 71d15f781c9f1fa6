//! Standard output, which may be a pipe that somebody closes, and standard error, which nobody may read.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// Writes all of it at once, and flushes.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
pub(super) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A line that may be lost.
pub(super) fn say(line: &str) {
    let _ = write(&format!("{line}\n"));
}

/// A line to standard error, as it is.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Lines to standard error, each with the program's name before it.
pub fn complain(text: &str) {
    for line in text.lines() {
        note(&format!("sse-publisher: {line}"));
    }
}

/// Ends when standard output is a pipe or socket whose reader is gone: `head -1` has what it wanted, and the next event may
/// be far away.
pub(super) async fn closed() {
    // Only watched, never written to; so it need not be non-blocking, which others who have it would notice.
    let watched = io::stdout().as_fd().try_clone_to_owned().and_then(|fd| Sender::from_file_unchecked(fd.into()));
    // Files cannot be watched, and are never closed.
    let Ok(stdout) = watched else { return std::future::pending().await };
    if stdout.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}
