//! `[[channels]]` on the embedded broker: by the real binary where that shows over HTTP; history, which takes hours to
//! expire, by the same two parts that the binary puts together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway::broker::Broker as _;
use gateway::broker::memory::{MemoryBroker, MemoryLimits};
use publisher::{ChannelSettings, Configured, Publication, Publish as _};
use reqwest::Response;
use serde_json::{Value, json};
use shared::channel::Channel;
use shared::position::Position;

use crate::support::Gateway;

const CHAT: &str =
    "[[channels]]\nprefix = \"chat:\"\nephemeral = true\n[[channels]]\nprefix = \"chat:kept:\"\nhistory = 2";

async fn post(gateway: &Gateway, body: &Value) -> Response {
    gateway.client.post(gateway.url("/publish")).json(body).send().await.unwrap()
}

async fn refused(response: Response, field: &str, detail: &str) {
    assert_eq!(response.status(), 400);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: Value = response.json().await.unwrap();
    let wanted = json!({
        "type": "urn:problem:sse:invalid-value", "title": "invalid value", "status": 400, "detail": detail, "field": field,
        "request_id": id,
    });
    assert_eq!(problem, wanted);
}

const NO_ONCE: &str = "every event on chat:1 is ephemeral: there is no position to answer a repeated once key with";
const NO_END: &str =
    "every event on chat:1 is ephemeral: an end has to be in history, so that who comes late learns of it";

#[tokio::test]
async fn an_ephemeral_channel_has_no_ids_and_refuses_once_and_end() {
    let gateway = Gateway::builder().config(CHAT).start().await;
    let mut stream = gateway.stream("/events?channel=chat:1").await;
    stream.opened().await;

    refused(post(&gateway, &json!({"channel": "chat:1", "data": 1, "once": "k"})).await, "once", NO_ONCE).await;
    refused(post(&gateway, &json!({"channel": "chat:1", "end": true})).await, "end", NO_END).await;
    let raw = gateway.client.post(gateway.url("/channels/chat:1/events?once=k")).body("x").send().await.unwrap();
    refused(raw, "once", NO_ONCE).await;

    let answer = gateway.publish(json!({"channel": "chat:1", "data": "hi"})).await;
    assert_eq!(answer, json!({"id": null, "receivers": 1}));
    let answer = gateway.publish(json!({"channel": "chat:1", "data": "again", "ephemeral": true})).await;
    assert_eq!(answer, json!({"id": null, "receivers": 1}));
    let before = stream.bytes.len();
    assert_eq!(stream.data().await.as_deref(), Some("hi"), "what was refused was not published");
    assert_eq!(stream.data().await.as_deref(), Some("again"));
    let written = String::from_utf8_lossy(&stream.bytes[before..]).into_owned();
    assert!(!written.contains("id:"), "{written}");
    let published = "sse_publisher_publishes_total{kind=\"ephemeral\",result=\"ok\"}";
    assert_eq!(gateway.metric(published).await, 2.0, "counted as what they became");
}

#[tokio::test]
async fn a_notification_that_nobody_heard_is_not_said_to_be_kept() {
    let gateway = Gateway::builder().config("[[channels]]\nprefix = \"user:\"\nephemeral = true").start().await;
    let request = gateway.client.post(gateway.url("/api/sse/notify?userId=1&message=x"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 404);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["detail"], "nobody is connected as that user, and events of that channel are not kept");
}

#[tokio::test]
async fn other_channels_are_as_they_were() {
    let gateway = Gateway::builder().config(CHAT).start().await;
    for channel in ["chat:kept:1", "chat", "user:42"] {
        let body = json!({"channel": channel, "data": 1, "end": true, "once": "k"});
        let first = gateway.publish(body.clone()).await;
        assert!(first["id"].is_string(), "{channel}: {first}");
        let again = gateway.publish(body).await;
        assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)), "{channel}");
    }
}

#[tokio::test]
async fn several_channels_and_batches_have_an_outcome_each() {
    let gateway = Gateway::builder().config(CHAT).start().await;
    let body = json!({"channels": ["user:42", "chat:1", "chat:kept:1"], "data": 1, "once": "k"});
    let answer = gateway.publish(body).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert!(results[0]["id"].is_string() && results[2]["id"].is_string(), "{answer}");
    assert_eq!(results[1], json!({"channel": "chat:1", "error": NO_ONCE}));
    let all_refused = post(&gateway, &json!({"channels": ["chat:1"], "data": 1, "once": "k"})).await;
    refused(all_refused, "once", NO_ONCE).await;

    let lines = [
        json!({"channel": "chat:1", "data": 1}),
        json!({"channel": "chat:1", "end": true}),
        json!({"channel": "user:42", "data": 2}),
    ];
    let answers = gateway.publish_batch(&lines).await;
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0], json!({"id": null, "receivers": 0}));
    assert_eq!((&answers[1]["status"], &answers[1]["field"]), (&json!(400), &json!("end")));
    assert!(answers[2]["id"].is_string(), "{answers:?}");
}

#[tokio::test]
async fn a_wrong_rule_stops_the_start() {
    let exit = Gateway::builder().config("[[channels]]\nprefix = \"sse.x\"").fail().await;
    assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    let wanted = "sse-gateway: config/gateway.toml: invalid value for \"channels[0].prefix\": \
                  channels beginning sse. are the cluster's own, nobody publishes to them\n";
    assert_eq!(exit.errors, wanted);
}

/// A broker whose time of day is what the test says.
struct Embedded {
    broker: Arc<MemoryBroker>,
    configured: Configured,
    now: Arc<AtomicU64>,
}

impl Embedded {
    fn new(rules: Value) -> Self {
        let settings: ChannelSettings = serde_json::from_value(rules).unwrap();
        assert_eq!(settings.check(), []);
        let now = Arc::new(AtomicU64::new(1_800_000_000_000));
        let time = now.clone();
        let time = Arc::new(move || time.load(Ordering::Relaxed));
        let broker = Arc::new(MemoryBroker::with_time(MemoryLimits::default(), time));
        Self { configured: Configured::new(broker.clone(), settings), broker, now }
    }

    async fn publish(&self, channel: &str, payload: &str) {
        self.configured.publish(&Channel::parse(channel).unwrap(), Publication::new(payload.to_owned())).await.unwrap();
    }

    async fn history(&self, channel: &str) -> Vec<String> {
        let channel = Channel::parse(channel).unwrap();
        let snapshot =
            self.broker.read(&channel, gateway::broker::Between::after(Position::ZERO), 10_000).await.unwrap();
        let payload = |entry: &gateway::broker::Entry| String::from_utf8(entry.payload.to_vec()).unwrap();
        snapshot.entries.iter().map(payload).collect()
    }
}

#[tokio::test]
async fn history_keeps_as_many_as_the_rule_says() {
    let embedded = Embedded::new(json!([{"prefix": "", "history": 3}, {"prefix": "job:", "history": 1_500}]));
    for number in 0..1_600 {
        for channel in ["user:42", "job:7"] {
            embedded.publish(channel, &number.to_string()).await;
        }
    }
    assert_eq!(embedded.history("user:42").await, ["1597", "1598", "1599"]);
    let job = embedded.history("job:7").await;
    assert_eq!((job.len(), job.first().map(String::as_str)), (1_500, Some("100")));
}

#[tokio::test]
async fn history_lives_as_long_as_the_rule_says() {
    let rules = json!([{"prefix": "short:", "ttl": "10s"}, {"prefix": "long:", "ttl": "2h"}]);
    let embedded = Embedded::new(rules);
    let channels = ["short:1", "other", "long:1"];
    for channel in channels {
        embedded.publish(channel, "x").await;
    }
    let there = async || {
        let mut there = Vec::new();
        for channel in channels {
            there.push(embedded.history(channel).await.len());
        }
        there
    };
    assert_eq!(there().await, [1, 1, 1]);
    for (seconds, expected) in [(9, [1, 1, 1]), (2, [0, 1, 1]), (3_590, [0, 0, 1]), (3_600, [0, 0, 0])] {
        embedded.now.fetch_add(seconds * 1_000, Ordering::Relaxed);
        assert_eq!(there().await, expected, "{seconds} s later");
    }
}
