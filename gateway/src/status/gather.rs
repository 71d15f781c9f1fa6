//! The task that looks at the node once a second, keeps what it saw, and tells those who watch. It runs on the operator port's own thread, from
//! before the broker is reached until the process ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use publisher::census::Seen;
use shared::census::Doing;
use shared::channel::Channel;
use shared::event::Event;
use shared::event_stream::encode;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::changes::{BrokerState, Changes};
use super::feed::Feed;
use super::log::Now;
use super::ring::{Point, Ring, STEP, tenths};
use super::roll::{Known, Roll};
use super::sample::{Rates, Sample, risen};
use super::text::{self, seconds};
use crate::connection::Gate;
use crate::hub::Hub;
use crate::shutdown::Lifecycle;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A rate over less than that says nothing.
const SHORTEST: Duration = Duration::from_millis(500);
/// Nodes that are shown.
const MOST_NODES: usize = 500;
/// An older list of nodes says nothing of how many connections there are in all.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// The name of the events.
const EVENT: &str = "status";

/// Where figures come from. Made by the app.
pub struct Sources {
    /// Name of this node.
    pub node: String,
    /// Where Redis is, without its password; `None` on the embedded broker.
    pub redis: Option<String>,
    /// Open connections at most.
    pub max_connections: usize,
    /// From the signal to the end, at most.
    pub drain_deadline: Duration,
    /// Knows the channels, and how the broker is doing.
    pub hub: Arc<Hub>,
    /// Knows how many connections are open.
    pub gate: Arc<Gate>,
    /// Whether the node is stopping.
    pub lifecycle: Arc<Lifecycle>,
    /// Which other nodes there are.
    pub roll: Arc<Roll>,
    /// The metrics, in the Prometheus text format.
    pub metrics: Box<dyn Fn() -> String + Send>,
    /// `ready`, or why the node is not.
    pub state: Box<dyn Fn() -> &'static str + Send>,
}

/// Gathers for those who watch `feed`, for ever.
pub async fn gather(sources: Sources, feed: Arc<Feed>) {
    let mut begun = feed.begun();
    let mut gathered = Gathered::new(sources, now());
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = begun.changed() => if changed.is_err() { return },
        }
        let (now, watched) = (now(), feed.is_watched());
        gathered.look(now, watched);
        if watched && let Some(text) = gathered.text(now) {
            feed.tell(text);
        }
    }
}

/// What was seen. Owned by the task.
struct Gathered {
    sources: Sources,
    begun: Now,
    changes: Changes,
    /// How the broker was at the last look.
    broker: BrokerState,
    ring: Ring,
    /// The last reading of the metrics.
    sample: Sample,
    /// The last one that rates were made from.
    rated: (Instant, Sample),
    /// Those of the last two steps, the older first: what is measured over seconds is since the older one.
    steps: [(Instant, Sample); 2],
    rates: Rates,
    /// What was known of the nodes when it was last looked at.
    roll: Known,
    draining: Option<Instant>,
    top: Vec<(Channel, usize)>,
}

impl Gathered {
    fn new(sources: Sources, now: Now) -> Self {
        let sample = Sample::parse(&(sources.metrics)());
        let read = (now.instant, sample.clone());
        Self {
            begun: now,
            changes: Changes::new(now),
            broker: BrokerState::Starting,
            ring: Ring::default(),
            sample,
            steps: [read.clone(), read.clone()],
            rated: read,
            rates: Rates::default(),
            roll: Known::default(),
            draining: None,
            top: Vec::new(),
            sources,
        }
    }

    fn look(&mut self, now: Now, watched: bool) {
        if self.sources.lifecycle.is_draining() {
            self.draining.get_or_insert(now.instant);
            self.changes.drains(now);
        }
        self.look_at_broker(now);
        let since_step = now.instant.saturating_duration_since(self.steps[1].0);
        // Looks are about a second apart, rather than exactly.
        let is_step = since_step >= STEP - EVERY / 2;
        // A change of Redis asks for a reading, since the metrics say why.
        let is_news = self.sources.redis.is_some() && self.changes.is_news(self.broker);
        if watched || is_step || is_news {
            self.read(now);
        }
        if is_step {
            self.step(now, since_step);
        }
        self.look_at_nodes(now);
        if watched {
            self.top = self.sources.hub.busiest();
        }
    }

    fn look_at_broker(&mut self, now: Now) {
        self.broker = BrokerState::of(self.sources.hub.health(now.instant));
    }

    /// Reads the metrics.
    fn read(&mut self, now: Now) {
        let sample = Sample::parse(&(self.sources.metrics)());
        // Only behind them: of a session that they count as ended, the hub was told before, so one that is there is another one.
        self.look_at_broker(now);
        if self.sources.redis.is_some() {
            let ended = risen(&self.sample.sessions_ended, &sample.sessions_ended);
            self.changes.broker(now, self.broker, &ended);
        }
        self.changes.counted(now, &self.sample, &sample);
        let (at, rated) = &self.rated;
        let time = now.instant.saturating_duration_since(*at);
        if time >= SHORTEST {
            self.rates = sample.rates(rated, time);
            self.rated = (now.instant, sample.clone());
        }
        self.sample = sample;
    }

    /// Keeps a point, `time` behind the last.
    fn step(&mut self, now: Now, time: Duration) {
        let (sample, (_, last)) = (self.sample.clone(), &self.steps[1]);
        let rates = sample.rates(last, time);
        let (p50, p99) = sample.latency(last);
        let point = Point {
            own: Some(self.sources.gate.open() as u64),
            all: self.all(now),
            received: Some(rates.received),
            delivered: Some(rates.delivered),
            p50,
            p99,
        };
        let steps = (time + STEP / 2).as_secs() / STEP.as_secs();
        self.ring.push(usize::try_from(steps.saturating_sub(1)).unwrap_or(usize::MAX), point);
        self.steps.swap(0, 1);
        self.steps[1] = (now.instant, sample);
    }

    fn look_at_nodes(&mut self, now: Now) {
        let known = self.sources.roll.known();
        if known.version == self.roll.version {
            return;
        }
        match &known.error {
            Some(error) => self.changes.cannot_ask(now, error),
            None => self.changes.nodes(now, &known.others().collect::<Vec<_>>()),
        }
        self.roll = known;
    }

    /// Connections of all nodes: the others' as they said, this one's as they are.
    fn all(&self, now: Now) -> Option<u64> {
        let at = self.roll.at?;
        if now.instant.saturating_duration_since(at) > KNOWN_FOR {
            return None;
        }
        let others: u64 = self.roll.others().map(|seen| seen.node.beat.connections).sum();
        Some(others.saturating_add(self.sources.gate.open() as u64))
    }

    /// As it goes to sockets. `None` where it cannot be written, which is not known to happen.
    fn text(&self, now: Now) -> Option<Bytes> {
        let status = serde_json::to_string(&self.status(now)).ok()?;
        let event = Event::default().with_event(EVENT).ok()?.with_data(status);
        let mut bytes = Vec::new();
        encode::event(&mut bytes, &event);
        Some(bytes.into())
    }

    fn status(&self, now: Now) -> text::Status<'_> {
        let Sources { node, redis, max_connections, drain_deadline, hub, gate, .. } = &self.sources;
        let ago = |at: Instant| now.instant.saturating_duration_since(at);
        let (p50, p99) = self.sample.latency(&self.steps[0].1);
        let stopping = |at| text::Stopping { time: seconds(ago(at)), deadline: seconds(*drain_deadline) };
        text::Status {
            now: now.unix,
            node,
            version: env!("CARGO_PKG_VERSION"),
            started: self.begun.unix,
            up: seconds(ago(self.begun.instant)),
            state: (self.sources.state)(),
            stopping: self.draining.map(stopping),
            broker: text::Broker {
                kind: if redis.is_some() { "redis" } else { "embedded" },
                address: redis.as_deref(),
                state: self.broker,
                time: seconds(self.changes.broker_for(now)),
                heard: hub.barrier_age(now.instant).map(seconds),
            },
            connections: gate.open(),
            max_connections: *max_connections,
            lanes: &self.sample.lanes,
            channels: hub.channels(),
            all: self.all(now),
            rates: text::Rates {
                received: tenths(self.rates.received),
                delivered: tenths(self.rates.delivered),
                opened: tenths(self.rates.opened),
                closed: tenths(self.rates.closed),
            },
            latency: text::Latency { p50: p50.map(tenths), p99: p99.map(tenths) },
            nodes: self.nodes(now),
            more_nodes: self.roll.others().count().saturating_sub(MOST_NODES - 1),
            census: text::Census { age: self.roll.at.map(ago).map(seconds), error: self.roll.error.as_deref() },
            top: self
                .top
                .iter()
                .map(|(channel, connections)| text::Channel { channel: channel.as_str(), connections: *connections })
                .collect(),
            history: text::History { age: seconds(ago(self.steps[1].0)), columns: self.ring.columns() },
            log: self.changes.log.newest_first().collect(),
        }
    }

    /// This one first, then the others by name.
    fn nodes(&self, now: Now) -> Vec<text::Node<'_>> {
        let listed = self.roll.at.map(|at| now.instant.saturating_duration_since(at)).unwrap_or_default();
        let age = |seen: &Seen| Some(seconds(seen.age + listed));
        let own = self.roll.nodes.iter().find(|seen| self.roll.is_own(seen));
        let own = text::Node {
            life: self.roll.own.as_deref().unwrap_or_default(),
            name: &self.sources.node,
            own: true,
            state: if self.draining.is_some() { Doing::Draining } else { Doing::Serving },
            connections: self.sources.gate.open() as u64,
            channels: self.sources.hub.channels() as u64,
            version: env!("CARGO_PKG_VERSION"),
            started: self.begun.unix,
            age: own.and_then(age),
        };
        let others = self.roll.others().take(MOST_NODES - 1).map(|seen| {
            let beat = &seen.node.beat;
            text::Node {
                life: &seen.node.incarnation,
                name: &beat.node,
                own: false,
                state: beat.state,
                connections: beat.connections,
                channels: beat.channels,
                version: &beat.version,
                started: beat.started,
                age: age(seen),
            }
        });
        std::iter::once(own).chain(others).collect()
    }
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests;
