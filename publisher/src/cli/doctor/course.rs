//! The order in which things are looked at, and what the later ones learn of the earlier. Everything ends by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use rustls::ClientConfig;
use shared::channel::Channel;
use tokio::time::Instant;

use super::checks::{Check, Verdict};
use super::connection::{Dialer, How, Protocol, Unreachable};
use super::judge::{self, nodes::Outcome};
use super::measure::{self, events::Rounds};
use super::report::Report;
use super::source::Source;
use super::tap::{Tap, Wish};
use super::target::Target;
use crate::cli::url::Url;

/// Of connections before it is said that nobody is there.
const CONNECTS: usize = 3;
/// Names of those that are seen of one stream.
const OF_A_STREAM: [&str; 7] = ["compression", "cache", "retry", "buffering", "resume", "cors", "clocks"];

/// What everything is measured with.
pub(super) struct Course {
    pub(super) target: Target,
    pub(super) dialer: Dialer,
    /// `None` where nothing can be published.
    pub(super) source: Option<Source>,
    /// For `https`.
    pub(super) trust: Option<ClientConfig>,
    pub(super) token: Option<HeaderValue>,
    /// Random; so events of this run are known from all others.
    pub(super) run: String,
    /// Of the last event; each has another one, so that who shares a channel takes no other's for its own.
    pub(super) numbers: AtomicU64,
}

/// How much is looked at.
pub(super) struct Plan {
    pub(super) idle: Duration,
    pub(super) streams: usize,
    pub(super) origin: Option<HeaderValue>,
    pub(super) gateways: Vec<Url>,
}

impl Course {
    /// Asks for a stream on a channel of its own.
    pub(super) fn tap(&self, offer: Protocol, wish: &Wish<'_>) -> Result<(Channel, Tap), String> {
        let channel = self.target.channel()?;
        let tap = self.tap_on(&channel, offer, wish);
        Ok((channel, tap))
    }

    pub(super) fn tap_on(&self, channel: &Channel, offer: Protocol, wish: &Wish<'_>) -> Tap {
        let wish = Wish { token: self.token.as_ref(), ..wish.clone() };
        Tap::open(&self.dialer, offer, wish.ask(&self.target.on(channel)), &self.mark())
    }

    fn mark(&self) -> String {
        format!("doctor {} ", self.run)
    }

    /// Of the next event.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The data of an event.
    pub(super) fn text(&self, number: u64) -> String {
        format!("{}{number}", self.mark())
    }

    /// What data begin with that is no event of this run, and is meant for nobody.
    pub(super) fn filler(&self) -> String {
        format!("doctor-filler {}", self.run)
    }

    /// Looks at everything.
    pub(super) async fn run(&self, plan: &Plan, report: &Report) {
        if !self.address(report).await {
            return not_checked(report, &["protocol", "answer", "nodes", "idle"], "nobody is there");
        }
        let (outcomes, (directs, clocks)) =
            tokio::join!(measure::nodes::streams(self, plan.streams), measure::nodes::gateways(self, &plan.gateways));
        if let Some(Outcome::Refused { status, headers, said }) = refused(&outcomes) {
            report.add(judge::answer::refused(*status, headers, said));
            return not_checked(report, &["nodes", "idle"], "there is no stream");
        }
        let rest = async {
            let rounds = measure::events::rounds(self).await;
            let buffering = buffering(&rounds);
            let held = buffering.verdict == Verdict::Wrong;
            report.add(judge::nodes::nodes(&outcomes, &directs, held));
            let is_deaf = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Deaf { .. }));
            self.stream(plan, report, rounds, buffering, is_deaf, &clocks).await;
        };
        let idle = async {
            report.add(idle(measure::idle::idle(self, plan.idle).await));
        };
        // Both hold streams and buffers for each.
        tokio::join!(Box::pin(rest), Box::pin(idle));
    }

    async fn address(&self, report: &Report) -> bool {
        let mut reached: Result<How, Unreachable>;
        let mut failed = 0;
        loop {
            reached = self.dialer.dial(Protocol::Http2).await.map(|connected| connected.how.clone());
            if reached.is_ok() || failed + 1 == CONNECTS {
                break;
            }
            failed += 1;
        }
        report.add(judge::address::address(&reached, failed));
        if let Ok(how) = &reached {
            report.add(judge::address::protocol(self.target.url().tls, how.protocol));
        }
        reached.is_ok()
    }

    /// All that is seen of one stream.
    async fn stream(
        &self,
        plan: &Plan,
        report: &Report,
        rounds: Result<Option<Rounds>, String>,
        buffering: Check,
        is_deaf: bool,
        gateways: &[judge::clocks::Clock],
    ) {
        let rounds = match rounds {
            Ok(Some(rounds)) => rounds,
            Ok(None) => return not_checked(report, &["answer"], "no stream could be opened: see nodes"),
            Err(why) => return not_checked(report, &["answer"], &why),
        };
        let held = buffering.verdict == Verdict::Wrong;
        head(report, &rounds);
        report.add(buffering);
        let (sent, channel) = (rounds.sent.clone(), rounds.channel.clone());
        report.add(if held {
            Check::not_checked("resume", "events are held back: see buffering")
        } else if is_deaf {
            Check::not_checked("resume", "a node does not hear what is published: see nodes")
        } else {
            resumed(self.source.is_some(), measure::resume::resume(self, rounds).await)
        });
        report.add(match &plan.origin {
            None => Check::not_checked(
                "cors",
                "no --origin: the scheme, host and port of the pages, where they have others",
            ),
            Some(origin) => self.cors(origin).await,
        });
        report.add(judge::clocks::clocks(&measure::clocks::clocks(self, gateways, &sent).await));
        if let Some(source) = self.source.as_ref().filter(|_| self.target.is_own() && !sent.is_empty()) {
            source.erase(&channel).await;
        }
    }

    async fn cors(&self, origin: &HeaderValue) -> Check {
        if origin.as_bytes() == self.target.url().server().as_bytes() {
            return Check::ok("cors", "pages of the stream's own origin need none");
        }
        match measure::cors::cors(self, origin).await {
            Some(asked) => judge::cors::cors(&asked),
            None => Check::not_checked("cors", "no answer's head came: see buffering and nodes"),
        }
    }
}

/// Where all of them were refused, and for what.
fn refused(outcomes: &[Outcome]) -> Option<&Outcome> {
    outcomes.first().filter(|_| outcomes.iter().all(Outcome::is_refusal))
}

fn not_checked(report: &Report, names: &[&'static str], why: &str) {
    for name in names.iter().chain(&OF_A_STREAM) {
        report.add(Check::not_checked(name, why));
    }
}

fn buffering(rounds: &Result<Option<Rounds>, String>) -> Check {
    match rounds {
        Ok(Some(rounds)) => judge::events::events(&rounds.events),
        Ok(None) => Check::not_checked("buffering", "no stream could be opened: see nodes"),
        Err(why) => Check::not_checked("buffering", why),
    }
}

/// What the heads say: of the stream itself, and of the one that was asked for with gzip.
fn head(report: &Report, rounds: &Rounds) {
    const NONE: &str = "no answer's head came: see buffering and nodes";
    let seen = rounds.tap.seen();
    let since = |at: Instant| seen.asked.map(|asked| at.saturating_duration_since(asked)).unwrap_or_default();
    let opened = seen.opened.as_ref().map(|opened| since(opened.at));
    match &seen.head {
        Some(head) => report.add(judge::answer::stream(&head.headers, since(head.at), opened)),
        None => report.add(Check::not_checked("answer", NONE)),
    }
    let compressed = rounds.compressed.as_ref().and_then(|tap| tap.seen().head.clone());
    report.add(match compressed.filter(|head| head.status == http::StatusCode::OK) {
        Some(head) => judge::answer::compression(&head.headers),
        None => Check::not_checked("compression", NONE),
    });
    match &seen.head {
        Some(head) => report.add(judge::answer::cache(&head.headers)),
        None => report.add(Check::not_checked("cache", NONE)),
    }
    report.add(match (seen.retry, &seen.opened) {
        (None, None) => Check::not_checked("retry", NONE),
        (retry, _) => judge::answer::retry(retry),
    });
}

fn idle(measured: Result<Option<judge::idle::Idle>, String>) -> Check {
    match measured {
        Ok(Some(idle)) => judge::idle::idle(&idle),
        Ok(None) => Check::not_checked("idle", "no stream could be opened: see buffering and nodes"),
        Err(why) => Check::not_checked("idle", why),
    }
}

fn resumed(can_publish: bool, measured: Result<Option<judge::resume::Resumed>, String>) -> Check {
    match measured {
        Ok(Some(resumed)) => judge::resume::resume(&resumed),
        Ok(None) if !can_publish => Check::not_checked("resume", "nothing could be published"),
        Ok(None) => Check::not_checked("resume", "there was no id to come back with, or nobody took the client back"),
        Err(why) => Check::not_checked("resume", why),
    }
}
