//! Clients that go, at each stage of a request and in each way: it is noticed, and nothing of them stays.

use serde_json::json;
use testkit::RedisServer;

use crate::support::{Gateway, Raw};

const SUBSCRIPTIONS: &str = "sse_gateway_broker_subscriptions";
const REQUEST: &str = "GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n";
/// At a time.
const CROWD: usize = 20;

/// How a client goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    Fin,
    Reset,
    /// It only stops sending; that it never reads either does not show. Counts as gone: no client of event streams does
    /// it and means to stay.
    HalfClose,
}

/// Where in a request.
#[derive(Debug, Clone, Copy)]
enum Stage {
    BeforeTheHead,
    InTheHead,
    /// Whatever the gateway is about by then.
    AfterTheHead,
    /// With the answer's head in the client's hands, and nothing else read.
    AfterTheAnswer,
    InTheStream,
}

const WAYS: [Way; 3] = [Way::Fin, Way::Reset, Way::HalfClose];
const STAGES: [Stage; 5] =
    [Stage::BeforeTheHead, Stage::InTheHead, Stage::AfterTheHead, Stage::AfterTheAnswer, Stage::InTheStream];

/// A client that has come so far.
async fn come(gateway: &Gateway, stage: Stage) -> Raw {
    let mut raw = Raw::connect(&gateway.public).await;
    match stage {
        Stage::BeforeTheHead => {}
        Stage::InTheHead => raw.send(&REQUEST[..REQUEST.len() - 3]).await,
        Stage::AfterTheHead => raw.send(REQUEST).await,
        Stage::AfterTheAnswer => {
            raw.send(REQUEST).await;
            raw.head().await;
        }
        Stage::InTheStream => {
            raw.send(REQUEST).await;
            raw.head().await;
            raw.body_until("sse.open").await;
            raw.body_until("\n\n").await;
        }
    }
    raw
}

#[tokio::test]
async fn at_each_stage_in_each_way() {
    // A write, and a keep-alive is one, also finds who is gone: this is to be noticed without.
    let gateway = Gateway::builder().config("keep_alive = \"10m\"").start().await;
    let before = gateway.descriptors_at_rest().await;
    for stage in STAGES {
        for way in WAYS {
            let what = format!("{way:?} {stage:?}");
            let mut crowd = Vec::new();
            for _ in 0..CROWD {
                crowd.push(come(&gateway, stage).await);
            }
            let mut halves = Vec::new();
            for mut raw in crowd {
                match way {
                    Way::Fin => drop(raw),
                    Way::Reset => raw.reset(),
                    Way::HalfClose => {
                        raw.half_close().await;
                        halves.push(raw);
                    }
                }
            }
            gateway.is_at_rest(before, &what).await;
            for raw in &mut halves {
                // Whether an answer was on its way or not, the connection ends.
                raw.rest().await;
            }
        }
    }
    gateway.metric_becomes(SUBSCRIPTIONS, 0.0).await;
    assert_eq!(gateway.publish(json!({"channel": "a"})).await["receivers"], 0);
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    gateway.publish(json!({"channel": "a", "data": "x"})).await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
}

/// Redis stands still, so a stream has to wait for its channels: who goes meanwhile is not waited for.
#[tokio::test]
async fn while_the_answer_is_waited_for() {
    let redis = RedisServer::start().await;
    let settings = "[limits]\nopen_timeout = \"1m\"\nrequest_timeout = \"2m\"\n[redis]\ncommand_timeout = \"1m\"";
    let gateway = Gateway::on(&redis).config(settings).start().await;
    let before = gateway.descriptors_at_rest().await;
    for way in WAYS {
        redis.pause().await;
        let mut halves = Vec::new();
        let mut crowd = Vec::new();
        for number in 0..CROWD {
            let mut raw = Raw::connect(&gateway.public).await;
            raw.get(&format!("/events?channel={way:?}:{number}")).await;
            raw.all_is_read().await;
            crowd.push(raw);
        }
        for mut raw in crowd {
            match way {
                Way::Fin => drop(raw),
                Way::Reset => raw.reset(),
                Way::HalfClose => {
                    raw.half_close().await;
                    halves.push(raw);
                }
            }
        }
        gateway.is_at_rest(before, &format!("{way:?}")).await;
        redis.resume().await;
        gateway.metric_becomes(SUBSCRIPTIONS, 0.0).await;
    }
    assert_eq!(gateway.metric(&gateway.ever_open()).await, 0.0);
}

/// As the node stops, each stream is told when to come back, its body ends, and then its connection.
#[tokio::test]
async fn when_the_node_stops() {
    let mut gateway = Gateway::builder().config("[drain]\ngrace = \"0s\"").start().await;
    let mut raws = Vec::new();
    for number in 0..200 {
        let mut raw = Raw::connect(&gateway.public).await;
        raw.get(&format!("/events?channel=a&channel=own:{number}")).await;
        raw.head().await;
        raw.body_until("sse.open").await;
        raw.body_until("\n\n").await;
        raws.push(raw);
    }
    gateway.signal("TERM").await;
    for raw in &mut raws {
        let rest = raw.rest_of_chunks().await;
        let retry = rest.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
        assert!(retry.is_some_and(|ms| ms.parse::<u32>().is_ok()), "{rest:?}");
        assert_eq!(raw.rest().await, b"");
    }
    assert_eq!(gateway.exit().await.status.code(), Some(0));
}

/// At the end of its life a stream is told when to come back and ends; its connection may be used again.
#[tokio::test]
async fn when_their_time_is_over() {
    let gateway = Gateway::builder().config("[limits]\nmax_lifetime = \"1s\"").start().await;
    let before = gateway.descriptors_at_rest().await;
    let mut raws = Vec::new();
    for number in 0..200 {
        let mut raw = Raw::connect(&gateway.public).await;
        raw.get(&format!("/events?channel=a&channel=own:{number}")).await;
        raw.head().await;
        raw.body_until("sse.open").await;
        raw.body_until("\n\n").await;
        raws.push(raw);
    }
    for raw in &mut raws {
        let rest = raw.rest_of_chunks().await;
        let retry = rest.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
        assert!(retry.is_some_and(|ms| ms.parse::<u32>().is_ok()), "{rest:?}");
        raw.get("/nothing").await;
        let head = raw.head().await;
        assert_eq!(head.status, "HTTP/1.1 404 Not Found");
        raw.body_of(&head).await;
    }
    gateway.metric_becomes("sse_gateway_connections_closed_total{reason=\"lifetime\"}", 200.0).await;
    drop(raws);
    gateway.is_at_rest(before, "200 lives").await;
}

/// What a client sent beyond its request stands between its stream and its end, and hides neither: nothing is written here, so
/// nothing but the end itself can be noticed.
#[tokio::test]
async fn behind_what_is_not_read() {
    let gateway = Gateway::builder().config("keep_alive = \"10m\"").start().await;
    let before = gateway.descriptors_at_rest().await;
    let stream = |lines: &str| format!("GET /events?channel=a HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    for (what, request) in [
        ("a body that never comes", stream("Content-Length: 99\r\n")),
        ("a body that came in part", stream("Content-Length: 99\r\n") + "x"),
        ("a line", stream("") + "\r\n"),
        ("half a request", stream("") + "GET /noth"),
        ("a request", stream("") + &stream("")),
        ("many requests", stream("") + &stream("").repeat(1_000)),
    ] {
        for way in WAYS {
            let (mut crowd, mut halves) = (Vec::new(), Vec::new());
            for _ in 0..CROWD {
                let mut raw = Raw::connect(&gateway.public).await;
                raw.send(&request).await;
                raw.head().await;
                raw.body_until("sse.open").await;
                raw.body_until("\n\n").await;
                crowd.push(raw);
            }
            for mut raw in crowd {
                // Some of it only now.
                raw.offer(b"GET /nothing HTTP/1.1\r\n").await.ok();
                match way {
                    Way::Reset => raw.reset(),
                    Way::Fin => drop(raw),
                    Way::HalfClose => {
                        raw.half_close().await;
                        halves.push(raw);
                    }
                }
            }
            gateway.is_at_rest(before, &format!("{way:?} behind {what}")).await;
            drop(halves);
        }
    }
}
