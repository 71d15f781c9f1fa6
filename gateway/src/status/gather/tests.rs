use std::sync::Mutex;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use shared::event_stream::decode::{Decoded, Decoder};
use shared::keys::Keys;

use super::*;
use crate::hub::{HubSettings, Wakeup};
use crate::metrics::HubMetrics;

/// A node whose metrics say what they are told to.
struct Desk {
    metrics: Arc<Mutex<String>>,
    hub: Arc<Hub>,
    gate: Arc<Gate>,
    gathered: Gathered,
    begun: Now,
}

impl Desk {
    fn new() -> Self {
        let metrics = Arc::new(Mutex::new(String::new()));
        let (hub, _interest) = Hub::new(Keys::default(), HubSettings::default(), HubMetrics::new());
        let (gate, text, begun) = (Gate::new(10), metrics.clone(), Now { instant: Instant::now(), unix: 1_000_000 });
        let sources = Sources {
            node: "one".to_owned(),
            redis: None,
            max_connections: 10,
            drain_deadline: Duration::from_secs(30),
            hub: hub.clone(),
            gate: gate.clone(),
            lifecycle: Arc::default(),
            roll: Arc::default(),
            metrics: Box::new(move || text.lock().unwrap().clone()),
            state: Box::new(|| "ready"),
        };
        Self { metrics, hub, gate, gathered: Gathered::new(sources, begun), begun }
    }

    fn delivered(&self, all: u64) {
        *self.metrics.lock().unwrap() = format!("sse_gateway_events_delivered_total {all}\n");
    }

    /// What is shown after so many milliseconds.
    fn look(&mut self, millis: u64, watched: bool) -> Value {
        let now = Now { instant: self.begun.instant + Duration::from_millis(millis), unix: self.begun.unix + millis };
        self.gathered.look(now, watched);
        serde_json::to_value(self.gathered.status(now)).unwrap()
    }
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
