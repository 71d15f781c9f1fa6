//! Flags and commands, and the few lines that greet whoever started the gateway.

mod check;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use shared::config::{ConfigError, Sources};

pub use self::check::{CheckError, check, show};
use crate::config::{Config, ENV_PREFIX};

/// Read where no `--config` says otherwise, if it is there.
const DEFAULT_CONFIG: &str = "config/gateway.toml";

/// Pushes events to browsers over Server-Sent Events.
///
/// Without flags it runs alone: embedded broker, 127.0.0.1:8080, demo pages at `/`. With --redis-url it is one of any
/// number of nodes on one Redis.
///
/// Settings: defaults, then config/gateway.toml, then SSE_GATEWAY__... variables (SSE_GATEWAY__LIMITS__MAX_DATA=1024), then flags.
/// `sse-gateway check` says what is wrong with them, `sse-gateway config` shows them all.
#[derive(Default, Parser)]
#[command(name = "sse-gateway", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Args {
    /// Public port: event streams and publishing [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub listen: Option<String>,
    /// Operator port: the status page at /, /livez, /readyz, /metrics [default: 127.0.0.1:9090]
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub admin_listen: Option<String>,
    /// Configuration file (TOML); may be repeated, the later one wins [default: config/gateway.toml if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Vec<PathBuf>,
    /// Allow an address beyond loopback without authentication: whoever reaches it may read and publish
    #[arg(long, global = true)]
    pub insecure: bool,
    /// Redis, redis://HOST:PORT, redis+sentinel://HOST,HOST/NAME where Sentinels watch it, or redis+cluster://HOST,HOST; rediss for TLS [default: none, the
    /// embedded broker]. Flags show in the list of processes: give a password as SSE_GATEWAY__REDIS__PASSWORD
    #[arg(long, value_name = "URL", global = true)]
    pub redis_url: Option<String>,
    /// How long to wait for Redis at the start before giving up, such as 30s [default: 0s, one try]
    #[arg(long, value_name = "DURATION", global = true)]
    pub wait_for_redis: Option<String>,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done instead of serving.
#[derive(Subcommand)]
pub enum Command {
    /// Say everything that is wrong with the configuration, and serve nothing
    ///
    /// Reads what a start would read: files, environment, flags, and the files of keys and certificates that they name. Binds no
    /// port. Example: sse-gateway check --config config/gateway.toml --connect
    ///
    /// Ends with 0 where a start would work, with 2 where the configuration has to be mended, and with 1 where Redis will not
    /// do (--connect): a start would end with it, or nothing would come of it.
    ///
    /// Not covered by 0: whether the ports are free; without --connect, anything of Redis; where its user may not see which
    /// functions there are (a warning says so), whether they are there, without which nothing works; and all that warnings name.
    Check {
        /// Connect to Redis too, and look at its version, the functions, what the user may do, whether it takes writes, and
        /// whether it evicts. Nothing is changed there
        #[arg(long)]
        connect: bool,
    },
    /// Show the value of every setting, and who said it: a default, a line of a file, a variable or a flag
    ///
    /// Secrets are hidden, and stand behind a #: what is printed is a configuration file that says the rest. Example:
    /// sse-gateway config --json
    Config {
        /// A JSON object by keys, each with value, from, name and line
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    /// All layers of configuration, checked.
    ///
    /// # Errors
    /// Every problem of every layer.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.sources())
    }

    /// The layers above the defaults.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let mut sources = Sources::new(ENV_PREFIX).process_env();
        for file in &self.config {
            sources = sources.file(file);
        }
        if self.config.is_empty() && Path::new(DEFAULT_CONFIG).exists() {
            sources = sources.file(DEFAULT_CONFIG);
        }
        sources
            .flag("listen", "--listen", self.listen.clone())
            .flag("admin_listen", "--admin-listen", self.admin_listen.clone())
            .flag("insecure", "--insecure", self.insecure.then(|| "true".to_owned()))
            .flag("redis.url", "--redis-url", self.redis_url.clone())
            .flag("redis.wait", "--wait-for-redis", self.wait_for_redis.clone())
    }
}

/// What to open, and what to type next. Holds no password.
#[must_use]
pub fn greeting(config: &Config, public: SocketAddr, admin: SocketAddr) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let scheme = if config.tls.is_set() { "https" } else { "http" };
    let (broker, publish) = if config.is_on_redis() { on_redis(config) } else { embedded(scheme, public) };
    let page = if config.shows_demo(public.ip().is_loopback()) {
        format!("  open      {scheme}://{public}/\n")
    } else {
        String::new()
    };
    format!(
        "sse-gateway {version}: {broker}\n\
         {page}  listen    curl -N '{scheme}://{public}/events?channel=user:42'\n  \
         publish   {publish}\n  \
         operate   http://{admin}/ (and /metrics, /livez, /readyz)"
    )
}

fn embedded(scheme: &str, public: SocketAddr) -> (String, String) {
    let publish = format!(
        "curl '{scheme}://{public}/publish' -H 'Content-Type: application/json' \\\n              \
         -d '{{\"channel\":\"user:42\",\"event\":\"notification\",\"data\":{{\"message\":\"hi\"}}}}'"
    );
    ("one node on the embedded broker (nothing outlives the process)".to_owned(), publish)
}

fn on_redis(config: &Config) -> (String, String) {
    let address = config.redis.address().unwrap_or_default();
    let prefix = &config.redis.prefix;
    // As oneself: redis-cli takes a user without a password for the password.
    let server = config.redis.server().unwrap_or_default();
    let partitions = config.redis.partitions;
    // And knows no Sentinels, nor where a channel is.
    let publish = if config.redis.names_sentinels() || partitions > 1 {
        let partitions =
            if partitions > 1 { format!("SSE_PUBLISHER__REDIS__PARTITIONS={partitions} ") } else { String::new() };
        format!(
            "SSE_PUBLISHER__REDIS__PREFIX={prefix} {partitions}sse-publisher publish --redis-url {server} \
             --channel user:42 --data hi"
        )
    } else {
        format!("redis-cli -u {server} PUBLISH {prefix}:user:42 hi")
    };
    (format!("a node on Redis at {address}"), publish)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_sound() {
        Args::command().debug_assert();
    }

    fn greet(config: &Config, public: &str) -> String {
        greeting(config, public.parse().unwrap(), "127.0.0.1:9090".parse().unwrap())
    }

    #[test]
    fn greeting_of_the_embedded_broker() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            greet(&Config::default(), "127.0.0.1:8080"),
            format!(
                r#"sse-gateway {version}: one node on the embedded broker (nothing outlives the process)
  open      http://127.0.0.1:8080/
  listen    curl -N 'http://127.0.0.1:8080/events?channel=user:42'
  publish   curl 'http://127.0.0.1:8080/publish' -H 'Content-Type: application/json' \
              -d '{{"channel":"user:42","event":"notification","data":{{"message":"hi"}}}}'
  operate   http://127.0.0.1:9090/ (and /metrics, /livez, /readyz)"#
            )
        );
        assert!(!greet(&Config::default(), "192.0.2.1:8080").contains("  open "), "the demo page is for loopback");
    }

    #[test]
    fn greeting_of_a_node_on_redis() {
        let version = env!("CARGO_PKG_VERSION");
        let redis = shared::redis::Settings::new("redis://127.0.0.1:6399");
        let config = Config { redis, ..Config::default() };
        assert_eq!(
            greet(&config, "127.0.0.1:8080"),
            format!(
                "sse-gateway {version}: a node on Redis at redis://127.0.0.1:6399
  listen    curl -N 'http://127.0.0.1:8080/events?channel=user:42'
  publish   redis-cli -u redis://127.0.0.1:6399 PUBLISH sse:user:42 hi
  operate   http://127.0.0.1:9090/ (and /metrics, /livez, /readyz)"
            )
        );
        let asked_for = Config { demo: Some(true), ..config };
        assert!(greet(&asked_for, "127.0.0.1:8080").contains("\n  open      http://127.0.0.1:8080/\n"));
    }

    #[test]
    fn the_greeting_tells_no_password() {
        let redis = shared::redis::Settings {
            password: Some("s3cret".to_owned()),
            prefix: "app".to_owned(),
            ..shared::redis::Settings::new("rediss://me:hunter2@redis.example")
        };
        let text = greet(&Config { redis, ..Config::default() }, "127.0.0.1:8080");
        assert!(!text.contains("s3cret") && !text.contains("hunter2"), "{text}");
        let line = "  publish   redis-cli -u rediss://redis.example:6379 PUBLISH app:user:42 hi\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn greeting_of_a_node_on_a_cluster() {
        let redis = shared::redis::Settings { partitions: 16, ..shared::redis::Settings::new("redis+cluster://a,b:1") };
        let text = greet(&Config { redis, ..Config::default() }, "127.0.0.1:8080");
        let line = "  publish   SSE_PUBLISHER__REDIS__PREFIX=sse SSE_PUBLISHER__REDIS__PARTITIONS=16 sse-publisher publish \
                    --redis-url redis+cluster://a:6379,b:1 --channel user:42 --data hi\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn greeting_of_a_node_behind_sentinels() {
        let redis = shared::redis::Settings::new("redis+sentinel://me:hunter2@a,b:1/main");
        let text = greet(&Config { redis, ..Config::default() }, "127.0.0.1:8080");
        let line = "  publish   SSE_PUBLISHER__REDIS__PREFIX=sse sse-publisher publish \
                    --redis-url redis+sentinel://a:26379,b:1/main --channel user:42 --data hi\n";
        assert!(text.contains(line), "{text}");
    }
}
