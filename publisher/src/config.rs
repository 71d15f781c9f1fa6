//! Settings as people write them, checked. Every key, its default and its reason stands in `config/publisher.toml`, which
//! a test holds equal to the defaults here.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::auth;
use shared::config::{ConfigError, Effective, Sources, between, duration, load_checked, load_effective, within};
use shared::net::{ForwardedHeader, Proxies, TlsSettings};
use shared::redis::Settings;
use shared::telemetry::{LogFormat, check_filter};

use crate::ChannelSettings;
use crate::chat::ChatSettings;
use crate::http::{self, Cors};

/// Prefix of the environment variables: `SSE_PUBLISHER__LISTEN`.
pub const ENV_PREFIX: &str = "SSE_PUBLISHER";
/// Keys that sound like secrets, and are none.
const PLAIN: [&str; 1] = ["tls.key"];
/// More replicas than anybody has of one Redis.
const MAX_WAIT_REPLICAS: usize = 16;
/// Where Redis is, unless something else is said.
pub const DEFAULT_REDIS_URL: &str = "redis://127.0.0.1:6379";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Port of the HTTP service, `host:port`.
    pub listen: String,
    /// Operator port, `host:port`.
    pub admin_listen: String,
    /// Allows a port beyond loopback without authentication.
    pub insecure: bool,
    /// What the gateways' demo pages ask for: `/demo/jobs`, figures that move, and `/chat` with a text of our own where it has
    /// no upstream.
    pub demo: bool,
    /// TLS of the port.
    pub tls: TlsSettings,
    /// Pages of other origins.
    pub cors: CorsConfig,
    /// Replicas that have to have an event before its publish is acknowledged; 0: none.
    pub wait_replicas: u8,
    /// How to reach Redis.
    pub redis: Settings,
    /// What families of channels have in common.
    pub channels: ChannelSettings,
    /// Answers that stream in.
    pub chat: ChatSettings,
    /// Who may publish and read what.
    pub auth: auth::Settings,
    /// Bounds on events and requests.
    pub limits: Limits,
    /// The end of the process.
    pub drain: Drain,
    /// What the process says of itself.
    pub telemetry: Telemetry,
}

/// See [`Config::limits`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Channels of one publish.
    pub max_channels: usize,
    /// Bytes of path and query.
    pub max_url: usize,
    /// Bytes of an event's data.
    pub max_data: usize,
    /// Bytes of an event's name.
    pub max_event_name: usize,
    /// Lines of a batch.
    pub max_batch: usize,
    /// Events that one key may publish a second; 0: any number.
    pub publish_rate: u32,
    /// Of these, how many at once.
    pub publish_burst: u32,
    /// Addresses and networks of proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it.
    pub forwarded_header: ForwardedHeader,
    /// A socket that takes nothing for so long is closed.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// From a request's head to that of its answer.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

/// See [`Config::cors`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CorsConfig {
    /// Origins that may ask, `*` for all.
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

/// See [`Config::telemetry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// Log filter, such as `info` or `info,publisher=debug`.
    pub filter: String,
    /// `auto`, `text` or `json`.
    pub format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8090".to_owned(),
            admin_listen: "127.0.0.1:9091".to_owned(),
            insecure: false,
            demo: false,
            tls: TlsSettings::default(),
            cors: CorsConfig::default(),
            wait_replicas: 0,
            redis: Settings::new(DEFAULT_REDIS_URL),
            channels: ChannelSettings::default(),
            chat: ChatSettings::default(),
            auth: auth::Settings::default(),
            limits: Limits::default(),
            drain: Drain::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let http::Limits { max_data, max_channels, max_event_name, max_batch, max_url, publish_rate, publish_burst } =
            http::Limits::default();
        Self {
            max_channels,
            max_url,
            max_data,
            max_event_name,
            max_batch,
            publish_rate,
            publish_burst,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(2), deadline: Duration::from_secs(30) }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl Limits {
    /// Whose word on a client's address is taken. It was checked with the settings.
    #[must_use]
    pub fn proxies(&self) -> Proxies {
        Proxies::parse(&self.trusted_proxies, self.forwarded_header).unwrap_or_default()
    }

    /// Those of the publish routes.
    #[must_use]
    pub fn of_routes(&self) -> http::Limits {
        http::Limits {
            max_data: self.max_data,
            max_channels: self.max_channels,
            max_event_name: self.max_event_name,
            max_batch: self.max_batch,
            max_url: self.max_url,
            publish_rate: self.publish_rate,
            publish_burst: self.publish_burst,
        }
    }
}

impl Config {
    /// All layers of `sources`, checked.
    ///
    /// # Errors
    /// Every problem of every layer.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        load_checked(sources, &[ChannelSettings::taught()], Self::check)
    }

    /// The same, with who said each value, to be shown to people.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn effective(sources: &Sources) -> Result<Effective<Self>, ConfigError> {
        load_effective(sources, &[ChannelSettings::taught()], &PLAIN, Self::check)
    }

    /// The same, with the files of keys and certificates read too, as a start would.
    ///
    /// # Errors
    /// As [`load`](Self::load), and every problem of these files.
    pub fn examine(sources: &Sources) -> Result<Effective<Self>, ConfigError> {
        let check = |config: &Self| {
            let mut errors = config.check();
            if config.redis.url.is_none() {
                errors.push(ConfigError::invalid("redis.url", "it is not set, and nothing can be published"));
            }
            errors.extend(config.tls.check_files());
            errors.extend(config.redis.check_files());
            errors.extend(config.auth.check_files());
            errors
        };
        load_effective(sources, &[ChannelSettings::taught()], &PLAIN, check)
    }

    /// How to reach Redis, and how to publish there.
    #[must_use]
    pub fn redis_settings(&self) -> Settings {
        Settings { wait_replicas: self.wait_replicas, ..self.redis.clone() }
    }

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
        let (second, ten_minutes) = (Duration::from_secs(1), Duration::from_secs(600));
        check("listen", resolve(&self.listen).map(drop));
        check("admin_listen", resolve(&self.admin_listen).map(drop));
        check("listen", self.check_exposure());
        check("limits.max_channels", within(limits.max_channels, 1, 1_024));
        check("limits.max_url", within(limits.max_url, 256, 32_768));
        check("limits.max_data", within(limits.max_data, 1, 16 << 20));
        check("limits.max_event_name", within(limits.max_event_name, 1, 4_096));
        check("limits.max_batch", within(limits.max_batch, 1, 100_000));
        check("limits.publish_rate", within(limits.publish_rate as usize, 0, 1_000_000));
        check("limits.publish_burst", within(limits.publish_burst as usize, 1, 1_000_000));
        check("limits.trusted_proxies", Proxies::parse(&limits.trusted_proxies, limits.forwarded_header).map(drop));
        check("limits.write_timeout", between(limits.write_timeout, second, ten_minutes));
        check("limits.request_timeout", between(limits.request_timeout, second, ten_minutes));
        check("limits.request_timeout", self.check_time_for_redis());
        check("drain.deadline", between(self.drain.deadline, Duration::from_millis(100), Duration::from_secs(3_600)));
        check("drain.grace", between(self.drain.grace, Duration::ZERO, self.drain.deadline));
        check(
            "cors.allowed_origins",
            Cors::parse(&self.cors.allowed_origins).map(drop).map_err(|error| error.to_string()),
        );
        check("telemetry.filter", check_filter(&self.telemetry.filter));
        check("wait_replicas", within(usize::from(self.wait_replicas), 0, MAX_WAIT_REPLICAS));
        errors.extend(self.tls.check());
        errors.extend(self.redis.check());
        errors.extend(self.channels.check());
        errors.extend(self.chat.check());
        errors.extend(self.auth.check());
        errors
    }

    fn check_exposure(&self) -> Result<(), String> {
        // An address that is none is told as that; that it is not loopback either would only confuse.
        if self.insecure
            || self.auth.is_set()
            || resolve(&self.listen).map_or(true, |address| address.ip().is_loopback())
        {
            return Ok(());
        }
        let listen = &self.listen;
        Err(format!(
            "{listen} lets everybody who reaches it publish, since there is no authentication; \
             set auth.jwks_file or another key of [auth], keep to 127.0.0.1, or say --insecure (SSE_PUBLISHER__INSECURE=true)"
        ))
    }

    /// Else a client would be told that its request took too long, when it is Redis that is away.
    fn check_time_for_redis(&self) -> Result<(), String> {
        let (request, command) = (self.limits.request_timeout, self.redis.command_timeout);
        if command < request {
            return Ok(());
        }
        let text = humantime::format_duration;
        Err(format!("{} is not above redis.command_timeout, {}", text(request), text(command)))
    }
}

/// The first address that `host:port` stands for.
///
/// # Errors
/// What is wrong with it, as text.
pub fn resolve(listen: &str) -> Result<SocketAddr, String> {
    let mut addresses = listen
        .to_socket_addrs()
        .map_err(|error| format!("\"{listen}\" is no address such as 127.0.0.1:8090: {error}"))?;
    addresses.next().ok_or_else(|| format!("\"{listen}\" has no address"))
}

#[cfg(test)]
mod tests;
