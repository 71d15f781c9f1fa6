//! What the log has been told, so that it speaks of each thing once and not for each try. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about the same matter.
const PAUSE: Duration = Duration::from_secs(60);
/// Reasons of one outage that are told.
const MAX_REASONS: usize = 8;

/// Lives across sessions.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// `None` while a session is established, and before the first.
    outage: Option<Outage>,
    /// When silent losses were told last.
    losses: Option<Instant>,
}

#[derive(Debug)]
struct Outage {
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
    /// A session ended, or did not begin. Each reason of one outage is told once, and one a minute at most.
    pub(super) fn ended(&mut self, reason: &str, now: Instant) -> Say {
        let Some(outage) = &mut self.outage else {
            self.outage = Some(Outage { since: now, last: now, reasons: vec![reason.to_owned()] });
            return Say::Lost;
        };
        let known = outage.reasons.len() == MAX_REASONS || outage.reasons.iter().any(|told| told == reason);
        if known || now - outage.last < PAUSE {
            return Say::Nothing;
        }
        outage.last = now;
        outage.reasons.push(reason.to_owned());
        Say::Still
    }

    /// A session is established. Returns for how long there was none, if that was told.
    pub(super) fn established(&mut self, now: Instant) -> Option<Duration> {
        self.outage.take().map(|outage| now - outage.since)
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
        let mut said = |reason: &str, after_s: u64| telling.ended(reason, start + Duration::from_secs(after_s));
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
        assert_eq!(telling.established(start + PAUSE), Some(PAUSE));
        assert_eq!(telling.established(start + PAUSE), None);
        assert_eq!(telling.ended("closed", start + PAUSE), Say::Lost, "another outage");
    }

    #[tokio::test(start_paused = true)]
    async fn losses_once_a_minute() {
        let start = Instant::now();
        let mut telling = Telling::default();
        let said = [0, 1, 59, 60, 61].map(|s| telling.lost_silently(start + Duration::from_secs(s)));
        assert_eq!(said, [true, false, false, true, false]);
    }
}
