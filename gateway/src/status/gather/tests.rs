use std::sync::Mutex;

use futures_util::FutureExt as _;
use publisher::census::Myself;
use serde_json::{Value, json};
use shared::census::Beat;
use shared::event_stream::decode::{Decoded, Decoder};
use shared::keys::Keys;
use shared::position::{Epoch, Position};

use super::*;
use crate::broker::{Lost, Sink as _};
use crate::hub::{HubSettings, Wakeup};
use crate::metrics::HubMetrics;

type Hook = Box<dyn FnOnce() + Send>;

/// A node whose metrics say what they are told to.
struct Desk {
    metrics: Arc<Mutex<String>>,
    /// Happens when they are read next, right before.
    hook: Arc<Mutex<Option<Hook>>>,
    roll: Arc<Roll>,
    hub: Arc<Hub>,
    gate: Arc<Gate>,
    gathered: Gathered,
    begun: Now,
}

impl Desk {
    fn new() -> Self {
        Self::on(None)
    }

    /// On this Redis, which it has heard.
    fn on_redis() -> Self {
        let desk = Self::on(Some("redis://127.0.0.1".to_owned()));
        desk.established();
        desk
    }

    fn on(redis: Option<String>) -> Self {
        let (metrics, hook) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(None::<Hook>)));
        let (hub, _interest) = Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new());
        let (gate, roll, begun) = (Gate::new(10), Arc::default(), Now { instant: Instant::now(), unix: 1_000_000 });
        let (text, before) = (metrics.clone(), hook.clone());
        let render = move || {
            let hook = before.lock().unwrap().take();
            hook.into_iter().for_each(|happens| happens());
            text.lock().unwrap().clone()
        };
        let sources = Sources {
            node: "one".to_owned(),
            redis,
            max_connections: 10,
            drain_deadline: Duration::from_secs(30),
            hub: hub.clone(),
            gate: gate.clone(),
            lifecycle: Arc::default(),
            roll: Arc::clone(&roll),
            metrics: Box::new(render),
            state: Box::new(|| "ready"),
        };
        Self { metrics, hook, roll, hub, gate, gathered: Gathered::new(sources, begun), begun }
    }

    /// A session.
    fn established(&self) {
        let clock = Position { ms: 1, seq: 0 };
        self.hub.session(0, &Epoch::from_bits(1), clock);
        self.hub.barrier(0, clock);
        self.hub.established(0);
    }

    /// A list of these nodes, each with its connections, so many milliseconds from the start.
    fn listed(&self, millis: u64, nodes: &[(&str, u64)]) {
        let seen = |(name, connections): &(&str, u64)| {
            let (state, version) = (Doing::Serving, "0.1.0".to_owned());
            let beat =
                Beat { node: (*name).to_owned(), version, started: 1, state, connections: *connections, channels: 1 };
            Seen { node: Myself { incarnation: format!("life of {name}"), beat }, age: Duration::from_secs(1) }
        };
        let now = self.begun.instant + Duration::from_millis(millis);
        self.roll.note(now, Some("life of one".to_owned()), Ok(nodes.iter().map(seen).collect()));
    }

    fn delivered(&self, all: u64) {
        *self.metrics.lock().unwrap() = format!("sse_gateway_events_delivered_total {all}\n");
    }

    /// What is shown after so many milliseconds.
    fn look(&mut self, millis: u64, watched: bool) -> Value {
        self.look_by(millis, self.begun.unix + millis, watched)
    }

    /// The same while the clock on the wall says `unix`.
    fn look_by(&mut self, millis: u64, unix: u64, watched: bool) -> Value {
        let now = Now { instant: self.begun.instant + Duration::from_millis(millis), unix };
        self.gathered.look(now, watched);
        serde_json::to_value(self.gathered.status(now)).unwrap()
    }
}

/// What the log says, the oldest first.
fn said(shown: &Value) -> Vec<&str> {
    let mut said: Vec<_> =
        shown["log"].as_array().unwrap().iter().map(|entry| entry["text"].as_str().unwrap()).collect();
    said.reverse();
    said
}

#[test]
fn rates_are_of_the_last_second_while_somebody_watches() {
    let mut desk = Desk::new();
    desk.delivered(100);
    assert_eq!(desk.look(1_000, true)["rates"]["delivered"], json!(100.0));
    desk.delivered(150);
    // Somebody else begins to watch: too soon for another rate, and nothing is counted twice.
    assert_eq!(desk.look(1_100, true)["rates"]["delivered"], json!(100.0));
    desk.delivered(200);
    assert_eq!(desk.look(2_000, true)["rates"]["delivered"], json!(100.0));
    desk.delivered(201);
    assert_eq!(desk.look(3_000, true)["rates"]["delivered"], json!(1.0));
}

#[test]
fn a_point_every_five_seconds_whoever_watches() {
    let mut desk = Desk::new();
    let place = desk.gate.enter().unwrap();
    for second in 1..=12 {
        desk.delivered(second * 10);
        // A little late each time, as timers are.
        desk.look(second * 1_000 + second, second > 6);
    }
    let shown = desk.look(13_000, true);
    assert_eq!(shown["history"]["own"], json!([1, 1]));
    assert_eq!(shown["history"]["delivered"], json!([10.0, 10.0]));
    assert_eq!(shown["history"]["all"], json!([null, null]), "nobody was asked");
    assert_eq!(shown["history"]["age"], json!(3.0));
    drop(place);
    // The machine slept.
    let shown = desk.look(30_100, false);
    assert_eq!(shown["history"]["own"], json!([1, 1, null, null, null, 0]));
}

#[test]
fn what_a_node_that_was_not_on_the_list_says_of_itself() {
    let mut desk = Desk::new();
    let shown = desk.look(1_000, true);
    let own = json!({
        "life": "", "name": "one", "own": true, "state": "serving", "connections": 0, "channels": 0,
        "version": env!("CARGO_PKG_VERSION"), "started": 1_000_000, "age": null,
    });
    assert_eq!((&shown["nodes"], &shown["all"], &shown["census"]["age"]), (&json!([own]), &Value::Null, &Value::Null));
    let broker = json!({"kind": "embedded", "address": null, "state": "starting", "for": 1.0, "heard": null});
    assert_eq!(shown["broker"], broker);
    assert_eq!((&shown["state"], &shown["stopping"]), (&json!("ready"), &Value::Null));
}

/// A clock that is put back an hour makes nothing younger than it is.
#[test]
fn how_long_it_has_been_up_is_not_by_the_clock_on_the_wall() {
    let mut desk = Desk::new();
    let shown = desk.look_by(90_000, 1_000, true);
    assert_eq!((&shown["up"], &shown["now"], &shown["started"]), (&json!(90.0), &json!(1_000), &json!(1_000_000)));
}

/// Redis loses what nodes said before anybody sees it away, and this node has said it again before the other.
#[test]
fn nodes_whose_word_redis_has_lost_are_neither_gone_nor_uncounted() {
    let mut desk = Desk::on_redis();
    desk.listed(1_000, &[("one", 0), ("two", 7)]);
    assert_eq!(desk.look(1_000, true)["all"], json!(7));
    for (millis, nodes) in [(4_000, vec![]), (7_000, vec![("one", 0)]), (8_000, vec![("one", 0), ("two", 8)])] {
        desk.listed(millis, &nodes);
        let shown = desk.look(millis, true);
        assert_eq!((&shown["all"], said(&shown).len()), (&json!(if millis < 8_000 { 7 } else { 8 }), 2), "{shown}");
        assert_eq!(shown["nodes"].as_array().map(Vec::len), Some(2), "{shown}");
    }
    // Killed.
    desk.listed(11_000, &[("one", 0)]);
    desk.listed(14_000, &[("one", 0)]);
    assert_eq!(desk.look(14_000, true)["all"], json!(8));
    desk.listed(17_000, &[("one", 0)]);
    let shown = desk.look(17_000, true);
    assert_eq!((&shown["all"], said(&shown)[2]), (&json!(0), "two is gone; it did not say that it was stopping"));
}

/// What the metrics say has happened by then: the broker is asked behind them.
#[test]
fn a_session_that_is_lost_while_it_is_looked_for_is_not_back() {
    let mut desk = Desk::on_redis();
    desk.look(1_000, true);
    let (hub, metrics) = (desk.hub.clone(), desk.metrics.clone());
    *desk.hook.lock().unwrap() = Some(Box::new(move || {
        hub.lost(0, Lost::Away);
        *metrics.lock().unwrap() = "sse_gateway_broker_sessions_ended_total{reason=\"closed\"} 1\n".to_owned();
    }));
    let shown = desk.look(2_000, true);
    assert_eq!(shown["broker"]["state"], "away");
    desk.established();
    let shown = desk.look(5_000, true);
    assert_eq!(shown["broker"]["state"], "up");
    let expected = [
        "a session with Redis is established",
        "the session with Redis is lost: Redis closed the connection",
        "the session with Redis is established again, after 3s",
    ];
    assert_eq!(said(&shown)[1..], expected);
}

#[test]
fn channels_are_looked_for_while_somebody_watches() {
    let mut desk = Desk::new();
    let wakeup = Arc::new(Wakeup::default());
    let channel = Channel::parse("chat").unwrap();
    let _subscriptions = [desk.hub.attach(&channel, &wakeup), desk.hub.attach(&channel, &wakeup)];
    assert_eq!(desk.look(1_000, false)["top"], json!([]));
    assert_eq!(desk.look(2_000, true)["top"], json!([{"channel": "chat", "connections": 2}]));
}

#[test]
fn one_event_with_one_line_of_data() {
    let mut desk = Desk::new();
    desk.look(1_000, true);
    let bytes = desk.gathered.text(desk.begun).unwrap();
    let mut decoder = Decoder::new();
    decoder.feed(&bytes).unwrap();
    let Some(Decoded::Event(event)) = decoder.next() else { panic!("no event") };
    assert_eq!((event.event.as_str(), decoder.next().is_none()), ("status", true));
    assert_eq!(serde_json::from_str::<Value>(&event.data).unwrap()["node"], "one");
    assert!(!event.data.contains('\n'));
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_watch_is_told_at_once_and_then_each_second() {
    let (feed, sources) = (Feed::new(), Desk::new().gathered.sources);
    let mut gathering = std::pin::pin!(gather(sources, feed.clone()));
    assert!(gathering.as_mut().now_or_never().is_none());
    tokio::time::advance(Duration::from_millis(300)).await;
    let mut watcher = feed.watch().unwrap();
    assert!(gathering.as_mut().now_or_never().is_none());
    assert!(watcher.next().now_or_never().flatten().is_some(), "at once");
    assert!(watcher.next().now_or_never().is_none(), "and once");
    tokio::time::advance(Duration::from_millis(1_000)).await;
    assert!(gathering.as_mut().now_or_never().is_none());
    assert!(watcher.next().now_or_never().flatten().is_some());
}
