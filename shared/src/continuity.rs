//! Whether events follow on from where a reader is, or which gap there is: the rules of resuming, as pure functions. No third
//! outcome: what cannot be shown to be contiguous is a gap.

use std::fmt;

use serde::Serialize;

use crate::position::{Position, Stamp};

const HOUR_MS: u64 = 3_600_000;
/// A channel's last position is kept for 7 days after its event. A position younger than this, by an hour for clocks that
/// stray, finds it in place if there was an event after it.
const REMEMBERED_MS: u64 = (7 * 24 - 1) * HOUR_MS;

/// Why events after a cursor can no longer be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The first that is left is not the one right after the cursor.
    Trimmed,
    /// None is left of those after the cursor; or the cursor is so old that nobody knows whether there were any.
    Expired,
    /// The cursor is of another epoch, or beyond everything published in this one: the broker may have lost events.
    DataLost,
    /// It is no cursor, or one of other partitions.
    UnknownCursor,
    /// More events than a reader is given at once.
    TooFar,
}

impl Gap {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Trimmed, Self::Expired, Self::DataLost, Self::UnknownCursor, Self::TooFar];

    /// The word for it on the wire and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Expired => "expired",
            Self::DataLost => "data_lost",
            Self::UnknownCursor => "unknown_cursor",
            Self::TooFar => "too_far",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the broker said of a channel at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Every event of the partition so far is at or before it, every later one after it.
    pub clock: Position,
    /// Time of day at the broker, Unix milliseconds.
    pub time_ms: u64,
    /// The broker throws data away before their time when memory is short.
    pub evicts: bool,
    /// The channel's last event, if one is remembered.
    pub last: Option<Position>,
}

/// The entries after a cursor, of which there is one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The first.
    pub first: Stamp,
    /// Each of the others follows on from the one before it, and the final one is the channel's last event.
    pub unbroken: bool,
}

impl Evidence {
    /// Whether `tail`, all that is left after `cursor`, is all there was. The cursor is one of this epoch.
    ///
    /// # Errors
    /// The gap; [`Gap::DataLost`] is one of the whole partition.
    pub fn resume(&self, cursor: Position, tail: Option<Tail>) -> Result<(), Gap> {
        if cursor > self.clock {
            return Err(Gap::DataLost);
        }
        match (tail, self.last) {
            (Some(tail), _) if !tail.unbroken => Err(Gap::Trimmed),
            (Some(tail), _) if tail.first.previous != Position::ZERO => {
                if tail.first.previous <= cursor {
                    Ok(())
                } else {
                    Err(Gap::Trimmed)
                }
            }
            (None, Some(last)) if last <= cursor => Ok(()),
            (None, Some(_)) => Err(Gap::Expired),
            _ if self.remembers(cursor) => Ok(()),
            _ => Err(Gap::Expired),
        }
    }

    /// Whether a node that was complete up to `complete`, the channel's last event then being `seen`, is complete again
    /// with `tail`, all that is left after that.
    ///
    /// # Errors
    /// The gap.
    pub fn catch_up(&self, seen: Option<Position>, complete: Position, tail: Option<Tail>) -> Result<(), Gap> {
        match (tail, self.last) {
            (Some(tail), _) if !tail.unbroken => Err(Gap::Trimmed),
            // Equal, not merely at most: anything else is another history than the one that was seen.
            (Some(tail), _) if tail.first.previous != Position::ZERO => {
                if Some(tail.first.previous) == seen {
                    Ok(())
                } else {
                    Err(Gap::Trimmed)
                }
            }
            (None, Some(last)) if Some(last) == seen => Ok(()),
            (None, Some(_)) => Err(Gap::Expired),
            _ if self.remembers(complete) => Ok(()),
            _ => Err(Gap::Expired),
        }
    }

    /// Whether an event after `position` would still have left a trace: its channel's last position.
    fn remembers(&self, position: Position) -> bool {
        let young = position.ms <= self.time_ms.saturating_add(HOUR_MS)
            && self.time_ms.saturating_sub(position.ms) <= REMEMBERED_MS;
        young && self.clock.ms <= self.time_ms.saturating_add(HOUR_MS) && !self.evicts
    }
}

/// How many of `stamps`, from the end, are known to follow on from one another up to `last`.
#[must_use]
pub fn unbroken(stamps: &[Stamp], last: Option<Position>) -> usize {
    match stamps.last() {
        Some(end) if Some(end.position) == last => {}
        _ => return 0,
    }
    let links = stamps.windows(2).rev().take_while(|pair| pair[1].previous == pair[0].position);
    1 + links.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn at(seq: u64) -> Position {
        Position { ms: NOW, seq }
    }

    fn stamp(position: u64, previous: u64) -> Stamp {
        let previous = if previous == 0 { Position::ZERO } else { at(previous) };
        Stamp { position: at(position), previous }
    }

    fn tail(position: u64, previous: u64) -> Option<Tail> {
        Some(Tail { first: stamp(position, previous), unbroken: true })
    }

    fn evidence(last: Option<u64>) -> Evidence {
        Evidence { clock: at(100), time_ms: NOW, evicts: false, last: last.map(at) }
    }

    #[test]
    fn the_first_entry_has_to_follow_on() {
        let evidence = evidence(Some(9));
        assert_eq!(evidence.resume(at(5), tail(6, 5)), Ok(()));
        assert_eq!(evidence.resume(at(5), tail(6, 4)), Ok(()), "a cursor may be later than the channel's own event");
        assert_eq!(evidence.resume(at(5), tail(8, 7)), Err(Gap::Trimmed));
        assert_eq!(evidence.resume(at(5), tail(6, 0)), Ok(()), "the channel's first");
        let broken = Some(Tail { first: stamp(6, 5), unbroken: false });
        assert_eq!(evidence.resume(at(5), broken), Err(Gap::Trimmed));
        assert_eq!(evidence.resume(at(101), tail(6, 5)), Err(Gap::DataLost), "nobody was ever there");
    }

    #[test]
    fn without_entries_the_last_position_tells() {
        assert_eq!(evidence(Some(5)).resume(at(5), None), Ok(()));
        assert_eq!(evidence(Some(6)).resume(at(5), None), Err(Gap::Expired));
        assert_eq!(evidence(None).resume(at(5), None), Ok(()));
    }

    #[test]
    fn without_a_trace_only_a_young_cursor_is_believed() {
        let resume = |cursor_ms: u64, evidence: Evidence| {
            [None, tail(6, 0)].map(|tail| evidence.resume(Position { ms: cursor_ms, seq: 0 }, tail))
        };
        let good = Evidence { clock: Position { ms: NOW + HOUR_MS, seq: 0 }, ..evidence(None) };
        let gaps = [Err(Gap::Expired); 2];
        assert_eq!(resume(NOW - REMEMBERED_MS, good), [Ok(()); 2]);
        assert_eq!(resume(NOW - REMEMBERED_MS - 1, good), gaps);
        assert_eq!(resume(NOW + HOUR_MS, good), [Ok(()); 2]);
        let ahead = Evidence { clock: Position { ms: NOW + HOUR_MS + 1, seq: 0 }, ..good };
        assert_eq!(resume(NOW + HOUR_MS + 1, ahead), gaps);
        assert_eq!(resume(NOW, ahead), gaps, "a clock so far ahead has been somewhere else");
        assert_eq!(resume(NOW, Evidence { evicts: true, ..good }), gaps);
    }

    #[test]
    fn catching_up_needs_the_very_event_that_was_seen() {
        let caught_up = |seen: Option<u64>, tail, last| evidence(last).catch_up(seen.map(at), at(7), tail);
        assert_eq!(caught_up(Some(5), tail(8, 5), Some(8)), Ok(()));
        assert_eq!(caught_up(Some(5), tail(8, 4), Some(8)), Err(Gap::Trimmed), "another history");
        assert_eq!(caught_up(Some(5), tail(8, 6), Some(8)), Err(Gap::Trimmed));
        assert_eq!(caught_up(None, tail(8, 5), Some(8)), Err(Gap::Trimmed));
        assert_eq!(caught_up(None, tail(8, 0), Some(8)), Ok(()));
        assert_eq!(caught_up(Some(5), None, Some(5)), Ok(()));
        assert_eq!(caught_up(Some(5), None, Some(4)), Err(Gap::Expired));
        assert_eq!(caught_up(Some(5), None, None), Ok(()), "expired since, as it should");
        let old = Position { ms: NOW - REMEMBERED_MS - 1, seq: 0 };
        assert_eq!(evidence(None).catch_up(Some(old), old, None), Err(Gap::Expired));
    }

    #[test]
    fn links_are_counted_from_the_end() {
        let stamps = [stamp(1, 0), stamp(3, 2), stamp(4, 3), stamp(6, 4)];
        assert_eq!(unbroken(&stamps, Some(at(6))), 3);
        assert_eq!(unbroken(&stamps, Some(at(7))), 0, "the last event is not among them");
        assert_eq!(unbroken(&stamps, None), 0);
        assert_eq!(unbroken(&stamps[2..], Some(at(6))), 2);
        assert_eq!(unbroken(&[], Some(at(6))), 0);
    }
}
