//! The sections of the settings, each with its defaults. Ranges are checked where the whole is.

use std::time::Duration;

use publisher::http::{
    DEFAULT_MAX_BATCH, DEFAULT_MAX_CHANNELS, DEFAULT_MAX_DATA, DEFAULT_MAX_EVENT_NAME, DEFAULT_MAX_URL,
    DEFAULT_PUBLISH_BURST,
};
use serde::{Deserialize, Serialize};
use shared::config::duration;
use shared::net::ForwardedHeader;
use shared::telemetry::LogFormat;

use crate::lane::{DEFAULT_HEAD_TIMEOUT, DEFAULT_MAX_HEAD};

/// See [`super::Config::limits`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Event streams open at a time; beyond it clients are told to come back later.
    pub max_connections: usize,
    /// Event streams of one client address; where not set, 1,000 of each address of the internet; 0: any number.
    pub max_connections_per_address: Option<usize>,
    /// Event streams of one user over all nodes; 0: any number.
    pub max_connections_per_user: usize,
    /// How long a user's place outlives a node that was killed.
    #[serde(with = "duration")]
    pub user_lease: Duration,
    /// Event streams opened a second, and twice as many at once; 0: any number.
    pub connects_per_second: usize,
    /// Addresses and networks of proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it.
    pub forwarded_header: ForwardedHeader,
    /// Bytes of a request's head.
    pub max_head: usize,
    /// For a head, and between requests.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Events that one key may publish a second, on the embedded broker; 0: any number.
    pub publish_rate: u32,
    /// Of these, how many at once.
    pub publish_burst: u32,
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
    /// How long a connection may live, each 80-100 % of it; zero: as long as it likes.
    #[serde(with = "duration")]
    pub max_lifetime: Duration,
}

/// See [`super::Config::presence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Presence {
    /// Whether it is told when users come and go.
    pub enabled: bool,
    /// How long a user has no connection before that is told.
    #[serde(with = "duration")]
    pub offline_after: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self { enabled: false, offline_after: Duration::from_secs(10) }
    }
}

/// See [`super::Config::lanes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lanes {
    /// Event streams by plain HTTP/1.1 take the direct lane; else everything takes the hyper lane.
    pub direct: bool,
    /// Event loops of the direct lane; where not set, one for each core ([`super::Config::loops`]).
    pub loops: Option<usize>,
    /// How long who writes and who hears Redis rest at least where work comes soon after work; zero: never.
    #[serde(with = "duration")]
    pub rest: Duration,
}

/// See [`super::Config::log`].
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
    /// How often each channel is compared with what Redis has of it.
    #[serde(with = "duration")]
    pub check_interval: Duration,
}

/// See [`super::Config::replay`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replay {
    /// Events of one channel that one connection is given.
    pub events: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Bytes held for all connections.
    pub max_bytes: usize,
}

/// See [`super::Config::cors`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CorsConfig {
    /// Origins that may read, or `*`; where empty, everybody on loopback and nobody else.
    pub allowed_origins: Vec<String>,
}

/// See [`super::Config::drain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// From losing readiness to closing the port.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Over which the streams end after that.
    #[serde(with = "duration")]
    pub window: Duration,
    /// From the signal to the end, at the latest.
    #[serde(with = "duration")]
    pub deadline: Duration,
}

/// See [`super::Config::embedded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Embedded {
    /// Bytes of history over all channels.
    pub max_bytes: usize,
    /// Channels remembered, `once` keys, and cancellations of the last hour, each.
    pub max_keys: usize,
}

/// See [`super::Config::telemetry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// Log filter, such as `info` or `info,gateway=debug`.
    pub filter: String,
    /// `auto`, `text` or `json`.
    pub format: LogFormat,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_connections_per_address: None,
            max_connections_per_user: 0,
            user_lease: Duration::from_secs(30),
            connects_per_second: 5_000,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            max_head: DEFAULT_MAX_HEAD,
            head_timeout: DEFAULT_HEAD_TIMEOUT,
            publish_rate: 0,
            publish_burst: DEFAULT_PUBLISH_BURST,
            max_channels: DEFAULT_MAX_CHANNELS,
            max_url: DEFAULT_MAX_URL,
            max_data: DEFAULT_MAX_DATA,
            max_event_name: DEFAULT_MAX_EVENT_NAME,
            max_batch: DEFAULT_MAX_BATCH,
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            open_timeout: Duration::from_secs(5),
            max_lifetime: Duration::ZERO,
        }
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self { direct: true, loops: None, rest: Duration::from_millis(4) }
    }
}

impl Default for Log {
    fn default() -> Self {
        let crate::hub::HubSettings { log, linger, .. } = crate::hub::HubSettings::default();
        let check_interval = crate::broker::redis::CHECK_INTERVAL;
        Self { events: log.events, bytes: log.bytes, age: log.age, linger, check_interval }
    }
}

impl Default for Replay {
    fn default() -> Self {
        let crate::hub::ReplaySettings { limits, max_bytes } = crate::hub::ReplaySettings::default();
        Self { events: limits.events, bytes: limits.bytes, max_bytes }
    }
}

impl Default for Drain {
    fn default() -> Self {
        let [grace, window, deadline] = [2, 20, 30].map(Duration::from_secs);
        Self { grace, window, deadline }
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
