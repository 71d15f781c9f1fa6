//! What is due when. Pure but for its view of the streams that opened: it must not send anything.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fleet::View;

/// An event that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Channel.
    pub(crate) key: u32,
    /// Stream number, in `tokens`.
    pub(crate) round: u32,
    /// Its number, in `tokens`; elsewhere each channel counts on.
    pub(crate) sequence: Option<u64>,
    /// The channel ends with it.
    pub(crate) last: bool,
    /// When, from the start.
    pub(crate) at: Duration,
}

/// The order of events and their times.
#[derive(Debug)]
pub(crate) enum Schedule {
    /// Events at a rate.
    Steady(Steady),
    /// Events for streams that open.
    Tokens(Tokens),
}

/// Events at a rate, over channels that take turns.
#[derive(Debug)]
pub(crate) struct Steady {
    /// Each event goes to the next list, and there to the next channel.
    lists: Vec<Vec<u32>>,
    /// Events per second, above 0.
    rate: f64,
    /// No event is due from then on,
    end: Option<Duration>,
    /// nor beyond so many.
    limit: u64,
    next: u64,
}

/// Some events for each stream, at a steady pace, the last of which ends it.
#[derive(Debug)]
pub(crate) struct Tokens {
    view: View,
    /// Events of one stream.
    count: u64,
    pace: Duration,
    /// By time: all have the same pace.
    streams: VecDeque<Due>,
}

/// How often is looked for streams that opened.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Steady {
    /// Each list takes turns, and within it each channel. With `once` every channel of all lists has one event.
    pub(crate) fn new(mut lists: Vec<Vec<u32>>, rate: f64, end: Option<Duration>, once: bool) -> Self {
        lists.retain(|list| !list.is_empty());
        let mut limit = u64::MAX;
        if once {
            lists = vec![lists.concat()];
            limit = lists[0].len() as u64;
        }
        if lists.iter().all(Vec::is_empty) {
            limit = 0;
        }
        Self { lists, rate, end, limit, next: 0 }
    }

    fn at(&self, number: u64) -> Option<Duration> {
        let at = Duration::try_from_secs_f64(number as f64 / self.rate).ok()?;
        (number < self.limit && self.end.is_none_or(|end| at < end)).then_some(at)
    }

    fn due(&self) -> Option<Due> {
        let at = self.at(self.next)?;
        let lists = self.lists.len() as u64;
        let list = &self.lists[(self.next % lists) as usize];
        let key = list[(self.next / lists % list.len() as u64) as usize];
        Some(Due { key, round: 0, sequence: None, last: false, at })
    }
}

impl Tokens {
    /// `count` events for each stream, over `life`.
    pub(crate) fn new(view: View, count: u64, life: Duration) -> Self {
        let steps = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        Self { view, count, pace: life / steps, streams: VecDeque::new() }
    }

    fn look(&mut self, now: Duration) {
        for (key, round) in self.view.take_ready() {
            let due = Due { key, round, sequence: Some(0), last: self.count == 1, at: now };
            // Those that wait are due within one pace: the new one is due before some of them.
            let place = self.streams.partition_point(|other| other.at <= now);
            self.streams.insert(place, due);
        }
    }
}

impl Schedule {
    /// Takes the next event, if it is due by `now`.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Due> {
        match self {
            Self::Steady(steady) => {
                let due = steady.due().filter(|due| due.at <= now)?;
                steady.next += 1;
                Some(due)
            }
            Self::Tokens(tokens) => {
                tokens.look(now);
                let due = *tokens.streams.front().filter(|due| due.at <= now)?;
                tokens.streams.pop_front();
                let next = due.sequence.unwrap_or_default() + 1;
                if next < tokens.count {
                    let at = due.at + tokens.pace;
                    let place = tokens.streams.partition_point(|other| other.at <= at);
                    tokens
                        .streams
                        .insert(place, Due { sequence: Some(next), last: next + 1 == tokens.count, at, ..due });
                }
                Some(due)
            }
        }
    }

    /// When to look again; `None` once nothing will ever be due.
    pub(crate) fn next_at(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Steady(steady) => steady.at(steady.next),
            Self::Tokens(tokens) => {
                let next = tokens.streams.front().map_or(Duration::MAX, |due| due.at);
                Some(next.min(now + LOOK_EVERY))
            }
        }
    }

    /// When the last event is due; `None` if that is not known.
    pub(crate) fn end(&self) -> Option<Duration> {
        match self {
            Self::Steady(steady) => steady.end.filter(|_| steady.limit == u64::MAX),
            Self::Tokens(_) => None,
        }
    }

    /// Events that are due by `now` and were not taken.
    pub(crate) fn behind(&self, now: Duration) -> u64 {
        let Self::Steady(steady) = self else { return 0 };
        let by = steady.end.map_or(now, |end| end.min(now));
        let due = (by.as_secs_f64() * steady.rate).ceil() as u64;
        due.min(steady.limit).saturating_sub(steady.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn all(schedule: &mut Schedule, now: Duration) -> Vec<(u32, u128)> {
        std::iter::from_fn(|| schedule.take(now)).map(|due| (due.key, due.at.as_millis())).collect()
    }

    #[test]
    fn events_are_due_at_the_rate_over_all_channels_up_to_the_end() {
        let mut schedule = Schedule::Steady(Steady::new(vec![vec![3, 4, 5]], 10.0, Some(ms(500)), false));
        assert_eq!(all(&mut schedule, ms(0)), [(3, 0)]);
        assert_eq!((schedule.next_at(ms(0)), schedule.end()), (Some(ms(100)), Some(ms(500))));
        assert_eq!(schedule.behind(ms(250)), 2);
        assert_eq!(all(&mut schedule, ms(9_000)), [(4, 100), (5, 200), (3, 300), (4, 400)]);
        assert_eq!((schedule.next_at(ms(9_000)), schedule.behind(ms(9_000))), (None, 0));
    }

    #[test]
    fn lists_take_turns_however_long_they_are() {
        let mut schedule = Schedule::Steady(Steady::new(vec![vec![0], vec![1, 2, 3]], 1_000.0, None, false));
        let keys: Vec<u32> = all(&mut schedule, ms(7)).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [0, 1, 0, 2, 0, 3, 0, 1]);
    }

    #[test]
    fn once_is_one_event_on_every_channel() {
        let mut schedule = Schedule::Steady(Steady::new(vec![vec![0, 1], vec![2]], 1_000.0, None, true));
        let keys: Vec<u32> = all(&mut schedule, ms(100)).into_iter().map(|(key, _)| key).collect();
        assert_eq!((keys, schedule.next_at(ms(1))), (vec![0, 1, 2], None));
        let mut nobody = Schedule::Steady(Steady::new(vec![vec![]], 10.0, None, false));
        assert_eq!((nobody.take(ms(100)), nobody.next_at(ms(1)), nobody.behind(ms(100))), (None, None, 0));
    }

    #[test]
    fn every_stream_has_its_events_at_its_pace_and_the_last_one_ends_it() {
        let view = View::of_ready([(7, 0)]);
        let mut schedule = Schedule::Tokens(Tokens::new(view.clone(), 3, ms(20)));
        assert_eq!(all(&mut schedule, ms(1)), [(7, 1)]);
        view.add_ready([(8, 5)]);
        assert_eq!(all(&mut schedule, ms(4)), [(8, 4)]);
        let rest: Vec<Due> = std::iter::from_fn(|| schedule.take(ms(100))).collect();
        let told: Vec<_> = rest.iter().map(|due| (due.key, due.round, due.sequence, due.last, due.at)).collect();
        assert_eq!(
            told,
            [
                (7, 0, Some(1), false, ms(11)),
                (8, 5, Some(1), false, ms(14)),
                (7, 0, Some(2), true, ms(21)),
                (8, 5, Some(2), true, ms(24))
            ]
        );
    }
}
