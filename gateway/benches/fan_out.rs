//! An event from the hub to the bytes of its connections, without sockets: this plays the broker and the lane.
//!
//! `cargo bench -p gateway`; a name behind `--` runs some of it.
#![allow(clippy::unwrap_used)] // what fails here is to fail the bench

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use gateway::broker::{Interest, InterestQueue, Join, Message, Sink as _, Snapshot, Stamp};
use gateway::connection::{Connection, ConnectionSettings, Gate, Guard, KeepAliveSettings, Next, Request, Resume};
use gateway::hub::{Hub, HubSettings, Wakeup};
use gateway::metrics::{ConnectionMetrics, HubMetrics, Lane};
use shared::channel::Channel;
use shared::cursor::Cursor;
use shared::keys::Keys;
use shared::position::{Epoch, Position};
use tokio::time::Instant;

const START: Position = Position { ms: 100, seq: 0 };
/// Events that a connection which comes back has missed.
const MISSED: u64 = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    message(&mut criterion);
    next(&mut criterion);
    replay(&mut criterion);
    criterion.final_summary();
}

/// One channel of a hub.
struct World {
    hub: Arc<Hub>,
    interest: InterestQueue,
    channel: Channel,
    settings: Arc<ConnectionSettings>,
    metrics: Arc<ConnectionMetrics>,
    gate: Arc<Gate>,
    last: Position,
}

impl World {
    fn new() -> Self {
        let (hub, interest) = Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new());
        hub.session(0, &Epoch::from_bits(1), START);
        let keep_alive = KeepAliveSettings { interval: Duration::from_secs(20), event: None };
        let settings =
            ConnectionSettings { node: "n1".into(), retry: Duration::from_secs(3), keep_alive, max_lifetime: None };
        let channel = Channel::parse("bench").unwrap();
        let metrics = Arc::new(ConnectionMetrics::new(Lane::Hyper));
        Self { hub, interest, channel, settings: Arc::new(settings), metrics, gate: Gate::new(100_000), last: START }
    }

    /// A connection, written up to the present.
    fn open(&mut self) -> Connection {
        let mut connection = self.resume(Resume::Now);
        write(&mut connection);
        connection
    }

    fn resume(&mut self, resume: Resume) -> Connection {
        let wakeup = Arc::new(Wakeup::default());
        let subscription = self.hub.attach(&self.channel, &wakeup).unwrap();
        while let Ok(interest) = self.interest.try_recv() {
            if let Interest::Subscribe { channel, generation } = interest {
                let snapshot =
                    Snapshot { clock: self.last, time_ms: 0, evicts: false, last: None, entries: Vec::new() };
                self.hub.live(&channel, generation, snapshot, Join::Anew);
            }
        }
        let place = self.gate.enter().unwrap();
        let request = Request { resume, ..Request::default() };
        let guard = || Guard::open(self.metrics.clone(), place);
        let rng = fastrand::Rng::with_seed(7);
        Connection::open(&self.hub, &self.settings, &wakeup, vec![subscription], &request, guard, rng).unwrap()
    }

    /// The next durable event of 256 bytes.
    fn message(&mut self) -> Message {
        let previous = self.last;
        self.last = previous.advance(0);
        let stamp = Some(Stamp { position: self.last, previous });
        Message { channel: self.channel.clone(), payload: "x".repeat(256).into(), stamp }
    }
}

/// All that it has to say now, in bytes.
fn write(connection: &mut Connection) -> usize {
    let (now, mut bytes) = (Instant::now(), 0);
    while let Next::Write(written) = connection.next(now) {
        bytes += written.len();
    }
    bytes
}

/// The hub's part: into the log, and everybody woken.
fn message(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub message");
    for connections in [1, 1_000] {
        let mut world = World::new();
        let open: Vec<_> = (0..connections).map(|_| world.open()).collect();
        group.throughput(Throughput::Elements(connections));
        group.bench_function(format!("to {connections}"), |bencher| {
            let hub = world.hub.clone();
            let asked = || {
                open.iter().for_each(|connection| connection.wakeup().register(Waker::noop()));
                world.message()
            };
            bencher.iter_batched(asked, |message| hub.message(message), BatchSize::PerIteration);
        });
    }
}

/// The connection's part: from being woken to having nothing more to say.
fn next(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connection next");
    for events in [1, 16] {
        let mut world = World::new();
        let mut connection = world.open();
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("{events} pending"), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut taken = Duration::ZERO;
                for _ in 0..rounds {
                    (0..events).for_each(|_| {
                        let message = world.message();
                        world.hub.message(message);
                    });
                    let began = Instant::now();
                    assert!(write(&mut connection) > 0);
                    taken += began.elapsed();
                }
                taken
            });
        });
    }
}

/// Coming back with a cursor that the log still reaches.
fn replay(criterion: &mut Criterion) {
    let mut world = World::new();
    let _stays = world.open();
    let cursor = Cursor::new(vec![world.hub.cursor(0, START).unwrap()]).unwrap();
    for _ in 0..MISSED {
        let message = world.message();
        world.hub.message(message);
    }
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(MISSED));
    group.bench_function(format!("{MISSED} from the log"), |bencher| {
        bencher.iter(|| {
            let mut connection = world.resume(Resume::After(cursor.clone()));
            let bytes = write(&mut connection);
            assert!(bytes > 256 * MISSED as usize, "{bytes}");
        });
    });
}
