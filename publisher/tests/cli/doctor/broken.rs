//! Set-ups that are broken in one way each.

use std::time::Duration;

use testkit::{Certificates, RedisServer, free_ports};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::setup::{APP, Config, Diagnosis, GATEWAY, Gateway, Nginx, SOUND, doctor};

/// Two gateways of this configuration behind an nginx of that one, and a short look at it.
async fn diagnosed(gateway: &str, config: &Config<'_>, idle: &str) -> Diagnosis {
    let redis = RedisServer::start().await;
    let (a, b) = tokio::join!(Gateway::start(&redis, "a", gateway, &[]), Gateway::start(&redis, "b", gateway, &[]));
    let nginx = Nginx::start(&[&a.public, &b.public], config).await;
    let gateways = format!("http://{},http://{}", a.admin, b.admin);
    let args = ["--url", &nginx.url(), "--redis-url", &redis.url(), "--gateways", &gateways, "--origin", APP];
    doctor(&[&args[..], &["--idle", idle, "--streams", "6"]].concat(), &[]).await
}

#[tokio::test]
async fn a_buffering_proxy() {
    // By HTTP/1.0, which nginx speaks unless told otherwise: by 1.1 it would see where a chunk ends, and pass it on.
    let location = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; gzip off; proxy_read_timeout 75s;";
    let found = diagnosed(GATEWAY, &Config { location, ..Config::default() }, "3s").await;
    found.is_wrong(&["buffering"]);
    let measured = found.of("buffering");
    assert!(
        measured.starts_with("6 of 6 events did not come by themselves; with 512 KiB more behind them 6 came"),
        "{measured}"
    );
    assert!(found.advice("buffering")[0].starts_with("nginx: proxy_buffering off;"), "{:#}", found.whole);
    assert_eq!(found.having("not_checked"), ["cors", "idle", "nodes", "resume"], "{:#}", found.whole);
}

#[tokio::test]
async fn compression() {
    let location = "proxy_http_version 1.1; proxy_buffering off; gzip on; gzip_types text/event-stream; gzip_proxied any; proxy_read_timeout 75s;";
    let found = diagnosed(GATEWAY, &Config { location, ..Config::default() }, "3s").await;
    found.is_wrong(&["compression"]);
    assert_eq!(found.of("compression"), "Content-Encoding: gzip");
    assert!(found.advice("compression")[0].starts_with("nginx: gzip off;"), "{:#}", found.whole);
}

#[tokio::test]
async fn an_idle_timeout_below_the_keep_alive() {
    let gateway = "[cors]\nallowed_origins = ['https://app.example.com']";
    let location = "proxy_http_version 1.1; proxy_buffering off; gzip off; proxy_read_timeout 5s;";
    let found = diagnosed(gateway, &Config { location, ..Config::default() }, "10s").await;
    found.is_wrong(&["idle"]);
    let measured = found.of("idle");
    let seconds =
        measured.split(" of silence; no keep-alive had come").next().unwrap().rsplit("after ").next().unwrap();
    let seconds: f64 = seconds.strip_suffix(" s").unwrap_or_else(|| panic!("{measured}")).parse().unwrap();
    assert!((4.5..8.0).contains(&seconds), "{measured}");
    assert_eq!(
        found.advice("idle")[0],
        "nginx: proxy_read_timeout 75s; and send_timeout 75s; in the location of the stream"
    );
}

#[tokio::test]
async fn https_without_http2() {
    let (redis, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let certificates = Certificates::create(folder.path());
    let gateway = Gateway::start(&redis, "a", GATEWAY, &[]).await;
    let server = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        certificates.certificate.display(),
        certificates.key.display()
    );
    let nginx = Nginx::start(&[&gateway.public], &Config { listen: "ssl", server, location: SOUND }).await;
    let url = format!("https://localhost:{}/events", nginx.port);
    let args = ["--url", &url, "--redis-url", &redis.url(), "--idle", "3s", "--origin", APP];
    let found = doctor(&args, &[("SSL_CERT_FILE", certificates.ca.to_str().unwrap())]).await;
    found.is_wrong(&["protocol"]);
    assert_eq!(found.of("protocol"), "HTTP/1.1 alone: h2 was offered by ALPN and not taken");
    assert!(found.advice("protocol")[0].starts_with("nginx: http2 on;"), "{:#}", found.whole);
}

#[tokio::test]
async fn cors_is_missing() {
    let gateway = "keep_alive = '1s'\n[cors]\nallowed_origins = ['https://other.example.com']";
    let found = diagnosed(gateway, &Config { location: SOUND, ..Config::default() }, "3s").await;
    found.is_wrong(&["cors"]);
    assert_eq!(found.of("cors"), format!("no Access-Control-Allow-Origin in the answer to GET of a page of {APP}"));
    let advice = format!("gateway: cors.allowed_origins = [\"{APP}\"]");
    assert!(found.advice("cors")[0].starts_with(&advice), "{:#}", found.whole);
}

#[tokio::test]
async fn cors_by_both() {
    let location =
        "proxy_http_version 1.1; proxy_buffering off; gzip off; add_header Access-Control-Allow-Origin $http_origin;";
    let found = diagnosed(GATEWAY, &Config { location, ..Config::default() }, "3s").await;
    found.is_wrong(&["cors"]);
    assert_eq!(found.of("cors"), format!("Access-Control-Allow-Origin twice in the answer to GET: {APP}, {APP}"));
}

/// The library of Debian's faketime, which moves the clock of what it is loaded into.
fn another_time() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let files = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    let library = files.into_iter().find(|file| file.is_file());
    library.expect("faketime: see scripts/setup-tests").display().to_string()
}

/// What moves a process's clock by `by`, such as `-90s`. Not that of Redis, whose allocator asks for the time too early.
fn at_another_time<'a>(library: &'a str, by: &'a str) -> [(&'a str, &'a str); 4] {
    let [old, new] = ["DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC"];
    [("LD_PRELOAD", library), ("FAKETIME", by), (old, "1"), (new, "1")]
}

/// All but Redis are two hours behind.
#[tokio::test]
async fn a_redis_with_another_time() {
    let redis = RedisServer::start().await;
    let library = another_time();
    let early = at_another_time(&library, "-2h");
    let gateway = Gateway::start(&redis, "a", GATEWAY, &early).await;
    let (url, gateways) = (format!("http://{}/events", gateway.public), format!("http://{}", gateway.admin));
    let args = ["--url", &url, "--redis-url", &redis.url(), "--gateways", &gateways, "--idle", "3s"];
    let found = doctor(&args, &early).await;
    found.is_wrong(&["clocks"]);
    let measured = found.of("clocks").to_owned();
    let wanted = |ahead: &str| format!("Redis is {ahead} ahead of {} and 2 others", gateway.public);
    assert!([wanted("1h 59m 59s"), wanted("2h"), wanted("2h 1s")].contains(&measured), "{measured}");
}

#[tokio::test]
async fn a_gateway_with_another_time() {
    let redis = RedisServer::start().await;
    let library = another_time();
    let late = at_another_time(&library, "-90s");
    let (a, b) = tokio::join!(Gateway::start(&redis, "a", GATEWAY, &[]), Gateway::start(&redis, "b", GATEWAY, &late));
    let nginx = Nginx::start(&[&a.public, &b.public], &Config { location: SOUND, ..Config::default() }).await;
    let gateways = format!("http://{},http://{}", a.admin, b.public);
    let args = ["--url", &nginx.url(), "--redis-url", &redis.url(), "--gateways", &gateways, "--idle", "3s"];
    let found = doctor(&args, &[]).await;
    found.is_wrong(&["clocks"]);
    let measured = found.of("clocks");
    let wanted = |seconds: &str| {
        format!("the gateway at {} is {seconds} behind 127.0.0.1:{} and 3 others", b.public, nginx.port)
    };
    assert!([wanted("1m 29s"), wanted("1m 30s"), wanted("1m 31s")].contains(&measured.to_owned()), "{measured}");
}

#[tokio::test]
async fn a_dead_node() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::start(&redis, "a", GATEWAY, &[]).await;
    let [dead] = free_ports();
    let location = "proxy_http_version 1.1; proxy_buffering off; gzip off; proxy_next_upstream off;";
    let dead = format!("127.0.0.1:{dead}");
    let nginx = Nginx::start(&[&gateway.public, &dead], &Config { location, ..Config::default() }).await;
    let args = ["--url", &nginx.url(), "--redis-url", &redis.url(), "--idle", "3s", "--origin", APP];
    let found = doctor(&args, &[]).await;
    found.is_wrong(&["nodes"]);
    assert_eq!(found.of("nodes"), "4 of 8 streams opened and heard an event: a (4); 4 502 Bad Gateway");
    let advice = "nginx: proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent; and proxy_connect_timeout 2s;";
    assert!(found.advice("nodes").contains(&advice.to_owned()), "{:#}", found.whole);
}

#[tokio::test]
async fn a_node_that_stands_still() {
    let redis = RedisServer::start().await;
    let (a, b) = tokio::join!(Gateway::start(&redis, "a", GATEWAY, &[]), Gateway::start(&redis, "b", GATEWAY, &[]));
    let nginx = Nginx::start(&[&a.public, &b.public], &Config { location: SOUND, ..Config::default() }).await;
    b.signal("STOP").await;
    let gateways = format!("http://{},http://{}", a.admin, b.admin);
    let args = ["--url", &nginx.url(), "--redis-url", &redis.url(), "--idle", "3s", "--gateways", &gateways];
    let found = doctor(&args, &[]).await;
    found.is_wrong(&["nodes"]);
    let wanted = format!(
        "4 of 8 streams opened and heard an event: a (4); 4 no answer within 10 s; the gateway at {} does not answer: \
         there is no answer within 10 s",
        b.admin
    );
    assert_eq!(found.of("nodes"), wanted);
}

#[tokio::test]
async fn a_node_that_hears_another_redis() {
    let (redis, other) = tokio::join!(RedisServer::start(), RedisServer::start());
    let (a, b) = tokio::join!(Gateway::start(&redis, "a", GATEWAY, &[]), Gateway::start(&other, "b", GATEWAY, &[]));
    let nginx = Nginx::start(&[&a.public, &b.public], &Config { location: SOUND, ..Config::default() }).await;
    let args = ["--url", &nginx.url(), "--redis-url", &redis.url(), "--idle", "3s"];
    let found = doctor(&args, &[]).await;
    found.is_wrong(&["nodes"]);
    let wanted = "4 of 8 streams opened and heard an event: a (4); 4 opened on b, and an event did not come: it does not listen \
                  to this Redis";
    assert_eq!(found.of("nodes"), wanted);
}

/// Answers each request with the next of these, and closes.
async fn answering(answers: &'static [&'static str]) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        for answer in answers.iter().cycle() {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            connections.spawn(async move {
                let mut head = [0; 4096];
                if socket.read(&mut head).await.is_ok_and(|read| read > 0) {
                    let _ = socket.write_all(answer.as_bytes()).await;
                    // What answers as a stream stays open for a while.
                    if answer.contains("text/event-stream") {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                }
            });
        }
    });
    (url, tasks)
}

#[tokio::test]
async fn what_is_no_stream() {
    let redis = RedisServer::start().await;
    for (answer, measured) in [
        (
            &["HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<title>Log in</title>"][..],
            "200 with text/html, which is no event stream: <title>Log in</title>",
        ),
        (
            &["HTTP/1.1 302 Found\r\nLocation: https://login.example.com/\r\nContent-Length: 0\r\n\r\n"],
            "302 Found: https://login.example.com/",
        ),
        (
            &["HTTP/1.1 401 Unauthorized\r\nContent-Length: 25\r\n\r\n{\"detail\":\"the token is\"}"],
            "401 Unauthorized: the token is",
        ),
    ] {
        let (url, _server) = answering(answer).await;
        let args = ["--url", &url, "--redis-url", &redis.url(), "--idle", "1s"];
        let found = doctor(&args, &[]).await;
        found.is_wrong(&["answer"]);
        assert_eq!(found.of("answer"), measured);
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let [port] = free_ports();
    let redis = RedisServer::start().await;
    let url = format!("http://127.0.0.1:{port}/events");
    let found = doctor(&["--url", &url, "--redis-url", &redis.url()], &[]).await;
    found.is_wrong(&["address"]);
    assert_eq!(found.of("address"), "the connection is refused");
}
