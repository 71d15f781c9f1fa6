//! What the system asks of a process: to end, or to read its settings again. Must not know what that means to it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, each time one of them comes.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// SIGHUP, each time it comes; several that come while nobody waits are one.
pub struct Hangups(Signal);

/// From now on none of the three ends the process by itself.
///
/// # Errors
/// Those of the system.
pub fn install() -> io::Result<(Signals, Hangups)> {
    let signals = Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    Ok((signals, Hangups(signal(SignalKind::hangup())?)))
}

impl Signals {
    /// The next one's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl Hangups {
    /// Ends when there was another one. Where the system will bring no more, it never does.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
