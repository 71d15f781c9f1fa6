//! `doctor`: the way from a publish to a browser, measured as a browser sees it, and what on it is wrong.
//!
//! | module | what it holds |
//! |---|---|
//! | [`target`] | the address that is asked, on channels of this run's own |
//! | [`connection`], [`tap`] | one connection; one stream on it, each thing noted with its time |
//! | [`source`] | what publishes |
//! | [`course`] | the order of all of it |
//! | [`measure`] | what is done to find out |
//! | [`judge`] | what it means: pure |
//! | [`checks`], [`report`] | a verdict, and how it is written |

mod checks;
mod connection;
mod course;
mod judge;
mod measure;
mod report;
mod source;
mod tap;
mod target;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::Parser;
use http::HeaderValue;
use rustls::ClientConfig;
use shared::channel::Channel;
use tokio::time::timeout;

use self::checks::Check;
use self::connection::Dialer;
use self::course::{Course, Plan};
use self::report::Report;
use self::source::Source;
use self::target::Target;
use super::event::read_duration;
use super::url::Url;
use super::{Common, FAILED, Failure, channel, output};

/// Beside the time to be idle: what everything else may take, and far longer than it does.
const REST: Duration = Duration::from_secs(180);
/// Longest that a stream is looked at.
const MAX_IDLE: Duration = Duration::from_secs(3_600);

/// Find out what is wrong between a publish and a browser, and what to change.
///
/// Example: sse-publisher doctor --url 'https://app.example.com/events?channel=x' --publish-url http://127.0.0.1:8090
/// --origin https://www.example.com --gateways http://10.0.0.1:9090,http://10.0.0.2:9090
///
/// Opens streams at the address that browsers use, through everything that is in between, as they do: HTTP/2 or HTTP/1.1. It
/// publishes to them, and measures what arrives, and when. Then it says what is wrong, by the name of the setting in nginx,
/// HAProxy, Caddy and others: answers that are collected or compressed, an idle timeout below the keep-alive, HTTP/1.1 alone
/// (six connections), CORS, clocks that differ, gateways that are dead or hear nothing, refusals, caches, streams that do not
/// resume.
///
/// It publishes by Redis, as the other commands do, or by --publish-url. It does so on channels of its own (doctor:... or
/// user:doctor-...), whose history it erases. It takes as long as --idle, and some seconds.
///
/// Exit code 0: nothing is wrong, though there may be remarks; 1: something is; 2: flags or configuration are wrong. Ctrl-C
/// ends it at once. SSL_CERT_FILE=ca.pem in the environment trusts an authority of your own in place of the system's.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The address of the stream as pages have it, with its query; what it says of channels is replaced
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    url: Url,
    /// Publish by this service (sse-publisher serve, or a gateway without Redis), and not by Redis
    #[arg(long, value_name = "URL", value_parser = Url::parse, conflicts_with = "redis_url")]
    publish_url: Option<Url>,
    /// This channel in place of channels of its own, where a token grants no other; its listeners get some events named doctor,
    /// and its history keeps them
    #[arg(long, value_parser = channel)]
    channel: Option<Channel>,
    /// File with a token for the stream, sent as Authorization: Bearer
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with a token for --publish-url [default: the one of --token-file]
    #[arg(long, value_name = "FILE", requires = "publish_url")]
    publish_token_file: Option<PathBuf>,
    /// Where pages come from that open the stream, such as https://app.example.com: whether CORS lets them
    #[arg(long, value_parser = origin)]
    origin: Option<HeaderValue>,
    /// Operator ports (or public ones) of the gateways, with commas between: whether each is ready, and what time it has
    #[arg(long, value_name = "URL,URL", value_delimiter = ',', value_parser = Url::parse)]
    gateways: Vec<Url>,
    /// How long a stream on which nothing happens has to stay open
    #[arg(long, value_name = "DURATION", value_parser = idle, default_value = "60s")]
    idle: Duration,
    /// How many streams to open at once, to come by every gateway
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    streams: u8,
    /// One JSON object at the end: {"url","verdict","checks":[{"check","verdict","measured","meaning","change":[{"at","do"}]}]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let target = Target::new(&self.url, self.channel.clone()).map_err(Failure::usage)?;
        let token = self.token_file.as_deref().map(|file| token("--token-file", file)).transpose()?;
        let trust = self.trust().await?;
        let told = target.told();
        let report = Report::new(self.json);
        report.say(&format!("{told}\n"));
        let source = self.source(&report, &target, token.as_ref(), trust.as_ref()).await?;
        let course = Course {
            dialer: Dialer::new(target.url(), trust.as_ref()),
            target,
            source,
            trust,
            token,
            run: format!("{:016x}", fastrand::u64(..)),
            numbers: AtomicU64::new(1),
        };
        let plan =
            Plan { idle: self.idle, streams: usize::from(self.streams), origin: self.origin, gateways: self.gateways };
        let all = Box::pin(course.run(&plan, &report));
        tokio::select! {
            ended = timeout(plan.idle + REST, all) => {
                ended.map_err(|_| Failure::run("it has not ended within --idle and 3 minutes; what is above holds"))?;
            }
            // Who has read enough wants no more of it.
            () = output::closed() => return Ok(FAILED),
        }
        let is_well = report.finish(&told).map_err(Failure::run)?;
        Ok(if is_well { 0 } else { FAILED })
    }

    /// What is trusted, where any address is `https`.
    async fn trust(&self) -> Result<Option<ClientConfig>, Failure> {
        let mut urls = [&self.url].into_iter().chain(&self.publish_url).chain(&self.gateways);
        if !urls.any(|url| url.tls) {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(crate::chat::trusting_the_system).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        read.map(Some).map_err(|error| Failure::run(format!("no connection by TLS: {error}")))
    }

    async fn source(
        &self,
        report: &Report,
        target: &Target,
        token_of_stream: Option<&HeaderValue>,
        trust: Option<&ClientConfig>,
    ) -> Result<Option<Source>, Failure> {
        let source = if let Some(url) = &self.publish_url {
            let file = self.publish_token_file.as_deref();
            let own = file.map(|file| token("--publish-token-file", file)).transpose()?;
            let token = own.or_else(|| token_of_stream.cloned());
            Ok(Source::Http { dialer: Dialer::new(url, trust), token })
        } else {
            Source::redis(&self.common.load()?).await
        };
        let tried = match source {
            Ok(source) => source.check(target).await.map(|measured| (source, measured)),
            Err(why) => Err(why),
        };
        Ok(match tried {
            Ok((source, measured)) => {
                report.add(Check::ok("publishing", measured));
                Some(source)
            }
            Err(why) => {
                let meaning = "nothing can be published, so it is not seen whether events arrive";
                report.add(
                    Check::wrong("publishing", why, meaning).change("--redis-url", "the Redis of the gateways").change(
                        "--publish-url",
                        "or the publisher's service, and --publish-token-file where it asks for a token",
                    ),
                );
                None
            }
        })
    }
}

/// The header's value; in none of its errors is a byte of the token.
fn token(flag: &str, file: &Path) -> Result<HeaderValue, Failure> {
    super::listen::token(file).map_err(|text| Failure::usage(text.replacen("--token-file", flag, 1)))
}

/// As a browser says it: scheme, host and port, in lower case.
fn origin(text: &str) -> Result<HeaderValue, String> {
    const SHAPE: &str = "an origin is https://host[:port], in lower case and without a path";
    let url = Url::parse(text).map_err(|_| SHAPE.to_owned())?;
    if url.server() != text || text != text.to_ascii_lowercase() {
        return Err(SHAPE.to_owned());
    }
    HeaderValue::from_str(text).map_err(|_| SHAPE.to_owned())
}

fn idle(text: &str) -> Result<Duration, String> {
    let idle = read_duration(text)?;
    if idle < Duration::from_secs(1) || idle > MAX_IDLE {
        return Err("it is not within 1s and 1h".to_owned());
    }
    Ok(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_say_them() {
        for good in ["https://app.example.com", "http://localhost:5173"] {
            assert_eq!(origin(good).unwrap(), good);
        }
        for wrong in ["app.example.com", "https://app.example.com/", "https://App.example.com", "null", "https://h/x"] {
            assert_eq!(
                origin(wrong).unwrap_err(),
                "an origin is https://host[:port], in lower case and without a path",
                "{wrong}"
            );
        }
    }

    #[test]
    fn idle_has_bounds() {
        assert_eq!(idle("60s"), Ok(Duration::from_secs(60)));
        for wrong in ["0s", "999ms", "61m"] {
            assert_eq!(idle(wrong), Err("it is not within 1s and 1h".to_owned()));
        }
        assert_eq!(idle("60"), Err("a duration has a unit, such as 3s or 500ms".to_owned()));
    }
}
