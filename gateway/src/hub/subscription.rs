//! One connection on one channel: a place in the channel's log, given back on drop.

use std::sync::Arc;
use std::task::Poll;

use shared::channel::Channel;
use shared::position::Position;
use tokio::time::Instant;

use super::channel::{Hole, Live, LocalChannel, State};
use super::encoded::Encoded;
use super::replay::{Asked, Replay, Ticket};
use super::wakeup::Wakeup;
use super::{Closed, Hub};
use crate::broker::{Last, Partition};

/// Made by [`Hub::attach`]; dropping it detaches.
pub struct Subscription {
    hub: Arc<Hub>,
    local: Arc<LocalChannel>,
    wakeup: Arc<Wakeup>,
    /// Key in the channel's listeners.
    key: usize,
    /// Index in the log of the next ephemeral event to take.
    next: u64,
    /// Number of the last hole that the connection knows of.
    hole: u32,
    /// Version of the channel as of which the connection has everything; any other: it has to look.
    read: u32,
}

/// Events that this subscription has not taken have left the log: the connection is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unread events have left the channel log")]
pub struct Lagged;

/// What [`Subscription::peek`] is to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Durable events after it; `None`: none at all.
    pub after: Option<Position>,
    /// Nothing beyond it.
    pub watermark: Position,
    /// The life of the data that the connection is in.
    pub life: u64,
    /// Most events of each kind.
    pub limit: usize,
}

/// What [`Subscription::peek`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peek {
    /// The channel is live in the connection's life of the data, and has no hole that the connection does not know of.
    pub live: bool,
    /// There are more durable events than were asked for.
    pub more_durable: bool,
    /// There are more ephemeral ones.
    pub more_ephemeral: bool,
}

/// How [`Subscription::follow`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The connection has everything, and [`Subscription::is_unchanged`] says so until there is more.
    Done,
    /// There may be more, now or once the watermark has risen.
    More,
    /// The channel is not live in the connection's life of the data, or has a hole that it does not know of.
    Off,
}

impl Subscription {
    pub(super) fn new(
        hub: Arc<Hub>,
        local: Arc<LocalChannel>,
        wakeup: Arc<Wakeup>,
        key: usize,
        next: u64,
        hole: u32,
    ) -> Self {
        let read = local.version().wrapping_sub(1);
        Self { hub, local, wakeup, key, next, hole, read }
    }

    /// Its channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.local.channel
    }

    /// Its channel's partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.local.partition
    }

    /// Its connection is to end: the channel's connections were told to.
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.local.is_dismissed()
    }

    /// Since when its channel is live; `None` while it is not.
    #[must_use]
    pub fn live(&self) -> Option<Live> {
        self.local.lock().live
    }

    /// The channel's last durable event, as far as this node has heard.
    #[must_use]
    pub fn last(&self) -> Option<Last> {
        self.local.lock().last
    }

    /// Whether the log has every durable event after `position`.
    #[must_use]
    pub fn reaches(&self, position: Position) -> bool {
        self.local.lock().log.floor() <= position
    }

    /// The latest hole, unless the connection knows of it. From now on it does.
    pub fn new_hole(&mut self) -> Option<Hole> {
        let hole = self.local.lock().hole();
        (std::mem::replace(&mut self.hole, hole.number) != hole.number).then_some(hole)
    }

    /// The channel's past from `after` on, in `life`, as it joins the log; `ticket` is what was told before.
    #[must_use]
    pub fn past(&self, after: Position, life: u64, ticket: Option<Ticket>) -> Asked {
        self.ask(after, life, ticket, false)
    }

    /// Has the broker confirm that the data are in `life`: ready when it did.
    #[must_use]
    pub fn confirm(&self, clock: Position, life: u64, ticket: Option<Ticket>) -> Asked {
        self.ask(clock, life, ticket, true)
    }

    /// Where the last `count` events of the channel begin, `replay` being its past: some may be in the log alone.
    #[must_use]
    pub fn newest(&self, replay: &Replay, count: usize) -> Position {
        let state = self.local.lock();
        let later = state.log.after(replay.clock).into_iter().flatten();
        let later: Vec<Position> = later.map(|event| event.order().position).collect();
        match later.len().checked_sub(count) {
            None => replay.newest(count - later.len()),
            Some(0) => replay.clock,
            Some(before) => later[before - 1],
        }
    }

    fn ask(&self, after: Position, life: u64, ticket: Option<Ticket>, fresh: bool) -> Asked {
        let mut state = self.local.lock();
        let floor = state.log.floor();
        let replays = state.replays.get_or_insert_default();
        let (asked, queue) = replays.ask(after, floor, life, ticket, fresh, Instant::now());
        if queue {
            // The worker is gone only when this node stops.
            let _ = self.hub.replays.send(self.local.clone());
        }
        asked
    }

    /// Appends what is not taken yet and may be written, in order, to `durable` and `ephemeral`, the latter with what
    /// [`take`](Self::take) wants.
    ///
    /// # Errors
    /// [`Lagged`].
    pub fn peek(
        &self,
        look: Look,
        durable: &mut Vec<Arc<Encoded>>,
        ephemeral: &mut Vec<(u64, Arc<Encoded>)>,
    ) -> Result<Peek, Lagged> {
        let state = self.local.lock();
        let within = |event: &Arc<Encoded>| event.order().position <= look.watermark;
        let live = self.is_live(&state, look.life);
        let mut peek = Peek { live, ..Peek::default() };
        if let (true, Some(after)) = (peek.live, look.after) {
            let mut ready = state.log.after(after).ok_or(Lagged)?.take_while(|event| within(event));
            durable.extend(ready.by_ref().take(look.limit).cloned());
            peek.more_durable = ready.next().is_some();
        }
        let unread = state.log.from(self.next).ok_or(Lagged)?;
        let mut ready = unread.take_while(|(_, event)| within(event));
        ephemeral.extend(ready.by_ref().take(look.limit).map(|(index, event)| (index, event.clone())));
        peek.more_ephemeral = ready.next().is_some();
        Ok(peek)
    }

    /// Whether the channel is not dismissed, and nothing has changed since [`is_read`](Self::is_read) or [`follow`](Self::follow) found that the connection has
    /// everything. It takes no lock.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.local.version() == self.read && !self.local.is_dismissed()
    }

    /// Whether the channel is live in `life`, has no hole that the connection does not know of, and nothing after `at` that
    /// the connection has not taken, whatever the watermark.
    pub fn is_read(&mut self, at: Position, life: u64) -> bool {
        if self.is_unchanged() {
            return true;
        }
        let state = self.local.lock();
        let is_read = self.is_live(&state, life) && state.log.is_read(at, self.next);
        if is_read {
            self.read = self.local.version();
        }
        is_read
    }

    /// Hands what is not taken yet and may be written to `each`, in order, until that has no room for more. Ephemeral events
    /// are taken by that. It is under the channel's lock: `each` has to be short.
    ///
    /// # Errors
    /// [`Lagged`].
    pub fn follow(&mut self, look: Look, mut each: impl FnMut(&Encoded) -> bool) -> Result<Follow, Lagged> {
        let state = self.local.lock();
        let (true, Some(mut at)) = (self.is_live(&state, look.life), look.after) else { return Ok(Follow::Off) };
        let within = |event: &Encoded| event.order().position <= look.watermark;
        let mut durable = state.log.after(at).ok_or(Lagged)?.take_while(|event| within(event)).peekable();
        let mut ephemeral = state.log.from(self.next).ok_or(Lagged)?.take_while(|(_, event)| within(event)).peekable();
        for _ in 0..look.limit {
            let first_durable = durable.peek().map(|event| event.order());
            let first_ephemeral = ephemeral.peek().map(|(_, event)| event.order());
            let is_durable = match (first_durable, first_ephemeral) {
                (None, None) => break,
                (Some(durable), Some(ephemeral)) => durable <= ephemeral,
                (durable, None | Some(_)) => durable.is_some(),
            };
            if is_durable && let Some(event) = durable.next_if(|event| each(event)) {
                at = event.order().position;
            } else if !is_durable && let Some((index, _)) = ephemeral.next_if(|(_, event)| each(event)) {
                self.next = index + 1;
            } else {
                return Ok(Follow::More);
            }
        }
        if !state.log.is_read(at, self.next) {
            return Ok(Follow::More);
        }
        self.read = self.local.version();
        Ok(Follow::Done)
    }

    fn is_live(&self, state: &State, life: u64) -> bool {
        state.live.is_some_and(|live| live.life == life) && state.hole().number == self.hole
    }

    /// Takes the ephemeral event at `index` and those before it.
    pub fn take(&mut self, index: u64) {
        self.next = index + 1;
    }
}

/// Waits until all of `subscriptions` are live. It has no deadline of its own.
///
/// # Errors
/// [`Closed`]: the node stopped first, or a channel was dismissed.
pub async fn all_live(subscriptions: &[Subscription], wakeup: &Wakeup) -> Result<(), Closed> {
    std::future::poll_fn(|cx| {
        wakeup.register(cx.waker());
        if wakeup.closing().is_some() || subscriptions.iter().any(Subscription::is_dismissed) {
            return Poll::Ready(Err(Closed));
        }
        let live = subscriptions.iter().all(|subscription| subscription.live().is_some());
        if live { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.detach(&self.local, &self.wakeup, self.key);
    }
}
