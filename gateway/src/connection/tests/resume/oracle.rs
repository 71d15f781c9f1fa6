//! What was published, and what of it each client has to have. A full record, of which the machines under test know nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::*;

/// An event, numbered by its place in [`Record::events`].
pub(super) struct Published {
    channel: usize,
    partition: Partition,
    /// `None`: ephemeral.
    position: Option<Position>,
    /// Of the partition's data: another one begins when data may have been lost.
    life: u64,
    pub(super) ends: bool,
}

/// Everything that was published, in order.
#[derive(Default)]
pub(super) struct Record {
    pub(super) events: Vec<Published>,
    /// By partition.
    lives: BTreeMap<Partition, u64>,
    tags: HashMap<(Partition, Tag), u64>,
    /// Messages that did not arrive at a node, without a word.
    pub(super) lost: HashSet<(usize, usize)>,
}

impl Record {
    pub(super) fn publish(&mut self, channel: usize, partition: Partition, position: Option<Position>, ends: bool) {
        let life = self.life(partition);
        self.events.push(Published { channel, partition, position, life, ends });
    }

    pub(super) fn next(&self) -> usize {
        self.events.len()
    }

    fn life(&self, partition: Partition) -> u64 {
        self.lives.get(&partition).copied().unwrap_or(0)
    }

    /// Data of `partition` may have been lost.
    pub(super) fn another_life(&mut self, partition: Partition) {
        *self.lives.entry(partition).or_default() += 1;
    }

    /// A node has come to know an epoch.
    pub(super) fn know(&mut self, partition: Partition, tag: Tag) {
        let life = self.life(partition);
        self.tags.entry((partition, tag)).or_insert(life);
    }

    /// Events of the partition with a lower number than this are up to `part`.
    pub(super) fn bound(&self, partition: Partition, part: &CursorPart) -> usize {
        let life = self.tags[&(partition, part.tag)];
        let within = |event: &Published| {
            event.partition == partition
                && (event.life, event.position.unwrap_or(Position::ZERO)) <= (life, part.position)
        };
        self.events.iter().rposition(|event| event.position.is_some() && within(event)).map_or(0, |at| at + 1)
    }

    /// Whether it did not arrive at some node, without a word.
    pub(super) fn is_lost(&self, number: usize) -> bool {
        self.lost.iter().any(|(_, lost)| *lost == number)
    }

    /// Durable events of `channel` with numbers in `range`.
    pub(super) fn durable(&self, channel: usize, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let end = range.end.min(self.events.len());
        let is = move |at: &usize| self.events[*at].channel == channel && self.events[*at].position.is_some();
        (range.start.min(end)..end).filter(is)
    }
}

/// Gaps told, by reason: those that told of a loss, and others.
pub(super) type Gaps = BTreeMap<String, (u64, u64)>;

/// What one client has got, and what it is owed.
#[derive(Default)]
pub(super) struct Debt {
    got: HashSet<usize>,
    /// By channel: every event from this number on is owed; earlier ones were delivered, lie before the beginning, or in a
    /// gap. A channel that is not there has no beginning yet.
    pub(super) owed: BTreeMap<usize, usize>,
    /// By partition: the number of the last event.
    order: BTreeMap<Partition, usize>,
    /// Cursors by partition.
    bounds: BTreeMap<Partition, usize>,
    /// Events that the cursor has passed, of which the node was not told: it has to find out, while this connection lasts.
    pub(super) suspects: BTreeSet<usize>,
    /// Last ephemeral event by channel, on this connection.
    ephemeral: BTreeMap<usize, usize>,
}

impl Debt {
    /// A connection begins at `cursor` (empty: none) with `channels`.
    pub(super) fn connect(&mut self, record: &Record, cursor: &str, channels: &[(usize, Partition)], earliest: bool) {
        self.suspects.clear();
        // Another node may be behind; there is no cursor that would tell.
        self.ephemeral.clear();
        self.got.retain(|number| record.events[*number].position.is_some());
        self.owed.retain(|channel, _| channels.iter().any(|(on, _)| on == channel));
        let parts = parts(cursor);
        for (channel, partition) in channels {
            match part(&parts, *partition) {
                Some(part) => _ = self.owed.entry(*channel).or_insert_with(|| record.bound(*partition, part)),
                None => {
                    // Nothing says how far it had come: it begins anew, and may be told again what it was told.
                    self.owed.remove(channel);
                    self.order.remove(partition);
                    self.bounds.remove(partition);
                    self.got.retain(|number| record.events[*number].partition != *partition);
                }
            }
            if earliest && cursor.is_empty() {
                self.owed.insert(*channel, 0);
            }
        }
    }

    pub(super) fn event(&mut self, record: &Record, number: usize) -> Result<(), String> {
        let Published { channel, partition, position, .. } = record.events[number];
        if !self.got.insert(number) {
            return Err(format!("event {number} twice"));
        }
        let last = match position {
            Some(_) => self.order.insert(partition, number),
            None => self.ephemeral.insert(channel, number),
        };
        if last.is_some_and(|last| last >= number) {
            return Err(format!("event {number} after {last:?}"));
        }
        Ok(())
    }

    /// The cursor as the client has it now; `begins`: whether it says where a channel begins.
    pub(super) fn cursor(
        &mut self,
        record: &Record,
        cursor: &str,
        channels: &[(usize, Partition)],
        node: usize,
        begins: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        let parts = parts(cursor);
        for (channel, partition) in channels {
            let Some(part) = part(&parts, *partition) else { continue };
            let bound = record.bound(*partition, part);
            let before = self.bounds.entry(*partition).or_insert(bound);
            if bound < *before {
                return Err(format!("the cursor fell to {cursor}"));
            }
            *before = bound;
            let Some(owed) = self.owed.get_mut(channel) else {
                // A client that asked for all there is has not been told yet what that is.
                if begins(*channel) && part.position != Position::ZERO {
                    self.owed.insert(*channel, bound);
                }
                continue;
            };
            for number in record.durable(*channel, *owed..bound) {
                if self.got.contains(&number) {
                    continue;
                }
                if !record.lost.contains(&(node, number)) {
                    return Err(format!("the cursor {cursor} ran ahead of event {number}"));
                }
                self.suspects.insert(number);
            }
            *owed = bound.max(*owed);
        }
        Ok(())
    }

    /// A gap that ends at `end`. Returns whether it told of something.
    pub(super) fn gap(&mut self, record: &Record, channel: usize, partition: Partition, end: &CursorPart) -> bool {
        let bound = record.bound(partition, end);
        let owed = self.owed.entry(channel).or_insert(bound);
        let missing = record.durable(channel, *owed..bound).any(|number| !self.got.contains(&number));
        let suspects = self.suspects.len();
        self.suspects.retain(|number| *number >= bound || record.events[*number].channel != channel);
        *owed = bound.max(*owed);
        missing || suspects != self.suspects.len()
    }

    /// What is owed and did not come.
    pub(super) fn missing(&self, record: &Record) -> impl Iterator<Item = usize> {
        let all = self.owed.iter().flat_map(|(channel, owed)| record.durable(*channel, *owed..record.next()));
        all.filter(|number| !self.got.contains(number))
    }

    /// The client was told that it need not come again. `heard`: the node's cursors by partition.
    pub(super) fn over(
        &self,
        record: &Record,
        cursor: &str,
        channels: &[(usize, Partition)],
        heard: impl Fn(Partition) -> CursorPart,
        node: usize,
    ) -> Result<(), String> {
        let parts = parts(cursor);
        for (channel, partition) in channels {
            let heard = record.bound(*partition, &heard(*partition));
            let bound = match part(&parts, *partition) {
                Some(part) => record.bound(*partition, part),
                None if cursor.is_empty() => heard,
                None => return Err("204 without a cursor of the partition".to_owned()),
            };
            let Some(end) = record.durable(*channel, 0..bound).filter(|number| record.events[*number].ends).last()
            else {
                return Err(format!("204, and {channel} has not ended"));
            };
            // Of another life there may be nothing left.
            let is_there = |number: &usize| {
                record.events[*number].life == record.life(*partition) && !record.lost.contains(&(node, *number))
            };
            if let Some(later) = record.durable(*channel, end + 1..heard.max(bound)).find(is_there) {
                return Err(format!("204, and event {later} came after the end"));
            }
        }
        Ok(())
    }
}

fn parts(cursor: &str) -> Vec<CursorPart> {
    if cursor.is_empty() {
        return Vec::new();
    }
    cursor.parse::<Cursor>().unwrap().parts().to_vec()
}

fn part(parts: &[CursorPart], partition: Partition) -> Option<&CursorPart> {
    parts.iter().find(|part| part.partition.unwrap_or(0) == partition)
}
