//! Flags, and the few lines that greet whoever started the gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use shared::config::{ConfigError, Sources};

use crate::config::{Config, ENV_PREFIX};

/// Read where no `--config` says otherwise, if it is there.
const DEFAULT_CONFIG: &str = "config/gateway.toml";

/// Pushes events to browsers over Server-Sent Events.
///
/// Without flags it runs alone: embedded broker, 127.0.0.1:8080, a demo page at `/`.
/// Settings: defaults, then config/gateway.toml, then SSE_GATEWAY__... variables (SSE_GATEWAY__LIMITS__MAX_DATA=1024), then flags.
#[derive(Debug, Default, Parser)]
#[command(name = "sse-gateway", version, max_term_width = 110)]
pub struct Args {
    /// Public port: event streams and publishing [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Operator port: /livez, /readyz, /metrics [default: 127.0.0.1:9090]
    #[arg(long, value_name = "HOST:PORT")]
    pub admin_listen: Option<String>,
    /// Configuration file (TOML); may be repeated, the later one wins [default: config/gateway.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Allow an address beyond loopback without authentication: whoever reaches it may read and publish
    #[arg(long)]
    pub insecure: bool,
}

impl Args {
    /// All layers of configuration, checked.
    ///
    /// # Errors
    /// Every problem of every layer.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut sources = Sources::new(ENV_PREFIX).process_env();
        for file in &self.config {
            sources = sources.file(file);
        }
        if self.config.is_empty() && Path::new(DEFAULT_CONFIG).exists() {
            sources = sources.file(DEFAULT_CONFIG);
        }
        let sources = sources
            .flag("listen", "--listen", self.listen.clone())
            .flag("admin_listen", "--admin-listen", self.admin_listen.clone())
            .flag("insecure", "--insecure", self.insecure.then(|| "true".to_owned()));
        shared::config::load_checked(&sources, &[], Config::check)
    }
}

/// What to open, and what to type next.
#[must_use]
pub fn greeting(config: &Config, public: SocketAddr, admin: SocketAddr) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let page = if config.demo.unwrap_or_else(|| public.ip().is_loopback()) {
        format!("  open      http://{public}/\n")
    } else {
        String::new()
    };
    format!(
        "sse-gateway {version}: one node on the embedded broker (nothing outlives the process)\n\
         {page}  listen    curl -N 'http://{public}/events?channel=user:42'\n  \
         publish   curl 'http://{public}/publish' -H 'Content-Type: application/json' \\\n              \
         -d '{{\"channel\":\"user:42\",\"event\":\"notification\",\"data\":{{\"message\":\"hi\"}}}}'\n  \
         operate   http://{admin}/metrics (and /livez, /readyz)"
    )
}
