//! Several channels read as one: what may be written next, in the order of its positions.

use std::sync::Arc;

use shared::position::Position;

use crate::broker::Partition;
use crate::hub::encoded::{Encoded, Order};
use crate::hub::{Hub, Lagged, Subscription};

/// Most events of one channel that one look takes.
const BATCH: usize = 256;

/// One channel of a connection.
pub(super) struct Reader {
    pub(super) subscription: Subscription,
    /// The channel has been closed by its last event so far.
    pub(super) ended: bool,
}

/// An event, and the reader it came from.
pub(super) struct Ready {
    pub(super) reader: usize,
    pub(super) event: Arc<Encoded>,
}

/// What can be written now.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Ready>,
    /// There are more behind these.
    pub(super) more: bool,
}

/// Looks into every reader's log. `watermarks` were read before, one for each partition: an event of another channel that is
/// not in its log yet lies beyond them.
pub(super) fn ready(readers: &[Reader], watermarks: &[(Partition, Position)]) -> Result<Batch, Lagged> {
    let mut batch = Batch::default();
    let mut found = Vec::new();
    let mut bound: Option<Order> = None;
    for (reader, Reader { subscription, .. }) in readers.iter().enumerate() {
        let more = subscription.peek(watermark(watermarks, subscription.partition()), BATCH, &mut found)?;
        if more && let Some(last) = found.last() {
            // Beyond its last event this channel has others that were not looked at.
            batch.more = true;
            bound = Some(bound.map_or(last.order(), |bound| bound.min(last.order())));
        }
        batch.events.extend(found.drain(..).map(|event| Ready { reader, event }));
    }
    if readers.len() > 1 {
        // Stable: events of one channel stay in the order of their log.
        batch.events.sort_by_key(|ready| ready.event.order());
        if let Some(bound) = bound {
            batch.events.retain(|ready| ready.event.order() <= bound);
        }
    }
    Ok(batch)
}

/// The watermark of each partition that the readers touch, in order of partitions.
pub(super) fn watermarks(hub: &Hub, partitions: impl Iterator<Item = Partition>) -> Vec<(Partition, Position)> {
    partitions.map(|partition| (partition, hub.watermark(partition))).collect()
}

fn watermark(watermarks: &[(Partition, Position)], partition: Partition) -> Position {
    let found = watermarks.iter().find(|(number, _)| *number == partition);
    found.map_or(Position::ZERO, |(_, position)| *position)
}
