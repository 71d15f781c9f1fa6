//! What a running process can read again, without a connection noticing: a list of parts, each of which changes nothing
//! where it cannot be read. Must not know what the parts are.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::auth::Verifier;
use crate::config::{ConfigError, differences};
use crate::net::Tls;
use crate::signals::Hangups;
use crate::telemetry::LogFilter;

/// Between looks at files that may have changed.
const LOOK: Duration = Duration::from_secs(5);

const FILTER: &str = "telemetry.filter";
const KEYS: &str = "auth";
const CERTIFICATE: &str = "tls.certificate and tls.key";

/// Reads a part again. Whether anything else is in use now; or, having changed nothing, why not. It may block.
pub type Reread = Box<dyn Fn() -> Result<bool, String> + Send + Sync>;

/// The parts of one process, in the order in which they are read.
#[derive(Default)]
pub struct Reload(Vec<(&'static str, Reread)>);

impl Reload {
    /// One more part, by the name that the log has for it.
    pub fn add(&mut self, name: &'static str, reread: impl Fn() -> Result<bool, String> + Send + Sync + 'static) {
        self.0.push((name, Box::new(reread)));
    }

    /// Certificate and key of a port. See also [`watch`].
    pub fn add_tls(&mut self, tls: Arc<Tls>) {
        self.add(CERTIFICATE, move || tls.reload().map_err(|error| error.to_string()));
    }

    /// The keys by which tokens are verified. See also [`auth::watch`](crate::auth::watch).
    pub fn add_keys(&mut self, verifier: Arc<Verifier>) {
        if verifier.settings().files().next().is_some() {
            self.add(KEYS, move || verifier.reload().map(|()| true).map_err(|error| error.to_string()));
        }
    }

    /// The settings, of which the filter of the log can change while the process runs. `load` reads all of them anew; what
    /// else is not as in `running` is named in the log, since it takes a restart.
    pub fn add_settings<C: Serialize + Send + Sync + 'static>(
        &mut self,
        running: C,
        load: impl Fn() -> Result<C, ConfigError> + Send + Sync + 'static,
        filter: fn(&C) -> &str,
        log: LogFilter,
    ) {
        self.add(FILTER, move || {
            let new = load().map_err(|error| error.to_string())?;
            let changed = log.set(filter(&new)).map_err(|error| error.to_string())?;
            let mut keys = differences(&running, &new);
            keys.retain(|key| key != FILTER);
            if !keys.is_empty() {
                tracing::warn!(keys = keys.join(", "), "these settings have changed, and take a restart");
            }
            Ok(changed)
        });
    }

    /// Reads all parts again at each SIGHUP, one signal after the other, and logs a line for each part. It never ends;
    /// whoever drops it lets what is being read be read, and asks for no more.
    pub async fn run(self, mut hangups: Hangups) {
        let parts = Arc::new(self.0);
        loop {
            hangups.next().await;
            let parts = parts.clone();
            let all = move || parts.iter().for_each(|(name, reread)| report(name, reread()));
            // Apart from the threads that connections run on, since files are read.
            if let Err(error) = tokio::task::spawn_blocking(all).await {
                tracing::error!(%error, "reading settings again broke off");
            }
        }
    }
}

/// Reads certificate and key again whenever their files have changed. A pair that cannot be used is told once for each
/// change. It never ends.
pub async fn watch(tls: Arc<Tls>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let tls = tls.clone();
        let look = move || {
            if tls.is_outdated() {
                report(CERTIFICATE, tls.reload().map_err(|error| error.to_string()));
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!(%error, "looking at certificates broke off");
        }
    }
}

fn report(part: &str, outcome: Result<bool, String>) {
    match outcome {
        Ok(true) => tracing::info!(part, "read again, and changed"),
        Ok(false) => tracing::info!(part, "read again, nothing has changed"),
        Err(reason) => tracing::error!(part, reason, "read again, cannot be used; what was in use before stays"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::Certificates;

    use super::*;
    use crate::net::TlsSettings;

    #[tokio::test(start_paused = true)]
    async fn certificates_that_change_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let files = Certificates::create(folder.path());
        let settings = TlsSettings { certificate: Some(files.certificate.clone()), key: Some(files.key.clone()) };
        let tls = Tls::load(&settings, &[]).unwrap().unwrap();
        let mut watching = tokio::task::JoinSet::new();
        watching.spawn(watch(tls.clone()));
        let seen = async || {
            let mut waited = Duration::ZERO;
            while tls.is_outdated() {
                tokio::time::sleep(LOOK / 5).await;
                waited += LOOK / 5;
                assert!(waited < LOOK * 3, "nobody has looked");
            }
        };
        Certificates::create(folder.path());
        assert!(tls.is_outdated());
        seen().await;
        assert!(!tls.reload().unwrap(), "it is in use already");
        // What cannot be used does not end the watch.
        std::fs::write(&files.key, "half").unwrap();
        seen().await;
        Certificates::create(folder.path());
        seen().await;
        assert!(!tls.reload().unwrap(), "it is in use already");
    }
}
