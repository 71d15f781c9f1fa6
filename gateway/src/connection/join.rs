//! How a connection comes to where it only has to follow the logs: for each channel it is decided what of its past is
//! replayed, or which gap there is. No third outcome, and nothing durable is written of a partition before all its channels
//! are decided. Pure but for the hub: what has to be read is asked for, and comes later.

use std::sync::Arc;
use std::time::Duration;

use shared::channel::Channel;
use shared::continuity::Gap;
use shared::cursor::CursorPart;
use shared::position::Position;
use tokio::time::Instant;

use super::resume::Resume;
use crate::broker::Partition;
use crate::hub::{Asked, Hub, Life, Replay, Subscription, Ticket};

/// How long to wait until a read that failed is asked for again: the session is likely to be gone.
const RETRY: Duration = Duration::from_secs(1);

/// One partition of a connection.
pub(super) struct Part {
    pub(super) partition: Partition,
    /// Everything up to here was written, lies before the beginning, or in a gap that was told; while `whole` is to be told,
    /// what the client sent.
    pub(super) at: CursorPart,
    /// The life of the data to which `at` belongs.
    pub(super) life: u64,
    /// A gap on all its channels, not told yet.
    pub(super) whole: Option<Box<Whole>>,
    /// Channels were joined since the last `id:` that covers all of that.
    pub(super) joining: bool,
    /// Read before anything else in each look.
    pub(super) watermark: Position,
    /// For this look: not every channel is live and joined.
    pub(super) held: bool,
    /// The position for which the hub wakes this connection; [`Position::ZERO`]: for none.
    pub(super) awaits: Position,
}

/// A gap of a whole partition. Its end is where all channels are live.
pub(super) struct Whole {
    gap: Gap,
    /// Who says so.
    proof: Proof,
}

impl Whole {
    fn told() -> Box<Self> {
        Box::new(Self { gap: Gap::DataLost, proof: Proof::Told })
    }
}

enum Proof {
    /// The broker.
    Told,
    /// The client's cursor is of another epoch than this node knows. Believed once the broker has confirmed the node's.
    Unconfirmed(Asking),
    /// No cursor at all: `at` stands for nothing.
    Nothing,
}

/// One channel of a connection.
pub(super) struct Reader {
    pub(super) subscription: Subscription,
    /// What there is of its past; `None`: nothing any more, it follows the log from the cursor on.
    state: Option<Box<State>>,
    /// Index of its part; there are no more of those than partitions.
    part: Partition,
    /// The channel's last event that was written, or lies before the beginning, has closed it.
    pub(super) ended: bool,
}

enum State {
    Open(Wanted),
    Joined(Joined),
}

/// What is still to be decided.
struct Wanted {
    from: Origin,
    asking: Asking,
}

/// A read that is asked for until it is there.
#[derive(Default)]
struct Asking {
    /// Of the read that was asked for.
    ticket: Option<Ticket>,
    /// The last one failed: not before this time.
    retry: Option<Instant>,
}

impl Asking {
    fn ask(&mut self, now: Instant, ask: impl FnOnce(Option<Ticket>) -> Asked) -> Option<Arc<Replay>> {
        if self.retry.is_some_and(|retry| now < retry) {
            return None;
        }
        self.retry = None;
        match ask(self.ticket) {
            Asked::Ready(replay) => return Some(replay),
            Asked::Wait(ticket) => self.ticket = Some(ticket),
            Asked::Failed => (self.ticket, self.retry) = (None, Some(now + RETRY)),
        }
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Cursor,
    Earliest,
    Newest(usize),
}

/// What was decided.
struct Joined {
    /// Whatever comes later comes through the log.
    through: Position,
    /// What is older, until all of it was written.
    replay: Option<Arc<Replay>>,
    /// Nothing of the replay up to here is written.
    start: Position,
}

/// What a round of joining found to say.
pub(super) enum Said {
    /// A gap on a channel, which is complete again after a position.
    Gap { channel: Channel, gap: Gap, end: CursorPart },
    /// The cursor as it is now.
    Cursor,
}

impl Part {
    /// The part of a connection that wants to `resume`; `None` before the partition's first session.
    pub(super) fn new(hub: &Hub, partition: Partition, resume: &Resume) -> Option<Self> {
        let Life { number, begin } = hub.life(partition)?;
        let (at, whole) = match (resume, resume.part(hub, partition)) {
            (_, Some(part)) if part.tag == begin.tag => (part, None),
            (_, Some(part)) => (part, Some((Gap::DataLost, Proof::Unconfirmed(Asking::default())))),
            (Resume::After(_) | Resume::Unknown, None) => (begin, Some((Gap::UnknownCursor, Proof::Nothing))),
            (_, None) => (CursorPart { position: Position::ZERO, ..begin }, None),
        };
        let whole = whole.map(|(gap, proof)| Box::new(Whole { gap, proof }));
        let (watermark, awaits) = (Position::ZERO, Position::ZERO);
        Some(Self { partition, at, life: number, whole, joining: true, watermark, held: true, awaits })
    }

    /// Whether there is nothing left to tell of its beginning.
    pub(super) fn is_settled(&self) -> bool {
        !self.joining && self.whole.is_none()
    }

    /// Nothing is left to write up to the watermark. Returns whether the cursor moved.
    pub(super) fn raise_to_watermark(&mut self) -> bool {
        let moved = self.watermark > self.at.position;
        self.at.position = self.at.position.max(self.watermark);
        moved
    }

    /// Whether `at` says something to a client.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.whole.as_deref(), Some(Whole { proof: Proof::Nothing, .. }))
    }
}

impl Reader {
    pub(super) fn new(subscription: Subscription, part: Partition, resume: &Resume) -> Self {
        let from = match resume {
            Resume::Earliest => Origin::Earliest,
            Resume::Newest(count) => Origin::Newest(*count),
            Resume::Now | Resume::After(_) | Resume::Unknown => Origin::Cursor,
        };
        let state = Some(Box::new(State::Open(Wanted { from, asking: Asking::default() })));
        Self { subscription, state, part, ended: false }
    }

    /// Index of its part.
    pub(super) fn part(&self) -> usize {
        usize::from(self.part)
    }

    /// Begins at `start`, up to which everything is told, the cursor being at `position`.
    pub(super) fn begin(&mut self, start: Position, position: Position) {
        self.ended = self.subscription.last().is_some_and(|last| last.ended && last.position <= start);
        let joined = || Box::new(State::Joined(Joined { through: start, replay: None, start }));
        self.state = (start > position).then(joined);
    }

    /// Whether it is decided what of its past there is to replay.
    pub(super) fn is_joined(&self) -> bool {
        !matches!(self.state.as_deref(), Some(State::Open(_)))
    }

    /// Whatever comes after it comes through the log, the cursor being at `position`; `None` before that is decided.
    pub(super) fn through(&self, position: Position) -> Option<Position> {
        match self.state.as_deref() {
            None => Some(position),
            Some(State::Joined(joined)) => Some(joined.through.max(position)),
            Some(State::Open(_)) => None,
        }
    }

    /// What is being replayed.
    pub(super) fn replay(&self) -> Option<&Replay> {
        match self.state.as_deref() {
            Some(State::Joined(joined)) => joined.replay.as_deref(),
            Some(State::Open(_)) | None => None,
        }
    }

    /// Up to where nothing of the replay is to be written, the cursor being at `position`.
    pub(super) fn told(&self, position: Position) -> Position {
        match self.state.as_deref() {
            Some(State::Joined(joined)) => joined.start.max(position),
            Some(State::Open(_)) | None => position,
        }
    }

    /// Everything up to `position`, which is the cursor's, was written. Returns whether nothing is left of its past.
    pub(super) fn follows(&mut self, position: Position) -> bool {
        let Some(state) = self.state.as_deref_mut() else { return true };
        let State::Joined(joined) = state else { return false };
        joined.replay.take_if(|replay| replay.after(position).is_empty());
        if joined.replay.is_none() && joined.through.max(joined.start) <= position {
            self.state = None;
        }
        self.state.is_none()
    }

    fn reopen(&mut self) {
        self.ended = false;
        self.state = Some(Box::new(State::Open(Wanted { from: Origin::Cursor, asking: Asking::default() })));
    }
}

/// Brings `parts` and `readers` on as far as that can be done now, and tells what there is to say, in order.
pub(super) fn advance(hub: &Hub, parts: &mut [Part], readers: &mut [Reader], now: Instant) -> Vec<Said> {
    let mut said = Vec::new();
    for (index, part) in parts.iter_mut().enumerate() {
        follow_life(hub, index, part, readers);
        if part.whole.is_none() {
            for reader in readers.iter_mut().filter(|reader| reader.part() == index) {
                notice_hole(hub, part, reader, &mut said);
                decide(hub, part, reader, now, &mut said);
            }
        }
        // The last may have found that all of it is lost.
        if part.whole.is_some() {
            tell_whole(hub, index, part, readers, now, &mut said);
        }
    }
    // It is one for all partitions, so it comes after the gaps of all of them.
    let count = said.len();
    said.retain(|said| !matches!(said, Said::Cursor));
    if said.len() < count {
        said.push(Said::Cursor);
    }
    said
}

/// The data may have begun another life: positions of the one before mean nothing in it.
fn follow_life(hub: &Hub, index: usize, part: &mut Part, readers: &mut [Reader]) {
    let Some(Life { number, begin }) = hub.life(part.partition) else { return };
    if let Some(Whole { proof: Proof::Unconfirmed(_), .. }) = part.whole.as_deref()
        && part.at.tag == begin.tag
    {
        // The client knew of it before this node did.
        (part.whole, part.life) = (None, number);
    }
    if part.life == number || part.whole.is_some() {
        return;
    }
    part.whole = Some(Whole::told());
    readers.iter_mut().filter(|reader| reader.part() == index).for_each(Reader::reopen);
}

/// Tells the gap of a whole partition once all its channels are live: then they begin at one position.
fn tell_whole(hub: &Hub, index: usize, part: &mut Part, readers: &mut [Reader], now: Instant, said: &mut Vec<Said>) {
    let Some(Life { number, .. }) = hub.life(part.partition) else { return };
    let mut end = hub.watermark(part.partition);
    for reader in readers.iter().filter(|reader| reader.part() == index) {
        match reader.subscription.live() {
            Some(live) if live.life == number => end = end.max(live.clock),
            _ => return,
        }
    }
    let Some(whole) = part.whole.as_deref_mut() else { return };
    if let Proof::Unconfirmed(asking) = &mut whole.proof {
        let Some(reader) = readers.iter().find(|reader| reader.part() == index) else { return };
        if asking.ask(now, |ticket| reader.subscription.confirm(end, number, ticket)).is_none() {
            return;
        }
    }
    let gap = whole.gap;
    // Positions read above are of this life only if it is still the one.
    let Some(at) = hub.cursor(part.partition, end) else { return };
    if hub.life(part.partition).is_none_or(|now| now.number != number) {
        return;
    }
    (part.at, part.life, part.whole, part.joining, part.awaits) = (at, number, None, false, Position::ZERO);
    for reader in readers.iter_mut().filter(|reader| reader.part() == index) {
        reader.subscription.new_hole();
        reader.begin(end, end);
        said.push(Said::Gap { channel: reader.subscription.channel().clone(), gap, end: at });
    }
    said.push(Said::Cursor);
}

/// The node itself has missed something on this channel.
fn notice_hole(hub: &Hub, part: &mut Part, reader: &mut Reader, said: &mut Vec<Said>) {
    let Some(hole) = reader.subscription.new_hole() else { return };
    if !reader.is_joined() || hole.safe.is_some_and(|safe| part.at.position <= safe) {
        return;
    }
    let Some(end) = hub.cursor(part.partition, hole.end) else { return };
    reader.begin(hole.end, part.at.position);
    part.joining = true;
    said.push(Said::Gap { channel: reader.subscription.channel().clone(), gap: hole.gap, end });
}

/// Decides, for one channel that is live, what of its past there is to replay, or the gap.
fn decide(hub: &Hub, part: &mut Part, reader: &mut Reader, now: Instant, said: &mut Vec<Said>) {
    let Some(State::Open(wanted)) = reader.state.as_deref_mut() else { return };
    if part.whole.is_some() || reader.subscription.live().is_none_or(|live| live.life != part.life) {
        return;
    }
    let cursor = part.at.position;
    let from_log =
        wanted.from == Origin::Cursor && cursor <= hub.watermark(part.partition) && reader.subscription.reaches(cursor);
    if from_log {
        return reader.begin(cursor, cursor);
    }
    let after = if wanted.from == Origin::Cursor { cursor } else { Position::ZERO };
    let (subscription, life) = (&reader.subscription, part.life);
    let Some(replay) = wanted.asking.ask(now, |ticket| subscription.past(after, life, ticket)) else { return };
    let (start, gap) = match wanted.from {
        Origin::Cursor => match replay.resume(cursor) {
            Ok(()) => (cursor, None),
            // Beyond everything published: of a life that is over.
            Err(Gap::DataLost) => {
                part.whole = Some(Whole::told());
                return;
            }
            Err(gap) => (replay.clock, Some(gap)),
        },
        Origin::Earliest => replay.earliest(),
        Origin::Newest(count) => (reader.subscription.newest(&replay, count), None),
    };
    if let Some(gap) = gap
        && let Some(end) = hub.cursor(part.partition, start)
    {
        said.push(Said::Gap { channel: reader.subscription.channel().clone(), gap, end });
    }
    reader.begin(start, cursor);
    let through = replay.clock.max(start);
    let replay = Some(replay).filter(|replay| !replay.after(start).is_empty());
    reader.state = Some(Box::new(State::Joined(Joined { through, replay, start })));
    reader.follows(cursor);
}

/// When a read that failed is to be asked for again. What is due already waits for something else.
pub(super) fn retry_at(parts: &[Part], readers: &[Reader], now: Instant) -> Option<Instant> {
    let of_part = |part: &Part| match part.whole.as_deref() {
        Some(Whole { proof: Proof::Unconfirmed(asking), .. }) => asking.retry,
        _ => None,
    };
    let of_reader = |reader: &Reader| match reader.state.as_deref() {
        Some(State::Open(wanted)) => wanted.asking.retry,
        Some(State::Joined(_)) | None => None,
    };
    let retries = parts.iter().filter_map(of_part).chain(readers.iter().filter_map(of_reader));
    retries.filter(|retry| *retry > now).min()
}

/// Where the watermark of part `index`, whose cursor is at `position`, has to come for all that its channels were promised to
/// be written; `None` where there is something else to wait for.
pub(super) fn promised(index: usize, position: Position, readers: &[Reader]) -> Option<Position> {
    let mut mine = readers.iter().filter(|reader| reader.part() == index);
    mine.try_fold(position, |most, reader| Some(most.max(reader.through(position)?)))
}
