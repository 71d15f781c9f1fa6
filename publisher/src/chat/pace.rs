//! When the next chunk may go out, and what went out so far.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// Parts of an answer's age that lie between two chunks, once that is more than [`SHORTEST`].
const PARTS: u32 = 160;
/// Least time between two places in the schedule.
const SHORTEST: Duration = Duration::from_millis(50);
/// How far ahead of the schedule a chunk may be: some twenty of them.
const AHEAD: Duration = Duration::from_secs(1);

/// The schedule of an answer's chunks. The n-th has a place, 50 ms after the one before, or a 160th of the answer's age
/// where that is more, and does not go out before it by more than a second: so an answer of 20 minutes has fewer than
/// 1,000, which is what a stream may be given of the past. Places that were not taken are kept: an answer that was silent
/// for long goes on at once.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    /// Least time between two chunks.
    batch: Duration,
    last: Option<Instant>,
    /// Age of the answer at the next place.
    place: Duration,
}

impl Pace {
    /// Of an answer that begins now.
    pub(super) fn new(batch: Duration) -> Self {
        Self { start: Instant::now(), batch, last: None, place: Duration::ZERO }
    }

    /// The instant from which on the next chunk may go out: for the first one, at once.
    pub(super) fn next(&self) -> Instant {
        let scheduled = self.start + self.place.saturating_sub(AHEAD);
        self.last.map_or(scheduled, |last| scheduled.max(last + self.batch))
    }

    /// A chunk goes out now.
    pub(super) fn take(&mut self) {
        self.last = Some(Instant::now());
        self.place += SHORTEST.max(self.place / PARTS);
    }
}

/// What was published of an answer.
#[derive(Default)]
pub(super) struct Tally {
    chunks: u64,
    bytes: u64,
    hash: Sha256,
}

/// A [`Tally`] as the last event has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Total {
    chunks: u64,
    bytes: u64,
    sha256: String,
}

impl Tally {
    /// Counts a chunk that was published.
    pub(super) fn add(&mut self, text: &str) {
        self.chunks += 1;
        self.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.hash.update(text);
    }

    pub(super) fn total(&self) -> Total {
        let sha256 = super::hex(&self.hash.clone().finalize());
        Total { chunks: self.chunks, bytes: self.bytes, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep_until};

    /// Chunks within `time` of an answer that always has some, from `from` on.
    async fn chunks(batch: u64, from: Duration, time: Duration) -> u32 {
        let mut pace = Pace::new(Duration::from_millis(batch));
        let end = Instant::now() + time;
        advance(from).await;
        let mut count = 0;
        loop {
            sleep_until(pace.next()).await;
            if Instant::now() > end {
                return count;
            }
            pace.take();
            count += 1;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_any_length_is_within_what_is_replayed() {
        let longest = Duration::from_secs(1_200);
        for batch in [10, 50, 1_000] {
            for from in [0, 1, 60, 600, 1_190].map(Duration::from_secs) {
                let count = chunks(batch, from, longest).await;
                assert!(count < 990, "{count} chunks, one in {batch} ms, from {from:?} on");
            }
        }
        assert!(chunks(50, Duration::ZERO, longest).await > 900, "it is not much rarer than it has to be");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_at_once_then_batch_by_batch() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(50));
        let mut ages = Vec::new();
        for _ in 0..4 {
            sleep_until(pace.next()).await;
            pace.take();
            ages.push(start.elapsed().as_millis());
        }
        assert_eq!(ages, [0, 50, 100, 150]);
        advance(Duration::from_secs(60)).await;
        assert!(pace.next() <= Instant::now(), "nothing to wait for after a silence");
    }

    #[test]
    fn totals() {
        let mut tally = Tally::default();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(tally.total(), Total { chunks: 0, bytes: 0, sha256: empty.into() });
        tally.add("a");
        tally.add("bc");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(tally.total(), Total { chunks: 2, bytes: 3, sha256: abc.into() });
    }
}
