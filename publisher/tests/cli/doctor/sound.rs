//! Set-ups in which nothing is wrong.

use serde_json::json;
use testkit::{Certificates, RedisServer, eventually};

use super::setup::{APP, Config, GATEWAY, Gateway, Nginx, SOUND, doctor};
use crate::support::{Service, program, serve};

#[tokio::test]
async fn by_http_with_remarks() {
    let redis = RedisServer::start().await;
    let (a, b) = tokio::join!(Gateway::start(&redis, "a", GATEWAY, &[]), Gateway::start(&redis, "b", GATEWAY, &[]));
    let nginx = Nginx::start(&[&a.public, &b.public], &Config { location: SOUND, ..Config::default() }).await;
    let gateways = format!("http://{},http://{}", a.admin, b.public);
    let args = ["--url", &nginx.url(), "--redis-url", &redis.url(), "--gateways", &gateways, "--origin", APP];
    let found = doctor(&[&args[..], &["--idle", "4s"]].concat(), &[]).await;
    found.is_wrong(&[]);
    assert_eq!(found.having("remark"), ["protocol"], "{:#}", found.whole);
    assert_eq!(found.having("not_checked"), Vec::<&str>::new(), "{:#}", found.whole);
    assert!(
        found.of("nodes").starts_with("8 of 8 streams opened and heard an event: a (4), b (4), within "),
        "{}",
        found.of("nodes")
    );
    assert!(found.of("resume").starts_with("3 events missed and one more came"), "{}", found.of("resume"));
    assert!(found.of("clocks").contains("this machine, 127.0.0.1:"), "{}", found.of("clocks"));
    // Its channels leave nothing behind but where they were.
    let keys = async || {
        let keys = redis.cli(&["--scan", "--pattern", "sse:*"]).await;
        keys.is_empty().then_some(())
    };
    eventually("no history", keys).await;
}

#[tokio::test]
async fn by_https_and_the_publishers_service() {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path());
    let (gateway, service) = tokio::join!(Gateway::start(&redis, "a", GATEWAY, &[]), Service::start(serve(&redis)));
    let server = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        certificates.certificate.display(),
        certificates.key.display()
    );
    let nginx = Nginx::start(&[&gateway.public], &Config { listen: "ssl http2", server, location: SOUND }).await;
    let url = format!("https://localhost:{}/events", nginx.port);
    let ca = certificates.ca.to_str().unwrap();
    let publish = service.url("/");
    let args = ["--url", &url, "--publish-url", &publish, "--idle", "3s", "--streams", "4"];
    let found = doctor(&args, &[("SSL_CERT_FILE", ca)]).await;
    found.is_wrong(&[]);
    assert_eq!(found.having("remark"), Vec::<&str>::new(), "{:#}", found.whole);
    assert_eq!(found.having("not_checked"), ["cors"], "{:#}", found.whole);
    assert!(found.of("address").ends_with(", HTTP/2"), "{}", found.of("address"));

    // Nobody vouches for that authority here.
    let found = doctor(&args[..4], &[]).await;
    found.is_wrong(&["address"]);
    assert!(found.of("address").starts_with("its certificate is of an authority"), "{}", found.of("address"));
}

/// As a person reads it.
#[tokio::test]
async fn a_gateway_by_itself_and_a_given_channel() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::start(&redis, "a", GATEWAY, &[]).await;
    let url = format!("http://{}/api/sse/connect?userId=42", gateway.public);
    let args = ["doctor", "--url", &url, "--redis-url", &redis.url(), "--idle", "3s", "--channel", "user:7"];
    let exit = program(&args).run().await;
    assert_eq!((exit.code(), &*exit.errors), (0, ""), "{exit:?}");
    let lines: Vec<_> = exit.output.lines().collect();
    assert_eq!(lines[0], format!("http://{}/api/sse/connect on user:7", gateway.public));
    assert!(lines.iter().any(|line| line.starts_with("buffering    ok           6 events, each ")), "{exit:?}");
    assert_eq!(lines.last(), Some(&"Nothing is wrong, 1 remark, 1 not checked."), "{exit:?}");
    // Of a channel that others have too nothing is erased.
    let entries = redis.cli(&["XLEN", "sse:user:7"]).await;
    assert!(entries.parse::<u64>().unwrap() >= 10, "{entries}");
    let last = redis.cli(&["XREVRANGE", "sse:user:7", "+", "-", "COUNT", "1"]).await;
    assert!(last.contains(&json!({"event": "doctor"}).to_string()[1..17]), "{last}");
}
