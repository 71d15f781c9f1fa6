//! Flags that are wrong, what cannot be published, and Ctrl-C.

use testkit::{PATIENCE, RedisServer, soon};

use super::setup::{GATEWAY, Gateway, doctor};
use crate::support::program;

#[tokio::test]
async fn flags_that_are_wrong() {
    for (args, wanted) in [
        (&["--url", "localhost/events"][..], "an address is http://host[:port]/path?query, or https://"),
        (&["--url", "http://h/events?ticket=5f0c"], "sse-publisher: --url: a ticket opens one stream"),
        (&["--url", "http://h/", "--origin", "https://h/x"], "an origin is https://host[:port]"),
        (&["--url", "http://h/", "--idle", "0s"], "it is not within 1s and 1h"),
        (&["--url", "http://h/", "--streams", "0"], "0 is not in 1..=64"),
        (&["--url", "http://h/", "--publish-url", "http://h/", "--redis-url", "redis://h"], "cannot be used with"),
        (&["--url", "http://h/", "--redis-url", "http://h"], "redis.url"),
        (&["--url", "http://h/", "--token-file", "/none"], "sse-publisher: --token-file: /none: No such file"),
    ] {
        let exit = program(&["doctor", "--json"]).args(args).run().await;
        assert_eq!((exit.code(), &*exit.output), (2, ""), "{exit:?}");
        assert!(exit.errors.contains(wanted) && !exit.errors.contains("5f0c"), "{}", exit.errors);
    }
}

#[tokio::test]
async fn without_redis_the_rest_is_looked_at() {
    let (mut gone, redis) = tokio::join!(RedisServer::start(), RedisServer::start());
    gone.kill().await;
    let gateway = Gateway::start(&redis, "a", GATEWAY, &[]).await;
    let url = format!("http://{}/events", gateway.public);
    let found = doctor(&["--url", &url, "--redis-url", &gone.url(), "--idle", "3s"], &[]).await;
    found.is_wrong(&["publishing"]);
    assert!(
        found.of("publishing").starts_with("cannot reach Redis at redis://127.0.0.1:"),
        "{}",
        found.of("publishing")
    );
    assert_eq!(found.having("not_checked"), ["buffering", "cors", "resume"], "{:#}", found.whole);
    assert_eq!(found.of("nodes"), "8 of 8 streams opened: a (8)");
}

#[tokio::test]
async fn an_interrupt_ends_it_at_once() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::start(&redis, "a", GATEWAY, &[]).await;
    let url = format!("http://{}/events", gateway.public);
    let mut running = program(&["doctor", "--url", &url, "--redis-url", &redis.url(), "--idle", "1h"]).spawn();
    let mut lines = running.stdout();
    loop {
        let line = soon("the clocks", lines.next_line()).await.unwrap().expect("it ended");
        if line.starts_with("clocks") {
            break;
        }
    }
    running.signal("INT").await;
    let ended = tokio::time::timeout(PATIENCE, running.child.wait()).await.expect("it goes on").unwrap();
    assert_eq!(ended.code(), None, "a signal ended it");
}
