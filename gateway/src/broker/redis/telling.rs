//! What the log has been told, so that it speaks of each thing once and not for each try. Pure.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Partition;

/// Between two lines about the same matter.
const PAUSE: Duration = Duration::from_secs(60);
/// Reasons of one outage that are told.
const MAX_REASONS: usize = 8;

/// Lives across the sessions of all partitions.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Partitions with a session that is established.
    up: HashSet<Partition>,
    /// `None` while no partition that had a session, or was to have one, is without it.
    outage: Option<Outage>,
    /// When silent losses were told last.
    losses: Option<Instant>,
}

#[derive(Debug)]
struct Outage {
    partitions: HashSet<Partition>,
    since: Instant,
    last: Instant,
    reasons: Vec<String>,
}

/// What to say of a session that ended, or did not begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// The session is lost.
    Lost,
    /// There is none yet, and now for this reason.
    Still,
    Nothing,
}

impl Telling {
    /// A session ended, or did not begin. Each reason of one outage is told once, and one a minute at most: partitions that are lost
    /// while others are away add nothing but their reasons.
    pub(super) fn ended(&mut self, partition: Partition, reason: &str, now: Instant) -> Say {
        self.up.remove(&partition);
        let Some(outage) = &mut self.outage else {
            let (partitions, reasons) = (HashSet::from([partition]), vec![reason.to_owned()]);
            self.outage = Some(Outage { partitions, since: now, last: now, reasons });
            return Say::Lost;
        };
        outage.partitions.insert(partition);
        let known = outage.reasons.len() == MAX_REASONS || outage.reasons.iter().any(|told| told == reason);
        if known || now - outage.last < PAUSE {
            return Say::Nothing;
        }
        outage.last = now;
        outage.reasons.push(reason.to_owned());
        Say::Still
    }

    /// A session is established. Returns how long the outage lasted that is over with it, if that was told.
    pub(super) fn established(&mut self, partition: Partition, now: Instant) -> Option<Duration> {
        self.up.insert(partition);
        let outage = self.outage.as_mut()?;
        outage.partitions.remove(&partition);
        if !outage.partitions.is_empty() {
            return None;
        }
        self.outage.take().map(|outage| now - outage.since)
    }

    /// Partitions with a session that is established.
    pub(super) fn up(&self) -> usize {
        self.up.len()
    }

    /// Messages were lost. Returns whether to say so.
    pub(super) fn lost_silently(&mut self, now: Instant) -> bool {
        if self.losses.is_some_and(|last| now - last < PAUSE) {
            return false;
        }
        self.losses = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_reason_once_and_one_a_minute() {
        let start = Instant::now();
        let mut telling = Telling::default();
        let mut said = |reason: &str, after_s: u64| telling.ended(0, reason, start + Duration::from_secs(after_s));
        assert_eq!(said("closed", 0), Say::Lost);
        assert_eq!(said("refused", 1), Say::Nothing, "within the minute");
        assert_eq!(said("closed", 60), Say::Nothing, "known");
        assert_eq!(said("refused", 61), Say::Still);
        assert_eq!(said("password", 62), Say::Nothing);
        assert_eq!(said("password", 121), Say::Still);
        assert_eq!(said("refused", 300), Say::Nothing);
        for i in 0..20 {
            let expected = if i < MAX_REASONS - 3 { Say::Still } else { Say::Nothing };
            assert_eq!(said(&i.to_string(), 400 + 60 * i as u64), expected, "{i}");
        }
        assert_eq!(telling.established(0, start + PAUSE), Some(PAUSE));
        assert_eq!(telling.established(0, start + PAUSE), None);
        assert_eq!(telling.ended(0, "closed", start + PAUSE), Say::Lost, "another outage");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_one_of_all_partitions() {
        let now = Instant::now();
        let mut telling = Telling::default();
        assert_eq!([0, 1].map(|partition| telling.established(partition, now)), [None, None]);
        let said = [0, 1].map(|partition| telling.ended(partition, "closed", now));
        assert_eq!((said, telling.up()), ([Say::Lost, Say::Nothing], 0));
        assert_eq!(telling.established(1, now + PAUSE), None);
        assert_eq!((telling.established(0, now + PAUSE), telling.up()), (Some(PAUSE), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn losses_once_a_minute() {
        let start = Instant::now();
        let mut telling = Telling::default();
        let said = [0, 1, 59, 60, 61].map(|s| telling.lost_silently(start + Duration::from_secs(s)));
        assert_eq!(said, [true, false, false, true, false]);
    }
}
