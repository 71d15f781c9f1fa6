//! The command line: what it takes, and what each command does with it. It must not know how an event gets to Redis.

mod cancel;
mod check;
mod cut;
mod doctor;
mod event;
mod listen;
mod output;
mod pipe;
mod publish;
mod relay;
mod serve;
mod url;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Parser, Subcommand};
use shared::channel::Channel;
use shared::config::Sources;

pub use self::output::complain;
use crate::config::{Config, ENV_PREFIX};
use crate::{Configured, ConnectError, Publish, Publisher};

/// Read where no `--config` says otherwise, if it is there.
const DEFAULT_CONFIG: &str = "config/publisher.toml";

/// The system or the run failed.
const FAILED: u8 = 1;
/// Flags or configuration are wrong; clap exits with the same.
const USAGE: u8 = 2;

/// Publishes events to the browsers that listen to a channel, through Redis.
///
/// Settings: defaults, then config/publisher.toml, then SSE_PUBLISHER__... variables
/// (SSE_PUBLISHER__REDIS__URL=redis://127.0.0.1:6379), then flags.
#[derive(Debug, Parser)]
#[command(name = "sse-publisher", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Publish(publish::Args),
    Pipe(pipe::Args),
    Cancel(cancel::Args),
    Listen(listen::Args),
    Doctor(doctor::Args),
    Serve(serve::Args),
    Relay(relay::Args),
    Check(check::Check),
    Config(check::Show),
}

/// What every command that needs Redis takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// Redis, as redis://[user[:password]@]host[:port], redis+sentinel://host,host/name where Sentinels watch it, or redis+cluster://host,host; rediss for TLS
    /// [default: redis://127.0.0.1:6379]
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Configuration file (TOML); may be repeated, the later one wins [default: config/publisher.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Wait so long for a Redis that is not there yet, such as 30s [default: 0s]
    #[arg(long, value_name = "DURATION")]
    wait_for_redis: Option<String>,
}

/// Why a command ends before its work is done.
#[derive(Debug)]
pub struct Failure {
    /// 1: the system or the run; 2: flags or configuration.
    pub code: u8,
    /// One or more lines for people; empty where all has been said.
    pub text: String,
}

impl Failure {
    fn run(text: impl Display) -> Self {
        Self { code: FAILED, text: text.to_string() }
    }

    fn usage(text: impl Display) -> Self {
        Self { code: USAGE, text: text.to_string() }
    }

    /// A file of certificates that is not there is the configuration's fault, a server that is not there is not.
    #[allow(clippy::needless_pass_by_value)] // for `map_err`
    fn connect(error: ConnectError) -> Self {
        match error {
            ConnectError::Start(_) => Self::run(error),
            ConnectError::Settings(_) | ConnectError::Keys(_) => Self::usage(error),
        }
    }
}

impl Args {
    /// Reads the command line. Ends the process where that says all there is to say: help, or what is wrong, which shows no
    /// password.
    #[must_use]
    pub fn read() -> Self {
        let error = match Self::try_parse() {
            Ok(args) => return args,
            Err(error) => error,
        };
        let text = error.to_string();
        if error.use_stderr() {
            output::note(without_passwords(&text).trim_end());
        } else {
            // Help, where an address is an example.
            output::say(text.trim_end());
        }
        std::process::exit(error.exit_code())
    }

    /// Does what was asked for. Returns the exit code.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run(self) -> Result<u8, Failure> {
        match self.command {
            Command::Publish(args) => block_on(args.run()),
            Command::Pipe(args) => block_on(args.run()),
            Command::Cancel(args) => block_on(args.run()),
            Command::Listen(args) => block_on(args.run()),
            Command::Doctor(args) => block_on(args.run()),
            Command::Serve(args) => args.run(),
            Command::Relay(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Config(args) => args.run(),
        }
    }
}

/// One thread is enough for one command.
fn block_on(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::run(format!("cannot start: {error}")))?;
    let result = runtime.block_on(command);
    // A read of standard input may be under way, which nothing ends.
    runtime.shutdown_background();
    result
}

impl Common {
    /// The layers below a command's own flags.
    fn sources(&self) -> Sources {
        let mut sources = Sources::new(ENV_PREFIX).process_env();
        for file in &self.config {
            sources = sources.file(file);
        }
        if self.config.is_empty() && Path::new(DEFAULT_CONFIG).exists() {
            sources = sources.file(DEFAULT_CONFIG);
        }
        sources.flag("redis.url", "--redis-url", self.redis_url.clone()).flag(
            "redis.wait",
            "--wait-for-redis",
            self.wait_for_redis.clone(),
        )
    }

    fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.sources()).map_err(Failure::usage)
    }
}

/// What carries out a command's publications: the same as the HTTP service has.
async fn connect(config: &Config) -> Result<Arc<dyn Publish>, Failure> {
    let publisher = Publisher::connect(&config.redis_settings()).await.map_err(Failure::connect)?;
    Ok(Arc::new(Configured::new(Arc::new(publisher), config.channels.clone())))
}

/// `text` with `***` for what stands before an `@` in an address.
fn without_passwords(text: &str) -> String {
    let hidden = |word: &str| {
        let (scheme, rest) = word.split_once("://")?;
        let (_, host) = rest.rsplit_once('@')?;
        Some(format!("{scheme}://***@{host}"))
    };
    // Words with the white space behind them, so that the lines stay as they are.
    text.split_inclusive(char::is_whitespace).map(|word| hidden(word).unwrap_or_else(|| word.to_owned())).collect()
}

/// A channel that may be published to.
fn channel(name: &str) -> Result<Channel, String> {
    let channel = Channel::parse(name).map_err(|error| error.to_string())?;
    if channel.is_reserved() {
        return Err("channels beginning sse. are the cluster's own, nobody publishes to them".to_owned());
    }
    Ok(channel)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn passwords_are_hidden() {
        for (text, shown) in [
            ("a 'redis://me:hun@ter2@h:1/2' found\n\n  tip: b", "a 'redis://***@h:1/2' found\n\n  tip: b"),
            ("--x=http://:p@h y@z\n", "--x=http://***@h y@z\n"),
            ("redis://h, and a@b", "redis://h, and a@b"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn channels_that_may_be_published_to() {
        assert_eq!(channel("user:42").unwrap().as_str(), "user:42");
        assert!(channel("").is_err() && channel("a b").is_err());
        assert!(channel("sse.control").unwrap_err().contains("the cluster's own"));
    }
}
