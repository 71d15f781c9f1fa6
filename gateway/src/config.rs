//! Settings as people write them, checked. Every key, its default and its reason stands in `config/gateway.toml`, which a
//! test holds equal to the defaults here.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::time::Duration;

use publisher::ChannelSettings;
use publisher::chat::ChatSettings;
use publisher::http::DEFAULT_MAX_EVENT_NAME;
use serde::{Deserialize, Serialize};
use shared::auth;
use shared::config::{ConfigError, Effective, Sources, between, duration, load_effective, within};
use shared::event::{MAX_RETRY, MIN_RETRY, RESERVED_EVENT_PREFIX};
use shared::net::{Proxies, TlsSettings};
use shared::telemetry::check_filter;

pub use self::sections::{CorsConfig, Drain, Embedded, Lanes, Limits, Log, Presence, Replay, Telemetry};
use crate::broker::redis::leases::TAKE_DEADLINE;
use crate::http::Cors;

mod sections;

/// Prefix of the environment variables: `SSE_GATEWAY__LISTEN`.
pub const ENV_PREFIX: &str = "SSE_GATEWAY";

/// Keys that sound like secrets, and are none.
const PLAIN: [&str; 1] = ["tls.key"];
/// Most event loops: each is a thread, and walks the channels of its connections by itself.
const MAX_LOOPS: usize = 64;
/// Longest of the shortest rests: beyond that it is seen.
const MAX_REST: Duration = Duration::from_millis(100);

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
    /// The demo pages at `/`; where not set, on loopback and the embedded broker only ([`Config::shows_demo`]).
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
    /// Users who come and go.
    pub presence: Presence,
    /// How bytes reach sockets.
    pub lanes: Lanes,
    /// The channel logs.
    pub log: Log,
    /// What streams that resume are given of the past.
    pub replay: Replay,
    /// Cross-origin requests.
    pub cors: CorsConfig,
    /// TLS of the public port.
    pub tls: TlsSettings,
    /// The end of the process.
    pub drain: Drain,
    /// Redis; without a URL the node is alone, on the embedded broker.
    pub redis: shared::redis::Settings,
    /// The embedded broker.
    pub embedded: Embedded,
    /// What the publish routes of the embedded broker apply, by how channels' names begin.
    pub channels: ChannelSettings,
    /// Answers of the embedded broker's own publish routes.
    pub chat: ChatSettings,
    /// Who may read and publish what.
    pub auth: auth::Settings,
    /// What the process says of itself.
    pub telemetry: Telemetry,
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
            presence: Presence::default(),
            lanes: Lanes::default(),
            log: Log::default(),
            replay: Replay::default(),
            cors: CorsConfig::default(),
            tls: TlsSettings::default(),
            drain: Drain::default(),
            redis: shared::redis::Settings::default(),
            embedded: Embedded::default(),
            channels: ChannelSettings::default(),
            chat: ChatSettings::default(),
            auth: auth::Settings::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Config {
    /// All layers of `sources`, checked.
    ///
    /// # Errors
    /// Every problem of every layer.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        shared::config::load_checked(sources, &[ChannelSettings::taught()], Self::check)
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
            errors.extend(config.tls.check_files());
            errors.extend(config.redis.check_files());
            errors.extend(config.auth.check_files());
            errors
        };
        load_effective(sources, &[ChannelSettings::taught()], &PLAIN, check)
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
        check("limits.open_timeout", self.check_opening());
        check("limits.max_lifetime", check_lifetime(limits.max_lifetime));
        check("limits.max_connections", within(limits.max_connections, 1, 10_000_000));
        check(
            "limits.max_connections_per_address",
            limits.max_connections_per_address.map_or(Ok(()), |most| within(most, 0, 10_000_000)),
        );
        check("limits.max_connections_per_user", within(limits.max_connections_per_user, 0, 1_000));
        check("limits.user_lease", between(limits.user_lease, Duration::from_secs(1), Duration::from_secs(3_600)));
        check("limits.connects_per_second", within(limits.connects_per_second, 0, 1_000_000));
        check("limits.trusted_proxies", Proxies::parse(&limits.trusted_proxies, limits.forwarded_header).map(drop));
        check("limits.max_head", within(limits.max_head, 8_192, 262_144));
        check("limits.head_timeout", between(limits.head_timeout, Duration::from_secs(1), Duration::from_secs(600)));
        check("limits.publish_rate", within(limits.publish_rate as usize, 0, 1_000_000));
        check("limits.publish_burst", within(limits.publish_burst as usize, 1, 1_000_000));
        check("limits.max_channels", within(limits.max_channels, 1, 1_024));
        check("limits.max_url", within(limits.max_url, 256, 32_768));
        check("limits.max_data", within(limits.max_data, 1, 16 << 20));
        check("limits.max_event_name", within(limits.max_event_name, 1, 4_096));
        check("limits.max_batch", within(limits.max_batch, 1, 100_000));
        check("presence.enabled", self.check_presence());
        check(
            "presence.offline_after",
            between(self.presence.offline_after, Duration::from_secs(1), Duration::from_secs(3_600)),
        );
        check("lanes.loops", self.lanes.loops.map_or(Ok(()), |loops| within(loops, 1, MAX_LOOPS)));
        check("lanes.rest", between(self.lanes.rest, Duration::ZERO, MAX_REST));
        check("log.events", within(self.log.events, 1, 1 << 20));
        check("log.bytes", within(self.log.bytes, 1_024, 1 << 30));
        check("log.age", between(self.log.age, limits.write_timeout, Duration::from_secs(3_600)));
        check("log.linger", between(self.log.linger, Duration::ZERO, Duration::from_secs(60)));
        check(
            "log.check_interval",
            between(self.log.check_interval, Duration::from_secs(1), Duration::from_secs(3_600)),
        );
        check("drain.deadline", between(self.drain.deadline, Duration::from_millis(100), Duration::from_secs(3_600)));
        check("drain.grace", between(self.drain.grace, Duration::ZERO, self.drain.deadline));
        check("drain.window", between(self.drain.window, Duration::ZERO, Duration::from_secs(3_600)));
        check("replay.events", within(self.replay.events, 1, 100_000));
        check("replay.bytes", within(self.replay.bytes, 1_024, 1 << 30));
        check("replay.max_bytes", within(self.replay.max_bytes, self.replay.bytes, 1 << 40));
        check("embedded.max_bytes", within(self.embedded.max_bytes, 1 << 16, 1 << 40));
        check("embedded.max_keys", within(self.embedded.max_keys, 1, 100_000_000));
        check("chat.upstream", self.check_answers());
        check("telemetry.filter", check_filter(&self.telemetry.filter));
        errors.extend(self.tls.check());
        errors.extend(self.redis.check());
        errors.extend(self.channels.check());
        errors.extend(self.chat.check());
        errors.extend(self.auth.check());
        errors
    }

    /// How many event loops the direct lane has: what is set, or one for each core that this process may use.
    #[must_use]
    pub fn loops(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_LOOPS);
        self.lanes.loops.unwrap_or_else(cores)
    }

    /// How long connections may live.
    #[must_use]
    pub fn max_lifetime(&self) -> Option<Duration> {
        Some(self.limits.max_lifetime).filter(|lifetime| !lifetime.is_zero())
    }

    /// Over which the streams of a stopping node end: what is set, as far as the deadline has room for it and some more.
    /// None on the embedded broker, where there is nowhere else to go.
    #[must_use]
    pub fn drain_window(&self) -> Duration {
        let room = self.drain.deadline.saturating_sub(self.drain.grace).mul_f64(0.9);
        if self.is_on_redis() { self.drain.window.min(room) } else { Duration::ZERO }
    }

    /// Whether this node shares its events with others over Redis.
    #[must_use]
    pub fn is_on_redis(&self) -> bool {
        self.redis.url.is_some()
    }

    /// Whether the demo pages are shown, `loopback` being what the public port was bound to. They publish to their own
    /// origin, so on Redis, where another process takes that, they are shown to who asks for them only.
    #[must_use]
    pub fn shows_demo(&self, loopback: bool) -> bool {
        self.demo.unwrap_or(loopback && !self.is_on_redis())
    }

    /// Whether the public port can be reached from this machine alone.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        resolve(&self.listen).is_ok_and(|address| address.ip().is_loopback())
    }

    fn check_presence(&self) -> Result<(), String> {
        if self.presence.enabled && !self.is_on_redis() {
            return Err("users who come and go are told of through Redis: set redis.url".to_owned());
        }
        Ok(())
    }

    fn check_answers(&self) -> Result<(), String> {
        if self.is_on_redis() && self.chat.upstream.is_some() {
            return Err(
                "with redis.url set it is the publisher that answers: sse-publisher relay --upstream".to_owned()
            );
        }
        Ok(())
    }

    /// Else a stream that waits, for Redis and then for its channels, would get 408, which ends an `EventSource` for good.
    fn check_opening(&self) -> Result<(), String> {
        let (open, request) = (self.limits.open_timeout, self.limits.request_timeout);
        let text = humantime::format_duration;
        let (mut longest, mut with) = (open, String::new());
        if self.is_on_redis() && self.auth.is_set() {
            // A ticket is taken, and kept again for whoever is told to come back.
            longest += 2 * self.redis.command_timeout;
            with += &format!(", and twice redis.command_timeout, {}, for a ticket", text(self.redis.command_timeout));
        }
        if self.is_on_redis() && self.limits.max_connections_per_user > 0 {
            longest += TAKE_DEADLINE;
            with += &format!(", and {} for a user's lease", text(TAKE_DEADLINE));
        }
        if longest < request {
            return Ok(());
        }
        Err(format!("{}{with} is not below limits.request_timeout, {}", text(open), text(request)))
    }

    fn check_exposure(&self) -> Result<(), String> {
        if self.insecure || self.auth.is_set() || self.is_loopback() || resolve(&self.listen).is_err() {
            return Ok(());
        }
        let listen = &self.listen;
        let may = if self.is_on_redis() { "read" } else { "read and publish" };
        Err(format!(
            "{listen} lets everybody who reaches it {may}, since there is no authentication; \
             set auth.jwks_file or another key of [auth], keep to 127.0.0.1, or say --insecure (SSE_GATEWAY__INSECURE=true)"
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

fn check_lifetime(lifetime: Duration) -> Result<(), String> {
    if !lifetime.is_zero() && lifetime < Duration::from_secs(1) {
        return Err(format!("{} is below 1s, and is not 0s", humantime::format_duration(lifetime)));
    }
    between(lifetime, Duration::ZERO, Duration::from_secs(30 * 24 * 3_600))
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

#[cfg(test)]
mod tests;
