//! `monitoring/` against the real thing: a Prometheus that scrapes two gateways and a publisher on a Redis, with streams open and
//! events published. Every query of the dashboard and of every alert is asked of it, and whatever one names has to be there.

mod files;
mod queries;

use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, Url};
use serde_json::{Value, json};
use testkit::{Prometheus, RedisServer, binary, eventually_within, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use self::files::{dashboard, folder, text};
use self::queries::{Query, of_alert, of_dashboard};
use crate::support::{Gateway, Stream};

/// Scrapes come every second, and a rate takes two of them.
const SCRAPED_WITHIN: Duration = Duration::from_secs(30);

/// `sse-publisher serve`, killed when it is dropped.
struct Publisher {
    _child: Child,
    url: String,
    admin: String,
}

impl Publisher {
    async fn start(redis: &RedisServer) -> Self {
        let mut command = Command::new(binary("publisher", "sse-publisher"));
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--redis-url",
            &redis.url(),
        ]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut greeting = String::new();
        while !greeting.contains("operate") {
            let line = soon("the publisher's greeting", lines.next_line()).await.unwrap().expect("the publisher ended");
            greeting.push_str(&line);
        }
        let address = |word: &str| {
            let (_, rest) = greeting.split_once(word).unwrap();
            let (_, rest) = rest.split_once("http://").unwrap();
            rest.split('/').next().unwrap().to_owned()
        };
        Self { url: format!("http://{}/publish", address("publish  ")), admin: address("operate"), _child: child }
    }
}

/// What Prometheus answers to an instant query: series, each with its labels and its value.
async fn ask(client: &Client, prometheus: &Prometheus, query: &str) -> Vec<Value> {
    let mut url = Url::parse(&format!("{}/api/v1/query", prometheus.url())).unwrap();
    url.query_pairs_mut().append_pair("query", query);
    let answer: Value = soon(query, client.get(url).send()).await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let data = &answer["data"];
    assert!(["vector", "scalar"].contains(&data["resultType"].as_str().unwrap()), "{query}: {answer}");
    data["result"].as_array().cloned().unwrap_or_default()
}

/// Waits until a query has an answer that is not empty.
async fn answered(client: &Client, prometheus: &Prometheus, query: &str) -> Vec<Value> {
    let check = async || Some(ask(client, prometheus, query).await).filter(|series| !series.is_empty());
    eventually_within(SCRAPED_WITHIN, query, check).await
}

/// The configuration that `make cluster` runs, with these targets, and quicker.
fn configuration(gateways: [&str; 2], publisher: &str) -> String {
    let mut config = text("prometheus/prometheus.yml");
    for (from, to) in [
        ("127.0.0.1:9081", gateways[0]),
        ("127.0.0.1:9082", gateways[1]),
        ("127.0.0.1:9091", publisher),
        ("scrape_interval: 5s", "scrape_interval: 1s"),
        ("evaluation_interval: 5s", "evaluation_interval: 1s"),
    ] {
        assert_eq!(config.matches(from).count(), 1, "{from} in\n{config}");
        config = config.replace(from, to);
    }
    config
}

/// Streams that are open, that come back, and events for them; so that nothing is missing for want of traffic.
async fn traffic(one: &Gateway, two: &Gateway, publisher: &Publisher) -> Vec<Stream> {
    let mut streams = Vec::new();
    for gateway in [one, two] {
        let mut stream = gateway.stream("/events?channel=a").await;
        stream.opened().await;
        streams.push(stream);
    }
    for n in 0..3 {
        let publish = one.client.post(&publisher.url).json(&json!({"channel": "a", "data": n}));
        assert_eq!(soon("a receipt", publish.send()).await.unwrap().status(), 200);
        for stream in &mut streams {
            assert_eq!(stream.data().await.unwrap(), n.to_string());
        }
    }
    let mut back = two.stream("/events?channel=a&last_event_id=earliest").await;
    assert_eq!(back.data().await.unwrap(), "0");
    streams.push(back);
    streams
}

#[tokio::test]
async fn every_query_of_dashboard_and_alerts_has_what_it_names() {
    let redis = RedisServer::start().await;
    let (one, two) = (Gateway::on(&redis).start().await, Gateway::on(&redis).start().await);
    let publisher = Publisher::start(&redis).await;
    let prometheus =
        Prometheus::start(&configuration([&one.admin, &two.admin], &publisher.admin), &folder("prometheus")).await;
    let _streams = traffic(&one, &two, &publisher).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let scraped = async || (ask(&client, &prometheus, "up == 1").await.len() == 3).then_some(());
    eventually_within(SCRAPED_WITHIN, "all three are scraped", scraped).await;

    let panels = of_dashboard(&dashboard());
    assert!(panels.len() > 50, "{}", panels.len());
    for Query { place, expr, legend_labels, .. } in &panels {
        let series = answered(&client, &prometheus, expr).await;
        for label in legend_labels {
            let named = series.iter().all(|series| series["metric"][label].is_string());
            assert!(named, "{place}: the legend names {label}, and the answer to {expr} has {series:?}");
        }
    }

    let rules = client.get(format!("{}/api/v1/rules", prometheus.url()));
    let health = async || {
        let answer: Value = rules.try_clone().unwrap().send().await.unwrap().json().await.unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        let alerts: Vec<Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        alerts.iter().all(|alert| alert["health"] != "unknown").then_some(alerts)
    };
    let alerts = eventually_within(SCRAPED_WITHIN, "every alert was evaluated", health).await;
    let names: Vec<&str> = alerts.iter().map(|alert| alert["name"].as_str().unwrap()).collect();
    assert_eq!(names, files::alerts());
    for alert in &alerts {
        assert_eq!(alert["health"], "ok", "{alert}");
        assert_ne!(alert["state"], "firing", "nothing is wrong here: {alert}");
    }

    let of_alerts: Vec<Query> = alerts.iter().map(of_alert).collect();
    for Query { place, selectors, .. } in panels.iter().chain(&of_alerts) {
        assert!(!selectors.is_empty(), "{place} names no metric of ours");
        for selector in selectors {
            answered(&client, &prometheus, &format!("count({selector})")).await;
        }
    }
    assert!(!prometheus.log().contains("level=error"), "{}", prometheus.log());
}

/// As it is shipped: scraped every 5 s.
#[tokio::test]
async fn a_node_that_is_killed_is_told_within_15_seconds_and_that_it_is_back_too() {
    const TOLD_WITHIN: Duration = Duration::from_secs(15);
    let redis = RedisServer::start().await;
    let (one, mut two) = (Gateway::on(&redis).start().await, Gateway::on(&redis).start().await);
    let publisher = Publisher::start(&redis).await;
    let config = configuration([&one.admin, &two.admin], &publisher.admin).replace("interval: 1s", "interval: 5s");
    let prometheus = Prometheus::start(&config, &folder("prometheus")).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let scraped = async || (ask(&client, &prometheus, "up == 1").await.len() == 3).then_some(());
    eventually_within(SCRAPED_WITHIN, "all three are scraped", scraped).await;
    let firing = async || {
        let alerts = ask(&client, &prometheus, "ALERTS{alertstate=\"firing\"}").await;
        let told = alerts.iter().map(|alert| {
            let label = |name: &str| alert["metric"][name].as_str().unwrap().to_owned();
            (label("alertname"), label("instance"))
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(firing().await, []);
    let address = two.admin.clone();
    two.signal("KILL").await;
    two.exit().await;
    let down = [("SseGatewayDown".to_owned(), address.clone())];
    eventually_within(TOLD_WITHIN, "it is down", async || (firing().await == down).then_some(())).await;
    let _again = Gateway::on(&redis).env("SSE_GATEWAY__ADMIN_LISTEN", &address).start().await;
    eventually_within(TOLD_WITHIN, "it is back", async || firing().await.is_empty().then_some(())).await;
}
