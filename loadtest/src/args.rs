//! Flags: their help, limits and errors. It must not act on them.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::flag_values::{channel_name, channel_prefix, content_type, payload, phase, rate, redis_key, share, watched};
use crate::target::{CHANNEL, PublishTarget, UrlTemplate};

/// Data of one event, in bytes: a marker has to fit, and gateways take at most 64 KiB.
const SIZE_BYTES: std::ops::RangeInclusive<i64> = crate::verify::MARKER_MAX_BYTES as i64..=64 * 1024;

// Lines of at most 78 columns, which no terminal that shows the options at all will wrap.
const EXAMPLES: &str = "\
Examples:
  5,000 connections on one channel, 20 events a second for 30 s, and what that
  costs the server:
    sse-loadtest --connections 5000 --rate 20 --duration 30s \\
        --publish redis://127.0.0.1:6379 --server-pid $(pidof sse-gateway)

  A channel for each of 10,000 connections over two gateways, 5,000 events a
  second in all, published through a third server, as JSON:
    sse-loadtest unicast --url http://127.0.0.1:8081 \\
        --url http://127.0.0.1:8082 --publish http://127.0.0.1:8090 \\
        --connections 10000 --rate 5000 --json

  Memory and CPU of idle connections only:
    sse-loadtest idle --connections 10000 --duration 60s \\
        --server-pid $(pidof sse-gateway)

Exit code:
  0  every connection opened and stayed open, and no event was lost, duplicated,
     out of order or foreign
  1  otherwise
  2  flags that are wrong, or ask for more than this machine can open

Ctrl-C ends early, with the report; a second one does not wait for what is
still on its way. docs/loadtest.md explains scenarios and report.";

/// What connections do, and what is published meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// All connections share few channels
    Broadcast,
    /// A channel for each connection
    Unicast,
    /// Each connection is on a channel of its own and on one of few broad ones; every second event is a broad one
    Mixed,
    /// A share of the connections drops at once and comes back with its cursors while publishing goes on
    Storm,
    /// A share of the connections reads nothing
    Slow,
    /// All connections are opened and closed, again and again; nothing is published
    Churn,
    /// Each connection is one short stream after the other, ended by its last event
    Tokens,
    /// Open connections, and nothing published
    Idle,
}

/// Opens many event streams on a server, publishes on their channels, and checks on every connection that each event
/// arrived once and in order.
#[derive(Debug, Clone, Parser)]
#[command(name = "sse-loadtest", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to do
    #[arg(value_enum, default_value = "broadcast", hide_possible_values = false)]
    pub(crate) scenario: Scenario,

    /// Where to open event streams; {channel} is the channel's name, and http://host:port alone is that of a gateway
    /// (/events?channel={channel}); repeat it to spread the connections over several
    #[arg(long = "url", value_name = "TEMPLATE", default_value = "http://127.0.0.1:8080")]
    pub(crate) urls: Vec<UrlTemplate>,

    /// Where to publish: redis://host:port[/db], or an http URL ({channel} allowed) to post to, without a path /publish;
    /// when left out, /publish of the first --url
    #[arg(long, value_name = "TARGET")]
    pub(crate) publish: Option<PublishTarget>,

    /// How to publish to Redis: `publish` is PUBLISH, `fcall` the durable function sse_publish
    #[arg(long, value_enum, value_name = "HOW", default_value = "fcall")]
    pub(crate) command: Command,

    /// Name of a channel in Redis
    #[arg(long, value_name = "TEMPLATE", default_value = "sse:{channel}", value_parser = redis_key)]
    pub(crate) key: String,

    /// What is published: {data} is the text, {json} the same as a JSON string, {channel} the channel inside a JSON
    /// string [default: {data} to Redis, {"channel":"{channel}","data":{json}} over HTTP]
    #[arg(long, value_name = "TEMPLATE", value_parser = payload)]
    pub(crate) payload: Option<String>,

    /// Content type of what is posted
    #[arg(long, value_name = "TYPE", default_value = "application/json", value_parser = content_type)]
    pub(crate) content_type: String,

    /// Name of the one channel, instead of PREFIX-0
    #[arg(long, value_name = "NAME", value_parser = channel_name)]
    pub(crate) channel: Option<String>,

    /// Channels are named PREFIX-0, PREFIX-1, ...; two runs at once need two prefixes
    #[arg(long, value_name = "PREFIX", default_value = "load", value_parser = channel_prefix)]
    pub(crate) channel_prefix: String,

    /// Event streams to open
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,

    /// Channels that the connections are spread over; mixed: the broad ones [default: 1; unicast and tokens: one for each
    /// connection; mixed: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    channels: Option<u32>,

    /// Events per second over all channels; 0 publishes nothing
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20.0, value_parser = rate)]
    pub(crate) rate: f64,

    /// Bytes of data in each event, 64 to 65536 [default: 256; tokens: 64]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(SIZE_BYTES))]
    size: Option<u32>,

    /// How long to publish and measure, for example 500ms, 10s or 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = phase)]
    pub(crate) duration: Duration,

    /// How long to publish before measuring: these events are checked like all others, but count for no latency or CPU
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = phase)]
    pub(crate) warmup: Duration,

    /// How long to leave the open connections alone before publishing; memory is read at its end, CPU over it
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = phase)]
    pub(crate) idle: Duration,

    /// New connections per second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connect_rate: u32,

    /// Processes that read the streams [default: one for every 18,000 connections]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) processes: Option<u32>,

    /// Source addresses (127.0.x.y) from which to connect to servers on this machine [default: one for every 10,000
    /// connections to a server]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) source_addresses: Option<u32>,

    /// slow: share of the connections that reads nothing [default: 0.1]; storm: share that drops, 0 to wait for the
    /// servers to drop some [default: 1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    share: Option<f64>,

    /// How often connections drop (storm, default 1) or are opened and closed (churn, default 5)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,

    /// tokens: how long one stream lasts from its first event to its last
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = phase)]
    pub(crate) life: Duration,

    /// tokens: events of one stream
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) tokens: u32,

    /// Publish one event on every channel, as fast as --rate allows, and end when all are there
    #[arg(long)]
    pub(crate) once: bool,

    /// Open no more connections once so much of the machine's memory is used, and go on with those there are
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) memory_limit: Option<u8>,

    /// Process whose CPU time and resident memory to report (Linux); repeat it to add up several
    #[arg(long = "server-pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) server_pids: Vec<u32>,

    /// Process whose resident memory to report under a name, for example redis=123 (Linux); may be repeated
    #[arg(long = "watch-pid", value_name = "NAME=PID", value_parser = watched)]
    pub(crate) watch: Vec<(String, u32)>,

    /// File that is written once all connections are open
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<std::path::PathBuf>,

    /// Losses are reported, and no failure: to find the rate at which a server begins to lose
    #[arg(long)]
    pub(crate) tolerate_loss: bool,

    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// No progress on standard error
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// How to publish to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Command {
    /// `PUBLISH`: ephemeral
    Publish,
    /// `FCALL sse_publish`: durable
    Fcall,
}

impl Args {
    /// Channels; in `mixed` the broad ones.
    pub(crate) fn channels(&self) -> u32 {
        let default = match self.scenario {
            Scenario::Unicast | Scenario::Tokens => self.connections,
            Scenario::Mixed => 4,
            _ => 1,
        };
        self.channels.unwrap_or(default)
    }

    /// Bytes of data in each event.
    pub(crate) fn size(&self) -> usize {
        let default = if self.scenario == Scenario::Tokens { 64 } else { 256 };
        self.size.unwrap_or(default) as usize
    }

    /// Share of stuck or dropping connections.
    pub(crate) fn share(&self) -> f64 {
        self.share.unwrap_or(if self.scenario == Scenario::Slow { 0.1 } else { 1.0 })
    }

    /// Rounds of `storm` and `churn`.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.scenario == Scenario::Churn { 5 } else { 1 })
    }

    /// Where streams are opened, complete.
    pub(crate) fn stream_urls(&self) -> Vec<UrlTemplate> {
        self.urls.iter().map(|url| url.clone().with_default_path("/events?channel={channel}")).collect()
    }

    /// Where events are published.
    pub(crate) fn publish_target(&self) -> Option<PublishTarget> {
        self.publish.clone().or_else(|| {
            let authority = self.urls.first()?.authority.clone();
            Some(PublishTarget::Http(UrlTemplate { authority, path: "/publish".to_owned() }))
        })
    }

    /// What no flag can tell alone. The error names the flags and the limit.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (channels, scenario) = (self.channels(), self.scenario);
        if channels > self.connections && scenario != Scenario::Mixed {
            return Err(format!(
                "--channels {channels} must not exceed --connections {}: the others would have nobody to hear them",
                self.connections
            ));
        }
        if matches!(scenario, Scenario::Unicast | Scenario::Tokens) && channels != self.connections {
            return Err(format!("--channels {channels} is not for {scenario:?}: there each connection has its own"));
        }
        if self.duration.is_zero() {
            return Err("--duration must be longer than 0s".to_owned());
        }
        self.check_names(channels)?;
        if self.once && self.rate == 0.0 {
            return Err("--once publishes at --rate, which must be above 0".to_owned());
        }
        if self.once && !matches!(scenario, Scenario::Broadcast | Scenario::Unicast | Scenario::Mixed) {
            return Err("--once is for broadcast, unicast and mixed".to_owned());
        }
        if scenario == Scenario::Slow && self.share() >= 1.0 {
            return Err("--share must be below 1 in slow: somebody has to read".to_owned());
        }
        if scenario == Scenario::Storm && self.rate < f64::from(channels) {
            // A connection has caught up with the first event that was sent after it came back.
            return Err(format!("--rate must be at least 1 for each of {channels} channels in storm"));
        }
        if scenario == Scenario::Tokens {
            self.check_tokens()?;
        }
        Ok(())
    }

    fn check_names(&self, channels: u32) -> Result<(), String> {
        let one = channels == 1 && !matches!(self.scenario, Scenario::Mixed | Scenario::Tokens);
        if self.channel.is_some() && !one {
            return Err("--channel names one channel: it needs --channels 1".to_owned());
        }
        for url in self.stream_urls() {
            if !url.names_channel() && !one {
                return Err(format!("--url {:?} must hold {CHANNEL}: there are several channels", url.path));
            }
            if self.scenario == Scenario::Mixed && url.parameter().is_none() {
                return Err(format!(
                    "--url {:?} must hold a query parameter like channel={CHANNEL} in mixed, which repeats it",
                    url.path
                ));
            }
        }
        if !self.key.contains(CHANNEL) && !one {
            return Err(format!("--key {:?} must hold {CHANNEL}: there are several channels", self.key));
        }
        Ok(())
    }

    /// The last event ends the channel, and only our own formats can say so.
    fn check_tokens(&self) -> Result<(), String> {
        if self.payload.is_some() {
            return Err("--payload is not for tokens, whose last event ends the channel".to_owned());
        }
        if self.command == Command::Publish && matches!(self.publish, Some(PublishTarget::Redis { .. })) {
            return Err("--command publish is not for tokens: an ephemeral event ends no channel".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
