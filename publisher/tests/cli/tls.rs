//! The service by TLS, what it reads again at SIGHUP, and which pages of other origins may ask it.

use std::fs;

use reqwest::Method;
use serde_json::json;
use testkit::{Certificates, RedisServer, TlsTunnel, eventually, soon, tls_client, tls_connect};
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStderr;

use crate::support::{Service, history_has, program, serve};

fn tls(certificates: &Certificates) -> String {
    let [certificate, key] = [&certificates.certificate, &certificates.key].map(|path| path.display().to_string());
    format!("[tls]\ncertificate = '{certificate}'\nkey = '{key}'\n")
}

async fn line(log: &mut Lines<BufReader<ChildStderr>>, words: &[&str]) -> String {
    loop {
        let line = soon(&format!("{words:?} in the log"), log.next_line()).await.unwrap().expect("a log");
        if words.iter().all(|word| line.contains(word)) {
            return line;
        }
    }
}

#[tokio::test]
async fn it_publishes_by_tls_with_a_certificate_that_may_change() {
    let (server, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let old = Certificates::create(folder.path());
    let mut service = Service::start(serve(&server).config(&tls(&old))).await;
    let mut log = service.log();
    let tunnel = TlsTunnel::start(&service.public, &old.ca, &["h2", "http/1.1"]).await;
    let port = std::mem::replace(&mut service.public, tunnel.address());
    let body = json!({"channel": "a", "data": "x"});
    assert_eq!(service.publish(&body).await.status(), 200);
    history_has(&server, "a", 1).await;
    let plain = service.client.post(format!("http://{port}/publish")).json(&body).send().await.unwrap();
    assert_eq!(plain.status(), 400);
    assert!(plain.text().await.unwrap().contains("TLS"));
    eventually("it is counted", async || service.has_metric("sse_publisher_tls_failed_total 1").await.then_some(()))
        .await;
    history_has(&server, "a", 1).await;

    fs::write(&old.key, "half a key").unwrap();
    service.signal("HUP").await;
    let told = line(&mut log, &["cannot be used", "tls.key"]).await;
    assert!(told.contains(&*old.key.to_string_lossy()), "{told}");
    assert_eq!(service.publish(&body).await.status(), 200, "what was in use stays");
    let new = Certificates::create(folder.path());
    service.signal("HUP").await;
    line(&mut log, &["tls.certificate", "and changed"]).await;
    tls_connect(&port, tls_client(&new.ca, &[])).await.unwrap();
    assert!(tls_connect(&port, tls_client(&old.ca, &[])).await.is_ok(), "the file of the authority is the new one");
    // The connection that the client keeps was made before.
    assert_eq!(service.publish(&body).await.status(), 200);
    service.signal("TERM").await;
    assert_eq!(service.exit().await.code(), 0);
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_is_told_at_the_start() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [mut ours, theirs] = [&folder, &other].map(|folder| Certificates::create(folder.path()));
    ours.key = theirs.key;
    let exit = program(&["serve", "--listen", "127.0.0.1:0"]).config(&tls(&ours)).run().await;
    let (key, certificate) = (ours.key.display(), ours.certificate.display());
    exit.assert_fails(
        2,
        &[&format!("sse-publisher: tls.key: {key}: it is not the key of the certificate in {certificate}")],
    );
}

#[tokio::test]
async fn the_filter_of_the_log_is_read_again() {
    let server = RedisServer::start().await;
    let mut service = Service::start(serve(&server).config("[telemetry]\nfilter = 'warn'")).await;
    let mut log = service.log();
    fs::write(service.config_file(), "[telemetry]\nfilter = 'info'\n[limits]\nmax_batch = 7").unwrap();
    service.signal("HUP").await;
    line(&mut log, &["take a restart", "limits.max_batch"]).await;
    line(&mut log, &["telemetry.filter", "and changed"]).await;
    fs::write(service.config_file(), "[telemetry]\nfilter = 'inof'").unwrap();
    service.signal("HUP").await;
    line(&mut log, &["telemetry.filter", "cannot be used", "inof"]).await;
    assert_eq!(service.publish(&json!({"channel": "a", "data": "x"})).await.status(), 200);
}

#[tokio::test]
async fn pages_of_other_origins() {
    let server = RedisServer::start().await;
    let config = "[cors]\nallowed_origins = [\"https://*.example.com\"]";
    let (closed, open) = (Service::start(serve(&server)).await, Service::start(serve(&server).config(config)).await);
    let ask = async |service: &Service, method: Method, origin: &str| {
        let request = service.client.request(method, service.url("/publish")).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        soon("an answer", request.json(&json!({"channel": "a", "data": "x"})).send()).await.unwrap()
    };
    let value = |answer: &reqwest::Response, name: &str| {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    for method in [Method::OPTIONS, Method::POST] {
        let answer = ask(&open, method.clone(), "https://app.example.com").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(value(&answer, "access-control-allow-origin").as_deref(), Some("https://app.example.com"));
        assert_eq!(value(&answer, "access-control-allow-credentials").as_deref(), Some("true"));
        let refused = ask(&open, method.clone(), "https://example.com").await;
        assert_eq!(value(&refused, "access-control-allow-origin"), None);
        assert_eq!(value(&refused, "access-control-allow-credentials"), None);
        for answer in [&answer, &refused] {
            assert_eq!(value(answer, "vary").as_deref(), Some("origin"));
        }
        let answer = ask(&closed, method, "https://app.example.com").await;
        assert_eq!(value(&answer, "access-control-allow-origin"), None);
    }
    let preflight = ask(&open, Method::OPTIONS, "https://app.example.com").await;
    let methods = value(&preflight, "access-control-allow-methods").unwrap();
    assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
}
