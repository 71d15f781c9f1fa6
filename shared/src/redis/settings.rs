//! The `[redis]` section, the same for gateway and publisher.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, between, duration};
use crate::keys::{DEFAULT_PREFIX, Keys, KeysError};

use super::{client, url};

/// How to reach Redis, and how long anything there may take.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `redis://[user[:password]@]host[:port]`; `redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/name` for the
    /// primary that Sentinels know by that name; `redis+cluster://[user[:password]@]host[:port][,host[:port]...]` for the Redis
    /// Cluster of which these are nodes; `rediss` for TLS.
    pub url: Option<String>,
    /// Password; wins over the one in `url`, so that it can come from a secret of its own.
    pub password: Option<String>,
    /// As whom to ask Sentinels, where they want to know; the user and password of `url` are those of the servers.
    pub sentinel_user: Option<String>,
    /// The password of that user, or the one that Sentinels want of everybody.
    pub sentinel_password: Option<String>,
    /// File of PEM certificates that are trusted instead of the system's; for `rediss://` only.
    pub ca_file: Option<PathBuf>,
    /// Begins every name in Redis.
    pub prefix: String,
    /// Into so many parts the channels are divided, by their names; a Redis Cluster has each on one of its servers. All processes
    /// have to have the same number.
    pub partitions: u16,
    /// How long to wait for Redis at the start before giving up.
    #[serde(with = "duration")]
    pub wait: Duration,
    /// Deadline of connecting, everything included: name, TCP, TLS, password.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Deadline of every call.
    #[serde(with = "duration")]
    pub command_timeout: Duration,
    /// How long Redis may be away before this process says that it is not ready.
    #[serde(with = "duration")]
    pub unready_after: Duration,
    /// A failover or a restart that has the clock is taken to have all that was acknowledged: streams go on without a gap.
    pub trust_failover: bool,
    /// Replicas that have to have an event before its publish is acknowledged; 0: none. Who publishes has a setting of its own for
    /// it, and others no use.
    #[serde(skip)]
    pub wait_replicas: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: None,
            password: None,
            sentinel_user: None,
            sentinel_password: None,
            ca_file: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            partitions: 1,
            wait: Duration::ZERO,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(3),
            unready_after: Duration::from_secs(30),
            trust_failover: false,
            wait_replicas: 0,
        }
    }
}

/// No secret leaves by a log line.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.address())
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("sentinel_user", &self.sentinel_user)
            .field("sentinel_password", &self.sentinel_password.as_ref().map(|_| "***"))
            .field("ca_file", &self.ca_file)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("wait", &self.wait)
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("unready_after", &self.unready_after)
            .field("trust_failover", &self.trust_failover)
            .field("wait_replicas", &self.wait_replicas)
            .finish()
    }
}

impl Settings {
    /// The defaults, with this URL.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: Some(url.to_owned()), ..Self::default() }
    }

    /// The URL without its password, for people; `None` where none is set.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.url.as_deref().map(|url| url::without_password(url, self.password.as_deref()))
    }

    /// The URL without user and password: where, and not as whom.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        let address = self.address()?;
        let Some((scheme, rest)) = address.split_once("://") else { return Some(address) };
        let server = rest.rsplit_once('@').map_or(rest, |(_, server)| server);
        Some(format!("{scheme}://{server}"))
    }

    /// Whether the URL leads to whatever server Sentinels name.
    #[must_use]
    pub fn names_sentinels(&self) -> bool {
        self.url.as_deref().is_some_and(url::is_of_sentinels)
    }

    /// Whether the URL leads to a Redis Cluster.
    #[must_use]
    pub fn names_cluster(&self) -> bool {
        self.url.as_deref().is_some_and(url::is_of_cluster)
    }

    /// Names in Redis.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn keys(&self) -> Result<Keys, KeysError> {
        Keys::new(&self.prefix, self.partitions)
    }

    /// Ranges, and rules between keys, each error naming its key (`redis.url`). Files are not opened.
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut check = |key: &str, result: Result<(), String>| {
            if let Err(reason) = result {
                errors.push(ConfigError::invalid(&format!("redis.{key}"), reason));
            }
        };
        check("url", self.url.as_deref().map_or(Ok(()), |url| url::check(url, self.password.as_deref())));
        check("prefix", Keys::new(&self.prefix, 1).map(drop).map_err(|error| error.to_string()));
        check("partitions", self.check_partitions());
        check("ca_file", self.check_ca_file());
        check("password", self.check_password());
        check("sentinel_user", self.check_sentinel(self.sentinel_user.as_deref()));
        check("sentinel_password", self.check_sentinel(self.sentinel_password.as_deref()));
        check("wait", between(self.wait, Duration::ZERO, Duration::from_secs(3_600)));
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(60));
        check("connect_timeout", between(self.connect_timeout, least, most));
        check("command_timeout", between(self.command_timeout, least, most));
        check("unready_after", between(self.unready_after, Duration::ZERO, Duration::from_secs(3_600)));
        errors
    }

    /// Reads the certificates where there are some, and says what is wrong with them. Nothing is said of what
    /// [`check`](Self::check) refuses.
    #[must_use]
    pub fn check_files(&self) -> Vec<ConfigError> {
        if self.url.is_none() {
            return Vec::new();
        }
        match client::Client::new(self) {
            Err(client::ClientError::CaFile { path, reason }) => {
                vec![ConfigError::invalid("redis.ca_file", format!("{}: {reason}", path.display()))]
            }
            _ => Vec::new(),
        }
    }

    fn check_ca_file(&self) -> Result<(), String> {
        match &self.ca_file {
            Some(_) if !self.url.as_deref().is_some_and(url::is_tls) => {
                Err("certificates are for rediss:// only, and redis.url does not begin so".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_partitions(&self) -> Result<(), String> {
        match self.partitions {
            0 | 16_385.. => Err(KeysError::Partitions.to_string()),
            1 if self.names_cluster() => Err(
                "with one partition, messages go by classic Pub/Sub, which a Redis Cluster sends to every one of its nodes, and \
                 all data are in one slot; a Cluster needs two at least, such as 64, the same number for all gateways and publishers"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    fn check_sentinel(&self, value: Option<&str>) -> Result<(), String> {
        match value {
            Some(_) if !self.url.as_deref().is_some_and(url::is_of_sentinels) => {
                Err("it is for redis+sentinel:// only, and redis.url does not begin so".to_owned())
            }
            Some(_) if self.sentinel_password.is_none() => {
                Err("a user has no password here: redis.sentinel_password is not set".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_password(&self) -> Result<(), String> {
        match &self.password {
            Some(_) if self.url.is_none() => Err("there is no redis.url to use it for".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let settings = Settings { password: Some("s3cret".into()), ..Settings::new("redis://me:hunter2@127.0.0.1") };
        let text = format!("{settings:?}");
        assert!(!text.contains("s3cret") && !text.contains("hunter2"), "{text}");
        assert!(text.contains("redis://me:***@127.0.0.1:6379"), "{text}");
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let wrong = Settings {
            url: Some("http://me:hunter2@host".into()),
            ca_file: Some("ca.pem".into()),
            prefix: "a:b".into(),
            command_timeout: Duration::from_millis(1),
            ..Settings::default()
        };
        let errors: Vec<_> = wrong.check().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "invalid value for \"redis.url\": a Redis URL is redis://[user[:password]@]host[:port], with rediss:// for TLS",
                "invalid value for \"redis.prefix\": a key prefix is 1 to 32 of A-Z a-z 0-9 _ -",
                "invalid value for \"redis.ca_file\": certificates are for rediss:// only, and redis.url does not begin so",
                "invalid value for \"redis.command_timeout\": 1ms is not within 100ms and 1m",
            ]
        );
        assert_eq!(Settings::new("redis://127.0.0.1:6399").check(), []);
        let missing = Settings { ca_file: Some("/nowhere/ca.pem".into()), ..Settings::new("rediss://h") };
        assert_eq!(missing.check(), []);
        let errors: Vec<_> = missing.check_files().iter().map(ToString::to_string).collect();
        let expected = "invalid value for \"redis.ca_file\": /nowhere/ca.pem: No such file or directory (os error 2)";
        assert_eq!(errors, [expected]);
        assert_eq!(Settings { url: None, ..missing }.check_files(), []);
        let alone = Settings::new("redis://hunter2@h");
        let errors: Vec<_> = alone.check().iter().map(ToString::to_string).collect();
        let expected = "invalid value for \"redis.url\": a user has no password here: a password is written redis://:PASSWORD@host, \
                        and that of a user redis://USER:PASSWORD@host, or it goes into redis.password";
        assert_eq!(errors, [expected]);
        assert_eq!(Settings { password: Some("x".into()), ..Settings::new("redis://me@h") }.check(), []);
        let password = Settings { password: Some("x".into()), ..Settings::default() };
        assert_eq!(password.check().len(), 1);
        let cluster = Settings { partitions: 2, ..Settings::new("redis+cluster://a,b") };
        assert_eq!(cluster.check(), []);
        for (partitions, reason) in [
            (0, "the number of partitions is 1 to 16384"),
            (16_385, "the number of partitions is 1 to 16384"),
            (
                1,
                "with one partition, messages go by classic Pub/Sub, which a Redis Cluster sends to every one of its nodes",
            ),
        ] {
            let [error] = &Settings { partitions, ..cluster.clone() }.check()[..] else { panic!("{partitions}") };
            let error = error.to_string();
            assert!(error.starts_with(&format!("invalid value for \"redis.partitions\": {reason}")), "{error}");
        }
        let sentinels = Settings::new("redis+sentinel://a,b/main");
        let asked =
            Settings { sentinel_user: Some("me".into()), sentinel_password: Some("x".into()), ..sentinels.clone() };
        assert_eq!((sentinels.check(), asked.check()), (vec![], vec![]));
        let text = |settings: Settings| settings.check().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(Settings { sentinel_password: None, ..asked.clone() }),
            [
                "invalid value for \"redis.sentinel_user\": a user has no password here: redis.sentinel_password is not set"
            ]
        );
        let elsewhere = text(Settings { url: Some("redis://h".into()), ..asked });
        assert_eq!(elsewhere.len(), 2);
        assert!(
            elsewhere
                .iter()
                .all(|error| error.ends_with("it is for redis+sentinel:// only, and redis.url does not begin so"))
        );
    }
}
