//! nginx, HAProxy and Caddy, as `config/lb` has them, in front of two gateways on one Redis: what a browser sees through each,
//! and what the gateways see of the browser.

use std::time::Duration;

use shared::event_stream::decode::Decoded;
use testkit::RedisServer;
use tokio::net::TcpSocket;

use crate::support::{Gateway, Stream, eventually};

mod balancer;

use balancer::{Balancer, Http, Kind};

const EITHER: [Http; 2] = [Http::One, Http::Two];
const TURNED_AWAY: &str = "sse_gateway_connections_turned_away_total{reason=\"address\"}";

/// A test of each of them.
macro_rules! of_each {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        mod nginx { $(#[tokio::test] $(#[$attribute])* async fn $name() { super::$name(super::Kind::Nginx).await; })* }
        mod haproxy { $(#[tokio::test] $(#[$attribute])* async fn $name() { super::$name(super::Kind::Haproxy).await; })* }
        mod caddy { $(#[tokio::test] $(#[$attribute])* async fn $name() { super::$name(super::Kind::Caddy).await; })* }
    };
}

of_each! {
    events_pass_at_once_by_either_http
    keep_alives_pass
    a_client_that_goes_is_noticed
    a_stream_goes_on_at_the_other_node
    clients_come_back_when_no_node_is_there
    each_client_has_its_own_address
    #[ignore = "a minute: make test-long"]
    a_stream_may_be_silent_for_a_minute
}

/// Redis, and two nodes that read it.
struct Nodes {
    redis: RedisServer,
    one: Gateway,
    two: Gateway,
}

impl Nodes {
    async fn start(config: &str) -> Self {
        let redis = RedisServer::start().await;
        let node = |name| Gateway::on(&redis).config(&format!("node = \"{name}\"\n{config}")).start();
        let (one, two) = tokio::join!(node("one"), node("two"));
        Self { redis, one, two }
    }

    async fn behind(&self, kind: Kind) -> Balancer {
        Balancer::start(kind, [&self.one, &self.two]).await
    }

    async fn publish(&self, data: &str) {
        let envelope = format!(r#"{{"data":"{data}"}}"#);
        self.redis.cli(&["FCALL", "sse_publish", "1", "sse:a", &envelope]).await;
    }

    /// Event streams that are open, on whichever lane.
    async fn open(&self) -> f64 {
        let mut open = 0.0;
        for node in [&self.one, &self.two] {
            for lane in ["direct", "hyper"] {
                open += node.metric(&format!("sse_gateway_connections{{lane=\"{lane}\"}}")).await;
            }
        }
        open
    }

    async fn open_becomes(&self, number: f64) {
        let check = async || (self.open().await == number).then_some(());
        eventually(&format!("{number} open streams"), check).await;
    }

    /// Kills the node of this name, and returns the other one.
    async fn kill(&mut self, name: &str) -> &Gateway {
        let (gone, other) = if name == "one" { (&mut self.one, &self.two) } else { (&mut self.two, &self.one) };
        gone.signal("KILL").await;
        gone.exit().await;
        other
    }
}

/// The head says a stream, not compressed, and each event is there before there is a next one.
async fn events_pass_at_once_by_either_http(kind: Kind) {
    let nodes = Nodes::start("").await;
    let balancer = nodes.behind(kind).await;
    for http in EITHER {
        let browser = balancer.browser(http).await;
        let (mut stream, _) = browser.stream("/events?channel=a").await;
        assert_eq!(stream.status, 200);
        assert_eq!(stream.headers["content-type"], "text/event-stream", "{http:?}");
        assert!(!stream.headers.contains_key("content-encoding"), "{http:?}: {:?}", stream.headers);
        for data in ["1", "2", "3"] {
            nodes.publish(data).await;
            assert_eq!(stream.data().await.as_deref(), Some(data), "{http:?}");
        }
        assert_eq!(browser.get("/publish").send().await.unwrap().status(), 404, "publishing is not for browsers");
    }
}

/// An idle stream says something in the end, and that is not kept back for more to come.
async fn keep_alives_pass(kind: Kind) {
    let nodes = Nodes::start("keep_alive = \"1s\"").await;
    let balancer = nodes.behind(kind).await;
    for http in EITHER {
        let browser = balancer.browser(http).await;
        let (mut stream, _) = browser.stream("/events?channel=a").await;
        for _ in 0..3 {
            while !matches!(stream.next().await.expect("it ended"), Decoded::Comment(_)) {}
        }
    }
}

/// Both a connection that ends and, by HTTP/2, one stream of a connection that stays.
async fn a_client_that_goes_is_noticed(kind: Kind) {
    let nodes = Nodes::start("").await;
    let balancer = nodes.behind(kind).await;
    for http in EITHER {
        let browser = balancer.browser(http).await;
        let (mut stays, _) = browser.stream("/events?channel=a").await;
        let (goes, _) = browser.stream("/events?channel=a").await;
        nodes.open_becomes(2.0).await;
        drop(goes);
        nodes.open_becomes(1.0).await;
        nodes.publish("still there").await;
        assert_eq!(stays.data().await.as_deref(), Some("still there"), "{http:?}");
        drop((stays, browser));
        nodes.open_becomes(0.0).await;
    }
}

/// A node is killed: its streams end at once, and go on where they were at the other one.
async fn a_stream_goes_on_at_the_other_node(kind: Kind) {
    let mut nodes = Nodes::start("").await;
    let balancer = nodes.behind(kind).await;
    let browser = balancer.browser(Http::Two).await;
    let (mut stream, node) = browser.stream("/events?channel=a").await;
    nodes.publish("before").await;
    let cursor = stream.event().await.unwrap().id;
    nodes.kill(&node).await;
    stream.rest().await;
    nodes.publish("meanwhile").await;

    let again = browser.get("/events?channel=a").header("last-event-id", &cursor);
    let mut stream = Stream::open(again).await;
    let other = stream.opened().await["node"].clone();
    assert_ne!(other, node.as_str());
    assert_eq!(stream.data().await.as_deref(), Some("meanwhile"));
    nodes.publish("after").await;
    assert_eq!(stream.data().await.as_deref(), Some("after"));
}

/// No node is there: 200, so that an `EventSource` comes back, with its cursor, from whatever page it is on.
async fn clients_come_back_when_no_node_is_there(kind: Kind) {
    let mut nodes = Nodes::start("").await;
    let balancer = nodes.behind(kind).await;
    let mut held = Vec::new();
    for name in ["one", "two"] {
        nodes.kill(name).await;
        let public = if name == "one" { &nodes.one.public } else { &nodes.two.public };
        held.push(hold(public).await);
    }
    for http in EITHER {
        let browser = balancer.browser(http).await;
        let request = browser.get("/events?channel=a").header("origin", "https://app.example.com");
        let mut answer = Stream::open(request.header("last-event-id", "1795542556379-0_kppv4")).await;
        assert_eq!(answer.status, 200, "{http:?}");
        let said = answer.rest().await;
        let expected = [Decoded::Retry(Duration::from_secs(5)), Decoded::Id("1795542556379-0_kppv4".to_owned())];
        assert_eq!(said, expected, "{http:?}");
        for (header, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-transform"),
            ("access-control-allow-origin", "https://app.example.com"),
            ("access-control-allow-credentials", "true"),
        ] {
            assert_eq!(answer.headers[header], value, "{http:?}: {header}");
        }
        // Without a cursor there is none, and what is none is not repeated.
        for cursor in ["", "not one"] {
            let request = browser.get("/api/sse/connect?userId=42").header("last-event-id", cursor);
            let mut answer = Stream::open(request).await;
            assert_eq!(answer.rest().await, [Decoded::Retry(Duration::from_secs(5))], "{http:?}");
        }
        assert_eq!(browser.get("/nothing").send().await.unwrap().status(), 404, "{http:?}: that is for streams alone");
    }
}

/// Takes the place of a server that is gone, and listens to nobody: else another test's may be given it meanwhile, and answer.
async fn hold(address: &str) -> TcpSocket {
    let address = address.parse().unwrap();
    let held = TcpSocket::new_v4().unwrap();
    eventually("its place is free", async || held.bind(address).ok()).await;
    held
}

/// A limit of one address is one of each client's, whatever the client says of itself.
async fn each_client_has_its_own_address(kind: Kind) {
    let limits = "[limits]\nmax_connections_per_address = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    let nodes = Nodes::start(limits).await;
    let balancer = nodes.behind(kind).await;
    // One at each node, and more than that, wherever they come.
    for (last, turned_away) in [(2, 1.0), (3, 2.0)] {
        let browser = balancer.browser_from(Http::Two, last).await;
        let mut held = Vec::new();
        let mut retries = 0;
        while retries == 0 {
            let claimed = format!("203.0.113.{}", held.len() + 1);
            let mut stream = Stream::open(browser.get("/events?channel=a").header("x-forwarded-for", claimed)).await;
            if is_over(&mut stream).await {
                retries += 1;
            } else {
                held.push(stream);
            }
            assert!(held.len() <= 2, "{} streams of one address", held.len());
        }
        assert!(!held.is_empty(), "another client is another address");
        let sum = async || {
            let sum = nodes.one.metric(TURNED_AWAY).await + nodes.two.metric(TURNED_AWAY).await;
            (sum == turned_away).then_some(())
        };
        eventually("it is counted", sum).await;
    }
}

/// Nothing more is said: it was turned away. One that is open says `sse.open`.
async fn is_over(stream: &mut Stream) -> bool {
    loop {
        match stream.next().await {
            None => return true,
            Some(Decoded::Event(event)) if event.event == "sse.open" => return false,
            Some(_) => {}
        }
    }
}

/// No timeout is shorter than it says. The silence itself is what this is about, so it is waited for.
async fn a_stream_may_be_silent_for_a_minute(kind: Kind) {
    // That is 56 s at least.
    let nodes = Nodes::start("keep_alive = \"70s\"").await;
    let balancer = nodes.behind(kind).await;
    let mut streams = Vec::new();
    for http in EITHER {
        let browser = balancer.browser(http).await;
        let (stream, _) = browser.stream("/events?channel=a").await;
        // Its way to the balancer ends with the browser.
        streams.push((stream, browser));
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
    nodes.publish("at last").await;
    for (stream, _) in &mut streams {
        assert_eq!(stream.data().await.as_deref(), Some("at last"));
    }
}
