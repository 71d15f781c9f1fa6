//! Figures that move, on `demo:prices`, `demo:metrics` and `demo:orders`: twenty events a second while somebody listens to
//! one of them, one a second on each while nobody does.
//!
//! Every event has the next number of its channel, so that a page can show that it missed none: a number is used up only
//! once its event is known to be there. A ticker that starts goes on after the last one in the history. Two at a time
//! would number alike: one process of a cluster runs it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use shared::channel::Channel;
use shared::envelope::Payload;
use shared::position::Position;
use tokio::time::{Interval, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use super::figures::Figures;
use crate::{Channels, Event, Once, Publication, Publish, PublishError, Receipt};

/// Between two events while somebody listens.
const BUSY: Duration = Duration::from_millis(50);
/// Between two rounds of all channels while nobody does.
const IDLE: Duration = Duration::from_secs(1);
/// After an error: the first pause, doubled each time, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// One of the three channels, by its place in [`NAMES`].
type Place = usize;
const PRICES: Place = 0;
const METRICS: Place = 1;
const ORDERS: Place = 2;
/// Channels and the events on them.
const NAMES: [(&str, &str); 3] = [("demo:prices", "price"), ("demo:metrics", "metric"), ("demo:orders", "order")];
/// A second while somebody listens: 12 prices, 5 metrics, 3 orders, evenly.
const SECOND: [Place; 20] = {
    const P: Place = PRICES;
    const M: Place = METRICS;
    const O: Place = ORDERS;
    [P, M, P, P, O, P, M, P, P, P, M, P, O, P, P, M, P, P, O, M]
};

/// Publishes until `stop`. Errors are waited out, whatever they are, and told of once.
///
/// `publish` and `channels` lead to the same broker. Settings of channels are best left aside: the events are durable.
pub async fn ticker(publish: Arc<dyn Publish>, channels: Arc<dyn Channels>, stop: CancellationToken) {
    let ticking = async {
        let Ok(names) = names() else { return tracing::error!("the demo's channels have names that are none") };
        let mut pauses = Pauses::new();
        let mut used = [0; 3];
        for (used, channel) in used.iter_mut().zip(&names) {
            *used = loop {
                match last_number(&*channels, channel).await {
                    Ok(number) => break number,
                    Err(error) => pauses.wait(&error).await,
                }
            };
        }
        // No other run shares its keys, so that a history that was erased does not make new events look like repeated ones.
        let run = fastrand::u64(..);
        let figures = Figures::new(fastrand::Rng::new());
        Ticker { publish, names, used, listeners: [0; 3], figures, run, pauses }.run().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = ticking => {}
    }
}

/// The channels, in the order of [`NAMES`].
fn names() -> Result<[Channel; 3], shared::channel::ChannelError> {
    let [prices, metrics, orders] = NAMES.map(|(name, _)| Channel::parse(name));
    Ok([prices?, metrics?, orders?])
}

/// The number of the channel's last event, 0 where that is not in the history.
async fn last_number(channels: &dyn Channels, channel: &Channel) -> Result<u64, PublishError> {
    let page = channels.history(channel, Position::ZERO, 1).await?;
    let Some(last) = page.last else { return Ok(0) };
    let page = channels.history(channel, before(last.position), 1).await?;
    Ok(page.entries.last().and_then(|entry| number(&entry.payload)).unwrap_or(0))
}

/// The position right before.
fn before(position: Position) -> Position {
    match position.seq.checked_sub(1) {
        Some(seq) => Position { ms: position.ms, seq },
        None => Position { ms: position.ms.saturating_sub(1), seq: u64::MAX },
    }
}

fn number(payload: &[u8]) -> Option<u64> {
    let Payload::Envelope(envelope) = Payload::parse(payload) else { return None };
    let data: serde_json::Value = serde_json::from_str(envelope.data?.get()).ok()?;
    data.get("n")?.as_u64()
}

struct Ticker {
    publish: Arc<dyn Publish>,
    /// The channels.
    names: [Channel; 3],
    /// The number of each channel's last event.
    used: [u64; 3],
    /// Who heard each channel's last event.
    listeners: [u64; 3],
    figures: Figures,
    /// Begins the `once` keys.
    run: u64,
    pauses: Pauses,
}

impl Ticker {
    /// For ever.
    async fn run(mut self) {
        let (mut busy, mut ticks, mut at) = (false, every(IDLE), 0);
        loop {
            ticks.tick().await;
            if busy {
                self.tell(SECOND[at]).await;
                at = (at + 1) % SECOND.len();
            } else {
                for place in [PRICES, METRICS, ORDERS] {
                    self.tell(place).await;
                }
            }
            let wanted = self.listeners.iter().any(|listeners| *listeners > 0);
            if busy != wanted {
                busy = wanted;
                ticks = every(if busy { BUSY } else { IDLE });
            }
        }
    }

    /// Publishes the next event of a channel, as often as it takes.
    async fn tell(&mut self, place: Place) {
        let n = self.used[place] + 1;
        let publication = match self.next(place, n) {
            Ok(publication) => publication,
            Err(error) => return self.pauses.wait(&error).await,
        };
        loop {
            match self.publish.publish(&self.names[place], publication.clone()).await {
                Ok(Receipt { receivers, duplicate, .. }) => {
                    self.pauses.over();
                    self.used[place] = n;
                    // A repeated try tells nothing of who heard the first one.
                    if !duplicate {
                        self.listeners[place] = receivers;
                    }
                    return;
                }
                Err(error) => self.pauses.wait(&error).await,
            }
        }
    }

    fn next(&mut self, place: Place, n: u64) -> Result<Publication, PublishError> {
        let (_, name) = NAMES[place];
        let event = match place {
            PRICES => event(&self.figures.price(n)),
            METRICS => event(&self.figures.metric(n)),
            _ => event(&self.figures.order(n)),
        };
        let once = Once::parse(&format!("{:016x}-{n}", self.run));
        let once = once.map_err(|error| PublishError::Refused { field: "once", reason: error.to_string() })?;
        event?.named(name).once(once).into_publication()
    }
}

fn event<T: Serialize>(data: &T) -> Result<Event, PublishError> {
    Event::json(data).map_err(|error| PublishError::Rejected { reason: error.to_string() })
}

/// From one period from now on. What was missed is not made up for.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// How long to wait after an error, and whether the log has said so.
struct Pauses {
    next: Duration,
}

impl Pauses {
    fn new() -> Self {
        Self { next: PAUSES[0] }
    }

    async fn wait(&mut self, error: &PublishError) {
        if self.next == PAUSES[0] {
            tracing::warn!(%error, "the demo's figures stand still; trying again");
        }
        sleep(self.next).await;
        self.next = PAUSES[1].min(self.next * 2);
    }

    fn over(&mut self) {
        if self.next != PAUSES[0] {
            self.next = PAUSES[0];
            tracing::info!("the demo's figures move again");
        }
    }
}

#[cfg(test)]
mod tests;
