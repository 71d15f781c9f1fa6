//! What the demo pages ask for, from the service over a real Redis: jobs, their end with the process, and figures.

use std::io::Write as _;

use reqwest::{Body, Response};
use serde_json::{Value, json};
use testkit::{RedisServer, eventually, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Program, Service, history, history_has, is_ended, serve};

const MAX: usize = 8 << 20;

fn with_demo(server: &RedisServer) -> Program {
    serve(server).env("SSE_PUBLISHER__DEMO", "true")
}

async fn post(service: &Service, body: impl Into<Body>) -> Response {
    let request = service.client.post(service.url("/demo/jobs?name=a%20b.txt")).body(body);
    soon("an answer", request.send()).await.unwrap()
}

/// The channel of a new job.
async fn job(service: &Service) -> String {
    let response = post(service, "one two\nthree\n").await;
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let answer: Value = response.json().await.unwrap();
    let channel = answer["channel"].as_str().unwrap().to_owned();
    let id = channel.strip_prefix("job:").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{channel}");
    assert_eq!(location, format!("/events?channel=job%3A{id}&last_event_id=earliest"));
    assert_eq!(answer, json!({"channel": channel, "location": location}));
    channel
}

async fn ended(server: &RedisServer, channel: &str) -> Vec<String> {
    eventually("the end of a job", async || is_ended(server, channel).await.then_some(())).await;
    history(server, channel).await
}

#[tokio::test]
async fn without_it_nothing_is_there() {
    let server = RedisServer::start().await;
    let service = Service::start(serve(&server)).await;
    let request = service.client.get(service.url("/demo/jobs"));
    assert_eq!(soon("an answer", request.send()).await.unwrap().status(), 404);
    assert_eq!(post(&service, "x").await.status(), 404);
    assert_eq!(server.cli(&["EXISTS", "sse:demo:prices"]).await, "0");
}

#[tokio::test]
async fn a_job_runs_to_its_end_and_another_is_cancelled() {
    let server = RedisServer::start().await;
    let service = Service::start(with_demo(&server)).await;
    let limits = service.client.get(service.url("/demo/jobs"));
    assert_eq!(soon("an answer", limits.send()).await.unwrap().text().await.unwrap(), r#"{"max_bytes":8388608}"#);

    let (whole, cut) = (job(&service).await, job(&service).await);
    history_has(&server, &cut, 4).await;
    let cancel = service.client.post(service.url(&format!("/channels/{cut}/cancel")));
    let answer = soon("an answer", cancel.send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"receivers":1}"#);
    let events = ended(&server, &cut).await;
    assert_eq!(events.last().unwrap(), r#"{"event":"cancelled","data":{},"end":true}"#);
    assert!(events.len() < 60, "{} events", events.len());

    let events = ended(&server, &whole).await;
    assert_eq!(events.len(), 82);
    assert_eq!(events[0], r#"{"event":"started","data":{"name":"a b.txt","bytes":14}}"#);
    assert_eq!(events[40], r#"{"event":"progress","data":{"done":7,"total":14,"percent":50,"step":"counting"}}"#);
    assert_eq!(
        events[81],
        r#"{"event":"done","data":{"name":"a b.txt","bytes":14,"lines":2,"words":3,"sha256":"6481b98de00b3b8c0eccd56b3877aa72d7cbb9c2b97142fa35f7177f9456926d"},"end":true}"#
    );
}

#[tokio::test]
async fn a_text_that_is_too_large_is_refused_as_soon_as_that_is_known() {
    let server = RedisServer::start().await;
    let service = Service::start(with_demo(&server)).await;
    // Its length is told, its body never comes.
    let mut socket = TcpStream::connect(&service.public).await.unwrap();
    let head = format!(
        "POST /demo/jobs?name=a HTTP/1.1\r\nHost: x\r\nX-Request-Id: r1\r\nContent-Length: {}\r\n\r\n",
        MAX + 1
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let problem = r#"{"type":"urn:problem:sse:too-large","title":"too large","status":413,"detail":"body has more than 8388608 bytes","field":"body","limit":8388608,"request_id":"r1"}"#;
    let mut answer = Vec::new();
    while !answer.ends_with(problem.as_bytes()) {
        let read = soon("the answer", socket.read_buf(&mut answer)).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));

    // In chunks, no length is told.
    let mut socket = TcpStream::connect(&service.public).await.unwrap();
    let mut request =
        b"POST /demo/jobs?name=a HTTP/1.1\r\nHost: x\r\nX-Request-Id: r1\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    write!(request, "{:x}\r\n", MAX + 1).unwrap();
    request.resize(request.len() + MAX + 1, b'x');
    soon("to take it", socket.write_all(&request)).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(problem.as_bytes()) {
        let read = soon("the answer", socket.read_buf(&mut answer)).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }

    let response = post(&service, vec![b'x'; MAX]).await;
    assert_eq!(response.status(), 202, "as large as it may be");
}

#[tokio::test]
async fn jobs_say_that_they_were_stopped_before_the_process_ends() {
    let server = RedisServer::start().await;
    let config = "[drain]\ngrace = '0s'\ndeadline = '3s'";
    let service = Service::start(with_demo(&server).config(config)).await;
    let channel = job(&service).await;
    history_has(&server, &channel, 2).await;
    service.signal("TERM").await;
    let exit = service.exit().await;
    assert_eq!(exit.code(), 0, "{exit:?}");
    assert!(exit.errors.contains("jobs are told to stop jobs=1"), "{exit:?}");
    let events = history(&server, &channel).await;
    assert_eq!(events.last().unwrap(), r#"{"event":"failed","data":{"detail":"stopped"},"end":true}"#);
    assert!(events.len() < 40, "{} events", events.len());
}

#[tokio::test]
async fn figures_go_on_from_one_process_to_the_next() {
    let server = RedisServer::start().await;
    for minimum in [2, 4] {
        let service = Service::start(with_demo(&server)).await;
        eventually("figures", async || (history(&server, "demo:orders").await.len() >= minimum).then_some(())).await;
        service.signal("KILL").await;
        assert_eq!(service.exit().await.status.code(), None);
    }
    for (channel, event) in [("demo:prices", "price"), ("demo:metrics", "metric"), ("demo:orders", "order")] {
        let events = history(&server, channel).await;
        let parsed: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let numbers: Vec<_> = parsed.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=u64::try_from(numbers.len()).unwrap()), "{channel}: {numbers:?}");
        assert!(parsed.iter().all(|parsed| parsed["event"] == event), "{events:?}");
    }
}
