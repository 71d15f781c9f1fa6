//! Notices when files of keys change. It asks rather than being told: that also works where files are swapped by a link, as
//! Kubernetes does with secrets, and on network drives.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::{LoadError, Verifier};

/// How often files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// By what a file is told from one that was changed or put in its place; `None` while there is none.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Reads the files of `verifier` again whenever one of them has changed. Never ends by itself. A change that cannot be used
/// leaves everything as it was, is logged, and is tried again when the files have changed again.
pub async fn watch(verifier: Arc<Verifier>) {
    if verifier.settings().files().next().is_none() {
        std::future::pending::<()>().await;
    }
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was read last is not known; that it is read once more at the start costs nothing.
    let mut seen = None;
    loop {
        ticks.tick().await;
        let (verifier, known) = (verifier.clone(), seen.clone());
        // It fails when the process is ending.
        let Ok((stamps, changed)) = spawn_blocking(move || look(&verifier, known)).await else { continue };
        match changed {
            None => {}
            Some(Ok(())) if seen.is_none() => {}
            Some(Ok(())) => tracing::info!("the keys have changed and were read again"),
            Some(Err(error)) => tracing::error!(%error, "the keys stay as they were, since a file cannot be used"),
        }
        seen = Some(stamps);
    }
}

/// The files' stamps now, and what came of reading them where those have changed.
fn look(verifier: &Verifier, seen: Option<Vec<Stamp>>) -> (Vec<Stamp>, Option<Result<(), LoadError>>) {
    // Before they are read: what changes meanwhile is read next time.
    let stamps = stamps(verifier);
    let changed = seen.is_none_or(|seen| seen != stamps);
    (stamps, changed.then(|| verifier.reload()))
}

fn stamps(verifier: &Verifier) -> Vec<Stamp> {
    let stamp = |file: &std::path::Path| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    };
    verifier.settings().files().map(|(_, file)| stamp(file)).collect()
}
