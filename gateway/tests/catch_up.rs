//! The broker on Redis, when it loses its session or a message: what came meanwhile is had all the same, each event once,
//! or a hole is told.

mod ears;
mod gate;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::broker::past::PastLimits;
use gateway::broker::redis::RedisBroker;
use gateway::broker::{Between, Broker, Interest};
use gateway::metrics::BrokerMetrics;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use publisher::{Publication, Publish, Publisher};
use shared::channel::Channel;
use shared::continuity::Gap;
use shared::envelope::Envelope;
use shared::position::Position;
use shared::redis::Settings;
use testkit::{PATIENCE, RedisServer, eventually, eventually_within, soon};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::ears::{Ears, Joined};
use self::gate::Gate;

/// A broker whose way to Redis is a gate, and somebody who publishes past it.
struct World {
    redis: RedisServer,
    gate: Gate,
    ears: Arc<Ears>,
    broker: Arc<RedisBroker>,
    publisher: Arc<dyn Publish>,
    interest: UnboundedSender<Interest>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
    generation: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// Compares so rarely that no test sees it.
    async fn start() -> Self {
        Self::with(RedisServer::start().await, |broker| broker.with_check_interval(Duration::from_secs(86_400))).await
    }

    async fn with(redis: RedisServer, set: impl FnOnce(RedisBroker) -> RedisBroker) -> Self {
        let gate = Gate::to(&redis).await;
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = metrics::with_local_recorder(&recorder, BrokerMetrics::new);
        let broker = RedisBroker::connect(&Settings::new(&gate.url()), "node", metrics).await.unwrap();
        let broker = Arc::new(set(broker));
        let publisher = Arc::new(Publisher::connect(&Settings::new(&redis.url())).await.unwrap());
        #[allow(clippy::disallowed_methods)] // the seam's own type
        let (interest, queue) = tokio::sync::mpsc::unbounded_channel();
        let (ears, stop) = (Arc::new(Ears::default()), CancellationToken::new());
        TaskTracker::new().spawn(broker.clone().run(queue, ears.clone(), stop.clone()));
        let world =
            Self { redis, gate, ears, broker, publisher, interest, metrics: recorder.handle(), stop, generation: 0 };
        world.established(1).await;
        world
    }

    /// Waits until so many sessions were established.
    async fn established(&self, count: usize) {
        let established = async || (self.ears.established() >= count).then_some(());
        eventually_within(PATIENCE * 2, &format!("{count} sessions"), established).await;
    }

    async fn subscribe(&mut self, names: impl IntoIterator<Item = String>) -> Vec<Channel> {
        let channels: Vec<_> = names.into_iter().map(|name| Channel::parse(&name).unwrap()).collect();
        for channel in &channels {
            self.generation += 1;
            self.ears.begin(channel, self.generation);
            self.interest.send(Interest::Subscribe { channel: channel.clone(), generation: self.generation }).unwrap();
        }
        let live = async || channels.iter().all(|channel| self.ears.heard(channel).live).then_some(());
        eventually("all of them live", live).await;
        channels
    }

    async fn one(&mut self, name: &str) -> Channel {
        self.subscribe([name.to_owned()]).await.remove(0)
    }

    /// Publishes `count` events on each, one after the other on a channel, all channels at once.
    async fn publish(&self, channels: &[Channel], count: usize) -> HashMap<Channel, Vec<Position>> {
        let mut tasks = JoinSet::new();
        for channel in channels {
            let (publisher, channel) = (self.publisher.clone(), channel.clone());
            tasks.spawn(async move {
                let mut positions = Vec::new();
                for i in 0..count {
                    let receipt = publisher.publish(&channel, text(&i.to_string())).await.unwrap();
                    positions.push(receipt.position.unwrap());
                }
                (channel, positions)
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    /// Waits until the channel has heard exactly these.
    async fn heard(&self, channel: &Channel, positions: &[Position]) {
        let all = async || (self.ears.positions(channel) == positions).then_some(());
        eventually(&format!("{positions:?} on {channel}"), all).await;
    }

    async fn joins(&self, channel: &Channel, count: usize) -> Vec<Joined> {
        let joined = async || (self.ears.heard(channel).joins.len() >= count).then(|| self.ears.heard(channel).joins);
        eventually(&format!("{count} joins of {channel}"), joined).await
    }

    /// While `meanwhile` happens there is no way to Redis.
    async fn away(&self, meanwhile: impl Future<Output = ()>) {
        let sessions = self.ears.established();
        self.gate.shut();
        eventually("the session is lost", async || self.ears.is_away().then_some(())).await;
        meanwhile.await;
        self.gate.open();
        self.established(sessions + 1).await;
    }

    fn silent_losses(&self) -> String {
        self.counted("silent_losses_total")
    }

    /// A counter of the broker's, with its labels.
    fn counted(&self, name: &str) -> String {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix("sse_gateway_broker_")?.strip_prefix(name));
        line.unwrap().trim().to_owned()
    }

    /// How many channels went on after a session: unmoved, by reading, with a gap.
    fn caught_up(&self) -> [String; 3] {
        ["unmoved", "read", "gap"].map(|result| self.counted(&format!("catch_ups_total{{result=\"{result}\"}}")))
    }

    /// How often Redis was called by this command.
    async fn calls(&self, command: &str) -> u64 {
        let stats = self.redis.cli(&["INFO", "commandstats"]).await;
        let name = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }
}

fn text(data: &str) -> Publication {
    Publication::envelope(&Envelope::text(data).unwrap()).unwrap()
}

fn short_history(data: &str) -> Publication {
    Publication { history: std::num::NonZeroU32::new(5), ..text(data) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_while_publishing_goes_on() {
    const ROUNDS: usize = 6;
    let mut world = World::start().await;
    let channels = world.subscribe((0..50).map(|i| format!("c:{i}"))).await;
    let mut published: HashMap<Channel, Vec<Position>> = HashMap::new();
    for round in 1..=ROUNDS {
        let before = world.ears.count();
        let kill = async {
            eventually("some of this round", async || (world.ears.count() > before + 100).then_some(())).await;
            assert_eq!(world.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await, "1");
            // Whatever is published from here on is published during the outage, or during the catching up.
            world.publish(&channels, 10).await
        };
        let (during, after) = futures_util::join!(world.publish(&channels, 20), kill);
        for (channel, positions) in during.into_iter().chain(after) {
            published.entry(channel).or_default().extend(positions);
        }
        world.established(round + 1).await;
    }
    let mut caught_up = 0;
    for (channel, positions) in &mut published {
        positions.sort();
        world.heard(channel, positions).await;
        let heard = world.ears.heard(channel);
        assert!(!heard.joins.iter().any(|join| matches!(join, Joined::Hole(_))), "{:?}", heard.joins);
        caught_up += heard.joins.iter().filter(|join| matches!(join, Joined::CaughtUp(1..))).count();
        assert_eq!(heard.stale, 0);
    }
    assert_eq!(world.ears.count(), 50 * 30 * ROUNDS);
    assert!(caught_up >= 50, "{caught_up} channels had to be read");
    assert_eq!(world.silent_losses(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_channels_than_a_batch_have_moved() {
    let mut world = World::start().await;
    let channels = world.subscribe((0..1_200).map(|i| format!("many:{i}"))).await;
    let first = world.publish(&channels, 1).await;
    eventually("all of the first", async || (world.ears.count() == 1_200).then_some(())).await;
    let (moved, still) = channels.split_at(1_100);
    let mut second = HashMap::new();
    world.away(async { second = world.publish(moved, 2).await }).await;
    for channel in moved {
        let positions = [&first[channel][..], &second[channel]].concat();
        assert_eq!(world.ears.positions(channel), positions, "{channel}, as soon as the session is established");
        assert_eq!(world.joins(channel, 2).await, [Joined::Anew, Joined::CaughtUp(2)]);
    }
    for channel in still {
        assert_eq!(world.joins(channel, 2).await, [Joined::Anew, Joined::CaughtUp(0)]);
    }
    assert_eq!(world.caught_up(), ["100", "1100", "0"].map(str::to_owned));
    eventually("two sessions", async || (world.counted("sessions_total") == "2").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_moved_no_history_is_read() {
    let mut world = World::start().await;
    let [a, b, c] = <[_; 3]>::try_from(world.subscribe(["a", "b", "c"].map(str::to_owned)).await).unwrap();
    let a_first = world.publish(std::slice::from_ref(&a), 3).await.remove(&a).unwrap();
    world.heard(&a, &a_first).await;
    world.publish(std::slice::from_ref(&b), 1).await;
    world.redis.cli(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(world.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await, "1");
    world.established(2).await;
    for channel in [&a, &b, &c] {
        assert_eq!(world.joins(channel, 2).await, [Joined::Anew, Joined::CaughtUp(0)], "{channel}");
    }
    assert_eq!((world.calls("xrevrange").await, world.calls("mget").await), (0, 1));
    // The very first event of a channel that never had one.
    let mut c_first = Vec::new();
    world.away(async { c_first = world.publish(std::slice::from_ref(&c), 1).await.remove(&c).unwrap() }).await;
    world.heard(&c, &c_first).await;
    assert_eq!(world.calls("xrevrange").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_was_trimmed_meanwhile_is_a_hole() {
    let redis = RedisServer::builder().config("stream-node-max-entries 1").start().await;
    let mut world = World::with(redis, |broker| broker).await;
    let (a, b) = (world.one("a").await, world.one("b").await);
    let mut heard = world.publish(&[a.clone(), b.clone()], 2).await;
    world.heard(&a, &heard[&a]).await;
    world.heard(&b, &heard[&b]).await;
    let meanwhile = async {
        for i in 0..100 {
            world.publisher.publish(&a, short_history(&i.to_string())).await.unwrap();
        }
    };
    world.away(meanwhile).await;
    assert_eq!(world.joins(&a, 2).await[1..], [Joined::Hole(Gap::Trimmed)]);
    assert_eq!(world.joins(&b, 2).await[1..], [Joined::CaughtUp(0)], "no other channel's concern");
    assert_eq!(world.caught_up(), ["1", "0", "1"].map(str::to_owned));
    for (channel, after) in world.publish(&[a.clone(), b.clone()], 3).await {
        heard.get_mut(&channel).unwrap().extend(after);
        world.heard(&channel, &heard[&channel]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_expired_meanwhile_is_a_hole() {
    let mut world = World::start().await;
    let a = world.one("a").await;
    let meanwhile = async {
        world.publish(std::slice::from_ref(&a), 2).await;
        assert_eq!(world.redis.cli(&["DEL", "sse:a"]).await, "1");
    };
    world.away(meanwhile).await;
    assert_eq!(world.joins(&a, 2).await[1..], [Joined::Hole(Gap::Expired)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_is_read_at_once_is_a_hole() {
    let limits = PastLimits { events: 20, bytes: 1 << 20 };
    let mut world = World::with(RedisServer::start().await, |broker| broker.with_past_limits(limits)).await;
    let (a, b) = (world.one("a").await, world.one("b").await);
    let mut b_heard = Vec::new();
    let meanwhile = async {
        world.publish(std::slice::from_ref(&a), 21).await;
        b_heard = world.publish(std::slice::from_ref(&b), 20).await.remove(&b).unwrap();
    };
    world.away(meanwhile).await;
    assert_eq!(world.joins(&a, 2).await[1..], [Joined::Hole(Gap::TooFar)]);
    assert_eq!(world.joins(&b, 2).await[1..], [Joined::CaughtUp(20)]);
    let after = world.publish(std::slice::from_ref(&a), 2).await.remove(&a).unwrap();
    world.heard(&a, &after).await;
    world.heard(&b, &b_heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_hold_something_else_harm_no_other_channel() {
    let mut world = World::start().await;
    let (a, b, c) = (world.one("a").await, world.one("b").await, world.one("c").await);
    let heard = world.publish(&[a.clone(), b.clone(), c.clone()], 2).await;
    for (channel, positions) in &heard {
        world.heard(channel, positions).await;
    }
    let meanwhile = async {
        world.publish(&[a.clone(), b.clone()], 1).await;
        world.redis.cli(&["DEL", "sse:a", "sse.last:c"]).await;
        world.redis.cli(&["SET", "sse:a", "no stream"]).await;
        world.redis.cli(&["LPUSH", "sse.last:c", "no position"]).await;
        world.redis.cli(&["EVAL", "redis.call('SET', 'sse.last:d', '\\255\\254')", "0"]).await;
    };
    world.away(meanwhile).await;
    assert_eq!(world.joins(&a, 2).await[1..], [Joined::Hole(Gap::Expired)]);
    assert_eq!(world.joins(&b, 2).await[1..], [Joined::CaughtUp(1)]);
    assert_eq!(world.joins(&c, 2).await[1..], [Joined::CaughtUp(0)], "as if it were forgotten");
    let d = world.one("d").await;
    assert_eq!(world.joins(&d, 1).await, [Joined::Anew]);
    let read = soon("a read", world.broker.read(&c, Between::after(Position::ZERO), 10)).await.unwrap();
    assert_eq!((read.last, read.entries.len()), (None, 2));
    assert_eq!(world.ears.established(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_message_is_lost_and_the_comparison_finds_it() {
    let redis = RedisServer::start().await;
    let mut world = World::with(redis, |broker| broker.with_check_interval(Duration::from_millis(50))).await;
    let (a, b) = (world.one("a").await, world.one("b").await);
    let mut heard = world.publish(&[a.clone(), b.clone()], 1).await;
    world.heard(&a, &heard[&a]).await;
    for round in 1..=3 {
        world.gate.lose_one("sse:a");
        for (channel, positions) in world.publish(&[a.clone(), b.clone()], 1).await {
            heard.get_mut(&channel).unwrap().extend(positions);
            world.heard(&channel, &heard[&channel]).await;
        }
        assert!(world.gate.has_lost());
        assert_eq!(world.joins(&a, 1 + round).await[round..], [Joined::CaughtUp(1)]);
        assert_eq!(world.silent_losses(), round.to_string());
    }
    let is_live = async || world.ears.heard(&a).live.then_some(());
    eventually("it is live again", is_live).await;
    let after = world.publish(std::slice::from_ref(&a), 5).await.remove(&a).unwrap();
    heard.get_mut(&a).unwrap().extend(after);
    world.heard(&a, &heard[&a]).await;
    assert_eq!((world.ears.heard(&a).stale, world.ears.heard(&b).stale), (3, 0));
    assert_eq!(world.ears.sessions(), 1, "no session ended for it");
    // Its book-keeping is as before.
    world.interest.send(Interest::Unsubscribe { channel: a.clone() }).unwrap();
    let gone = async || world.redis.cli(&["PUBSUB", "NUMSUB", "sse:a"]).await.ends_with('0').then_some(());
    eventually("nobody subscribes to it", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_the_middle_is_lost_and_the_next_one_tells() {
    let mut world = World::start().await;
    let a = world.one("a").await;
    let mut heard = world.publish(std::slice::from_ref(&a), 1).await.remove(&a).unwrap();
    world.heard(&a, &heard).await;
    world.gate.lose_one("sse:a");
    heard.extend(world.publish(std::slice::from_ref(&a), 30).await.remove(&a).unwrap());
    world.heard(&a, &heard).await;
    assert!(world.gate.has_lost());
    assert_eq!((world.ears.heard(&a).stale, world.ears.sessions()), (1, 1));
    assert_eq!(world.silent_losses(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comparing_finds_nothing_where_nothing_is_lost() {
    let redis = RedisServer::start().await;
    let mut world = World::with(redis, |broker| broker.with_check_interval(Duration::from_millis(1))).await;
    let channels = world.subscribe((0..20).map(|i| format!("c:{i}"))).await;
    world.redis.cli(&["CONFIG", "RESETSTAT"]).await;
    for (channel, positions) in world.publish(&channels, 100).await {
        world.heard(&channel, &positions).await;
        assert_eq!(world.ears.heard(&channel).stale, 0);
    }
    eventually("many comparisons", async || (world.calls("mget").await > 2_050).then_some(())).await;
    assert_eq!((world.silent_losses(), world.ears.sessions()), ("0".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_another_life_of_the_data_fails_and_ends_the_session() {
    let mut world = World::start().await;
    let a = world.one("a").await;
    let read = async || soon("a read", world.broker.read(&a, Between::after(Position::ZERO), 10)).await;
    read().await.unwrap();
    world.redis.cli(&["FUNCTION", "FLUSH"]).await;
    let reads = futures_util::future::join_all((0..50).map(|_| read())).await;
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
    assert_eq!(world.ears.sessions(), 1);
    let epoch = world.ears.epoch();
    world.redis.cli(&["FLUSHALL"]).await;
    // Only the answer itself tells: this node does not hear the clock of the read.
    world.gate.lose_one(&world.redis.cli(&["PUBSUB", "CHANNELS", "sse.node:*"]).await);
    assert_eq!(read().await.unwrap_err().reason, "its data have begun another life");
    world.established(2).await;
    assert_ne!(world.ears.epoch(), epoch);
    assert_eq!(world.joins(&a, 2).await[1..], [Joined::Anew]);
    eventually("a read of the new life", async || read().await.ok()).await;
}
