//! The state machine without sockets and without a broker: the tests play the broker.

mod bytes;
mod epochs;
mod model;
mod reads;
mod resume;
mod size;
mod threads;
mod told;

use std::sync::Arc;
use std::time::Duration;

use shared::channel::Channel;
use shared::keys::Keys;
use shared::position::{Epoch, Position};
use tokio::time::Instant;

use super::*;
use crate::broker::{Interest, InterestQueue, Join, Message, Partition, Sink as _, Snapshot, Stamp};
use crate::hub::HubSettings;
use crate::hub::log::LogLimits;
use crate::metrics::{ConnectionMetrics, HubMetrics, Lane};

/// A hub whose broker is the test.
struct World {
    hub: Arc<Hub>,
    interest: InterestQueue,
    settings: Arc<ConnectionSettings>,
    keys: Keys,
    gate: Arc<Gate>,
    /// By partition: the clock, which is the position of the last event.
    clocks: Vec<Position>,
    /// Of the connection that is opened next.
    seed: u64,
}

impl World {
    fn new(partitions: u16) -> Self {
        Self::with(partitions, LogLimits::default(), None)
    }

    fn with(partitions: u16, log: LogLimits, heartbeat_event: Option<&str>) -> Self {
        let keys = Keys::new("sse", partitions).unwrap();
        let (hub, interest) = Hub::new(keys.clone(), HubSettings { log, ..HubSettings::default() }, HubMetrics::new());
        let clocks: Vec<_> = (0..partitions).map(|_| at(100)).collect();
        for partition in 0..partitions {
            hub.session(partition, &Epoch::from_bits(1), at(100));
        }
        let keep_alive =
            KeepAliveSettings { interval: Duration::from_secs(20), event: heartbeat_event.map(str::to_owned) };
        let settings =
            ConnectionSettings { node: "n1".into(), retry: Duration::from_secs(3), keep_alive, max_lifetime: None };
        Self { hub, interest, settings: Arc::new(settings), keys, gate: Gate::new(100), clocks, seed: 7 }
    }

    /// Attaches to `channels`, answers for the broker, and opens.
    fn open(&mut self, channels: &[&str], request: &Request) -> Connection {
        self.open_while(channels, request, |_| {})
    }

    /// The same, with something that happens between attaching and opening.
    fn open_while(&mut self, channels: &[&str], request: &Request, meanwhile: impl FnOnce(&mut Self)) -> Connection {
        self.open_by(&Arc::new(Wakeup::default()), channels, request, meanwhile)
    }

    /// The same for one that is woken by `wakeup`.
    fn open_by(
        &mut self,
        wakeup: &Arc<Wakeup>,
        channels: &[&str],
        request: &Request,
        meanwhile: impl FnOnce(&mut Self),
    ) -> Connection {
        let attached = channels.iter().map(|name| self.hub.attach(&channel(name), wakeup).unwrap()).collect();
        meanwhile(self);
        self.answer();
        let place = self.gate.enter().unwrap();
        let guard = || Guard::open(Arc::new(ConnectionMetrics::new(Lane::Hyper)), place);
        let rng = fastrand::Rng::with_seed(self.seed);
        Connection::open(&self.hub, &self.settings, wakeup, attached, request, guard, rng).unwrap()
    }

    /// The broker's answers to what the hub wants.
    fn answer(&mut self) {
        while let Ok(interest) = self.interest.try_recv() {
            if let Interest::Subscribe { channel, generation } = interest {
                let clock = self.clocks[usize::from(self.keys.partition(&channel))];
                self.hub.live(&channel, generation, snapshot(clock), Join::Anew);
            }
        }
    }

    /// Publishes a durable event. Returns its position.
    fn publish(&mut self, name: &str, payload: &str) -> Position {
        let channel = channel(name);
        let clock = &mut self.clocks[usize::from(self.keys.partition(&channel))];
        *clock = clock.advance(0);
        let stamp = Stamp { position: *clock, previous: Position::ZERO };
        let position = stamp.position;
        self.hub.message(Message { channel, payload: payload.to_owned().into(), stamp: Some(stamp) });
        position
    }

    fn ephemeral(&self, name: &str, payload: &str) {
        self.hub.message(Message { channel: channel(name), payload: payload.to_owned().into(), stamp: None });
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn at(ms: u64) -> Position {
    Position { ms, seq: 0 }
}

/// Everything that is to be written at `now`.
fn written(connection: &mut Connection, now: Instant) -> String {
    let mut out = Vec::new();
    while let Next::Write(pieces) = connection.next(now) {
        assert!(pieces.pieces().iter().all(|piece| !piece.is_empty()));
        out.extend_from_slice(&pieces.into_bytes());
    }
    String::from_utf8(out).unwrap()
}

fn snapshot(clock: Position) -> Snapshot {
    Snapshot { clock, time_ms: clock.ms, evicts: false, last: None, entries: Vec::new() }
}
