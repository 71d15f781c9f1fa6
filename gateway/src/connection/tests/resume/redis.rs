//! The primary of one partition as `sse.lua` makes it: histories, last positions, a clock, and one FIFO for each node that
//! listens. It knows nothing of hubs or streams.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shared::channel::Channel;
use shared::keys::Keys;
use shared::position::{Epoch, Position};

use crate::broker::{Between, Entry, Last, Snapshot, Stamp};

/// As in `sse.lua`.
const HISTORY_TTL_MS: u64 = 3_600_000;
const LAST_TTL_MS: u64 = 7 * 24 * 3_600_000;
const MAX_CLOCK_AGE_MS: u64 = 60_000;

/// What lies in a node's FIFO.
#[derive(Debug)]
pub(super) enum Pushed {
    Message { name: String, bytes: Vec<u8> },
    Subscribed,
}

/// The two connections of one session.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// On what it hears itself.
    node: String,
    names: BTreeSet<String>,
    pub(super) queue: VecDeque<Pushed>,
    /// Of the connection that listens.
    pub(super) open: bool,
    /// Of the connection for commands.
    pub(super) commands: bool,
    /// It looks alive, and nothing arrives.
    pub(super) mute: bool,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    at: Position,
    epoch: u64,
    replid: u64,
}

#[derive(Debug, Clone, Default)]
struct Stream {
    entries: VecDeque<Entry>,
    expires: u64,
}

/// Everything that a copy of the server has.
#[derive(Debug, Clone, Default)]
struct Data {
    clock: Option<Clock>,
    streams: BTreeMap<Channel, Stream>,
    lasts: BTreeMap<Channel, (Last, u64)>,
}

/// What the clock function answers.
#[derive(Debug, Clone)]
pub(super) struct Now {
    pub(super) at: Position,
    pub(super) epoch: Epoch,
    pub(super) time_ms: u64,
}

pub(super) struct Primary {
    keys: Keys,
    pub(super) time_ms: u64,
    pub(super) evicts: bool,
    history: usize,
    replid: u64,
    epochs: u64,
    data: Data,
    /// What a replica has.
    copy: Data,
    pub(super) lines: BTreeMap<u64, Line>,
    next_line: u64,
    /// Something left before a reader could be sure to have it.
    pub(super) forgot: bool,
    /// A last position, before its event was sure to have been compared with what nodes have heard.
    pub(super) forgot_last: bool,
}

impl Primary {
    pub(super) fn new(keys: &Keys, partition: u64, history: usize, evicts: bool) -> Self {
        Self {
            keys: keys.clone(),
            time_ms: 1_800_000_000_000,
            evicts,
            history,
            replid: 1,
            epochs: 1_000 * partition,
            data: Data::default(),
            copy: Data::default(),
            lines: BTreeMap::new(),
            next_line: 1,
            forgot: false,
            forgot_last: false,
        }
    }

    pub(super) fn connect(&mut self, node: &str) -> u64 {
        let number = self.next_line;
        self.next_line += 1;
        let line = Line { node: node.to_owned(), open: true, commands: true, ..Line::default() };
        self.lines.insert(number, line);
        number
    }

    pub(super) fn subscribe(&mut self, line: u64, channels: &[(Channel, u64)]) {
        let Some(line) = self.lines.get_mut(&line).filter(|line| line.open) else { return };
        line.names.extend(channels.iter().map(|(channel, _)| self.keys.channel(channel)));
        line.queue.push_back(Pushed::Subscribed);
    }

    pub(super) fn unsubscribe(&mut self, line: u64, names: &[String]) {
        if let Some(line) = self.lines.get_mut(&line) {
            names.iter().for_each(|name| _ = line.names.remove(name));
        }
    }

    pub(super) fn listens(&self, line: u64, channel: &Channel) -> bool {
        let name = self.keys.channel(channel);
        self.lines.get(&line).is_some_and(|line| line.open && !line.mute && line.names.contains(&name))
    }

    fn send(&mut self, name: &str, bytes: &[u8], except: Option<u64>) {
        for (number, line) in &mut self.lines {
            let hears = line.open && !line.mute && (line.names.contains(name) || line.node == name);
            if hears && except != Some(*number) {
                line.queue.push_back(Pushed::Message { name: name.to_owned(), bytes: bytes.to_vec() });
            }
        }
    }

    fn new_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    /// The clock, which the line hears.
    pub(super) fn clock(&mut self, line: Option<u64>) -> Now {
        let clock = match self.data.clock {
            Some(clock) if clock.replid == self.replid => {
                let old = self.time_ms.saturating_sub(clock.at.ms) > MAX_CLOCK_AGE_MS;
                let at = if old { Position { ms: self.time_ms, seq: 0 } } else { clock.at };
                Clock { at, ..clock }
            }
            other => {
                let at = other.map_or(Position::ZERO, |clock| clock.at).advance(self.time_ms);
                Clock { at, epoch: self.new_epoch(), replid: self.replid }
            }
        };
        self.data.clock = Some(clock);
        let epoch = Epoch::from_bits(clock.epoch);
        if let Some(node) = line.and_then(|line| self.lines.get(&line)).map(|line| line.node.clone()) {
            let text = format!("{} {epoch} {}", clock.at, clock.replid);
            self.send(&node, text.as_bytes(), None);
        }
        Now { at: clock.at, epoch, time_ms: self.time_ms }
    }

    pub(super) fn ephemeral(&mut self, channel: &Channel, payload: &str) {
        let name = self.keys.channel(channel);
        self.send(&name, payload.as_bytes(), None);
    }

    /// Publishes; the message does not arrive at `lost`.
    pub(super) fn publish(&mut self, channel: &Channel, payload: &str, ended: bool, lost: Option<u64>) -> Position {
        self.expire();
        let clock = match self.data.clock {
            Some(clock) => clock,
            None => Clock { at: Position { ms: self.time_ms, seq: 0 }, epoch: self.new_epoch(), replid: self.replid },
        };
        let mut previous = self.data.lasts.get(channel).map_or(Position::ZERO, |(last, _)| last.position);
        let top = self.data.streams.get(channel).and_then(|stream| stream.entries.back());
        previous = top.map_or(previous, |top| previous.max(top.stamp.position));
        let position = clock.at.max(previous).advance(self.time_ms);
        let stream = self.data.streams.entry(channel.clone()).or_default();
        stream.entries.push_back(Entry { stamp: Stamp { position, previous }, payload: payload.to_owned().into() });
        if stream.entries.len() > self.history {
            stream.entries.pop_front();
            self.forgot = true;
        }
        stream.expires = stream.expires.max(self.time_ms + HISTORY_TTL_MS);
        let expires = (self.time_ms + LAST_TTL_MS).max(stream.expires);
        self.data.lasts.insert(channel.clone(), (Last { position, ended }, expires));
        self.data.clock = Some(Clock { at: position, ..clock });
        let name = self.keys.channel(channel);
        let message = format!("\u{1e}{position} {previous} {}\n{payload}", Epoch::from_bits(clock.epoch));
        self.send(&name, message.as_bytes(), lost);
        position
    }

    /// What is read of a channel in one step.
    pub(super) fn read(&mut self, line: u64, channel: &Channel, between: Between, limit: usize) -> (Snapshot, Epoch) {
        let now = self.clock(Some(line));
        self.expire();
        let inside = |entry: &&Entry| {
            let at = entry.stamp.position;
            at > between.after && between.before.is_none_or(|before| at < before)
        };
        let entries = self.data.streams.get(channel).map(|stream| &stream.entries);
        let newest = entries.into_iter().flatten().rev().filter(inside).take(limit);
        let mut entries: Vec<Entry> = newest.cloned().collect();
        entries.reverse();
        let last = self.last(channel);
        (Snapshot { clock: now.at, time_ms: now.time_ms, evicts: self.evicts, last, entries }, now.epoch)
    }

    pub(super) fn last(&self, channel: &Channel) -> Option<Last> {
        self.data.lasts.get(channel).map(|(last, _)| *last)
    }

    pub(super) fn expire(&mut self) {
        let before = (self.data.streams.len(), self.data.lasts.len());
        let now = self.time_ms;
        self.data.streams.retain(|_, stream| stream.expires > now);
        self.data.lasts.retain(|_, (_, expires)| *expires > now);
        self.forgot_last |= before.1 != self.data.lasts.len();
        self.forgot |= before != (self.data.streams.len(), self.data.lasts.len());
    }

    /// Memory is short.
    pub(super) fn evict(&mut self, channel: &Channel, last: bool) {
        if self.evicts {
            self.forgot = true;
            self.forgot_last |= last;
            match last {
                true => _ = self.data.lasts.remove(channel),
                false => _ = self.data.streams.remove(channel),
            }
        }
    }

    /// Somebody takes an entry out of a history by hand, though not the last one: where that is forgotten too, nobody could know.
    pub(super) fn delete(&mut self, channel: &Channel, which: usize) {
        if let Some(Stream { entries, .. }) = self.data.streams.get_mut(channel)
            && entries.len() > 1
        {
            let _ = entries.remove(which % (entries.len() - 1));
            self.forgot = true;
        }
    }

    /// A replica has everything up to now.
    pub(super) fn replicate(&mut self) {
        self.copy = self.data.clone();
    }

    /// Another server takes over, with what the replica has, or with nothing.
    pub(super) fn replace(&mut self, empty: bool, skew_ms: i64) {
        self.data = if empty { Data::default() } else { self.copy.clone() };
        self.replid += 1;
        self.time_ms = self.time_ms.saturating_add_signed(skew_ms);
        self.forgot = true;
        self.lines.values_mut().for_each(|line| (line.open, line.commands) = (false, false));
    }

    /// Everything is deleted, under open sessions.
    pub(super) fn flush(&mut self) {
        self.data = Data::default();
        self.forgot = true;
    }
}
