//! The public port by TLS: all that it does plainly, and what only TLS has.

use std::fs;

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::json;
use shared::event_stream::decode::Decoded;
use tempfile::TempDir;
use testkit::{Certificates, TlsStream, TlsTunnel, tls_client, tls_connect};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::support::{Gateway, Raw, Stream, soon};

/// As much as an event may have.
const LARGE: usize = 64 << 10;
const FAILED: &str = "sse_gateway_tls_failed_total";
const CLOSED_STALLED: &str = "sse_gateway_connections_closed_total{reason=\"write_timeout\"}";
const OPEN: &str = "sse_gateway_connections{lane=\"hyper\"}";

/// A certificate in a folder of its own.
fn certificates() -> (TempDir, Certificates) {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path());
    (folder, certificates)
}

/// A gateway that speaks TLS, behind a plain port: everything that speaks to it plainly goes by that. Also its own port.
async fn start(certificates: &Certificates, config: &str) -> (Gateway, TlsTunnel, String) {
    let mut gateway = Gateway::builder().config(config).tls(certificates).start().await;
    let tunnel = TlsTunnel::start(&gateway.public, &certificates.ca, &["http/1.1"]).await;
    let port = std::mem::replace(&mut gateway.public, tunnel.address());
    (gateway, tunnel, port)
}

/// A connection of a client of its own, which has sent `request`.
async fn ask(port: &str, certificates: &Certificates, request: &str) -> TlsStream<TcpStream> {
    let connecting = tls_connect(port, tls_client(&certificates.ca, &["http/1.1"]));
    let mut stream = soon("a handshake", connecting).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    // Else what a busy task could not send at once stays in the TLS layer.
    stream.flush().await.unwrap();
    stream
}

async fn until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.windows(end.len()).any(|window| window == end.as_bytes()) {
        let read = soon("something on a socket", stream.read_buf(&mut bytes)).await.unwrap();
        assert!(read > 0, "it ended before {end:?}: {:?}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

const GET: &str = "GET /events?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn streams_resume_and_publishing_by_either_http() {
    let (_folder, certificates) = certificates();
    let (gateway, _tunnel, port) = start(&certificates, "").await;
    let by_http2 = TlsTunnel::start(&port, &certificates.ca, &["h2"]).await;
    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for (client, address) in [(&gateway.client, gateway.public.clone()), (&http2, by_http2.address())] {
        let url = |path: &str| format!("http://{address}{path}");
        let mut stream = Stream::open(client.get(url("/events?channel=a"))).await;
        stream.opened().await;
        let mut ids = Vec::new();
        for data in ["1", "2", "3"] {
            let publish = client.post(url("/publish")).json(&json!({"channel": "a", "data": data}));
            assert_eq!(soon("an answer", publish.send()).await.unwrap().status(), 200);
            let event = stream.event().await.unwrap();
            assert_eq!(event.data, data);
            ids.push(event.id);
        }
        let again = client.get(url("/events?channel=a")).header("last-event-id", ids[0].clone());
        let mut resumed = Stream::open(again).await;
        assert_eq!([resumed.data().await.unwrap(), resumed.data().await.unwrap()], ["2", "3"]);
    }
    assert_eq!(gateway.metric(FAILED).await, 0.0);
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_given_up() {
    let (_folder, certificates) = certificates();
    // Nobody falls out of the log while sockets fill.
    let config = "[limits]\nwrite_timeout = \"1s\"\n[log]\nbytes = 25165824\n[embedded]\nmax_bytes = 65536";
    let (gateway, _tunnel, port) = start(&certificates, config).await;
    let mut reader = gateway.stream("/events?channel=a").await;
    reader.opened().await;
    let mut stalled = ask(&port, &certificates, GET).await;
    until(&mut stalled, "sse.open").await;
    gateway.metric_becomes(OPEN, 2.0).await;
    // Beyond what the kernel buffers for a socket.
    for number in 0..(24 << 20) / LARGE {
        let data = format!("{number:08}{}", "x".repeat(LARGE - 8));
        gateway.publish(json!({"channel": "a", "data": data})).await;
        assert!(reader.data().await == Some(data), "event {number} has to come while another client stands still");
        reader.bytes.clear();
    }
    gateway.metric_becomes(CLOSED_STALLED, 1.0).await;
    gateway.metric_becomes(OPEN, 1.0).await;
}

#[tokio::test]
async fn a_stop_ends_streams_cleanly() {
    let (_folder, certificates) = certificates();
    let (mut gateway, _tunnel, port) = start(&certificates, "[drain]\ngrace = \"0s\"").await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
    let mut by_hand = ask(&port, &certificates, GET).await;
    until(&mut by_hand, "sse.open").await;
    // A handshake that does not go on holds nothing up.
    let silent = TcpStream::connect(&port).await.unwrap();
    gateway.signal("TERM").await;
    let last = soon("the end of the stream", stream.rest()).await.pop();
    assert!(matches!(last, Some(Decoded::Retry(_))), "{last:?}");
    let mut rest = Vec::new();
    // An end without `close_notify` would be an error.
    soon("the end of the connection", by_hand.read_to_end(&mut rest)).await.unwrap();
    assert!(String::from_utf8(rest).unwrap().ends_with("\r\n0\r\n\r\n"), "the body is whole");
    assert_eq!(gateway.exit().await.status.code(), Some(0));
    drop(silent);
}

#[tokio::test]
async fn whoever_leaves_is_gone() {
    let (_folder, certificates) = certificates();
    let (gateway, _tunnel, port) = start(&certificates, "").await;
    let before = gateway.descriptors_at_rest().await;
    let mut polite = ask(&port, &certificates, GET).await;
    let mut rude = ask(&port, &certificates, GET).await;
    for stream in [&mut polite, &mut rude] {
        until(stream, "sse.open").await;
    }
    gateway.metric_becomes(OPEN, 2.0).await;
    polite.shutdown().await.unwrap();
    drop(rude);
    gateway.is_at_rest(before, "two clients").await;
}

#[tokio::test]
async fn many_handshakes_at_once() {
    let (_folder, certificates) = certificates();
    let (gateway, _tunnel, port) = start(&certificates, "").await;
    let before = gateway.descriptors_at_rest().await;
    let streams = join_all((0..200).map(async |_| {
        let mut stream = ask(&port, &certificates, GET).await;
        until(&mut stream, "sse.open").await;
        stream
    }))
    .await;
    gateway.metric_becomes(OPEN, 200.0).await;
    assert_eq!(gateway.metric(FAILED).await, 0.0);
    drop(streams);
    gateway.is_at_rest(before, "200 clients").await;
}

#[tokio::test]
async fn who_does_not_speak_it_is_told_and_counted() {
    let (_folder, certificates) = certificates();
    let (gateway, _tunnel, port) = start(&certificates, "").await;
    let mut plain = Raw::connect(&port).await;
    plain.get("/events?channel=a").await;
    let head = plain.head().await;
    assert_eq!(head.status, "HTTP/1.1 400 Bad Request");
    assert!(plain.body_of(&head).await.contains("TLS"));
    assert_eq!(plain.rest().await, b"");
    gateway.metric_becomes(FAILED, 1.0).await;
    let (_other, strangers) = self::certificates();
    assert!(tls_connect(&port, tls_client(&strangers.ca, &[])).await.is_err(), "nobody vouches for it");
    gateway.metric_becomes(FAILED, 2.0).await;
    let mut stream = gateway.stream("/events?channel=a").await;
    stream.opened().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_handshakes() {
    let (folder, old) = certificates();
    let builder = Gateway::builder().tls(&old).log_piped();
    let mut gateway = builder.start().await;
    let mut log = BufReader::new(gateway.take_log()).lines();
    let mut stream = ask(&gateway.public, &old, GET).await;
    until(&mut stream, "sse.open").await;
    let mut wait_for = async |words: &str| loop {
        let line = soon(words, log.next_line()).await.unwrap().expect("a log");
        if line.contains("tls.certificate") && line.contains(words) {
            return line;
        }
    };

    // The key of another certificate: nothing changes.
    let (_other, strangers) = certificates();
    let key = fs::read(&old.key).unwrap();
    fs::copy(&strangers.key, &old.key).unwrap();
    gateway.signal("HUP").await;
    let told = wait_for("cannot be used").await;
    assert!(told.contains("tls.key") && told.contains(&*old.key.to_string_lossy()), "{told}");
    fs::write(&old.key, key).unwrap();
    ask(&gateway.public, &old, GET).await;

    let new = Certificates::create(folder.path());
    gateway.signal("HUP").await;
    wait_for("and changed").await;
    // It is the new authority now that vouches for it.
    let mut another = ask(&gateway.public, &new, GET).await;
    until(&mut another, "sse.open").await;
    let publish = "POST /channels/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nnew";
    until(&mut ask(&gateway.public, &new, publish).await, "200 OK").await;
    until(&mut stream, "data: new").await;
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_is_told_at_the_start() {
    let (_folder, certificates) = certificates();
    let (_other, strangers) = self::certificates();
    let key = strangers.key.display().to_string();
    let wrong = Certificates { key: strangers.key.clone(), ..strangers };
    let exit = Gateway::builder().tls(&Certificates { certificate: certificates.certificate, ..wrong }).fail().await;
    assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    assert!(exit.errors.starts_with(&format!("sse-gateway: tls.key: {key}: it is not the key")), "{exit:?}");
    assert_eq!(exit.errors.lines().count(), 1, "{exit:?}");

    let exit = Gateway::builder().config("[tls]\ncertificate = '/nowhere.pem'\nkey = '/nowhere.key'").fail().await;
    assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    assert!(exit.errors.starts_with("sse-gateway: tls.certificate: /nowhere.pem: No such file"), "{exit:?}");
    let exit = Gateway::builder().config("[tls]\ncertificate = '/nowhere.pem'").fail().await;
    assert!(exit.errors.contains("\"tls.certificate\": there is no tls.key to go with it"), "{exit:?}");
}
