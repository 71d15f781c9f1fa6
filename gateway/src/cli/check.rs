//! `check` and `config`: what a start would read, said without starting.

use std::fmt::Write as _;

use shared::channel::Channel;
use shared::config::{ConfigError, Effective, Sources};
use shared::redis::{Client, Finding, StartError, look};

use crate::broker::redis::needs::{Asked, needs};
use crate::config::Config;

/// Stands for any channel when Redis is asked what may be done.
const ANY_CHANNEL: &str = "check";

/// Why a check ends before it has said all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration, in all its problems.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Redis cannot be had, or will not do at all.
    #[error(transparent)]
    Redis(#[from] StartError),
    /// The system refuses what asking takes.
    #[error("cannot ask Redis: {0}")]
    System(#[from] std::io::Error),
}

/// Reads the configuration, and with `connect` looks at Redis. Returns what to print, and whether a start would work.
///
/// # Errors
/// [`CheckError`].
pub fn check(sources: &Sources, connect: bool) -> Result<(String, bool), CheckError> {
    let effective = Config::examine(sources)?;
    let config = &effective.config;
    let Some(address) = config.redis.address() else {
        if connect {
            return Err(ConfigError::invalid("redis.url", "it is not set, so there is no Redis to connect to").into());
        }
        return Ok((summary(&effective, "none, the embedded broker"), true));
    };
    if !connect {
        return Ok((summary(&effective, &format!("{address}, not asked: --connect does")), true));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(look_at_redis(config))?;
    let mut text = summary(&effective, &address);
    for finding in &findings {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {finding}");
    }
    Ok((text, !findings.iter().any(Finding::is_unfit)))
}

/// Every value and who said it, as TOML or JSON.
///
/// # Errors
/// Every problem of the configuration; files of keys are not read.
pub fn show(sources: &Sources, json: bool) -> Result<String, ConfigError> {
    let effective = Config::effective(sources)?;
    Ok(if json { format!("{:#}", effective.to_json()) } else { effective.to_toml().trim_end().to_owned() })
}

fn summary(effective: &Effective<Config>, redis: &str) -> String {
    let places = effective.places();
    let from = if places.is_empty() { "defaults alone".to_owned() } else { places.join(", ") };
    format!("sse-gateway: the configuration is sound\n  from      {from}\n  redis     {redis}")
}

async fn look_at_redis(config: &Config) -> Result<Vec<Finding>, CheckError> {
    // Both were checked with the settings.
    let client = Client::new(&config.redis).map_err(|error| ConfigError::invalid("redis", error))?;
    let keys = config.redis.keys().map_err(|error| ConfigError::invalid("redis.prefix", error))?;
    let channel = Channel::parse(ANY_CHANNEL).map_err(|error| ConfigError::invalid("redis", error))?;
    let asked = Asked {
        tokens: config.auth.is_set(),
        leases: config.limits.max_connections_per_user > 0,
        presence: config.presence.enabled,
    };
    Ok(look(&client, &keys, |functions| needs(functions, &keys, &channel, asked), true).await?)
}
