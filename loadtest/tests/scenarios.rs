//! Each scenario, against a server that does it right.

use testkit::eventually;

use super::program::{outcome, run, start};
use super::server::{Fault, Framing, Server};

/// Quick: no warm-up, hardly a pause.
const QUICK: [&str; 6] = ["--warmup", "0s", "--idle", "10ms", "--duration", "400ms"];

#[tokio::test]
async fn unicast_gives_each_connection_its_own_events() {
    let server = Server::correct().await;
    let flags = ["unicast", "--url", &server.url, "--connections", "10", "--rate", "100"];
    let outcome = run(&[&flags[..], &QUICK].concat()).await;
    outcome.is_clean();
    assert_eq!((outcome.number("/deliveries/expected"), outcome.number("/deliveries/delivered")), (40, 40));
}

#[tokio::test]
async fn mixed_reads_two_channels_on_each_connection() {
    let server = Server::correct().await;
    let flags = ["mixed", "--url", &server.url, "--connections", "10", "--channels", "2", "--rate", "100"];
    let outcome = run(&[&flags[..], &QUICK].concat()).await;
    outcome.is_clean();
    // 20 broad ones to 5 connections each, 20 to one.
    assert_eq!(outcome.number("/deliveries/delivered"), 20 * 5 + 20);
}

#[tokio::test]
async fn once_is_one_event_for_everybody() {
    let server = Server::correct().await;
    let flags =
        ["unicast", "--once", "--url", &server.url, "--connections", "50", "--rate", "1000", "--processes", "3"];
    let outcome = run(&[&flags[..], &["--idle", "10ms"]].concat()).await;
    outcome.is_clean();
    assert_eq!((outcome.number("/events/published"), outcome.number("/latency_ms/count")), (50, 50));
}

#[tokio::test]
async fn storm_comes_back_with_cursors_and_misses_nothing() {
    let server = Server::correct().await;
    let flags =
        ["storm", "--url", &server.url, "--connections", "20", "--rate", "100", "--share", "0.5", "--rounds", "2"];
    let outcome = run(&[&flags[..], &QUICK].concat()).await;
    outcome.is_clean();
    for round in 0..2 {
        let of = |name: &str| outcome.number(&format!("/storm/rounds/{round}/{name}"));
        assert_eq!((of("dropped"), of("reopened")), (10, 10), "{outcome:#?}");
        assert!(outcome.report["storm"]["rounds"][round]["caught_up_seconds"].is_f64(), "{outcome:#?}");
    }
    assert_eq!((server.streams(), server.resumed(), outcome.number("/connections/opened")), (40, 20, 20));
}

#[tokio::test]
async fn storm_follows_a_server_that_drops_its_streams_and_finds_what_it_then_lost() {
    for (fault, lost) in [(Fault::None, false), (Fault::Lose, true)] {
        let server = Server::start(fault, Framing::Chunked).await;
        let flags = ["storm", "--url", &server.url, "--connections", "20", "--rate", "100", "--share", "0"];
        let child = start(&[&flags[..], &["--warmup", "0s", "--idle", "10ms", "--duration", "1s"]].concat());
        eventually("some events", async || (server.events() > 9).then_some(())).await;
        server.cut();
        let outcome = outcome(child).await;
        assert_eq!((outcome.number("/storm/rounds/0/dropped"), server.resumed()), (20, 20), "{outcome:#?}");
        assert_eq!((outcome.code, outcome.faults()[0] > 0), (Some(i32::from(lost)), lost), "{outcome:#?}");
        assert_eq!(outcome.faults()[1..], [0, 0, 0, 0]);
    }
}

#[tokio::test]
async fn slow_readers_are_not_owed_anything() {
    let server = Server::correct().await;
    let flags = ["slow", "--url", &server.url, "--connections", "20", "--rate", "50", "--share", "0.25"];
    let outcome = run(&[&flags[..], &QUICK].concat()).await;
    outcome.is_clean();
    assert_eq!((outcome.number("/slow/stuck"), outcome.number("/slow/closed_by_server")), (5, 0));
    assert_eq!(outcome.number("/deliveries/delivered"), 20 * 15);
}

#[tokio::test]
async fn slow_readers_that_are_closed_are_counted() {
    let server = Server::correct().await;
    let flags =
        ["slow", "--url", &server.url, "--connections", "4", "--rate", "20", "--share", "0.5", "--tolerate-loss"];
    let child = start(&[&flags[..], &["--warmup", "0s", "--idle", "300ms", "--duration", "500ms"]].concat());
    eventually("all streams", async || (server.streams() == 4).then_some(())).await;
    server.cut();
    let outcome = outcome(child).await;
    assert_eq!((outcome.number("/slow/stuck"), outcome.number("/slow/closed_by_server")), (2, 2), "{outcome:#?}");
    assert_eq!(outcome.number("/connections/dropped"), 2);
}

#[tokio::test]
async fn tokens_are_streams_that_end_with_their_last_event() {
    let server = Server::correct().await;
    let flags = ["tokens", "--url", &server.url, "--connections", "5", "--tokens", "8", "--life", "70ms"];
    let outcome = run(&[&flags[..], &QUICK].concat()).await;
    outcome.is_clean();
    let streams = outcome.number("/tokens/streams");
    assert!(streams >= 10, "{outcome:#?}");
    assert_eq!(outcome.number("/deliveries/delivered"), 8 * streams);
    assert_eq!(server.streams() as u64, streams);
}

#[tokio::test]
async fn tokens_that_get_lost_are_found() {
    let server = Server::start(Fault::Lose, Framing::Chunked).await;
    let flags = ["tokens", "--url", &server.url, "--connections", "2", "--tokens", "12", "--life", "50ms"];
    let outcome = run(&[&flags[..], &QUICK].concat()).await;
    assert_eq!((outcome.code, outcome.number("/tokens/streams")), (Some(1), 0), "{outcome:#?}");
    assert_eq!(outcome.faults()[0], server.streams() as u64);
}

#[tokio::test]
async fn idle_publishes_nothing_and_reads_memory() {
    let server = Server::correct().await;
    let own = std::process::id().to_string();
    let watch = format!("me={own}");
    let flags = ["idle", "--url", &server.url, "--connections", "30", "--server-pid", &own, "--watch-pid", &watch];
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let outcome = run(&[&flags[..], &QUICK, &["--ready-file", ready.to_str().unwrap()]].concat()).await;
    outcome.is_clean();
    assert_eq!(std::fs::read_to_string(ready).unwrap(), "30\n");
    assert!(outcome.report["events"].is_null() && outcome.report["deliveries"].is_null());
    assert!(outcome.number("/server/rss_open_kib") > 100 && outcome.number("/watched/me/rss_open_kib") > 100);
    assert!(outcome.report["server"]["idle_cpu_percent"].is_f64(), "{outcome:#?}");
    assert!(outcome.number("/system/slab_kib") > 100 && outcome.number("/client/rss_kib") > 100);
}

#[tokio::test]
async fn with_memory_short_it_goes_on_with_what_there_is() {
    let server = Server::correct().await;
    let flags = ["unicast", "--url", &server.url, "--connections", "100000", "--memory-limit", "1", "--rate", "50"];
    let outcome = run(&[&flags[..], &QUICK].concat()).await;
    outcome.is_clean();
    let opened = outcome.number("/connections/opened");
    assert_eq!((outcome.number("/connections/wanted"), outcome.number("/connections/failed")), (100_000, 0));
    assert!((1..50_000).contains(&opened), "{opened}");
    assert_eq!(outcome.number("/deliveries/delivered"), 20);
}
