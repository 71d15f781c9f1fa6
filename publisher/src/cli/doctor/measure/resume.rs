//! A client that goes, misses something, and comes back with its last id, perhaps to another node.

use std::time::Duration;

use super::events::Rounds;
use super::nodes::first;
use crate::cli::doctor::connection::Protocol;
use crate::cli::doctor::course::Course;
use crate::cli::doctor::judge::resume::Resumed;
use crate::cli::doctor::tap::Wish;

const MISSED: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(5);

/// Goes from where `rounds` left off. `None`: there was no id to come back with, or nobody took the client back.
///
/// # Errors
/// Those of publishing.
pub(in crate::cli::doctor) async fn resume(course: &Course, rounds: Rounds) -> Result<Option<Resumed>, String> {
    let Some(source) = &course.source else { return Ok(None) };
    let Rounds { tap, channel, sent, .. } = rounds;
    let id = tap.seen().id.clone();
    drop(tap);
    if id.is_empty() || sent.iter().any(|sent| sent.position.is_none()) {
        return Ok(None);
    }
    let mut published = Vec::new();
    for _ in 0..MISSED {
        let number = course.number();
        source.publish(&channel, &course.text(number), false).await?;
        published.push(number);
    }
    let wish = Wish { last_event_id: Some(&id), ..Wish::default() };
    let make = || Some(((), course.tap_on(&channel, Protocol::Http2, &wish)));
    let Some(((), tap)) = first(make, |seen| seen.opened.is_some()).await else { return Ok(None) };
    let last = course.number();
    source.publish(&channel, &course.text(last), false).await?;
    published.push(last);
    tap.until(PATIENCE, |seen| seen.has(last)).await;
    let seen = tap.seen();
    let heard = seen.heard.iter().map(|heard| heard.number).filter(|number| published.contains(number)).collect();
    Ok(Some(Resumed { published, heard, gaps: seen.gaps.clone() }))
}
