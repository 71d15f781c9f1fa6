//! A start without Redis, and a Redis that goes away while streams are open.

use std::net::TcpListener;

use shared::event_stream::decode::Decoded;
use testkit::{PATIENCE, Proxy, RedisServer, eventually, eventually_within, free_ports, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Gateway, Stream};

async fn open(gateway: &Gateway, path: &str) -> Stream {
    let mut stream = gateway.stream(path).await;
    stream.opened().await;
    stream
}

/// Publishes until somebody on some node heard it.
async fn publish(redis: &RedisServer, data: &str) {
    let fcall = ["FCALL", "sse_publish", "1", "sse:a", data];
    eventually("a node on the channel", async || {
        (redis.cli(&["PUBSUB", "NUMSUB", "sse:a"]).await.ends_with('1')).then_some(())
    })
    .await;
    assert_eq!(redis.cli(&fcall).await.lines().last(), Some("1"), "{data}");
}

/// Opens streams until one is turned away: 200, `retry:`, the end.
async fn turned_away(gateway: &Gateway) {
    eventually("a new stream that is turned away", async || {
        let mut stream = gateway.stream("/events?channel=new").await;
        assert_eq!(stream.status, 200);
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        match stream.rest().await[..] {
            [Decoded::Retry(retry)] => {
                assert!((2_400..=3_600).contains(&u128::from(retry.as_millis() as u64)), "{retry:?}");
                Some(())
            }
            _ => None,
        }
    })
    .await;
}

#[tokio::test]
async fn a_start_without_redis_says_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("redis://me:hunter2@127.0.0.1:{port}");
    let exit = Gateway::builder().args(&["--redis-url", &url]).fail().await;
    assert_eq!(exit.status.code(), Some(1));
    let expected = format!(
        "sse-gateway: cannot reach Redis at redis://me:***@127.0.0.1:{port}: connection refused; start it, set another with \
         --redis-url, or wait for it with --wait-for-redis 30s\n"
    );
    assert_eq!((exit.errors, exit.output), (expected, String::new()));
}

#[tokio::test]
async fn a_start_can_wait_for_redis() {
    let mut redis = RedisServer::start().await;
    redis.kill().await;
    let (gateway, ()) = futures_util::join!(Gateway::on(&redis).args(&["--wait-for-redis", "30s"]).start(), async {
        // Late: the gateway has bound its ports and been refused at least once by then.
        tokio::task::yield_now().await;
        redis.restart().await;
    });
    let mut stream = open(&gateway, "/events?channel=a").await;
    publish(&redis, "x").await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
}

#[tokio::test]
async fn probes_are_answered_while_it_waits_and_a_signal_ends_the_wait() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("redis://127.0.0.1:{port}");
    let [admin] = free_ports();
    let admin = format!("127.0.0.1:{admin}");
    let builder = Gateway::builder().args(&["--redis-url", &url, "--wait-for-redis", "60s", "--admin-listen", &admin]);
    let mut log = tempfile::NamedTempFile::new().unwrap();
    let builder = builder.env("SSE_GATEWAY__TELEMETRY__FILTER", "info").log_to(log.reopen().unwrap());
    let (mut child, _folder) = builder.start_piped();
    eventually("the gateway waits", async || {
        use std::io::{Read as _, Seek as _};
        let mut text = String::new();
        log.rewind().unwrap();
        log.read_to_string(&mut text).unwrap();
        text.contains("waiting for Redis").then_some(())
    })
    .await;
    for (path, status, text) in [("livez", 200, "ok\n"), ("readyz", 503, r#"{"ready":false,"reason":"starting"}"#)] {
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(format!("http://{admin}/{path}"));
        let answer = soon("an answer to a probe", answer.send()).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (status, text));
    }
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = soon("the end of a gateway that waits", child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn servers_that_will_not_do_are_refused_with_the_reason() {
    let cluster = RedisServer::builder().config("cluster-enabled yes").start().await;
    let exit = Gateway::on(&cluster).fail().await;
    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.errors.contains("it is part of a Redis Cluster"), "{}", exit.errors);

    let primary = RedisServer::start().await;
    let replica = RedisServer::builder().config(&format!("replicaof 127.0.0.1 {}", primary.port())).start().await;
    let exit = Gateway::on(&replica).fail().await;
    assert_eq!(exit.status.code(), Some(1));
    let use_primary = format!("read-only replica; use its primary, 127.0.0.1:{}", primary.port());
    assert!(exit.errors.contains(&use_primary), "{}", exit.errors);

    let closed = RedisServer::builder().config("requirepass s3cret").start().await;
    let exit = Gateway::on(&closed).fail().await;
    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.errors.contains("refuses"), "{}", exit.errors);
}

#[tokio::test]
async fn a_restarted_redis_is_found_again_and_streams_stay_open() {
    let mut redis = RedisServer::start().await;
    let mut gateway = Gateway::on(&redis).log_piped().start().await;
    let mut log = BufReader::new(gateway.take_log()).lines();
    let mut stream = open(&gateway, "/events?channel=a").await;
    publish(&redis, "before").await;
    assert_eq!(stream.data().await.as_deref(), Some("before"));

    redis.kill().await;
    gateway.metric_becomes("sse_gateway_broker_up", 0.0).await;
    turned_away(&gateway).await;
    assert_eq!(gateway.metric(&gateway.open()).await, 1.0, "the open stream stays open");
    assert!(gateway.admin("/readyz").await.status().is_success(), "merely unreachable, and not for long");

    redis.restart().await;
    gateway.metric_becomes("sse_gateway_broker_up", 1.0).await;
    publish(&redis, "after").await;
    assert_eq!(stream.data().await.as_deref(), Some("after"));
    let mut new = open(&gateway, "/events?channel=a").await;
    publish(&redis, "and on").await;
    assert_eq!(stream.data().await.as_deref(), Some("and on"));
    assert_eq!(new.data().await.as_deref(), Some("and on"));

    gateway.signal("TERM").await;
    let mut lines = Vec::new();
    while let Some(line) = soon("the log's end", log.next_line()).await.unwrap() {
        lines.push(line);
    }
    let about_redis: Vec<_> = lines.iter().filter(|line| line.contains("Redis")).collect();
    let lost = |line: &&&String| line.contains("WARN lost the session with Redis");
    assert_eq!(about_redis.iter().filter(lost).count(), 1, "{lines:#?}");
    assert_eq!(about_redis.iter().filter(|line| line.contains("INFO Redis is back")).count(), 1, "{lines:#?}");
    // Whoever of the node misses the functions first says that they were gone.
    let functions = about_redis.iter().filter(|line| line.contains("INFO the functions were gone")).count();
    assert!(functions <= 1, "{lines:#?}");
    assert_eq!(about_redis.len() - functions, 3, "connected, lost, back: {lines:#?}");
}

#[tokio::test]
async fn a_killed_pubsub_connection_is_opened_again() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut stream = open(&gateway, "/events?channel=a").await;
    for round in 0..3 {
        assert_eq!(redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await, "1");
        publish(&redis, &round.to_string()).await;
        assert_eq!(stream.data().await, Some(round.to_string()));
    }
    assert_eq!(gateway.metric("sse_gateway_broker_sessions_ended_total{reason=\"closed\"}").await, 3.0);
}

#[tokio::test]
async fn a_redis_that_hangs_is_given_up_and_taken_again() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).env("SSE_GATEWAY__REDIS__COMMAND_TIMEOUT", "500ms").start().await;
    let mut stream = open(&gateway, "/events?channel=a").await;
    redis.pause().await;
    gateway.metric_becomes("sse_gateway_broker_up", 0.0).await;
    turned_away(&gateway).await;
    redis.resume().await;
    gateway.metric_becomes("sse_gateway_broker_up", 1.0).await;
    publish(&redis, "x").await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_node_that_does_not_hear_itself_begins_anew() {
    let redis = RedisServer::start().await;
    let link = Proxy::to(redis.port()).await;
    let gateway = Gateway::builder().args(&["--redis-url", &link.url()]).start().await;
    let mut stream = open(&gateway, "/events?channel=a").await;
    publish(&redis, "before").await;
    assert_eq!(stream.data().await.as_deref(), Some("before"));
    assert_eq!(link.deafen_subscribers(), 1);
    let deaf = "sse_gateway_broker_sessions_ended_total{reason=\"deaf\"}";
    // It speaks to itself every 5 s, and has 10 s to hear it.
    let noticed = async || (gateway.metric(deaf).await == 1.0).then_some(());
    eventually_within(PATIENCE * 4, "the node notices that it is deaf", noticed).await;
    gateway.metric_becomes("sse_gateway_broker_up", 1.0).await;
    eventually("ready again", async || gateway.admin("/readyz").await.status().is_success().then_some(())).await;
    publish(&redis, "after").await;
    assert_eq!(stream.data().await.as_deref(), Some("after"));
}

#[tokio::test]
async fn readiness_goes_when_redis_is_away_for_too_long() {
    let mut redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).env("SSE_GATEWAY__REDIS__UNREADY_AFTER", "1s").start().await;
    redis.kill().await;
    let answer = eventually("not ready", async || {
        let response = gateway.admin("/readyz").await;
        (response.status() == 503).then_some(response)
    })
    .await;
    assert_eq!(answer.text().await.unwrap(), r#"{"ready":false,"reason":"broker_away"}"#);
    assert!(gateway.admin("/livez").await.status().is_success());
    redis.restart().await;
    eventually("ready again", async || gateway.admin("/readyz").await.status().is_success().then_some(())).await;
}

#[tokio::test]
async fn flushed_data_and_functions_are_another_life() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut stream = open(&gateway, "/events?channel=a").await;
    publish(&redis, "before").await;
    let before = stream.event().await.unwrap();
    redis.cli(&["FLUSHALL"]).await;
    redis.cli(&["FUNCTION", "FLUSH"]).await;
    gateway.metric_becomes("sse_gateway_broker_sessions_ended_total{reason=\"epoch\"}", 1.0).await;
    gateway.metric_becomes("sse_gateway_broker_up", 1.0).await;
    publish(&redis, "after").await;
    let after = stream.event().await.unwrap();
    assert_eq!(after.data, "after");
    let tag = |id: &str| id.split_once('_').unwrap().1.to_owned();
    assert_ne!(tag(&before.id), tag(&after.id));
}

#[tokio::test]
async fn a_full_redis_keeps_nobody_out() {
    let redis = RedisServer::builder().config("maxmemory-policy noeviction").start().await;
    let gateway = Gateway::on(&redis).start().await;
    let mut old = open(&gateway, "/events?channel=a").await;
    redis.cli(&["SET", "ballast", &"x".repeat(100_000)]).await;
    assert_eq!(redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await, "OK");
    let refused = redis.cli(&["FCALL", "sse_publish", "1", "sse:a", "x"]).await;
    assert!(refused.starts_with("OOM"), "{refused}");
    let mut new = open(&gateway, "/events?channel=a&channel=b").await;
    assert_eq!(redis.cli(&["PUBLISH", "sse:a", "ephemeral"]).await, "1");
    assert_eq!(old.data().await.as_deref(), Some("ephemeral"));
    assert_eq!(new.data().await.as_deref(), Some("ephemeral"));
    assert_eq!(gateway.metric("sse_gateway_broker_sessions_ended_total{reason=\"failed\"}").await, 0.0);
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    publish(&redis, "durable").await;
    assert_eq!(new.data().await.as_deref(), Some("durable"));
}

#[tokio::test]
async fn a_stopping_node_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on(&redis).env("SSE_GATEWAY__DRAIN__GRACE", "0s").start().await;
    let _stream = open(&gateway, "/events?channel=a").await;
    assert_eq!(gateway.stop().await.status.code(), Some(0));
    eventually("no client but this one", async || {
        (redis.cli(&["CLIENT", "LIST"]).await.lines().count() == 1).then_some(())
    })
    .await;
}
