//! `check` and `config`: what `serve` would read, said without serving.

use std::fmt::Write as _;

use clap::Parser;
use shared::channel::Channel;
use shared::config::{ConfigError, Effective};
use shared::keys::Keys;
use shared::redis::{Client, Finding, look};

use super::{FAILED, Failure, block_on, channel, output, serve};
use crate::config::Config;
use crate::publisher::needs::needs;

/// Stands for any channel when Redis is asked what may be done.
const ANY_CHANNEL: &str = "check";

/// Say everything that is wrong with the configuration, and serve nothing.
///
/// Reads what serve would read: files, environment, flags, and the files of keys and certificates that they name. Binds no
/// port. Example: sse-publisher check --config config/publisher.toml --connect
///
/// Ends with 0 where serve would start, with 2 where the configuration has to be mended, and with 1 where Redis will not do
/// (--connect): serve would end with it, or nothing would come of it.
///
/// Not covered by 0: whether the ports are free; without --connect, anything of Redis; where its user may not see which
/// functions there are (a warning says so), whether they are there, without which nothing works; and all that warnings name.
#[derive(Debug, Parser)]
pub(super) struct Check {
    /// Connect to Redis too, and look at its version, the functions, what the user may do, whether it takes writes, and
    /// whether it evicts. Nothing is changed there
    #[arg(long)]
    connect: bool,
    #[command(flatten)]
    flags: serve::Flags,
}

/// Show the value of every setting, and who said it: a default, a line of a file, a variable or a flag.
///
/// Secrets are hidden, and stand behind a #: what is printed is a configuration file that says the rest. Example:
/// sse-publisher config --json
#[derive(Debug, Parser)]
pub(super) struct Show {
    /// A JSON object by keys, each with value, from, name and line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: serve::Flags,
}

impl Check {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let effective = Config::examine(&self.flags.sources()).map_err(Failure::usage)?;
        let address = effective.config.redis.address().unwrap_or_default();
        if !self.connect {
            output::say(&summary(&effective, &format!("{address}, not asked: --connect does")));
            return Ok(0);
        }
        block_on(ask(&effective, &address))
    }
}

async fn ask(effective: &Effective<Config>, address: &str) -> Result<u8, Failure> {
    let settings = &effective.config.redis_settings();
    // Both were checked with the settings.
    let unusable = |key: &str, why: &dyn std::fmt::Display| Failure::usage(ConfigError::invalid(key, why));
    let client = Client::new(settings).map_err(|error| unusable("redis", &error))?;
    let keys = settings.keys().map_err(|error| unusable("redis.prefix", &error))?;
    let channel = any_channel(&keys).map_err(|error| unusable("redis", &error))?;
    let findings =
        look(&client, &keys, |functions| needs(functions, &keys, &channel, settings.wait_replicas > 0), false).await;
    let findings = findings.map_err(Failure::run)?;
    let mut text = summary(effective, address);
    for finding in &findings {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {finding}");
    }
    output::say(&text);
    Ok(if findings.iter().any(Finding::is_unfit) { FAILED } else { 0 })
}

/// One of the first partition, on the server that is looked at.
fn any_channel(keys: &Keys) -> Result<Channel, String> {
    let mut name = channel(ANY_CHANNEL)?;
    for number in 0_u32.. {
        if keys.partition(&name) == 0 {
            break;
        }
        name = channel(&format!("{ANY_CHANNEL}:{number}"))?;
    }
    Ok(name)
}

fn summary(effective: &Effective<Config>, redis: &str) -> String {
    let places = effective.places();
    let from = if places.is_empty() { "defaults alone".to_owned() } else { places.join(", ") };
    format!("sse-publisher: the configuration is sound\n  from      {from}\n  redis     {redis}")
}

impl Show {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let effective = Config::effective(&self.flags.sources()).map_err(Failure::usage)?;
        let text = if self.json { format!("{:#}", effective.to_json()) } else { effective.to_toml() };
        output::say(text.trim_end());
        Ok(0)
    }
}
