//! Flags: their help, limits and errors. It must not act on them.

use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

/// Data of one event, in bytes: a marker has to fit, and gateways take at most 64 KiB.
const SIZE_BYTES: std::ops::RangeInclusive<i64> = crate::verify::MARKER_MAX_BYTES as i64..=64 * 1024;
/// Longest accepted phase.
const MAX_PHASE: Duration = Duration::from_secs(24 * 3_600);
/// Events per second per channel; a channel's events go out one after the other, so round trips bound it as well.
const MAX_RATE: f64 = 100_000.0;

// Lines of at most 78 columns, which no terminal that shows the options at all will wrap.
const EXAMPLES: &str = "\
Examples:
  5,000 connections on one channel, 20 events a second for 30 s, and what that
  costs the server:
    sse-loadtest --connections 5000 --rate 20 --duration 30s \\
        --server-pid $(pidof sse-gateway)

  1,000 channels over two gateways, published through a third server, as JSON:
    sse-loadtest --url http://127.0.0.1:8081 --url http://127.0.0.1:8082 \\
        --publish-url http://127.0.0.1:8090 --connections 10000 \\
        --channels 1000 --rate 0.5 --json

  Memory of idle connections only:
    sse-loadtest --connections 10000 --rate 0 --duration 1s \\
        --server-pid $(pidof sse-gateway)

Exit code:
  0  every connection opened and stayed open, and no event was lost, duplicated,
     out of order or foreign
  1  otherwise
  2  flags that are wrong, or ask for more than this machine can open

Ctrl-C ends early, with the report; a second one does not wait for what is
still on its way.";

/// Opens many event streams on a gateway, publishes on their channels, and checks on every connection that each event
/// arrived once and in order.
#[derive(Debug, Clone, Parser)]
#[command(name = "sse-loadtest", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Gateway to open event streams on (http only); repeat it to spread the connections over several
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) urls: Vec<Target>,

    /// Where to publish; the first --url when left out
    #[arg(long, value_name = "URL")]
    pub(crate) publish_url: Option<Target>,

    /// Event streams to open
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,

    /// Channels that the connections are spread over, at most one for each connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) channels: u32,

    /// Channels are named PREFIX-0, PREFIX-1, ...; two runs at once need two prefixes
    #[arg(long, value_name = "PREFIX", default_value = "load", value_parser = channel_prefix)]
    pub(crate) channel_prefix: String,

    /// Events per second on each channel; 0 publishes nothing
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20.0, value_parser = rate)]
    pub(crate) rate: f64,

    /// Bytes of data in each event (64 to 65536)
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(SIZE_BYTES))]
    pub(crate) size: u32,

    /// How long to publish and measure, for example 500ms, 10s or 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = phase)]
    pub(crate) duration: Duration,

    /// How long to publish before measuring: these events are checked like all others, but count for no latency or CPU
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = phase)]
    pub(crate) warmup: Duration,

    /// How long to leave the open connections alone before their memory is read and publishing begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = phase)]
    pub(crate) idle: Duration,

    /// New connections per second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connect_rate: u32,

    /// Process whose CPU time and resident memory to report (Linux); repeat it to add up several
    #[arg(long = "server-pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) server_pids: Vec<u32>,

    /// Threads that read the event streams; publishing always has one of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,

    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// Where events are published.
    pub(crate) fn publish_target(&self) -> Option<&Target> {
        self.publish_url.as_ref().or(self.urls.first())
    }

    /// What no flag can tell alone. The error names the flags and the limit.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.channels > self.connections {
            return Err(format!(
                "--channels {} must not exceed --connections {}: the others would have nobody to hear them",
                self.channels, self.connections
            ));
        }
        if self.duration.is_zero() {
            return Err("--duration must be longer than 0s".to_owned());
        }
        Ok(())
    }
}

/// The address in an `http://host:port` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host name or address, an IPv6 one without its brackets.
    pub(crate) host: String,
    /// Port, 80 when the URL has none.
    pub(crate) port: u16,
    /// What the `Host` header says.
    pub(crate) authority: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url: http::Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
        if url.scheme_str() != Some("http") {
            return Err("must begin with http:// (TLS is not supported)".to_owned());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err("must end after the port: paths are added to it".to_owned());
        }
        let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
            return Err("lacks a host".to_owned());
        };
        if authority.as_str().contains('@') {
            return Err("must not hold a user name or password".to_owned());
        }
        let port = match url.port_u16() {
            Some(port) if port != 0 => port,
            // `http` passes over a port that is none; the host alone then is not all there is.
            None if authority.as_str() == authority.host() => 80,
            _ => return Err("has a port that is not within 1 to 65535".to_owned()),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, authority: authority.as_str().to_owned() })
    }
}

fn phase(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error} (for example 500ms, 10s or 2m)"))?;
    if duration > MAX_PHASE {
        return Err("longer than the limit of 24h".to_owned());
    }
    Ok(duration)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number of events per second".to_owned())?;
    // Not a number is in no range either.
    if !(0.0..=MAX_RATE).contains(&rate) {
        return Err(format!("not within 0 to {MAX_RATE} events per second"));
    }
    Ok(rate)
}

fn channel_prefix(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 {
        return Err(format!("has {} bytes, not 1 to 64", text.len()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
        return Err("may hold letters, digits, '-', '.', '_' and ':' only".to_owned());
    }
    if text.starts_with("sse.") {
        return Err("must not begin with sse., which gateways keep for themselves".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, String> {
        let args = Args::try_parse_from([&["sse-loadtest"], flags].concat()).map_err(|error| error.to_string())?;
        args.check()?;
        Ok(args)
    }

    #[test]
    fn the_flags_are_well_formed_and_the_defaults_are_those_of_the_help() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        let args = parse(&[]).unwrap();
        assert_eq!((args.connections, args.channels, args.size, args.connect_rate), (1_000, 1, 256, 2_000));
        assert_eq!((args.duration, args.warmup), (Duration::from_secs(10), Duration::from_secs(2)));
        assert_eq!(args.publish_target(), Some(&args.urls[0]));
        assert_eq!(args.urls[0].authority, "127.0.0.1:8080");
    }

    #[test]
    fn urls_repeat_and_take_names_ipv6_and_no_port() {
        let args =
            parse(&["--url", "http://[::1]:81", "--url", "http://gateway/", "--publish-url", "http://p:8090"]).unwrap();
        let target =
            |host: &str, port, authority: &str| Target { host: host.to_owned(), port, authority: authority.to_owned() };
        assert_eq!(args.urls, [target("::1", 81, "[::1]:81"), target("gateway", 80, "gateway")]);
        assert_eq!(args.publish_target(), Some(&target("p", 8090, "p:8090")));
    }

    #[test]
    fn a_bad_value_is_refused_with_the_flag_and_the_reason() {
        for (flags, reason) in [
            (&["--url", "https://x"][..], "must begin with http://"),
            (&["--url", "127.0.0.1:8080"], "must begin with http://"),
            (&["--url", "http://x/events"], "must end after the port"),
            (&["--url", "http://x?y"], "must end after the port"),
            (&["--url", "http://a:b@x"], "user name or password"),
            (&["--url", "http://x:99999"], "port"),
            (&["--url", "http://x:0"], "port"),
            (&["--url", "http://x:"], "port"),
            (&["--url", ""], "not a URL"),
            (&["--publish-url", "ftp://x"], "must begin with http://"),
            (&["--connections", "0"], "1..=1000000"),
            (&["--connections", "many"], "invalid digit"),
            (&["--channels", "1001"], "must not exceed --connections 1000"),
            (&["--rate", "-1"], "unexpected argument"),
            (&["--rate=-1"], "not within 0 to 100000"),
            (&["--rate", "NaN"], "not within 0 to 100000"),
            (&["--rate", "inf"], "not within 0 to 100000"),
            (&["--rate", "fast"], "not a number"),
            (&["--size", "63"], "64..=65536"),
            (&["--size", "65537"], "64..=65536"),
            (&["--duration", "10"], "for example 500ms"),
            (&["--duration", "0s"], "longer than 0s"),
            (&["--duration", "25h"], "limit of 24h"),
            (&["--warmup", "soon"], "for example 500ms"),
            (&["--connect-rate", "0"], "1..=100000"),
            (&["--server-pid", "0"], "not in 1.."),
            (&["--threads", "65"], "1..=64"),
            (&["--channel-prefix", "a b"], "letters, digits"),
            (&["--channel-prefix", ""], "not 1 to 64"),
            (&["--channel-prefix", "sse.x"], "keep for themselves"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(reason), "{flags:?}: {error}");
            let flag = flags[0].split('=').next().unwrap();
            assert!(error.contains(flag) || reason == "unexpected argument", "{flags:?}: {error}");
        }
    }
}
