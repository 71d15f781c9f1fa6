//! `cancel`, `pipe --cancellable`, and the route that does the same.

use serde_json::json;
use testkit::{RedisServer, eventually};

use crate::support::{Program, Service, history, history_has, is_ended, program, serve};

fn cancel(server: &RedisServer) -> Program {
    program(&["cancel", "--channel", "p"]).redis(server)
}

fn pipe(server: &RedisServer, flags: &[&str]) -> Program {
    program(&["pipe", "--channel", "p", "--cancellable"]).args(flags).redis(server)
}

async fn listens(server: &RedisServer) {
    let answer = async || server.cli(&["PUBSUB", "NUMSUB", "sse.cancel:p"]).await;
    eventually("a producer that listens", async || answer().await.ends_with("\n1").then_some(())).await;
}

async fn ends(server: &RedisServer) {
    eventually("the channel's end", async || is_ended(server, "p").await.then_some(())).await;
}

#[tokio::test]
async fn says_how_many_listened() {
    let server = RedisServer::start().await;
    let exit = cancel(&server).run().await;
    assert_eq!((exit.code(), exit.output.as_str(), exit.errors.as_str()), (0, "{\"receivers\":0}\n", ""));
    assert_ne!(server.cli(&["GET", "sse.cancel:p"]).await, "");
    assert_eq!(history(&server, "p").await, [""; 0]);

    let wrong = program(&["cancel", "--channel", "sse.x"]).redis(&server).run().await;
    assert!(wrong.code() == 2 && wrong.errors.contains("--channel"), "{wrong:?}");
    let none = program(&["cancel"]).redis(&server).run().await;
    assert_eq!(none.code(), 2, "{none:?}");
}

#[tokio::test]
async fn without_redis_it_fails() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let exit = cancel(&server).run().await;
    assert!(exit.code() == 1 && exit.errors.contains("connection refused"), "{exit:?}");
    assert_eq!(exit.output, "");
}

#[tokio::test]
async fn a_pipe_reads_no_more_and_closes_its_channel() {
    let server = RedisServer::start().await;
    let mut running = pipe(&server, &["--end-event", "cancelled"]).spawn_piped();
    running.write(b"one\nhalf a li").await.unwrap();
    history_has(&server, "p", 1).await;
    listens(&server).await;
    let exit = cancel(&server).run().await;
    assert_eq!(exit.output, "{\"receivers\":1}\n");
    // While its input is open.
    ends(&server).await;
    running.exit().await.assert_fails(0, &["{\"published\":1,\"cancelled\":true}"]);
    assert_eq!(history(&server, "p").await, [r#"{"data":"one"}"#, r#"{"event":"cancelled","end":true}"#]);
    assert!(is_ended(&server, "p").await);
}

#[tokio::test]
async fn a_producer_that_never_stops_is_stopped() {
    let server = RedisServer::start().await;
    let mut running = pipe(&server, &[]).spawn_piped();
    let lines = "a line\n".repeat(1_000);
    running.write(b"first\n").await.unwrap();
    listens(&server).await;
    cancel(&server).run().await;
    // As `yes` does: until the pipe breaks.
    while running.write(lines.as_bytes()).await.is_ok() {}
    let exit = running.exit().await;
    assert!(exit.code() == 0 && exit.errors.ends_with(",\"cancelled\":true}\n"), "{exit:?}");
    assert!(is_ended(&server, "p").await);
}

#[tokio::test]
async fn one_that_was_cancelled_before_does_not_begin() {
    let server = RedisServer::start().await;
    cancel(&server).run().await;
    let running = pipe(&server, &[]).spawn_piped();
    ends(&server).await;
    running.exit().await.assert_fails(0, &["{\"published\":0,\"cancelled\":true}"]);
    assert_eq!(history(&server, "p").await, [r#"{"end":true}"#]);
    // Whoever did not say that it may be cancelled is not.
    let exit = program(&["pipe", "--channel", "p"]).redis(&server).run_with(b"x\n").await;
    exit.assert_fails(0, &["{\"published\":1}"]);
}

#[tokio::test]
async fn one_that_is_not_cancelled_ends_as_ever() {
    let server = RedisServer::start().await;
    let exit = pipe(&server, &["--end-event", "done"]).run_with(b"x\n").await;
    exit.assert_fails(0, &["{\"published\":1}"]);
    assert_eq!(history(&server, "p").await, [r#"{"data":"x"}"#, r#"{"event":"done","end":true}"#]);
}

#[tokio::test]
async fn over_http() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;
    let mut running = pipe(&server, &[]).spawn_piped();
    running.write(b"x\n").await.unwrap();
    listens(&server).await;
    let answer = service.client.post(service.url("/channels/p/cancel")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap(), json!({"receivers": 1}));
    ends(&server).await;
    let exit = running.exit().await;
    assert!(exit.errors.ends_with(",\"cancelled\":true}\n"), "{exit:?}");
    assert!(service.has_metric(r#"sse_publisher_cancels_total{result="ok"} 1"#).await);
}
