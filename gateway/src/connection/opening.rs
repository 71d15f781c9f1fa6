//! How an event stream begins.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::event_stream::encode;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::join::{Part, Reader};
use super::resume::Resume;
use super::{Connection, ConnectionSettings, Next, NotLive, Parts, Readers, Request, pass};
use crate::broker::Partition;
use crate::hub::{Hub, Subscription};

/// See [`Request::greeting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// Its name.
    pub event: &'static str,
    /// Its data.
    pub data: &'static str,
}

/// What a connection says first.
pub(super) struct Opening {
    /// By what it is named there.
    pub(super) number: u64,
    bytes: Bytes,
    /// When the stream was asked for, where that was said.
    asked: Option<Instant>,
}

impl Connection {
    /// It was asked for at this time. To be said before it is asked anything.
    #[must_use]
    pub fn asked_at(mut self, asked: Instant) -> Self {
        if let Some(opening) = &mut self.opening {
            opening.asked = Some(asked);
        }
        self
    }

    /// What it says first.
    pub(super) fn begin(&self, opening: Opening, now: Instant) -> Next {
        if let Some(asked) = opening.asked {
            self.guard.metrics().connected(now.saturating_duration_since(asked));
        }
        Next::Write(opening.bytes.into())
    }
}

impl Connection {
    /// By what `sse.open` names it; `None` once that was written.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.opening.as_ref().map(|opening| pass::name(opening.number))
    }
}

/// The partitions of `subscriptions`, by number, and a reader for each of them; nothing is decided yet.
pub(super) fn attach(
    hub: &Arc<Hub>,
    subscriptions: Vec<Subscription>,
    resume: &Resume,
) -> Result<(Parts, Readers), NotLive> {
    let mut numbers: SmallVec<[Partition; 1]> = subscriptions.iter().map(Subscription::partition).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let parts = numbers.iter().map(|number| Part::new(hub, *number, resume)).collect::<Option<_>>().ok_or(NotLive)?;
    let reader = |subscription: Subscription| {
        let part = numbers.binary_search(&subscription.partition()).unwrap_or_default();
        // There are no more of them than there are partitions.
        Reader::new(subscription, Partition::try_from(part).unwrap_or_default(), resume)
    };
    Ok((parts, subscriptions.into_iter().map(reader).collect()))
}

/// Begins at the present: for each partition the highest of its watermark and its channels' snapshots.
pub(super) fn begin_now(hub: &Hub, parts: &mut [Part], readers: &mut [Reader]) -> Result<(), NotLive> {
    for (index, part) in parts.iter_mut().enumerate() {
        let mut begin = hub.watermark(part.partition);
        for reader in readers.iter().filter(|reader| reader.part() == index) {
            let live = reader.subscription.live().filter(|live| live.life == part.life).ok_or(NotLive)?;
            begin = begin.max(live.clock);
        }
        // The life was read before the positions: they are of it only if it is still the one.
        part.at = hub.cursor(part.partition, begin).ok_or(NotLive)?;
        if hub.life(part.partition).is_none_or(|now| now.number != part.life) {
            return Err(NotLive);
        }
        part.joining = false;
        for reader in readers.iter_mut().filter(|reader| reader.part() == index) {
            // One from before the beginning is nobody's.
            reader.subscription.new_hole();
            reader.begin(begin, begin);
        }
    }
    Ok(())
}

/// `retry:` and the priming `id:` (inside the greeting, where there is one), then `sse.open`.
///
/// `sse.open` carries the cursor too, and that of a client that comes back is its own: there are clients that take an `id:`
/// from events alone, and some that forget theirs with each event that has none.
pub(super) fn of(
    settings: &ConnectionSettings,
    request: &Request,
    priming: Option<String>,
    rng: &mut fastrand::Rng,
) -> Opening {
    let mut out = Vec::with_capacity(320);
    if let Some(greeting) = request.greeting {
        out.extend_from_slice(format!("event: {}\n", greeting.event).as_bytes());
        encode::data(&mut out, greeting.data);
    }
    encode::retry(&mut out, jittered_retry(settings.retry, rng));
    if let Some(id) = &priming {
        encode::id(&mut out, id);
    }
    encode::end(&mut out);
    let number = rng.u64(..);
    let open = serde_json::json!({ "connection": pass::name(number), "node": settings.node });
    out.extend_from_slice(b"event: sse.open\n");
    encode::data(&mut out, &open.to_string());
    if let Some(id) = priming.or_else(|| request.resume.cursor()) {
        encode::id(&mut out, &id);
    }
    encode::end(&mut out);
    Opening { number, bytes: out.into(), asked: None }
}

/// 80-120 % of `retry`, so that clients cut off together do not come back together.
#[must_use]
pub fn jittered_retry(retry: Duration, rng: &mut fastrand::Rng) -> Duration {
    retry.mul_f64(0.8 + 0.4 * rng.f64())
}
