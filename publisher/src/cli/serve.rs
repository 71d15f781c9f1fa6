//! `serve`: flags into settings, then the service.

use clap::Parser;
use shared::config::Sources;
use shared::metrics::buckets;
use shared::reload::Reload;
use shared::telemetry;

use super::{Common, Failure, output};
use crate::config::Config;
use crate::metrics::{METRICS, tell_build};
use crate::serve::{ServeError, Service};

/// Serve publishing by HTTP, until SIGTERM or Ctrl-C.
///
/// Example: sse-publisher serve --redis-url redis://127.0.0.1:6379
#[derive(Debug, Parser)]
pub(super) struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// What every command takes that serves.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Port of the publish routes [default: 127.0.0.1:8090]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Operator port: /livez, /readyz, /metrics [default: 127.0.0.1:9091]
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// Allow an address beyond loopback without auth being set: whoever reaches it may publish
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    common: Common,
}

impl Args {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        serve(&self.flags.sources())
    }
}

impl Flags {
    /// The layers of settings, these flags the topmost.
    pub(super) fn sources(&self) -> Sources {
        let sources = self.common.sources();
        sources
            .flag("listen", "--listen", self.listen.clone())
            .flag("admin_listen", "--admin-listen", self.admin_listen.clone())
            .flag("insecure", "--insecure", self.insecure.then(|| "true".to_owned()))
    }
}

/// Serves until a signal. Returns the exit code.
pub(super) fn serve(sources: &Sources) -> Result<u8, Failure> {
    let config = Config::load(sources).map_err(Failure::usage)?;
    let filter = telemetry::init_logs(&config.telemetry.filter, config.telemetry.format).map_err(Failure::usage)?;
    let (mut reload, again) = (Reload::default(), sources.clone());
    reload.add_settings(config.clone(), move || Config::load(&again), |config| &config.telemetry.filter, filter);
    raise_open_files();
    let prometheus = telemetry::install_metrics(&buckets(METRICS)).map_err(Failure::run)?;
    tell_build();
    let service = Service::bind(config).map_err(failure)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::run(format!("cannot start: {error}")))?;
    let result = runtime.block_on(service.run(prometheus, reload, output::say));
    // Whatever was cut at the deadline is not waited for.
    runtime.shutdown_background();
    result.map(|()| 0).map_err(failure)
}

/// Files that cannot be used are the configuration's fault.
fn failure(error: ServeError) -> Failure {
    match error {
        ServeError::Connect(error) => Failure::connect(error),
        ServeError::Tls(error) => Failure::usage(error),
        ServeError::Auth(error) => Failure::usage(error),
        other => Failure::run(other),
    }
}

/// Every connection is an open file, and the usual soft limit of 1,024 is for programs of another age.
fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open file limit"),
        Err(error) => tracing::warn!(%error, "cannot raise the open file limit"),
    }
}
