//! When which channels are compared with Redis: each once in a period, in batches that are spread over it. Pure.

use std::time::Duration;

use shared::channel::Channel;
use tokio::time::Instant;

use super::wanted::{BATCH, Wanted};

/// Batches are no closer than this, whatever the period.
const LEAST_PACE: Duration = Duration::from_millis(1);

pub(super) struct Sweep {
    period: Duration,
    /// Between two batches of this round.
    pace: Duration,
    /// When the next batch is due.
    next: Instant,
    /// Channels of this round that were not compared yet.
    rest: Vec<Channel>,
}

impl Sweep {
    /// The first round begins at a moment of the first period that `random` (below 1) picks: nodes whose sessions began
    /// together do not ask together.
    pub(super) fn new(period: Duration, now: Instant, random: f64) -> Self {
        Self { period, pace: period, next: now + period.mul_f64(random), rest: Vec::new() }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// The batch that is due, with the generations that are to be compared; none where nothing is subscribed.
    pub(super) fn batch(&mut self, now: Instant, wanted: &Wanted) -> Vec<(Channel, u64)> {
        if self.rest.is_empty() {
            self.rest = wanted.subscribed();
            let batches = u32::try_from(self.rest.len().div_ceil(BATCH)).unwrap_or(u32::MAX);
            self.pace = (self.period / batches.max(1)).max(LEAST_PACE);
        }
        // Of what was late nothing is made up.
        self.next = (self.next + self.pace).max(now);
        let batch = self.rest.split_off(self.rest.len().saturating_sub(BATCH));
        let still = |channel: Channel| {
            let generation = wanted.subscribed_as(&channel)?;
            Some((channel, generation))
        };
        batch.into_iter().filter_map(still).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Interest;

    const PERIOD: Duration = Duration::from_secs(60);

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn subscribed(count: u64) -> Wanted {
        let mut wanted = Wanted::default();
        for i in 0..count {
            wanted.note(Interest::Subscribe { channel: channel(&i.to_string()), generation: i });
        }
        while wanted.is_behind() {
            wanted.take();
        }
        wanted
    }

    #[tokio::test(start_paused = true)]
    async fn each_once_a_period_and_spread_over_it() {
        for (channels, batches) in [(1, 1), (500, 1), (501, 2), (1_750, 4)] {
            let wanted = subscribed(channels);
            let start = Instant::now();
            let mut sweep = Sweep::new(PERIOD, start, 0.5);
            assert_eq!(sweep.next(), start + PERIOD / 2);
            for round in 0..2 {
                let mut compared = Vec::new();
                for batch in 0..batches {
                    let due = start + PERIOD / 2 + PERIOD * round + PERIOD / batches * batch;
                    assert_eq!(sweep.next(), due, "{channels} channels, round {round}, batch {batch}");
                    let batch = sweep.batch(due, &wanted);
                    assert!((1..=BATCH).contains(&batch.len()));
                    compared.extend(batch);
                }
                compared.sort_by_key(|(_, generation)| *generation);
                let all: Vec<_> = (0..channels).map(|i| (channel(&i.to_string()), i)).collect();
                assert_eq!(compared, all);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_to_compare_and_a_sweep_that_is_late() {
        let start = Instant::now();
        let mut sweep = Sweep::new(PERIOD, start, 0.0);
        assert_eq!((sweep.batch(start, &Wanted::default()), sweep.next()), (vec![], start + PERIOD));
        let late = start + PERIOD * 10;
        assert_eq!(sweep.batch(late, &subscribed(1)), [(channel("0"), 0)]);
        assert_eq!(sweep.next(), late);
        let mut at_once = Sweep::new(Duration::ZERO, start, 0.0);
        at_once.batch(start, &subscribed(1));
        assert_eq!(at_once.next(), start + LEAST_PACE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_went_meanwhile_is_left_out_and_what_came_again_has_its_new_life() {
        let mut wanted = subscribed(1_000);
        let now = Instant::now();
        let mut sweep = Sweep::new(PERIOD, now, 0.0);
        let first = sweep.batch(now, &wanted);
        let was = |name: &str| first.iter().any(|(compared, _)| *compared == channel(name));
        let second: Vec<_> = (0..1_000).map(|i| i.to_string()).filter(|name| !was(name)).collect();
        wanted.note(Interest::Unsubscribe { channel: channel(&second[0]) });
        wanted.note(Interest::Unsubscribe { channel: channel(&second[1]) });
        wanted.note(Interest::Subscribe { channel: channel(&second[1]), generation: 5_000 });
        wanted.take();
        wanted.leave_out(&channel(&second[2]));
        let rest = sweep.batch(now, &wanted);
        assert_eq!(rest.len(), 498);
        assert!(rest.contains(&(channel(&second[1]), 5_000)));
    }
}
