//! One open event stream, as a state machine with one question: what bytes are next?
//!
//! It reads the hub's logs and tells the time by what it is given; it knows no socket and no broker. A lane asks
//! [`Connection::next`] again whenever the [`Wakeup`] fires, the time it named has come, or its socket took what it got.
//! Everything pending goes out in one answer, so a connection that falls behind is served in fewer, larger writes.

mod close;
mod guard;
mod keep_alive;
mod merge;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::cursor::{Cursor, CursorPart};
use shared::event_stream::encode;
use shared::position::Position;
use tokio::time::Instant;

pub use self::close::CloseReason;
pub use self::guard::{Gate, Guard, Place};
use self::keep_alive::KeepAlive;
pub use self::keep_alive::KeepAliveSettings;
use self::merge::{Batch, Reader};
use crate::broker::Partition;
use crate::hub::encoded::Format;
use crate::hub::{Hub, Subscription, Wakeup};

/// A write grows up to this; one event more may pass it.
const MAX_WRITE: usize = 64 << 10;

/// What all connections of a node have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Name of this node, in `sse.open`.
    pub node: String,
    /// Reconnection time; each connection gets 80-120 % of it.
    pub retry: Duration,
    /// What idle connections say.
    pub keep_alive: KeepAliveSettings,
}

/// What a client asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// How events are written.
    pub format: Format,
    /// An event that comes before all others, with the priming `id`.
    pub greeting: Option<Greeting>,
}

/// See [`Request::greeting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// Its name.
    pub event: &'static str,
    /// Its data.
    pub data: &'static str,
}

/// What the lane is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write this, then ask again.
    Write(Bytes),
    /// Nothing to say before this time, unless woken.
    Wait(Instant),
    /// End the stream.
    End,
}

/// The state machine. Dropping it detaches it from its channels and uncounts it.
pub struct Connection {
    hub: Arc<Hub>,
    settings: Arc<ConnectionSettings>,
    wakeup: Arc<Wakeup>,
    readers: Vec<Reader>,
    /// For each partition of its channels, by number: everything up to here was written, or lies before the beginning.
    cursor: Vec<CursorPart>,
    /// For each part of `cursor`, the life of the data to which it belongs.
    lives: Vec<u64>,
    format: Format,
    keep_alive: KeepAlive,
    rng: fastrand::Rng,
    guard: Guard,
    /// What comes before any event; `None` once it was written.
    opening: Option<Bytes>,
    /// Nothing is left to write.
    ended: bool,
}

/// The subscriptions are not live yet, or their partitions have no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not every channel is live")]
pub struct NotLive;

impl Connection {
    /// A fresh connection on `subscriptions`, all of them live, which begins at what its node has certainly heard. It counts
    /// as opened once `guard` was asked for.
    ///
    /// # Errors
    /// [`NotLive`]; ask again when the wakeup fired.
    pub fn open(
        hub: &Arc<Hub>,
        settings: &Arc<ConnectionSettings>,
        wakeup: &Arc<Wakeup>,
        subscriptions: Vec<Subscription>,
        request: &Request,
        guard: impl FnOnce() -> Guard,
        mut rng: fastrand::Rng,
    ) -> Result<Self, NotLive> {
        let (cursor, lives) = beginning(hub, &subscriptions)?;
        let now = Instant::now();
        let opening = opening(settings, request, &cursor, &mut rng);
        Ok(Self {
            hub: hub.clone(),
            settings: settings.clone(),
            wakeup: wakeup.clone(),
            readers: subscriptions.into_iter().map(|subscription| Reader { subscription, ended: false }).collect(),
            keep_alive: KeepAlive::new(now, &settings.keep_alive, &mut rng),
            opening: Some(opening),
            ended: false,
            format: request.format,
            cursor,
            lives,
            rng,
            guard: guard(),
        })
    }

    /// How the hub wakes this connection. Register with it before asking [`next`](Self::next).
    #[must_use]
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Notes why the connection is going to be dropped.
    pub fn set_reason(&mut self, reason: CloseReason) {
        self.guard.set_reason(reason);
    }

    /// What the lane is to do at `now`.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(bytes) = self.opening.take() {
            return Next::Write(bytes);
        }
        if self.ended {
            return Next::End;
        }
        let closing = self.wakeup.is_closing();
        self.follow_life();
        // Watermarks first, then the logs: the other way round an event could hide between the two.
        let watermarks = merge::watermarks(&self.hub, self.cursor.iter().map(number));
        loop {
            let Ok(batch) = merge::ready(&self.readers, &watermarks) else {
                return self.end(CloseReason::Slow, Bytes::new());
            };
            let (bytes, complete) = self.write(&batch);
            if closing && complete {
                return self.end(CloseReason::Drain, bytes);
            }
            if !bytes.is_empty() {
                self.keep_alive.put_off(now, &self.settings.keep_alive, &mut self.rng);
                return Next::Write(bytes);
            }
            if complete {
                break;
            }
            // Everything in this batch lay before the beginning, and there is more.
        }
        if self.readers.iter().all(|reader| reader.ended) {
            return self.end(CloseReason::Ended, Bytes::new());
        }
        if now < self.keep_alive.due() {
            return Next::Wait(self.keep_alive.due());
        }
        self.keep_alive.put_off(now, &self.settings.keep_alive, &mut self.rng);
        let moved = self.move_cursor(&watermarks).then(|| render(&self.cursor));
        Next::Write(self.settings.keep_alive.block(moved.as_deref()).into())
    }

    /// Takes what fits into one write. Returns it, and whether that was all there is.
    fn write(&mut self, batch: &Batch) -> (Bytes, bool) {
        let mut out = Write::default();
        let mut taken = 0;
        let mut delivered = 0;
        let mut oldest = None;
        for ready in &batch.events {
            if out.len() >= MAX_WRITE {
                break;
            }
            taken += 1;
            let reader = &mut self.readers[ready.reader];
            reader.subscription.advance(1);
            let event = &ready.event;
            if let Some(at) = event.cursor() {
                let Some(part) = self.cursor.iter_mut().find(|part| number(part) == number(&at)) else { continue };
                if at.tag == part.tag && at.position <= part.position {
                    continue;
                }
                *part = at;
                reader.ended = event.ends();
                oldest.get_or_insert(at.position);
            }
            delivered += 1;
            if event.cursor().is_some() && self.cursor.len() > 1 {
                out.push_with_id(event.fields(self.format), &render(&self.cursor));
            } else {
                out.push(event.block(self.format));
            }
        }
        self.guard.metrics().delivered(delivered, oldest);
        (out.finish(), taken == batch.events.len() && !batch.more)
    }

    /// The data have begun another life: positions of the one before mean nothing in it.
    fn follow_life(&mut self) {
        for (part, life) in self.cursor.iter_mut().zip(&mut self.lives) {
            match self.hub.life(number(part)) {
                Some(now) if now.number != *life => (*part, *life) = (now.begin, now.number),
                _ => {}
            }
        }
    }

    /// Raises the cursor to `watermarks`, up to which nothing is left to write. Returns whether it moved.
    fn move_cursor(&mut self, watermarks: &[(Partition, Position)]) -> bool {
        let mut moved = false;
        for ((part, life), (partition, watermark)) in self.cursor.iter_mut().zip(&self.lives).zip(watermarks) {
            // A life that began since is followed the next time.
            let same = self.hub.life(*partition).is_some_and(|now| now.number == *life);
            if same && *watermark > part.position {
                part.position = *watermark;
                moved = true;
            }
        }
        moved
    }

    /// Writes `last`, says when to come back, where the client is to come back, and ends.
    fn end(&mut self, reason: CloseReason, last: Bytes) -> Next {
        self.guard.set_reason(reason);
        self.ended = true;
        if reason == CloseReason::Ended {
            return Next::End;
        }
        let mut bytes = Vec::from(last);
        encode::retry(&mut bytes, jittered_retry(self.settings.retry, &mut self.rng));
        encode::end(&mut bytes);
        Next::Write(bytes.into())
    }
}

/// One write: the shared bytes of a single event as they are, or several in one piece.
#[derive(Default)]
struct Write {
    first: Option<Bytes>,
    rest: Vec<u8>,
}

impl Write {
    fn len(&self) -> usize {
        self.first.as_ref().map_or(0, Bytes::len) + self.rest.len()
    }

    fn push(&mut self, block: &Bytes) {
        match &self.first {
            None if self.rest.is_empty() => self.first = Some(block.clone()),
            _ => self.own(block.len()).extend_from_slice(block),
        }
    }

    fn push_with_id(&mut self, fields: &[u8], id: &str) {
        let out = self.own(fields.len() + id.len() + 8);
        out.extend_from_slice(fields);
        encode::id(out, id);
        encode::end(out);
    }

    fn own(&mut self, more: usize) -> &mut Vec<u8> {
        if let Some(first) = self.first.take() {
            self.rest.reserve(first.len() + more);
            self.rest.extend_from_slice(&first);
        }
        &mut self.rest
    }

    fn finish(self) -> Bytes {
        self.first.unwrap_or_else(|| self.rest.into())
    }
}

/// Where a fresh connection begins: for each partition the highest of its watermark and its channels' snapshots. With it, the
/// lives of the data.
fn beginning(hub: &Hub, subscriptions: &[Subscription]) -> Result<(Vec<CursorPart>, Vec<u64>), NotLive> {
    let mut begin: std::collections::BTreeMap<Partition, (Position, u64)> = std::collections::BTreeMap::new();
    for subscription in subscriptions {
        let partition = subscription.partition();
        // Before the position is read: one of an older life must not get this one's tag.
        let life = hub.life(partition).ok_or(NotLive)?.number;
        let clock = subscription.snapshot().ok_or(NotLive)?.clock;
        let (position, _) = begin.entry(partition).or_insert_with(|| (hub.watermark(partition), life));
        *position = clock.max(*position);
    }
    let mut parts = (Vec::with_capacity(begin.len()), Vec::with_capacity(begin.len()));
    for (partition, (position, life)) in begin {
        parts.0.push(hub.cursor(partition, position).ok_or(NotLive)?);
        parts.1.push(life);
        if hub.life(partition).is_none_or(|now| now.number != life) {
            return Err(NotLive);
        }
    }
    Ok(parts)
}

/// `retry:` and the priming `id:` (inside the greeting, where there is one), then `sse.open`.
fn opening(settings: &ConnectionSettings, request: &Request, cursor: &[CursorPart], rng: &mut fastrand::Rng) -> Bytes {
    let mut out = Vec::with_capacity(256);
    if let Some(greeting) = request.greeting {
        out.extend_from_slice(format!("event: {}\n", greeting.event).as_bytes());
        encode::data(&mut out, greeting.data);
    }
    encode::retry(&mut out, jittered_retry(settings.retry, rng));
    encode::id(&mut out, &render(cursor));
    encode::end(&mut out);
    let open = serde_json::json!({ "connection": format!("{:016x}", rng.u64(..)), "node": settings.node });
    out.extend_from_slice(b"event: sse.open\n");
    encode::data(&mut out, &open.to_string());
    encode::end(&mut out);
    out.into()
}

/// 80-120 % of `retry`, so that clients cut off together do not come back together.
#[must_use]
pub fn jittered_retry(retry: Duration, rng: &mut fastrand::Rng) -> Duration {
    retry.mul_f64(0.8 + 0.4 * rng.f64())
}

fn render(cursor: &[CursorPart]) -> String {
    Cursor::new(cursor.to_vec()).map(|cursor| cursor.to_string()).unwrap_or_default()
}

fn number(part: &CursorPart) -> Partition {
    part.partition.unwrap_or(0)
}

#[cfg(test)]
mod tests;
