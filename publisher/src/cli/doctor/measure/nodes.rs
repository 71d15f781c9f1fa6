//! Several streams through the address at once, each on a channel and a connection of its own; and gateways by themselves.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use shared::channel::Channel;

use crate::cli::doctor::connection::{Ask, Dialer, Protocol};
use crate::cli::doctor::course::Course;
use crate::cli::doctor::judge::clocks::Clock;
use crate::cli::doctor::judge::nodes::{Direct, Outcome, State};
use crate::cli::doctor::tap::{End, Seen, Tap, Wish, told};
use crate::cli::url::Url;

/// After this nobody is expected to be just slow, and who has the stream is asked.
const SOON: Duration = Duration::from_secs(3);
/// A stream that no gateway had by then may still be opened within this.
const LATE: Duration = Duration::from_secs(7);
/// One that a gateway has is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// From a publish to its event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams that are asked for where one is wanted, and how often.
const AT_ONCE: usize = 4;
const ROUNDS: usize = 3;

/// Opens so many streams at a time, every other one by HTTP/1.1.
pub(in crate::cli::doctor) async fn streams(course: &Course, number: usize) -> Vec<Outcome> {
    let offers = [Protocol::Http2, Protocol::Http1].into_iter().cycle().take(number);
    join_all(offers.map(|offer| async move {
        match stream(course, offer).await {
            Ok(outcome) => outcome,
            Err(why) => Outcome::Failed(why),
        }
    }))
    .await
}

/// Errors are those of publishing.
async fn stream(course: &Course, offer: Protocol) -> Result<Outcome, String> {
    let (channel, tap) = course.tap(offer, &Wish::default())?;
    let mut has_it = 0;
    if !tap.until(SOON, |seen| seen.opened.is_some()).await && tap.seen().end.is_none() {
        if let Some(source) = &course.source {
            has_it = source.publish(&channel, &course.text(course.number()), true).await?.receivers;
        }
        let patience = if has_it > 0 { ON_ITS_WAY } else { LATE };
        tap.until(patience, |seen| seen.opened.is_some()).await;
    }
    if let Some(outcome) = unopened(&tap.seen(), has_it) {
        return Ok(outcome);
    }
    let node = tap.seen().opened.as_ref().map(|opened| opened.node.clone()).unwrap_or_default();
    let Some(source) = &course.source else { return Ok(Outcome::Opened { node }) };
    let number = course.number();
    let sent = source.publish(&channel, &course.text(number), true).await?;
    tap.until(EVENT_TIMEOUT, |seen| seen.has(number)).await;
    let seen = tap.seen();
    Ok(match (seen.heard.iter().find(|heard| heard.number == number), &seen.end) {
        (Some(heard), _) => Outcome::Heard { node, event: heard.at.saturating_duration_since(sent.at) },
        (None, Some(_)) => Outcome::Failed(broke_off(&seen)),
        (None, None) => Outcome::Deaf { node, receivers: sent.receivers },
    })
}

/// `None`: it was opened.
fn unopened(seen: &Seen, has_it: u64) -> Option<Outcome> {
    if seen.opened.is_some() {
        return None;
    }
    Some(match &seen.end {
        None if has_it > 0 => Outcome::Held,
        None => Outcome::Silent,
        Some((_, End::NoStream)) => {
            let head = seen.head.as_ref();
            Outcome::Refused {
                status: head.map_or(StatusCode::OK, |head| head.status),
                headers: head.map(|head| head.headers.clone()).unwrap_or_default(),
                said: seen.said.clone(),
            }
        }
        Some((_, End::Closed)) if seen.retry.is_some() => Outcome::ComeBack,
        Some(_) => Outcome::Failed(broke_off(seen)),
    })
}

fn broke_off(seen: &Seen) -> String {
    match &seen.end {
        Some((_, End::Unreachable(unreachable))) => unreachable.why.clone(),
        Some((_, End::Broken(why))) => format!("it broke off: {why}"),
        _ => "it ended at once".to_owned(),
    }
}

/// A stream on a channel of its own that is open, if any can be had.
pub(in crate::cli::doctor) async fn opened(course: &Course, wish: &Wish<'_>) -> Option<(Channel, Tap)> {
    first(|| course.tap(Protocol::Http2, wish).ok(), |seen| seen.opened.is_some()).await
}

/// The first stream of which it is so, of several that are asked for at once: with one node of two that lives, one of them
/// comes there. Once more where all of them ended; not where one keeps silent, since the next would too.
pub(in crate::cli::doctor) async fn first<T>(
    make: impl Fn() -> Option<(T, Tap)>,
    is: fn(&Seen) -> bool,
) -> Option<(T, Tap)> {
    for _ in 0..ROUNDS {
        let taps = (0..AT_ONCE).filter_map(|_| make());
        let waits = taps.map(|(what, tap)| async move { (tap.until(EVENT_TIMEOUT, is).await, what, tap) });
        let mut waits: FuturesUnordered<_> = waits.collect();
        let mut is_silent = false;
        while let Some((is_so, what, tap)) = waits.next().await {
            if is_so {
                return Some((what, tap));
            }
            is_silent |= tap.seen().end.is_none();
        }
        if is_silent {
            return None;
        }
    }
    None
}

/// Asks each gateway whether it is ready, and what time it has.
pub(in crate::cli::doctor) async fn gateways(course: &Course, urls: &[Url]) -> (Vec<Direct>, Vec<Clock>) {
    let asked = join_all(urls.iter().map(|url| gateway(Dialer::new(url, course.trust.as_ref())))).await;
    let (directs, clocks): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    (directs, clocks.into_iter().flatten().collect())
}

async fn gateway(dialer: Dialer) -> (Direct, Option<Clock>) {
    let server = dialer.url.authority.clone();
    let begin = SystemTime::now();
    let answer = match dialer.exchange(&Ask::get("/readyz")).await {
        Ok(answer) => answer,
        Err(why) => return (Direct { server, state: State::Unreachable(why) }, None),
    };
    let clock = Clock::of_head(&format!("the gateway at {server}"), &answer.headers, [begin, SystemTime::now()]);
    let state = if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        State::NotReady(told(&String::from_utf8_lossy(&answer.body)))
    } else {
        // The public port has no such path, and answers all the same.
        State::Ready
    };
    (Direct { server, state }, clock)
}
