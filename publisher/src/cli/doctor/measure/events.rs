//! Events, one after the other, on one stream; once more where the first were late or came together; and more behind them
//! where they did not come at all, which pushes them out of any buffer.

use std::time::Duration;

use shared::channel::Channel;
use tokio::time::{Instant, sleep, sleep_until};

use super::nodes::{first, opened};
use crate::cli::doctor::connection::Protocol;
use crate::cli::doctor::course::Course;
use crate::cli::doctor::judge::events::{Events, Flood, Timing, is_doubtful};
use crate::cli::doctor::source::{Sent, Source};
use crate::cli::doctor::tap::{Seen, Tap, Wish};

/// Of a round.
const EVENTS: u64 = 6;
/// From one publish to the next.
const APART: Duration = Duration::from_millis(300);
/// Behind the last publish.
const PATIENCE: Duration = Duration::from_secs(3);
/// Published behind events that do not come: more than proxies collect.
const FLOOD: usize = 32;
const PIECE: usize = 16 << 10;

/// What this left behind, for others to look at.
pub(in crate::cli::doctor) struct Rounds {
    pub(in crate::cli::doctor) events: Events,
    /// The stream, which is still open.
    pub(in crate::cli::doctor) tap: Tap,
    /// On the same channel, asked for as a browser does that takes gzip.
    pub(in crate::cli::doctor) compressed: Option<Tap>,
    pub(in crate::cli::doctor) channel: Channel,
    /// What was published, in order.
    pub(in crate::cli::doctor) sent: Vec<Sent>,
    numbers: Vec<u64>,
}

/// `None` where there is no stream to measure.
///
/// # Errors
/// Those of publishing.
pub(in crate::cli::doctor) async fn rounds(course: &Course) -> Result<Option<Rounds>, String> {
    let Some((channel, tap)) = stream(course).await? else { return Ok(None) };
    let wish = Wish { compressed: true, ..Wish::default() };
    let is_open = tap.seen().opened.is_some();
    let compressed = if is_open {
        let make = || Some(((), course.tap_on(&channel, Protocol::Http2, &wish)));
        first(make, Seen::is_stream).await.map(|((), tap)| tap)
    } else {
        // Nothing of it comes before it is pushed.
        Some(course.tap_on(&channel, Protocol::Http2, &wish))
    };
    let mut rounds =
        Rounds { events: Events::default(), tap, compressed, channel, sent: Vec::new(), numbers: Vec::new() };
    let Some(source) = &course.source else { return Ok(Some(rounds)) };
    let origin = Instant::now();
    rounds.round(course, source, origin).await?;
    // Where nothing came, nothing more can be learnt by waiting.
    if is_doubtful(&rounds.events.rounds[0]) && !rounds.tap.seen().heard.is_empty() {
        rounds.round(course, source, origin).await?;
    }
    if rounds.missing() > 0 && rounds.events.receivers > 0 {
        rounds.flood(course, source).await?;
    }
    let seen = rounds.tap.seen();
    rounds.events.accel = seen.head.as_ref().is_some_and(|head| head.headers.contains_key("x-accel-buffering"));
    drop(seen);
    Ok(Some(rounds))
}

/// One that is open; or else one that a gateway has, although nothing of it comes.
async fn stream(course: &Course) -> Result<Option<(Channel, Tap)>, String> {
    /// With one node of several that lives, one of them is there.
    const TRIES: usize = 4;
    let Some(source) = &course.source else { return Ok(opened(course, &Wish::default()).await) };
    for _ in 0..TRIES {
        let Some((channel, tap)) = opened(course, &Wish::default()).await else { break };
        // Not one on a node that does not hear: of that `nodes` tells.
        if source.publish(&channel, &course.text(course.number()), true).await?.receivers > 0 {
            return Ok(Some((channel, tap)));
        }
    }
    let taps: Vec<_> = (0..TRIES).filter_map(|_| course.tap(Protocol::Http2, &Wish::default()).ok()).collect();
    // It takes a gateway less to subscribe.
    sleep(Duration::from_secs(1)).await;
    for (channel, tap) in taps {
        if tap.seen().end.is_none()
            && source.publish(&channel, &course.text(course.number()), true).await?.receivers > 0
        {
            return Ok(Some((channel, tap)));
        }
    }
    Ok(None)
}

impl Rounds {
    async fn round(&mut self, course: &Course, source: &Source, origin: Instant) -> Result<(), String> {
        let (mut sent, mut numbers) = (Vec::new(), Vec::new());
        for _ in 0..EVENTS {
            let number = course.number();
            let published = source.publish(&self.channel, &course.text(number), false).await?;
            sent.push(published);
            numbers.push(number);
            sleep_until(published.at + APART).await;
        }
        self.tap.until(PATIENCE, |seen| numbers.iter().all(|number| seen.has(*number))).await;
        let seen = self.tap.seen();
        let since = |at: Instant| at.saturating_duration_since(origin);
        let timings = numbers.iter().zip(&sent).map(|(number, sent)| {
            let arrived = seen.heard.iter().find(|heard| heard.number == *number).map(|heard| since(heard.at));
            Timing { published: since(sent.at), arrived }
        });
        let timings = timings.collect();
        drop(seen);
        self.numbers.extend(numbers);
        self.events.rounds.push(timings);
        self.events.receivers = sent.iter().map(|sent| sent.receivers).fold(self.events.receivers, u64::max);
        self.sent.extend(sent);
        Ok(())
    }

    fn missing(&self) -> usize {
        self.events.rounds.iter().flatten().filter(|timing| timing.arrived.is_none()).count()
    }

    async fn flood(&mut self, course: &Course, source: &Source) -> Result<(), String> {
        let came = |seen: &Seen| self.numbers.iter().filter(|number| seen.has(**number)).count();
        let before = came(&self.tap.seen());
        let text = format!("{} {}", course.filler(), "x".repeat(PIECE));
        for _ in 0..FLOOD {
            source.publish(&self.channel, &text, true).await?;
        }
        self.tap.until(PATIENCE, |seen| came(seen) == self.numbers.len()).await;
        let brought = came(&self.tap.seen()).saturating_sub(before);
        self.events.flood = Some(Flood { bytes: FLOOD * PIECE, brought });
        Ok(())
    }
}
