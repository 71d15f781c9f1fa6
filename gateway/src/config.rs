//! Settings as people write them, checked. Every key, its default and its reason stands in `config/gateway.toml`, which a
//! test holds equal to the defaults here.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use publisher::http::{
    DEFAULT_MAX_BATCH, DEFAULT_MAX_CHANNELS, DEFAULT_MAX_DATA, DEFAULT_MAX_EVENT_NAME, DEFAULT_MAX_URL,
};
use serde::{Deserialize, Serialize};
use shared::config::{ConfigError, duration};
use shared::event::{MAX_RETRY, MIN_RETRY, RESERVED_EVENT_PREFIX};
use shared::telemetry::LogFormat;

use crate::http::Cors;

/// Prefix of the environment variables: `SSE_GATEWAY__LISTEN`.
pub const ENV_PREFIX: &str = "SSE_GATEWAY";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Public port, `host:port`.
    pub listen: String,
    /// Operator port, `host:port`.
    pub admin_listen: String,
    /// Allows a public port beyond loopback without authentication.
    pub insecure: bool,
    /// Name of this node; made up where none is set.
    pub node: Option<String>,
    /// The demo page at `/`; where not set, on loopback only.
    pub demo: Option<bool>,
    /// When clients come back after a connection ended; each gets 80-120 % of it.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// Longest silence on a connection.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// Sends this event instead of a comment when idle.
    pub heartbeat_event: Option<String>,
    /// Bounds on connections and requests.
    pub limits: Limits,
    /// The channel logs.
    pub log: Log,
    /// Cross-origin requests.
    pub cors: CorsConfig,
    /// The end of the process.
    pub drain: Drain,
    /// The embedded broker.
    pub embedded: Embedded,
    /// What the process says of itself.
    pub telemetry: Telemetry,
}

/// See [`Config::limits`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Event streams open at a time; beyond it clients are told to come back later.
    pub max_connections: usize,
    /// Channels of one connection, and of one publish.
    pub max_channels: usize,
    /// Bytes of path and query.
    pub max_url: usize,
    /// Bytes of an event's data.
    pub max_data: usize,
    /// Bytes of an event's name.
    pub max_event_name: usize,
    /// Lines of a batch.
    pub max_batch: usize,
    /// A socket that takes nothing for so long is closed.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// From a request's head to that of its answer.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// How long a new connection waits for its channels.
    #[serde(with = "duration")]
    pub open_timeout: Duration,
}

/// See [`Config::log`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Events kept for each channel.
    pub events: usize,
    /// Bytes kept for each channel.
    pub bytes: usize,
    /// How long events are kept.
    #[serde(with = "duration")]
    pub age: Duration,
    /// How long a channel stays subscribed after its last connection.
    #[serde(with = "duration")]
    pub linger: Duration,
}

/// See [`Config::cors`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CorsConfig {
    /// Origins that may read, or `*`; where empty, everybody on loopback and nobody else.
    pub allowed_origins: Vec<String>,
}

/// See [`Config::drain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// From losing readiness to closing the port.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// From the signal to the end, at the latest.
    #[serde(with = "duration")]
    pub deadline: Duration,
}

/// See [`Config::embedded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Embedded {
    /// Bytes of history over all channels.
    pub max_bytes: usize,
    /// Channels remembered, and `once` keys, each.
    pub max_keys: usize,
}

/// See [`Config::telemetry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// Log filter, such as `info` or `info,gateway=debug`.
    pub filter: String,
    /// `auto`, `text` or `json`.
    pub format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            admin_listen: "127.0.0.1:9090".to_owned(),
            insecure: false,
            node: None,
            demo: None,
            retry: Duration::from_secs(3),
            keep_alive: Duration::from_secs(20),
            heartbeat_event: None,
            limits: Limits::default(),
            log: Log::default(),
            cors: CorsConfig::default(),
            drain: Drain::default(),
            embedded: Embedded::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_channels: DEFAULT_MAX_CHANNELS,
            max_url: DEFAULT_MAX_URL,
            max_data: DEFAULT_MAX_DATA,
            max_event_name: DEFAULT_MAX_EVENT_NAME,
            max_batch: DEFAULT_MAX_BATCH,
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            open_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        let crate::hub::HubSettings { log, linger } = crate::hub::HubSettings::default();
        Self { events: log.events, bytes: log.bytes, age: log.age, linger }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(2), deadline: Duration::from_secs(30) }
    }
}

impl Default for Embedded {
    fn default() -> Self {
        let limits = crate::broker::memory::MemoryLimits::default();
        Self { max_bytes: limits.max_bytes, max_keys: limits.max_keys }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl Config {
    /// Ranges, and rules between keys, that types do not hold; each error names its key.
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut check = |key: &str, result: Result<(), String>| {
            if let Err(reason) = result {
                errors.push(ConfigError::invalid(key, reason));
            }
        };
        let limits = &self.limits;
        check("listen", resolve(&self.listen).map(drop));
        check("admin_listen", resolve(&self.admin_listen).map(drop));
        check("listen", self.check_exposure());
        check("node", self.node.as_deref().map_or(Ok(()), check_node));
        check("heartbeat_event", self.heartbeat_event.as_deref().map_or(Ok(()), check_event));
        check(
            "cors.allowed_origins",
            Cors::parse(&self.cors.allowed_origins).map(drop).map_err(|error| error.to_string()),
        );
        check("retry", between(self.retry, MIN_RETRY, MAX_RETRY));
        check("keep_alive", between(self.keep_alive, Duration::from_secs(1), Duration::from_secs(3_600)));
        check("limits.write_timeout", between(limits.write_timeout, Duration::from_secs(1), Duration::from_secs(600)));
        check(
            "limits.request_timeout",
            between(limits.request_timeout, Duration::from_secs(1), Duration::from_secs(600)),
        );
        check("limits.open_timeout", between(limits.open_timeout, Duration::from_millis(100), Duration::from_secs(60)));
        check("limits.open_timeout", below_request_timeout(limits));
        check("limits.max_connections", within(limits.max_connections, 1, 10_000_000));
        check("limits.max_channels", within(limits.max_channels, 1, 1_024));
        check("limits.max_url", within(limits.max_url, 256, 32_768));
        check("limits.max_data", within(limits.max_data, 1, 16 << 20));
        check("limits.max_event_name", within(limits.max_event_name, 1, 4_096));
        check("limits.max_batch", within(limits.max_batch, 1, 100_000));
        check("log.events", within(self.log.events, 1, 1 << 20));
        check("log.bytes", within(self.log.bytes, 1_024, 1 << 30));
        check("log.age", between(self.log.age, limits.write_timeout, Duration::from_secs(3_600)));
        check("log.linger", between(self.log.linger, Duration::ZERO, Duration::from_secs(60)));
        check("drain.deadline", between(self.drain.deadline, Duration::from_millis(100), Duration::from_secs(3_600)));
        check("drain.grace", between(self.drain.grace, Duration::ZERO, self.drain.deadline));
        check("embedded.max_bytes", within(self.embedded.max_bytes, 1 << 16, 1 << 40));
        check("embedded.max_keys", within(self.embedded.max_keys, 1, 100_000_000));
        errors
    }

    /// Whether the public port can be reached from this machine alone.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        resolve(&self.listen).is_ok_and(|address| address.ip().is_loopback())
    }

    fn check_exposure(&self) -> Result<(), String> {
        if self.insecure || self.is_loopback() || resolve(&self.listen).is_err() {
            return Ok(());
        }
        let listen = &self.listen;
        Err(format!(
            "{listen} lets everybody who reaches it read and publish, since there is no authentication; \
             keep to 127.0.0.1 behind a proxy that has some, or say --insecure (SSE_GATEWAY__INSECURE=true)"
        ))
    }
}

/// The first address that `host:port` stands for.
///
/// # Errors
/// What is wrong with it, as text.
pub fn resolve(listen: &str) -> Result<SocketAddr, String> {
    let mut addresses = listen
        .to_socket_addrs()
        .map_err(|error| format!("\"{listen}\" is no address such as 127.0.0.1:8080: {error}"))?;
    addresses.next().ok_or_else(|| format!("\"{listen}\" has no address"))
}

/// Else a stream that waits for its channels would get 408, which ends an `EventSource` for good.
fn below_request_timeout(limits: &Limits) -> Result<(), String> {
    if limits.open_timeout < limits.request_timeout {
        return Ok(());
    }
    let text = humantime::format_duration;
    Err(format!("{} is not below limits.request_timeout, {}", text(limits.open_timeout), text(limits.request_timeout)))
}

fn check_node(node: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=64).contains(&node.len()) && node.bytes().all(allowed) {
        return Ok(());
    }
    Err("a node's name is 1 to 64 of A-Z a-z 0-9 - _ .".to_owned())
}

fn check_event(event: &str) -> Result<(), String> {
    if event.is_empty() || event.len() > DEFAULT_MAX_EVENT_NAME || event.bytes().any(|b| b.is_ascii_control()) {
        return Err(format!("an event's name is 1 to {DEFAULT_MAX_EVENT_NAME} bytes without control characters"));
    }
    if event.starts_with(RESERVED_EVENT_PREFIX) {
        return Err(format!("event names beginning {RESERVED_EVENT_PREFIX} are the gateway's own signals"));
    }
    Ok(())
}

fn between(value: Duration, least: Duration, most: Duration) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let text = humantime::format_duration;
    Err(format!("{} is not within {} and {}", text(value), text(least), text(most)))
}

fn within(value: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{value} is not within {least} and {most}"))
}

#[cfg(test)]
mod tests;
