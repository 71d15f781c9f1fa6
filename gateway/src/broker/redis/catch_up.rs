//! How a channel that was heard in an earlier session joins what was heard then.
//!
//! Most have not moved, which their last positions tell, read for a whole batch at once. Those that have are read from where
//! they were left, several at a time. Whatever cannot be shown to be all that came is a hole.

use std::future::pending;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use shared::channel::Channel;
use shared::continuity::{Evidence, Gap};
use shared::position::Position;
use tokio::sync::mpsc;

use super::super::past::{self, Past};
use super::super::{Between, Join, Seen, Snapshot};
use super::RedisBroker;
use super::ended::Ended;
use super::hearing::{Attached, Hearing};
use super::reader::Reader;
use crate::metrics::{BrokerMetrics, CaughtUp};

/// Channels that are read at the same time, each up to the limits of [`super::super::past::PastLimits`]: what was read is
/// held until the channel is live, and only then another one begins.
const AT_ONCE: usize = 16;

/// What the last position says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It says enough.
    Known(Join),
    /// Something came since.
    Moved(Seen),
}

/// A channel to be read from where it was left.
pub(super) struct Moved {
    pub(super) seen: Seen,
    /// With the snapshot of its batch.
    pub(super) attached: Attached,
}

pub(super) type MovedQueue = mpsc::UnboundedReceiver<Moved>;

/// What a channel's last position says to whom has heard it as far as `seen`.
pub(crate) fn standing(seen: Option<Seen>, evidence: &Evidence) -> Standing {
    let Some(seen) = seen else { return Standing::Known(Join::Anew) };
    match evidence.catch_up(seen.last, seen.complete, None) {
        Ok(()) => Standing::Known(Join::CaughtUp),
        // There is a last event, and it is not the one that was seen.
        Err(_) if evidence.last.is_some() => Standing::Moved(seen),
        // Without a last event nothing in the history can be shown to be all of it.
        Err(gap) => Standing::Known(Join::Hole(gap)),
    }
}

/// Serves `moved` until something ends the session.
pub(super) async fn run(broker: &RedisBroker, reader: &Reader, hearing: &Hearing, mut moved: MovedQueue) -> Ended {
    let each = |moved| catch_up(broker, reader, hearing, moved);
    let moved = stream::poll_fn(|context| moved.poll_recv(context)).map(Ok);
    match moved.try_for_each_concurrent(AT_ONCE, each).await {
        Err(ended) => ended,
        // The session holds the other end of the queue.
        Ok(()) => pending().await,
    }
}

async fn catch_up(broker: &RedisBroker, reader: &Reader, hearing: &Hearing, moved: Moved) -> Result<(), Ended> {
    let Moved { seen, mut attached } = moved;
    let after = seen.last.unwrap_or(Position::ZERO);
    let channel: Channel = attached.channel.clone();
    let page = async |between: Between, limit| reader.read(broker, &channel, between, limit).await;
    match past::read(after, broker.past_limits, page).await {
        Ok(past) => (attached.snapshot, attached.join) = join(past, seen),
        Err(error) if error.is_of_one_channel() => {
            tracing::debug!(%channel, ?error, "the history of a channel cannot be read");
            attached.join = Join::Hole(Gap::Expired);
        }
        Err(error) => return Err(error.into()),
    }
    count(&broker.metrics, attached.join, CaughtUp::Read);
    let clock = attached.snapshot.clock;
    hearing.caught_up(clock, attached);
    hearing.barrier_at(clock).await;
    Ok(())
}

/// Counts how a channel that was heard before goes on: `well` if nothing is missing.
pub(super) fn count(metrics: &BrokerMetrics, join: Join, well: CaughtUp) {
    match join {
        Join::Anew => {}
        Join::CaughtUp => metrics.caught_up(well),
        Join::Hole(_) => metrics.caught_up(CaughtUp::Gap),
    }
}

/// What a read since `seen` is good for.
pub(crate) fn join(past: Past, seen: Seen) -> (Snapshot, Join) {
    let decided = past.catch_up(seen);
    let mut snapshot = past.snapshot;
    match decided {
        Ok(()) => (snapshot, Join::CaughtUp),
        Err(gap) => {
            snapshot.entries = Vec::new();
            (snapshot, Join::Hole(gap))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Entry, Last, Stamp};

    const NOW: u64 = 1_800_000_000_000;

    fn at(seq: u64) -> Position {
        Position { ms: NOW, seq }
    }

    fn seen(last: Option<u64>) -> Seen {
        Seen { last: last.map(at), complete: at(50) }
    }

    fn evidence(last: Option<u64>) -> Evidence {
        Evidence { clock: at(100), time_ms: NOW, evicts: false, last: last.map(at) }
    }

    #[test]
    fn what_the_last_position_says() {
        let of = |seen: Option<Seen>, last| standing(seen, &evidence(last));
        assert_eq!(of(None, Some(7)), Standing::Known(Join::Anew));
        assert_eq!(of(None, None), Standing::Known(Join::Anew));
        assert_eq!(of(Some(seen(Some(7))), Some(7)), Standing::Known(Join::CaughtUp));
        assert_eq!(of(Some(seen(None)), None), Standing::Known(Join::CaughtUp));
        assert_eq!(of(Some(seen(Some(7))), None), Standing::Known(Join::CaughtUp), "forgotten since, as it should be");
        assert_eq!(of(Some(seen(Some(7))), Some(8)), Standing::Moved(seen(Some(7))));
        assert_eq!(of(Some(seen(None)), Some(8)), Standing::Moved(seen(None)));
        assert_eq!(of(Some(seen(Some(7))), Some(6)), Standing::Moved(seen(Some(7))), "another history");
    }

    #[test]
    fn without_a_last_position_an_old_or_evicting_server_is_not_believed() {
        let expired = Standing::Known(Join::Hole(Gap::Expired));
        let evicts = Evidence { evicts: true, ..evidence(None) };
        assert_eq!(standing(Some(seen(Some(7))), &evicts), expired);
        assert_eq!(standing(Some(seen(None)), &evicts), expired);
        let later = Evidence { time_ms: NOW + 7 * 24 * 3_600_000, ..evidence(None) };
        assert_eq!(standing(Some(seen(None)), &later), expired);
    }

    #[test]
    fn a_hole_brings_no_entries() {
        let entry = |position, previous| {
            let previous = if previous == 0 { Position::ZERO } else { at(previous) };
            Entry { stamp: Stamp { position: at(position), previous }, payload: "x".into() }
        };
        let past = |entries: Vec<Entry>, too_far| {
            let last = Some(Last { position: at(9), ended: false });
            let snapshot = Snapshot { clock: at(100), time_ms: NOW, evicts: false, last, entries };
            Past { snapshot, after: at(7), too_far }
        };
        let all = vec![entry(8, 7), entry(9, 8)];
        let (snapshot, join_all) = join(past(all.clone(), false), seen(Some(7)));
        assert_eq!((snapshot.entries, join_all), (all.clone(), Join::CaughtUp));
        for (past, gap) in [
            (past(all.clone(), true), Gap::TooFar),
            (past(all[1..].to_vec(), false), Gap::Trimmed),
            (past(Vec::new(), false), Gap::Expired),
        ] {
            let (snapshot, hole) = join(past, seen(Some(7)));
            assert_eq!((snapshot.entries, snapshot.clock, hole), (vec![], at(100), Join::Hole(gap)));
        }
    }
}
