//! A primary that Sentinels watch, and another one that takes its place: streams stay open, and go on exactly or with a gap.

use publisher::{Event, Once, Publisher};
use serde_json::Value;
use shared::channel::Channel;
use shared::event_stream::decode::Decoded;
use shared::redis::Settings;
use testkit::{PATIENCE, Sentinels, eventually_within};

use crate::support::{Builder, Gateway, Stream};

const DATA_LOST: &str = "data_lost";
const NONE: [&str; 0] = [];

fn on(all: &Sentinels) -> Builder {
    Gateway::builder().args(&["--redis-url", &all.url()])
}

async fn open(gateway: &Gateway, path: &str) -> Stream {
    let mut stream = gateway.stream(path).await;
    stream.opened().await;
    stream
}

/// One publisher for all of a test, which follows as a backend does.
struct Backend {
    publisher: Publisher,
    channel: Channel,
    /// What was published and acknowledged.
    published: Vec<u32>,
    /// Of the latest.
    cursor: String,
}

impl Backend {
    async fn new(all: &Sentinels) -> Self {
        let publisher = Publisher::connect(&Settings::new(&all.url())).await.unwrap();
        Self { publisher, channel: Channel::parse("a").unwrap(), published: Vec::new(), cursor: String::new() }
    }

    /// Publishes the next number until it is taken: nothing else may be acknowledged meanwhile.
    async fn publish(&mut self) {
        let number = self.published.last().map_or(0, |last| last + 1);
        let receipt = eventually_within(PATIENCE * 4, "an event that is taken", async || {
            self.publisher.publish(&self.channel, event(number)).await.ok()
        })
        .await;
        self.cursor = receipt.cursor.unwrap().to_string();
        self.published.push(number);
    }

    /// Publishes once all of `nodes` are there, on the server that is the primary by now. Returns the number.
    async fn publish_to(&mut self, all: &Sentinels, primary: usize, nodes: &[Gateway]) -> u32 {
        let expected = format!("sse:a\n{}", nodes.len());
        eventually_within(PATIENCE * 4, "the nodes on the primary", async || {
            for node in nodes {
                if node.metric("sse_gateway_broker_up").await == 0.0 {
                    return None;
                }
            }
            (all.servers[primary].cli(&["PUBSUB", "NUMSUB", "sse:a"]).await == expected).then_some(())
        })
        .await;
        // The first ones may still go to the server before, and with it.
        eventually_within(PATIENCE * 4, "an event that all nodes hear there", async || {
            self.publish().await;
            let number = *self.published.last()?;
            let held = all.servers[primary].cli(&["XREVRANGE", "sse:a", "+", "-", "COUNT", "1"]).await;
            held.contains(&data(number)).then_some(number)
        })
        .await
    }
}

fn data(number: u32) -> String {
    format!("\"{number}\"")
}

/// Whoever does not know whether it was taken publishes it once more.
fn event(number: u32) -> Event {
    Event::text(number.to_string()).once(Once::parse(&format!("number-{number}")).unwrap())
}

/// Reads from `next` up to `last`. What is missing was told of: returns the channels on which there was a gap.
async fn read_to(stream: &mut Stream, next: u32, last: u32) -> Vec<String> {
    let (mut gaps, mut next) = (Vec::new(), Some(next));
    loop {
        let Decoded::Event(event) = stream.next().await.expect("the stream ended") else { continue };
        if event.event == "sse.gap" {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!(data["reason"], DATA_LOST);
            gaps.push(data["channel"].as_str().unwrap().to_owned());
            // Whatever may be missing, or may have been forgotten and published again, was told.
            next = None;
            continue;
        }
        let number: u32 = event.data.parse().unwrap();
        assert!(next.is_none_or(|next| next == number), "{number} came where {next:?} was to come");
        next = Some(number + 1);
        if number == last {
            return gaps;
        }
    }
}

async fn is_replica(all: &Sentinels, server: usize) {
    eventually_within(PATIENCE * 4, "a replica", async || (!all.servers[server].is_primary().await).then_some(()))
        .await;
}

#[tokio::test]
async fn a_primary_that_is_killed_is_followed() {
    let mut all = Sentinels::start().await;
    let nodes = [on(&all).start().await, on(&all).start().await];
    let mut streams =
        [open(&nodes[0], "/events?channel=a").await, open(&nodes[1], "/events?channel=a&channel=b").await];
    let mut backend = Backend::new(&all).await;
    let before = all.primary().await;
    let last = backend.publish_to(&all, before, &nodes).await;
    for stream in &mut streams {
        assert_eq!(read_to(stream, 0, last).await, NONE);
    }
    all.has_replica().await;
    all.servers[before].kill().await;
    // From the first moment on; it comes through when there is somebody to take it.
    backend.publish().await;
    let now = all.fails_over(before).await;
    let new_last = backend.publish_to(&all, now, &nodes).await;
    assert_eq!(read_to(&mut streams[0], last + 1, new_last).await, ["a"]);
    assert_eq!(read_to(&mut streams[1], last + 1, new_last).await, ["a", "b"]);
    let mut new = open(&nodes[0], "/events?channel=a&replay=1").await;
    assert_eq!(new.data().await, Some(new_last.to_string()));
    // The one before comes back for a primary, and is made a replica: nobody follows it.
    all.servers[before].restart().await;
    is_replica(&all, before).await;
    assert_eq!(all.primary().await, now);
    let last = backend.publish_to(&all, now, &nodes).await;
    for stream in &mut streams {
        assert_eq!(read_to(stream, new_last + 1, last).await, NONE, "no gap without a failover");
    }
}

#[tokio::test]
async fn a_primary_that_hangs_is_followed_and_not_when_it_goes_on() {
    let all = Sentinels::start().await;
    let nodes = [on(&all).start().await];
    let mut stream = open(&nodes[0], "/events?channel=a").await;
    let mut backend = Backend::new(&all).await;
    let before = all.primary().await;
    let last = backend.publish_to(&all, before, &nodes).await;
    assert_eq!(read_to(&mut stream, 0, last).await, NONE);
    all.has_replica().await;
    all.servers[before].pause().await;
    let now = all.fails_over(before).await;
    let new_last = backend.publish_to(&all, now, &nodes).await;
    assert_eq!(read_to(&mut stream, last + 1, new_last).await, ["a"]);
    // It does not know yet that it is none any more.
    all.servers[before].resume().await;
    for _ in 0..20 {
        backend.publish().await;
    }
    is_replica(&all, before).await;
    let last = backend.publish_to(&all, now, &nodes).await;
    assert_eq!(read_to(&mut stream, new_last + 1, last).await, NONE);
    assert_eq!(all.primary().await, now);
    let held = all.servers[now].cli(&["XRANGE", "sse:a", "-", "+"]).await;
    for number in new_last..=last {
        assert!(held.contains(&data(number)), "{number} was acknowledged and is not there");
    }
}

#[tokio::test]
async fn one_that_is_replaced_by_hand_is_followed() {
    let all = Sentinels::start().await;
    let nodes = [on(&all).start().await];
    let mut stream = open(&nodes[0], "/events?channel=a").await;
    let mut backend = Backend::new(&all).await;
    let mut primary = all.primary().await;
    let mut last = backend.publish_to(&all, primary, &nodes).await;
    assert_eq!(read_to(&mut stream, 0, last).await, NONE);
    for _ in 0..2 {
        all.has_replica().await;
        assert_eq!(all.sentinels[1].cli(&["SENTINEL", "FAILOVER", testkit::SENTINEL_NAME]).await, "OK");
        primary = all.fails_over(primary).await;
        let new_last = backend.publish_to(&all, primary, &nodes).await;
        assert_eq!(read_to(&mut stream, last + 1, new_last).await, ["a"]);
        last = new_last;
    }
    assert_eq!(nodes[0].admin("/readyz").await.status(), 200);
}

/// Both sides say that nothing is lost, and so nobody is told of a gap.
#[tokio::test]
async fn who_waits_for_replicas_and_trusts_has_no_gap() {
    let mut all = Sentinels::start().await;
    let trusting = || on(&all).env("SSE_GATEWAY__REDIS__TRUST_FAILOVER", "true");
    let nodes = [trusting().start().await, trusting().start().await];
    let mut streams =
        [open(&nodes[0], "/events?channel=a").await, open(&nodes[1], "/events?channel=a&channel=b").await];
    let mut backend = Backend::new(&all).await;
    let settings = Settings { trust_failover: true, wait_replicas: 1, ..Settings::new(&all.url()) };
    backend.publisher = Publisher::connect(&settings).await.unwrap();
    let mut last = 0;
    for _ in 0..2 {
        let before = all.primary().await;
        all.has_replica().await;
        backend.publish_to(&all, before, &nodes).await;
        let cursor = backend.cursor.clone();
        all.servers[before].kill().await;
        let now = all.fails_over(before).await;
        // Until it is there again, for a replica, nothing is acknowledged.
        let event = Event::text("nobody's").once(Once::parse("not-acknowledged").unwrap());
        assert!(backend.publisher.publish(&Channel::parse("c").unwrap(), event).await.is_err());
        all.servers[before].restart().await;
        let new_last = backend.publish_to(&all, now, &nodes).await;
        for stream in &mut streams {
            assert_eq!(read_to(stream, if last == 0 { 0 } else { last + 1 }, new_last).await, NONE);
        }
        // So does a cursor of before.
        let url = nodes[1].url("/events?channel=a");
        let mut back = Stream::open(nodes[1].fresh().get(url).header("Last-Event-ID", &cursor)).await;
        let first: u32 = back.data().await.unwrap().parse().unwrap();
        if first < new_last {
            assert_eq!(read_to(&mut back, first + 1, new_last).await, NONE);
        }
        last = new_last;
    }
    let gaps = nodes[0].metric("sse_gateway_gaps_total{reason=\"data_lost\"}").await;
    assert_eq!(gaps, 0.0);
}

#[tokio::test]
async fn a_start_says_what_is_wrong_with_the_sentinels() {
    let all = Sentinels::start().await;
    let refused = |url: String| async move {
        let exit = Gateway::builder().args(&["--redis-url", &url]).fail().await;
        assert_eq!((exit.status.code(), exit.output.as_str()), (Some(1), ""));
        // What the log has said before is no part of it.
        exit.errors.lines().last().unwrap().to_owned()
    };
    let port = all.sentinels[0].port();
    assert_eq!(
        refused(format!("redis+sentinel://me:hunter2@127.0.0.1:{port}/other")).await,
        format!(
            "sse-gateway: Redis at redis+sentinel://me:***@127.0.0.1:{port}/other will not do: Sentinel 127.0.0.1:{port}: \
             No such master with that name"
        )
    );
    let [nobody] = testkit::free_ports();
    assert_eq!(
        refused(format!("redis+sentinel://127.0.0.1:{nobody}/main")).await,
        format!(
            "sse-gateway: cannot reach Redis at redis+sentinel://127.0.0.1:{nobody}/main: Sentinel 127.0.0.1:{nobody}: connection \
             refused; start it, set \
             another with --redis-url, or wait for it with --wait-for-redis 30s"
        )
    );
}
