//! A sink that keeps of each channel what a hub would, and fails where a broker breaks its word.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use gateway::broker::{Entry, Join, Lost, Message, Partition, Seen, Sink, Snapshot};
use shared::channel::Channel;
use shared::continuity::Gap;
use shared::position::{Epoch, Position};

#[derive(Default)]
pub struct Ears(Mutex<State>);

#[derive(Default)]
struct State {
    channels: HashMap<Channel, Heard>,
    epoch: Option<Epoch>,
    /// Everything up to it was heard on every live channel.
    watermark: Position,
    sessions: usize,
    established: usize,
    /// There is no session.
    away: bool,
}

/// Of one life of a channel.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    generation: u64,
    pub live: bool,
    seen: Option<Seen>,
    /// What a connection would have been given: durable events, each once and in order.
    pub events: Vec<(Position, Bytes)>,
    /// Between SUBSCRIBE and live.
    held: Vec<Message>,
    pub joins: Vec<Joined>,
    pub stale: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    Anew,
    /// With so many entries.
    CaughtUp(usize),
    Hole(Gap),
}

impl Ears {
    pub fn heard(&self, channel: &Channel) -> Heard {
        self.0.lock().unwrap().channels.get(channel).cloned().unwrap_or_default()
    }

    pub fn positions(&self, channel: &Channel) -> Vec<Position> {
        self.heard(channel).events.iter().map(|(position, _)| *position).collect()
    }

    /// Events that were heard on all channels.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().channels.values().map(|heard| heard.events.len()).sum()
    }

    pub fn sessions(&self) -> usize {
        self.0.lock().unwrap().sessions
    }

    /// Sessions that were established.
    pub fn established(&self) -> usize {
        self.0.lock().unwrap().established
    }

    /// Whether there is no session.
    pub fn is_away(&self) -> bool {
        self.0.lock().unwrap().away
    }

    pub fn epoch(&self) -> Option<Epoch> {
        self.0.lock().unwrap().epoch.clone()
    }

    /// A channel is wanted, in this life.
    pub fn begin(&self, channel: &Channel, generation: u64) {
        let heard = Heard { generation, ..Heard::default() };
        self.0.lock().unwrap().channels.insert(channel.clone(), heard);
    }
}

impl Heard {
    fn take(&mut self, position: Position, previous: Position, payload: Bytes) {
        let seen = self.seen.as_mut().expect("a channel is live only after a snapshot");
        assert!(seen.last.is_none_or(|last| position > last), "{position} after {seen:?}");
        if seen.last.is_some() {
            assert_eq!(Some(previous), seen.last, "{position} follows on");
        }
        seen.last = Some(position);
        self.events.push((position, payload));
    }

    fn catch_up(&mut self, entries: Vec<Entry>) {
        for Entry { stamp, payload } in entries {
            self.take(stamp.position, stamp.previous, payload);
        }
    }
}

impl Sink for Ears {
    fn session(&self, _: Partition, epoch: &Epoch, clock: Position) {
        let mut state = self.0.lock().unwrap();
        state.sessions += 1;
        state.away = false;
        if state.epoch.replace(epoch.clone()).as_ref() != Some(epoch) || clock < state.watermark {
            state.channels.values_mut().for_each(|heard| heard.seen = None);
            state.watermark = clock;
        }
        assert!(state.channels.values().all(|heard| !heard.live), "the last session was told to be lost");
    }

    fn seen(&self, channel: &Channel, generation: u64) -> Option<Seen> {
        let state = self.0.lock().unwrap();
        let heard = state.channels.get(channel).filter(|heard| heard.generation == generation)?;
        let seen = heard.seen?;
        Some(if heard.live { Seen { complete: seen.complete.max(state.watermark), ..seen } } else { seen })
    }

    fn live(&self, channel: &Channel, generation: u64, snapshot: Snapshot, join: Join) {
        let mut state = self.0.lock().unwrap();
        assert!(snapshot.clock <= state.watermark, "its own barrier was heard");
        let Some(heard) = state.channels.get_mut(channel).filter(|heard| heard.generation == generation) else {
            return;
        };
        assert!(!heard.live, "{channel} twice");
        let (clock, last) = (snapshot.clock, snapshot.last.map(|last| last.position));
        let count = snapshot.entries.len();
        match join {
            Join::Anew => {
                assert_eq!(heard.seen, None);
                heard.joins.push(Joined::Anew);
            }
            Join::CaughtUp => {
                heard.catch_up(snapshot.entries);
                heard.joins.push(Joined::CaughtUp(count));
                let seen = heard.seen.unwrap();
                assert!(last.is_none() || seen.last == last, "{channel}: {seen:?}, last {last:?}");
            }
            Join::Hole(gap) => {
                assert_eq!(count, 0);
                heard.joins.push(Joined::Hole(gap));
            }
        }
        heard.seen = Some(Seen { last, complete: clock });
        heard.live = true;
        for message in std::mem::take(&mut heard.held) {
            let stamp = message.stamp.unwrap();
            if stamp.position > clock {
                heard.take(stamp.position, stamp.previous, message.payload);
            }
        }
    }

    fn stale(&self, channel: &Channel, generation: u64) {
        let mut state = self.0.lock().unwrap();
        let watermark = state.watermark;
        let Some(heard) = state.channels.get_mut(channel).filter(|heard| heard.generation == generation) else {
            return;
        };
        assert!(heard.live);
        heard.live = false;
        heard.stale += 1;
        // It is complete only as far as its last event goes.
        if let Some(seen) = &mut heard.seen {
            seen.complete = seen.last.unwrap_or(seen.complete).max(seen.complete);
            assert!(seen.complete <= watermark);
        }
    }

    fn message(&self, message: Message) {
        let mut state = self.0.lock().unwrap();
        let Some(stamp) = message.stamp else { return };
        state.watermark = state.watermark.max(stamp.position);
        let Some(heard) = state.channels.get_mut(&message.channel) else { return };
        if heard.live { heard.take(stamp.position, stamp.previous, message.payload) } else { heard.held.push(message) }
    }

    fn lost(&self, _: Partition, _: Lost) {
        let mut state = self.0.lock().unwrap();
        state.away = true;
        let watermark = state.watermark;
        for heard in state.channels.values_mut() {
            heard.held.clear();
            if std::mem::take(&mut heard.live)
                && let Some(seen) = &mut heard.seen
            {
                seen.complete = seen.complete.max(watermark);
            }
        }
    }

    fn established(&self, _: Partition) {
        let mut state = self.0.lock().unwrap();
        assert!(state.channels.values().all(|heard| heard.live), "everything that was wanted is live");
        state.established += 1;
    }

    fn barrier(&self, _: Partition, position: Position) {
        let mut state = self.0.lock().unwrap();
        state.watermark = state.watermark.max(position);
    }
}
