//! What is other than at the last look, put into words for the log. It sees figures, never what happens in between, so that noticing a change
//! costs nobody anything; a session that was lost and is back before the next look shows by its counter.

use std::collections::BTreeMap;
use std::time::Duration;

use publisher::census::{BEAT_TTL, Seen};
use shared::census::Doing;
use tokio::time::Instant;

use super::log::{About, Log, Now, Tone};
use super::sample::{Counts, Sample, risen};
use crate::hub::Health;

/// Nodes that are named at a time; of more it is said how many.
const NAMED: usize = 8;
/// Idle sockets come to their end all the time.
const NO_CHANGE: &str = "head_timeout";

/// How the broker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BrokerState {
    /// Not heard yet.
    Starting,
    /// There is a session.
    Up,
    /// There is none.
    Away,
    /// The node does not hear itself.
    Deaf,
}

impl BrokerState {
    pub(super) fn of(health: Health) -> Self {
        match health {
            Health::Starting => Self::Starting,
            Health::Heard(_) => Self::Up,
            Health::Away(_) => Self::Away,
            Health::Deaf => Self::Deaf,
        }
    }
}

/// What was seen last, and the log. Written by `gather` alone.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) log: Log,
    broker: BrokerState,
    /// Since when the broker is as it is.
    since: Instant,
    /// It was away before that: not everybody has said since that it is there.
    was_away: bool,
    is_draining: bool,
    /// By the name of its life; `None` before the first list.
    nodes: Option<BTreeMap<String, (String, Doing)>>,
    /// It was said that nodes cannot be asked for.
    cannot_ask: bool,
}

impl Changes {
    pub(super) fn new(now: Now) -> Self {
        let mut log = Log::default();
        let started = format!("this node has started, version {}", env!("CARGO_PKG_VERSION"));
        log.add(now, About::Node, Tone::Plain, started);
        Self {
            log,
            broker: BrokerState::Starting,
            since: now.instant,
            was_away: false,
            is_draining: false,
            nodes: None,
            cannot_ask: false,
        }
    }

    /// Whether the broker is otherwise than it was.
    pub(super) fn is_news(&self, broker: BrokerState) -> bool {
        self.broker != broker
    }

    pub(super) fn drains(&mut self, now: Now) {
        if !std::mem::replace(&mut self.is_draining, true) {
            self.log.add(now, About::Node, Tone::Warning, "this node is stopping; its streams go elsewhere");
        }
    }

    /// `ended`: sessions that ended since the last reading, by reason.
    pub(super) fn broker(&mut self, now: Now, state: BrokerState, ended: &Counts) {
        let before = std::mem::replace(&mut self.broker, state);
        let lasted = now.instant.saturating_duration_since(self.since);
        if before != state {
            (self.since, self.was_away) = (now.instant, before != BrokerState::Starting);
        }
        let (tone, text) = match (before, state) {
            (BrokerState::Up, BrokerState::Up) if ended.is_empty() => return,
            (BrokerState::Up, BrokerState::Up) => {
                (Tone::Warning, format!("the session with Redis was lost and is established again: {}", why(ended)))
            }
            (BrokerState::Starting, BrokerState::Up) => (Tone::Good, "a session with Redis is established".to_owned()),
            (_, BrokerState::Up) => {
                (Tone::Good, format!("the session with Redis is established again, after {}", seconds(lasted)))
            }
            (before, state) if before == state => return,
            (_, BrokerState::Deaf) => {
                (Tone::Bad, "Redis takes what this node says, and the node does not hear it".to_owned())
            }
            (_, BrokerState::Away) => (Tone::Bad, format!("the session with Redis is lost: {}", why(ended))),
            (_, BrokerState::Starting) => return,
        };
        self.log.add(now, About::Redis, tone, text);
    }

    /// What was counted between two readings.
    pub(super) fn counted(&mut self, now: Now, before: &Sample, after: &Sample) {
        self.log.count(now, About::Gaps, Tone::Warning, risen(&before.gaps, &after.gaps), say_gaps);
        let mut limited = risen(&before.limited, &after.limited);
        limited.remove(NO_CHANGE);
        self.log.count(now, About::Limits, Tone::Warning, limited, say_limits);
        let lost = after.silent_losses.saturating_sub(before.silent_losses);
        let lost = if lost > 0 { Counts::from([(String::new(), lost)]) } else { Counts::new() };
        self.log.count(now, About::Redis, Tone::Bad, lost, say_losses);
    }

    /// Which nodes there are, without this one. While Redis is away, and shortly after, the list says nothing: whoever is not on it may
    /// not have been able to say that it is there. One from which Redis has lost somebody is none that comes here: see `roll`.
    pub(super) fn nodes(&mut self, now: Now, others: &[&Seen]) {
        let is_settled = !self.was_away || now.instant.saturating_duration_since(self.since) > BEAT_TTL;
        if self.broker != BrokerState::Up || !is_settled {
            return;
        }
        if std::mem::take(&mut self.cannot_ask) {
            self.log.add(now, About::Nodes, Tone::Good, "Redis says again which nodes there are");
        }
        let there = others.iter().map(|seen| {
            let beat = &seen.node.beat;
            (seen.node.incarnation.clone(), (beat.node.clone(), beat.state))
        });
        let there: BTreeMap<_, _> = there.collect();
        let Some(before) = self.nodes.replace(there.clone()) else { return };
        let gone: Vec<_> = before.iter().filter(|(life, _)| !there.contains_key(*life)).map(|(_, node)| node).collect();
        let came: Vec<_> = there.iter().filter(|(life, _)| !before.contains_key(*life)).map(|(_, node)| node).collect();
        self.gone(now, &gone);
        self.came(now, &came);
        for (life, (name, state)) in &there {
            let was = before.get(life).map(|(_, state)| *state);
            if *state == Doing::Draining && was.is_some_and(|was| was != Doing::Draining) {
                self.log.add(now, About::Nodes, Tone::Plain, format!("{name} is stopping"));
            }
        }
    }

    fn gone(&mut self, now: Now, gone: &[&(String, Doing)]) {
        if gone.len() > NAMED {
            return self.log.add(now, About::Nodes, Tone::Bad, format!("{} nodes are gone", gone.len()));
        }
        for (name, state) in gone {
            let (tone, text) = match state {
                Doing::Draining => (Tone::Plain, format!("{name} has stopped")),
                Doing::Serving | Doing::Unknown => {
                    (Tone::Bad, format!("{name} is gone; it did not say that it was stopping"))
                }
            };
            self.log.add(now, About::Nodes, tone, text);
        }
    }

    fn came(&mut self, now: Now, came: &[&(String, Doing)]) {
        if came.len() > NAMED {
            return self.log.add(now, About::Nodes, Tone::Good, format!("{} nodes came", came.len()));
        }
        for (name, _) in came {
            self.log.add(now, About::Nodes, Tone::Good, format!("{name} came"));
        }
    }

    /// Redis is there, and does not say which nodes there are.
    pub(super) fn cannot_ask(&mut self, now: Now, reason: &str) {
        if self.broker == BrokerState::Up && !std::mem::replace(&mut self.cannot_ask, true) {
            let text = format!("Redis does not say which nodes there are: {reason}");
            self.log.add(now, About::Nodes, Tone::Bad, text);
        }
    }

    /// For how long the broker has been as it is.
    pub(super) fn broker_for(&self, now: Now) -> Duration {
        now.instant.saturating_duration_since(self.since)
    }
}

fn why(ended: &Counts) -> String {
    let words = |reason: &String| match reason.as_str() {
        "closed" => "Redis closed the connection",
        "failed" => "a call failed or was not answered in time",
        "deaf" => "the node did not hear itself",
        "epoch" => "the data have begun another life",
        "order" => "a position came out of order",
        "protocol" => "something came that is no message of Redis",
        _ => "for a reason that has no words yet",
    };
    let reasons: Vec<_> = ended.keys().map(words).collect();
    if reasons.is_empty() { "the log of the process says why".to_owned() } else { reasons.join("; ") }
}

fn seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs().max(1))).to_string()
}

fn say_gaps(counts: &Counts) -> String {
    let all: u64 = counts.values().sum();
    format!("{all} {} told to streams: {}", if all == 1 { "gap" } else { "gaps" }, list(counts, |reason| reason))
}

fn say_limits(counts: &Counts) -> String {
    let all: u64 = counts.values().sum();
    format!("{all} {} beyond a limit: {}", if all == 1 { "was" } else { "were" }, list(counts, setting))
}

fn setting(limit: &str) -> &str {
    match limit {
        "connections" => "limits.max_connections",
        "address" => "limits.max_connections_per_address",
        "user" => "limits.max_connections_per_user",
        "connects" => "limits.connects_per_second",
        "channels" => "limits.max_channels",
        "head" => "limits.max_head",
        other => other,
    }
}

fn say_losses(counts: &Counts) -> String {
    let all: u64 = counts.values().sum();
    format!("messages of a channel had not arrived, {all} times; they are read from history")
}

fn list(counts: &Counts, word: impl Fn(&str) -> &str) -> String {
    let parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {}", word(reason))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests;
