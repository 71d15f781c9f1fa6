//! Limits on who may open a stream: what a client beyond one is told, what is counted, and that a place comes free again.

use std::time::Duration;

use shared::event_stream::decode::Decoded;
use tokio::time::Instant;

use crate::support::{Gateway, Lane, Raw, Stream};

const LANES: [Lane; 2] = [Lane::Direct, Lane::Hyper];

mod proxies;
mod users;

async fn start(lane: Lane, limits: &str) -> Gateway {
    Gateway::builder().lane(lane).config(&format!("retry = \"1s\"\n[limits]\n{limits}")).start().await
}

/// A stream from a client of which a proxy says this.
async fn from(gateway: &Gateway, header: &str, said: &str) -> Stream {
    Stream::open(gateway.fresh().get(gateway.url("/events?channel=a")).header(header, said)).await
}

/// When it is told to come back; it has to have been turned away.
async fn retry(mut stream: Stream) -> Duration {
    assert_eq!(stream.status, 200, "anything else ends an EventSource for good");
    match &stream.rest().await[..] {
        [Decoded::Retry(retry)] => *retry,
        other => panic!("{other:?}"),
    }
}

async fn counted_alone(gateway: &Gateway, limit: &str, times: f64) {
    gateway.metric_becomes(&format!("sse_gateway_limited_total{{limit=\"{limit}\"}}"), times).await;
}

async fn counted(gateway: &Gateway, limit: &str, reason: &str, times: f64) {
    counted_alone(gateway, limit, times).await;
    let turned_away = format!("sse_gateway_connections_turned_away_total{{reason=\"{reason}\"}}");
    gateway.metric_becomes(&turned_away, times).await;
}

#[tokio::test]
async fn of_one_address_as_a_trusted_proxy_says_it() {
    for (header, one, other) in [
        ("x-forwarded-for", "198.51.100.1, 203.0.113.9", "203.0.113.9, 203.0.113.10"),
        ("forwarded", "for=203.0.113.9", "for=\"[2001:db8::1]:80\""),
    ] {
        for lane in LANES {
            let limits = format!(
                "max_connections_per_address = 2\ntrusted_proxies = [\"127.0.0.0/8\"]\nforwarded_header = \"{header}\""
            );
            let gateway = start(lane, &limits).await;
            let mut held = vec![from(&gateway, header, one).await, from(&gateway, header, one).await];
            for stream in &mut held {
                stream.opened().await;
            }
            let retry = retry(from(&gateway, header, one).await).await;
            assert!((Duration::from_millis(800)..=Duration::from_millis(1_200)).contains(&retry), "{retry:?}");
            counted(&gateway, "address", "address", 1.0).await;
            from(&gateway, header, other).await.opened().await;
            held.pop();
            gateway.metric_becomes(&gateway.open(), 1.0).await;
            from(&gateway, header, one).await.opened().await;
        }
    }
}

#[tokio::test]
async fn nobody_can_claim_another_address() {
    for lane in LANES {
        let gateway = start(lane, "max_connections_per_address = 1").await;
        let mut held = from(&gateway, "x-forwarded-for", "203.0.113.1").await;
        held.opened().await;
        retry(from(&gateway, "x-forwarded-for", "203.0.113.2").await).await;
        counted(&gateway, "address", "address", 1.0).await;
    }
}

#[tokio::test]
async fn in_time_and_a_crowd_is_told_to_come_back_spread() {
    for lane in LANES {
        // So few that the test's own time adds none that matters.
        let gateway = start(lane, "connects_per_second = 1").await;
        let mut told = Vec::new();
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut stream = from(&gateway, "x-none", "").await;
            match stream.next().await {
                Some(Decoded::Retry(retry)) if stream.next().await.is_none() => told.push(retry.as_secs()),
                _ => open.push(stream),
            }
        }
        assert!((2..6).contains(&open.len()), "{}", open.len());
        // Each later than the one before, but for the random part and the time that went by.
        let (first, last) = (told[0], *told.last().unwrap());
        assert!(first <= 3 && last >= first + 7, "{told:?}");
        counted(&gateway, "connects", "rate", told.len() as f64).await;
    }
}

#[tokio::test]
async fn in_time_of_one_address_that_takes_nothing_from_the_others() {
    for lane in LANES {
        // Two streams at a time: one a second, and twenty at once.
        let limits = "max_connections_per_address = 2\nconnects_per_second = 40\ntrusted_proxies = [\"127.0.0.0/8\"]";
        let gateway = start(lane, limits).await;
        let mut refused = 0;
        for _ in 0..120 {
            let mut stream = from(&gateway, "x-forwarded-for", "203.0.113.9").await;
            refused +=
                usize::from(matches!(stream.next().await, Some(Decoded::Retry(_))) && stream.next().await.is_none());
        }
        assert!(refused >= 30, "{refused}");
        let rate = gateway.metric("sse_gateway_connections_turned_away_total{reason=\"rate\"}").await;
        assert_eq!(rate, 0.0, "the rate that all have together was left alone");
        from(&gateway, "x-forwarded-for", "203.0.113.10").await.opened().await;
    }
}

#[tokio::test]
async fn on_sockets_of_one_peer() {
    for lane in LANES {
        let gateway = start(lane, "max_connections_per_address = 2").await;
        let mut open = Vec::new();
        for _ in 0..60 {
            let mut socket = Raw::connect(&gateway.public).await;
            socket.send("GET /events?channel=a HT").await;
            open.push(socket);
        }
        // Twice the streams, and sixteen: the others were closed before they had sent anything that matters.
        let name = "sse_gateway_limited_total{limit=\"address\"}";
        testkit::eventually("the others are counted", async || (gateway.metric(name).await == 40.0).then_some(()))
            .await;
        drop(open);
        testkit::eventually("places come free", async || {
            let request = gateway.fresh().get(gateway.url("/events?channel=a"));
            request.send().await.is_ok_and(|response| response.status() == 200).then_some(())
        })
        .await;
        // A proxy has any number of them.
        let gateway = start(lane, "max_connections_per_address = 2\ntrusted_proxies = [\"127.0.0.1\"]").await;
        let mut open = Vec::new();
        for _ in 0..60 {
            open.push(Raw::connect(&gateway.public).await);
        }
        from(&gateway, "x-forwarded-for", "203.0.113.9").await.opened().await;
        assert_eq!(gateway.metric(name).await, 0.0);
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_hold_up_nobody_else() {
    let config = "[auth]\nsecret = \"a secret of the tests, long enough for HS256\"";
    let gateway = Gateway::builder().config(config).start().await;
    let token = |claims: serde_json::Value| {
        testkit::TokenKey::hs256(b"a secret of the tests, long enough for HS256").token(None, &claims.to_string())
    };
    let exp = 9_999_999_999_u64;
    let reads = token(serde_json::json!({"sub": "reads", "exp": exp}));
    let greedy = token(serde_json::json!({"sub": "greedy", "exp": exp, "publish": ["*"]}));
    let other = token(serde_json::json!({"sub": "other", "exp": exp, "publish": ["*"]}));
    let head = |path: &str, kind: &str, token: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/{kind}\r\n\
             transfer-encoding: chunked\r\n\r\n"
        )
    };
    // Whoever may publish nothing is told so before its body is waited for.
    for path in ["/publish", "/chat"] {
        let mut socket = Raw::connect(&gateway.public).await;
        socket.send(&head(path, "json", &reads)).await;
        let head = testkit::soon("an answer", socket.head()).await;
        assert!(head.status.starts_with("HTTP/1.1 403 "), "{head:?}");
        assert!(socket.body_of(&head).await.contains("channel-not-granted"));
    }
    let mut open = Vec::new();
    for (path, kind, count) in
        [("/publish", "x-ndjson", 40), ("/publish", "json", 300), ("/chat", "json", 100), ("/events", "json", 700)]
    {
        for _ in 0..count {
            let mut socket = Raw::connect(&gateway.public).await;
            socket.send(&head(path, kind, &greedy)).await;
            open.push(socket);
        }
    }
    let post = |path: &str| gateway.client.post(gateway.url(path)).bearer_auth(&other);
    let batch = post("/publish").header("content-type", "application/x-ndjson").body("{\"channel\":\"a\"}\n");
    assert_eq!(testkit::soon("a batch", batch.send()).await.unwrap().status(), 200);
    let single = post("/publish").json(&serde_json::json!({"channel": "a", "data": 1}));
    assert_eq!(testkit::soon("an event", single.send()).await.unwrap().status(), 200);
    let events = post("/events").json(&serde_json::json!({"channels": ["user:other"]}));
    assert_eq!(testkit::soon("a stream", events.send()).await.unwrap().status(), 200);
    drop(open);
}

#[tokio::test]
async fn on_tickets_and_renewals_of_one_user() {
    let config = "[auth]\nsecret = \"a secret of the tests, long enough for HS256\"";
    let gateway = Gateway::builder().config(config).start().await;
    let key = testkit::TokenKey::hs256(b"a secret of the tests, long enough for HS256");
    let token = |user: &str| key.token(None, &serde_json::json!({"sub": user, "exp": 9_999_999_999_u64}).to_string());
    let ask =
        async |user: &str| gateway.client.post(gateway.url("/tickets")).bearer_auth(token(user)).send().await.unwrap();
    let mut refused = 0;
    for _ in 0..250 {
        let response = ask("42").await;
        if response.status() == 429 {
            assert!(response.headers().contains_key("retry-after"));
            assert!(response.text().await.unwrap().contains("urn:problem:sse:too-many-tickets"));
            refused += 1;
        }
    }
    assert!(refused > 0, "a hundred at once, and ten a second");
    assert_eq!(ask("43").await.status(), 200, "each user has its own");
    let renew = gateway.client.post(gateway.url("/events/renew")).bearer_auth(token("42"));
    let renew = renew.json(&serde_json::json!({"connection": "0123456789abcdef"})).send().await.unwrap();
    assert!([202, 429].contains(&renew.status().as_u16()), "{renew:?}");
}

#[tokio::test]
async fn of_the_node() {
    let gateway = start(Lane::Direct, "max_connections = 1").await;
    gateway.stream("/events?channel=a").await.opened().await;
    let mut held = gateway.stream("/events?channel=a").await;
    held.opened().await;
    retry(gateway.stream("/events?channel=a").await).await;
    counted(&gateway, "connections", "capacity", 1.0).await;
}

#[tokio::test]
async fn on_channels_and_heads() {
    for lane in LANES {
        let gateway = start(lane, "max_channels = 2\nmax_head = 8192").await;
        assert_eq!(gateway.stream("/events?channel=a&channel=b&channel=c").await.status, 400);
        gateway.metric_becomes("sse_gateway_limited_total{limit=\"channels\"}", 1.0).await;
        let long = gateway.client.get(gateway.url("/events?channel=a")).header("x", "y".repeat(8_192));
        assert_eq!(long.send().await.unwrap().status(), 431);
        gateway.metric_becomes("sse_gateway_limited_total{limit=\"head\"}", 1.0).await;
    }
}

/// Half of it goes by while the direct lane reads, the other half after it has left what comes in so many pieces to hyper.
#[tokio::test]
async fn on_the_time_of_a_head() {
    const TIMEOUT: Duration = Duration::from_secs(6);
    const PIECE: Duration = Duration::from_millis(20);
    // The direct lane reads 32 pieces.
    const HEAD: &str = "GET /events?channel=a HTTP/1.1\r\nX: yyyyyyyyyy";
    let (begin, more) = HEAD.split_at(30);
    for lane in LANES {
        let gateway = start(lane, "head_timeout = \"6s\"").await;
        let began = Instant::now();
        let mut idle = Raw::connect(&gateway.public).await;
        let mut whole = Raw::connect(&gateway.public).await;
        whole.get("/nothing").await;
        let head = whole.head().await;
        whole.body_of(&head).await;
        let mut slow = Raw::connect(&gateway.public).await;
        for byte in begin.bytes() {
            slow.send([byte]).await;
            assert!(!slow.ended_within(PIECE).await, "given up after {:?}", began.elapsed());
        }
        let half = (began + TIMEOUT / 2).saturating_duration_since(Instant::now());
        assert!(!slow.ended_within(half).await, "given up after {:?}", began.elapsed());
        for byte in more.bytes() {
            slow.send([byte]).await;
            assert!(!slow.ended_within(PIECE).await, "given up after {:?}", began.elapsed());
        }
        slow.rest().await;
        let elapsed = began.elapsed();
        assert!(elapsed >= TIMEOUT, "given up after {elapsed:?} on {lane:?}");
        assert!(elapsed < TIMEOUT + TIMEOUT / 2, "a head has the time twice on {lane:?}: {elapsed:?}");
        // Connections that are idle end as well, and were beyond no limit.
        idle.rest().await;
        whole.rest().await;
        counted_alone(&gateway, "head_timeout", 1.0).await;
    }
}

#[tokio::test]
async fn on_what_one_client_publishes() {
    for lane in LANES {
        let gateway = start(lane, "publish_rate = 1\npublish_burst = 2\ntrusted_proxies = [\"127.0.0.1\"]").await;
        let publish = async |client: &str| {
            let request = gateway.client.post(gateway.url("/channels/a/events")).header("x-forwarded-for", client);
            request.body("x").send().await.unwrap()
        };
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(publish("203.0.113.1").await.status().as_u16());
        }
        assert_eq!(statuses[..2], [200, 200]);
        let refused = statuses.iter().filter(|status| **status == 429).count();
        assert!(refused >= 3, "{statuses:?}");
        assert_eq!(publish("203.0.113.2").await.status(), 200);
        gateway.metric_becomes("sse_publisher_limited_total{limit=\"rate\"}", refused as f64).await;
    }
}
