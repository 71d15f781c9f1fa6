//! The kit itself: it starts what it says, and what it starts is as real as it seems.

#![cfg(test)]

use std::path::Path;
use std::process::Command;

use testkit::{RedisServer, binary, eventually};
use tokio::net::TcpStream;

async fn info(server: &RedisServer, field: &str) -> String {
    let text = server.cli(&["INFO", "server"]).await;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
}

#[tokio::test]
async fn a_server_answers_and_is_the_one_that_was_started() {
    let server = RedisServer::start().await;
    assert_eq!(server.cli(&["PING"]).await, "PONG");
    assert_eq!(info(&server, "process_id").await, server.pid().to_string());
    assert_eq!(info(&server, "tcp_port").await, server.port().to_string());
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    assert_eq!(server.cli(&["CONFIG", "GET", "save"]).await, "save");
    assert_eq!(server.cli(&["CONFIG", "GET", "appendonly"]).await, "appendonly\nno");
}

#[tokio::test]
async fn two_servers_know_nothing_of_each_other() {
    let (one, other) = tokio::join!(RedisServer::start(), RedisServer::start());
    assert_ne!(one.port(), other.port());
    one.cli(&["SET", "a", "1"]).await;
    assert_eq!(other.cli(&["DBSIZE"]).await, "0");
}

#[tokio::test]
async fn configuration_is_taken() {
    let server = RedisServer::builder().config("requirepass secret").config("maxmemory 5mb").start().await;
    assert!(server.cli(&["PING"]).await.starts_with("NOAUTH"));
    let answer = server.cli(&["-a", "secret", "CONFIG", "GET", "maxmemory"]).await;
    assert_eq!(answer, "maxmemory\n5242880");
}

#[tokio::test]
#[should_panic(expected = "no-such-directive")]
async fn a_server_that_does_not_start_shows_its_log() {
    RedisServer::builder().config("no-such-directive 1").start().await;
}

#[tokio::test]
#[should_panic(expected = "scripts/setup-tests")]
async fn a_program_that_is_not_there_is_named() {
    RedisServer::builder().program("/no/such/server").start().await;
}

#[tokio::test]
async fn it_comes_back_on_its_port_after_every_kind_of_end() {
    let mut server = RedisServer::start().await;
    let (port, first) = (server.port(), server.pid());

    server.cli(&["SET", "a", "1"]).await;
    server.kill().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    server.kill().await; // once is enough, twice is no mistake
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_eq!(server.cli(&["DBSIZE"]).await, "0");
    let second = server.pid();
    assert_ne!(second, first);

    server.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    server.restart().await;
    let third = server.pid();
    assert_ne!(third, second);

    // Without an end of its own in between.
    server.restart().await;
    assert_ne!(server.pid(), third);
    assert_eq!(info(&server, "tcp_port").await, port.to_string());
}

#[tokio::test]
async fn what_it_was_told_to_keep_survives_a_restart() {
    let mut server = RedisServer::builder().config("appendonly yes").config("appendfsync always").start().await;
    server.cli(&["SET", "a", "1"]).await;
    server.kill().await;
    server.restart().await;
    assert_eq!(server.cli(&["GET", "a"]).await, "1");
}

#[tokio::test]
async fn a_paused_server_accepts_and_stays_silent() {
    let mut server = RedisServer::start().await;
    server.pause().await;
    // The kernel accepts for it.
    TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let moment = std::time::Duration::from_millis(300);
    tokio::time::timeout(moment, server.cli(&["PING"])).await.unwrap_err();
    server.resume().await;
    assert_eq!(server.cli(&["PING"]).await, "PONG");

    server.pause().await;
    server.stop().await;
    server.restart().await;
    server.pause().await;
    server.kill().await;
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_folder() {
    let server = RedisServer::start().await;
    let (port, pid) = (server.port(), server.pid());
    let folder = server.cli(&["CONFIG", "GET", "dir"]).await.lines().nth(1).unwrap().to_owned();
    assert!(Path::new(&folder).join("server.conf").is_file());
    server.pause().await;
    drop(server);
    eventually("the port is free", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await;
    eventually("its process is gone", async || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())).await;
    assert!(!Path::new(&folder).exists());
}

#[tokio::test]
async fn a_tls_server_speaks_nothing_else() {
    let server = RedisServer::builder().tls().start().await;
    assert_eq!(server.url(), format!("rediss://127.0.0.1:{}", server.port()));
    assert_eq!(server.cli(&["PING"]).await, "PONG");
    // By its other name, checked against it.
    let (port, ca) = (server.port().to_string(), server.ca_file().to_str().unwrap().to_owned());
    let ask = |args: &[&str]| Command::new("redis-cli").args(["-p", &port]).args(args).arg("PING").output().unwrap();
    let named = ask(&["-h", "localhost", "--tls", "--cacert", &ca, "--sni", "localhost"]);
    assert_eq!(named.stdout, b"PONG\n");

    let plain = ask(&["-h", "127.0.0.1"]);
    assert!(!plain.status.success(), "{plain:?}");
    let distrustful = ask(&["-h", "127.0.0.1", "--tls"]);
    assert!(!distrustful.status.success(), "{distrustful:?}");
    assert!(String::from_utf8_lossy(&distrustful.stderr).contains("certificate verify failed"), "{distrustful:?}");
}

#[tokio::test]
async fn valkey_is_valkey() {
    let mut server = RedisServer::builder().valkey().start().await;
    assert_eq!(info(&server, "server_name").await, "valkey");
    server.kill().await;
    server.restart().await;
    assert_eq!(server.cli(&["PING"]).await, "PONG");
}

#[test]
fn a_binary_of_another_crate_is_built_and_runs() {
    let loadtest = binary("loadtest", "sse-loadtest");
    assert!(Command::new(&loadtest).arg("--help").output().unwrap().status.success());
    assert_eq!(binary("loadtest", "sse-loadtest"), loadtest);
}

#[test]
#[should_panic(expected = "no bin target named `no-such-binary`")]
fn a_binary_that_does_not_build_shows_why() {
    binary("loadtest", "no-such-binary");
}
