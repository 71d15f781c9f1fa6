//! Several channels read as one: what may be written next, in the order of its positions.

use std::sync::Arc;

use super::join::{Part, Reader};
use crate::hub::encoded::{Encoded, Order};
use crate::hub::{Lagged, Look};

/// Most events of one source that one look takes.
const BATCH: usize = 256;

/// An event, and where it came from.
pub(super) struct Ready {
    pub(super) reader: usize,
    pub(super) event: Arc<Encoded>,
    pub(super) source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A durable event of the past.
    Replay,
    /// A durable event of the log.
    Log,
    /// An ephemeral event, by its index.
    Ephemeral(u64),
}

/// What can be written now.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Ready>,
    /// There are more behind these.
    pub(super) more: bool,
}

/// Looks into every reader's replay and log. The watermarks of `parts` were read before: an event of another channel that is
/// not in its log yet lies beyond them. Where a channel turns out not to be live its part is held, and none of its durable
/// events is among those found.
pub(super) fn ready(readers: &[Reader], parts: &mut [Part]) -> Result<Batch, Lagged> {
    let mut found = Found { batch: Batch::default(), bound: None, sources: 0 };
    let (mut durable, mut ephemeral) = (Vec::new(), Vec::new());
    for (number, reader) in readers.iter().enumerate() {
        let part = &mut parts[reader.part()];
        let after = reader.through(part.at.position).filter(|_| !part.held);
        let look = Look { after, watermark: part.watermark, life: part.life, limit: BATCH };
        let peek = reader.subscription.peek(look, &mut durable, &mut ephemeral)?;
        if !peek.live || after.is_none() {
            part.held = true;
        } else if let Some(replay) = reader.replay() {
            let events = replay.after(reader.told(part.at.position));
            let within = events.partition_point(|event| event.order().position <= part.watermark);
            let events = events[..within.min(BATCH)].iter().map(|event| (Source::Replay, event.clone()));
            found.add(number, events, within > BATCH);
        }
        found.add(number, durable.drain(..).map(|event| (Source::Log, event)), peek.more_durable);
        let events = ephemeral.drain(..).map(|(index, event)| (Source::Ephemeral(index), event));
        found.add(number, events, peek.more_ephemeral);
    }
    let Found { mut batch, bound, sources } = found;
    if parts.iter().any(|part| part.held) {
        batch.events.retain(|ready| ready.event.cursor().is_none() || !parts[readers[ready.reader].part()].held);
    }
    if sources > 1 {
        // Stable: events of one source stay in its order.
        batch.events.sort_by_key(|ready| ready.event.order());
        if let Some(bound) = bound {
            batch.events.retain(|ready| ready.event.order() <= bound);
        }
    }
    Ok(batch)
}

struct Found {
    batch: Batch,
    /// Beyond it some source has events that were not looked at.
    bound: Option<Order>,
    sources: usize,
}

impl Found {
    fn add(&mut self, reader: usize, events: impl Iterator<Item = (Source, Arc<Encoded>)>, more: bool) {
        let before = self.batch.events.len();
        self.batch.events.extend(events.map(|(source, event)| Ready { reader, event, source }));
        let Some(last) = self.batch.events[before..].last() else { return };
        self.sources += 1;
        if more {
            let order = last.event.order();
            self.batch.more = true;
            self.bound = Some(self.bound.map_or(order, |bound| bound.min(order)));
        }
    }
}
