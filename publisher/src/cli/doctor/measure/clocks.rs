//! The time of everybody who tells it.

use std::time::{Duration, SystemTime};

use crate::cli::doctor::connection::Ask;
use crate::cli::doctor::course::Course;
use crate::cli::doctor::judge::clocks::{Clock, Clocks};
use crate::cli::doctor::source::Sent;

/// Beside `gateways`, which were asked already. `sent` are events that were published.
pub(in crate::cli::doctor) async fn clocks(course: &Course, gateways: &[Clock], sent: &[Sent]) -> Clocks {
    let mut read = Vec::new();
    let begin = SystemTime::now();
    // Whatever path: a refusal has a date too.
    if let Ok(answer) = course.dialer.exchange(&Ask::get(&course.target.url().target)).await {
        let name = &course.target.url().authority;
        read.extend(Clock::of_head(name, &answer.headers, [begin, SystemTime::now()]));
    }
    read.extend_from_slice(gateways);
    if let Some(source) = &course.source {
        read.extend(source.clock().await);
    }
    Clocks { read, positions: sent.iter().filter_map(position).min_by(|a, b| a.within.total_cmp(&b.within)) }
}

/// The time at which an event was given its position: in the midst of its publish.
fn position(sent: &Sent) -> Option<Clock> {
    let there = Duration::from_millis(sent.position?).as_secs_f64();
    let here = sent.day.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    let name = "the time in events' ids".to_owned();
    Some(Clock { name, ahead: there - here, within: sent.took.as_secs_f64() / 2.0 + 0.001 })
}
