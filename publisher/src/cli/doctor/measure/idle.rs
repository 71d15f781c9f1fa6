//! A stream on which nothing is published, for as long as was asked; then one event.

use std::time::Duration;

use super::nodes::opened;
use crate::cli::doctor::course::Course;
use crate::cli::doctor::judge::idle::{Ended, Idle};
use crate::cli::doctor::tap::{End, Seen, Wish};

/// From the publish to its event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// A `retry:` so shortly before the end belongs to it.
const WITH_THE_END: Duration = Duration::from_secs(1);

/// `None` where no stream could be opened.
///
/// # Errors
/// Those of publishing.
pub(in crate::cli::doctor) async fn idle(course: &Course, wanted: Duration) -> Result<Option<Idle>, String> {
    let Some((channel, tap)) = opened(course, &Wish::default()).await else { return Ok(None) };
    let begin = tap.seen().opened.as_ref().map(|opened| opened.at);
    let Some(begin) = begin else { return Ok(None) };
    tap.until(wanted, |_| false).await;
    let lived = begin.elapsed();
    let mut idle = {
        let seen = tap.seen();
        Idle {
            wanted,
            lived: seen.end.as_ref().map_or(lived, |(at, _)| *at - begin),
            ended: ended(&seen),
            keep_alives: seen.comments,
            longest: seen.longest_silence,
            after: None,
        }
    };
    if let (None, Some(source)) = (&idle.ended, &course.source) {
        let number = course.number();
        let receivers = source.publish(&channel, &course.text(number), true).await?.receivers;
        let came = tap.until(EVENT_TIMEOUT, |seen| seen.has(number)).await;
        // One that no gateway had is no fault of the way.
        idle.after = Some(came).filter(|came| *came || receivers > 0);
    }
    Ok(Some(idle))
}

fn ended(seen: &Seen) -> Option<Ended> {
    let (at, end) = seen.end.as_ref()?;
    let since = |then: Option<tokio::time::Instant>| then.map(|then| at.saturating_duration_since(then));
    let opened = seen.opened.as_ref().map(|opened| opened.at);
    // The first `retry:` is that of the begin.
    let told = seen.retry_at.filter(|at| opened.is_some_and(|opened| *at > opened));
    let why = match end {
        End::Broken(why) => Some(why.clone()),
        End::Unreachable(unreachable) => Some(unreachable.why.clone()),
        End::Closed | End::NoStream => None,
    };
    let by_gateway = why.is_none() && since(told).is_some_and(|since| since <= WITH_THE_END);
    Some(Ended { silence: since(seen.last_byte).unwrap_or_default(), by_gateway, why })
}
