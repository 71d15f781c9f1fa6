//! One open event stream, as a state machine with one question: what bytes are next?
//!
//! It reads the hub's logs and tells the time by what it is given; it knows no socket and no broker. A lane asks
//! [`Connection::next`] again whenever the [`Wakeup`] fires, the time it named has come, or its socket took what it got.
//! Everything pending goes out in one answer, so a connection that falls behind is served in fewer, larger writes.
//!
//! Where it stands is a position for each partition (`join`); what can be written beyond that is a question to replay and
//! log (`merge`). Nothing is kept of what was written.

mod addresses;
mod close;
mod follow;
mod guard;
mod join;
mod keep_alive;
mod leave;
mod merge;
mod opening;
mod pass;
mod passes;
mod pieces;
mod resume;
mod settle;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::cursor::{Cursor, CursorPart};
use shared::event_stream::encode;
use smallvec::SmallVec;
use tokio::time::Instant;

pub use self::addresses::{AddressFull, AddressPlace, Addresses};
pub use self::close::CloseReason;
pub use self::guard::{Gate, Guard, Place};
use self::join::{Part, Reader, Said};
use self::keep_alive::KeepAlive;
pub use self::keep_alive::KeepAliveSettings;
use self::leave::Leave;
use self::merge::{Batch, Source};
use self::opening::Opening;
pub use self::opening::{Greeting, jittered_retry};
use self::pass::Pass;
pub use self::pass::{Credential, number};
pub use self::passes::{Passes, Renewed, Terms};
pub use self::pieces::Pieces;
pub use self::resume::{Resume, is_over};
use self::settle::JOIN_DEADLINE;
use self::write::Write;
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
    /// How long a connection may live; each is given 80-100 % of it. `None`: as long as it likes.
    pub max_lifetime: Option<Duration>,
}

/// What a client asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// How events are written.
    pub format: Format,
    /// An event that comes before all others, with the priming `id`.
    pub greeting: Option<Greeting>,
    /// Where it begins.
    pub resume: Resume,
}

/// What the lane is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write this, then ask again.
    Write(Pieces),
    /// Nothing to say before this time, unless woken.
    Wait(Instant),
    /// End the stream.
    End,
}

/// One partition is the rule, and so is one channel.
type Parts = SmallVec<[Part; 1]>;
type Readers = SmallVec<[Reader; 1]>;

/// The state machine. Dropping it detaches it from its channels and uncounts it.
pub struct Connection {
    hub: Arc<Hub>,
    settings: Arc<ConnectionSettings>,
    wakeup: Arc<Wakeup>,
    readers: Readers,
    /// The partitions of its channels, by number.
    parts: Parts,
    format: Format,
    keep_alive: KeepAlive,
    leave: Leave,
    /// Since when it has not been joined to all its channels while the broker was there.
    joining_since: Option<Instant>,
    rng: fastrand::Rng,
    guard: Guard,
    /// Of one that was opened with a token.
    pass: Option<Box<Pass>>,
    /// What comes before any event; `None` once it was written.
    opening: Option<Box<Opening>>,
    /// It has come to all its channels, and had everything when it looked properly: see [`follow`].
    follows: bool,
    /// Nothing is left to write.
    ended: bool,
}

/// The subscriptions are not live yet, or their partitions have no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not every channel is live")]
pub struct NotLive;

impl Connection {
    /// A connection on `subscriptions`, all of them live, which begins where the request says. It counts as opened once
    /// `guard` was asked for.
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
        let (mut parts, mut readers) = opening::attach(hub, subscriptions, &request.resume)?;
        let fresh = request.resume == Resume::Now;
        if fresh {
            opening::begin_now(hub, &mut parts, &mut readers)?;
        }
        let now = Instant::now();
        let opening = opening::of(settings, request, fresh.then(|| render(&parts)), &mut rng);
        Ok(Self {
            hub: hub.clone(),
            settings: settings.clone(),
            wakeup: wakeup.clone(),
            readers,
            parts,
            keep_alive: KeepAlive::new(now, &settings.keep_alive, &mut rng),
            leave: Leave::new(now, settings.max_lifetime, &mut rng),
            joining_since: None,
            opening: Some(Box::new(opening)),
            follows: false,
            ended: false,
            format: request.format,
            rng,
            guard: guard(),
            pass: None,
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
        let next = self.decide(now);
        if let Next::Write(pieces) = &next {
            self.guard.metrics().wrote(pieces.len());
        }
        next
    }

    fn decide(&mut self, now: Instant) -> Next {
        if let Some(opening) = self.opening.take() {
            return self.begin(*opening, now);
        }
        if self.ended {
            return Next::End;
        }
        if let Some(next) = self.look_at_pass(now) {
            return next;
        }
        let leaving = self.leave.is_due(now, self.wakeup.closing(), &mut self.rng);
        if self.follows
            && leaving.is_none()
            && now < self.keep_alive.due()
            && let Some(next) = self.follow(now)
        {
            return next;
        }
        self.follows = false;
        if self.readers.iter().any(|reader| reader.subscription.is_dismissed()) {
            return self.end(CloseReason::Disconnected, Pieces::default());
        }
        let said = join::advance(&self.hub, &mut self.parts, &mut self.readers, now);
        if !said.is_empty() {
            return self.say(now, said);
        }
        if self.is_stuck(now) {
            return self.end(CloseReason::Join, Pieces::default());
        }
        self.look();
        loop {
            let Ok(batch) = merge::ready(&self.readers, &mut self.parts) else {
                return self.end(CloseReason::Slow, Pieces::default());
            };
            let (bytes, complete) = self.write(&batch);
            if let Some(reason) = leaving.filter(|_| complete || self.leave.is_late(now)) {
                return self.end(reason, bytes);
            }
            if !bytes.is_empty() {
                self.put_off(now);
                return Next::Write(bytes);
            }
            if complete {
                break;
            }
            // Everything in this batch was told before, and there is more.
        }
        if self.settle(now) {
            self.put_off(now);
            return Next::Write(self.id_block().into());
        }
        if self.readers.iter().all(|reader| reader.ended) && self.parts.iter().all(Part::is_settled) {
            return self.end(CloseReason::Ended, Pieces::default());
        }
        if now < self.keep_alive.due() {
            self.follows = self.comes_to_rest();
            if self.follows {
                self.joining_since = None;
            }
            return Next::Wait(self.wait_until(now));
        }
        self.put_off(now);
        let moved = self.move_cursor().then(|| render(&self.parts));
        Next::Write(self.settings.keep_alive.block(moved.as_deref()).into())
    }

    /// Gaps, and the cursor after them.
    fn say(&mut self, now: Instant, said: Vec<Said>) -> Next {
        let mut out = Vec::with_capacity(128 * said.len());
        for said in said {
            match said {
                Said::Gap { channel, gap, end } => {
                    self.guard.metrics().gap(gap);
                    write::gap(&mut out, &channel, gap, end);
                }
                Said::Cursor => out.extend_from_slice(&self.id_block()),
            }
        }
        self.put_off(now);
        Next::Write(out.into())
    }

    /// Watermarks first, then the logs: the other way round an event could hide between the two.
    fn look(&mut self) {
        for part in &mut self.parts {
            part.watermark = self.hub.watermark(part.partition);
            part.held = part.whole.is_some();
        }
    }

    /// Takes what fits into one write. Returns it, and whether that was all there is.
    fn write(&mut self, batch: &Batch) -> (Pieces, bool) {
        let mut out = Write::default();
        let (mut taken, mut delivered, mut oldest) = (0, 0, None);
        for ready in &batch.events {
            if out.is_full() {
                break;
            }
            taken += 1;
            let (reader, event) = (&mut self.readers[ready.reader], &ready.event);
            if let Source::Ephemeral(index) = ready.source {
                reader.subscription.take(index);
            } else if let Some(at) = event.cursor() {
                let part = &mut self.parts[reader.part()];
                if at.position <= reader.told(part.at.position) {
                    continue;
                }
                part.at = at;
                reader.ended = event.ends();
                if ready.source == Source::Log {
                    oldest.get_or_insert(at.position);
                }
            }
            delivered += 1;
            if event.cursor().is_some() && self.parts.len() > 1 {
                out.push_with_id(event.fields(self.format), &render(&self.parts));
            } else {
                out.push(event.block(self.format).clone());
            }
        }
        for reader in &mut self.readers {
            reader.follows(self.parts[reader.part()].at.position);
        }
        self.guard.metrics().delivered(delivered, oldest);
        (out.finish(), taken == batch.events.len() && !batch.more)
    }

    fn wait_until(&self, now: Instant) -> Instant {
        let join = self.joining_since.map(|since| since + JOIN_DEADLINE);
        let pass = self.pass.as_ref().map(|pass| pass.due());
        let times = [self.leave.due(), pass, join, join::retry_at(&self.parts, &self.readers, now)];
        times.into_iter().flatten().fold(self.keep_alive.due(), Instant::min)
    }

    fn put_off(&mut self, now: Instant) {
        self.keep_alive.put_off(now, &self.settings.keep_alive, &mut self.rng);
    }

    fn id_block(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        encode::id(&mut out, &render(&self.parts));
        encode::end(&mut out);
        out.into()
    }

    /// Writes `last`, says when to come back, where the client is to come back, and ends.
    fn end(&mut self, reason: CloseReason, mut last: Pieces) -> Next {
        self.guard.set_reason(reason);
        self.ended = true;
        if reason == CloseReason::Ended {
            return Next::End;
        }
        let mut bytes = Vec::with_capacity(16);
        encode::retry(&mut bytes, jittered_retry(self.settings.retry, &mut self.rng));
        encode::end(&mut bytes);
        last.push(bytes.into());
        Next::Write(last)
    }
}

/// The cursor of those parts of which there is one.
fn render(parts: &[Part]) -> String {
    let known: Vec<CursorPart> = parts.iter().filter(|part| part.is_known()).map(|part| part.at).collect();
    Cursor::new(known).map(|cursor| cursor.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
